/*
 * Calls every exported function with everything that can be wrong with each of its arguments, one at a time. What has to
 * come of it: the status that the header says, nothing written, nothing taken, and a library that goes on.
 *
 *     bad_input SYMBOLS HEADER      the list of exported functions, each of which needs a row in table.c, and keylatch.h, whose
 *                                   lists of errors have to name what comes
 */
#define _POSIX_C_SOURCE 200809L

#include "../check.h"
#include "promised.h"
#include "table.h"

#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define POISON 0xa5
#define LARGEST 4096

static const char *const kinds[] = { "manager", "owner", "queue", "listing", "events", "claims", "claimant", "claim queue", "claim watch", "shared table", "pinned key" };

char shared_path[64];
/* The file of a manager that shares its keys. */
static char tier_path[80];
uint32_t shared_member;

static struct {
    void *handles[KINDS], *freed[KINDS], *others[KINDS];
    keylatch_manager *locks;
    uint64_t grant, released, others_grant, shared_grant;
    char *text;
    keylatch_key key;
} fixture;

/* Where results go, one for each parameter, and as it was before. */
static unsigned char places[MOST_PARAMS][2 * LARGEST] __attribute__((aligned(16)));
static size_t tried;
static int freed_data;

static void on_free(void *user_data)
{
    (void)user_data;
    freed_data++;
}

static void free_handle(enum kind kind, void *handle)
{
    switch (kind) {
    case MANAGER: OK(keylatch_manager_free(handle)); break;
    case OWNER: OK(keylatch_owner_free(handle)); break;
    case QUEUE: OK(keylatch_queue_free(handle)); break;
    case LISTING: OK(keylatch_listing_free(handle)); break;
    case EVENTS: OK(keylatch_events_free(handle)); break;
    case CLAIMS: OK(keylatch_claims_free(handle)); break;
    case CLAIMANT: OK(keylatch_claimant_free(handle)); break;
    case CLAIM_QUEUE: OK(keylatch_claim_queue_free(handle)); break;
    case CLAIM_WATCH: OK(keylatch_claim_watch_free(handle)); break;
    case SHARED: OK(keylatch_shared_free(handle)); break;
    case PINNED: OK(keylatch_unpin(handle)); break;
    case KINDS: break;
    }
}

/* The claimant owns the work of "held" by its request 1, and an answer lies in the queue. */
static void make_claims(void **handles)
{
    keylatch_key held = keylatch_key_of("bucket", "held"), queued = keylatch_key_of("bucket", "queued");
    keylatch_claim_answer answer = KEYLATCH_CLAIM_ANSWER_INIT;
    OK(keylatch_claims_new(NULL, (keylatch_claims **)&handles[CLAIMS]));
    OK(keylatch_claimant_new(handles[CLAIMS], "me", 2, 0, (keylatch_claimant **)&handles[CLAIMANT]));
    OK(keylatch_claim_queue_new(handles[CLAIMS], (keylatch_claim_queue **)&handles[CLAIM_QUEUE]));
    OK(keylatch_claim_watch_new(handles[CLAIMS], &held, 0, 0, (keylatch_claim_watch **)&handles[CLAIM_WATCH]));
    OK(keylatch_claim(handles[CLAIMANT], &held, 1, 0, NULL, &answer));
    CHECK(answer.kind == KEYLATCH_CLAIM_YOURS && answer.fence == 1);
    OK(keylatch_claim_queue_submit(handles[CLAIMANT], &queued, 3, 0, NULL, handles[CLAIM_QUEUE], 7));
}

static int32_t note_member(void *user_data, const keylatch_shared_holder *holder)
{
    (void)user_data;
    shared_member = holder->member;
    return 1;
}

