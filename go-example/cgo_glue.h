/*
 * What lies between Go and keylatch.h: the calls that Go does not make directly, because they would take several
 * crossings, and cgo makes each crossing dear. None of them calls back into Go, and none of them waits.
 */
#ifndef KEYLATCH_GO_GLUE_H
#define KEYLATCH_GO_GLUE_H

#include <keylatch.h>
#include <stdlib.h>

/* The package is written for this header. Another one has other functions, or means something else by the same. */
#define GLUE_MAJOR 0
#define GLUE_MINOR 1
#if !defined(KEYLATCH_VERSION_MAJOR) || !defined(KEYLATCH_ABI_VERSION)
#error "keylatch.h says no version: it is not the header that this Go package is written for"
#elif KEYLATCH_VERSION_MAJOR != GLUE_MAJOR || KEYLATCH_VERSION_MINOR != GLUE_MINOR || KEYLATCH_ABI_VERSION != 0
#error "keylatch.h is of another version than this Go package, which is written for 0.1: install the two from one release"
#endif

/* Handles and pointers to C memory are numbers for Go here: it neither follows nor checks them at each crossing. */

/* The result of a call: a grant, or a ticket, or a status that is not 0 and a failure (see glue_failure). */
typedef struct glue_answer {
    uint64_t number;
    uint64_t ticket;
    uintptr_t failure;
    int32_t status;
} glue_answer;

/* A completion with its failure. */
typedef struct glue_result {
    keylatch_completion came;
    uintptr_t failure;
} glue_result;

/*
 * What a failure was about: the first record of its block, before its holders and the links of its deadlock.
 *
 * A block is one piece of memory. Each record in it is a struct, and then the bytes of its texts in their order in the
 * struct; the struct has their lengths, and its pointers say nothing. Each begins at a multiple of eight bytes.
 */
typedef struct glue_about {
    /* How long the block is. */
    size_t length;
    keylatch_key key;
    size_t message_len;
    uint64_t waited_ns;
    size_t holders, more_holders, links;
    int32_t has_key;
} glue_about;

/*
 * What the calling thread's last failure was about, as a block, to be given back with free(); 0 if there is no memory.
 * The thread has to be the one that failed, which a goroutine may have left by its next crossing.
 */
uintptr_t glue_failure(void);

static inline glue_answer glue_with_failure(glue_answer answer)
{
    if (answer.status != KEYLATCH_OK)
        answer.failure = glue_failure();
    return answer;
}

/* What a request says of itself, besides the name of its owner. */
typedef struct glue_options {
    uintptr_t owner;
    uint64_t ttl_ns, request_id;
    uint32_t priority, flags;
} glue_options;

/* Asks for a key; if it is held, the result will lie in the queue. With queue 0 it is had without waiting or not. */
static inline glue_answer glue_ask(uintptr_t manager, uintptr_t queue, const keylatch_key *key, int32_t mode,
                                   uint64_t timeout_ns, const keylatch_request_options *options)
{
    glue_answer answer = {0, 0, 0, 0};
    if (queue == 0)
        answer.status = keylatch_try((keylatch_manager *)manager, key, mode, options, &answer.number);
    else
        answer.status = keylatch_acquire_queue((keylatch_manager *)manager, key, mode, timeout_ns, options,
                                               (keylatch_queue *)queue, 0, &answer.number, &answer.ticket);
    return glue_with_failure(answer);
}

/* The parts of the key are parameters: a struct Go would copy twice, and it would check what its pointers lead to. */
static inline glue_answer glue_lock(uintptr_t manager, uintptr_t queue, const char *bucket, size_t bucket_len,
                                    const char *object, size_t object_len, const char *version, size_t version_len,
                                    int32_t mode, uint64_t timeout_ns)
{
    keylatch_key key = {bucket, bucket_len, object, object_len, version, version_len};
    return glue_ask(manager, queue, &key, mode, timeout_ns, NULL);
}

glue_answer glue_request(uintptr_t manager, uintptr_t queue, const char *bucket, size_t bucket_len,
                         const char *object, size_t object_len, const char *version, size_t version_len,
                         int32_t mode, uint64_t timeout_ns, const glue_options *options, const char *owner_name,
                         size_t owner_name_len);

/* As glue_lock, for the key of a pin. */
glue_answer glue_lock_pinned(uintptr_t pin, uintptr_t queue, int32_t mode, uint64_t timeout_ns);

/* Asks for the grant to become exclusive: a ticket, or none if it is. With queue 0 it does not wait. */
glue_answer glue_upgrade(uintptr_t manager, uintptr_t queue, uint64_t grant, uint64_t timeout_ns);

static inline int32_t glue_release(uintptr_t manager, uint64_t grant)
{
    return keylatch_release((keylatch_manager *)manager, grant);
}

/* Fetches results without waiting, each with its failure, and says how many. */
size_t glue_drain(uintptr_t queue, glue_result *results, size_t capacity);

/* One of many keys. Its parts lie among the bytes of all: the bucket, which several may have, and the rest in one. */
typedef struct glue_head {
    size_t bucket, object;
    uint32_t bucket_len, object_len, version_len;
    int32_t mode;
} glue_head;
#define GLUE_NO_VERSION UINT32_MAX

/* The key of a grant as bytes and a head. */
glue_answer glue_grant_key(uintptr_t manager, uint64_t grant, char *bytes, size_t room, glue_head *head);

/*
 * Tries to have many keys together, or with a best effort those that can be had; grants has room for each. It is 0 for
 * one that is not had with a best effort, and for a key that was named before. options may be NULL. If waits is set
 * KEYLATCH_ETIMEOUT comes without a failure.
 */
glue_answer glue_batch(uintptr_t manager, const char *bytes, const glue_head *heads, size_t count,
                       const glue_options *options, const char *owner_name, size_t owner_name_len, int32_t waits,
                       uint64_t *grants);

/*
 * Takes many keys one after the other from *next on, waiting in the queue, and moves *next as far as it comes. The
 * answer is a ticket for the key there, or a failure, or neither when all are held.
 */
glue_answer glue_in_order(uintptr_t manager, uintptr_t queue, const char *bytes, const glue_head *heads, size_t count,
                          uint64_t timeout_ns, const glue_options *options, const char *owner_name,
                          size_t owner_name_len, uint64_t *grants, size_t *next);

/* Has the leases of many grants begin now. One that is 0, or lost since, has none. */
void glue_begin_leases(uintptr_t manager, const uint64_t *grants, size_t count, uint64_t ttl_ns);

#endif
