/* The calls of shared tables that Go does not make directly. glue_shared_acquire alone waits. */
#ifndef KEYLATCH_GO_GLUE_SHARED_H
#define KEYLATCH_GO_GLUE_SHARED_H

#include "cgo_glue.h"

/* Without a word that cancels, it does not wait; with one, until that is not 0. */
static inline glue_answer glue_shared_acquire(uintptr_t table, const char *bucket, size_t bucket_len,
                                              const char *object, size_t object_len, const char *version,
                                              size_t version_len, int32_t mode, const uint32_t *cancelled,
                                              const char *owner, size_t owner_len)
{
    glue_answer answer = {0, 0, 0, 0};
    keylatch_key key = {bucket, bucket_len, object, object_len, version, version_len};
    keylatch_request_options options = KEYLATCH_REQUEST_OPTIONS_INIT;
    options.owner_name = owner;
    options.owner_name_len = owner_len;
    if (cancelled == NULL)
        answer.status = keylatch_shared_try((keylatch_shared_table *)table, &key, mode, &options, &answer.number);
    else
        answer.status = keylatch_shared_acquire_cancellable((keylatch_shared_table *)table, &key, mode,
                                                            KEYLATCH_WAIT_FOREVER, &options, cancelled, &answer.number);
    return glue_with_failure(answer);
}

enum { GLUE_SHARED_RELEASE, GLUE_SHARED_DOWNGRADE, GLUE_SHARED_UPGRADE };

static inline glue_answer glue_shared_change(uintptr_t table, uint64_t grant, int32_t what)
{
    glue_answer answer = {0, 0, 0, 0};
    keylatch_shared_table *of = (keylatch_shared_table *)table;
    answer.status = what == GLUE_SHARED_RELEASE     ? keylatch_shared_release(of, grant)
                    : what == GLUE_SHARED_DOWNGRADE ? keylatch_shared_downgrade(of, grant)
                                                      : keylatch_shared_try_upgrade(of, grant);
    return glue_with_failure(answer);
}

/* All holds, or those of one key, as a block; it is the answer's number. */
glue_answer glue_shared_holders(uintptr_t table, const keylatch_key *key);

#endif
