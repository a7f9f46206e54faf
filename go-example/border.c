#include "border.h"

/* A block of memory that grows, for what has no fixed size. Read by border.go. */
typedef struct block {
    char *bytes;
    size_t length, room;
    int lost;
} block;

static void put(block *to, const void *bytes, size_t length)
{
    if (to->lost || length == 0)
        return;
    if (to->length + length > to->room) {
        size_t room = (to->length + length) * 2;
        char *bytes_now = realloc(to->bytes, room);
        if (bytes_now == NULL) {
            to->lost = 1;
            return;
        }
        to->bytes = bytes_now;
        to->room = room;
    }
    memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
}

static void put_number(block *to, uint64_t number)
{
    put(to, &number, sizeof number);
}

static void put_text(block *to, const void *text, size_t length)
{
    put_number(to, length);
    put(to, text, length);
}

static void put_key(block *to, const keylatch_key *key)
{
    put_text(to, key->bucket, key->bucket_len);
    put_text(to, key->object, key->object_len);
    put_number(to, key->version != NULL);
    put_text(to, key->version, key->version_len);
}

static void put_party(block *to, const keylatch_party *party)
{
    put_number(to, 1);
    put_key(to, &party->key);
    put_text(to, party->owner, party->owner_len);
    put_text(to, party->source, party->source_len);
    put_number(to, party->grant);
    put_number(to, party->fence);
    put_number(to, party->time_ns);
    put_number(to, party->lease_ns);
    put_number(to, party->position);
    put_number(to, party->waiters);
    put_number(to, party->longest_wait_ns);
    put_number(to, party->link);
    put_number(to, party->after);
    put_number(to, (uint64_t)party->mode);
    put_number(to, party->role);
    put_number(to, (uint64_t)party->blocked_by);
    put_number(to, party->priority);
    put_number(to, party->flags);
}

static void put_end(block *to)
{
    put_number(to, 0);
}

/* The block, with its length in front; 0 if there was no memory for it. */
static uintptr_t finished(block *made)
{
    if (made->lost) {
        free(made->bytes);
        return 0;
    }
    uint64_t length = made->length;
    memcpy(made->bytes, &length, sizeof length);
    return (uintptr_t)made->bytes;
}

uintptr_t border_failure(void)
{
    block made = {0};
    put_number(&made, 0);
    const char *message = keylatch_last_error();
    put_text(&made, message, strlen(message));
    keylatch_key key;
    int has_key = keylatch_last_key(&key) == KEYLATCH_OK;
    put_number(&made, (uint64_t)has_key);
    if (has_key)
        put_key(&made, &key);
    uint64_t waited;
    put_number(&made, keylatch_last_waited(&waited) == KEYLATCH_OK ? waited : 0);
    keylatch_party party = {sizeof party};
    size_t more = 0, index;
    for (index = 0; keylatch_last_holder(index, &party, &more) == KEYLATCH_OK; index++) {
        put_party(&made, &party);
    }
    put_end(&made);
    put_number(&made, more);
    for (index = 0; keylatch_last_cycle_link(index, &party) == KEYLATCH_OK; index++) {
        put_party(&made, &party);
    }
    put_end(&made);
    return finished(&made);
}

void border_free(uintptr_t made)
{
    free((void *)made);
}

border_answer border_request(uintptr_t manager, uintptr_t queue, const char *bucket, size_t bucket_len,
                             const char *object, size_t object_len, const char *version, size_t version_len,
                             int32_t mode, uint64_t timeout_ns, uintptr_t owner, const char *owner_name,
                             size_t owner_name_len, uint64_t ttl_ns, uint64_t request_id, uint32_t priority)
{
    border_answer answer = {0};
    keylatch_key key;
    keylatch_request_options options = {sizeof options};
    options.owner = (const keylatch_owner *)owner;
    options.owner_name = owner_name;
    options.owner_name_len = owner_name_len;
    options.ttl_ns = ttl_ns;
    options.request_id = request_id;
    options.priority = priority;
    border_key(&key, bucket, bucket_len, object, object_len, version, version_len, mode);
    if (queue == 0)
        answer.status = keylatch_try((keylatch_manager *)manager, &key, mode & BORDER_MODE, &options, &answer.number);
    else
        answer.status = keylatch_acquire_queue((keylatch_manager *)manager, &key, mode & BORDER_MODE, timeout_ns,
                                               &options, (keylatch_queue *)queue, 0, &answer.number, &answer.ticket);
    if (answer.status != KEYLATCH_OK)
        answer.failure = border_failure();
    return answer;
}