static void make_handles(void **handles)
{
    keylatch_shared_options sizes = KEYLATCH_SHARED_OPTIONS_INIT;
    sizes.keys = 64;
    sizes.members = 16;
    OK(keylatch_shared_open(shared_path, &sizes, (keylatch_shared_table **)&handles[SHARED]));
    keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT;
    options.flags = KEYLATCH_MANAGER_ADAPTIVE;
    keylatch_owner_options session = KEYLATCH_OWNER_OPTIONS_INIT;
    options.shards = 4;
    options.max_locks = 1000;
    options.max_waiters = 1000;
    session.flags = KEYLATCH_OWNER_SESSION;
    OK(keylatch_manager_new(&options, (keylatch_manager **)&handles[MANAGER]));
    OK(keylatch_owner_new(handles[MANAGER], "me", 2, &session, (keylatch_owner **)&handles[OWNER]));
    OK(keylatch_queue_new(handles[MANAGER], (keylatch_queue **)&handles[QUEUE]));
    keylatch_key pinned = keylatch_key_of("bucket", "free");
    OK(keylatch_pin(handles[MANAGER], &pinned, (keylatch_pinned_key **)&handles[PINNED]));
    OK(keylatch_events_new(handles[MANAGER], NULL, (keylatch_events **)&handles[EVENTS]));
    make_claims(handles);
}

static void prepare(enum prepared how)
{
    keylatch_key held = keylatch_key_of("bucket", "held");
    uint64_t grant, ticket;
    int32_t yes;
    memset(&fixture, 0, sizeof fixture);
    make_handles(fixture.handles);
    make_handles(fixture.others);
    make_handles(fixture.freed);
    fixture.locks = fixture.handles[MANAGER];
    fixture.key = keylatch_key_of("bucket", "free");
    OK(keylatch_try(fixture.locks, &held, how == WITH_A_SHARED_GRANT ? KEYLATCH_SHARED : KEYLATCH_EXCLUSIVE, NULL, &fixture.grant));
    OK(keylatch_shared_try(fixture.handles[SHARED], &held, how == WITH_A_SHARED_GRANT ? KEYLATCH_SHARED : KEYLATCH_EXCLUSIVE, NULL, &fixture.shared_grant));
    OK(keylatch_shared_holders(fixture.handles[SHARED], &held, note_member, NULL));
    OK(keylatch_try(fixture.locks, &fixture.key, KEYLATCH_EXCLUSIVE, NULL, &fixture.released));
    OK(keylatch_release(fixture.locks, fixture.released));
    /* Numbers begin anew in each manager: this one is not among the first. */
    for (int i = 0; i < 100; i++) {
        OK(keylatch_try(fixture.others[MANAGER], &held, KEYLATCH_EXCLUSIVE, NULL, &fixture.others_grant));
        if (i < 99)
            OK(keylatch_release(fixture.others[MANAGER], fixture.others_grant));
    }
    OK(keylatch_holders(fixture.locks, NULL, (keylatch_listing **)&fixture.handles[LISTING]));
    OK(keylatch_holders(fixture.locks, NULL, (keylatch_listing **)&fixture.freed[LISTING]));
    OK(keylatch_manager_report(fixture.locks, &fixture.text));
    for (int kind = 0; kind < KINDS; kind++)
        free_handle((enum kind)kind, fixture.freed[kind]);
    if (how == WITH_AN_EVENT) {
        keylatch_filter filter = KEYLATCH_FILTER_INIT;
        filter.key = &fixture.key;
        OK(keylatch_try(fixture.locks, &fixture.key, KEYLATCH_EXCLUSIVE, NULL, &grant));
        OK(keylatch_force_release(fixture.locks, &filter, NULL, NULL));
    }
    if (how == WITH_A_TIMEOUT)
        CHECK_STATUS(KEYLATCH_ETIMEOUT, keylatch_acquire(fixture.locks, &held, KEYLATCH_SHARED, 1, NULL, &grant));
    if (how == WITH_A_DEADLOCK) {
        keylatch_request_options mine = KEYLATCH_REQUEST_OPTIONS_INIT;
        mine.owner = fixture.handles[OWNER];
        OK(keylatch_try(fixture.locks, &fixture.key, KEYLATCH_EXCLUSIVE, &mine, &grant));
        CHECK_STATUS(KEYLATCH_EDEADLOCK, keylatch_acquire(fixture.locks, &fixture.key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, &mine, &ticket));
        OK(keylatch_release(fixture.locks, grant));
    }
    if (how == WITH_A_COMPLETION) {
        OK(keylatch_acquire_queue(fixture.locks, &held, KEYLATCH_SHARED, KEYLATCH_WAIT_FOREVER, NULL, fixture.handles[QUEUE], 1, &grant, &ticket));
        OK(keylatch_cancel(fixture.locks, ticket, &yes));
        CHECK(yes == 1);
    }
    /* Listings of other entries than holders. */
    keylatch_listing *listing = NULL;
    if (how == WITH_A_WAITER) {
        OK(keylatch_acquire_queue(fixture.locks, &held, KEYLATCH_SHARED, KEYLATCH_WAIT_FOREVER, NULL, fixture.handles[QUEUE], 1, &grant, &ticket));
        OK(keylatch_waiters(fixture.locks, NULL, &listing));
        OK(keylatch_cancel(fixture.locks, ticket, &yes));
    }
    if (how == WITH_A_CHAIN)
        OK(keylatch_blocking_chain(fixture.locks, &held, NULL, NULL, &listing));
    if (how == WITH_A_TOP_KEY)
        OK(keylatch_top(fixture.locks, KEYLATCH_TOP_AGE, 1, &listing));
    if (how == WITH_A_TIER) {
        keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT;
        options.shared_memory = tier_path;
        OK(keylatch_manager_new(&options, (keylatch_manager **)&fixture.handles[MANAGER]));
        OK(keylatch_try(fixture.handles[MANAGER], &held, KEYLATCH_EXCLUSIVE, NULL, &grant));
        OK(keylatch_tier_holds(fixture.handles[MANAGER], NULL, &listing));
    }
    if (listing) {
        OK(keylatch_listing_free(fixture.handles[LISTING]));
        fixture.handles[LISTING] = listing;
    }
}

