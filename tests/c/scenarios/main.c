/*
 * Carries out the files of tests/scenarios through keylatch.h; the page beside them says what they mean.
 *
 *     scenarios FILE...      each twice: with requests that wait by queue and by callback
 *     scenarios --refuses    sees that wrong scenarios do fail
 *
 * Prints a line for each and ends with 1 if one failed.
 */
#include "expected.h"
#include "story.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static jmp_buf over;
static char problem[16384];

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem, sizeof problem, format, arguments);
    va_end(arguments);
    longjmp(over, 1);
}

static struct kept {
    struct kept *next;
} *all_kept;

void *keep(size_t size)
{
    struct kept *kept = calloc(1, sizeof(struct { struct kept kept; long double align; }) + size);
    if (!kept)
        abort();
    kept->next = all_kept;
    all_kept = kept;
    return (char *)kept + sizeof(struct { struct kept kept; long double align; });
}

static void forget_all(void)
{
    while (all_kept) {
        struct kept *kept = all_kept;
        all_kept = kept->next;
        free(kept);
    }
}

/* Which step it is, for the message. */
static size_t step_number;

static void carry_out_all(struct json *scenario)
{
    struct json *expected = NULL, none = { .kind = JSON_OBJECT }, *manager = json_take(scenario, "manager");
    if (scenario->kind != JSON_OBJECT)
        fail("it is not an object");
    needed_text(scenario, "name");
    json_take(scenario, "needs");
    struct json *steps = needed(scenario, "steps"), *left = json_take(scenario, "left");
    all_understood(scenario);
    keylatch_manager_options options = settings_from(manager ? manager : &none, &expected);
    if (!came_to(expected, keylatch_manager_new(&options, &now.locks))) {
        if (steps->count)
            fail("there are steps, but no manager");
        return;
    }
    succeed("a queue", keylatch_queue_new(now.locks, &now.queue));
    for (struct json *step = steps->first; step; step = step->next) {
        step_number++;
        carry_out(step);
    }
    step_number = 0;
    int64_t holders = left ? number_field(left, "holders") : 0, waiters = left ? number_field(left, "waiters") : 0;
    if (left)
        all_understood(left);
    if (figure("holders") != (uint64_t)(holders < 0 ? 0 : holders))
        fail("%llu holders are left", (unsigned long long)figure("holders"));
    if (figure("waiters") != (uint64_t)(waiters < 0 ? 0 : waiters))
        fail("%llu waiters are left", (unsigned long long)figure("waiters"));
}

void carry_out_and_exit(struct json *steps)
{
    if (setjmp(over) == 0) {
        for (struct json *step = steps->first; step; step = step->next)
            carry_out(step);
        /* What the parent's other threads had is reachable from no thread here: a leak checker is not to look. */
        execlp("true", "true", (char *)NULL);
        _exit(0);
    }
    fprintf(stderr, "in the child: %s\n", problem);
    _exit(1);
}

/* Gives everything back, wherever the scenario stopped. NULL, or what could not be. */
static const char *clean_up(void)
{
    const char *complaint = NULL;
    for (struct named *named = now.names; named && now.locks; named = named->next)
        if (named->thing == A_GRANT)
            keylatch_release(now.locks, named->number);
    if (now.locks && keylatch_manager_close(now.locks) != KEYLATCH_OK)
        complaint = "the manager could not be closed";
    for (struct waiting *wait = now.waits; wait; wait = wait->next)
        if (wait->has_thread)
            pthread_join(wait->thread, NULL);
    for (struct owned *owned = now.owners; owned; owned = owned->next)
        if (keylatch_owner_free(owned->owner) != KEYLATCH_OK)
            complaint = "an owner could not be freed";
    if (keylatch_events_free(now.events) != KEYLATCH_OK)
        complaint = "the subscription could not be freed";
    if (keylatch_queue_free(now.queue) != KEYLATCH_OK)
        complaint = "the queue could not be freed";
    if (keylatch_manager_free(now.locks) != KEYLATCH_OK)
        complaint = "the manager could not be freed";
    for (struct waiting *wait = now.waits; wait; wait = wait->next) {
        report_free(&wait->report);
        pthread_mutex_destroy(&wait->mutex);
        pthread_cond_destroy(&wait->over);
    }
    keylatch_last_error_clear();
    forget_all();
    return complaint;
}

