/*
 * testify: a static program that tells, from inside a container, what it finds there.
 *
 *     testify pid -- env -- stat /dev/null -- exit 3
 *
 * Each command prints one line, {"ask": "<command and arguments>", "answer": <JSON>}; a failed system call
 * answers {"errno": "ENOENT"}. It needs nothing of the image: no libraries, no /proc unless asked about it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <poll.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static char **argv_all;

/* -- JSON ---------------------------------------------------------------------------------------------- */

/* Bytes outside printable ASCII become \u00XX, so that any file content is one valid line. */
static void text_n(const char *raw, size_t size)
{
    putchar('"');
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)raw[i];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c > 0x7e)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void text(const char *raw)
{
    text_n(raw, strlen(raw));
}

static void list(char *const *items)
{
    putchar('[');
    for (int i = 0; items[i]; i++) {
        if (i)
            putchar(',');
        text(items[i]);
    }
    putchar(']');
}

static void failed(void)
{
    const char *name = strerrorname_np(errno);
    printf("{\"errno\":\"%s\"}", name ? name : "?");
}

static void result(long value)
{
    if (value < 0)
        failed();
    else
        printf("%ld", value);
}

/* -- the process --------------------------------------------------------------------------------------- */

static void ids(void)
{
    uid_t r, e, s;
    gid_t rg, eg, sg, groups[1024];
    getresuid(&r, &e, &s);
    getresgid(&rg, &eg, &sg);
    int count = getgroups(1024, groups);
    mode_t mask = umask(0);
    umask(mask);
    printf("{\"uid\":[%u,%u,%u],\"gid\":[%u,%u,%u],\"groups\":[", r, e, s, rg, eg, sg);
    for (int i = 0; i < count; i++)
        printf("%s%u", i ? "," : "", groups[i]);
    printf("],\"umask\":%u,\"sid\":%d,\"pgid\":%d}", mask, getsid(0), getpgid(0));
}

static void capability_sets(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0, 0, 0}, {0, 0, 0}};
    if (syscall(SYS_capget, &header, data) < 0) {
        failed();
        return;
    }
    const char *names[] = {"effective", "permitted", "inheritable", "bounding", "ambient"};
    for (int set = 0; set < 5; set++) {
        printf("%s\"%s\":[", set ? "," : "{", names[set]);
        bool any = false;
        for (unsigned cap = 0; cap <= 63; cap++) {
            int bound = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
            if (bound < 0)
                break;
            struct __user_cap_data_struct word = data[cap / 32];
            uint32_t bit = 1U << (cap % 32);
            bool has = set == 0   ? (word.effective & bit) != 0
                       : set == 1 ? (word.permitted & bit) != 0
                       : set == 2 ? (word.inheritable & bit) != 0
                       : set == 3 ? bound == 1
                                  : prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1;
            if (has) {
                printf("%s%u", any ? "," : "", cap);
                any = true;
            }
        }
        putchar(']');
    }
    putchar('}');
}

/* The CPUs that this process may run on. */
static void affinity(void)
{
    unsigned long mask[128] = {0};
    long size = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    if (size < 0) {
        failed();
        return;
    }
    putchar('[');
    bool any = false;
    for (unsigned cpu = 0; cpu < 8 * (unsigned)size; cpu++)
        if (mask[cpu / 64] >> cpu % 64 & 1) {
            printf("%s%u", any ? "," : "", cpu);
            any = true;
        }
    putchar(']');
}

static void scheduler(void)
{
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
        uint32_t util_min, util_max;
    } is = {0};
    if (syscall(SYS_sched_getattr, 0, &is, sizeof is, 0) < 0) {
        failed();
        return;
    }
    printf("{\"policy\":%u,\"flags\":%llu,\"nice\":%d,\"priority\":%u,\"runtime\":%llu,\"deadline\":%llu,"
           "\"period\":%llu}",
           is.policy, (unsigned long long)is.flags, is.nice, is.priority, (unsigned long long)is.runtime,
           (unsigned long long)is.deadline, (unsigned long long)is.period);
}