static void clean_up(void)
{
    free_handle(MANAGER, fixture.others[MANAGER]);
    free_handle(OWNER, fixture.others[OWNER]);
    free_handle(QUEUE, fixture.others[QUEUE]);
    for (int kind = EVENTS; kind < KINDS; kind++)
        free_handle((enum kind)kind, fixture.others[kind]);
    for (int kind = KINDS - 1; kind >= 0; kind--)
        free_handle((enum kind)kind, fixture.handles[kind]);
    if (fixture.handles[MANAGER] != fixture.locks && fixture.handles[MANAGER] != NULL)
        free_handle(MANAGER, fixture.locks);
    keylatch_text_free(fixture.text);
    keylatch_last_error_clear();
}

static bool is_shared(const struct function *function)
{
    return function->params[0].is == A_HANDLE && function->params[0].kind == SHARED;
}

static uint64_t grant_for(const struct function *function)
{
    return is_shared(function) ? fixture.shared_grant : fixture.grant;
}

/* Arguments that are all fine. */
static void good(const struct function *function, union argument *arguments)
{
    freed_data = 0;
    for (int i = 0; i < MOST_PARAMS; i++) {
        const struct param *param = &function->params[i];
        size_t size = 0;
        memset(places[i], POISON, sizeof places[i]);
        arguments[i].pointer = places[i];
        switch (param->is) {
        case NOTHING: arguments[i].pointer = NULL; break;
        case A_HANDLE: arguments[i].pointer = fixture.handles[param->kind]; break;
        case A_KEY: memcpy(places[i], &fixture.key, sizeof fixture.key); break;
        case A_GRANT: arguments[i].number = grant_for(function); break;
        case A_TEXT: arguments[i].pointer = fixture.text; break;
        case A_CALLBACK: arguments[i].function = on_free; break;
        case A_FREE_FN: arguments[i].function = on_free; break;
        case A_MODE:
        case A_COUNT:
        case A_NUMBER: arguments[i].number = param->good; break;
        case SOME_BYTES: break;
        case AN_ARRAY: memset(places[i], 0, sizeof places[i]); break;
        case A_STRUCT:
            memset(places[i], 0, sizeof places[i]);
            /* fallthrough */
        case OUT_STRUCT:
            size = param->shape->size;
            memcpy(places[i], &size, sizeof size);
            if (param->shape == &filters)
                ((keylatch_filter *)places[i])->flags = (uint32_t)param->good;
            break;
        case OUT:
        case OUT_HANDLE:
        case OUT_TEXT:
        case OUT_GRANT: break;
        }
    }
}

static bool is_out(const struct param *param)
{
    return param->is == OUT || param->is == OUT_HANDLE || param->is == OUT_TEXT || param->is == OUT_GRANT || param->is == OUT_STRUCT;
}