/* NULL, or what went otherwise. */
static const char *run(const char *text, size_t length, enum way way)
{
    struct json *scenario = json_read(text, length, problem, sizeof problem);
    if (!scenario)
        return problem;
    now = (struct story){ .way = way };
    step_number = 0;
    bool failed = true;
    if (setjmp(over) == 0) {
        carry_out_all(scenario);
        problem[0] = 0;
    }
    failed = problem[0] != 0;
    if (failed && step_number) {
        char inside[sizeof problem];
        memcpy(inside, problem, sizeof inside);
        snprintf(problem, sizeof problem, "step %zu: %.16000s", step_number, inside);
    }
    const char *complaint = clean_up();
    json_free(scenario);
    return failed ? problem : complaint;
}

/* The features that a scenario needs and this runner has not. */
static bool lacks(const char *text, size_t length, char *features, size_t size)
{
    struct json *scenario = json_read(text, length, problem, sizeof problem);
    struct json *needs = scenario ? json_take(scenario, "needs") : NULL;
    features[0] = 0;
    for (struct json *need = needs ? needs->first : NULL; need; need = need->next)
        if (need->kind != JSON_TEXT || !has_feature(need->text))
            snprintf(features + strlen(features), size - strlen(features), " %s", need->kind == JSON_TEXT ? need->text : "?");
    json_free(scenario);
    return features[0] != 0;
}

static char *contents(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    size_t capacity = 1 << 20;
    char *text = malloc(capacity);
    if (!file || !text) {
        perror(path);
        exit(2);
    }
    *length = fread(text, 1, capacity, file);
    fclose(file);
    return text;
}

static int carry_out_files(int count, char **paths)
{
    static const char *const ways[] = { "queue", "callback" };
    int passed = 0, failed = 0, skipped = 0;
    for (int i = 0; i < count; i++) {
        const char *name = strrchr(paths[i], '/') ? strrchr(paths[i], '/') + 1 : paths[i];
        char features[256];
        size_t length;
        char *text = contents(paths[i], &length);
        if (lacks(text, length, features, sizeof features)) {
            printf("skip %s: it needs%s\n", name, features);
            skipped++;
            free(text);
            continue;
        }
        const char *wrong = NULL;
        for (int way = 0; way < 2 && !wrong; way++)
            if ((wrong = run(text, length, (enum way)way)))
                printf("FAIL %s, by %s: %s\n", name, ways[way], wrong);
        if (!wrong)
            printf("ok   %s\n", name);
        passed += !wrong;
        failed += !!wrong;
        free(text);
    }
    printf("%d scenarios passed, %d failed, %d skipped\n", passed, failed, skipped);
    /* A list of files that came out empty is no success. */
    return failed || !passed;
}

