/* The verbs of tests/scenarios/README.md. */
#include "expected.h"
#include "happened.h"
#include "listed.h"
#include "story.h"

#include <string.h>

/* What a step asks for. */
struct request {
    keylatch_key key;
    int32_t mode;
    keylatch_request_options options;
};

static keylatch_owner *own(keylatch_owner *owner)
{
    struct owned *owned = keep(sizeof *owned);
    *owned = (struct owned){ owner, now.owners };
    now.owners = owned;
    return owner;
}

static keylatch_owner *new_owner(const char *name, size_t length, struct json *source, uint32_t flags)
{
    keylatch_owner_options options = KEYLATCH_OWNER_OPTIONS_INIT;
    keylatch_owner *owner;
    options.source = source ? source->text : NULL;
    options.source_len = source ? source->length : 0;
    options.flags = flags;
    succeed("an owner", keylatch_owner_new(now.locks, name, length, &options, &owner));
    return own(owner);
}

/* Who asks, how urgently and on what terms: what requests and batches have in common. */
static keylatch_request_options options_from(struct json *step)
{
    keylatch_request_options options = KEYLATCH_REQUEST_OPTIONS_INIT;
    struct json *owner = json_take(step, "owner");
    const char *session = text_field(step, "session");
    if (owner && session)
        fail("there are an owner and a session");
    if (session)
        options.owner = named(A_SESSION, session)->session;
    else if (owner && owner->kind == JSON_OBJECT) {
        const char *name = needed_text(owner, "name");
        options.owner = new_owner(name, text_length(owner, "name"), needed(owner, "source"), 0);
        all_understood(owner);
    } else if (owner) {
        options.owner_name = needed_text(step, "owner");
        options.owner_name_len = owner->length;
    }
    int64_t number = number_field(step, "priority");
    options.priority = number < 0 ? 0 : (uint32_t)number;
    struct json *ttl = json_take(step, "ttl_ms");
    options.ttl_ns = ttl ? milliseconds(needed_number(step, "ttl_ms")) : 0;
    return options;
}

static struct request request_from(struct json *step)
{
    struct request request = { .key = key_from(needed(step, "key")), .mode = mode_from(needed(step, "mode")) };
    request.options = options_from(step);
    int64_t number = number_field(step, "request_id");
    request.options.request_id = number < 0 ? 0 : (uint64_t)number;
    return request;
}

static uint64_t grant_field(struct json *step)
{
    return named(A_GRANT, needed_text(step, "grant"))->number;
}

static void expect_yes_or_no(const struct json *expected, bool came)
{
    if (!expected || (expected->kind != JSON_TRUE && expected->kind != JSON_FALSE))
        fail("neither true nor false is expected");
    if ((expected->kind == JSON_TRUE) != came)
        fail("it came to %s", came ? "true" : "false");
}

static void acquire(struct json *step, struct json *expected, bool now_only)
{
    const char *name = text_field(step, "as");
    struct json *took = json_take(step, "took_ms");
    struct request asked = request_from(step);
    uint64_t grant, began = monotonic();
    int32_t status = now_only ? keylatch_try(now.locks, &asked.key, asked.mode, &asked.options, &grant)
                             : keylatch_acquire(now.locks, &asked.key, asked.mode, timeout_field(step), &asked.options, &grant);
    uint64_t needed_ms = (monotonic() - began) / 1000000;
    if (came_to(expected, status) && name)
        name_number(A_GRANT, name, grant);
    if (took)
        in_range(took, needed_ms, "took_ms");
}

static void do_try(struct json *step, struct json *expected)
{
    acquire(step, expected, true);
}

static void do_acquire(struct json *step, struct json *expected)
{
    acquire(step, expected, false);
}

static void on_result(void *wait, int32_t status, uint64_t grant)
{
    end_wait(wait, status, grant);
}

static void do_start(struct json *step, struct json *expected)
{
    const char *name = text_field(step, "as");
    struct request asked = request_from(step);
    uint64_t timeout = timeout_field(step), grant = 0, ticket = 0;
    struct waiting *wait = begin_wait(name);
    int32_t status;
    if (now.way == BY_QUEUE)
        status = keylatch_acquire_queue(now.locks, &asked.key, asked.mode, timeout, &asked.options, now.queue,
                                        (uint64_t)(uintptr_t)wait, &grant, &ticket);
    else
        status = keylatch_acquire_callback(now.locks, &asked.key, asked.mode, timeout, &asked.options, on_result, wait, NULL, &grant, &ticket);
    if (json_is_text(expected, "granted")) {
        succeed("start", status);
        if (ticket || !grant || !name)
            fail("it was not granted immediately, or there is no as");
        wait->name = NULL;
        name_number(A_GRANT, name, grant);
    } else if (came_to(expected, status)) {
        if (!ticket || grant || !name)
            fail("it was granted immediately, or there is no as");
        wait->ticket = ticket;
        wait->in_queue = now.way == BY_QUEUE;
    } else {
        wait->name = NULL;
    }
}