/* How much of a CPU a loop gets, during so many seconds. */
static void spin(double seconds)
{
    struct timespec from, now, used;
    clock_gettime(CLOCK_MONOTONIC, &from);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    double before = (double)used.tv_sec + (double)used.tv_nsec / 1e9, passed;
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
        passed = (double)(now.tv_sec - from.tv_sec) + (double)(now.tv_nsec - from.tv_nsec) / 1e9;
    } while (passed < seconds);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    printf("%.3f", ((double)used.tv_sec + (double)used.tv_nsec / 1e9 - before) / passed);
}

/* The process's memory policy: mode with flags, and nodes as a bit mask. */
static void memory_policy(void)
{
    int mode = 0;
    unsigned long nodes[16] = {0};
    if (syscall(SYS_get_mempolicy, &mode, nodes, 1024L, 0L, 0L) < 0) {
        failed();
        return;
    }
    printf("{\"mode\":%d,\"flags\":%d,\"nodes\":%lu}", mode & 0xfff, mode & ~0xfff, nodes[0]);
}

static void io_priority(void)
{
    long value = syscall(SYS_ioprio_get, 1L, 0L); /* IOPRIO_WHO_PROCESS */
    if (value < 0)
        failed();
    else
        printf("{\"class\":%ld,\"level\":%ld}", value >> 13, value & 7);
}

static void limit(rlim_t value)
{
    if (value == RLIM_INFINITY)
        printf("-1");
    else
        printf("%llu", (unsigned long long)value);
}

static void rlimits(void)
{
    static const struct {
        const char *name;
        __rlimit_resource_t number;
    } all[] = {
        {"RLIMIT_AS", RLIMIT_AS},           {"RLIMIT_CORE", RLIMIT_CORE},
        {"RLIMIT_CPU", RLIMIT_CPU},         {"RLIMIT_DATA", RLIMIT_DATA},
        {"RLIMIT_FSIZE", RLIMIT_FSIZE},     {"RLIMIT_LOCKS", RLIMIT_LOCKS},
        {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK}, {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
        {"RLIMIT_NICE", RLIMIT_NICE},       {"RLIMIT_NOFILE", RLIMIT_NOFILE},
        {"RLIMIT_NPROC", RLIMIT_NPROC},     {"RLIMIT_RSS", RLIMIT_RSS},
        {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},   {"RLIMIT_RTTIME", RLIMIT_RTTIME},
        {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING}, {"RLIMIT_STACK", RLIMIT_STACK},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct rlimit now;
        getrlimit(all[i].number, &now);
        printf("%s\"%s\":[", i ? "," : "{", all[i].name);
        limit(now.rlim_cur);
        putchar(',');
        limit(now.rlim_max);
        putchar(']');
    }
    putchar('}');
}

static void namespaces(void)
{
    static const char *const all[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
    putchar('{');
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char path[64], target[128];
        snprintf(path, sizeof path, "/proc/self/ns/%s", all[i]);
        ssize_t size = readlink(path, target, sizeof target);
        printf("%s\"%s\":", i ? "," : "", all[i]);
        if (size < 0)
            failed();
        else
            text_n(target, (size_t)size);
    }
    putchar('}');
}

static void descriptors(void)
{
    bool any = false;
    putchar('{');
    for (int fd = 0; fd < 4096; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            continue;
        char path[64], target[PATH_MAX];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t size = readlink(path, target, sizeof target);
        printf("%s\"%d\":", any ? "," : "", fd);
        if (size < 0)
            failed();
        else
            text_n(target, (size_t)size);
        any = true;
    }
    putchar('}');
}

static void signal_state(void)
{
    sigset_t blocked;
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    printf("{\"blocked\":[");
    bool any = false;
    for (int number = 1; number < 65; number++)
        if (sigismember(&blocked, number) == 1) {
            printf("%s%d", any ? "," : "", number);
            any = true;
        }
    printf("],\"ignored\":[");
    any = false;
    for (int number = 1; number < 65; number++) {
        struct sigaction now;
        if (sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_IGN) {
            printf("%s%d", any ? "," : "", number);
            any = true;
        }
    }
    printf("]}");
}

/* -- files --------------------------------------------------------------------------------------------- */

static void status(const char *path, int flags)
{
    struct stat st;
    if (fstatat(AT_FDCWD, path, &st, flags) < 0) {
        failed();
        return;
    }
    const char *type = S_ISREG(st.st_mode)    ? "file"
                       : S_ISDIR(st.st_mode)  ? "directory"
                       : S_ISLNK(st.st_mode)  ? "symlink"
                       : S_ISCHR(st.st_mode)  ? "char"
                       : S_ISBLK(st.st_mode)  ? "block"
                       : S_ISFIFO(st.st_mode) ? "fifo"
                                              : "socket";
    printf("{\"type\":\"%s\",\"mode\":%u,\"uid\":%u,\"gid\":%u,\"rdev\":[%u,%u],\"size\":%lld,"
           "\"dev\":%llu,\"ino\":%llu}",
           type, st.st_mode & 07777, st.st_uid, st.st_gid, major(st.st_rdev), minor(st.st_rdev),
           (long long)st.st_size, (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
}

static void link_target(const char *path)
{
    char target[PATH_MAX];
    ssize_t size = readlink(path, target, sizeof target);
    if (size < 0)
        failed();
    else
        text_n(target, (size_t)size);
}

static void contents_of(int fd)
{
    static char buffer[1 << 20];
    size_t total = 0;
    ssize_t size;
    while (total < sizeof buffer && (size = read(fd, buffer + total, sizeof buffer - total)) != 0) {
        if (size < 0) {
            failed();
            return;
        }
        total += (size_t)size;
    }
    text_n(buffer, total);
}

static void contents(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        failed();
        return;
    }
    contents_of(fd);
    close(fd);
}

static void put(const char *path, const char *what, int flags)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0666);
    if (fd < 0) {
        failed();
        return;
    }
    result(write(fd, what, strlen(what)));
    close(fd);
}

