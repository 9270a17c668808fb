# make		./pbsmap, static
# make deps	installs what that needs
# make test	tries everything; see HACKING for the parts
#
# CC=COMPILER	another one for musl, native or cross: builds build/COMPILER/pbsmap
#
# Each of the libraries BEARSSL, FUSE and ZSTD is the first there is of
#	X_LIBS= X_CFLAGS=	what the linker and the compiler shall be told
#	X_SRC=DIRECTORY		built from this source
#	pkg-config		where the system's own compiler is for musl
#	apt-get source		built from Debian's source package

PREFIX = /usr/local
PYTHON = /usr/bin/python3
PKG_CONFIG = pkg-config
WERROR = -Werror
SIZE_MAX = 524288

.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-print-directory
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc 2>/dev/null || echo 2)
endif

# MODE is empty, or for tests, with the system's libc and libraries: san, tsan
# and fuzz (sanitizers), cover (what tests reach), valgrind (nothing).
ifeq ($(MODE),)
default_cc := $(if $(findstring musl,$(shell cc -dumpmachine 2>/dev/null)),cc,musl-gcc)
else
default_cc := $(if $(filter fuzz cover,$(MODE)),clang,gcc)
endif
ifeq ($(origin CC),default)
CC := $(default_cc)
endif
empty =
tag := $(MODE) $(notdir $(firstword $(filter-out $(default_cc),$(CC))))
tag := $(subst $(empty) $(empty),-,$(strip $(tag)))
B = build$(addprefix /,$(tag))
L = build$(addprefix /,$(tag))/lib
BIN = $(if $(filter build,$B),,$B/)pbsmap

# Names of the libraries: the packages', pkg-config's and the archives'.
BEARSSL = bearssl
FUSE = fuse3
ZSTD = libzstd
libs = BEARSSL FUSE ZSTD
ifneq ($(MODE),)
BEARSSL_LIBS ?= -lbearssl
FUSE_LIBS ?= $(shell $(PKG_CONFIG) --libs fuse3)
FUSE_CFLAGS ?= $(shell $(PKG_CONFIG) --cflags fuse3)
ZSTD_LIBS ?= -lzstd
else ifeq ($(CC),cc)
define use_system
ifeq ($$(shell $$(PKG_CONFIG) --exists $$($1) 2>/dev/null && echo yes),yes)
$1_LIBS ?= $$(shell $$(PKG_CONFIG) --static --libs $$($1))
$1_CFLAGS ?= $$(shell $$(PKG_CONFIG) --cflags $$($1))
endif
endef
$(foreach x,$(libs),$(if $($x_SRC),,$(eval $(call use_system,$x))))
endif
own := $(foreach x,$(libs),$(if $($x_LIBS),,$x))
fetched := $(foreach x,$(own),$(if $($x_SRC),,$($x)))
$(foreach x,$(libs),$(eval $x_SRC ?= build/src/$($x)))
LIBS := $(foreach x,$(libs),$(or $($x_LIBS),$L/$($x).a)) -lpthread
sources := $(foreach x,$(libs),$x_SRC=$($x_SRC))
libs_done := $(if $(MODE),,$L/done)

CPPFLAGS := -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I. $(if $(MODE),,-isystem $L/include) \
	$(patsubst -I%,-isystem %,$(BEARSSL_CFLAGS) $(FUSE_CFLAGS) $(ZSTD_CFLAGS))
WARN = -Wall -Wextra -Wshadow -Wconversion -Wmissing-prototypes -Wvla $(WERROR)
ifeq ($(MODE),)
# Small, but for what a byte's way goes through.  The program is optimized as
# a whole with its libraries; tests are linked from the same objects as they are.
# (Some compilers' default is code for any address, which a static program needs
# not; tables of jumps are larger than what they save.)
CFLAGS = $(small) -fno-pie -fno-jump-tables -g -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables \
	-fstack-protector-strong
hot := sha256 crc32 gcm blob scrypt
$(hot:%=$B/%.o): CFLAGS += -O2
# Where no stranger's bytes come, arrays of characters alone are guarded.
calm := check check_net check_speed completion daemon disk hold human keycmd list log look map menu \
	modules mount mounts nearby newroot opt progress report rescue rescue_ask restore resume run \
	runname scan start target unmap verify walk