static void do_start_upgrade(struct json *step, struct json *expected)
{
    uint64_t before = figure("waiters"), deadline = monotonic() + PATIENCE;
    (void)expected;
    struct waiting *wait = begin_wait(needed_text(step, "as"));
    wait->grant = grant_field(step);
    wait->timeout = timeout_field(step);
    wait->has_thread = pthread_create(&wait->thread, NULL, upgrades, wait) == 0;
    while (figure("waiters") <= before) {
        if (monotonic() > deadline || !wait->has_thread)
            fail("it did not come to wait");
        nap(1000000);
    }
}

static void do_finish(struct json *step, struct json *expected)
{
    const char *name = needed_text(step, "wait");
    struct waiting *wait = wait_named(name);
    if (!ends_within(wait, PATIENCE))
        fail("it has not ended");
    if (compare(expected, &wait->report))
        name_number(A_GRANT, name, wait->grant);
}

static void do_waits(struct json *step, struct json *expected)
{
    (void)expected;
    struct waiting *wait = wait_named(needed_text(step, "wait"));
    if (ends_within(wait, 20 * 1000000))
        fail("it has ended: %s", keylatch_status_name(wait->report.status));
}

static void do_cancel(struct json *step, struct json *expected)
{
    struct waiting *wait = wait_named(needed_text(step, "wait"));
    int32_t cancelled;
    if (wait->has_thread)
        fail("it cannot be cancelled");
    succeed("cancel", keylatch_cancel(now.locks, wait->ticket, &cancelled));
    expect_yes_or_no(expected, cancelled == 1);
}

static void do_release(struct json *step, struct json *expected)
{
    came_to(expected, keylatch_release(now.locks, grant_field(step)));
}

static void do_downgrade(struct json *step, struct json *expected)
{
    came_to(expected, keylatch_downgrade(now.locks, grant_field(step)));
}

static void do_try_upgrade(struct json *step, struct json *expected)
{
    came_to(expected, keylatch_try_upgrade(now.locks, grant_field(step)));
}

static void do_upgrade(struct json *step, struct json *expected)
{
    uint64_t grant = grant_field(step);
    came_to(expected, keylatch_upgrade(now.locks, grant, timeout_field(step)));
}

static void do_fence(struct json *step, struct json *expected)
{
    uint64_t fence;
    const char *name = text_field(step, "as"), *than = text_field(step, "greater_than"), *other = text_field(step, "equal_to");
    if (!came_to(expected, keylatch_fence(now.locks, grant_field(step), &fence)))
        return;
    if (than && fence <= named(A_FENCE, than)->number)
        fail("%llu is not greater than %s", (unsigned long long)fence, than);
    if (other && fence != named(A_FENCE, other)->number)
        fail("%llu is not %s", (unsigned long long)fence, other);
    if (name)
        name_number(A_FENCE, name, fence);
}

static void do_holds(struct json *step, struct json *expected)
{
    uint64_t grant = grant_field(step);
    struct json *mode = json_take(step, "mode"), *key = json_take(step, "key");
    static char buffer[65535];
    keylatch_key held;
    int32_t held_mode;
    (void)expected;
    succeed("mode", keylatch_grant_mode(now.locks, grant, &held_mode));
    succeed("key", keylatch_grant_key(now.locks, grant, buffer, sizeof buffer, &held));
    if (mode && mode_from(mode) != held_mode)
        fail("it is held in another mode");
    if (key) {
        keylatch_key wanted = key_from(key);
        if (!key_equal(&wanted, &held))
            fail("it holds another key");
    }
}

/* Whether the keys that a best effort did not get are these, each once. */
static void same_missing(struct json *missing, const keylatch_batch_item *items, const int32_t *statuses, size_t count)
{
    size_t missed = 0, found = 0;
    for (size_t i = 0; i < count; i++) {
        bool named_before = false;
        for (size_t j = 0; j < i; j++)
            named_before |= key_equal(&items[j].key, &items[i].key);
        if (statuses[i] == KEYLATCH_OK || named_before)
            continue;
        missed++;
        for (struct json *item = missing ? missing->first : NULL; item; item = item->next) {
            keylatch_key wanted = key_from(item);
            found += key_equal(&wanted, &items[i].key);
        }
    }
    if (missed != found || missed != (missing ? missing->count : 0))
        fail("%zu are missing, of which %zu were expected to be", missed, found);
}