/* Reads the key at *bytes and moves *bytes behind it. */
static keylatch_key next_key(const char **bytes, const uint32_t *lengths)
{
    keylatch_key key;
    key.bucket = *bytes;
    key.bucket_len = lengths[0];
    *bytes += lengths[0];
    key.object = *bytes;
    key.object_len = lengths[1];
    *bytes += lengths[1];
    if (lengths[2] == BORDER_NO_VERSION) {
        key.version = NULL;
        key.version_len = 0;
    } else {
        /* An empty version must not be NULL, which the end of no bytes at all could be. */
        key.version = lengths[2] > 0 ? *bytes : "";
        key.version_len = lengths[2];
        *bytes += lengths[2];
    }
    return key;
}

/* Batches of up to this many keys need no memory but the stack's. */
enum { ON_STACK = 128 };

border_answer border_batch(uintptr_t manager, const char *bytes, const uint32_t *lengths, const int32_t *modes,
                           size_t count, uintptr_t owner, const char *owner_name, size_t owner_name_len,
                           uint64_t ttl_ns, uint32_t priority, int32_t best_effort, uint64_t *grants)
{
    border_answer answer = {0};
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
        items[number].key = next_key(&bytes, lengths + 3 * number);
        items[number].mode = modes[number];
        items[number].reserved = 0;
    }
    answer.status = keylatch_acquire_batch((keylatch_manager *)manager, items, count, 0, given, grants, NULL);
    /* Of what is held nothing has to be told: it is about to be waited for. */
    if (answer.status != KEYLATCH_OK && answer.status != KEYLATCH_ETIMEOUT)
        answer.failure = border_failure();
    if (items != few)
        free(items);
    return answer;
}

border_answer border_in_order(uintptr_t manager, uintptr_t queue, const char *bytes, const uint32_t *lengths,
                              const int32_t *modes, size_t count, uint64_t timeout_ns, uintptr_t owner,
                              const char *owner_name, size_t owner_name_len, uint64_t ttl_ns, uint32_t priority,
                              uint64_t *grants, size_t *next)
{
    border_answer answer = {0};
    keylatch_request_options options = {sizeof options};
    options.owner = (const keylatch_owner *)owner;
    options.owner_name = owner_name;
    options.owner_name_len = owner_name_len;
    options.ttl_ns = ttl_ns;
    options.priority = priority;
    for (size_t number = 0; number < count; number++) {
        keylatch_key key = next_key(&bytes, lengths + 3 * number);
        if (number < *next)
            continue;
        answer.status =
            keylatch_acquire_queue((keylatch_manager *)manager, &key, modes[number], timeout_ns, &options,
                                   (keylatch_queue *)queue, 0, &answer.number, &answer.ticket);
        if (answer.status != KEYLATCH_OK)
            answer.failure = border_failure();
        if (answer.status != KEYLATCH_OK || answer.ticket != 0) {
            *next = number;
            return answer;
        }
        grants[number] = answer.number;
    }
    *next = count;
    answer.number = 0;
    return answer;
}

int32_t border_drain(uintptr_t queue, border_result *results, int32_t capacity)
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
        border_result *to = &results[fetched++];
        to->ticket = one.ticket;
        to->grant = one.grant;
        to->status = one.status;
        to->reserved = 0;
        /* Of a cancelled request there is nothing to tell that the canceller does not know. */
        to->failure = one.status == KEYLATCH_OK || one.status == KEYLATCH_ECANCELLED ? 0 : border_failure();
    }
    return fetched;
}