static void try_open(const char *path, const char *how)
{
    int flags = !strcmp(how, "r") ? O_RDONLY : !strcmp(how, "w") ? O_WRONLY : O_RDWR;
    int fd = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        failed();
        return;
    }
    printf("0");
    close(fd);
}

static void names(const char *path)
{
    struct dirent **found;
    int count = scandir(path, &found, NULL, alphasort);
    if (count < 0) {
        failed();
        return;
    }
    putchar('[');
    bool any = false;
    for (int i = 0; i < count; i++) {
        if (!strcmp(found[i]->d_name, ".") || !strcmp(found[i]->d_name, ".."))
            continue;
        if (any)
            putchar(',');
        text(found[i]->d_name);
        any = true;
    }
    putchar(']');
}

static void node(const char *path, char type, unsigned big, unsigned small)
{
    mode_t kind = type == 'c' ? S_IFCHR : type == 'b' ? S_IFBLK : S_IFIFO;
    result(mknod(path, kind | 0600, makedev(big, small)));
}

/* -- terminal ------------------------------------------------------------------------------------------ */

static void size_of(int fd)
{
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) < 0)
        failed();
    else
        printf("[%u,%u]", size.ws_row, size.ws_col);
}

static void terminal(void)
{
    char name[PATH_MAX] = "";
    bool named = ttyname_r(0, name, sizeof name) == 0;
    printf("{\"isatty\":[%s,%s,%s],\"size\":", isatty(0) ? "true" : "false", isatty(1) ? "true" : "false",
           isatty(2) ? "true" : "false");
    size_of(0);
    printf(",\"name\":");
    text(named ? name : "");
    printf(",\"session\":%d,\"sid\":%d,\"foreground\":%d}", tcgetsid(0), getsid(0), tcgetpgrp(0));
}

/* -- things that happen -------------------------------------------------------------------------------- */

static volatile sig_atomic_t got[65];

static void on_signal(int number)
{
    got[number]++;
}

/* Prints the number of each signal it gets; ends with SIGTERM (status 0). */
static void signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    for (int number = 1; number < 65; number++)
        sigaction(number, &action, NULL);
    printf("\"ready\"}\n");
    fflush(stdout);
    for (;;) {
        sigsuspend(&before);
        for (int number = 1; number < 65; number++)
            while (got[number]) {
                got[number]--;
                printf("{\"ask\":\"signal\",\"answer\":%d}\n", number);
                fflush(stdout);
                if (number == SIGTERM)
                    exit(0);
            }
    }
}

