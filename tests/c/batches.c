/*
 * Batches against a simple model: whichever way the library goes about one, what comes of it is the same. Each key once, in
 * the strongest mode that is asked for, at its first place; or nothing, and nothing written.
 */
#define _POSIX_C_SOURCE 200809L

#include "keylatch.h"
#include "check.h"

#include <pthread.h>
#include <string.h>

#define KEYS 600
#define MOST 600
#define UNTOUCHED 77

static keylatch_manager *locks;
static keylatch_key keys[KEYS];
static int32_t held[KEYS];
static uint64_t held_grants[KEYS];
static uint64_t state = 1;

static uint64_t some(uint64_t below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (state >> 33) % below;
}

static uint64_t holders(void)
{
    keylatch_metrics metrics = KEYLATCH_METRICS_INIT;
    OK(keylatch_manager_metrics(locks, KEYLATCH_ALL_SHARDS, &metrics));
    return metrics.holders;
}

/* Objects, versions of them, the version of no bytes, and parts that end alike but begin differently. */
static void make_keys(void)
{
    static char objects[KEYS][64], versions[KEYS][16];
    for (size_t i = 0; i < KEYS; i++) {
        keylatch_key *key = &keys[i];
        snprintf(objects[i], sizeof objects[i], i % 3 == 0 ? "%zu/the-same-end" : "object-%zu", i / 4 * 4);
        snprintf(versions[i], sizeof versions[i], "v%zu", i);
        *key = keylatch_key_of(i % 5 == 0 ? "bucket" : "b", objects[i]);
        if (i % 4 == 1) {
            key->version = "";
        } else if (i % 4 != 0) {
            key->version = versions[i];
            key->version_len = strlen(versions[i]);
        }
    }
    for (size_t i = 0; i < KEYS; i += 7)
        keys[i] = keylatch_key_of(i % 2 ? "" : "bucket", objects[i]);
}

static int same_part(const void *one, size_t one_len, const void *other, size_t other_len)
{
    return one_len == other_len && (one_len == 0 || memcmp(one, other, one_len) == 0);
}

static int same(const keylatch_key *one, const keylatch_key *other)
{
    return same_part(one->bucket, one->bucket_len, other->bucket, other->bucket_len) &&
           same_part(one->object, one->object_len, other->object, other->object_len) && !one->version == !other->version &&
           same_part(one->version, one->version_len, other->version, other->version_len);
}

/* The number of the first key that is the same: some are there twice under two numbers. */
static size_t number_of(size_t key)
{
    for (size_t i = 0; i < key; i++)
        if (same(&keys[i], &keys[key]))
            return i;
    return key;
}

static void is_held(uint64_t grant, const keylatch_key *key, int32_t mode)
{
    char buffer[256];
    keylatch_key named;
    int32_t named_mode;
    OK(keylatch_grant_key(locks, grant, buffer, sizeof buffer, &named));
    OK(keylatch_grant_mode(locks, grant, &named_mode));
    CHECK(same(&named, key) && named_mode == mode);
}

/* Holds some keys, as another holder in the way of some batches. */
static void hold_some(size_t count)
{
    memset(held, 0, sizeof held);
    for (size_t i = 0; i < count; i++) {
        size_t key = number_of(some(KEYS));
        if (held[key] != 0)
            continue;
        held[key] = some(4) == 0 ? KEYLATCH_EXCLUSIVE : KEYLATCH_SHARED;
        OK(keylatch_try(locks, &keys[key], held[key], NULL, &held_grants[key]));
    }
}

static void let_go(void)
{
    for (size_t key = 0; key < KEYS; key++)
        if (held[key] != 0)
            OK(keylatch_release(locks, held_grants[key]));
    memset(held, 0, sizeof held);
}

static int clashes(int32_t wanted, int32_t has)
{
    return has == KEYLATCH_EXCLUSIVE || (has == KEYLATCH_SHARED && wanted == KEYLATCH_EXCLUSIVE);
}

static size_t granted, refused, in_part;

