#include "cgo_glue_inner.h"

glue_answer glue_request(uintptr_t manager, uintptr_t queue, const char *bucket, size_t bucket_len,
                         const char *object, size_t object_len, const char *version, size_t version_len,
                         int32_t mode, uint64_t timeout_ns, uintptr_t owner, const char *owner_name,
                         size_t owner_name_len, uint64_t ttl_ns, uint64_t request_id, uint32_t priority)
{
    glue_answer answer = {0};
    keylatch_key key;
    keylatch_request_options options = {sizeof options};
    options.owner = (const keylatch_owner *)owner;
    options.owner_name = owner_name;
    options.owner_name_len = owner_name_len;
    options.ttl_ns = ttl_ns;
    options.request_id = request_id;
    options.priority = priority;
    glue_key(&key, bucket, bucket_len, object, object_len, version, version_len, mode);
    if (queue == 0)
        answer.status = keylatch_try((keylatch_manager *)manager, &key, mode & GLUE_MODE, &options, &answer.number);
    else
        answer.status = keylatch_acquire_queue((keylatch_manager *)manager, &key, mode & GLUE_MODE, timeout_ns,
                                               &options, (keylatch_queue *)queue, 0, &answer.number, &answer.ticket);
    if (answer.status != KEYLATCH_OK)
        answer.failure = glue_failure();
    return answer;
}

/* Batches of up to this many keys need no memory but the stack's. */
enum { ON_STACK = 128 };

glue_answer glue_batch(uintptr_t manager, const char *bytes, const glue_head *heads, size_t count,
                       uintptr_t owner, const char *owner_name, size_t owner_name_len, uint64_t ttl_ns,
                       uint32_t priority, int32_t best_effort, int32_t waits, uint64_t *grants)
{
    glue_answer answer = {0};
    keylatch_request_options options = {sizeof options}, *given = NULL;
    if (owner != 0 || owner_name_len != 0 || ttl_ns != 0 || priority != 0 || best_effort) {
        options.owner = (const keylatch_owner *)owner;
        options.owner_name = owner_name;
        options.owner_name_len = owner_name_len;
        options.ttl_ns = ttl_ns;
        options.priority = priority;
        options.flags = best_effort ? KEYLATCH_BEST_EFFORT : 0;
        given = &options;
    }
    keylatch_batch_item few[ON_STACK], *items = few;
    if (count > ON_STACK && (items = malloc(count * sizeof *items)) == NULL) {
        answer.status = KEYLATCH_ESYSTEM;
        return answer;
    }
    for (size_t number = 0; number < count; number++) {
        items[number].key = next_key(&bytes, &heads[number], number > 0 ? &items[number - 1].key : NULL);
        items[number].mode = heads[number].mode;
        items[number].reserved = 0;
    }
    answer.status = keylatch_acquire_batch((keylatch_manager *)manager, items, count, 0, given, grants, NULL);
    /* What is about to be waited for need not be explained. */
    if (answer.status != KEYLATCH_OK && !(waits && answer.status == KEYLATCH_ETIMEOUT))
        answer.failure = glue_failure();
    if (items != few)
        free(items);
    return answer;
}

glue_answer glue_in_order(uintptr_t manager, uintptr_t queue, const char *bytes, const glue_head *heads,
                          size_t count, uint64_t timeout_ns, uintptr_t owner, const char *owner_name,
                          size_t owner_name_len, uint32_t priority, uint64_t *grants, glue_place *place)
{
    glue_answer answer = {0};
    keylatch_request_options options = {sizeof options};
    options.owner = (const keylatch_owner *)owner;
    options.owner_name = owner_name;
    options.owner_name_len = owner_name_len;
    options.priority = priority;
    while (place->number < count) {
        const glue_head *head = &heads[place->number];
        keylatch_key before = {0};
        before.bucket = bytes + place->bucket;
        before.bucket_len = place->bucket_len;
        const char *at = bytes + place->begin;
        keylatch_key key = next_key(&at, head, &before);
        answer.status = keylatch_acquire_queue((keylatch_manager *)manager, &key, head->mode, timeout_ns, &options,
                                               (keylatch_queue *)queue, 0, &answer.number, &answer.ticket);
        if (answer.status != KEYLATCH_OK) {
            answer.failure = glue_failure();
            return answer;
        }
        if (answer.ticket != 0)
            return answer;
        grants[place->number] = answer.number;
        glue_next(heads, place);
    }
    answer.number = 0;
    return answer;
}

