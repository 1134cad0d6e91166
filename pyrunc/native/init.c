/*
 * pyrunc-init: interprets the program of system calls that the runtime compiled, and finally execs the
 * container's process. It has no policy: what is done, in which order, and what may fail is in the program.
 *
 *   pyrunc-init FD      FD: the memfd that holds the program (init.h)
 *
 * It is static and uses no C library, so that the process that waits between create and start costs a few
 * pages, nothing is loaded from the image, and the whole of what runs with the runtime's privileges inside
 * the container can be read in one sitting. It runs from a sealed memfd: /proc/PID/exe leads nowhere.
 *
 *   cc -static -nostdlib -nostartfiles -ffreestanding -fno-stack-protector -O2 -o pyrunc-init init.c
 *
 * With -DHOSTED the same interpreter is an ordinary function for tests under sanitizers and for fuzzing.
 */
#include "init.h"

#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <stddef.h>

#ifndef HOSTED
#include "syscall.h"
#else
long raw_call(long number, long a, long b, long c, long d, long e, long f);
#endif

/* What a run of the program needs: where the steps are, and the registers. */
struct machine {
    const struct step *steps;
    uint32_t count;
    const char *detail; /* the detail buffer */
    int64_t registers[REGISTERS];
};

/*
 * Reports on TALK that `step` failed with `number`, with the text in the detail buffer. By writev(2), which a
 * seccomp filter certainly allows; it is one message of the SOCK_SEQPACKET socket.
 */
static void report(const struct machine *machine, uint32_t step, int64_t number)
{
    struct message message = {SAY_FAILED, step, number < 0 ? -number : number};
    int64_t length = machine->registers[DETAIL];
    struct {
        const void *base;
        uint64_t length;
    } parts[2] = {{&message, sizeof message}, {machine->detail, 0}};

    if (length > 0)
        parts[1].length = length < (int64_t)DETAIL_SIZE ? (uint64_t)length : DETAIL_SIZE;
    if (machine->registers[TALK] >= 0)
        raw_call(__NR_writev, machine->registers[TALK], (long)parts, 2, 0, 0, 0);
}

static int tolerated(const struct step *step, int64_t result)
{
    if (step->tolerate[0] == ANY_ERRNO)
        return 1;
    for (int i = 0; i < 4; i++)
        if (step->tolerate[i] != 0 && result == -(int64_t)step->tolerate[i])
            return 1;
    return 0;
}

/*
 * Whether to make the call again. Inside a root, openat2(2) gives up with EAGAIN when anything on the host was renamed
 * or mounted while it went through "..": that is no failure of this path. An image whose process renames all the time
 * shall not keep us here, so there is an end to it.
 */
static int again(const struct step *step, int64_t result, int *tries)
{
    return result == -EINTR || (result == -EAGAIN && step->number == __NR_openat2 && ++*tries < 1000);
}

static int holds(uint16_t relation, int64_t left, int64_t right)
{
    switch (relation) {
    case REL_EQ: return left == right;
    case REL_NE: return left != right;
    case REL_LT: return left < right;
    case REL_GE: return left >= right;
    default: return (left & right) != 0;
    }
}

static int64_t load(uint64_t address, uint16_t size)
{
    switch (size) {
    case 1: return *(const uint8_t *)address;
    case 2: return *(const uint16_t *)address;
    case 4: return *(const uint32_t *)address;
    default: return *(const int64_t *)address;
    }
}

static void store(uint64_t address, int64_t value, uint16_t size)
{
    switch (size) {
    case 1: *(uint8_t *)address = (uint8_t)value; break;
    case 2: *(uint16_t *)address = (uint16_t)value; break;
    case 4: *(uint32_t *)address = (uint32_t)value; break;
    default: *(int64_t *)address = value; break;
    }
}

/*
 * Carries out the program from its first step. Returns the status to exit with when a step fails or the
 * last step is passed; a program that succeeds ends in execve or exit_group and does not come back.
 */
static int run(struct machine *machine)
{
    int64_t *registers = machine->registers;
    uint32_t at = 0;

    while (at < machine->count) {
        const struct step *step = &machine->steps[at];
        int64_t arg[6], result = 0;
        uint32_t next = at + 1;
        int tries = 0;

        for (int i = 0; i < 6; i++)
            arg[i] = (step->registers >> i & 1) ? registers[step->arg[i] % REGISTERS] : (int64_t)step->arg[i];
        switch (step->op) {
        case OP_CALL:
            do
                result = raw_call(step->number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
            while (again(step, result, &tries));
            if (result < 0 && result >= -4095) {
                if (!tolerated(step, result)) {
                    report(machine, at, result);
                    return 1;
                }
                next = at + (uint32_t)step->target;
            }
            break;
        case OP_BRANCH:
            if (holds(step->number, arg[0], arg[1]))
                next = at + (uint32_t)step->target;
            break;
        case OP_SET: result = arg[0]; break;
        case OP_LOAD: result = load((uint64_t)arg[0], step->number); break;
        case OP_STORE: store((uint64_t)arg[0], arg[1], step->number); break;
        default: report(machine, at, arg[0]); return 1;
        }
        if (step->result != NO_REGISTER)
            registers[step->result % REGISTERS] = result;
        at = next;
    }
    return 0;
}

#ifndef HOSTED

/* The decimal number in `text`, or -1. */
static int number(const char *text)
{
    int value = 0;

    if (!text || !*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || value > 99999999)
            return -1;
        value = value * 10 + (*text - '0');
    }
    return value;
}

static long map(unsigned long address, unsigned long size, long protection, int fd, unsigned long offset)
{
    return raw_call(__NR_mmap, (long)address, (long)size, protection, MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd,
                    (long)offset);
}

/* Called by the entry code with the initial stack: argc, then argv. Does not return. */
__attribute__((used)) void init_main(const long *stack)
{
    const char *const *argv = (const char *const *)(stack + 1);
    struct machine machine = {0};
    struct header header;
    int fd = stack[0] > 1 ? number(argv[1]) : -1;
    long status = 127;

    machine.registers[TALK] = -1;
    if (fd < 0 || raw_call(__NR_pread64, fd, (long)&header, sizeof header, 0, 0, 0) != sizeof header)
        goto out;
    for (int i = 0; i < 8; i++)
        if (header.magic[i] != PROGRAM_MAGIC[i])
            goto out;
    if (map(STEPS_ADDRESS, header.steps * sizeof(struct step), PROT_READ, fd, PAGE) != (long)STEPS_ADDRESS ||
        map(ARENA_ADDRESS, header.arena_size, PROT_READ | PROT_WRITE, fd, header.arena_at) != (long)ARENA_ADDRESS)
        goto out;
    raw_call(__NR_close, fd, 0, 0, 0, 0, 0);
    machine.steps = (const struct step *)STEPS_ADDRESS;
    machine.count = header.steps;
    machine.detail = (const char *)ARENA_ADDRESS;
    status = run(&machine);
out:
    for (;;)
        raw_call(__NR_exit_group, status, 0, 0, 0, 0, 0);
}

#endif
