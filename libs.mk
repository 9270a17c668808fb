# The libraries in BUILD (of bearssl, fuse3, libzstd) from source, as static
# archives in $L, and the headers to use them in $L/include.  Called by the
# Makefile alone, which knows where the sources are and has fetched them.

# SMALL: how to optimize what no byte waits for.
SMALL = -Os
CFLAGS = $(SMALL) -fno-pie -fno-jump-tables -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables \
	-fno-strict-aliasing -w
CPPFLAGS = -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -isystem $L/include

libs: $(BUILD:%=$L/%.a)

# musl-gcc sees musl's headers alone: the kernel's are linked one by one, for
# /usr/include itself would bring the other libc's.
headers: $(BUILD:%=headers_%)
	@if ! echo '#include <linux/loop.h>' | $(CC) -E - >/dev/null 2>&1; then \
		for d in linux asm-generic; do \
			ln -sfn /usr/include/$$d $L/include/$$d; \
		done; \
		ln -sfn /usr/include/$$(gcc -print-multiarch)/asm $L/include/asm; \
	fi
	@echo '#include <linux/loop.h>' | $(CC) $(CPPFLAGS) -E - >/dev/null || \
	    { echo "the kernel's headers are missing: try 'make deps'"; exit 1; }
headers_bearssl:
	@cp $(BEARSSL_SRC)/inc/*.h $L/include
headers_fuse3:
	@cp $(FUSE_SRC)/include/*.h $L/include
	@: >$L/include/libfuse_config.h
headers_libzstd:
	@cp $(ZSTD_SRC)/lib/zstd.h $(ZSTD_SRC)/lib/zstd_errors.h $L/include

# BearSSL: everything; the linker drops what is not called.
bearssl_o := $(patsubst $(BEARSSL_SRC)/%.c,$L/bearssl/%.o,$(sort $(shell \
	find $(BEARSSL_SRC)/src -name '*.c' 2>/dev/null)))
$(bearssl_o): $L/bearssl/%.o: $(BEARSSL_SRC)/%.c
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) -I$(BEARSSL_SRC)/inc -I$(BEARSSL_SRC)/src -c -o $@ $<
$L/bearssl.a: $(bearssl_o)

# zstd: decompression alone.  When small it is 2.5 times slower.  The other kind of
# sequence decoder is for offsets beyond 16 MiB, which no chunk has; that of
# Huffman codes by twos is no faster on real chunks.
zstd_o := $(patsubst $(ZSTD_SRC)/%,$L/zstd/%.o,$(wildcard \
	$(ZSTD_SRC)/lib/decompress/*.[cS] $(addprefix $(ZSTD_SRC)/lib/common/, \
	debug.c entropy_common.c error_private.c fse_decompress.c zstd_common.c xxhash.c)))
$(zstd_o): $L/zstd/%.o: $(ZSTD_SRC)/%
	@mkdir -p $(@D)
	@$(CC) $(CPPFLAGS) $(CFLAGS) $(zstd_flags) -DZSTD_LEGACY_SUPPORT=0 -DZSTD_FORCE_DECOMPRESS_SEQUENCES_SHORT \
	    -DHUF_FORCE_DECOMPRESS_X1 -DXXH_NAMESPACE=ZSTD_ \
	    -DZSTDLIB_VISIBLE= -DZSTD_STRIP_ERROR_STRINGS -c -o $@ $<
zstd_flags = -O2
# What is done once a frame or a table needs no speed, nor a second copy for BMI2.
$L/zstd/lib/common/fse_decompress.c.o $L/zstd/lib/common/entropy_common.c.o: zstd_flags = -DDYNAMIC_BMI2=0
$L/zstd/lib/decompress/zstd_decompress.c.o $L/zstd/lib/decompress/zstd_ddict.c.o: zstd_flags =
$L/libzstd.a: $(zstd_o)

# libfuse: the low-level interface alone.  Without IGNORE_MTAB it would run
# /bin/mount where /etc/mtab is a file.
fuse_o = $(patsubst %,$L/fuse/%.o,fuse_lowlevel fuse_loop_mt fuse_opt fuse_log \
	fuse_signals buffer mount mount_util)
$(fuse_o): $L/fuse/%.o: $(FUSE_SRC)/lib/%.c $L/fuse/fuse_config.h
	@$(CC) $(CPPFLAGS) $(CFLAGS) -I$(@D) -DFUSE_USE_VERSION=312 \
	    -DIGNORE_MTAB -DHAVE_LIBFUSE_PRIVATE_CONFIG_H -DFUSERMOUNT_DIR='"/usr/bin"' -c -o $@ $<
$L/fuse3.a: $(fuse_o)

# What meson would have found out.  CUSE (character devices) is left out: its
# one opcode, 4096, makes the table of opcodes 64 KiB of zeros.  A weak
# undefined function under another number is an unknown opcode like others.
# perror() would speak of fusermount3 to a root that may not mount; what failed
# is said by pbsmap.
define fuse_config
#define PACKAGE_VERSION "3"
#define HAVE_FORK 1
#define HAVE_PIPE2 1
#define HAVE_SPLICE 1
#define HAVE_VMSPLICE 1
#define HAVE_STRUCT_STAT_ST_ATIM 1
#include <stdio.h>
#define perror(text) ((void)0)
#define sscanf fuse_scan
#include "fuse_kernel.h"
#define CUSE_INIT 63
#pragma weak cuse_lowlevel_init
endef
export fuse_config
$L/fuse/fuse_config.h: libs.mk
	@mkdir -p $(@D)
	@printf '%s\n' "$$fuse_config" >$@

$(bearssl_o) $(zstd_o) $(fuse_o): libs.mk
$(BUILD:%=$L/%.a):
	@echo "	$@"
	@rm -f $@
	@$(AR) rcsD $@ $^
.PHONY: libs headers