$(calm:%=$B/%.o): CFLAGS += -fno-stack-protector -fstack-protector
$B/%.o: CFLAGS += $(fat)
lto := $(if $(findstring clang,$(CC)),,-flto=auto -flto-partition=one)
fat := $(lto) $(if $(lto),-ffat-lto-objects)
nolto := $(if $(lto),-fno-lto)
small := $(shell $(CC) -Oz -E -x c /dev/null >/dev/null 2>&1 && echo -Oz || echo -Os)
# (musl does nothing with RELRO in a static program; it would cost a page.)
LDFLAGS = -static -Wl,--gc-sections -Wl,-z,noseparate-code,-z,norelro
else
san := -fsanitize=address,undefined -fno-sanitize-recover=undefined
fuzz := $(san) -fsanitize=fuzzer-no-link
tsan := -fsanitize=thread
cover := -fprofile-instr-generate -fcoverage-mapping
CFLAGS = -O1 -g -fno-omit-frame-pointer $($(MODE))
endif
# What gcc sees of this depends on what it inlines; texts are cut on purpose.
WARN += $(if $(findstring clang,$(CC)),,-Wno-format-truncation)
compile = $(CC) -std=c11 $(CPPFLAGS) $(WARN) $(CFLAGS) -MMD -MP -c -o $@ $<
link = $(CC) $(CFLAGS) $(nolto) $(LDFLAGS) -o $@ $^ $(LIBS)

