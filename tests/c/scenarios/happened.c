#define _POSIX_C_SOURCE 200809L

#include "happened.h"
#include "expected.h"
#include "story.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Who listens for the end of a hold. It lives as long as the scenario. */
struct loss {
    const char *name;
    /* 0 until it is lost. */
    _Atomic int32_t why;
    struct loss *next;
};

void do_subscribe(struct json *step, struct json *expected)
{
    keylatch_event_options options = KEYLATCH_EVENT_OPTIONS_INIT;
    int64_t wait_above = number_field(step, "wait_above_ms");
    (void)expected;
    if (now.events)
        fail("there is a subscription");
    options.wait_above_ns = wait_above < 0 ? 0 : milliseconds(wait_above);
    succeed("a subscription", keylatch_events_new(now.locks, &options, &now.events));
}

static const char *kind_name(int32_t kind)
{
    switch (kind) {
    case KEYLATCH_EVENT_SLOW_WAIT: return "slow_wait";
    case KEYLATCH_EVENT_SLOW_HOLD: return "slow_hold";
    case KEYLATCH_EVENT_TIMEOUT: return "timeout";
    case KEYLATCH_EVENT_DEADLOCK: return "deadlock";
    case KEYLATCH_EVENT_EXPIRED: return "expired";
    case KEYLATCH_EVENT_FORCED: return "forced";
    default: return "other";
    }
}

/* The key and the owner of the first entry of an event. */
struct about {
    keylatch_key key;
    const char *owner;
    size_t owner_len;
};

static int32_t first_of(keylatch_listing *listing, struct about *first)
{
    keylatch_holder holder = KEYLATCH_HOLDER_INIT;
    keylatch_waiter waiter = KEYLATCH_WAITER_INIT;
    keylatch_chain_link link = KEYLATCH_CHAIN_LINK_INIT;
    int32_t status = keylatch_listing_next_waiter(listing, &waiter);
    *first = (struct about){ waiter.key, waiter.owner, waiter.owner_len };
    if (status == KEYLATCH_EINVALID) {
        status = keylatch_listing_next_holder(listing, &holder);
        *first = (struct about){ holder.key, holder.owner, holder.owner_len };
    }
    if (status == KEYLATCH_EINVALID) {
        status = keylatch_listing_next_link(listing, &link);
        *first = (struct about){ link.key, link.owner, link.owner_len };
    }
    return status;
}

/* Compares an event with what was expected. The listing is freed in any case: failing ends the scenario. */
static void compare_event(struct json *expected, int32_t kind, keylatch_listing *about)
{
    struct about first;
    bool right_key = true, right_owner = true;
    struct json *wanted = json_take(expected, "key"), *owner = json_take(expected, "owner");
    const char *name = needed_text(expected, "kind");
    all_understood(expected);
    keylatch_key key = wanted ? key_from(wanted) : (keylatch_key){ 0 };
    int32_t status = first_of(about, &first);
    if (status == KEYLATCH_OK) {
        right_key = !wanted || key_equal(&key, &first.key);
        right_owner = !owner || (owner->kind == JSON_TEXT && owner->length == first.owner_len
                                 && memcmp(owner->text, first.owner, first.owner_len) == 0);
    }
    succeed("a listing", keylatch_listing_free(about));
    succeed("what an event is about", status);
    if (strcmp(name, kind_name(kind)) != 0)
        fail("%s was expected, and there is %s", name, kind_name(kind));
    if (!right_key || !right_owner)
        fail("the %s is about another %s", name, right_key ? "owner" : "key");
}

void do_events(struct json *step, struct json *expected)
{
    int32_t kind;
    keylatch_listing *about;
    (void)step;
    if (!now.events || !expected || expected->kind != JSON_ARRAY)
        fail("there is no subscription, or nothing is expected");
    for (struct json *event = expected->first; event; event = event->next) {
        succeed("an event", keylatch_events_next(now.events, PATIENCE, &kind, &about));
        compare_event(event, kind, about);
    }
    int32_t status = keylatch_events_next(now.events, 0, &kind, NULL);
    if (status != KEYLATCH_EWOULDBLOCK)
        fail("there is more: %s", status == KEYLATCH_OK ? kind_name(kind) : keylatch_status_name(status));
}

static void on_lost(void *loss, uint64_t grant, int32_t why)
{
    (void)grant;
    atomic_store(&((struct loss *)loss)->why, why);
}

void do_on_lost(struct json *step, struct json *expected)
{
    struct loss *loss = keep(sizeof *loss);
    (void)expected;
    loss->name = needed_text(step, "as");
    atomic_init(&loss->why, 0);
    loss->next = now.losses;
    now.losses = loss;
    uint64_t grant = named(A_GRANT, needed_text(step, "grant"))->number;
    succeed("on_lost", keylatch_on_lost(now.locks, grant, on_lost, loss, NULL));
}

void do_lost(struct json *step, struct json *expected)
{
    const char *name = needed_text(step, "of");
    struct loss *loss = now.losses;
    while (loss && strcmp(loss->name, name) != 0)
        loss = loss->next;
    if (!loss)
        fail("nothing listens as %s", name);
    for (uint64_t until = monotonic() + PATIENCE; atomic_load(&loss->why) == 0; nap(1000000))
        if (monotonic() > until)
            fail("it is not lost");
    const char *why = atomic_load(&loss->why) == KEYLATCH_LOST_EXPIRED ? "expired" : "forced";
    if (!expected || !json_is_text(expected, why))
        fail("it was lost: %s", why);
}

void do_forked(struct json *step, struct json *expected)
{
    struct json *steps = needed(step, "steps");
    int status;
    (void)expected;
    pid_t child = fork();
    if (child < 0)
        fail("fork: %s", strerror(errno));
    if (child == 0)
        carry_out_and_exit(steps);
    if (waitpid(child, &status, 0) != child || status != 0)
        fail("the child ended with %#x", (unsigned)status);
    /* The child has read them, in its own memory. */
    for (struct json *inner = steps->first; inner; inner = inner->next)
        inner->taken = true;
}