void glue_next(const glue_head *heads, glue_place *place)
{
    const glue_head *head = &heads[place->number++];
    if (head->bucket != GLUE_SAME_BUCKET) {
        place->bucket = place->begin;
        place->bucket_len = head->bucket;
        place->begin += head->bucket;
    }
    place->begin += head->object;
    place->begin += head->version == GLUE_NO_VERSION ? 0 : head->version;
}

void glue_begin_leases(uintptr_t manager, const uint64_t *grants, size_t count, uint64_t ttl_ns)
{
    for (size_t number = 0; number < count; number++)
        if (grants[number] != 0)
            keylatch_renew((keylatch_manager *)manager, grants[number], ttl_ns);
}

int32_t glue_drain(uintptr_t queue, glue_result *results, int32_t capacity)
{
    int32_t fetched = 0;
    while (fetched < capacity) {
        keylatch_completion one;
        size_t count;
        int32_t status = keylatch_queue_drain((keylatch_queue *)queue, &one, 1, &count);
        if (status != KEYLATCH_OK)
            return fetched > 0 ? fetched : status;
        if (count == 0)
            break;
        glue_result *to = &results[fetched++];
        to->ticket = one.ticket;
        to->grant = one.grant;
        to->status = one.status;
        to->reserved = 0;
        /* Of a cancelled request there is nothing to tell that the canceller does not know. */
        to->failure = one.status == KEYLATCH_OK || one.status == KEYLATCH_ECANCELLED ? 0 : glue_failure();
    }
    return fetched;
}

glue_answer glue_downgrade(uintptr_t manager, uint64_t grant)
{
    glue_answer answer = {0};
    answer.status = keylatch_downgrade((keylatch_manager *)manager, grant);
    return with_failure(answer);
}

glue_answer glue_try_upgrade(uintptr_t manager, uint64_t grant)
{
    glue_answer answer = {0};
    answer.status = keylatch_try_upgrade((keylatch_manager *)manager, grant);
    return with_failure(answer);
}

glue_answer glue_upgrade(uintptr_t manager, uintptr_t queue, uint64_t grant, uint64_t timeout_ns)
{
    glue_answer answer = {0};
    answer.status = keylatch_upgrade_queue((keylatch_manager *)manager, grant, timeout_ns, (keylatch_queue *)queue, 0,
                                           &answer.ticket);
    return with_failure(answer);
}

glue_answer glue_renew(uintptr_t manager, uint64_t grant, uint64_t ttl_ns)
{
    glue_answer answer = {0};
    answer.status = keylatch_renew((keylatch_manager *)manager, grant, ttl_ns);
    return with_failure(answer);
}

glue_answer glue_fence(uintptr_t manager, uint64_t grant)
{
    glue_answer answer = {0};
    answer.status = keylatch_fence((keylatch_manager *)manager, grant, &answer.number);
    return with_failure(answer);
}

glue_answer glue_previous_holder_died(uintptr_t manager, uint64_t grant)
{
    glue_answer answer = {0};
    int32_t died = 0;
    answer.status = keylatch_previous_holder_died((keylatch_manager *)manager, grant, &died);
    answer.number = (uint64_t)died;
    return with_failure(answer);
}

glue_answer glue_remaining(uintptr_t manager, uint64_t grant)
{
    glue_answer answer = {0};
    answer.status = keylatch_remaining((keylatch_manager *)manager, grant, &answer.number);
    return with_failure(answer);
}

glue_answer glue_is_valid(uintptr_t manager, uint64_t grant)
{
    glue_answer answer = {0};
    int32_t valid = 0;
    answer.status = keylatch_is_valid((keylatch_manager *)manager, grant, &valid);
    answer.number = (uint64_t)valid;
    return with_failure(answer);
}

glue_answer glue_grant_mode(uintptr_t manager, uint64_t grant)
{
    glue_answer answer = {0};
    int32_t mode = 0;
    answer.status = keylatch_grant_mode((keylatch_manager *)manager, grant, &mode);
    answer.number = (uint64_t)mode;
    return with_failure(answer);
}

glue_answer glue_grant_key(uintptr_t manager, uint64_t grant, char *bytes, size_t room, glue_head *head)
{
    glue_answer answer = {0};
    keylatch_key key;
    answer.status = keylatch_grant_key((keylatch_manager *)manager, grant, bytes, room, &key);
    if (answer.status == KEYLATCH_OK) {
        head->bucket = (uint32_t)key.bucket_len;
        head->object = (uint32_t)key.object_len;
        head->version = key.version == NULL ? GLUE_NO_VERSION : (uint32_t)key.version_len;
    }
    return with_failure(answer);
}

