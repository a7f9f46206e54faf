/*
 * The storage engine at work: many threads, a writer that comes too late, processes that die. Every byte that is read is
 * compared with what was written.
 *
 *     storage_engine FOLDER [--seed N] [--operations N] [--kills N]
 *     storage_engine FOLDER --write-until-killed | --die-at MOMENT     (what it starts itself as, to be ended)
 */
#define _POSIX_C_SOURCE 200809L

#include "../check.h"
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 8
#define OBJECTS 12
/* Objects from here on are also removed. */
#define REMOVED_FROM 6
#define LONGEST 20000

extern char **environ;

static const char *program;
static uint64_t seed = 1;

#define DONE(call)                                                                                                 \
    do {                                                                                                           \
        result got_ = (call);                                                                                      \
        if (got_ != STORE_OK) {                                                                                    \
            fprintf(stderr, "%s:%d: %s: %s (errno: %s)\n", __FILE__, __LINE__, #call, result_text(got_), strerror(errno)); \
            exit(1);                                                                                               \
        }                                                                                                          \
    } while (0)

/* ---- contents that tell whether they are whole */

static uint64_t next(uint64_t *state)
{
    uint64_t x = (*state += UINT64_C(0x9e3779b97f4a7c15));
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Bytes that follow from an object and a number, which come first. */
static size_t make(unsigned char *bytes, const object_name *name, uint64_t number)
{
    uint64_t state = number;
    for (const char *at = name->object; *at; at++)
        state = state * 31 + (unsigned char)*at;
    size_t length = sizeof number + next(&state) % (LONGEST - sizeof number);
    memcpy(bytes, &number, sizeof number);
    for (size_t i = sizeof number; i < length; i++)
        bytes[i] = (unsigned char)next(&state);
    return length;
}

/* Whether all of them are there and none is another's. Tells the number. */
static uint64_t number_of(const object_name *name, const void *bytes, size_t length)
{
    unsigned char expected[LONGEST];
    uint64_t number;
    CHECK(length >= sizeof number);
    memcpy(&number, bytes, sizeof number);
    CHECK(make(expected, name, number) == length);
    CHECK(memcmp(expected, bytes, length) == 0);
    return number;
}

static result put(store *store, const char *owner, const object_name *name, uint64_t number, version *written)
{
    unsigned char bytes[LONGEST];
    return store_put(store, owner, name, bytes, make(bytes, name, number), written);
}

static result get(store *store, const object_name *name, uint64_t *number, version *read)
{
    void *bytes;
    size_t length;
    result done = store_get(store, "reader", name, &bytes, &length, read);
    if (done == STORE_OK) {
        *number = number_of(name, bytes, length);
        free(bytes);
    }
    return done;
}

static object_name object(int number, char text[32])
{
    snprintf(text, 32, "object/%d", number);
    return (object_name){ "photos", text };
}

static void nothing_is_left(store *store)
{
    keylatch_metrics metrics = KEYLATCH_METRICS_INIT;
    size_t leftovers;
    OK(keylatch_manager_metrics(store_locks(store), KEYLATCH_ALL_SHARDS, &metrics));
    CHECK(metrics.holders == 0 && metrics.waiters == 0);
    DONE(disk_leftovers(store_disk(store), &leftovers));
    CHECK(leftovers == 0);
}

/* ---- many threads */

typedef struct shared {
    store *store;
    unsigned operations;
    /* The newest version of each object whose writing had ended. */
    pthread_mutex_t mutex;
    version newest[OBJECTS];
    atomic_uint puts, gets, misses, old_gets, removals;
} shared;

typedef struct worker {
    shared *shared;
    unsigned number;
} worker;

static version newest_of(shared *shared, int number)
{
    pthread_mutex_lock(&shared->mutex);
    version newest = shared->newest[number];
    pthread_mutex_unlock(&shared->mutex);
    return newest;
}

static void *work(void *data)
{
    worker *worker = data;
    shared *shared = worker->shared;
    uint64_t random = seed * 1000 + worker->number, number;
    char owner[32];
    snprintf(owner, sizeof owner, "worker-%u", worker->number);
    for (unsigned i = 0; i < shared->operations; i++) {
        char text[OBJECTS][32];
        int chosen = (int)(next(&random) % OBJECTS);
        object_name name = object(chosen, text[0]);
        version before = newest_of(shared, chosen), version;
        unsigned what = (unsigned)(next(&random) % 16);
        if (what == 0) {
            object_name all[3];
            for (int j = 0; j < 3; j++)
                all[j] = object(REMOVED_FROM + (int)(next(&random) % (OBJECTS - REMOVED_FROM)), text[j]);
            DONE(store_remove(shared->store, owner, all, 3));
            shared->removals++;
        } else if (what < 5) {
            DONE(put(shared->store, owner, &name, (uint64_t)worker->number << 32 | i, &version));
            CHECK(version_is_newer(version, before));
            pthread_mutex_lock(&shared->mutex);
            if (version_is_newer(version, shared->newest[chosen]))
                shared->newest[chosen] = version;
            pthread_mutex_unlock(&shared->mutex);
            shared->puts++;
        } else if (what < 7 && before.epoch) {
            /* One version: the bytes are its own, or it is not kept any more. */
            void *bytes;
            size_t length;
            result done = store_get_version(shared->store, owner, &name, before, &bytes, &length);
            if (done != STORE_NOT_FOUND) {
                DONE(done);
                number_of(&name, bytes, length);
                free(bytes);
                shared->old_gets++;
            }
        } else {
            result done = get(shared->store, &name, &number, &version);
            if (done == STORE_NOT_FOUND) {
                CHECK(chosen >= REMOVED_FROM || !before.epoch);
                shared->misses++;
            } else {
                DONE(done);
                /* Whatever had been written before the read began, is seen by it. */
                CHECK(!version_is_newer(before, version));
                shared->gets++;
            }
        }
    }
    return NULL;
}

static void test_many_threads(const char *root, unsigned operations)
{
    shared shared = { .operations = operations, .mutex = PTHREAD_MUTEX_INITIALIZER };
    pthread_t threads[THREADS];
    worker workers[THREADS];
    DONE(store_open(root, NULL, &shared.store));
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (worker){ &shared, i };
        CHECK(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    nothing_is_left(shared.store);
    store_close(shared.store);
    CHECK(shared.puts && shared.gets && shared.old_gets && shared.removals);
    printf("%d threads: %u writes, %u reads, %u of one version, %u of what was removed, %u removals of three\n", THREADS,
           shared.puts, shared.gets, shared.old_gets, shared.misses, shared.removals);
}

/* ---- a writer that comes too late */

typedef struct pause {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int reached, goes_on;
    pthread_t who;
} pause_point;

static void pause_once(void *data, moment moment)
{
    pause_point *pause = data;
    if (moment != AT_WRITTEN || !pthread_equal(pthread_self(), pause->who))
        return;
    pthread_mutex_lock(&pause->mutex);
    pause->reached = 1;
    pthread_cond_broadcast(&pause->changed);
    while (!pause->goes_on)
        pthread_cond_wait(&pause->changed, &pause->mutex);
    pthread_mutex_unlock(&pause->mutex);
}

typedef struct late {
    store *store;
    pause_point *pause;
    result done;
} late;

static void *write_late(void *data)
{
    late *late = data;
    char text[32];
    object_name name = object(0, text);
    late->pause->who = pthread_self();
    late->done = put(late->store, "late", &name, 1, NULL);
    return NULL;
}

static void test_late_writer(const char *root)
{
    pause_point pause = { .mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    store_options options = { .lease_ns = 20000000, .witness = { pause_once, &pause } };
    late late = { .pause = &pause };
    pthread_t thread;
    char text[32];
    object_name name = object(0, text);
    uint64_t number;
    DONE(store_open(root, &options, &late.store));
    CHECK(pthread_create(&thread, NULL, write_late, &late) == 0);
    pthread_mutex_lock(&pause.mutex);
    while (!pause.reached)
        pthread_cond_wait(&pause.changed, &pause.mutex);
    pthread_mutex_unlock(&pause.mutex);
    /* It holds the lock and hangs. This write waits until its lease has run out, and is done. */
    DONE(put(late.store, "second", &name, 2, NULL));
    pthread_mutex_lock(&pause.mutex);
    pause.goes_on = 1;
    pthread_cond_broadcast(&pause.changed);
    pthread_mutex_unlock(&pause.mutex);
    pthread_join(thread, NULL);
    CHECK(late.done == STORE_STALE);
    DONE(get(late.store, &name, &number, NULL));
    CHECK(number == 2);
    nothing_is_left(late.store);
    store_close(late.store);
    puts("a writer that comes back after its lease is refused, and harms nothing");
}

/* ---- versions, names, damage */

static void test_versions(const char *root)
{
    store *store, *second;
    char text[32], longest[NAME_BYTES + 2];
    object_name name = object(0, text);
    version first;
    uint64_t grant;
    void *bytes;
    size_t length;
    DONE(store_open(root, NULL, &store));
    CHECK(store_open(root, NULL, &second) == STORE_IN_USE);

    DONE(put(store, "writer", &name, 1, &first));
    char key_text[40];
    snprintf(key_text, sizeof key_text, "%" PRIu64 ".%" PRIu64, first.epoch, first.fence);
    keylatch_key key = keylatch_key_of_version(name.bucket, name.object, key_text);
    OK(keylatch_acquire(store_locks(store), &key, KEYLATCH_SHARED, 0, NULL, &grant));
    for (uint64_t i = 2; i < 10; i++)
        DONE(put(store, "writer", &name, i, NULL));
    DONE(store_get_version(store, "reader", &name, first, &bytes, &length));
    CHECK(number_of(&name, bytes, length) == 1);
    free(bytes);
    OK(keylatch_release(store_locks(store), grant));
    DONE(put(store, "writer", &name, 10, NULL));
    CHECK(store_get_version(store, "reader", &name, first, &bytes, &length) == STORE_NOT_FOUND);

    memset(longest, 'n', sizeof longest);
    longest[NAME_BYTES + 1] = '\0';
    object_name bad[] = { { "", "o" }, { "b", "" }, { NULL, "o" }, { "b", NULL }, { longest, "o" }, { "b", longest } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(store_put(store, "writer", &bad[i], "x", 1, NULL) == STORE_NAME);
        CHECK(store_get(store, "reader", &bad[i], &bytes, &length, NULL) == STORE_NAME);
        CHECK(store_remove(store, "writer", &bad[i], 1) == STORE_NAME);
    }
    object_name strange[] = { { "..", "../../etc" }, { "a.b", "c" }, { "a", "b.c" }, { "%", "\n" } };
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++)
        DONE(put(store, "writer", &strange[i], i, NULL));
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
        uint64_t number;
        DONE(get(store, &strange[i], &number, NULL));
        CHECK(number == i);
    }
    DONE(store_put(store, "writer", &name, "", 0, &first));
    DONE(store_get(store, "reader", &name, &bytes, &length, NULL));
    CHECK(length == 0);
    free(bytes);
    DONE(store_put(store, "writer", &name, "damaged", 7, &first));

    /* "object/0" of "photos", as its folder is called. */
    char path[4096];
    snprintf(path, sizeof path, "%s/objects/70686f746f73.6f626a6563742f30/%016" PRIx64 "-%016" PRIx64, root, first.epoch,
             first.fence);
    int file = open(path, O_WRONLY);
    CHECK(file >= 0 && pwrite(file, "D", 1, 48) == 1 && close(file) == 0);
    CHECK(store_get(store, "reader", &name, &bytes, &length, NULL) == STORE_CORRUPT);
    nothing_is_left(store);
    store_close(store);
    puts("a version stays as long as it is read; bad names and damaged files are reported");
}

/* ---- processes that die */

static pid_t start(const char *root, const char *how, const char *more, int *output)
{
    int ends[2];
    pid_t child;
    posix_spawn_file_actions_t actions;
    char *arguments[] = { (char *)program, (char *)root, (char *)how, (char *)more, NULL };
    CHECK(pipe(ends) == 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    posix_spawn_file_actions_addclose(&actions, ends[1]);
    CHECK(posix_spawn(&child, program, &actions, NULL, arguments, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    *output = ends[0];
    return child;
}

static void was_killed(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void die_at(void *data, moment moment)
{
    if (moment == *(enum moment *)data)
        raise(SIGKILL);
}

/* In the child: writes or removes and dies half way. */
static int die_half_way(const char *root, moment moment)
{
    enum moment when = MOMENTS;
    store_options options = { .witness = { die_at, &when } };
    store *store;
    char text[OBJECTS][32];
    object_name names[OBJECTS];
    DONE(store_open(root, &options, &store));
    for (int i = 0; i < OBJECTS; i++) {
        names[i] = object(i, text[i]);
        DONE(put(store, "writer", &names[i], 1, NULL));
    }
    when = moment;
    if (moment < AT_ANNOUNCED)
        DONE(put(store, "writer", &names[0], 2, NULL));
    else
        DONE(store_remove(store, "writer", names, OBJECTS));
    return 0; /* which its parent will not like */
}

static void test_death_at_every_moment(const char *root)
{
    for (int moment = 0; moment < MOMENTS; moment++) {
        char text[32], digits[12];
        int output;
        store *store;
        snprintf(digits, sizeof digits, "%d", moment);
        was_killed(start(root, "--die-at", digits, &output));
        close(output);
        DONE(store_open(root, NULL, &store));
        for (int i = 0; i < OBJECTS; i++) {
            object_name name = object(i, text);
            uint64_t number = 0;
            result done = get(store, &name, &number, NULL);
            if (moment >= AT_ANNOUNCED) {
                CHECK(done == STORE_NOT_FOUND);
            } else {
                DONE(done);
                CHECK(number == (i == 0 && moment == AT_COMMITTED ? 2 : 1));
            }
        }
        nothing_is_left(store);
        store_close(store);
    }
    printf("a process dies at each of %d moments: what it did is there whole or not at all\n", MOMENTS);
}

static void *write_for_ever(void *data)
{
    worker *worker = data;
    uint64_t random = seed + worker->number;
    for (uint64_t i = 1;; i++) {
        char text[32], line[128];
        int chosen = (int)(next(&random) % OBJECTS);
        object_name name = object(chosen, text);
        version version;
        DONE(put(worker->shared->store, "writer", &name, i, &version));
        int length = snprintf(line, sizeof line, "%d %" PRIu64 " %" PRIu64 "\n", chosen, version.epoch, version.fence);
        CHECK(write(1, line, (size_t)length) == length);
    }
    return NULL;
}

/* In the child: tells every version once it is written. */
static int write_until_killed(const char *root)
{
    shared shared = { .mutex = PTHREAD_MUTEX_INITIALIZER };
    pthread_t threads[THREADS];
    worker workers[THREADS];
    DONE(store_open(root, NULL, &shared.store));
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (worker){ &shared, i };
        CHECK(pthread_create(&threads[i], NULL, write_for_ever, &workers[i]) == 0);
    }
    pthread_join(threads[0], NULL);
    return 1;
}

static void test_death_at_any_moment(const char *root, int kills)
{
    version newest[OBJECTS] = { { 0, 0 } };
    uint64_t random = seed, reported = 0;
    for (int round = 0; round < kills; round++) {
        int output, chosen;
        version version;
        pid_t child = start(root, "--write-until-killed", NULL, &output);
        uint64_t patience = 1 + next(&random) % 200, seen = 0;
        FILE *lines = fdopen(output, "r");
        CHECK(lines);
        while (fscanf(lines, "%d %" SCNu64 " %" SCNu64, &chosen, &version.epoch, &version.fence) == 3) {
            CHECK(chosen >= 0 && chosen < OBJECTS);
            if (version_is_newer(version, newest[chosen]))
                newest[chosen] = version;
            if (++seen == patience)
                CHECK(kill(child, SIGKILL) == 0);
        }
        fclose(lines);
        was_killed(child);
        CHECK(seen >= patience);
        reported += seen;
        store *store;
        DONE(store_open(root, NULL, &store));
        for (int i = 0; i < OBJECTS; i++) {
            char text[32];
            object_name name = object(i, text);
            uint64_t number;
            if (!newest[i].epoch)
                continue;
            DONE(get(store, &name, &number, &version));
            CHECK(!version_is_newer(newest[i], version));
        }
        nothing_is_left(store);
        store_close(store);
    }
    printf("a process is killed %d times while %d threads write: all %" PRIu64 " versions that it reported are safe\n", kills,
           THREADS, reported);
}

/* ---- the program */

static char *folder_in(const char *root, const char *name)
{
    static char path[4096];
    CHECK(snprintf(path, sizeof path, "%s/%s", root, name) < (int)sizeof path);
    return path;
}

int main(int count, char **arguments)
{
    unsigned operations = 400;
    int kills = 5;
    program = arguments[0];
    if (count < 2 || arguments[1][0] == '-') {
        fprintf(stderr, "usage: %s EMPTY-FOLDER [--seed N] [--operations N] [--kills N]\n", program);
        return 2;
    }
    const char *root = arguments[1];
    for (int i = 2; i < count; i++) {
        const char *value = i + 1 < count ? arguments[i + 1] : "";
        if (strcmp(arguments[i], "--write-until-killed") == 0)
            return write_until_killed(root);
        if (strcmp(arguments[i], "--die-at") == 0)
            return die_half_way(root, (moment)atoi(value));
        char *end;
        unsigned long number = strtoul(value, &end, 10);
        if (end == value || *end || number > 1000000000) {
            fprintf(stderr, "%s needs a number\n", arguments[i]);
            return 2;
        }
        if (strcmp(arguments[i], "--seed") == 0)
            seed = number;
        else if (strcmp(arguments[i], "--operations") == 0)
            operations = (unsigned)number;
        else if (strcmp(arguments[i], "--kills") == 0)
            kills = (int)number;
        else {
            fprintf(stderr, "there is no option %s\n", arguments[i]);
            return 2;
        }
        i++;
    }
    printf("seed %" PRIu64 "\n", seed);
    test_versions(folder_in(root, "versions"));
    test_late_writer(folder_in(root, "late"));
    test_death_at_every_moment(folder_in(root, "death"));
    test_many_threads(folder_in(root, "threads"), operations);
    test_death_at_any_moment(folder_in(root, "killed"), kills);
    return 0;
}
