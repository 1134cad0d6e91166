/*
 * The program that the runtime compiles and pyrunc-init interprets: the layout of both sides.
 * pyrunc/plan/program.py writes it; tests/unit/test_program.py compares the numbers.
 *
 *   offset 0          struct header, rest of the page zero
 *   offset 4096       struct step [steps]
 *   offset arena_at   arena: arena_size bytes, the first DETAIL_SIZE of them the detail buffer
 */
#ifndef PYRUNC_INIT_H
#define PYRUNC_INIT_H

#include <stdint.h>

#define PROGRAM_MAGIC "PYRUNC\0\1"
#define PAGE 4096UL
#define STEPS_ADDRESS 0x2ff000000000UL /* read-only, shared with the page cache */
#define ARENA_ADDRESS 0x300000000000UL /* private, writable */
#define DETAIL_SIZE 256UL
#define REGISTERS 64
#define NO_REGISTER 0xff
#define ANY_ERRNO 0xff

/* Registers with a meaning. */
enum { TALK = 0, DETAIL = 1 };

enum op { OP_CALL, OP_BRANCH, OP_SET, OP_LOAD, OP_STORE, OP_FAIL };
enum relation { REL_EQ, REL_NE, REL_LT, REL_GE, REL_BITS };

struct header {
    char magic[8];
    uint32_t steps;
    uint32_t reserved;
    uint64_t arena_at;
    uint64_t arena_size;
};

struct step {
    uint16_t number;    /* system call, relation or size, by op */
    uint8_t op;
    uint8_t result;     /* register for the result, or NO_REGISTER */
    uint16_t registers; /* bit i: arg[i] is the number of a register */
    uint8_t reserved[2];
    uint8_t tolerate[4]; /* errnos that do not fail the step; 0 unused; ANY_ERRNO first: all */
    int32_t target;      /* how many steps from here to go on after a tolerated errno or a taken branch */
    uint64_t arg[6];
};

/* What init says; `value` is an errno for SAY_FAILED, a pid for SAY_PID, a word of the program for the rest. */
enum said {
    SAY_FAILED = 1,
    SAY_PID = 2,
    SAY_REACHED = 3,
    SAY_CONSOLE = 4,
    SAY_COPY = 5,
    SAY_OUTPUT = 6,
    SAY_LISTENER = 7,
    SAY_IDMAP = 8,
    SAY_MOUNT = 9,
    SAY_CRIU = 10
};

struct message {
    uint32_t said;
    uint32_t step;
    int64_t value;
};

_Static_assert(sizeof(struct header) == 32, "header layout");
_Static_assert(sizeof(struct step) == 64, "step layout");
_Static_assert(sizeof(struct message) == 16, "message layout");

#endif
