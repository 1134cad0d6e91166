/* The runtime's side of the border to the kernel: what Python alone cannot do. Bound by build_ffi.py. */
#ifndef PYRUNC_BORDER_H
#define PYRUNC_BORDER_H

#include <stddef.h>
#include <stdint.h>

/* One system call; the result, or the negated errno. Retried on EINTR by the caller if that is wanted. */
int64_t border_syscall(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f);

struct border_spawn {
    uint64_t flags;      /* clone3(2) flags: the new namespaces */
    int cgroup;          /* descriptor of a cgroup v2 directory for CLONE_INTO_CGROUP, or -1 */
    int executable;      /* descriptor of the sealed init */
    int talk;            /* slot (not descriptor) on which the child reports that it could not exec */
    const int *sources;  /* sources[i] becomes descriptor i of the child; -1: closed there */
    size_t count;
    char *const *argv;   /* ends with NULL */
    int pidfd;           /* out: a pidfd of the child */
};

/*
 * Clones a child, gives it exactly the descriptors listed, default signal dispositions and an empty mask,
 * and executes `executable` in it with an empty environment. Returns the pid, or the negated errno.
 * In the child a failure is reported on `talk` as a struct message (init.h) with step UINT32_MAX.
 */
int64_t border_spawn(struct border_spawn *spawn);

#endif
