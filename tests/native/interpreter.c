/*
 * The interpreter of pyrunc-init under AddressSanitizer and UndefinedBehaviorSanitizer.
 *
 *   interpreter FILE    run the program in FILE (the encoding of pyrunc.plan.program) against the real kernel;
 *                       exit with its status, print the registers
 *
 * Steps and arena are mapped at the same addresses as in pyrunc-init, so that encoded programs run unchanged.
 */
#define HOSTED
#include "../../pyrunc/native/init.c"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

long raw_call(long number, long a, long b, long c, long d, long e, long f)
{
    long result = syscall(number, a, b, c, d, e, f);

    return result == -1 ? -errno : result;
}

int main(int argc, char **argv)
{
    struct machine machine = {0};
    struct header header;
    FILE *file = argc > 1 ? fopen(argv[1], "rb") : NULL;
    int status;

    if (!file || fread(&header, sizeof header, 1, file) != 1)
        return 125;
    machine.registers[TALK] = argc > 2 ? atoi(argv[2]) : -1;
    if (mmap((void *)STEPS_ADDRESS, header.steps * sizeof(struct step) + 1, PROT_READ,
             MAP_PRIVATE | MAP_FIXED_NOREPLACE, fileno(file), PAGE) == MAP_FAILED ||
        mmap((void *)ARENA_ADDRESS, header.arena_size, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_FIXED_NOREPLACE, fileno(file), (long)header.arena_at) == MAP_FAILED)
        return 126;
    machine.steps = (const struct step *)STEPS_ADDRESS;
    machine.count = header.steps;
    machine.detail = (const char *)ARENA_ADDRESS;
    status = run(&machine);
    for (int i = 0; i < REGISTERS; i++)
        printf("%lld%c", (long long)machine.registers[i], i + 1 < REGISTERS ? ' ' : '\n');
    fclose(file);
    return status;
}
