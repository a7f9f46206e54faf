/*
 * Carries out the files of tests/scenarios/claims through keylatch.h; tests/scenarios/README.md says what they mean.
 *
 *     claims FILE...      each three times: answers come to the thread, to a callback, to a queue
 */
#define _POSIX_C_SOURCE 200809L

#include "../check.h"
#include "json.h"
#include "keylatch.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>

enum way { BY_THREAD, BY_CALLBACK, BY_QUEUE, WAYS };

#define MOST 16
#define PATIENCE UINT64_C(60000000000)

static keylatch_claims *claims;
static keylatch_claim_queue *queue;
static keylatch_claim_watch *watch;
static struct claimant {
    const char *name;
    keylatch_claimant *is;
    uint64_t fences[64];
} claimants[MOST];
static char events[MOST * 4][16];
static size_t event_count;
static const char *file;
static size_t step_number;

static void wrong(const char *what)
{
    fprintf(stderr, "%s, step %zu: %s: %s\n", file, step_number, what, keylatch_last_error());
    exit(1);
}

static uint64_t number(struct json *step, const char *name)
{
    struct json *value = json_take(step, name);
    return value ? (uint64_t)value->number : 0;
}

static bool is_true(struct json *step, const char *name)
{
    struct json *value = json_take(step, name);
    return value && value->kind == JSON_TRUE;
}

static struct claimant *claimant_named(const char *name)
{
    size_t i = 0;
    while (i < MOST && claimants[i].name && strcmp(claimants[i].name, name) != 0)
        i++;
    CHECK(i < MOST);
    if (!claimants[i].is) {
        OK(keylatch_claimant_new(claims, name, strlen(name), 0, &claimants[i].is));
        claimants[i].name = name;
    }
    return &claimants[i];
}

/* An answer, or a status. */
struct came {
    int32_t status;
    keylatch_claim_answer answer;
    /* Whether the answer's text is to be freed. */
    bool has_text;
};

static struct handed {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool called, freed;
    struct came came;
    char text[4097];
} handed = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false, { 0 }, "" };

static void on_answer(void *user_data, int32_t status, const keylatch_claim_answer *answer)
{
    struct handed *to = user_data;
    pthread_mutex_lock(&to->mutex);
    CHECK(!to->called && (status == KEYLATCH_OK) == (answer != NULL));
    to->came.status = status;
    if (answer) {
        to->came.answer = *answer;
        /* It lives until the callback returns. */
        if (answer->text) {
            snprintf(to->text, sizeof to->text, "%s", answer->text);
            to->came.answer.text = to->text;
        }
    }
    to->called = true;
    pthread_mutex_unlock(&to->mutex);
}

static void on_free(void *user_data)
{
    struct handed *to = user_data;
    pthread_mutex_lock(&to->mutex);
    CHECK(to->called && !to->freed);
    to->freed = true;
    pthread_cond_signal(&to->changed);
    pthread_mutex_unlock(&to->mutex);
}

static struct came wait_for(struct claimant *by, const keylatch_key *resource, uint64_t of, const keylatch_claim_policy *policy, enum way way)
{
    struct came came = { KEYLATCH_OK, KEYLATCH_CLAIM_ANSWER_INIT, true };
    if (way == BY_THREAD) {
        came.status = keylatch_claim(by->is, resource, of, PATIENCE, policy, &came.answer);
    } else if (way == BY_CALLBACK) {
        handed.called = handed.freed = false;
        memset(&handed.came, 0, sizeof handed.came);
        OK(keylatch_claim_callback_submit(by->is, resource, of, PATIENCE, policy, on_answer, &handed, on_free));
        pthread_mutex_lock(&handed.mutex);
        while (!handed.freed)
            pthread_cond_wait(&handed.changed, &handed.mutex);
        came = handed.came;
        pthread_mutex_unlock(&handed.mutex);
    } else {
        struct pollfd readable = { 0, POLLIN, 0 };
        uint64_t token = 0;
        OK(keylatch_claim_queue_fd(queue, &readable.fd));
        OK(keylatch_claim_queue_submit(by->is, resource, of, PATIENCE, policy, queue, 7));
        CHECK(poll(&readable, 1, 60000) == 1);
        OK(keylatch_claim_queue_next(queue, &token, &came.status, &came.answer));
        CHECK(token == 7);
        CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_claim_queue_next(queue, &token, &came.status, &came.answer));
        CHECK(poll(&readable, 1, 0) == 0);
    }
    return came;
}

static const char *const kinds[] = { "waiting", "yours", "done", "ended", "lost", "skipped", "superseded", "cancelled" };

