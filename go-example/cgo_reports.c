/* What the library reports: failures, listings and events, each as one block of memory that cgo_answers.go takes apart. */
#include "cgo_glue_inner.h"
#include "cgo_shared.h"

/* A block of memory that grows, for what has no fixed size. */
typedef struct block {
    char *bytes;
    size_t length, room;
    int lost;
} block;

enum { FIRST_ROOM = 768 };

static void put(block *to, const void *bytes, size_t length)
{
    if (to->lost || length == 0)
        return;
    if (to->length + length > to->room) {
        /* At first as much as most failures and events take. */
        size_t room = to->room == 0 && length < FIRST_ROOM ? FIRST_ROOM : (to->length + length) * 2;
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

/* The beginning of each entry: what it is, its key and its owner. */
static void put_entry(block *to, uint64_t kind, const keylatch_key *key, const char *owner, size_t owner_len,
                      const char *source, size_t source_len)
{
    put_number(to, kind);
    put_key(to, key);
    put_text(to, owner, owner_len);
    put_text(to, source, source_len);
}

static void put_holder(block *to, const keylatch_holder *holder)
{
    const uint64_t numbers[] = {
        (uint64_t)holder->mode, holder->held_ns,  holder->grant, holder->fence,
        holder->lease_ns,       holder->priority, holder->flags,
    };
    put_entry(to, GLUE_A_HOLDER, &holder->key, holder->owner, holder->owner_len, holder->source, holder->source_len);
    put(to, numbers, sizeof numbers);
}

static void put_waiter(block *to, const keylatch_waiter *waiter)
{
    const uint64_t numbers[] = {
        (uint64_t)waiter->mode, waiter->waited_ns, waiter->position, waiter->priority, waiter->flags,
    };
    put_entry(to, GLUE_A_WAITER, &waiter->key, waiter->owner, waiter->owner_len, waiter->source, waiter->source_len);
    put(to, numbers, sizeof numbers);
}

static void put_link(block *to, const keylatch_chain_link *link)
{
    const uint64_t numbers[] = {
        (uint64_t)link->mode, link->time_ns, link->grant, link->lease_ns,             link->position,
        link->link,           link->after,   link->role,  (uint64_t)link->blocked_by, link->flags,
    };
    put_entry(to, GLUE_A_LINK, &link->key, link->owner, link->owner_len, link->source, link->source_len);
    put(to, numbers, sizeof numbers);
}

static void put_top_key(block *to, const keylatch_top_key *top)
{
    const uint64_t numbers[] = {
        (uint64_t)top->mode, top->held_ns, top->grant, top->waiters, top->longest_wait_ns, top->flags,
    };
    put_entry(to, GLUE_A_KEY, &top->key, top->owner, top->owner_len, top->source, top->source_len);
    put(to, numbers, sizeof numbers);
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

uintptr_t glue_failure(void)
{
    block made = {0};
    int32_t status = keylatch_last_status();
    put_number(&made, 0);
    /* The text for a held lock only repeats the parts below, and composing it takes as long as all the rest. */
    const char *message = status == KEYLATCH_EWOULDBLOCK || status == KEYLATCH_ETIMEOUT ? "" : keylatch_last_error();
    put_text(&made, message, strlen(message));
    keylatch_key key;
    int has_key = keylatch_last_key(&key) == KEYLATCH_OK;
    put_number(&made, (uint64_t)has_key);
    if (has_key)
        put_key(&made, &key);
    uint64_t waited;
    put_number(&made, keylatch_last_waited(&waited) == KEYLATCH_OK ? waited : 0);
    keylatch_holder holder = {sizeof holder};
    size_t more = 0, index;
    for (index = 0; keylatch_last_holder(index, &holder, &more) == KEYLATCH_OK; index++) {
        put_holder(&made, &holder);
    }
    put_end(&made);
    put_number(&made, more);
    keylatch_chain_link link = {sizeof link};
    for (index = 0; status == KEYLATCH_EDEADLOCK && keylatch_last_cycle_link(index, &link) == KEYLATCH_OK; index++) {
        put_link(&made, &link);
    }
    put_end(&made);
    return finished(&made);
}

void glue_free(uintptr_t made)
{
    free((void *)made);
}

static int32_t put_shared_holder(void *made, const keylatch_shared_holder *holder)
{
    put_number(made, 1);
    put_key(made, &holder->key);
    put_text(made, holder->owner, holder->owner_len);
    put_text(made, holder->program, holder->program_len);
    put_text(made, holder->label, holder->label_len);
    put_number(made, (uint64_t)holder->mode);
    put_number(made, holder->pid);
    put_number(made, holder->held_ns);
    put_number(made, holder->hold);
    put_number(made, holder->member);
    return 0;
}

glue_answer glue_shared_holders(uintptr_t table, const keylatch_key *key)
{
    glue_answer answer = {0};
    block made = {0};
    put_number(&made, 0);
    answer.status = keylatch_shared_holders((keylatch_shared_table *)table, key, put_shared_holder, &made);
    if (answer.status != KEYLATCH_OK)
        answer.failure = glue_failure();
    put_end(&made);
    uintptr_t block = finished(&made);
    if (answer.status == KEYLATCH_OK)
        answer.number = block;
    else
        glue_free(block);
    return answer;
}

/* Which kinds of entries a listing has. They come in this order. */
enum { WAITERS = 1, HOLDERS = 2, LINKS = 4, KEYS = 8 };

/* All entries of a listing, as a block; frees the listing. */
static uintptr_t all_of(keylatch_listing *listing, int kinds)
{
    block made = {0};
    keylatch_waiter waiter = {sizeof waiter};
    keylatch_holder holder = {sizeof holder};
    keylatch_chain_link link = {sizeof link};
    keylatch_top_key key = {sizeof key};
    put_number(&made, 0);
    if (kinds == (WAITERS | HOLDERS)) {
        /* A timeout: one waiter, and its holders. */
        if (keylatch_listing_next_waiter(listing, &waiter) == KEYLATCH_OK)
            put_waiter(&made, &waiter);
        kinds = HOLDERS;
    }
    while (kinds == WAITERS && keylatch_listing_next_waiter(listing, &waiter) == KEYLATCH_OK)
        put_waiter(&made, &waiter);
    while (kinds == HOLDERS && keylatch_listing_next_holder(listing, &holder) == KEYLATCH_OK)
        put_holder(&made, &holder);
    while (kinds == LINKS && keylatch_listing_next_link(listing, &link) == KEYLATCH_OK)
        put_link(&made, &link);
    while (kinds == KEYS && keylatch_listing_next_key(listing, &key) == KEYLATCH_OK)
        put_top_key(&made, &key);
    put_end(&made);
    keylatch_listing_free(listing);
    return finished(&made);
}

/* What the listing of an event has. A later library may have other kinds of events: of these nothing is read. */
static int kinds_of_event(int32_t kind)
{
    switch (kind) {
    case KEYLATCH_EVENT_SLOW_WAIT:
        return WAITERS;
    case KEYLATCH_EVENT_TIMEOUT:
        return WAITERS | HOLDERS;
    case KEYLATCH_EVENT_SLOW_HOLD:
    case KEYLATCH_EVENT_EXPIRED:
    case KEYLATCH_EVENT_FORCED:
        return HOLDERS;
    case KEYLATCH_EVENT_DEADLOCK:
    case KEYLATCH_EVENT_LOCK_ORDER:
        return LINKS;
    default:
        return 0;
    }
}

/* The next text of a filter; NULL if it is not there. */
static const char *next_text(const char **bytes, uint32_t length, size_t *out_length)
{
    const char *text = *bytes;
    *out_length = 0;
    if (length == GLUE_ABSENT)
        return NULL;
    *bytes += length;
    *out_length = length;
    return length > 0 ? text : "";
}

glue_answer glue_list(uintptr_t manager, int32_t what, const char *bytes, const uint32_t *lengths,
                      uint64_t older_than_ns, int32_t mode, uint32_t flags)
{
    glue_answer answer = {0};
    keylatch_listing *listing = NULL;
    keylatch_manager *locks = (keylatch_manager *)manager;
    keylatch_key key;
    keylatch_filter filter = {sizeof filter};
    filter.bucket = next_text(&bytes, lengths[0], &filter.bucket_len);
    filter.prefix = next_text(&bytes, lengths[1], &filter.prefix_len);
    filter.owner = next_text(&bytes, lengths[2], &filter.owner_len);
    filter.source = next_text(&bytes, lengths[3], &filter.source_len);
    if (lengths[4] != GLUE_ABSENT) {
        const glue_head head = {lengths[4], lengths[5], lengths[6], 0};
        key = next_key(&bytes, &head, NULL);
        filter.key = &key;
    }
    filter.older_than_ns = older_than_ns;
    filter.mode = mode;
    filter.flags = flags;
    switch (what) {
    case GLUE_HOLDERS:
        answer.status = keylatch_holders(locks, &filter, &listing);
        break;
    case GLUE_WAITERS:
        answer.status = keylatch_waiters(locks, &filter, &listing);
        break;
    case GLUE_FORCE_RELEASE:
        answer.status = keylatch_force_release(locks, &filter, NULL, &listing);
        break;
    default:
        answer.status = keylatch_expire(locks, &filter, NULL, &listing);
        break;
    }
    if (answer.status == KEYLATCH_OK)
        answer.number = all_of(listing, what == GLUE_WAITERS ? WAITERS : HOLDERS);
    return with_failure(answer);
}

glue_answer glue_top(uintptr_t manager, int32_t by, size_t count)
{
    glue_answer answer = {0};
    keylatch_listing *listing = NULL;
    answer.status = keylatch_top((keylatch_manager *)manager, by, count, &listing);
    if (answer.status == KEYLATCH_OK)
        answer.number = all_of(listing, KEYS);
    return with_failure(answer);
}

glue_answer glue_chain(uintptr_t manager, const char *bytes, const glue_head *head, uintptr_t owner)
{
    glue_answer answer = {0};
    keylatch_listing *listing = NULL;
    keylatch_key key;
    int32_t circle = 0;
    if (owner == 0)
        key = next_key(&bytes, head, NULL);
    answer.status = keylatch_blocking_chain((keylatch_manager *)manager, owner == 0 ? &key : NULL,
                                            (const keylatch_owner *)owner, &circle, &listing);
    if (answer.status == KEYLATCH_OK)
        answer.number = all_of(listing, LINKS);
    answer.ticket = (uint64_t)circle;
    return with_failure(answer);
}

glue_answer glue_recent_deadlocks(uintptr_t manager)
{
    glue_answer answer = {0};
    keylatch_listing *listing = NULL;
    answer.status = keylatch_recent_deadlocks((keylatch_manager *)manager, &listing);
    if (answer.status == KEYLATCH_OK)
        answer.number = all_of(listing, LINKS);
    return with_failure(answer);
}

glue_answer glue_lock_orders(uintptr_t manager)
{
    glue_answer answer = {0};
    keylatch_listing *listing = NULL;
    answer.status = keylatch_lock_orders((keylatch_manager *)manager, &answer.ticket, &listing);
    if (answer.status == KEYLATCH_OK)
        answer.number = all_of(listing, LINKS);
    return with_failure(answer);
}

glue_answer glue_owner_release_all(uintptr_t owner)
{
    glue_answer answer = {0};
    size_t count = 0;
    answer.status = keylatch_owner_release_all((keylatch_owner *)owner, &count);
    answer.number = count;
    return with_failure(answer);
}

glue_answer glue_events_new(uintptr_t manager, uint64_t wait_above_ns, uint64_t hold_above_ns, uint32_t capacity)
{
    glue_answer answer = {0};
    keylatch_events *events = NULL;
    keylatch_event_options options = {sizeof options};
    options.wait_above_ns = wait_above_ns;
    options.hold_above_ns = hold_above_ns;
    options.capacity = capacity;
    answer.status = keylatch_events_new((keylatch_manager *)manager, &options, &events);
    answer.number = (uint64_t)(uintptr_t)events;
    return with_failure(answer);
}

glue_answer glue_events_fd(uintptr_t events)
{
    glue_answer answer = {0};
    int32_t fd = -1;
    answer.status = keylatch_events_fd((keylatch_events *)events, &fd);
    answer.number = (uint64_t)fd;
    return with_failure(answer);
}

glue_answer glue_events_next(uintptr_t events)
{
    glue_answer answer = {0};
    keylatch_listing *about = NULL;
    int32_t kind = 0;
    answer.status = keylatch_events_next((keylatch_events *)events, 0, &kind, &about);
    if (answer.status == KEYLATCH_OK) {
        answer.number = all_of(about, kinds_of_event(kind));
        answer.ticket = (uint64_t)kind;
    }
    return answer;
}

uint64_t glue_events_dropped(uintptr_t events)
{
    uint64_t dropped = 0;
    keylatch_events_dropped((keylatch_events *)events, &dropped);
    return dropped;
}
