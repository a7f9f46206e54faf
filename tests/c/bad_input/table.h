/* What every function takes, so that everything that can be wrong with an argument is tried with every function. */
#ifndef TABLE_H
#define TABLE_H

#include "keylatch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is behind a handle. */
enum kind { MANAGER, OWNER, QUEUE, LISTING, EVENTS, CLAIMS, CLAIMANT, CLAIM_QUEUE, CLAIM_WATCH, SHARED, PINNED, KINDS };

/* What a parameter is. */
enum is {
    NOTHING,
    A_HANDLE,   /* of a kind */
    A_KEY,      /* read */
    A_MODE,
    A_GRANT,
    A_STRUCT,   /* read, begins with its size */
    A_NUMBER,   /* every number is fine */
    SOME_BYTES, /* read; how many, the next parameter says */
    AN_ARRAY,   /* read or written; how many, the next parameter says */
    A_COUNT,    /* of the parameter before */
    A_CALLBACK,
    A_FREE_FN,
    A_TEXT,     /* of the library's, to be freed */
    OUT,        /* written */
    OUT_HANDLE, /* written, to be freed */
    OUT_TEXT,   /* written, to be freed */
    OUT_GRANT,  /* written, to be released */
    OUT_STRUCT  /* written, begins with its size */
};

enum may { BE_NULL = 1, BE_CONSUMED = 2, BE_WRITTEN_ON_FAILURE = 4, BE_FREED = 8, BE_NOT_HELD = 16, BE_LONG = 32, BE_LONGER = 64 };

/* Values of a field that have to be refused. */
struct field {
    size_t offset, width;
    uint64_t value;
    int32_t status;
};

struct shape {
    const char *name;
    /* Now, and as it was first published. */
    size_t size, first;
    struct field fields[16];
};

extern const struct shape manager_options, owner_options, request_options, batch_options, filters, event_options,
    listed_holders, listed_waiters, listed_links, listed_keys, listed_tier_holds, metrics, health, adaptive, claims_options, claim_policies, claim_answers, claim_events, shared_options,
    shared_requests, shared_holds;

/* The file of the shared tables, and the number of the process in the one that is held. */
extern char shared_path[64];
extern uint32_t shared_member;

struct param {
    enum is is;
    unsigned may;
    enum kind kind;
    const struct shape *shape;
    /* A number to call it with. */
    uint64_t good;
    /* The status for NULL; 0 for KEYLATCH_ENULL. */
    int32_t null_is;
    /* The status for a length without bytes; 0 for KEYLATCH_EINVALID. */
    int32_t too_many_is;
};

union argument {
    void *pointer;
    uint64_t number;
    void (*function)(void *);
};

#define MOST_PARAMS 11

enum prepared { PLAINLY, WITH_A_TIMEOUT, WITH_A_DEADLOCK, WITH_A_COMPLETION, WITH_AN_EVENT, WITH_A_SHARED_GRANT,
    WITH_A_WAITER, WITH_A_CHAIN, WITH_A_TOP_KEY, WITH_A_TIER };

struct function {
    const char *name;
    int32_t (*call)(union argument *);
    struct param params[MOST_PARAMS];
    enum prepared prepared;
    /* In a forked child; 0 for KEYLATCH_EFORKED, 1 for whatever it is in the parent. */
    int32_t in_child;
};

extern const struct function functions[];
extern const size_t function_count;

#endif
