/*
 * What lies between Go and keylatch.h. Every function here does in one crossing what would otherwise take several: cgo
 * makes each crossing dear. None of them calls back into Go, and none of them waits.
 */
#ifndef KEYLATCH_GO_GLUE_H
#define KEYLATCH_GO_GLUE_H

#include <keylatch.h>
#include <stdbool.h>
#include <stdlib.h>

/* The package is written for this header. Another one has other functions, or means something else by the same. */
#define GLUE_MAJOR 0
#define GLUE_MINOR 1
#if !defined(KEYLATCH_VERSION_MAJOR) || !defined(KEYLATCH_ABI_VERSION)
#error "keylatch.h says no version: it is not the header that this Go package is written for"
#elif KEYLATCH_VERSION_MAJOR != GLUE_MAJOR || KEYLATCH_VERSION_MINOR != GLUE_MINOR || KEYLATCH_ABI_VERSION != 0
#error "keylatch.h is of another version than this Go package, which is written for 0.1: install the two from one release"
#endif

/* A library of another ABI does not link with this. */
static inline uint32_t glue_library(size_t *completion, size_t *holder, size_t *options)
{
    keylatch_abi_0();
    keylatch_struct_size(KEYLATCH_STRUCT_COMPLETION, completion);
    keylatch_struct_size(KEYLATCH_STRUCT_HOLDER, holder);
    keylatch_struct_size(KEYLATCH_STRUCT_MANAGER_OPTIONS, options);
    return keylatch_abi_version();
}

/* Handles and pointers to C memory are numbers for Go: it neither follows them nor checks them at each crossing. */

/*
 * The result of a call: a number, which is a grant or what was asked for, or a ticket, or a status that is not 0 and a
 * failure (see glue_failure).
 */
typedef struct glue_answer {
    uint64_t number;
    uint64_t ticket;
    uintptr_t failure;
    int32_t status;
} glue_answer;

/* A completion with its failure. */
typedef struct glue_result {
    uint64_t ticket;
    uint64_t grant;
    uintptr_t failure;
    int32_t status;
    int32_t reserved;
} glue_result;

/* In a mode: the key has the version that is the empty text. */
#define GLUE_EMPTY_VERSION 0x100
#define GLUE_MODE 0xff

static inline void glue_key(keylatch_key *key, const char *bucket, size_t bucket_len, const char *object,
                            size_t object_len, const char *version, size_t version_len, int32_t mode)
{
    key->bucket = bucket;
    key->bucket_len = bucket_len;
    key->object = object;
    key->object_len = object_len;
    key->version = version_len > 0 ? version : mode & GLUE_EMPTY_VERSION ? "" : NULL;
    key->version_len = version_len;
}

/*
 * What the calling thread's last failure was about, as one block of memory (layout: cgo_answers.go), to be given back with
 * glue_free(). It has to be asked for in the same crossing as what failed: a goroutine may be on another thread in
 * the next. 0 if there is no memory.
 */
uintptr_t glue_failure(void);

void glue_free(uintptr_t block);

static inline glue_answer glue_lock(uintptr_t manager, uintptr_t queue, const char *bucket, size_t bucket_len,
                                    const char *object, size_t object_len, const char *version, size_t version_len,
                                    int32_t mode, uint64_t timeout_ns)
{
    glue_answer answer = {0, 0, 0, 0};
    keylatch_key key;
    glue_key(&key, bucket, bucket_len, object, object_len, version, version_len, mode);
    answer.status =
        keylatch_acquire_queue((keylatch_manager *)manager, &key, mode & GLUE_MODE, timeout_ns, NULL,
                               (keylatch_queue *)queue, 0, &answer.number, &answer.ticket);
    if (answer.status != KEYLATCH_OK)
        answer.failure = glue_failure();
    return answer;
}

static inline glue_answer glue_try(uintptr_t manager, const char *bucket, size_t bucket_len, const char *object,
                                   size_t object_len, const char *version, size_t version_len, int32_t mode)
{
    glue_answer answer = {0, 0, 0, 0};
    keylatch_key key;
    glue_key(&key, bucket, bucket_len, object, object_len, version, version_len, mode);
    answer.status = keylatch_try((keylatch_manager *)manager, &key, mode & GLUE_MODE, NULL, &answer.number);
    if (answer.status != KEYLATCH_OK)
        answer.failure = glue_failure();
    return answer;
}