/* Gives the answer its failure, if it is one. */
static border_answer told(border_answer answer)
{
    if (answer.status != KEYLATCH_OK)
        answer.failure = border_failure();
    return answer;
}

border_answer border_downgrade(uintptr_t manager, uint64_t grant)
{
    border_answer answer = {0};
    answer.status = keylatch_downgrade((keylatch_manager *)manager, grant);
    return told(answer);
}

border_answer border_try_upgrade(uintptr_t manager, uint64_t grant)
{
    border_answer answer = {0};
    answer.status = keylatch_try_upgrade((keylatch_manager *)manager, grant);
    return told(answer);
}

border_answer border_upgrade(uintptr_t manager, uintptr_t queue, uint64_t grant, uint64_t timeout_ns)
{
    border_answer answer = {0};
    answer.status = keylatch_upgrade_queue((keylatch_manager *)manager, grant, timeout_ns, (keylatch_queue *)queue, 0,
                                           &answer.ticket);
    return told(answer);
}

border_answer border_renew(uintptr_t manager, uint64_t grant, uint64_t ttl_ns)
{
    border_answer answer = {0};
    answer.status = keylatch_renew((keylatch_manager *)manager, grant, ttl_ns);
    return told(answer);
}

border_answer border_fence(uintptr_t manager, uint64_t grant)
{
    border_answer answer = {0};
    answer.status = keylatch_fence((keylatch_manager *)manager, grant, &answer.number);
    return told(answer);
}

border_answer border_remaining(uintptr_t manager, uint64_t grant)
{
    border_answer answer = {0};
    answer.status = keylatch_remaining((keylatch_manager *)manager, grant, &answer.number);
    return told(answer);
}

border_answer border_is_valid(uintptr_t manager, uint64_t grant)
{
    border_answer answer = {0};
    int32_t valid = 0;
    answer.status = keylatch_is_valid((keylatch_manager *)manager, grant, &valid);
    answer.number = (uint64_t)valid;
    return told(answer);
}

border_answer border_grant_mode(uintptr_t manager, uint64_t grant)
{
    border_answer answer = {0};
    int32_t mode = 0;
    answer.status = keylatch_grant_mode((keylatch_manager *)manager, grant, &mode);
    answer.number = (uint64_t)mode;
    return told(answer);
}

border_answer border_grant_key(uintptr_t manager, uint64_t grant, char *bytes, size_t room, uint32_t *lengths)
{
    border_answer answer = {0};
    keylatch_key key;
    answer.status = keylatch_grant_key((keylatch_manager *)manager, grant, bytes, room, &key);
    if (answer.status == KEYLATCH_OK) {
        lengths[0] = (uint32_t)key.bucket_len;
        lengths[1] = (uint32_t)key.object_len;
        lengths[2] = key.version == NULL ? BORDER_NO_VERSION : (uint32_t)key.version_len;
    }
    return told(answer);
}

border_answer border_is_current(uintptr_t manager, const char *bytes, const uint32_t *lengths, uint64_t fence)
{
    border_answer answer = {0};
    keylatch_key key = next_key(&bytes, lengths);
    int32_t current = 0;
    answer.status = keylatch_is_current((keylatch_manager *)manager, &key, fence, &current);
    answer.number = (uint64_t)current;
    return told(answer);
}

border_answer border_manager_new(keylatch_manager_options options)
{
    border_answer answer = {0};
    keylatch_manager *manager = NULL;
    options.struct_size = sizeof options;
    answer.status = keylatch_manager_new(&options, &manager);
    answer.number = (uint64_t)(uintptr_t)manager;
    return told(answer);
}

border_answer border_owner_new(uintptr_t manager, const char *name, size_t name_len, const char *source,
                               size_t source_len, uint32_t flags)
{
    border_answer answer = {0};
    keylatch_owner *owner = NULL;
    keylatch_owner_options options = {sizeof options};
    options.source = source;
    options.source_len = source_len;
    options.flags = flags;
    answer.status = keylatch_owner_new((keylatch_manager *)manager, name, name_len, &options, &owner);
    answer.number = (uint64_t)(uintptr_t)owner;
    return told(answer);
}