static void do_batch(struct json *step, struct json *expected)
{
    struct json *keys = needed(step, "keys"), *names = json_take(step, "as"), *missing = NULL;
    keylatch_batch_item *items = keep((keys->count + 1) * sizeof *items);
    uint64_t *grants = keep((keys->count + 1) * sizeof *grants);
    int32_t *statuses = keep((keys->count + 1) * sizeof *statuses);
    size_t count = 0;
    for (struct json *item = keys->first; item; item = item->next, count++) {
        items[count].key = key_from(needed(item, "key"));
        items[count].mode = mode_from(needed(item, "mode"));
        items[count].reserved = 0;
        all_understood(item);
    }
    keylatch_request_options options = options_from(step);
    if (is_true(json_take(step, "best_effort")))
        options.flags |= KEYLATCH_BEST_EFFORT;
    if (expected && expected->kind == JSON_OBJECT && (missing = json_take(expected, "missing"))) {
        all_understood(expected);
        expected = NULL;
    }
    int32_t status = keylatch_acquire_batch(now.locks, items, count, timeout_field(step), &options, grants, statuses);
    if (!came_to(expected, status))
        return;
    same_missing(missing, items, statuses, count);
    if ((names ? names->count : 0) != count)
        fail("as names not every key");
    struct json *name = names ? names->first : NULL;
    for (size_t i = 0; i < count; i++, name = name->next)
        if (grants[i])
            name_number(A_GRANT, name->text, grants[i]);
}

static char *decimal(uint64_t number, char digits[21])
{
    char *at = digits + 20;
    *at = 0;
    do
        *--at = (char)('0' + number % 10);
    while (number /= 10);
    return at;
}

static void do_fill(struct json *step, struct json *expected)
{
    const char *bucket = needed_text(step, "bucket");
    struct json *range = needed(step, "count");
    uint64_t count = 0, capacity = 64, *grants = keep(capacity * sizeof *grants);
    int32_t status;
    for (;;) {
        char digits[21];
        keylatch_key key = keylatch_key_of(bucket, decimal(count, digits));
        if (count == capacity) {
            uint64_t *more = keep(2 * capacity * sizeof *more);
            memcpy(more, grants, capacity * sizeof *more);
            grants = more, capacity *= 2;
        }
        status = keylatch_try(now.locks, &key, KEYLATCH_EXCLUSIVE, NULL, &grants[count]);
        if (status != KEYLATCH_OK)
            break;
        count++;
    }
    if (came_to(expected, status))
        fail("no error is expected");
    succeed("release", keylatch_release_many(now.locks, grants, (size_t)count, NULL));
    in_range(range, count, "count");
}

static void do_metrics(struct json *step, struct json *expected)
{
    (void)step;
    if (!expected || expected->kind != JSON_OBJECT || !expected->count)
        fail("no figures are expected");
    for (struct json *field = expected->first; field; field = field->next) {
        uint64_t came = figure(field->name);
        if (field->kind != JSON_NUMBER || (uint64_t)field->number != came)
            fail("%s is %llu", field->name, (unsigned long long)came);
    }
}

static void do_health(struct json *step, struct json *expected)
{
    keylatch_health health = KEYLATCH_HEALTH_INIT;
    char *problems;
    (void)step;
    succeed("health", keylatch_manager_health(now.locks, &health, &problems));
    bool quiet = problems[0] == 0;
    keylatch_text_free(problems);
    expect_yes_or_no(expected, health.healthy == 1);
    if (quiet != (health.healthy == 1))
        fail("the problems are not those of a manager that is%s healthy", health.healthy ? "" : " not");
}