/* What is wrong with each has to be said. */
static const struct { const char *scenario, *said; } wrong[] = {
    { "{", "a field has no name" },
    { "{\"name\": \"x\", \"steps\": []} x", "something follows" },
    { "{\"name\": \"x\", \"name\": \"y\", \"steps\": []}", "one name" },
    { "{\"steps\": []}", "no name" },
    { "{\"name\": \"x\"}", "no steps" },
    { "{\"name\": \"x\", \"steps\": [], \"more\": 1}", "not understood: more" },
    { "{\"name\": \"x\", \"manager\": {\"shard\": 1}, \"steps\": []}", "not understood: shard" },
    { "{\"name\": \"x\", \"manager\": {\"fairness\": \"fi\"}, \"steps\": []}", "fi is not known" },
    { "{\"name\": \"x\", \"manager\": {\"shards\": 1000}, \"steps\": []}", "KEYLATCH_ECONFIG" },
    { "{\"name\": \"x\", \"manager\": {\"expect\": {\"error\": \"invalid_config\"}}, \"steps\": []}", "succeeded" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"fly\"}]}", "step 1: this runner has no step fly" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"close\", \"now\": 1}]}", "not understood: now" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"close\", \"expect\": {\"error\": \"closed\"}}]}", "succeeded" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"release\", \"grant\": \"g\"}]}", "no grant is named g" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"try\", \"key\": [\"b\"], \"mode\": \"shared\"}]}", "two or three parts" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"try\", \"key\": [\"b\", \"o\"], \"mode\": \"alone\"}]}", "alone is no mode" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"try\", \"key\": [\"b\", \"o\"], \"mode\": \"shared\", \"ower\": \"a\"}]}", "ower" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"try\", \"key\": [\"b\", \"o\"], \"mode\": \"shared\", \"as\": \"g\"}]}", "1 holders are left" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"metrics\", \"expect\": {\"holders\": 1}}]}", "holders is 0" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"metrics\", \"expect\": {\"holdrs\": 0}}]}", "holdrs is no figure" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"health\", \"expect\": false}]}", "came to true" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"openmetrics\", \"contains\": [\"# EO\"]}]}", "there is no line" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"try\", \"key\": [\"b\", \"o\"], \"mode\": \"exclusive\", \"owner\": \"me\", \"as\": \"g\"},"
      " {\"do\": \"try\", \"key\": [\"b\", \"o\"], \"mode\": \"shared\", \"expect\": {\"error\": \"would_block\", \"holders\": [\"you\"]}}]}", "you is not among" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"try\", \"key\": [\"b\", \"o\"], \"mode\": \"exclusive\", \"as\": \"g\"},"
      " {\"do\": \"try\", \"key\": [\"b\", \"o\"], \"mode\": \"shared\", \"expect\": {\"error\": \"timeout\"}}]}", "KEYLATCH_ETIMEOUT was expected" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"try\", \"key\": [\"b\", \"o\"], \"mode\": \"exclusive\", \"as\": \"g\"},"
      " {\"do\": \"try\", \"key\": [\"b\", \"o\"], \"mode\": \"shared\", \"expect\": {\"error\": \"would_block\", \"key\": [\"b\", \"p\"]}}]}", "another key" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"try\", \"key\": [\"b\", \"o\"], \"mode\": \"exclusive\", \"as\": \"g\"},"
      " {\"do\": \"try\", \"key\": [\"b\", \"o\"], \"mode\": \"shared\", \"expect\": {\"error\": \"would_block\", \"transient\": false}}]}", "transient" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"try\", \"key\": [\"b\", \"o\"], \"mode\": \"exclusive\", \"as\": \"g\"},"
      " {\"do\": \"holds\", \"grant\": \"g\", \"mode\": \"shared\"}]}", "another mode" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"try\", \"key\": [\"b\", \"o\"], \"mode\": \"exclusive\", \"as\": \"g\"},"
      " {\"do\": \"start\", \"key\": [\"b\", \"o\"], \"mode\": \"shared\", \"as\": \"s\"}, {\"do\": \"release\", \"grant\": \"g\"},"
      " {\"do\": \"waits\", \"wait\": \"s\"}]}", "it has ended" },
    { "{\"name\": \"x\", \"steps\": [{\"do\": \"try\", \"key\": [\"b\", \"o\"], \"mode\": \"exclusive\", \"as\": \"g\"},"
      " {\"do\": \"start\", \"key\": [\"b\", \"o\"], \"mode\": \"shared\", \"as\": \"s\"},"
      " {\"do\": \"cancel\", \"wait\": \"s\", \"expect\": false}]}", "came to true" },
};

static int refuses(void)
{
    int failed = 0, count = (int)(sizeof wrong / sizeof *wrong);
    for (int i = 0; i < count; i++) {
        const char *said = run(wrong[i].scenario, strlen(wrong[i].scenario), (enum way)(i % 2));
        if (said && strstr(said, wrong[i].said))
            continue;
        printf("FAIL %s\n  came to: %s\n", wrong[i].scenario, said ? said : "success");
        failed++;
    }
    printf("%d wrong scenarios: %d refused\n", count, count - failed);
    return failed != 0;
}

int main(int count, char **arguments)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count == 2 && strcmp(arguments[1], "--refuses") == 0)
        return refuses();
    return carry_out_files(count - 1, arguments + 1);
}
