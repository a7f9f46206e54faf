#include "listed.h"
#include "expected.h"
#include "story.h"

#include <string.h>

/* As many as a scenario can make. */
#define MOST 64

/* An entry of any listing: what the scenarios look at. What its kind does not have is 0. */
struct entry {
    enum { HOLDER, WAITER, LINK_THAT_HOLDS, LINK_THAT_WAITS, TOP_KEY } kind;
    keylatch_key key;
    const char *owner, *source;
    size_t owner_len, source_len;
    int32_t mode;
    bool session, lease, upgrade;
    uint32_t priority;
    uint64_t fence, position;
};

struct found {
    size_t count;
    struct entry entries[MOST];
};

/* Which entries fit which of those that were expected, and which are given to one. */
struct match {
    const struct found *found;
    bool fits[MOST][MOST];
    bool used[MOST];
    size_t wanted;
};

static keylatch_filter filter_from(struct json *value)
{
    keylatch_filter filter = KEYLATCH_FILTER_INIT;
    struct json *bucket = json_take(value, "bucket"), *prefix = json_take(value, "prefix"), *key = json_take(value, "key");
    struct json *mode = json_take(value, "mode");
    const char *session = text_field(value, "session"), *owner = text_field(value, "owner");
    if (bucket)
        filter.bucket = part_from(bucket, &filter.bucket_len);
    if (prefix)
        filter.prefix = part_from(prefix, &filter.prefix_len);
    if (key) {
        keylatch_key *kept = keep(sizeof *kept);
        *kept = key_from(key);
        filter.key = kept;
    }
    if (session && owner)
        fail("there are an owner and a session");
    filter.owner = session ? session : owner;
    filter.owner_len = text_length(value, session ? "session" : "owner");
    filter.flags = session ? KEYLATCH_FILTER_SESSIONS : json_take(value, "all") ? KEYLATCH_FILTER_ALL : 0;
    filter.source = text_field(value, "source");
    filter.source_len = text_length(value, "source");
    int64_t age = number_field(value, "older_than_ms");
    filter.older_than_ns = age < 0 ? 0 : milliseconds(age);
    filter.mode = mode ? mode_from(mode) : 0;
    if (value)
        all_understood(value);
    return filter;
}

/* The fields that holders, waiters, links and keys have in common. */
#define COMMON(of) .key = of.key, .owner = of.owner, .owner_len = of.owner_len, .source = of.source, .source_len = of.source_len, .mode = of.mode

/* Fetches the next entry with the function that fits. */
static int32_t fetch_entry(keylatch_listing *listing, struct entry *entry)
{
    keylatch_holder holder = KEYLATCH_HOLDER_INIT;
    keylatch_waiter waiter = KEYLATCH_WAITER_INIT;
    keylatch_chain_link link = KEYLATCH_CHAIN_LINK_INIT;
    keylatch_top_key top = KEYLATCH_TOP_KEY_INIT;
    int32_t status = keylatch_listing_next_holder(listing, &holder);
    if (status != KEYLATCH_EINVALID) {
        *entry = (struct entry){ HOLDER, COMMON(holder), .session = holder.flags & KEYLATCH_HOLDER_SESSION,
            .lease = holder.flags & KEYLATCH_HOLDER_LEASE, .priority = holder.priority, .fence = holder.fence };
        return status;
    }
    status = keylatch_listing_next_waiter(listing, &waiter);
    if (status != KEYLATCH_EINVALID) {
        *entry = (struct entry){ WAITER, COMMON(waiter), .session = waiter.flags & KEYLATCH_WAITER_SESSION,
            .upgrade = waiter.flags & KEYLATCH_WAITER_UPGRADE, .priority = waiter.priority, .position = waiter.position };
        return status;
    }
    status = keylatch_listing_next_link(listing, &link);
    if (status != KEYLATCH_EINVALID) {
        *entry = (struct entry){ link.role == KEYLATCH_LINK_HOLDS ? LINK_THAT_HOLDS : LINK_THAT_WAITS, COMMON(link) };
        return status;
    }
    status = keylatch_listing_next_key(listing, &top);
    *entry = (struct entry){ TOP_KEY, COMMON(top) };
    return status;
}

