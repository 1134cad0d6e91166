/* See border.h. */
#define _GNU_SOURCE
#include "border.h"
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

enum { LAST_CAPABILITY = 63 };

int64_t border_syscall(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    long result = syscall(number, a, b, c, d, e, f);

    return result == -1 ? -(int64_t)errno : result;
}

/* Python ignores SIGPIPE and SIGXFSZ; an ignored signal would stay ignored in the container. */
static void reset_signals(void)
{
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int number = 1; number < NSIG; number++)
        sigaction(number, &standard, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * In a new user namespace the child holds every capability but its uid is not mapped yet, so execve would
 * take them away (capabilities(7)). Ambient capabilities survive it; init's program gives them up again.
 */
static void keep_capabilities(void)
{
    struct {
        uint32_t version;
        int pid;
    } header = {0x20080522, 0};
    uint32_t data[6];

    if (syscall(SYS_capget, &header, data) != 0)
        return;
    data[2] = data[1];
    data[5] = data[4];
    if (syscall(SYS_capset, &header, data) != 0)
        return;
    for (unsigned long number = 0; number <= LAST_CAPABILITY; number++)
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0) != 0 && errno == EINVAL)
            break;
}

/*
 * Moves the descriptors to their slots. First all of them above the slots, so that none is overwritten
 * before it was moved; `executable` ends right above the slots, everything else is closed.
 */
static int place_descriptors(const struct border_spawn *spawn, int *executable)
{
    int moved[256];
    int count = (int)spawn->count;

    if (spawn->count > sizeof moved / sizeof *moved)
        return -EMFILE;
    for (int i = 0; i < count; i++) {
        moved[i] = -1;
        if (spawn->sources[i] >= 0 && (moved[i] = fcntl(spawn->sources[i], F_DUPFD_CLOEXEC, count + 1)) < 0)
            return -errno;
    }
    if ((*executable = fcntl(spawn->executable, F_DUPFD_CLOEXEC, count + 1)) < 0)
        return -errno;
    for (int i = 0; i < count; i++) {
        if (moved[i] < 0)
            close(i);
        else if (dup2(moved[i], i) < 0)
            return -errno;
    }
    if (dup3(*executable, count, O_CLOEXEC) < 0)
        return -errno;
    *executable = count;
    if (syscall(SYS_close_range, (unsigned)count + 1, ~0U, 0) != 0)
        return -errno;
    return 0;
}

/* What the child is told, and what it tells by memory: that it lives. `procs`: cgroup.procs to enter by, or -1. */
struct birth {
    const struct border_spawn *spawn;
    volatile int *lives;
    int procs;
};

static _Noreturn void child(void *argument)
{
    const struct birth *birth = argument;
    const struct border_spawn *spawn = birth->spawn;
    char *const environment[] = {NULL};
    struct message failure = {SAY_FAILED, UINT32_MAX, 0};
    int executable = -1;
    int talk = spawn->sources[spawn->talk];
    int status = 0;

    *birth->lives = 1;
    reset_signals();
    if (spawn->flags & CLONE_NEWUSER)
        keep_capabilities();
    if (birth->procs >= 0 && write(birth->procs, "0", 1) < 0)
        status = -errno;
    if (status == 0)
        status = place_descriptors(spawn, &executable);
    if (status == 0) {
        talk = spawn->talk;
        syscall(SYS_execveat, executable, "", spawn->argv, environment, AT_EMPTY_PATH);
        status = -errno;
    }
    failure.value = -status;
    send(talk, &failure, sizeof failure, MSG_NOSIGNAL);
    _exit(127);
}

/* struct clone_args of linux/sched.h up to CLONE_INTO_CGROUP, which older headers do not have. */
struct clone_arguments {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        set_tid_size, cgroup;
};

/* clone3(2) whose child calls `function` on the stack in `arguments`, and never returns here. */
static long clone_and_call(struct clone_arguments *arguments, void (*function)(void *), void *argument)
{
#if defined(__x86_64__)
    register void (*called)(void *) __asm__("r12") = function;
    register void *with __asm__("r13") = argument;
    long result;

    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r13, %%rdi\n\t"
                     "call *%%r12\n\t"
                     "ud2\n"
                     "1:"
                     : "=a"(result)
                     : "0"((long)SYS_clone3), "D"(arguments), "S"(sizeof *arguments), "r"(called), "r"(with)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register void (*called)(void *) __asm__("x19") = function;
    register void *with __asm__("x20") = argument;
    register long x8 __asm__("x8") = SYS_clone3;
    register long x0 __asm__("x0") = (long)arguments;
    register long x1 __asm__("x1") = sizeof *arguments;

    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, #0\n\t"
                     "mov x0, x20\n\t"
                     "blr x19\n\t"
                     "brk #1\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(called), "r"(with)
                     : "memory");
    return x0;
#else
#error "pyrunc knows x86-64 and aarch64 only"
#endif
}

/* Returns when the child has executed init, or has ended. */
static long bear(const struct birth *birth, int *pidfd)
{
    static char stack[64 << 10] __attribute__((aligned(16)));
    struct clone_arguments arguments = {0};

    /*
     * Sharing the memory until execve, as vfork(2) does: copying the page tables of a Python process and faulting
     * its pages in again costs more than all the rest. The child moves to a new time namespace only with memory of
     * its own (time_namespaces(7)), before Linux 6.1.
     */
    arguments.flags = birth->spawn->flags | CLONE_PIDFD | CLONE_VFORK;
    if (!(birth->spawn->flags & CLONE_NEWTIME))
        arguments.flags |= CLONE_VM;
    arguments.pidfd = (uint64_t)(uintptr_t)pidfd;
    arguments.exit_signal = SIGCHLD;
    arguments.stack = (uint64_t)(uintptr_t)stack;
    arguments.stack_size = sizeof stack;
    if (birth->spawn->cgroup >= 0 && birth->procs < 0) {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = (uint64_t)birth->spawn->cgroup;
    }
    return clone_and_call(&arguments, child, (void *)birth);
}

/*
 * Newer kernels (6.12.107 and 6.18 do) kill what clone3 puts into a cgroup, before its first instruction, where this
 * cgroup has been killed as a whole (cgroup.kill) another number of times than that of the caller: it compares the one
 * count with the other (kernel/cgroup/cgroup.c, cgroup_css_set_fork). Such a child enters by its own write.
 */
static long bear_again(struct birth *birth, int *pidfd, long pid)
{
    waitpid((pid_t)pid, NULL, 0);
    close(*pidfd);
    birth->procs = openat(birth->spawn->cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    if (birth->procs < 0)
        return -errno;
    pid = bear(birth, pidfd);
    close(birth->procs);
    return pid;
}

int64_t border_spawn(struct border_spawn *spawn)
{
    struct birth birth = {spawn, NULL, -1};
    sigset_t all, before;
    int pidfd = -1;
    long pid;

    birth.lives = mmap(NULL, sizeof *birth.lives, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (birth.lives == MAP_FAILED)
        return -errno;
    /* No handler of this process may run in the child. */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid = bear(&birth, &pidfd);
    if (pid > 0 && spawn->cgroup >= 0 && !*birth.lives)
        pid = bear_again(&birth, &pidfd, pid);
    sigprocmask(SIG_SETMASK, &before, NULL);
    munmap((void *)birth.lives, sizeof *birth.lives);
    if (pid < 0)
        return pid;
    spawn->pidfd = pidfd;
    return pid;
}