/* As glue_lock, or with queue 0 as glue_try, for the key of a pin. */
static inline glue_answer glue_lock_pinned(uintptr_t pin, uintptr_t queue, int32_t mode, uint64_t timeout_ns)
{
    glue_answer answer = {0, 0, 0, 0};
    if (queue == 0)
        answer.status = keylatch_try_pinned((keylatch_pinned_key *)pin, mode, NULL, &answer.number);
    else
        answer.status = keylatch_acquire_pinned_queue((keylatch_pinned_key *)pin, mode, timeout_ns, NULL,
                                                      (keylatch_queue *)queue, 0, &answer.number, &answer.ticket);
    if (answer.status != KEYLATCH_OK)
        answer.failure = glue_failure();
    return answer;
}

/* As glue_lock, or with queue 0 as glue_try, with everything that a request can say. */
glue_answer glue_request(uintptr_t manager, uintptr_t queue, const char *bucket, size_t bucket_len,
                         const char *object, size_t object_len, const char *version, size_t version_len,
                         int32_t mode, uint64_t timeout_ns, uintptr_t owner, const char *owner_name,
                         size_t owner_name_len, uint64_t ttl_ns, uint64_t request_id, uint32_t priority);

/*
 * Many keys: a head for each says how long its parts are, which lie one after the other in bytes. The bucket may be that of
 * the key before, which for the first is the empty one, and is not there again then.
 */
typedef struct glue_head {
    uint32_t bucket, object, version;
    int32_t mode;
} glue_head;
#define GLUE_SAME_BUCKET UINT32_MAX
#define GLUE_NO_VERSION UINT32_MAX

/*
 * glue_batch tries to have them all, or with best_effort those that can be had; grants has room for each. Not there:
 * 0, with a best effort, and a key that was named before. If waits is set KEYLATCH_ETIMEOUT comes without a failure.
 *
 * glue_in_order takes them one after the other from a place on, waiting in the queue, and says how far it came. The
 * answer is a ticket for the key there, or a failure, or neither when all are held. The place that is all zeros is the
 * first key; which is next is given by moving a place on with glue_next().
 *
 * glue_begin_leases has the leases of all of them begin now. A grant that is 0, or lost since, has none.
 */
typedef struct glue_place {
    /* The key's number, and where its bytes begin. */
    size_t number, begin;
    /* Where the bucket of the key before it is. */
    size_t bucket, bucket_len;
} glue_place;
glue_answer glue_batch(uintptr_t manager, const char *bytes, const glue_head *heads, size_t count,
                       uintptr_t owner, const char *owner_name, size_t owner_name_len, uint64_t ttl_ns,
                       uint32_t priority, int32_t best_effort, int32_t waits, uint64_t *grants);
glue_answer glue_in_order(uintptr_t manager, uintptr_t queue, const char *bytes, const glue_head *heads,
                          size_t count, uint64_t timeout_ns, uintptr_t owner, const char *owner_name,
                          size_t owner_name_len, uint32_t priority, uint64_t *grants, glue_place *place);
void glue_next(const glue_head *heads, glue_place *place);
void glue_begin_leases(uintptr_t manager, const uint64_t *grants, size_t count, uint64_t ttl_ns);

static inline int32_t glue_release(uintptr_t manager, uint64_t grant)
{
    return keylatch_release((keylatch_manager *)manager, grant);
}

static inline int32_t glue_release_many(uintptr_t manager, const uint64_t *grants, size_t count)
{
    return keylatch_release_many((keylatch_manager *)manager, grants, count, NULL);
}

static inline int32_t glue_cancel(uintptr_t manager, uint64_t ticket)
{
    int32_t ended;
    return keylatch_cancel((keylatch_manager *)manager, ticket, &ended);
}

/* Fetches results without waiting, each with its failure. How many, or a status. */
int32_t glue_drain(uintptr_t queue, glue_result *results, int32_t capacity);

/* What can be done with a grant, and asked of one. */
glue_answer glue_downgrade(uintptr_t manager, uint64_t grant);
glue_answer glue_try_upgrade(uintptr_t manager, uint64_t grant);
/* A ticket, or none if it was upgraded without waiting. */
glue_answer glue_upgrade(uintptr_t manager, uintptr_t queue, uint64_t grant, uint64_t timeout_ns);
glue_answer glue_renew(uintptr_t manager, uint64_t grant, uint64_t ttl_ns);
glue_answer glue_fence(uintptr_t manager, uint64_t grant);
glue_answer glue_previous_holder_died(uintptr_t manager, uint64_t grant);
glue_answer glue_remaining(uintptr_t manager, uint64_t grant);
glue_answer glue_is_valid(uintptr_t manager, uint64_t grant);
glue_answer glue_grant_mode(uintptr_t manager, uint64_t grant);
/* The key is bytes and a head. */
glue_answer glue_grant_key(uintptr_t manager, uint64_t grant, char *bytes, size_t room, glue_head *head);
glue_answer glue_is_current(uintptr_t manager, const char *bytes, const glue_head *head, uint64_t fence);