/* Copies what is listed: the scenario may fail before the listing could be freed. */
static void fetch(keylatch_listing *listing, struct found *found)
{
    size_t count, i = 0;
    int32_t status = keylatch_listing_count(listing, &count);
    while (status == KEYLATCH_OK && i < MOST) {
        struct entry *entry = &found->entries[i];
        status = fetch_entry(listing, entry);
        if (status != KEYLATCH_OK)
            break;
        char *bytes = keep(entry->key.bucket_len + entry->key.object_len + entry->key.version_len + entry->owner_len + entry->source_len + 1);
#define COPY(from, length)                                                                                             \
    do {                                                                                                               \
        if (from)                                                                                                      \
            (from) = length ? memcpy(bytes, from, length) : bytes;                                                     \
        bytes += length;                                                                                               \
    } while (0)
        COPY(entry->key.bucket, entry->key.bucket_len);
        COPY(entry->key.object, entry->key.object_len);
        COPY(entry->key.version, entry->key.version_len);
        COPY(entry->owner, entry->owner_len);
        COPY(entry->source, entry->source_len);
#undef COPY
        i++;
    }
    found->count = i;
    succeed("a listing", keylatch_listing_free(listing));
    if (status != KEYLATCH_EEND || i != count)
        fail("%zu entries of %zu were listed: %s", i, count, keylatch_status_name(status));
}

static bool is_text(struct json *wanted, const char *text, size_t length)
{
    return !wanted || (wanted->kind == JSON_TEXT && wanted->length == length && memcmp(wanted->text, text, length) == 0);
}

static bool is_flag(struct json *wanted, bool flag)
{
    return !wanted || is_true(wanted) == flag;
}

static bool fits(struct json *wanted, const struct entry *entry)
{
    struct json *key = json_take(wanted, "key"), *mode = json_take(wanted, "mode");
    bool fits = true;
    if (key) {
        keylatch_key expected = key_from(key);
        fits &= key_equal(&expected, &entry->key);
    }
    fits &= !mode || mode_from(mode) == entry->mode;
    fits &= is_text(json_take(wanted, "owner"), entry->owner, entry->owner_len);
    fits &= is_text(json_take(wanted, "source"), entry->source, entry->source_len);
    fits &= is_flag(json_take(wanted, "session"), entry->session);
    int64_t priority = number_field(wanted, "priority");
    fits &= priority < 0 || (uint32_t)priority == entry->priority;
    if (entry->kind == WAITER)
        fits &= is_flag(json_take(wanted, "upgrade"), entry->upgrade);
    else {
        fits &= is_flag(json_take(wanted, "lease"), entry->lease);
        const char *fence = text_field(wanted, "fence");
        fits &= !fence || named(A_FENCE, fence)->number == entry->fence;
    }
    all_understood(wanted);
    return fits;
}

/* Those who wait for one key have to be expected in the order of their line. */
static bool is_next(const struct match *match, size_t place)
{
    const struct entry *entry = &match->found->entries[place];
    for (size_t other = 0; other < match->found->count; other++) {
        const struct entry *before = &match->found->entries[other];
        if (!match->used[other] && entry->kind == WAITER && key_equal(&entry->key, &before->key) &&
            before->position < entry->position)
            return false;
    }
    return true;
}

static bool assign(struct match *match, size_t from)
{
    if (from == match->wanted)
        return true;
    for (size_t place = 0; place < match->found->count; place++) {
        if (match->used[place] || !match->fits[from][place] || !is_next(match, place))
            continue;
        match->used[place] = true;
        if (assign(match, from + 1))
            return true;
        match->used[place] = false;
    }
    return false;
}

