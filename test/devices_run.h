/* The registry's part of unit_devices.c. */

static int dirfd_;

static struct run_entry
entry(const char *name)
{
	struct run_entry ent;

	memset(&ent, 0, sizeof ent);
	snprintf(ent.name, sizeof ent.name, "%s", name);
	if (!run_again(dirfd_, &ent))
		ent.pid = -1;
	return ent;
}

static int
listed(void)
{
	static struct run_entry all[64];

	return run_list(dirfd_, all, 64, &why);
}

static void
put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	check(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

/* As if it had been written long ago. */
static void
make_old(const char *path)
{
	struct timespec t[2] = { { .tv_sec = time(NULL) - 3600 }, { .tv_sec = time(NULL) - 3600 } };

	check_int(utimensat(AT_FDCWD, path, t, AT_SYMLINK_NOFOLLOW), 0);
}

/*
 * A process like a mapping's: claims the name, mounts FUSE on it, answers
 * nothing (so whoever asks the mount point hangs, and fails its test) and ends
 * at SIGINT as far as `tidy` says. Returns when it stands.
 */
enum { CLAIM = 1, MOUNT = 2, TIDY = 4, DEAF = 8 };

static pid_t
mapper(const char *comm, const char *name, int what)
{
	char path[512], opt[128];
	int p[2], fuse, sig, ok = 1;
	sigset_t set;
	pid_t pid;
	char c = 0;

	check_int(pipe(p), 0);
	fflush(stdout);
	pid = fork();
	if (pid > 0) {
		close(p[1]);
		check(read(p[0], &c, 1) == 1 && c == 'y');
		close(p[0]);
		return pid;
	}
	prctl(PR_SET_NAME, comm);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	snprintf(path, sizeof path, "%s/%s", RUN_DIR, name);
	if (what & CLAIM)
		ok = run_claim(dirfd_, name, &why) == 0;
	fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	snprintf(opt, sizeof opt, "fd=%d,rootmode=100444,user_id=0,group_id=0", fuse);
	if (what & MOUNT)
		ok = ok && mount("pbsmap", path, "fuse", MS_RDONLY, opt) == 0;
	if (write(p[1], ok ? "y" : "n", 1) != 1)
		_exit(1);
	close(p[1]);
	do
		sigwait(&set, &sig);
	while (what & DEAF);
	if (what & TIDY) {
		umount2(path, MNT_DETACH);
		run_release(dirfd_, name);
	}
	_exit(0);
}

static void
end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void
open_dir(void)
{
	dirfd_ = run_dir(1, &why);
	check(dirfd_ >= 0);
}

static void
directory(void)
{
	struct stat st;
	int fd;

	check_int(run_dir(0, &why), -ENOENT);
	umask(0);
	open_dir();
	check(stat(RUN_DIR, &st) == 0 && (st.st_mode & 07777) == 0755);
	check_int(listed(), 0);
	fd = run_dir(0, &why);
	check(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
	chmod(RUN_DIR, 0777);
	check_int(run_dir(1, &why), -EPERM);
	chmod(RUN_DIR, 0755);
	check_int(chown(RUN_DIR, 1000, 0), 0);
	check_int(run_dir(1, &why), -EPERM);
	rmdir(RUN_DIR);
	check_int(symlink("/run/elsewhere", RUN_DIR), 0);
	check(run_dir(1, &why) < 0);
	mkdir("/run/elsewhere", 0755);
	check(run_dir(1, &why) < 0 && strstr(why.text, RUN_DIR));
	unlink(RUN_DIR);
	put_file(RUN_DIR, "");
	check(run_dir(1, &why) < 0);
}

static void
test_directory(void)
{
	apart(directory);
}

static void
claim(void)
{
	char text[32], want[32];
	FILE *f;

	open_dir();
	check_int(run_claim(dirfd_, NAME, &why), 0);
	f = fopen(PID_PATH, "r");
	check(f && fgets(text, sizeof text, f));
	snprintf(want, sizeof want, "%ld", (long)getpid());
	check_str(text, want);
	fclose(f);
	check(exists(FILE_PATH));
	run_release(dirfd_, OTHER);
	check(exists(FILE_PATH));
	run_release(dirfd_, NAME);
	check(!exists(FILE_PATH) && !exists(PID_PATH));
	put_file(FILE_PATH, "");
	put_file(PID_PATH, "1");
	run_release(dirfd_, NAME);
	check(exists(FILE_PATH) && exists(PID_PATH));
}

static void
test_claim(void)
{
	apart(claim);
}

static void
states(void)
{
	struct run_entry ent;
	pid_t pid;

	open_dir();
	pid = mapper("pbsmap", NAME, CLAIM);
	check_int(entry(NAME).state, RUN_STARTING);
	check_int(entry(NAME).pid, pid);
	check_int(run_claim(dirfd_, NAME, &why), -EEXIST);
	check_int(why.status, ST_BUSY);
	end(pid);
	check_int(entry(NAME).state, RUN_DEAD);
	check_int(run_claim(dirfd_, NAME, &why), 0);	/* over what was left */
	run_release(dirfd_, NAME);

	pid = mapper("proxmox-backup-client", NAME, CLAIM | MOUNT);
	check_int(entry(NAME).state, RUN_STARTING);
	make_old(PID_PATH);
	check_int(entry(NAME).state, RUN_LOST);
	kill(pid, SIGKILL);		/* and not waited for: a zombie is dead */
	nap(100);
	ent = entry(NAME);
	check_int(ent.state, RUN_DEAD);
	check_int(listed(), 1);
	check_int(run_clean(dirfd_, &ent, &why), 0);
	check(!exists(FILE_PATH) && !exists(PID_PATH));
	check_int(listed(), 0);
	end(pid);

	pid = mapper("cat", NAME, CLAIM | MOUNT);
	check_int(entry(NAME).state, RUN_DEAD);
	end(pid);
}

static void
test_states(void)
{
	apart(states);
}

/* A dead mapping's number was given to another mapping's process. */
static void
reused_pid(void)
{
	char number[16];
	struct run_entry ent;
	pid_t dead, other;

	open_dir();
	dead = mapper("pbsmap", NAME, CLAIM | MOUNT);
	other = mapper("pbsmap", OTHER, CLAIM | MOUNT);
	end(dead);
	snprintf(number, sizeof number, "%ld", (long)other);
	put_file(PID_PATH, number);
	for (int old = 0; old < 2; old++) {
		ent = entry(NAME);
		check_int(ent.pid, other);
		check_int(ent.state, RUN_DEAD);
		check_int(run_stop(dirfd_, &ent, SIGINT, 500, &why), 0);
		check_int(waitpid(other, NULL, WNOHANG), 0);
		make_old(PID_PATH);
	}
	umount2(FILE_PATH, MNT_DETACH);		/* less to go by */
	ent = entry(NAME);
	check_int(ent.state, RUN_DEAD);
	check_int(run_stop(dirfd_, &ent, SIGINT, 500, &why), 0);
	check_int(run_clean(dirfd_, &ent, &why), 0);
	check(!exists(FILE_PATH) && !exists(PID_PATH));
	check_int(waitpid(other, NULL, WNOHANG), 0);
	check_int(entry(OTHER).pid, other);
	check_int(entry(OTHER).state, RUN_STARTING);
	end(other);
}

static void
test_reused_pid(void)
{
	apart(reused_pid);
}

/* The official client writes it late; and somebody may have removed it. */
static void
no_pid_file(void)
{
	struct run_entry ent;
	pid_t pid;

	open_dir();
	put_file(FILE_PATH, "");
	check_int(entry(NAME).state, RUN_STARTING);
	check_int(run_claim(dirfd_, NAME, &why), -EEXIST);
	make_old(FILE_PATH);
	check_int(entry(NAME).state, RUN_DEAD);
	pid = mapper("proxmox-backup-client", NAME, MOUNT);
	ent = entry(NAME);
	check_int(ent.pid, pid);
	check_int(ent.state, RUN_STARTING);
	check_int(run_stop(dirfd_, &ent, SIGINT, 2000, &why), 0);
	check_int(waitpid(pid, NULL, 0), pid);
	ent = entry(NAME);
	check_int(ent.state, RUN_DEAD);
	check_int(run_clean(dirfd_, &ent, &why), 0);
	check_int(listed(), 0);
}

static void
test_no_pid_file(void)
{
	apart(no_pid_file);
}

static void
hostile(void)
{
	static const char *const pids[] = { "", "0", "1", "-1", "99999999999999999999", "12x", "4194305",
		" 5", "\n", "0000000000000000000000000000000000000000000000000001" };
	char name[300];
	struct run_entry ent;

	open_dir();
	mkdir(RUN_DIR "/dir.img", 0755);
	mkdir(RUN_DIR "/dir.pid", 0755);
	check_int(symlink("/etc/passwd", RUN_DIR "/link.img"), 0);
	check_int(symlink("/etc/passwd", RUN_DIR "/link.pid"), 0);
	check_int(mkfifo(RUN_DIR "/fifo.img", 0644), 0);
	check_int(mkfifo(RUN_DIR "/fifo.pid", 0644), 0);
	put_file(RUN_DIR "/.hidden", "");
	put_file(RUN_DIR "/notes.txt", "not empty");
	put_file(RUN_DIR "/text.pid", "no number");
	put_file(RUN_DIR "/.pid", "5");
	check_int(mknod(RUN_DIR "/null.img", S_IFCHR | 0666, makedev(1, 3)), 0);
	check_int(listed(), 0);
	memset(name, 'n', 255);
	name[255] = '\0';
	memcpy(name + 251, ".img", 4);
	check_int(run_claim(dirfd_, name, &why), 0);
	run_release(dirfd_, name);
	put_file(RUN_DIR "/odd\n\x1b\xff.img", "");
	check_int(listed(), 1);
	unlink(RUN_DIR "/odd\n\x1b\xff.img");
	for (size_t i = 0; i < sizeof pids / sizeof pids[0]; i++) {
		put_file(FILE_PATH, "");
		put_file(PID_PATH, pids[i]);
		make_old(FILE_PATH);
		make_old(PID_PATH);
		ent = entry(NAME);
		check_int(ent.state, RUN_DEAD);
		check_int(run_stop(dirfd_, &ent, SIGINT, 100, &why), 0);
		check_int(run_clean(dirfd_, &ent, &why), 0);
		check(!exists(FILE_PATH));
		unlink(PID_PATH);
	}
	check(run_claim(dirfd_, "link.img", &why) < 0 && strstr(why.text, "in the way"));
	check(run_claim(dirfd_, "notes.txt", &why) < 0 && !exists(RUN_DIR "/notes.pid"));
	check(exists(RUN_DIR "/link.img") && exists("/etc/passwd"));
	check_int(listed(), 0);
}

static void
test_hostile(void)
{
	apart(hostile);
}

/* Killed between the two files. */
static void
lone_pid_file(void)
{
	static struct run_entry all[4];

	open_dir();
	put_file(PID_PATH, "4194305");
	check_int(run_list(dirfd_, all, 4, &why), 1);
	check_str(all[0].name, NAME);
	check_int(all[0].state, RUN_DEAD);
	check_int(run_clean(dirfd_, &all[0], &why), 0);
	check(!exists(PID_PATH));
	put_file(PID_PATH, "4194305");
	check_int(run_claim(dirfd_, NAME, &why), 0);
}

static void
test_lone_pid_file(void)
{
	apart(lone_pid_file);
}

/* A process whose device is gone makes way for the next map; one that does not listen does not. */
static void
lost(void)
{
	struct run_entry ent;
	pid_t pid;

	open_dir();
	pid = mapper("pbsmap", NAME, CLAIM | MOUNT | TIDY);
	make_old(PID_PATH);
	check_int(run_claim(dirfd_, NAME, &why), 0);
	check_int(waitpid(pid, NULL, 0), pid);
	check_int(entry(NAME).pid, getpid());
	run_release(dirfd_, NAME);
	check_int(listed(), 0);
	pid = mapper("pbsmap", NAME, CLAIM | MOUNT | DEAF);
	ent = entry(NAME);
	check_int(run_stop(dirfd_, &ent, SIGINT, 200, &why), -ETIMEDOUT);
	check(strstr(why.text, "has not ended") != NULL);
	check_int(run_stop(dirfd_, &ent, SIGKILL, 1000, &why), 0);
	check_int(waitpid(pid, NULL, 0), pid);
	check_int(run_clean(dirfd_, &ent, &why), 0);
	check_int(listed(), 0);
}

static void
test_lost(void)
{
	apart(lost);
}

/* Several claim one name at once while others list, clean and stop: exactly one has it, and nothing is left. */
static void
rounds(void)
{
	int status, winners;

	open_dir();
	for (int i = 0; i < 50; i++) {
		int go[2], stay[2];

		check_int(pipe(go), 0);
		check_int(pipe(stay), 0);
		for (int k = 0; k < 5; k++)
			if (fork() == 0) {
				struct run_entry ent;
				char c;

				close(go[1]);
				close(stay[1]);
				prctl(PR_SET_NAME, "pbsmap");
				dirfd_ = run_dir(0, &why);
				if (read(go[0], &c, 1) != 0)
					_exit(3);
				if (k == 4) {
					ent = entry(NAME);
					_exit(listed() < 0 || run_clean(dirfd_, &ent, &why) < 0 ? 3 : 1);
				}
				status = run_claim(dirfd_, NAME, &why);
				if (status != 0)
					_exit(status == -EEXIST ? 1 : 3);
				if (read(stay[0], &c, 1) != 0)
					_exit(3);
				if (i % 3 != 0)		/* else as if killed */
					run_release(dirfd_, NAME);
				_exit(0);
			}
		close(go[0]);
		close(stay[0]);
		close(go[1]);
		winners = 0;
		for (int k = 0; k < 4; k++) {
			check(wait(&status) > 0);
			winners += status == 0;
			check(WIFEXITED(status) && WEXITSTATUS(status) != 3);
		}
		check_int(winners, 0);
		close(stay[1]);
		check(wait(&status) > 0 && status == 0);
		check_int(exists(FILE_PATH), i % 3 == 0);
		if (t_bad)
			return;
	}
}

static void
test_rounds(void)
{
	apart(rounds);
}