static int32_t status_called(const char *word)
{
    static const struct { const char *word; int32_t status; } words[] = {
        { "not_yours", KEYLATCH_ENOTHELD }, { "line_full", KEYLATCH_EWAITERS }, { "session_gone", KEYLATCH_ESESSION },
        { "epoch_changed", KEYLATCH_EEPOCH }, { "stale_request", KEYLATCH_ESTALE }, { "number_in_use", KEYLATCH_ENUMBER },
        { "too_many_open", KEYLATCH_EOPEN }, { "too_many_sessions", KEYLATCH_ESESSIONS },
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i].word, word) == 0)
            return words[i].status;
    wrong("an error that is none");
    return 0;
}

/* Compares, and frees the answer's text. */
static void compare(struct json *expected, struct came came)
{
    struct json *error = expected && expected->kind == JSON_OBJECT ? json_take(expected, "error") : NULL;
    if (error) {
        if (came.status != status_called(error->text))
            wrong("another error was expected");
        CHECK(!json_untaken(expected));
        return;
    }
    if (came.status != KEYLATCH_OK)
        wrong("it failed");
    if (!expected || expected->kind != JSON_OBJECT)
        return;
    struct json *answer = json_take(expected, "answer"), *text = json_take(expected, "text");
    struct json *succeeded = json_take(expected, "succeeded"), *ahead = json_take(expected, "ahead"), *attempt = json_take(expected, "attempt");
    if (answer && !json_is_text(answer, kinds[came.answer.kind]))
        wrong(kinds[came.answer.kind]);
    if (text && (!came.answer.text || !json_is_text(text, came.answer.text)))
        wrong("another text was expected");
    if ((succeeded && (succeeded->kind == JSON_TRUE) != came.answer.succeeded) || (ahead && (uint64_t)ahead->number != came.answer.ahead) ||
        (attempt && (uint32_t)attempt->number != came.answer.attempt))
        wrong("another answer was expected");
    CHECK(!json_untaken(expected));
    if (came.has_text)
        keylatch_text_free(came.answer.text);
}

static void note_fence(struct claimant *by, uint64_t of, const struct came *came)
{
    if (came->status != KEYLATCH_OK || came->answer.kind != KEYLATCH_CLAIM_YOURS)
        return;
    CHECK(of < 64);
    if (by->fences[of] && by->fences[of] != came->answer.fence)
        wrong("the request had another fence");
    by->fences[of] = came->answer.fence;
}

static void fetch_events(void)
{
    static const char *const names[] = { "", "reset", "granted", "failed", "done", "progress", "forgotten" };
    keylatch_claim_event event = KEYLATCH_CLAIM_EVENT_INIT;
    int32_t status;
    while ((status = keylatch_claim_watch_next(watch, &event)) == KEYLATCH_OK) {
        CHECK(event_count < MOST * 4 && event.kind >= 1 && event.kind <= 6);
        /* Without gaps. */
        CHECK(event.kind == KEYLATCH_CLAIM_EVENT_RESET || event.sequence == event_count + 1);
        if (event.kind != KEYLATCH_CLAIM_EVENT_RESET)
            strcpy(events[event_count++], names[event.kind]);
        keylatch_text_free(event.owner);
        keylatch_text_free(event.text);
    }
    CHECK(status == KEYLATCH_EWOULDBLOCK);
}

/* way is WAYS for not waiting. */
static void claim(struct json *step, struct claimant *by, uint64_t of, const keylatch_key *resource, enum way way)
{
    keylatch_claim_policy policy = KEYLATCH_CLAIM_POLICY_INIT;
    struct came came = { KEYLATCH_OK, KEYLATCH_CLAIM_ANSWER_INIT, true };
    policy.lease_ns = number(step, "lease_ms") * 1000000;
    policy.retry_after_ns = number(step, "retry_after_ms") * 1000000;
    policy.max_waiting = number(step, "max_waiting");
    policy.max_attempts = (uint32_t)number(step, "max_attempts");
    policy.flags = (is_true(step, "skip_if_claimed") ? KEYLATCH_CLAIM_SKIP_IF_CLAIMED : 0u) |
        (is_true(step, "latest_only") ? KEYLATCH_CLAIM_LATEST_ONLY : 0u);
    if (way != WAYS)
        came = wait_for(by, resource, of, &policy, way);
    else
        came.status = keylatch_claim(by->is, resource, of, 0, &policy, &came.answer);
    note_fence(by, of, &came);
    compare(json_take(step, "expect"), came);
}

static void complete(struct json *step, struct claimant *by, uint64_t of)
{
    struct json *success = json_take(step, "success"), *failure = json_take(step, "failure"), *shown = json_take(step, "fence_of");
    struct came came = { KEYLATCH_OK, KEYLATCH_CLAIM_ANSWER_INIT, true };
    struct json *text = success ? success : failure;
    CHECK(text && of < 64);
    uint64_t fence = shown ? claimant_named(shown->first->text)->fences[shown->first->next->number] : by->fences[of];
    came.status = keylatch_claim_complete(by->is, of, fence, success != NULL, text->text, text->length, &came.answer);
    compare(json_take(step, "expect"), came);
}