/* Gives back what a call that succeeded has handed out, and forgets what it has consumed. */
static void give_back(const struct function *function, const union argument *arguments)
{
    for (int i = 0; i < MOST_PARAMS; i++) {
        const struct param *param = &function->params[i];
        void *made;
        uint64_t grant;
        if (arguments[i].pointer && param->may & BE_CONSUMED) {
            if (param->is == A_HANDLE)
                fixture.handles[param->kind] = NULL;
            if (param->is == A_TEXT)
                fixture.text = NULL;
        }
        if (!arguments[i].pointer)
            continue;
        memcpy(&made, places[i], sizeof made);
        if (param->shape == &claim_answers && arguments[i].pointer)
            keylatch_text_free(((keylatch_claim_answer *)places[i])->text);
        if (param->shape == &claim_events) {
            keylatch_text_free(((keylatch_claim_event *)places[i])->owner);
            keylatch_text_free(((keylatch_claim_event *)places[i])->text);
        }
        if (param->is == OUT_HANDLE)
            free_handle(param->kind, made);
        if (param->is == OUT_TEXT)
            keylatch_text_free(made);
        if (param->is == OUT_GRANT) {
            memcpy(&grant, places[i], sizeof grant);
            if (is_shared(function))
                OK(keylatch_shared_release(fixture.handles[SHARED], grant));
            else
                OK(keylatch_release(fixture.locks, grant));
        }
    }
}

static void untouched(const struct function *function, const char *what)
{
    for (int i = 0; i < MOST_PARAMS; i++) {
        const struct param *param = &function->params[i];
        /* Of a struct that is filled in, the size was the caller's. */
        size_t from = param->is == OUT_STRUCT ? sizeof(size_t) : 0;
        if (!is_out(param) || param->may & BE_WRITTEN_ON_FAILURE)
            continue;
        for (size_t at = from; at < sizeof places[i]; at++) {
            if (places[i][at] == POISON)
                continue;
            fprintf(stderr, "%s wrote argument %d, although it failed: %s\n", function->name, i + 1, what);
            exit(1);
        }
    }
}

/* Whatever comes stands in the function's list of errors. */
static void is_listed(const struct function *function, int32_t came, const char *what)
{
    if (is_promised(function->name, came))
        return;
    fprintf(stderr, "%s with %s came to %s, which the header does not list\n", function->name, what, keylatch_status_name(came));
    exit(1);
}

/* Calls it and compares; *arguments has one that is bad. */
static void expect(const struct function *function, union argument *arguments, int32_t status, const char *format, ...)
{
    char what[200];
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof what, format, list);
    va_end(list);
    keylatch_metrics before = KEYLATCH_METRICS_INIT, after = KEYLATCH_METRICS_INIT;
    OK(keylatch_manager_metrics(fixture.locks, KEYLATCH_ALL_SHARDS, &before));
    int32_t came = function->call(arguments);
    tried++;
    if (came != status) {
        fprintf(stderr, "%s with %s came to %s, not to %s: %s\n", function->name, what, keylatch_status_name(came),
                keylatch_status_name(status), keylatch_last_error());
        exit(1);
    }
    is_listed(function, came, what);
    if (came == KEYLATCH_OK) {
        give_back(function, arguments);
        return;
    }
    CHECK(keylatch_last_status() == status && keylatch_last_error()[0]);
    untouched(function, what);
    OK(keylatch_manager_metrics(fixture.locks, KEYLATCH_ALL_SHARDS, &after));
    CHECK(before.holders == after.holders && before.waiters == after.waiters);
    for (int i = 0; i < MOST_PARAMS; i++)
        if (function->params[i].is == A_FREE_FN && arguments[i].function)
            CHECK(freed_data == 1);
}

/* Everything anew for each try, with all arguments good but those that the body then spoils. */
#define TRY(...)                                                                                                       \
    do {                                                                                                               \
        prepare(function->prepared);                                                                                   \
        good(function, a);                                                                                             \
        __VA_ARGS__;                                                                                                   \
        clean_up();                                                                                                    \
    } while (0)

