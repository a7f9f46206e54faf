#include "listed.h"
#include "expected.h"
#include "story.h"

#include <string.h>

/* As many as a scenario can make. */
#define MOST 64

struct found {
    size_t count;
    keylatch_party parties[MOST];
};

/* Which parties fit which of those that were expected, and which are given to one. */
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

/* Copies what is listed: the scenario may fail before the listing could be freed. */
static void fetch(keylatch_listing *listing, struct found *found)
{
    size_t count, i = 0;
    int32_t status = keylatch_listing_count(listing, &count);
    while (status == KEYLATCH_OK && i < MOST) {
        keylatch_party *party = &found->parties[i];
        *party = (keylatch_party){ .struct_size = sizeof *party };
        status = keylatch_listing_next(listing, party);
        if (status != KEYLATCH_OK)
            break;
        char *bytes = keep(party->key.bucket_len + party->key.object_len + party->key.version_len + party->owner_len + party->source_len + 1);
#define COPY(from, length)                                                                                             \
    do {                                                                                                               \
        if (from)                                                                                                      \
            (from) = length ? memcpy(bytes, from, length) : bytes;                                                     \
        bytes += length;                                                                                               \
    } while (0)
        COPY(party->key.bucket, party->key.bucket_len);
        COPY(party->key.object, party->key.object_len);
        COPY(party->key.version, party->key.version_len);
        COPY(party->owner, party->owner_len);
        COPY(party->source, party->source_len);
#undef COPY
        i++;
    }
    found->count = i;
    succeed("a listing", keylatch_listing_free(listing));
    if (status != KEYLATCH_EEND || i != count)
        fail("%zu parties of %zu were listed: %s", i, count, keylatch_status_name(status));
}

static bool is_text(struct json *wanted, const char *text, size_t length)
{
    return !wanted || (wanted->kind == JSON_TEXT && wanted->length == length && memcmp(wanted->text, text, length) == 0);
}

static bool is_flag(struct json *wanted, const keylatch_party *party, uint32_t flag)
{
    return !wanted || is_true(wanted) == ((party->flags & flag) != 0);
}

static bool fits(struct json *wanted, const keylatch_party *party)
{
    struct json *key = json_take(wanted, "key"), *mode = json_take(wanted, "mode");
    bool fits = true;
    if (key) {
        keylatch_key expected = key_from(key);
        fits &= key_equal(&expected, &party->key);
    }
    fits &= !mode || mode_from(mode) == party->mode;
    fits &= is_text(json_take(wanted, "owner"), party->owner, party->owner_len);
    fits &= is_text(json_take(wanted, "source"), party->source, party->source_len);
    fits &= is_flag(json_take(wanted, "session"), party, KEYLATCH_PARTY_SESSION);
    int64_t priority = number_field(wanted, "priority");
    fits &= priority < 0 || (uint32_t)priority == party->priority;
    if (party->role == KEYLATCH_PARTY_WAITS)
        fits &= is_flag(json_take(wanted, "upgrade"), party, KEYLATCH_PARTY_UPGRADE);
    else {
        fits &= is_flag(json_take(wanted, "lease"), party, KEYLATCH_PARTY_LEASE);
        const char *fence = text_field(wanted, "fence");
        fits &= !fence || named(A_FENCE, fence)->number == party->fence;
    }
    all_understood(wanted);
    return fits;
}

/* Those who wait for one key have to be expected in the order of their line. */
static bool is_next(const struct match *match, size_t place)
{
    const keylatch_party *party = &match->found->parties[place];
    for (size_t other = 0; other < match->found->count; other++) {
        const keylatch_party *before = &match->found->parties[other];
        if (!match->used[other] && party->role == KEYLATCH_PARTY_WAITS && key_equal(&party->key, &before->key) &&
            before->position < party->position)
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

static void compare_found(struct json *expected, const struct found *found, uint32_t role)
{
    static struct match match;
    match = (struct match){ .found = found };
    if (!expected || expected->kind != JSON_ARRAY || expected->count > MOST)
        fail("no list is expected");
    for (struct json *wanted = expected->first; wanted; wanted = wanted->next, match.wanted++)
        for (size_t i = 0; i < found->count; i++)
            match.fits[match.wanted][i] = fits(wanted, &found->parties[i]);
    for (size_t i = 0; i < found->count; i++)
        if (found->parties[i].role != role)
            fail("party %zu has another role", i);
    if (match.wanted != found->count)
        fail("%zu were expected, %zu are listed", match.wanted, found->count);
    if (!assign(&match, 0))
        fail("others are listed than were expected, or in another order");
}

static struct found found;

static void listed(struct json *expected, int32_t status, keylatch_listing *listing, uint32_t role)
{
    succeed("to ask", status);
    fetch(listing, &found);
    compare_found(expected, &found, role);
}

void do_holders(struct json *step, struct json *expected)
{
    keylatch_listing *listing = NULL;
    struct json *said = json_take(step, "filter");
    keylatch_filter filter = filter_from(said);
    int32_t status = keylatch_holders(now.locks, said ? &filter : NULL, &listing);
    listed(expected, status, listing, KEYLATCH_PARTY_HOLDS);
}

void do_waiters(struct json *step, struct json *expected)
{
    keylatch_listing *listing = NULL;
    struct json *said = json_take(step, "filter");
    keylatch_filter filter = filter_from(said);
    int32_t status = keylatch_waiters(now.locks, said ? &filter : NULL, &listing);
    listed(expected, status, listing, KEYLATCH_PARTY_WAITS);
}

static void taken_away(struct json *expected, int32_t status, size_t count, keylatch_listing *listing)
{
    listed(expected, status, listing, KEYLATCH_PARTY_HOLDS);
    if (count != found.count)
        fail("%zu are counted, %zu are listed", count, found.count);
}

void do_force_release(struct json *step, struct json *expected)
{
    keylatch_listing *listing = NULL;
    keylatch_filter filter = filter_from(json_take(step, "filter"));
    size_t count = SIZE_MAX;
    int32_t status = keylatch_force_release(now.locks, &filter, &count, &listing);
    taken_away(expected, status, count, listing);
}

void do_expire(struct json *step, struct json *expected)
{
    keylatch_listing *listing = NULL;
    keylatch_filter filter = filter_from(json_take(step, "filter"));
    size_t count = SIZE_MAX;
    int32_t status = keylatch_expire(now.locks, &filter, &count, &listing);
    taken_away(expected, status, count, listing);
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
        if (found.parties[i].role != KEYLATCH_PARTY_HOLDS)
            continue;
        if (!name || !is_text(name, found.parties[i].owner, found.parties[i].owner_len))
            fail("%.*s stands in the way there", (int)found.parties[i].owner_len, found.parties[i].owner);
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
        if (!key_equal(&key, &found.parties[i].key))
            fail("key %zu is another one", i + 1);
    }
}