static void quit(int number)
{
    (void)number;
    _exit(0);
}

/* Waits; SIGTERM ends it with status 0 (as pid 1 it would otherwise be deaf to it). */
static void sleeper(void)
{
    struct sigaction action = {.sa_handler = quit};
    sigaction(SIGTERM, &action, NULL);
    printf("\"ready\"}\n");
    fflush(stdout);
    for (;;)
        pause();
}

static void winch(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    sigprocmask(SIG_BLOCK, &set, NULL);
    printf("\"ready\"}\n");
    fflush(stdout);
    struct timespec patience = {10, 0};
    int number = sigtimedwait(&set, NULL, &patience);
    printf("{\"ask\":\"resized\",\"answer\":");
    if (number < 0)
        failed();
    else
        size_of(0);
}

static void eat(unsigned long megabytes)
{
    unsigned long done = 0;
    for (; done < megabytes; done++) {
        char *memory = malloc(1 << 20);
        if (!memory)
            break;
        for (size_t at = 0; at < 1 << 20; at += 4096)
            ((volatile char *)memory)[at] = 1;
    }
    printf("%lu", done);
}

static void forks(unsigned long wanted)
{
    pid_t *children = calloc(wanted, sizeof *children);
    unsigned long made = 0;
    int why = 0;
    for (; made < wanted; made++) {
        pid_t child = fork();
        if (child < 0) {
            why = errno;
            break;
        }
        if (child == 0) {
            for (;;)
                pause();
        }
        children[made] = child;
    }
    for (unsigned long i = 0; i < made; i++) {
        kill(children[i], SIGKILL);
        waitpid(children[i], NULL, 0);
    }
    printf("{\"made\":%lu,\"errno\":", made);
    text(why ? strerrorname_np(why) : "");
    putchar('}');
}

/* -- what cgroups limit -------------------------------------------------------------------------------- */

static long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Reserves so many MiB of 2 MiB pages. */
static void huge(size_t megabytes)
{
    void *memory = mmap(NULL, megabytes << 20, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | 21 << MAP_HUGE_SHIFT, -1, 0);
    result(memory == MAP_FAILED ? -1 : munmap(memory, megabytes << 20));
}

/* Moves so many KiB to ('w') or from ('r') a file past the page cache, and tells how many milliseconds it took. */
static void direct(const char *path, char way, long kib)
{
    static char block[65536] __attribute__((aligned(4096)));
    int fd = open(path, O_DIRECT | O_CLOEXEC | (way == 'w' ? O_WRONLY : O_RDONLY));
    long start = now_ms();
    for (long done = 0; fd >= 0 && done < kib; done += 64)
        if ((way == 'w' ? write(fd, block, sizeof block) : read(fd, block, sizeof block)) < 0) {
            close(fd);
            fd = -1;
        }
    result(fd < 0 ? -1 : now_ms() - start);
}

/* Sends a datagram to itself, and tells the priority it arrived with, -1 where the kernel (before 6.14) does not say. */
static void datagram(void)
{
    struct sockaddr_in self = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof self;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1;
    struct timeval patience = {2, 0};
    setsockopt(fd, SOL_SOCKET, 82 /* SO_RCVPRIORITY */, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    char word[4], control[64];
    struct iovec part = {word, sizeof word};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (bind(fd, (struct sockaddr *)&self, size) < 0 || getsockname(fd, (struct sockaddr *)&self, &size) < 0
        || sendto(fd, "word", 4, 0, (struct sockaddr *)&self, size) < 0 || recvmsg(fd, &message, 0) < 0) {
        failed();
        close(fd);
        return;
    }
    int priority = -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SO_PRIORITY)
        memcpy(&priority, CMSG_DATA(header), sizeof priority);
    printf("%d", priority);
    close(fd);
}

static void on_trap(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    printf("{\"trapped\":%d}}\n", info->si_syscall);
    fflush(stdout);
    _exit(0);
}