/* One batch. What it is like, how many keys it is from and who asks are drawn. */
static void one_batch(size_t count, size_t from, const keylatch_request_options *options)
{
    static keylatch_batch_item items[MOST];
    static uint64_t grants[MOST];
    static int32_t statuses[MOST], modes[KEYS];
    static size_t numbers[MOST], first[KEYS];
    uint64_t before = holders(), distinct = 0;
    size_t readers = some(3), start = some(KEYS), clash = 0;
    int best_effort = options != NULL && options->flags & KEYLATCH_BEST_EFFORT;
    memset(modes, 0, sizeof modes);
    for (size_t i = 0; i < count; i++) {
        numbers[i] = number_of(from == KEYS ? (start + i) % KEYS : some(from));
        int32_t mode = readers == 0 || (readers == 1 && some(2)) ? KEYLATCH_EXCLUSIVE : KEYLATCH_SHARED;
        items[i] = (keylatch_batch_item){ keys[numbers[i]], mode, 0 };
        grants[i] = UNTOUCHED;
        statuses[i] = UNTOUCHED;
        if (modes[numbers[i]] == 0) {
            first[numbers[i]] = i;
            distinct++;
        }
        if (modes[numbers[i]] < mode)
            modes[numbers[i]] = mode;
    }
    for (size_t key = 0; key < KEYS; key++)
        clash += modes[key] != 0 && clashes(modes[key], held[key]);
    int32_t status = keylatch_acquire_batch(locks, items, count, 0, options, grants, statuses);
    if (clash > 0 && !best_effort) {
        CHECK_STATUS(KEYLATCH_ETIMEOUT, status);
        keylatch_key failed;
        OK(keylatch_last_key(&failed));
        for (size_t i = 0; i < count; i++)
            CHECK(grants[i] == UNTOUCHED && statuses[i] == UNTOUCHED);
        CHECK(holders() == before);
        refused++;
        return;
    }
    CHECK_STATUS(KEYLATCH_OK, status);
    CHECK(holders() == before + distinct - clash);
    for (size_t i = 0; i < count; i++) {
        int misses = clashes(modes[numbers[i]], held[numbers[i]]);
        CHECK((statuses[i] == KEYLATCH_OK) == !misses);
        if (misses || first[numbers[i]] != i) {
            CHECK(grants[i] == 0);
            continue;
        }
        uint64_t left, fence;
        is_held(grants[i], &items[i].key, modes[numbers[i]]);
        OK(keylatch_fence(locks, grants[i], &fence));
        OK(keylatch_remaining(locks, grants[i], &left));
        CHECK((left == KEYLATCH_NEVER) == (options == NULL || options->ttl_ns == 0));
    }
    if (clash > 0)
        in_part++;
    else
        granted++;
    size_t released;
    OK(keylatch_release_many(locks, grants, count, &released));
    CHECK(released == distinct - clash && holders() == before);
}

static void test_against_the_model(void)
{
    static const size_t sizes[] = { 0, 1, 2, 3, 16, 31, 32, 33, 127, 128, 129, 255, 256, 257, MOST };
    keylatch_owner_options session = KEYLATCH_OWNER_OPTIONS_INIT;
    keylatch_owner *node, *writer;
    session.flags = KEYLATCH_OWNER_SESSION;
    OK(keylatch_owner_new(locks, "node", 4, NULL, &node));
    OK(keylatch_owner_new(locks, "writer", 6, &session, &writer));
    for (int round = 0; round < 3000; round++) {
        keylatch_request_options options = KEYLATCH_REQUEST_OPTIONS_INIT;
        options.owner = some(2) ? NULL : some(2) ? node : writer;
        options.priority = some(2) ? 0 : (uint32_t)some(256);
        options.flags = some(3) ? 0 : KEYLATCH_BEST_EFFORT;
        if (some(4) == 0)
            options.ttl_ns = UINT64_C(3600000000000);
        if (some(4) == 0) {
            options.owner = NULL;
            options.owner_name = "by name";
            options.owner_name_len = 7;
        }
        hold_some(some(3) == 0 ? some(KEYS / 8) : 0);
        one_batch(sizes[some(sizeof sizes / sizeof *sizes)], some(3) ? KEYS : 1 + some(KEYS), some(4) ? NULL : &options);
        let_go();
    }
    CHECK(granted > 500 && refused > 100 && in_part > 10 && holders() == 0);
    OK(keylatch_owner_free(node));
    OK(keylatch_owner_free(writer));
}