static void bad_handles(const struct function *function, int i)
{
    union argument a[MOST_PARAMS];
    const struct param *param = &function->params[i];
    TRY(a[i].pointer = fixture.freed[param->kind]; expect(function, a, KEYLATCH_EHANDLE, "a freed %s", kinds[param->kind]));
    for (int other = 0; other < KINDS; other++)
        if (other != (int)param->kind)
            TRY(a[i].pointer = fixture.handles[other]; expect(function, a, KEYLATCH_EHANDLE, "a handle of another kind"));
    /* Twice, the second time it is gone. */
    if (param->may & BE_CONSUMED)
        TRY(void *gone = a[i].pointer;
            keylatch_manager *locks = fixture.locks;
            fixture.locks = fixture.others[MANAGER];
            expect(function, a, KEYLATCH_OK, "a good handle");
            a[i].pointer = gone;
            expect(function, a, KEYLATCH_EHANDLE, "a handle that is freed twice");
            fixture.locks = locks);
    for (int j = 0; j < i; j++)
        if (function->params[j].is == A_HANDLE && function->params[j].kind == MANAGER && param->kind != LISTING)
            TRY(a[i].pointer = fixture.others[param->kind]; expect(function, a, KEYLATCH_EHANDLE, "another manager's %s", kinds[param->kind]));
}

static void bad_keys(const struct function *function, int i)
{
    static const char zeros[65536];
    union argument a[MOST_PARAMS];
    keylatch_key *key = (keylatch_key *)places[i];
    TRY(key->bucket = NULL; expect(function, a, KEYLATCH_EINVALID, "a bucket without bytes that has a length"));
    TRY(key->object = NULL; expect(function, a, KEYLATCH_EINVALID, "an object without bytes that has a length"));
    TRY(key->version_len = 1; expect(function, a, KEYLATCH_EINVALID, "a version without bytes that has a length"));
    TRY(key->bucket_len = SIZE_MAX; expect(function, a, KEYLATCH_EINVALID, "a bucket beyond all memory"));
    TRY(key->object_len = SIZE_MAX / 2 + 1; expect(function, a, KEYLATCH_EINVALID, "an object beyond all memory"));
    TRY(key->object = zeros; key->object_len = 4096; expect(function, a, KEYLATCH_OK, "an object of 4 KiB, all NUL"));
    TRY(key->version = zeros; key->version_len = 0; expect(function, a, KEYLATCH_OK, "an empty version"));
    TRY(key->bucket = NULL; key->bucket_len = 0; key->object = NULL; key->object_len = 0; expect(function, a, KEYLATCH_OK, "a key of no bytes"));
    TRY(key->object = "\xff\0\xfe"; key->object_len = 3; expect(function, a, KEYLATCH_OK, "bytes that are no text"));
    /* Whether it is held can be answered for every key. */
    int32_t answer = function->params[i].may & (BE_LONG | BE_LONGER) ? KEYLATCH_OK : KEYLATCH_EKEY;
    TRY(key->object = zeros; key->object_len = 8193 - key->bucket_len; expect(function, a, answer, "a key that is a byte too long"));
    answer = function->params[i].may & BE_LONG ? KEYLATCH_OK : KEYLATCH_EKEY;
    TRY(key->object = zeros; key->object_len = 65536; expect(function, a, answer, "a key that is much too long"));
}