static void carry_out(struct json *step, enum way way)
{
    struct json *verb = json_take(step, "do"), *name = json_take(step, "by"), *object = json_take(step, "resource"), *expected;
    struct claimant *by = name ? claimant_named(name->text) : NULL;
    uint64_t of = number(step, "number");
    keylatch_key resource = keylatch_key_of("layers", object ? object->text : "x");
    struct came came = { KEYLATCH_OK, KEYLATCH_CLAIM_ANSWER_INIT, true };
    if (json_is_text(verb, "claim") || json_is_text(verb, "wait")) {
        claim(step, by, of, &resource, json_is_text(verb, "wait") ? way : WAYS);
    } else if (json_is_text(verb, "complete")) {
        complete(step, by, of);
    } else if (json_is_text(verb, "cancel")) {
        came.status = keylatch_claim_cancel(by->is, of, &came.answer);
        compare(json_take(step, "expect"), came);
    } else if (json_is_text(verb, "progress")) {
        struct json *address = json_take(step, "address");
        uint64_t done = number(step, "done"), total = number(step, "total"), fence = by->fences[of] ? by->fences[of] : 1;
        came.status = keylatch_claim_progress(by->is, of, fence, done, total, address ? address->text : NULL, address ? address->length : 0);
        compare(json_take(step, "expect"), came);
    } else if (json_is_text(verb, "renew")) {
        came.status = keylatch_claim_renew(by->is, of, by->fences[of], number(step, "lease_ms") * 1000000);
        compare(json_take(step, "expect"), came);
    } else if (json_is_text(verb, "settle_below")) {
        OK(keylatch_claimant_settle_below(by->is, number(step, "below")));
    } else if (json_is_text(verb, "end")) {
        OK(keylatch_claimant_free(by->is));
        by->is = NULL;
    } else if (json_is_text(verb, "force_release")) {
        uint64_t fence;
        OK(keylatch_claim_force_release(claims, &resource, &fence));
        CHECK(is_true(step, "expect") == (fence != 0));
    } else if (json_is_text(verb, "forget")) {
        int32_t forgotten;
        OK(keylatch_claim_forget(claims, &resource, &forgotten));
        CHECK(is_true(step, "expect") == forgotten);
    } else if (json_is_text(verb, "events")) {
        size_t i = 0;
        fetch_events();
        expected = json_take(step, "expect");
        for (struct json *kind = expected->first; kind; kind = kind->next, i++)
            if (i >= event_count || !json_is_text(kind, events[i]))
                wrong("another event was expected");
        if (i != event_count)
            wrong("there were more events");
    } else {
        wrong("no step");
    }
    if (json_untaken(step))
        wrong(json_untaken(step));
}

static void carry_out_all(struct json *story, enum way way)
{
    keylatch_claims_options options = KEYLATCH_CLAIMS_OPTIONS_INIT;
    struct json *settings = json_take(story, "claims"), *steps = json_take(story, "steps"), none = { .kind = JSON_OBJECT };
    keylatch_key x = keylatch_key_of("layers", "x");
    settings = settings ? settings : &none;
    CHECK(json_take(story, "name") && steps && !json_untaken(story));
    options.retain_count = number(settings, "retain_count");
    options.ring = number(settings, "ring");
    options.max_open = number(settings, "max_open");
    options.max_claimants = number(settings, "max_claimants");
    options.max_waiters = number(settings, "max_waiters");
    CHECK(!json_untaken(settings));
    memset(claimants, 0, sizeof claimants);
    event_count = 0;
    OK(keylatch_claims_new(&options, &claims));
    OK(keylatch_claim_queue_new(claims, &queue));
    OK(keylatch_claim_watch_new(claims, &x, 0, 0, &watch));
    fetch_events();
    step_number = 0;
    for (struct json *step = steps->first; step; step = step->next) {
        step_number++;
        carry_out(step, way);
    }
    for (size_t i = 0; i < MOST; i++)
        OK(keylatch_claimant_free(claimants[i].is));
    OK(keylatch_claim_watch_free(watch));
    OK(keylatch_claims_free(claims));
    OK(keylatch_claim_queue_free(queue));
}

int main(int count, char **arguments)
{
    static char text[1 << 16], problem[256];
    for (int i = 1; i < count; i++) {
        FILE *from = fopen(file = arguments[i], "r");
        CHECK(from);
        size_t length = fread(text, 1, sizeof text, from);
        CHECK(length < sizeof text && fclose(from) == 0);
        for (int way = 0; way < WAYS; way++) {
            struct json *story = json_read(text, length, problem, sizeof problem);
            if (!story)
                wrong(problem);
            carry_out_all(story, (enum way)way);
            json_free(story);
        }
    }
    CHECK(count > 19);
    printf("%d scenarios of claims, each in three ways\n", count - 1);
    return 0;
}