/* Two readers of one key in one batch are one hold, wherever they are named and however many others end alike. */
static void test_readers_named_twice(void)
{
    static char objects[MOST][48];
    static keylatch_batch_item items[MOST];
    static uint64_t grants[MOST];
    for (size_t count = 2; count <= MOST; count = count < 40 ? count + 1 : count * 2 - 7)
        for (int alike = 0; alike < 2; alike++) {
            for (size_t i = 0; i < count; i++) {
                snprintf(objects[i], sizeof objects[i], alike ? "%zu-ends-as-all-of-them-do" : "all-begin-so-%zu", i);
                items[i] = (keylatch_batch_item){ keylatch_key_of("b", objects[i]), KEYLATCH_SHARED, 0 };
            }
            size_t one = some(count), other = (one + 1 + some(count - 1)) % count;
            items[other].key = items[one].key;
            OK(keylatch_acquire_batch(locks, items, count, 0, NULL, grants, NULL));
            CHECK(holders() == count - 1 && grants[one < other ? one : other] != 0 && grants[one < other ? other : one] == 0);
            OK(keylatch_release_many(locks, grants, count, NULL));
            CHECK(holders() == 0);
        }
}

/* What a batch says of itself holds for each of its locks. */
static void test_owner(void)
{
    keylatch_request_options options = KEYLATCH_REQUEST_OPTIONS_INIT;
    keylatch_filter filter = KEYLATCH_FILTER_INIT;
    keylatch_batch_item items[20];
    uint64_t grants[20];
    size_t count, released = UNTOUCHED;
    keylatch_owner *owner;
    OK(keylatch_owner_new(locks, "node-7", 6, NULL, &owner));
    options.owner = owner;
    filter.owner = "node-7";
    filter.owner_len = 6;
    for (size_t i = 0; i < 20; i++)
        items[i] = (keylatch_batch_item){ keys[i + 1], i % 2 ? KEYLATCH_SHARED : KEYLATCH_EXCLUSIVE, 0 };
    OK(keylatch_acquire_batch(locks, items, 20, 0, &options, grants, NULL));
    uint64_t had = holders();
    OK(keylatch_force_release(locks, &filter, &count, NULL));
    CHECK(count == had && holders() == 0);
    /* They are free, and releasing them again harms no holder. */
    uint64_t others;
    OK(keylatch_try(locks, &items[0].key, KEYLATCH_EXCLUSIVE, NULL, &others));
    CHECK_STATUS(KEYLATCH_ENOTHELD, keylatch_release_many(locks, grants, 20, &released));
    CHECK(released == 0 && holders() == 1);
    is_held(others, &items[0].key, KEYLATCH_EXCLUSIVE);
    OK(keylatch_release(locks, others));
    OK(keylatch_owner_free(owner));
}

/* A session learns of its own hold as of any other, and keeps it. */
static void test_session_in_its_own_way(void)
{
    keylatch_owner_options is_session = KEYLATCH_OWNER_OPTIONS_INIT;
    keylatch_request_options options = KEYLATCH_REQUEST_OPTIONS_INIT;
    keylatch_batch_item items[3] = {
        { keylatch_key_of("s", "x"), KEYLATCH_EXCLUSIVE, 0 },
        { keylatch_key_of("s", "mine"), KEYLATCH_EXCLUSIVE, 0 },
        { keylatch_key_of("s", "y"), KEYLATCH_EXCLUSIVE, 0 },
    };
    uint64_t grants[3] = { UNTOUCHED, UNTOUCHED, UNTOUCHED }, mine;
    keylatch_owner *session;
    is_session.flags = KEYLATCH_OWNER_SESSION;
    OK(keylatch_owner_new(locks, "me", 2, &is_session, &session));
    options.owner = session;
    OK(keylatch_try(locks, &items[1].key, KEYLATCH_EXCLUSIVE, &options, &mine));
    int32_t status = keylatch_acquire_batch(locks, items, 3, 0, &options, grants, NULL);
    CHECK(status < 0 && status == keylatch_last_status());
    CHECK(grants[0] == UNTOUCHED && grants[1] == UNTOUCHED && grants[2] == UNTOUCHED && holders() == 1);
    is_held(mine, &items[1].key, KEYLATCH_EXCLUSIVE);
    OK(keylatch_release(locks, mine));
    OK(keylatch_acquire_batch(locks, items, 3, 0, &options, grants, NULL));
    CHECK(holders() == 3);
    OK(keylatch_release_many(locks, grants, 3, NULL));
    OK(keylatch_owner_free(session));
}