border_answer border_queue_new(uintptr_t manager)
{
    border_answer answer = {0};
    keylatch_queue *queue = NULL;
    answer.status = keylatch_queue_new((keylatch_manager *)manager, &queue);
    answer.number = (uint64_t)(uintptr_t)queue;
    return told(answer);
}

border_answer border_queue_fd(uintptr_t queue)
{
    border_answer answer = {0};
    int32_t fd = -1;
    answer.status = keylatch_queue_fd((keylatch_queue *)queue, &fd);
    answer.number = (uint64_t)fd;
    return told(answer);
}

border_answer border_metrics(uintptr_t manager, uint32_t shard, keylatch_metrics *metrics)
{
    border_answer answer = {0};
    metrics->struct_size = sizeof *metrics;
    answer.status = keylatch_manager_metrics((keylatch_manager *)manager, shard, metrics);
    return told(answer);
}

border_answer border_health(uintptr_t manager, keylatch_health *health)
{
    border_answer answer = {0};
    char *problems = NULL;
    health->struct_size = sizeof *health;
    answer.status = keylatch_manager_health((keylatch_manager *)manager, health, &problems);
    answer.number = (uint64_t)(uintptr_t)problems;
    return told(answer);
}

border_answer border_adaptive(uintptr_t manager, keylatch_adaptive *adaptive)
{
    border_answer answer = {0};
    adaptive->struct_size = sizeof *adaptive;
    answer.status = keylatch_manager_adaptive((keylatch_manager *)manager, adaptive);
    return told(answer);
}

border_answer border_openmetrics(uintptr_t manager)
{
    border_answer answer = {0};
    char *text = NULL;
    answer.status = keylatch_manager_openmetrics((keylatch_manager *)manager, &text);
    answer.number = (uint64_t)(uintptr_t)text;
    return told(answer);
}

border_answer border_report(uintptr_t manager)
{
    border_answer answer = {0};
    char *text = NULL;
    answer.status = keylatch_manager_report((keylatch_manager *)manager, &text);
    answer.number = (uint64_t)(uintptr_t)text;
    return told(answer);
}

/* All parties of a listing, as a block; frees the listing. */
static uintptr_t all_of(keylatch_listing *listing)
{
    block made = {0};
    keylatch_party party = {sizeof party};
    put_number(&made, 0);
    while (keylatch_listing_next(listing, &party) == KEYLATCH_OK)
        put_party(&made, &party);
    put_end(&made);
    keylatch_listing_free(listing);
    return finished(&made);
}

/* The next text of a filter; NULL if it is not there. */
static const char *next_text(const char **bytes, uint32_t length, size_t *out_length)
{
    const char *text = *bytes;
    *out_length = 0;
    if (length == BORDER_ABSENT)
        return NULL;
    *bytes += length;
    *out_length = length;
    return length > 0 ? text : "";
}

border_answer border_list(uintptr_t manager, int32_t what, const char *bytes, const uint32_t *lengths,
                          uint64_t older_than_ns, int32_t mode, uint32_t flags)
{
    border_answer answer = {0};
    keylatch_listing *listing = NULL;
    keylatch_manager *locks = (keylatch_manager *)manager;
    keylatch_key key;
    keylatch_filter filter = {sizeof filter};
    filter.bucket = next_text(&bytes, lengths[0], &filter.bucket_len);
    filter.prefix = next_text(&bytes, lengths[1], &filter.prefix_len);
    filter.owner = next_text(&bytes, lengths[2], &filter.owner_len);
    filter.source = next_text(&bytes, lengths[3], &filter.source_len);
    if (lengths[4] != BORDER_ABSENT) {
        key = next_key(&bytes, lengths + 4);
        filter.key = &key;
    }
    filter.older_than_ns = older_than_ns;
    filter.mode = mode;
    filter.flags = flags;
    switch (what) {
    case BORDER_HOLDERS:
        answer.status = keylatch_holders(locks, &filter, &listing);
        break;
    case BORDER_WAITERS:
        answer.status = keylatch_waiters(locks, &filter, &listing);
        break;
    case BORDER_FORCE_RELEASE:
        answer.status = keylatch_force_release(locks, &filter, NULL, &listing);
        break;
    default:
        answer.status = keylatch_expire(locks, &filter, NULL, &listing);
        break;
    }
    if (answer.status == KEYLATCH_OK)
        answer.number = all_of(listing);
    return told(answer);
}