static void bad_structs(const struct function *function, int i)
{
    union argument a[MOST_PARAMS];
    const struct shape *shape = function->params[i].shape;
    size_t *size = (size_t *)places[i], wrong[] = { 0, 1, 8, shape->first - 1, LARGEST + 1, SIZE_MAX / 2, SIZE_MAX };
    bool reads = function->params[i].is == A_STRUCT;
    for (size_t n = 0; n < sizeof wrong / sizeof *wrong; n++)
        TRY(*size = wrong[n]; expect(function, a, KEYLATCH_ESTRUCT, "%s.struct_size %zu", shape->name, wrong[n]));
    /* No version ends within a field. */
    for (size_t within = shape->first; within < shape->size; within++)
        if (within % sizeof(void *))
            TRY(*size = within; expect(function, a, KEYLATCH_ESTRUCT, "%s.struct_size %zu", shape->name, within));
    TRY(*size = shape->first; expect(function, a, KEYLATCH_OK, "%s as it was first published", shape->name));
    size_t larger[] = { shape->size + 1, shape->size + 8, LARGEST };
    for (size_t n = 0; n < sizeof larger / sizeof *larger; n++) {
        TRY(*size = larger[n]; if (reads) memset(places[i] + larger[n], POISON, 8);
            expect(function, a, KEYLATCH_OK, "%s of a newer header", shape->name);
            for (size_t at = shape->size; at < larger[n]; at++) CHECK(places[i][at] == 0);
            CHECK(places[i][larger[n]] == POISON && *size == larger[n]));
        if (reads)
            TRY(*size = larger[n]; places[i][larger[n] - 1] = 1; expect(function, a, KEYLATCH_ESTRUCT, "%s with something that is not known", shape->name));
    }
    for (const struct field *field = shape->fields; reads && field->width; field++)
        TRY(memcpy(places[i] + field->offset, &field->value, field->width);
            expect(function, a, field->status, "%s with %llu at %zu", shape->name, (unsigned long long)field->value, field->offset));
    if (shape == &request_options || shape == &batch_options) {
        keylatch_request_options *options = (keylatch_request_options *)places[i];
        TRY(options->owner = fixture.freed[OWNER]; expect(function, a, KEYLATCH_EHANDLE, "a freed owner"));
        TRY(options->owner = fixture.others[OWNER]; expect(function, a, KEYLATCH_EHANDLE, "another manager's owner"));
        TRY(options->owner = fixture.handles[QUEUE]; expect(function, a, KEYLATCH_EHANDLE, "a queue for an owner"));
        TRY(options->owner_name = "\xff\0"; options->owner_name_len = 2; expect(function, a, KEYLATCH_OK, "a name that is no text"));
    }
    if (shape == &filters && reads) {
        keylatch_filter *filter = (keylatch_filter *)places[i];
        if (function->params[i].good) {
            TRY(filter->flags = 0; expect(function, a, KEYLATCH_EINVALID, "a revocation without a condition"));
            TRY(filter->prefix = "a"; filter->prefix_len = 1; expect(function, a, KEYLATCH_EINVALID, "all, and a condition"));
        }
        static const keylatch_key bad = { NULL, 1, NULL, 0, NULL, 0 };
        TRY(filter->key = &bad; expect(function, a, KEYLATCH_EINVALID, "a filter for a key that is none"));
    }
}

static void bad_grants(const struct function *function, int i)
{
    union argument a[MOST_PARAMS];
    int32_t answer = function->params[i].may & BE_NOT_HELD ? KEYLATCH_OK : KEYLATCH_ENOTHELD;
    uint64_t made_up[] = { 0, 1, 0x0123456789abcdef, UINT64_MAX, UINT64_MAX - 1, UINT64_C(1) << 63, UINT32_MAX };
    for (size_t n = 0; n < sizeof made_up / sizeof *made_up; n++)
        TRY(a[i].number = made_up[n]; expect(function, a, answer, "the made-up grant %#llx", (unsigned long long)made_up[n]));
    TRY(a[i].number = fixture.released; expect(function, a, answer, "a released grant"));
    TRY(a[i].number = fixture.others_grant; expect(function, a, answer, "another manager's grant"));
    TRY(a[i].number = grant_for(function) ^ UINT64_C(1) << 32; expect(function, a, answer, "a grant with one bit changed"));
    TRY(a[i].number = grant_for(function) ^ 1; expect(function, a, answer, "a grant with another bit changed"));
    if (function->params[i].may & BE_CONSUMED)
        TRY(expect(function, a, KEYLATCH_OK, "a good grant"); expect(function, a, KEYLATCH_ENOTHELD, "the same grant again"));
}

