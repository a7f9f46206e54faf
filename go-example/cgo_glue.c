#include "cgo_glue.h"

static keylatch_request_options options_of(const glue_options *options, const char *owner_name, size_t owner_name_len)
{
    keylatch_request_options all = {sizeof all};
    if (options != NULL) {
        all.owner = (const keylatch_owner *)options->owner;
        all.ttl_ns = options->ttl_ns;
        all.request_id = options->request_id;
        all.priority = options->priority;
        all.flags = options->flags;
        all.owner_name = owner_name;
        all.owner_name_len = owner_name_len;
    }
    return all;
}

glue_answer glue_request(uintptr_t manager, uintptr_t queue, const char *bucket, size_t bucket_len,
                         const char *object, size_t object_len, const char *version, size_t version_len,
                         int32_t mode, uint64_t timeout_ns, const glue_options *options, const char *owner_name,
                         size_t owner_name_len)
{
    keylatch_key key = {bucket, bucket_len, object, object_len, version, version_len};
    keylatch_request_options all = options_of(options, owner_name, owner_name_len);
    return glue_ask(manager, queue, &key, mode, timeout_ns, &all);
}

glue_answer glue_lock_pinned(uintptr_t pin, uintptr_t queue, int32_t mode, uint64_t timeout_ns)
{
    glue_answer answer = {0};
    if (queue == 0)
        answer.status = keylatch_try_pinned((keylatch_pinned_key *)pin, mode, NULL, &answer.number);
    else
        answer.status = keylatch_acquire_pinned_queue((keylatch_pinned_key *)pin, mode, timeout_ns, NULL,
                                                      (keylatch_queue *)queue, 0, &answer.number, &answer.ticket);
    return glue_with_failure(answer);
}

glue_answer glue_upgrade(uintptr_t manager, uintptr_t queue, uint64_t grant, uint64_t timeout_ns)
{
    glue_answer answer = {0};
    if (queue == 0)
        answer.status = keylatch_try_upgrade((keylatch_manager *)manager, grant);
    else
        answer.status = keylatch_upgrade_queue((keylatch_manager *)manager, grant, timeout_ns,
                                               (keylatch_queue *)queue, 0, &answer.ticket);
    return glue_with_failure(answer);
}

size_t glue_drain(uintptr_t queue, glue_result *results, size_t capacity)
{
    size_t fetched = 0, count;
    while (fetched < capacity) {
        glue_result *result = &results[fetched];
        /* One at a time: the library tells what the last of those that are fetched together failed with. */
        if (keylatch_queue_drain((keylatch_queue *)queue, &result->came, 1, &count) != KEYLATCH_OK || count == 0)
            break;
        /* Of a cancelled request there is nothing to tell that the canceller does not know. */
        int32_t status = result->came.status;
        result->failure = status == KEYLATCH_OK || status == KEYLATCH_ECANCELLED ? 0 : glue_failure();
        fetched++;
    }
    return fetched;
}

static keylatch_key key_among(const char *bytes, const glue_head *head)
{
    const char *object = bytes + head->object;
    keylatch_key key = {bytes + head->bucket, head->bucket_len, object, head->object_len, NULL, 0};
    if (head->version_len != GLUE_NO_VERSION) {
        /* An empty version must not be NULL, which the end of no bytes at all could be. */
        key.version = head->version_len > 0 ? object + head->object_len : "";
        key.version_len = head->version_len;
    }
    return key;
}

glue_answer glue_grant_key(uintptr_t manager, uint64_t grant, char *bytes, size_t room, glue_head *head)
{
    glue_answer answer = {0};
    keylatch_key key;
    answer.status = keylatch_grant_key((keylatch_manager *)manager, grant, bytes, room, &key);
    if (answer.status == KEYLATCH_OK) {
        head->bucket_len = (uint32_t)key.bucket_len;
        head->object = key.bucket_len;
        head->object_len = (uint32_t)key.object_len;
        head->version_len = key.version == NULL ? GLUE_NO_VERSION : (uint32_t)key.version_len;
    }
    return glue_with_failure(answer);
}

/* Batches of up to this many keys need no memory but the stack's. */
enum { ON_STACK = 128 };

glue_answer glue_batch(uintptr_t manager, const char *bytes, const glue_head *heads, size_t count,
                       const glue_options *options, const char *owner_name, size_t owner_name_len, int32_t waits,
                       uint64_t *grants)
{
    glue_answer answer = {0};
    keylatch_request_options all = options_of(options, owner_name, owner_name_len);
    keylatch_batch_item few[ON_STACK], *items = few;
    if (count > ON_STACK && (items = malloc(count * sizeof *items)) == NULL) {
        answer.status = KEYLATCH_ESYSTEM;
        return answer;
    }
    for (size_t number = 0; number < count; number++) {
        items[number].key = key_among(bytes, &heads[number]);
        items[number].mode = heads[number].mode;
        items[number].reserved = 0;
    }
    answer.status = keylatch_acquire_batch((keylatch_manager *)manager, items, count, 0,
                                           options != NULL ? &all : NULL, grants, NULL);
    /* What is about to be waited for need not be explained. */
    if (!waits || answer.status != KEYLATCH_ETIMEOUT)
        answer = glue_with_failure(answer);
    if (items != few)
        free(items);
    return answer;
}

glue_answer glue_in_order(uintptr_t manager, uintptr_t queue, const char *bytes, const glue_head *heads, size_t count,
                          uint64_t timeout_ns, const glue_options *options, const char *owner_name,
                          size_t owner_name_len, uint64_t *grants, size_t *next)
{
    glue_answer answer = {0};
    keylatch_request_options all = options_of(options, owner_name, owner_name_len);
    while (*next < count) {
        keylatch_key key = key_among(bytes, &heads[*next]);
        answer = glue_ask(manager, queue, &key, heads[*next].mode, timeout_ns, &all);
        if (answer.number == 0)
            break;
        grants[(*next)++] = answer.number;
    }
    return answer;
}

void glue_begin_leases(uintptr_t manager, const uint64_t *grants, size_t count, uint64_t ttl_ns)
{
    for (size_t number = 0; number < count; number++)
        if (grants[number] != 0)
            keylatch_renew((keylatch_manager *)manager, grants[number], ttl_ns);
}