border_answer border_top(uintptr_t manager, int32_t by, size_t count)
{
    border_answer answer = {0};
    keylatch_listing *listing = NULL;
    answer.status = keylatch_top((keylatch_manager *)manager, by, count, &listing);
    if (answer.status == KEYLATCH_OK)
        answer.number = all_of(listing);
    return told(answer);
}

border_answer border_chain(uintptr_t manager, const char *bytes, const uint32_t *lengths, uintptr_t owner)
{
    border_answer answer = {0};
    keylatch_listing *listing = NULL;
    keylatch_key key;
    int32_t circle = 0;
    if (owner == 0)
        key = next_key(&bytes, lengths);
    answer.status = keylatch_blocking_chain((keylatch_manager *)manager, owner == 0 ? &key : NULL,
                                            (const keylatch_owner *)owner, &circle, &listing);
    if (answer.status == KEYLATCH_OK)
        answer.number = all_of(listing);
    answer.ticket = (uint64_t)circle;
    return told(answer);
}

border_answer border_recent_deadlocks(uintptr_t manager)
{
    border_answer answer = {0};
    keylatch_listing *listing = NULL;
    answer.status = keylatch_recent_deadlocks((keylatch_manager *)manager, &listing);
    if (answer.status == KEYLATCH_OK)
        answer.number = all_of(listing);
    return told(answer);
}

border_answer border_lock_orders(uintptr_t manager)
{
    border_answer answer = {0};
    keylatch_listing *listing = NULL;
    answer.status = keylatch_lock_orders((keylatch_manager *)manager, &answer.ticket, &listing);
    if (answer.status == KEYLATCH_OK)
        answer.number = all_of(listing);
    return told(answer);
}

border_answer border_owner_release_all(uintptr_t owner)
{
    border_answer answer = {0};
    size_t count = 0;
    answer.status = keylatch_owner_release_all((keylatch_owner *)owner, &count);
    answer.number = count;
    return told(answer);
}

border_answer border_events_new(uintptr_t manager, uint64_t wait_above_ns, uint64_t hold_above_ns, uint32_t capacity)
{
    border_answer answer = {0};
    keylatch_events *events = NULL;
    keylatch_event_options options = {sizeof options};
    options.wait_above_ns = wait_above_ns;
    options.hold_above_ns = hold_above_ns;
    options.capacity = capacity;
    answer.status = keylatch_events_new((keylatch_manager *)manager, &options, &events);
    answer.number = (uint64_t)(uintptr_t)events;
    return told(answer);
}

border_answer border_events_fd(uintptr_t events)
{
    border_answer answer = {0};
    int32_t fd = -1;
    answer.status = keylatch_events_fd((keylatch_events *)events, &fd);
    answer.number = (uint64_t)fd;
    return told(answer);
}

border_answer border_events_next(uintptr_t events)
{
    border_answer answer = {0};
    keylatch_listing *about = NULL;
    int32_t kind = 0;
    answer.status = keylatch_events_next((keylatch_events *)events, 0, &kind, &about);
    if (answer.status == KEYLATCH_OK) {
        answer.number = all_of(about);
        answer.ticket = (uint64_t)kind;
    }
    return answer;
}

uint64_t border_events_dropped(uintptr_t events)
{
    uint64_t dropped = 0;
    keylatch_events_dropped((keylatch_events *)events, &dropped);
    return dropped;
}