static void bad_argument(const struct function *function, int i)
{
    union argument a[MOST_PARAMS];
    const struct param *param = &function->params[i];
    bool is_pointer = param->is != A_MODE && param->is != A_GRANT && param->is != A_NUMBER && param->is != A_COUNT && param->is != NOTHING;
    if (is_pointer) {
        int32_t answer = param->may & BE_NULL ? KEYLATCH_OK : param->null_is ? param->null_is : KEYLATCH_ENULL;
        bool counted = i + 1 < MOST_PARAMS && function->params[i + 1].is == A_COUNT;
        if (param->is == SOME_BYTES)
            answer = KEYLATCH_EINVALID;
        /* Of an array of none NULL is fine. */
        if (param->is == AN_ARRAY && counted && function->params[i + 1].good == 0)
            answer = KEYLATCH_OK;
        TRY(a[i].pointer = NULL; expect(function, a, answer, "NULL for argument %d", i + 1));
    }
    switch (param->is) {
    case A_HANDLE: bad_handles(function, i); break;
    case A_KEY: bad_keys(function, i); break;
    case A_STRUCT:
    case OUT_STRUCT: bad_structs(function, i); break;
    case A_GRANT: bad_grants(function, i); break;
    case A_MODE: {
        int32_t none[] = { 0, -1, 99, INT32_MIN, INT32_MAX, 3, 4, 255, 256, 257 };
        for (size_t n = 0; n < sizeof none / sizeof *none; n++)
            if (!(param->may & BE_LONG) || none[n] < 1 || none[n] > 16)
                TRY(a[i].number = (uint64_t)(int64_t)none[n]; expect(function, a, KEYLATCH_EINVALID, "the number %d", none[n]));
        break;
    }
    case A_COUNT: {
        size_t none[] = { SIZE_MAX, SIZE_MAX / 2 + 1 };
        for (size_t n = 0; n < sizeof none / sizeof *none; n++)
            TRY(a[i].number = none[n]; expect(function, a, KEYLATCH_EINVALID, "a length beyond all memory"));
        break;
    }
    default: break;
    }
}

/* In a forked child nothing that is the parent's may be touched. */
static void in_a_child(const struct function *function)
{
    union argument a[MOST_PARAMS];
    prepare(function->prepared);
    good(function, a);
    pid_t child = fork();
    if (child == 0) {
        int32_t came = function->call(a), wanted = function->in_child ? KEYLATCH_OK : KEYLATCH_EFORKED;
        if (came != wanted) {
            fprintf(stderr, "%s in a forked child came to %s, not to %s\n", function->name, keylatch_status_name(came), keylatch_status_name(wanted));
            _exit(1);
        }
        is_listed(function, came, "a forked child's call");
        if (came != KEYLATCH_OK)
            untouched(function, "in a child");
        _exit(0);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    expect(function, a, KEYLATCH_OK, "a child that has been and gone");
    clean_up();
}

static void every_function(void)
{
    for (const struct function *function = functions; function < functions + function_count; function++) {
        union argument a[MOST_PARAMS];
        bool frees_manager = function->params[0].may & BE_CONSUMED && function->params[0].is == A_HANDLE;
        if (!frees_manager)
            TRY(expect(function, a, KEYLATCH_OK, "good arguments"));
        for (int i = 0; i < MOST_PARAMS; i++)
            bad_argument(function, i);
    }
}

/* The list and the table have to name the same functions. */
static void every_symbol_is_tried(const char *path)
{
    char name[128];
    size_t count = 0;
    FILE *file = fopen(path, "r");
    CHECK(file);
    while (fscanf(file, "%127s", name) == 1) {
        bool found = false;
        count++;
        for (size_t i = 0; i < function_count; i++)
            found |= strcmp(functions[i].name, name) == 0;
        if (!found) {
            fprintf(stderr, "%s is exported and has no row in tests/c/bad_input/table.c\n", name);
            exit(1);
        }
    }
    fclose(file);
    for (size_t i = 0; i < function_count; i++)
        for (size_t j = 0; j < i; j++)
            count += strcmp(functions[i].name, functions[j].name) == 0;
    CHECK(count == function_count);
}

int main(int count, char **arguments)
{
    if (count < 3) {
        fprintf(stderr, "usage: bad_input SYMBOLS HEADER [--no-fork]\n");
        return 2;
    }
    snprintf(shared_path, sizeof shared_path, "/dev/shm/keylatch-bad-input-%d", (int)getpid());
    snprintf(tier_path, sizeof tier_path, "%s-tier", shared_path);
    promises_of(arguments[2]);
    every_symbol_is_tried(arguments[1]);
    every_function();
    size_t forked = 0;
    if (count < 4 || strcmp(arguments[3], "--no-fork") != 0)
        for (const struct function *function = functions; function < functions + function_count; function++, forked++)
            if (!(function->params[0].is == A_HANDLE && function->params[0].may & BE_CONSUMED && function->params[0].kind == MANAGER))
                in_a_child(function);
    promises_forgotten();
    CHECK(unlink(shared_path) == 0 && unlink(tier_path) == 0);
    printf("%zu functions, %zu calls with bad input, %zu in a forked child\n", function_count, tried, forked);
    return 0;
}