static void call(int count, char **words)
{
    static const struct {
        const char *name;
        long number;
    } all[] = {
#define CALL(name) {#name, SYS_##name}
        CALL(acct),     CALL(add_key),  CALL(bpf),         CALL(chroot),      CALL(clone3),    CALL(getcpu),
        CALL(getpid),   CALL(getppid),  CALL(getpriority), CALL(keyctl),      CALL(kexec_load), CALL(mkdir),
        CALL(mount),    CALL(move_mount), CALL(open_tree), CALL(personality), CALL(pivot_root), CALL(prctl),
        CALL(ptrace),   CALL(sethostname), CALL(setns),    CALL(setuid),      CALL(socket),    CALL(swapon),
        CALL(sysinfo),  CALL(umask),    CALL(unshare),     CALL(uname),       CALL(userfaultfd), CALL(sched_yield),
        CALL(setgid),   CALL(kill),     CALL(setrlimit),   CALL(getuid),      CALL(getgid),    CALL(setpriority),
#undef CALL
    };
    char *end;
    long number = strtol(words[0], &end, 10); /* or by its number */
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!*end || !strcmp(all[i].name, words[0])) {
            long a[6] = {0, 0, 0, 0, 0, 0};
            for (int k = 1; k < count && k < 7; k++)
                a[k - 1] = (long)strtoull(words[k], NULL, 0);
            result(syscall(*end ? all[i].number : number, a[0], a[1], a[2], a[3], a[4], a[5]));
            return;
        }
    fprintf(stderr, "testify: no system call %s in its table\n", words[0]);
    exit(99);
}

/* getpid(2) through the 32-bit gate: another architecture for seccomp. */
static void gate32(void)
{
    long value;
    __asm__ volatile("int $0x80" : "=a"(value) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
    errno = value < 0 ? (int)-value : 0;
    result(value < 0 ? -1 : value);
}

static void in_child(void (*act)(void))
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        freopen("/dev/null", "w", stdout);
        act();
        _exit(0);
    }
    int how = 0;
    waitpid(child, &how, 0);
    printf("{\"signal\":%d,\"status\":%d}", WIFSIGNALED(how) ? WTERMSIG(how) : 0, WEXITSTATUS(how));
}

/* An orphan that outlives its parent: for what happens to the rest of a container. */
static void orphan(void)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        setsid();
        for (;;)
            pause();
    }
    printf("%d", child);
}

static void say_uname(void)
{
    struct utsname name;
    uname(&name);
    printf("{\"hostname\":");
    text(name.nodename);
    printf(",\"domainname\":");
    text(name.domainname);
    printf(",\"machine\":");
    text(name.machine);
    putchar('}');
}

/* -- messages to NOTIFY_SOCKET (sd_notify(3)) ----------------------------------------------------------- */

/* Sends one datagram, each `|` of the text as a newline, with `fd` beside it unless that is negative. */
static long notify(const char *what, int fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    char message[1 << 14];
    char control[CMSG_SPACE(sizeof(int))] = {0};
    size_t size = strlen(what);
    for (size_t i = 0; i <= size; i++)
        message[i] = what[i] == '|' ? '\n' : what[i];
    strncpy(address.sun_path, path ? path : "", sizeof address.sun_path - 1);
    struct iovec part = {message, size};
    struct msghdr header = {.msg_name = &address, .msg_namelen = sizeof address, .msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        header.msg_control = control;
        header.msg_controllen = sizeof control;
        struct cmsghdr *first = CMSG_FIRSTHDR(&header);
        first->cmsg_level = SOL_SOCKET;
        first->cmsg_type = SCM_RIGHTS;
        first->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(first), &fd, sizeof fd);
    }
    int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    long sent = sendmsg(sender, &header, MSG_NOSIGNAL);
    int why = errno;
    close(sender);
    errno = why;
    return sent;
}

/* As sd_notify_barrier(3): whether all before it was heard within so many seconds. */
static void barrier(int seconds)
{
    int ends[2];
    if (pipe(ends) < 0 || notify("BARRIER=1", ends[1]) < 0) {
        failed();
        return;
    }
    close(ends[1]);
    struct pollfd waited = {.fd = ends[0]};
    printf(poll(&waited, 1, seconds * 1000) == 1 ? "true" : "false");
    close(ends[0]);
}