/* Something wrong with a later item: the locks of those before it are given back, and nothing is written. */
static void test_wrong_items(void)
{
    static char too_long[100000];
    keylatch_batch_item good = { keylatch_key_of("b", "good"), KEYLATCH_EXCLUSIVE, 0 }, bad[6];
    const int32_t wanted[6] = { KEYLATCH_EINVALID, KEYLATCH_EINVALID, KEYLATCH_EKEY, KEYLATCH_EINVALID, KEYLATCH_EINVALID,
                                KEYLATCH_EINVALID };
    memset(too_long, 'x', sizeof too_long - 1);
    for (int i = 0; i < 6; i++)
        bad[i] = (keylatch_batch_item){ keylatch_key_of("b", "bad"), KEYLATCH_EXCLUSIVE, 0 };
    bad[0].mode = 7;
    bad[1].reserved = 1;
    bad[2].key = keylatch_key_of("b", too_long);
    bad[3].key.object = NULL;
    bad[4].key.bucket_len = SIZE_MAX / 2 + 2;
    bad[5].key.version_len = 5;
    for (int i = 0; i < 6; i++) {
        keylatch_batch_item items[3] = { good, bad[i], good };
        uint64_t grants[3] = { UNTOUCHED, UNTOUCHED, UNTOUCHED };
        int32_t statuses[3] = { UNTOUCHED, UNTOUCHED, UNTOUCHED };
        CHECK_STATUS(wanted[i], keylatch_acquire_batch(locks, items, 3, 0, NULL, grants, statuses));
        for (int j = 0; j < 3; j++)
            CHECK(grants[j] == UNTOUCHED && statuses[j] == UNTOUCHED);
        CHECK(holders() == 0);
    }
}

/* All are tried, and the first failure is reported. */
static void test_release_many(void)
{
    keylatch_manager *another;
    keylatch_request_options lease = KEYLATCH_REQUEST_OPTIONS_INIT;
    keylatch_filter all = { .struct_size = sizeof all, .flags = KEYLATCH_FILTER_ALL };
    uint64_t good[4], foreign, expired;
    size_t released, count;
    lease.ttl_ns = 1;
    OK(keylatch_manager_new(NULL, &another));
    OK(keylatch_try(another, &keys[0], KEYLATCH_EXCLUSIVE, NULL, &foreign));
    for (int i = 0; i < 4; i++)
        OK(keylatch_try(locks, &keys[2 + i], i % 2 ? KEYLATCH_SHARED : KEYLATCH_EXCLUSIVE, NULL, &good[i]));
    OK(keylatch_try(locks, &keys[20], KEYLATCH_EXCLUSIVE, &lease, &expired));
    do
        OK(keylatch_expire(locks, &all, &count, NULL));
    while (count == 0);
    uint64_t grants[10] = { 0, good[0], good[0], foreign, expired, good[1], UINT64_MAX, 0, good[2], good[3] };
    CHECK_STATUS(KEYLATCH_ENOTHELD, keylatch_release_many(locks, grants, 10, &released));
    CHECK(released == 4 && holders() == 0);
    OK(keylatch_release(another, foreign));
    OK(keylatch_manager_free(another));
    OK(keylatch_try(locks, &keys[20], KEYLATCH_EXCLUSIVE, &lease, &expired));
    do
        OK(keylatch_expire(locks, &all, &count, NULL));
    while (count == 0);
    CHECK_STATUS(KEYLATCH_ELEASELOST, keylatch_release_many(locks, &expired, 1, &released));
    CHECK(released == 0);
}

static void *first_of_a_thread(void *unused)
{
    one_batch(16, KEYS, NULL);
    one_batch(16, KEYS, NULL);
    return unused;
}

int main(void)
{
    pthread_t thread;
    keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT;
    options.shards = 16;
    OK(keylatch_manager_new(&options, &locks));
    make_keys();
    test_against_the_model();
    test_readers_named_twice();
    test_owner();
    test_session_in_its_own_way();
    test_wrong_items();
    test_release_many();
    CHECK(pthread_create(&thread, NULL, first_of_a_thread, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    OK(keylatch_manager_free(locks));
    printf("batches: %zu granted, %zu refused, %zu in part\n", granted, refused, in_part);
    return 0;
}