src := $(filter-out pbsmap.c,$(wildcard *.c))
obj := $(src:%.c=$B/%.o)
units := $(patsubst %.c,$B/%,$(wildcard test/unit_*.c))
helpers := $(patsubst %.c,$B/%,$(filter-out test/unit_% test/fuzz_% test/replay.c \
	$(wildcard test/mk*.c test/pbsd*.c) test/inject.c,$(wildcard test/*.c)))
fuzzers := $(patsubst %.c,$B/%,$(wildcard test/fuzz_*.c))

all: $(BIN)

# Every object is compiled by a make that this recipe starts, with -k: a module
# that does not compile stops no test of another one.
$B/pbsmap.a: $(src) $(wildcard *.h) Makefile $(libs_done)
	@mkdir -p $B
	-@$(MAKE) -k objects
	@rm -f $@
	@$(AR) rcsD $@ $$(for o in $(sort $(obj)); do [ ! -e $$o ] || echo $$o; done)
objects: $(obj)
	@:

$(BIN): pbsmap.c $B/pbsmap.a
	@$(MAKE) objects $B/pbsmap.o
	$(CC) $(CFLAGS) $(lto) $(LDFLAGS) $(if $(MODE),,-s) -o $@.new $B/pbsmap.o $B/pbsmap.a $(LIBS)
	@$(if $(MODE),,$(assert_static))
	@mv $@.new $@

# No interpreter: nothing but the kernel is needed to start it.
define assert_static
if readelf -lW $@.new | grep INTERP; then echo "$@ is not static"; exit 1; fi; \
size=$$(wc -c <$@.new); echo "	$@: $$size bytes"; \
if [ $$size -gt $(SIZE_MAX) ]; then echo "more than $(SIZE_MAX)"; exit 1; fi
endef

$B/%.o: %.c Makefile $(libs_done)
	@mkdir -p $(@D)
	@echo "	$@"
	@$(compile)

$(units) $(helpers): %: %.o $B/pbsmap.a
	@$(link)

# The whole program, with its C library's calls replaced by ones that fail.
faulty_calls := $(shell awk -F '[^a-z0-9_LFS]+' '/^WRAP/ { print $$2 == "LFS" ? $$3 " " $$3 "64" : $$2 } \
	/^__wrap_/ { print substr($$1, 8) }' test/faulty.c)
$B/test/faulty: LDFLAGS += $(faulty_calls:%=-Wl,--wrap=%)
$B/test/faulty.o: pbsmap.c

# Without libFuzzer a fuzz target replays the files it is given.
ifeq ($(MODE),fuzz)
$(fuzzers): %: %.o $B/pbsmap.a
	@$(link) -fsanitize=fuzzer
else
$(fuzzers): %: %.o $B/test/replay.o $B/pbsmap.a
	@$(link)
endif

# What the tests need besides: written without pbsmap's own code, with other
# libraries and the system's libc.
HOSTCC = gcc
tool_objs = $(patsubst test/%.c,build/test/host/%.o,$(wildcard test/$1*.c))
build/test/mkstore: $(call tool_objs,mk)
	@$(HOSTCC) -o $@ $^ -lcrypto -lzstd -lz -lpthread
build/test/pbsd: $(call tool_objs,pbsd)
	@$(HOSTCC) -o $@ $^ -lnghttp2 -lssl -lcrypto -ljansson -lzstd -lpthread
build/test/inject: build/test/host/inject.o
	@$(HOSTCC) -o $@ $^
build/test/host/%.o: test/%.c Makefile
	@mkdir -p $(@D)
	@echo "	$@"
	@$(HOSTCC) -std=c11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 $(WARN) -O2 -g -MMD -MP -c -o $@ $<

-include $(wildcard $B/*.d $B/test/*.d build/test/host/*.d)

# The parts of make test.  Each gets what it needs by itself, then tests what
# $B has.  T= more of pytest's options, as T='-k name -x'.
T ?=
build := build $(if $(shell command -v apt-get),sources)
need = @CC="$(CC)" PYTHON="$(PYTHON)" ./deps.sh need
c_tests = $(wildcard test/unit_*.c test/fuzz_*.c)
pytest = $(PYTHON) -m pytest $(T)

check:
	$(need) $(build) tools test
	@$(MAKE) all tests
	BUILD=$B $(pytest) -m 'not root and not slow and not qemu' test
check-root:
	$(need) $(build) tools test root
	@$(MAKE) all tools
	BUILD=$B $(pytest) -m 'root and not slow and not qemu' test
check-qemu:
	$(need) $(build) tools test qemu
	@./deps.sh kernel build/qemu
	@$(MAKE) all tools
	BUILD=$B $(pytest) -m 'qemu and not slow' test
check-slow:
	$(need) $(build) tools test root $(if $(shell command -v apt-get),qemu debian)
	@$(MAKE) all tests
	BUILD=$B $(pytest) -m 'slow or qemu' test
san:
	$(need) san test
	@$(MAKE) MODE=san all tests
	@$(MAKE) MODE=san san-run
san-run:
	BUILD=$B $(pytest) $(c_tests) test/test_faulty.py

# The analysers: what takes seconds, and all of it.  See test/lint.
lint = CPPFLAGS="$(CPPFLAGS)" WARN="$(filter-out -Wno-format-truncation,$(WARN))" test/lint
lint:
	$(need) lint
	@$(MAKE) MODE=san lint-fast
lint-full:
	$(need) lint lint-full
	@$(MAKE) MODE=san lint-all
lint-fast:
	@$(lint) fast
lint-all:
	@$(lint) full

# Unit tests alone: what races, and what valgrind sees.
tsan:
	$(need) san test
	@$(MAKE) MODE=tsan units
	BUILD=build/tsan PROGRAM_SECONDS=900 $(pytest) -o timeout=1000 $(wildcard test/unit_*.c)
valgrind:
	$(need) san valgrind test
	@$(MAKE) MODE=valgrind units
	BUILD=build/valgrind RUNNER='valgrind -q --error-exitcode=99 --leak-check=full' PROGRAM_SECONDS=900 \
	    $(pytest) -o timeout=1000 $(wildcard test/unit_*.c)

# Which lines of the parsers unit tests and corpora reach; see test/cover.
cover:
	$(need) fuzz test
	@$(MAKE) MODE=cover tests
	@rm -rf build/cover/raw
	LLVM_PROFILE_FILE=$(CURDIR)/build/cover/raw/%p BUILD=build/cover $(pytest) $(c_tests)
	@test/cover build/cover
test:
	@rc=0; for part in lint check san check-root $(if $(shell command -v apt-get),check-qemu); do $(MAKE) $$part || rc=1; done; exit $$rc
test-full:
	@rc=0; for part in test check-slow lint-full tsan valgrind cover reproducible faults soak; do $(MAKE) $$part || rc=1; done; exit $$rc
units: $(units)
tests: $(units) $(fuzzers) $(if $(MODE),$(if $(filter san,$(MODE)),$B/test/faulty),tools)
tools: $(helpers) build/test/mkstore build/test/pbsd build/test/inject

# FUZZ=json: this target alone; what crashes it stays in build/fuzz.
FUZZ = $(patsubst test/fuzz_%.c,%,$(wildcard test/fuzz_*.c))
SECONDS = 60
fuzz:
	$(need) fuzz
	@$(MAKE) MODE=fuzz $(FUZZ:%=build/fuzz/test/fuzz_%)
	@for x in $(FUZZ); do mkdir -p build/fuzz/corpus/$$x test/corpus/$$x; \
	    build/fuzz/test/fuzz_$$x -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=1024 \
	    -artifact_prefix=build/fuzz/$$x- build/fuzz/corpus/$$x test/corpus/$$x || exit 1; done

# Every fault there is a way to make, one a run; takes half an hour. FAULTS='--case local': faults.py's options.
FAULTS =
faults:
	$(need) $(build) tools test root
	@$(MAKE) all tests
	FAULTS=all BUILD=$B $(pytest) test/test_faulty.py
	ROUNDS=1000 BUILD=$B $(pytest) test/test_devices.py -k everything_at_once
	BUILD=$B $(PYTHON) test/faults.py $(FAULTS)

# Minutes of reading while everything goes wrong; SOAK=7200: hours.
SOAK = 180
soak:
	$(need) $(build) tools test root
	@$(MAKE) all tools
	SOAK=$(SOAK) $(PYTHON) test/soak.py

# Another architecture's program, its unit tests under an emulator.
arm64: build/arm64/cc
	$(need) arm64 $(build) test
	@$(MAKE) CC=build/arm64/cc B=build/arm64 L=build/arm64/lib SIZE_MAX=655360 all tests
	BUILD=build/arm64 RUNNER=qemu-aarch64-static $(pytest) $(c_tests)
build/arm64/cc:
	@./deps.sh cross build/arm64 arm64 aarch64

bench:
	$(need) $(build) tools test
	@$(MAKE) all tools
	@test/bench
	@test/bench-files
demo:
	$(need) $(build) demo
	@$(MAKE) all
	@./demo.sh $(BIN)

# The libraries, once; under a lock, since two makes may run in one tree.
$L/done: libs.mk
	@mkdir -p $L/include
	@CC="$(CC)" ./deps.sh present build $(if $(fetched),sources) || { \
	    echo "try 'make deps'; or give a compiler for musl (CC=), libraries or their"; \
	    echo "sources as the Makefile's head tells"; exit 1; }
	@flock build/lock $(MAKE) libs CC="$(CC)" L=$L
	@touch $@
libs: $(fetched:%=build/src/%)
	+@$(build_libs) headers
	+@$(build_libs) libs
build_libs = $(MAKE) -f libs.mk L=$L CC="$(CC)" BUILD="$(foreach x,$(own),$($x))" \
	SMALL="$(small) $(fat)" $(sources)
$(fetched:%=build/src/%) &:
	@echo "	the sources of $(fetched)"
	@./deps.sh source build/src $(fetched)

# The committed tree as a tarball; and whether it builds the same bytes wherever it lies.
version := $(shell sed -n 's/.*PBSMAP_VERSION "\(.*\)"/\1/p' config.h)
dist:
	@mkdir -p build
	git archive --prefix=pbsmap-$(version)/ HEAD | gzip -9n >build/pbsmap-$(version).tar.gz
reproducible: dist $L/done
	@rm -rf build/twice
	@for d in build/twice/a build/twice/another/folder; do \
	    mkdir -p $$d && tar -xzf build/pbsmap-$(version).tar.gz -C $$d --strip-components=1 && \
	    mkdir $$d/build && cp -r build/src $$d/build && $(MAKE) -s -C $$d all || exit 1; done
	@sha256sum build/twice/a/pbsmap build/twice/another/folder/pbsmap
	@cmp build/twice/a/pbsmap build/twice/another/folder/pbsmap

deps:
	$(need) $(build)
install: all
	install -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/pbsmap
	install -D -m 644 pbsmap.1 $(DESTDIR)$(PREFIX)/share/man/man1/pbsmap.1
# Hooks: update-initramfs -u or dracut -f then pack pbsmap.
install-initramfs: install
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/pbsmap contrib/boot.sh contrib/conf.sh
	install -D -m 755 contrib/initramfs-tools/hook $(DESTDIR)/etc/initramfs-tools/hooks/pbsmap
	for x in local-top local-bottom; do install -D -m 755 contrib/initramfs-tools/$$x \
	    $(DESTDIR)/etc/initramfs-tools/scripts/$$x/pbsmap || exit; done
DRACUT = /usr/lib/dracut/modules.d
install-dracut: install
	install -D -m 755 -t $(DESTDIR)$(DRACUT)/90pbsmap contrib/dracut/90pbsmap/*
	install -D -m 644 -t $(DESTDIR)$(DRACUT)/90pbsmap contrib/boot.sh contrib/conf.sh
# pbsmap@NAME maps what /etc/pbsmap/NAME.conf says.
install-systemd: install
	install -d -m 700 $(DESTDIR)/etc/pbsmap
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|/usr/local/bin/|$(PREFIX)/bin/|' contrib/systemd/pbsmap@.service \
	    >$(DESTDIR)$(PREFIX)/lib/systemd/system/pbsmap@.service
clean:
	rm -f pbsmap
	[ ! -d build ] || find build \( -name lib -o -name src \) -prune -o -type f -exec rm -f {} +
distclean:
	rm -rf pbsmap build

.PHONY: all objects libs units tests tools check check-root check-qemu check-slow san san-run test test-full \
	lint lint-full lint-fast lint-all tsan valgrind cover fuzz faults soak arm64 bench demo dist reproducible deps \
	install install-initramfs install-dracut install-systemd clean distclean