/* What keyctl(2) tells of the session keyring: `keyring;UID;GID;PERMISSIONS;NAME`. */
static void keyring(void)
{
    char told[512];
    long size = syscall(SYS_keyctl, 6L, -3L, told, sizeof told); /* KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING */
    if (size < 0)
        failed();
    else
        text(told);
}

/* The payload of a key of type `user` with this name that is found from the session keyring. */
static void key(const char *name)
{
    char payload[512];
    long found = syscall(SYS_keyctl, 10L, -3L, "user", name, 0L); /* KEYCTL_SEARCH */
    long size = found < 0 ? -1 : syscall(SYS_keyctl, 11L, found, payload, sizeof payload); /* KEYCTL_READ */
    if (size < 0)
        failed();
    else
        text_n(payload, (size_t)size);
}

/* -- what criu(8) wants to be told of -------------------------------------------------------------------- */

/* A socket that stays open, and listens to this port of the loopback without ever accepting; its number. */
static int listener(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 8) < 0 ? -1 : fd;
}

/* Both ends of a TCP connection, which stay open. */
static void tcp_pair(void)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int door = listener(0), near = socket(AF_INET, SOCK_STREAM, 0), far = -1;
    if (getsockname(door, (struct sockaddr *)&address, &size) == 0
        && connect(near, (struct sockaddr *)&address, size) == 0)
        far = accept(door, NULL, NULL);
    if (far < 0)
        failed();
    else
        printf("[%d,%d]", near, far);
    close(door);
}

/* A socket of datagrams that stays open, connected to this one; its number. */
static int connected(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    return connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -1 : fd;
}

/* Sends "tick 1", "tick 2" and so on into a socket, until it cannot; what comes out of `out`, if not 0, to stdout. */
static void count_into(int in, int out)
{
    char line[32];
    for (int n = 1;; n++) {
        int size = snprintf(line, sizeof line, "tick %d\n", n);
        if (send(in, line, (size_t)size, MSG_NOSIGNAL) < 0)
            break;
        if (out) {
            ssize_t answer = read(out, line, sizeof line);
            if (answer < 0 || write(1, line, (size_t)answer) < 0)
                break;
        }
        usleep(50000);
    }
    failed();
}