glue_answer glue_is_current(uintptr_t manager, const char *bytes, const glue_head *head, uint64_t fence)
{
    glue_answer answer = {0};
    keylatch_key key = next_key(&bytes, head, NULL);
    int32_t current = 0;
    answer.status = keylatch_is_current((keylatch_manager *)manager, &key, fence, &current);
    answer.number = (uint64_t)current;
    return with_failure(answer);
}

glue_answer glue_manager_new(keylatch_manager_options options)
{
    glue_answer answer = {0};
    keylatch_manager *manager = NULL;
    options.struct_size = sizeof options;
    answer.status = keylatch_manager_new(&options, &manager);
    answer.number = (uint64_t)(uintptr_t)manager;
    return with_failure(answer);
}

glue_answer glue_owner_new(uintptr_t manager, const char *name, size_t name_len, const char *source,
                           size_t source_len, uint32_t flags)
{
    glue_answer answer = {0};
    keylatch_owner *owner = NULL;
    keylatch_owner_options options = {sizeof options};
    options.source = source;
    options.source_len = source_len;
    options.flags = flags;
    answer.status = keylatch_owner_new((keylatch_manager *)manager, name, name_len, &options, &owner);
    answer.number = (uint64_t)(uintptr_t)owner;
    return with_failure(answer);
}

glue_answer glue_pin(uintptr_t manager, const char *bucket, size_t bucket_len, const char *object, size_t object_len,
                     const char *version, size_t version_len, int32_t mode)
{
    glue_answer answer = {0};
    keylatch_key key;
    keylatch_pinned_key *pin = NULL;
    glue_key(&key, bucket, bucket_len, object, object_len, version, version_len, mode);
    answer.status = keylatch_pin((keylatch_manager *)manager, &key, &pin);
    answer.number = (uint64_t)(uintptr_t)pin;
    return with_failure(answer);
}

glue_answer glue_queue_new(uintptr_t manager)
{
    glue_answer answer = {0};
    keylatch_queue *queue = NULL;
    answer.status = keylatch_queue_new((keylatch_manager *)manager, &queue);
    answer.number = (uint64_t)(uintptr_t)queue;
    return with_failure(answer);
}

glue_answer glue_queue_fd(uintptr_t queue)
{
    glue_answer answer = {0};
    int32_t fd = -1;
    answer.status = keylatch_queue_fd((keylatch_queue *)queue, &fd);
    answer.number = (uint64_t)fd;
    return with_failure(answer);
}

glue_answer glue_metrics(uintptr_t manager, uint32_t shard, keylatch_metrics *metrics)
{
    glue_answer answer = {0};
    metrics->struct_size = sizeof *metrics;
    answer.status = keylatch_manager_metrics((keylatch_manager *)manager, shard, metrics);
    return with_failure(answer);
}

glue_answer glue_wait_times(uintptr_t manager, uint32_t shard, keylatch_wait_bucket *buckets)
{
    glue_answer answer = {0};
    size_t count = 0;
    answer.status = keylatch_manager_wait_times((keylatch_manager *)manager, shard, buckets, GLUE_BUCKETS, &count);
    answer.number = count;
    return with_failure(answer);
}

glue_answer glue_health(uintptr_t manager, keylatch_health *health)
{
    glue_answer answer = {0};
    char *problems = NULL;
    health->struct_size = sizeof *health;
    answer.status = keylatch_manager_health((keylatch_manager *)manager, health, &problems);
    answer.number = (uint64_t)(uintptr_t)problems;
    return with_failure(answer);
}

glue_answer glue_adaptive(uintptr_t manager, keylatch_adaptive *adaptive)
{
    glue_answer answer = {0};
    adaptive->struct_size = sizeof *adaptive;
    answer.status = keylatch_manager_adaptive((keylatch_manager *)manager, adaptive);
    return with_failure(answer);
}

glue_answer glue_openmetrics(uintptr_t manager, bool with_keys)
{
    glue_answer answer = {0};
    char *text = NULL;
    const keylatch_manager *locks = (keylatch_manager *)manager;
    answer.status = with_keys ? keylatch_manager_openmetrics_with_keys(locks, &text) : keylatch_manager_openmetrics(locks, &text);
    answer.number = (uint64_t)(uintptr_t)text;
    return with_failure(answer);
}

glue_answer glue_report(uintptr_t manager)
{
    glue_answer answer = {0};
    char *text = NULL;
    answer.status = keylatch_manager_report((keylatch_manager *)manager, &text);
    answer.number = (uint64_t)(uintptr_t)text;
    return with_failure(answer);
}