/* Managers, queues, owners and pins; the number is the handle, and of glue_queue_fd the descriptor. */
glue_answer glue_manager_new(keylatch_manager_options options);
glue_answer glue_owner_new(uintptr_t manager, const char *name, size_t name_len, const char *source,
                           size_t source_len, uint32_t flags);
glue_answer glue_queue_new(uintptr_t manager);
glue_answer glue_queue_fd(uintptr_t queue);
static inline int32_t glue_manager_close(uintptr_t manager)
{
    return keylatch_manager_close((keylatch_manager *)manager);
}
static inline int32_t glue_manager_free(uintptr_t manager)
{
    return keylatch_manager_free((keylatch_manager *)manager);
}
static inline int32_t glue_owner_free(uintptr_t owner)
{
    return keylatch_owner_free((keylatch_owner *)owner);
}
glue_answer glue_pin(uintptr_t manager, const char *bucket, size_t bucket_len, const char *object, size_t object_len,
                     const char *version, size_t version_len, int32_t mode);
static inline int32_t glue_unpin(uintptr_t pin)
{
    return keylatch_unpin((keylatch_pinned_key *)pin);
}
static inline int32_t glue_queue_free(uintptr_t queue)
{
    return keylatch_queue_free((keylatch_queue *)queue);
}

/* Figures; texts become blocks of memory, to be given back with glue_text_free(). */
glue_answer glue_metrics(uintptr_t manager, uint32_t shard, keylatch_metrics *metrics);
/* The header says that there are no more. */
#define GLUE_BUCKETS 64
glue_answer glue_wait_times(uintptr_t manager, uint32_t shard, keylatch_wait_bucket *buckets);
glue_answer glue_health(uintptr_t manager, keylatch_health *health);
glue_answer glue_adaptive(uintptr_t manager, keylatch_adaptive *adaptive);
glue_answer glue_openmetrics(uintptr_t manager, bool with_keys);
glue_answer glue_report(uintptr_t manager);
static inline void glue_text_free(uintptr_t text)
{
    keylatch_text_free((char *)text);
}

/*
 * Questions, and revoking. A filter is texts that lie one after the other, with a length for each, GLUE_ABSENT for
 * one that is not said: bucket, prefix, owner, source, and the three parts of a key. The number is a block of
 * entries (layout: cgo_answers.go), to be given back with glue_free(); of glue_chain the ticket is 1 if the chain goes
 * round. Each entry begins with what it is, and 0 ends them.
 */
#define GLUE_A_HOLDER 1
#define GLUE_A_WAITER 2
#define GLUE_A_LINK 3
#define GLUE_A_KEY 4

#define GLUE_ABSENT UINT32_MAX
#define GLUE_HOLDERS 1
#define GLUE_WAITERS 2
#define GLUE_FORCE_RELEASE 3
#define GLUE_EXPIRE 4
glue_answer glue_list(uintptr_t manager, int32_t what, const char *bytes, const uint32_t *lengths,
                      uint64_t older_than_ns, int32_t mode, uint32_t flags);
glue_answer glue_top(uintptr_t manager, int32_t by, size_t count);
glue_answer glue_chain(uintptr_t manager, const char *bytes, const glue_head *head, uintptr_t owner);
glue_answer glue_recent_deadlocks(uintptr_t manager);
/* The ticket is how many reports there were. */
glue_answer glue_lock_orders(uintptr_t manager);
glue_answer glue_owner_release_all(uintptr_t owner);

/* Events; of glue_events_next the number is a block of entries and the ticket is the kind. */
glue_answer glue_events_new(uintptr_t manager, uint64_t wait_above_ns, uint64_t hold_above_ns, uint32_t capacity);
glue_answer glue_events_fd(uintptr_t events);
glue_answer glue_events_next(uintptr_t events);
uint64_t glue_events_dropped(uintptr_t events);
static inline void glue_events_free(uintptr_t events)
{
    keylatch_events_free((keylatch_events *)events);
}

#endif