static void one(int count, char **words)
{
    const char *name = words[0];
    const char *first = count > 1 ? words[1] : "";
    const char *second = count > 2 ? words[2] : "";
    printf("{\"ask\":\"");
    for (int i = 0; i < count; i++)
        for (const char *at = (i ? printf(" ") : 0, words[i]); *at; at++)
            if (*at == '"' || *at == '\\')
                printf("\\%c", *at);
            else if ((unsigned char)*at < 0x20 || (unsigned char)*at > 0x7e)
                printf("\\u%04x", (unsigned char)*at);
            else
                putchar(*at);
    printf("\",\"answer\":");

#define IS(word) (!strcmp(name, word))
    if (IS("note"))
        printf("null");
    else if (IS("pid"))
        printf("%d", getpid());
    else if (IS("ppid"))
        printf("%d", getppid());
    else if (IS("args"))
        list(argv_all);
    else if (IS("env"))
        list(environ);
    else if (IS("cwd")) {
        char path[PATH_MAX];
        if (getcwd(path, sizeof path))
            text(path);
        else
            failed();
    } else if (IS("ids"))
        ids();
    else if (IS("caps"))
        capability_sets();
    else if (IS("rlimits"))
        rlimits();
    else if (IS("nnp"))
        result(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    else if (IS("seccomp"))
        result(prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
    else if (IS("dumpable"))
        result(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
    else if (IS("notify"))
        result(notify(first, -1));
    else if (IS("notify-with-fd"))
        result(notify(first, 0));
    else if (IS("barrier"))
        barrier(atoi(first));
    else if (IS("keyring"))
        keyring();
    else if (IS("key"))
        key(first);
    else if (IS("pdeathsig")) {
        int number = -1;
        prctl(PR_GET_PDEATHSIG, &number, 0, 0, 0);
        printf("%d", number);
    } else if (IS("affinity"))
        affinity();
    else if (IS("scheduler"))
        scheduler();
    else if (IS("io-priority"))
        io_priority();
    else if (IS("memory-policy"))
        memory_policy();
    else if (IS("spin"))
        spin(atof(first));
    else if (IS("securebits"))
        result(prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
    else if (IS("personality"))
        result(personality(0xffffffff));
    else if (IS("uname"))
        say_uname();
    else if (IS("namespaces"))
        namespaces();
    else if (IS("mounts"))
        contents("/proc/self/mountinfo");
    else if (IS("fds"))
        descriptors();
    else if (IS("signal-state"))
        signal_state();
    else if (IS("stat"))
        status(first, 0);
    else if (IS("lstat"))
        status(first, AT_SYMLINK_NOFOLLOW);
    else if (IS("readlink"))
        link_target(first);
    else if (IS("read"))
        contents(first);
    else if (IS("readfd"))
        contents_of(atoi(first));
    else if (IS("writefd"))
        result(write(atoi(first), second, strlen(second)));
    else if (IS("write"))
        put(first, second, O_CREAT | O_TRUNC);
    else if (IS("append"))
        put(first, second, O_APPEND);
    else if (IS("open"))
        try_open(first, second);
    else if (IS("access"))
        result(access(first, F_OK));
    else if (IS("ls"))
        names(first);
    else if (IS("mkdir"))
        result(mkdir(first, 0777));
    else if (IS("rmdir"))
        result(rmdir(first));
    else if (IS("mknod"))
        node(first, second[0], count > 3 ? (unsigned)atoi(words[3]) : 0, count > 4 ? (unsigned)atoi(words[4]) : 0);
    else if (IS("bind"))
        result(mount(first, second, NULL, MS_BIND, NULL));
    else if (IS("umount"))
        result(umount2(first, MNT_DETACH));
    else if (IS("tty"))
        terminal();
    else if (IS("winch"))
        winch();
    else if (IS("signals"))
        signals();
    else if (IS("sleep"))
        sleeper();
    else if (IS("nap")) {
        usleep((useconds_t)(atof(first) * 1e6));
        printf("null");
    } else if (IS("eat"))
        eat(strtoul(first, NULL, 10));
    else if (IS("forks"))
        forks(strtoul(first, NULL, 10));
    else if (IS("orphan"))
        orphan();
    else if (IS("huge"))
        huge(strtoul(first, NULL, 10));
    else if (IS("direct"))
        direct(first, second[0], count > 3 ? atol(words[3]) : 0);
    else if (IS("datagram"))
        datagram();
    else if (IS("lock"))
        result(flock(atoi(first), LOCK_EX | LOCK_NB));
    else if (IS("listener"))
        result(listener(atoi(first)));
    else if (IS("connected"))
        result(connected(first));
    else if (IS("count-into"))
        count_into(atoi(first), atoi(second));
    else if (IS("tcp-pair"))
        tcp_pair();
    else if (IS("syscall"))
        call(count - 1, words + 1);
    else if (IS("trap")) {
        struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
        sigaction(SIGSYS, &action, NULL);
        call(count - 1, words + 1);
    } else if (IS("gate32"))
        gate32();
    else if (IS("gate32-in-child"))
        in_child(gate32);
    else if (IS("exit")) {
        printf("%d}\n", atoi(first));
        exit(atoi(first));
    } else if (IS("raise")) {
        signal(atoi(first), SIG_DFL);
        printf("%d}\n", atoi(first));
        fflush(stdout);
        raise(atoi(first));
        exit(98); /* pid 1 is deaf to its own default actions */
    } else {
        fprintf(stderr, "testify: no command %s\n", name);
        exit(99);
    }
    printf("}\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static char buffer[1 << 16];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    argv_all = argv;
    for (int i = 1; i < argc;) {
        int last = i;
        while (last < argc && strcmp(argv[last], "--") != 0)
            last++;
        if (last > i)
            one(last - i, argv + i);
        i = last + 1;
    }
    return 0;
}