static bool has_line(const char *text, const char *line)
{
    size_t length = strlen(line);
    for (const char *at = text; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        if (strncmp(at, line, length) == 0 && (at[length] == '\n' || at[length] == 0))
            return true;
    return false;
}

static void do_openmetrics(struct json *step, struct json *expected)
{
    struct json *contains = needed(step, "contains");
    char *made, *text;
    (void)expected;
    succeed("openmetrics", keylatch_manager_openmetrics(now.locks, &made));
    size_t length = strlen(made);
    text = keep(length + 1);
    memcpy(text, made, length);
    keylatch_text_free(made);
    if (length < 7 || strcmp(text + length - 7, "\n# EOF\n") != 0)
        fail("it does not end with # EOF");
    for (struct json *line = contains->first; line; line = line->next)
        if (!has_line(text, line->text))
            fail("there is no line \"%s\" in:\n%s", line->text, text);
}

static void do_sleep(struct json *step, struct json *expected)
{
    (void)expected;
    nap(milliseconds(needed_number(step, "ms")));
}

static void do_close(struct json *step, struct json *expected)
{
    (void)step;
    came_to(expected, keylatch_manager_close(now.locks));
}

static void do_renew(struct json *step, struct json *expected)
{
    uint64_t grant = grant_field(step);
    came_to(expected, keylatch_renew(now.locks, grant, milliseconds(needed_number(step, "ttl_ms"))));
}

static void do_remaining(struct json *step, struct json *expected)
{
    uint64_t left;
    bool error = expected && expected->kind == JSON_OBJECT;
    if (!came_to(error ? expected : NULL, keylatch_remaining(now.locks, grant_field(step), &left)))
        return;
    if (!expected)
        fail("nothing is expected");
    if (expected->kind != JSON_NULL)
        in_range(expected, left / 1000000, "what remains");
    else if (left != KEYLATCH_NEVER)
        fail("it is a lease");
}

static void do_is_valid(struct json *step, struct json *expected)
{
    int32_t valid;
    succeed("is_valid", keylatch_is_valid(now.locks, grant_field(step), &valid));
    expect_yes_or_no(expected, valid == 1);
}

static void do_is_current(struct json *step, struct json *expected)
{
    int32_t current;
    keylatch_key key = key_from(needed(step, "key"));
    uint64_t fence = named(A_FENCE, needed_text(step, "fence"))->number;
    succeed("is_current", keylatch_is_current(now.locks, &key, fence, &current));
    expect_yes_or_no(expected, current == 1);
}

static void do_session(struct json *step, struct json *expected)
{
    const char *as = needed_text(step, "as"), *name = needed_text(step, "name");
    struct json *source = json_take(step, "source");
    (void)expected;
    name_number(A_SESSION, as, 0);
    named(A_SESSION, as)->session = new_owner(name, text_length(step, "name"), source, KEYLATCH_OWNER_SESSION);
}

static void do_end_session(struct json *step, struct json *expected)
{
    keylatch_owner *session = named(A_SESSION, needed_text(step, "session"))->session;
    for (struct owned *owned = now.owners; owned; owned = owned->next)
        if (owned->owner == session)
            owned->owner = NULL;
    came_to(expected, keylatch_owner_free(session));
}

static void do_release_all(struct json *step, struct json *expected)
{
    size_t count;
    succeed("release_all", keylatch_owner_release_all(named(A_SESSION, needed_text(step, "session"))->session, &count));
    if (!expected || expected->kind != JSON_NUMBER || (size_t)expected->number != count)
        fail("%zu were released", count);
}

static void do_same_grant(struct json *step, struct json *expected)
{
    uint64_t grant = grant_field(step);
    (void)expected;
    if (grant != named(A_GRANT, needed_text(step, "as_grant"))->number)
        fail("they are not the same");
}

static const struct {
    const char *verb;
    void (*carry_out)(struct json *step, struct json *expected);
} verbs[] = {
    { "try", do_try },
    { "acquire", do_acquire },
    { "start", do_start },
    { "finish", do_finish },
    { "waits", do_waits },
    { "cancel", do_cancel },
    { "release", do_release },
    { "downgrade", do_downgrade },
    { "try_upgrade", do_try_upgrade },
    { "upgrade", do_upgrade },
    { "start_upgrade", do_start_upgrade },
    { "fence", do_fence },
    { "holds", do_holds },
    { "batch", do_batch },
    { "fill", do_fill },
    { "metrics", do_metrics },
    { "health", do_health },
    { "openmetrics", do_openmetrics },
    { "sleep", do_sleep },
    { "close", do_close },
    { "renew", do_renew },
    { "remaining", do_remaining },
    { "is_valid", do_is_valid },
    { "is_current", do_is_current },
    { "session", do_session },
    { "end_session", do_end_session },
    { "release_all", do_release_all },
    { "same_grant", do_same_grant },
    { "holders", do_holders },
    { "waiters", do_waiters },
    { "force_release", do_force_release },
    { "expire", do_expire },
    { "blocking_chain", do_blocking_chain },
    { "top", do_top },
    { "subscribe", do_subscribe },
    { "events", do_events },
    { "on_lost", do_on_lost },
    { "lost", do_lost },
    { "forked", do_forked },
};

bool has_feature(const char *name)
{
    static const char *const features[] = { "sessions", "leases", "listing", "request_ids", "lock_delay", "events", "on_lost", "fork" };
    for (size_t i = 0; i < sizeof features / sizeof *features; i++)
        if (strcmp(features[i], name) == 0)
            return true;
    return false;
}

void carry_out(struct json *step)
{
    if (step->kind != JSON_OBJECT)
        fail("it is not an object");
    const char *verb = needed_text(step, "do");
    struct json *expected = json_take(step, "expect");
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(verbs[i].verb, verb) == 0) {
            verbs[i].carry_out(step, expected);
            all_understood(step);
            return;
        }
    }
    fail("this runner has no step %s", verb);
}
