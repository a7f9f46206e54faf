/* The crossings of shared tables. glue_shared_acquire is the one function here that waits. */
#ifndef KEYLATCH_GO_GLUE_SHARED_H
#define KEYLATCH_GO_GLUE_SHARED_H

#include "cgo_glue.h"

static inline glue_answer glue_shared_open(const char *path, const char *label, size_t label_len, uint32_t keys,
                                           uint32_t members, uint32_t holds, uint32_t mode)
{
    glue_answer answer = {0, 0, 0, 0};
    keylatch_shared_options options = KEYLATCH_SHARED_OPTIONS_INIT;
    keylatch_shared_table *table = NULL;
    options.label = label;
    options.label_len = label_len;
    options.keys = keys;
    options.members = members;
    options.holds = holds;
    options.mode = mode;
    answer.status = keylatch_shared_open(path, &options, &table);
    if (answer.status != KEYLATCH_OK)
        answer.failure = glue_failure();
    answer.number = (uintptr_t)table;
    return answer;
}

static inline glue_answer glue_shared_free(uintptr_t table)
{
    glue_answer answer = {0, 0, 0, 0};
    answer.status = keylatch_shared_free((keylatch_shared_table *)table);
    if (answer.status != KEYLATCH_OK)
        answer.failure = glue_failure();
    return answer;
}

/* Without a word that cancels, it does not wait; with one, until that is not 0. */
static inline glue_answer glue_shared_acquire(uintptr_t table, const char *bucket, size_t bucket_len,
                                              const char *object, size_t object_len, const char *version,
                                              size_t version_len, int32_t mode, const uint32_t *cancelled,
                                              const char *owner, size_t owner_len)
{
    glue_answer answer = {0, 0, 0, 0};
    keylatch_key key;
    keylatch_request_options options = KEYLATCH_REQUEST_OPTIONS_INIT;
    glue_key(&key, bucket, bucket_len, object, object_len, version, version_len, mode);
    options.owner_name = owner;
    options.owner_name_len = owner_len;
    answer.status = cancelled == NULL
                        ? keylatch_shared_try((keylatch_shared_table *)table, &key, mode & GLUE_MODE, &options,
                                              &answer.number)
                        : keylatch_shared_acquire_cancellable((keylatch_shared_table *)table, &key, mode & GLUE_MODE,
                                                              KEYLATCH_WAIT_FOREVER, &options, cancelled,
                                                              &answer.number);
    if (answer.status != KEYLATCH_OK)
        answer.failure = glue_failure();
    return answer;
}

enum { GLUE_SHARED_RELEASE, GLUE_SHARED_DOWNGRADE, GLUE_SHARED_UPGRADE };

static inline glue_answer glue_shared_change(uintptr_t table, uint64_t grant, int32_t what)
{
    glue_answer answer = {0, 0, 0, 0};
    keylatch_shared_table *of = (keylatch_shared_table *)table;
    answer.status = what == GLUE_SHARED_RELEASE     ? keylatch_shared_release(of, grant)
                    : what == GLUE_SHARED_DOWNGRADE ? keylatch_shared_downgrade(of, grant)
                                                      : keylatch_shared_try_upgrade(of, grant);
    if (answer.status != KEYLATCH_OK)
        answer.failure = glue_failure();
    return answer;
}

static inline glue_answer glue_shared_hold(uintptr_t table, uint64_t grant, uint64_t *fence, int32_t *died,
                                           int32_t *valid)
{
    glue_answer answer = {0, 0, 0, 0};
    keylatch_shared_hold hold = KEYLATCH_SHARED_HOLD_INIT;
    answer.status = keylatch_shared_hold_info((keylatch_shared_table *)table, grant, &hold);
    if (answer.status != KEYLATCH_OK)
        answer.failure = glue_failure();
    *fence = hold.fence;
    *died = (int32_t)hold.previous_holder_died;
    *valid = (int32_t)hold.is_valid;
    return answer;
}

/* All holds, or those of one key, as a block. */
glue_answer glue_shared_holders(uintptr_t table, const keylatch_key *key);

static inline glue_answer glue_shared_list(uintptr_t table, const char *bucket, size_t bucket_len,
                                           const char *object, size_t object_len, const char *version,
                                           size_t version_len, int32_t mode, int32_t of_one_key)
{
    keylatch_key key;
    glue_key(&key, bucket, bucket_len, object, object_len, version, version_len, mode);
    return glue_shared_holders(table, of_one_key ? &key : NULL);
}

/* How many processes wait. */
static inline glue_answer glue_shared_waiting(uintptr_t table, const char *bucket, size_t bucket_len,
                                              const char *object, size_t object_len, const char *version,
                                              size_t version_len, int32_t mode)
{
    glue_answer answer = {0, 0, 0, 0};
    keylatch_key key;
    size_t count = 0;
    glue_key(&key, bucket, bucket_len, object, object_len, version, version_len, mode);
    answer.status = keylatch_shared_waiting((keylatch_shared_table *)table, &key, &count);
    if (answer.status != KEYLATCH_OK)
        answer.failure = glue_failure();
    answer.number = count;
    return answer;
}

static inline glue_answer glue_shared_revoke(uintptr_t table, uint64_t hold, uint32_t member)
{
    glue_answer answer = {0, 0, 0, 0};
    answer.status = keylatch_shared_revoke((keylatch_shared_table *)table, hold, member);
    if (answer.status != KEYLATCH_OK)
        answer.failure = glue_failure();
    return answer;
}

#endif