static void compare_found(struct json *expected, const struct found *found, int kind)
{
    static struct match match;
    match = (struct match){ .found = found };
    if (!expected || expected->kind != JSON_ARRAY || expected->count > MOST)
        fail("no list is expected");
    for (struct json *wanted = expected->first; wanted; wanted = wanted->next, match.wanted++)
        for (size_t i = 0; i < found->count; i++)
            match.fits[match.wanted][i] = fits(wanted, &found->entries[i]);
    for (size_t i = 0; i < found->count; i++)
        if ((int)found->entries[i].kind != kind)
            fail("entry %zu is of another kind", i);
    if (match.wanted != found->count)
        fail("%zu were expected, %zu are listed", match.wanted, found->count);
    if (!assign(&match, 0))
        fail("others are listed than were expected, or in another order");
}

static struct found found;

static void listed(struct json *expected, int32_t status, keylatch_listing *listing, int kind)
{
    succeed("to ask", status);
    fetch(listing, &found);
    compare_found(expected, &found, kind);
}

void do_holders(struct json *step, struct json *expected)
{
    keylatch_listing *listing = NULL;
    struct json *said = json_take(step, "filter");
    keylatch_filter filter = filter_from(said);
    int32_t status = keylatch_holders(now.locks, said ? &filter : NULL, &listing);
    listed(expected, status, listing, HOLDER);
}

void do_waiters(struct json *step, struct json *expected)
{
    keylatch_listing *listing = NULL;
    struct json *said = json_take(step, "filter");
    keylatch_filter filter = filter_from(said);
    int32_t status = keylatch_waiters(now.locks, said ? &filter : NULL, &listing);
    listed(expected, status, listing, WAITER);
}

static void revoked(struct json *expected, int32_t status, size_t count, keylatch_listing *listing)
{
    listed(expected, status, listing, HOLDER);
    if (count != found.count)
        fail("%zu are counted, %zu are listed", count, found.count);
}

void do_force_release(struct json *step, struct json *expected)
{
    keylatch_listing *listing = NULL;
    keylatch_filter filter = filter_from(json_take(step, "filter"));
    size_t count = SIZE_MAX;
    int32_t status = keylatch_force_release(now.locks, &filter, &count, &listing);
    revoked(expected, status, count, listing);
}

void do_expire(struct json *step, struct json *expected)
{
    keylatch_listing *listing = NULL;
    keylatch_filter filter = filter_from(json_take(step, "filter"));
    size_t count = SIZE_MAX;
    int32_t status = keylatch_expire(now.locks, &filter, &count, &listing);
    revoked(expected, status, count, listing);
}

void do_blocking_chain(struct json *step, struct json *expected)
{
    keylatch_listing *listing = NULL;
    keylatch_key key = key_from(needed(step, "key"));
    int32_t circle;
    succeed("to ask", keylatch_blocking_chain(now.locks, &key, NULL, &circle, &listing));
    fetch(listing, &found);
    if (!expected || expected->kind != JSON_ARRAY)
        fail("no list is expected");
    struct json *name = expected->first;
    for (size_t i = 0; i < found.count; i++) {
        if (found.entries[i].kind != LINK_THAT_HOLDS)
            continue;
        if (!name || !is_text(name, found.entries[i].owner, found.entries[i].owner_len))
            fail("%.*s stands in the way there", (int)found.entries[i].owner_len, found.entries[i].owner);
        name = name->next;
    }
    if (name)
        fail("%s does not stand in the way", name->text);
}

void do_top(struct json *step, struct json *expected)
{
    keylatch_listing *listing = NULL;
    const char *by = needed_text(step, "by");
    int32_t order = strcmp(by, "age") == 0 ? KEYLATCH_TOP_AGE : strcmp(by, "waiters") == 0 ? KEYLATCH_TOP_WAITERS : 0;
    succeed("to ask", keylatch_top(now.locks, order, (size_t)needed_number(step, "n"), &listing));
    fetch(listing, &found);
    if (!expected || expected->kind != JSON_ARRAY || expected->count != found.count)
        fail("%zu keys are listed", found.count);
    size_t i = 0;
    for (struct json *item = expected->first; item; item = item->next, i++) {
        keylatch_key key = key_from(item);
        if (!key_equal(&key, &found.entries[i].key))
            fail("key %zu is another one", i + 1);
    }
}
