#include "table.h"

#include <stdlib.h>

#define FIELD(type, field, value, status) { offsetof(type, field), sizeof(((type *)0)->field), value, status }
#define SHAPE(type, first) #type, sizeof(type), first

const struct shape manager_options = { SHAPE(keylatch_manager_options, 104),
    { FIELD(keylatch_manager_options, shards, 1000, KEYLATCH_ECONFIG),
      FIELD(keylatch_manager_options, shards, UINT32_MAX, KEYLATCH_ECONFIG),
      FIELD(keylatch_manager_options, fairness, 99, KEYLATCH_EINVALID),
      FIELD(keylatch_manager_options, max_locks, UINT32_MAX, KEYLATCH_ECONFIG),
      FIELD(keylatch_manager_options, max_waiters, UINT32_MAX, KEYLATCH_ECONFIG),
      FIELD(keylatch_manager_options, max_key_bytes, 65536, KEYLATCH_ECONFIG),
      FIELD(keylatch_manager_options, max_key_bytes, UINT64_MAX, KEYLATCH_ECONFIG),
      FIELD(keylatch_manager_options, reentrancy, 3, KEYLATCH_EINVALID),
      FIELD(keylatch_manager_options, victim, 4, KEYLATCH_EINVALID),
      FIELD(keylatch_manager_options, flags, 16, KEYLATCH_EINVALID),
      FIELD(keylatch_manager_options, flags, KEYLATCH_MANAGER_READER_SLOTS | KEYLATCH_MANAGER_NO_READER_SLOTS, KEYLATCH_EINVALID),
      FIELD(keylatch_manager_options, etcd_options, 64, KEYLATCH_ECONFIG) } };
const struct shape owner_options = { SHAPE(keylatch_owner_options, 32),
    { FIELD(keylatch_owner_options, source_len, 5, KEYLATCH_EINVALID),
      FIELD(keylatch_owner_options, source_len, SIZE_MAX, KEYLATCH_EINVALID),
      FIELD(keylatch_owner_options, flags, 0x80, KEYLATCH_EINVALID),
      FIELD(keylatch_owner_options, flags, KEYLATCH_OWNER_RELEASES, KEYLATCH_EINVALID),
      FIELD(keylatch_owner_options, reserved, 1, KEYLATCH_EINVALID) } };
const struct shape request_options = { SHAPE(keylatch_request_options, 56),
    { FIELD(keylatch_request_options, owner_name_len, 5, KEYLATCH_EINVALID),
      FIELD(keylatch_request_options, owner_name_len, SIZE_MAX, KEYLATCH_EINVALID),
      FIELD(keylatch_request_options, request_id, 7, KEYLATCH_ECONFIG),
      FIELD(keylatch_request_options, priority, 256, KEYLATCH_EINVALID),
      FIELD(keylatch_request_options, priority, UINT32_MAX, KEYLATCH_EINVALID),
      FIELD(keylatch_request_options, flags, KEYLATCH_BEST_EFFORT, KEYLATCH_EINVALID),
      FIELD(keylatch_request_options, flags, 0x80000000, KEYLATCH_EINVALID) } };
const struct shape shared_requests = { SHAPE(keylatch_request_options, 56),
    { FIELD(keylatch_request_options, owner_name_len, 5, KEYLATCH_EINVALID),
      FIELD(keylatch_request_options, owner_name_len, SIZE_MAX, KEYLATCH_EINVALID),
      FIELD(keylatch_request_options, owner, 64, KEYLATCH_EINVALID),
      FIELD(keylatch_request_options, ttl_ns, 1, KEYLATCH_EINVALID),
      FIELD(keylatch_request_options, request_id, 7, KEYLATCH_EINVALID),
      FIELD(keylatch_request_options, priority, 1, KEYLATCH_EINVALID),
      FIELD(keylatch_request_options, flags, KEYLATCH_BEST_EFFORT, KEYLATCH_EINVALID) } };
const struct shape shared_options = { SHAPE(keylatch_shared_options, 48),
    { FIELD(keylatch_shared_options, label_len, 5, KEYLATCH_EINVALID),
      FIELD(keylatch_shared_options, label_len, SIZE_MAX, KEYLATCH_EINVALID),
      FIELD(keylatch_shared_options, keys, UINT32_MAX, KEYLATCH_ECONFIG),
      FIELD(keylatch_shared_options, keys, 1000000, KEYLATCH_EWRONGFILE),
      FIELD(keylatch_shared_options, members, 4096, KEYLATCH_ECONFIG),
      FIELD(keylatch_shared_options, members, UINT32_MAX, KEYLATCH_ECONFIG),
      FIELD(keylatch_shared_options, holds, UINT32_MAX, KEYLATCH_ECONFIG),
      FIELD(keylatch_shared_options, mode, 0444, KEYLATCH_ECONFIG) } };
const struct shape shared_holds = { SHAPE(keylatch_shared_hold, 32), { { 0 } } };
const struct shape batch_options = { SHAPE(keylatch_request_options, 56),
    { FIELD(keylatch_request_options, owner_name_len, 5, KEYLATCH_EINVALID),
      FIELD(keylatch_request_options, request_id, 7, KEYLATCH_EINVALID),
      FIELD(keylatch_request_options, priority, 256, KEYLATCH_EINVALID),
      FIELD(keylatch_request_options, flags, KEYLATCH_BEST_EFFORT | 2, KEYLATCH_EINVALID) } };
const struct shape filters = { SHAPE(keylatch_filter, 96),
    { FIELD(keylatch_filter, bucket_len, 1, KEYLATCH_EINVALID),
      FIELD(keylatch_filter, prefix_len, SIZE_MAX, KEYLATCH_EINVALID),
      FIELD(keylatch_filter, owner_len, 1, KEYLATCH_EINVALID),
      FIELD(keylatch_filter, source_len, 1, KEYLATCH_EINVALID),
      FIELD(keylatch_filter, mode, 3, KEYLATCH_EINVALID),
      FIELD(keylatch_filter, mode, UINT32_MAX, KEYLATCH_EINVALID),
      FIELD(keylatch_filter, flags, 4, KEYLATCH_EINVALID) } };
const struct shape event_options = { SHAPE(keylatch_event_options, 32),
    { FIELD(keylatch_event_options, reserved, 1, KEYLATCH_EINVALID) } };
const struct shape listed_holders = { SHAPE(keylatch_holder, 136), { { 0 } } };
const struct shape listed_waiters = { SHAPE(keylatch_waiter, 120), { { 0 } } };
const struct shape listed_links = { SHAPE(keylatch_chain_link, 152), { { 0 } } };
const struct shape listed_keys = { SHAPE(keylatch_top_key, 128), { { 0 } } };
const struct shape listed_tier_holds = { SHAPE(keylatch_tier_hold, 104), { { 0 } } };
const struct shape metrics = { SHAPE(keylatch_metrics, 160), { { 0 } } };
const struct shape adaptive = { SHAPE(keylatch_adaptive, 72), { { 0 } } };
const struct shape health = { SHAPE(keylatch_health, 40), { { 0 } } };

const struct shape claims_options = { SHAPE(keylatch_claims_options, 56), { { 0 } } };
const struct shape claim_policies = { SHAPE(keylatch_claim_policy, 40),
    { FIELD(keylatch_claim_policy, lease_ns, UINT64_MAX, KEYLATCH_ECONFIG),
      FIELD(keylatch_claim_policy, flags, 4, KEYLATCH_EINVALID),
      FIELD(keylatch_claim_policy, flags, UINT32_MAX, KEYLATCH_EINVALID) } };
const struct shape claim_answers = { SHAPE(keylatch_claim_answer, 48), { { 0 } } };
const struct shape claim_events = { SHAPE(keylatch_claim_event, 96), { { 0 } } };

/* A claim may be answered any time. */
static void on_answer(void *user_data, int32_t status, const keylatch_claim_answer *answer)
{
    (void)user_data, (void)status, (void)answer;
}

/* Nothing is waited for and nothing is taken away here. */
static void on_result(void *user_data, int32_t status, uint64_t grant)
{
    (void)user_data, (void)status, (void)grant;
    abort();
}

static void on_lost(void *user_data, uint64_t grant, int32_t why)
{
    (void)user_data, (void)grant, (void)why;
    abort();
}

static int32_t on_holder(void *user_data, const keylatch_shared_holder *holder)
{
    (void)user_data;
    return holder->hold == 0;
}

/* A function of the header, called with arguments of known kinds. */
#define P(i) a[i].pointer
#define N(i) a[i].number
#define I(i) (int32_t)a[i].number
#define CALL(name, ...)                                                                                                \
    static int32_t call_##name(union argument *a) { return keylatch_##name(__VA_ARGS__); }
/* One that does not return a status. */
#define ASK(name, ...)                                                                                                 \
    static int32_t call_##name(union argument *a) { (void)a; return (__VA_ARGS__) ? KEYLATCH_OK : -1; }

ASK(status_name, keylatch_status_name(I(0)))
ASK(status_text, keylatch_status_text(I(0)))
ASK(status_is_transient, keylatch_status_is_transient(I(0)) <= 1)
ASK(version, keylatch_version())
ASK(abi_version, keylatch_abi_version() == KEYLATCH_ABI_VERSION)
ASK(abi_0, (keylatch_abi_0(), true))
ASK(last_error, keylatch_last_error())
ASK(last_status, keylatch_last_status() == KEYLATCH_ETIMEOUT)
ASK(last_error_clear, (keylatch_last_error_clear(), keylatch_last_status() == KEYLATCH_OK))
ASK(text_free, (keylatch_text_free(P(0)), true))
CALL(struct_size, I(0), P(1))
CALL(manager_new, P(0), P(1))
CALL(manager_settings, P(0), P(1))
CALL(manager_close, P(0))
CALL(manager_is_closed, P(0), P(1))
CALL(manager_free, P(0))
CALL(owner_new, P(0), P(1), N(2), P(3), P(4))
CALL(owner_release_all, P(0), P(1))
CALL(owner_free, P(0))
CALL(queue_new, P(0), P(1))
CALL(queue_free, P(0))
CALL(queue_fd, P(0), P(1))
CALL(queue_drain, P(0), P(1), N(2), P(3))
CALL(queue_next, P(0), N(1), P(2))
CALL(try, P(0), P(1), I(2), P(3), P(4))
CALL(acquire, P(0), P(1), I(2), N(3), P(4), P(5))
CALL(acquire_callback, P(0), P(1), I(2), N(3), P(4), a[5].function ? on_result : NULL, NULL, a[7].function, P(8), P(9))
CALL(acquire_queue, P(0), P(1), I(2), N(3), P(4), P(5), N(6), P(7), P(8))
CALL(cancel, P(0), N(1), P(2))
CALL(pin, P(0), P(1), P(2))
CALL(unpin, P(0))
CALL(try_pinned, P(0), I(1), P(2), P(3))
CALL(acquire_pinned, P(0), I(1), N(2), P(3), P(4))
CALL(acquire_pinned_callback, P(0), I(1), N(2), P(3), a[4].function ? on_result : NULL, NULL, a[6].function, P(7), P(8))
CALL(acquire_pinned_queue, P(0), I(1), N(2), P(3), P(4), N(5), P(6), P(7))
CALL(release, P(0), N(1))
CALL(release_many, P(0), P(1), N(2), P(3))
CALL(downgrade, P(0), N(1))
CALL(try_upgrade, P(0), N(1))
CALL(upgrade, P(0), N(1), N(2))
CALL(upgrade_queue, P(0), N(1), N(2), P(3), N(4), P(5))
CALL(grant_mode, P(0), N(1), P(2))
CALL(grant_key, P(0), N(1), P(2), N(3), P(4))
CALL(fence, P(0), N(1), P(2))
CALL(previous_holder_died, P(0), N(1), P(2))
CALL(is_current, P(0), P(1), N(2), P(3))
CALL(renew, P(0), N(1), N(2))
CALL(remaining, P(0), N(1), P(2))
CALL(is_valid, P(0), N(1), P(2))
CALL(on_lost, P(0), N(1), a[2].function ? on_lost : NULL, NULL, a[4].function)
CALL(acquire_batch, P(0), P(1), N(2), N(3), P(4), P(5), P(6))
CALL(acquire_batch_callback, P(0), P(1), N(2), N(3), P(4), a[5].function ? on_result : NULL, NULL, a[7].function, P(8), P(9), P(10))
CALL(acquire_batch_queue, P(0), P(1), N(2), N(3), P(4), P(5), N(6), P(7), P(8), P(9))
CALL(last_key, P(0))
CALL(last_waited, P(0))
CALL(last_holder, N(0), P(1), P(2))
CALL(last_cycle_link, N(0), P(1))
CALL(listing_next_holder, P(0), P(1))
CALL(listing_next_waiter, P(0), P(1))
CALL(listing_next_link, P(0), P(1))
CALL(listing_next_key, P(0), P(1))
CALL(listing_next_tier_hold, P(0), P(1))
CALL(listing_count, P(0), P(1))
CALL(listing_text, P(0), P(1))
CALL(listing_free, P(0))
CALL(holders, P(0), P(1), P(2))
CALL(waiters, P(0), P(1), P(2))
CALL(tier_holds, P(0), P(1), P(2))
CALL(top, P(0), I(1), N(2), P(3))
CALL(blocking_chain, P(0), P(1), P(2), P(3), P(4))
CALL(recent_deadlocks, P(0), P(1))
CALL(lock_orders, P(0), P(1), P(2))
CALL(force_release, P(0), P(1), P(2), P(3))
CALL(expire, P(0), P(1), P(2), P(3))
CALL(events_new, P(0), P(1), P(2))
CALL(events_fd, P(0), P(1))
CALL(events_next, P(0), N(1), P(2), P(3))
CALL(events_dropped, P(0), P(1))
CALL(events_free, P(0))
CALL(manager_metrics, P(0), (uint32_t)N(1), P(2))
CALL(manager_health, P(0), P(1), P(2))
CALL(manager_adaptive, P(0), P(1))
CALL(manager_wait_times, P(0), (uint32_t)N(1), P(2), N(3), P(4))
CALL(manager_openmetrics, P(0), P(1))
CALL(manager_openmetrics_with_keys, P(0), P(1))
CALL(manager_report, P(0), P(1))
CALL(shared_open, shared_path, P(0), P(1))
CALL(shared_free, P(0))
CALL(shared_try, P(0), P(1), I(2), P(3), P(4))
CALL(shared_acquire, P(0), P(1), I(2), N(3), P(4), P(5))
CALL(shared_acquire_cancellable, P(0), P(1), I(2), N(3), P(4), NULL, P(5))
CALL(shared_release, P(0), N(1))
CALL(shared_downgrade, P(0), N(1))
CALL(shared_try_upgrade, P(0), N(1))
CALL(shared_hold_info, P(0), N(1), P(2))
CALL(shared_holders, P(0), P(1), a[2].function ? on_holder : NULL, NULL)
CALL(shared_waiting, P(0), P(1), P(2))
CALL(shared_revoke, P(0), N(1), shared_member)
CALL(claims_new, P(0), P(1))
CALL(claims_free, P(0))
CALL(claimant_new, P(0), P(1), N(2), N(3), P(4))
CALL(claimant_free, P(0))
CALL(claimant_settle_below, P(0), N(1))
CALL(claimant_renew, P(0))
CALL(claim, P(0), P(1), N(2), N(3), P(4), P(5))
CALL(claim_callback_submit, P(0), P(1), N(2), N(3), P(4), a[5].function ? on_answer : NULL, NULL, a[7].function)
CALL(claim_complete, P(0), N(1), N(2), I(3), P(4), N(5), P(6))
CALL(claim_progress, P(0), N(1), N(2), N(3), N(4), P(5), N(6))
CALL(claim_renew, P(0), N(1), N(2), N(3))
CALL(claim_cancel, P(0), N(1), P(2))
CALL(claim_force_release, P(0), P(1), P(2))
CALL(claim_forget, P(0), P(1), P(2))
CALL(claim_queue_new, P(0), P(1))
CALL(claim_queue_free, P(0))
CALL(claim_queue_fd, P(0), P(1))
CALL(claim_queue_submit, P(0), P(1), N(2), N(3), P(4), P(5), N(6))
CALL(claim_queue_next, P(0), P(1), P(2), P(3))
CALL(claim_watch_new, P(0), P(1), N(2), N(3), P(4))
CALL(claim_watch_free, P(0))
CALL(claim_watch_fd, P(0), P(1))
CALL(claim_watch_next, P(0), P(1))

#define HANDLE(of) { .is = A_HANDLE, .kind = of }
#define FREES(of) { .is = A_HANDLE, .kind = of, .may = BE_NULL | BE_CONSUMED }
#define KEY { .is = A_KEY }
#define MODE { .is = A_MODE, .good = KEYLATCH_EXCLUSIVE }
#define GRANT { .is = A_GRANT }
#define NUMBER(value) { .is = A_NUMBER, .good = value }
#define OPTIONS(of) { .is = A_STRUCT, .shape = &of, .may = BE_NULL }
#define REVOKED { .is = A_STRUCT, .shape = &filters, .good = KEYLATCH_FILTER_ALL }
#define WRITTEN { .is = OUT }
#define WRITTEN_OR_NULL { .is = OUT, .may = BE_NULL }
#define FILLED(of) { .is = OUT_STRUCT, .shape = &of }
#define MADE(of) { .is = OUT_HANDLE, .kind = of }
#define MADE_OR_NULL(of) { .is = OUT_HANDLE, .kind = of, .may = BE_NULL }
#define TEXT { .is = OUT_TEXT }
#define GRANTED { .is = OUT_GRANT }
#define FUNCTION(name) "keylatch_" #name, call_##name

const struct function functions[] = {
    { FUNCTION(status_name), { NUMBER(0) }, PLAINLY, 1 },
    { FUNCTION(status_text), { NUMBER(0) }, PLAINLY, 1 },
    { FUNCTION(status_is_transient), { NUMBER(0) }, PLAINLY, 1 },
    { FUNCTION(version), { { 0 } }, PLAINLY, 1 },
    { FUNCTION(abi_version), { { 0 } }, PLAINLY, 1 },
    { FUNCTION(abi_0), { { 0 } }, PLAINLY, 1 },
    { FUNCTION(last_error), { { 0 } }, PLAINLY, 1 },
    { FUNCTION(last_status), { { 0 } }, WITH_A_TIMEOUT, 1 },
    { FUNCTION(last_error_clear), { { 0 } }, WITH_A_TIMEOUT, 1 },
    { FUNCTION(text_free), { { .is = A_TEXT, .may = BE_NULL | BE_CONSUMED } }, PLAINLY, 1 },
    { FUNCTION(struct_size), { { .is = A_MODE, .good = KEYLATCH_STRUCT_METRICS, .may = BE_LONG }, WRITTEN }, PLAINLY, 1 },
    { FUNCTION(manager_new), { OPTIONS(manager_options), MADE(MANAGER) }, PLAINLY, 1 },
    { FUNCTION(manager_settings), { HANDLE(MANAGER), FILLED(manager_options) }, PLAINLY, 1 },
    { FUNCTION(manager_close), { HANDLE(MANAGER) }, PLAINLY, 1 },
    { FUNCTION(manager_is_closed), { HANDLE(MANAGER), WRITTEN }, PLAINLY, 1 },
    { FUNCTION(manager_free), { FREES(MANAGER) }, PLAINLY, 0 },
    { FUNCTION(owner_new), { HANDLE(MANAGER), { .is = SOME_BYTES }, { .is = A_COUNT, .good = 3 }, OPTIONS(owner_options), MADE(OWNER) }, PLAINLY, 1 },
    { FUNCTION(owner_release_all), { HANDLE(OWNER), WRITTEN_OR_NULL }, PLAINLY, 0 },
    { FUNCTION(owner_free), { FREES(OWNER) }, PLAINLY, 0 },
    { FUNCTION(queue_new), { HANDLE(MANAGER), MADE(QUEUE) }, PLAINLY, 1 },
    { FUNCTION(queue_free), { FREES(QUEUE) }, PLAINLY, 0 },
    { FUNCTION(queue_fd), { HANDLE(QUEUE), WRITTEN }, PLAINLY, 0 },
    { FUNCTION(queue_drain), { HANDLE(QUEUE), { .is = AN_ARRAY, .null_is = KEYLATCH_ENULL }, { .is = A_NUMBER, .good = 2 }, WRITTEN }, WITH_A_COMPLETION, 0 },
    { FUNCTION(queue_next), { HANDLE(QUEUE), NUMBER(0), WRITTEN }, WITH_A_COMPLETION, 0 },
    { FUNCTION(try), { HANDLE(MANAGER), KEY, MODE, OPTIONS(request_options), GRANTED }, PLAINLY, 0 },
    { FUNCTION(acquire), { HANDLE(MANAGER), KEY, MODE, NUMBER(0), OPTIONS(request_options), GRANTED }, PLAINLY, 0 },
    { FUNCTION(acquire_callback), { HANDLE(MANAGER), KEY, MODE, NUMBER(0), OPTIONS(request_options), { .is = A_CALLBACK }, NUMBER(0), { .is = A_FREE_FN, .may = BE_NULL }, GRANTED, WRITTEN }, PLAINLY, 0 },
    { FUNCTION(acquire_queue), { HANDLE(MANAGER), KEY, MODE, NUMBER(0), OPTIONS(request_options), HANDLE(QUEUE), NUMBER(0), GRANTED, WRITTEN }, PLAINLY, 0 },
    { FUNCTION(pin), { HANDLE(MANAGER), KEY, MADE(PINNED) }, PLAINLY, 0 },
    { FUNCTION(unpin), { FREES(PINNED) }, PLAINLY, 0 },
    { FUNCTION(try_pinned), { HANDLE(PINNED), MODE, OPTIONS(request_options), GRANTED }, PLAINLY, 0 },
    { FUNCTION(acquire_pinned), { HANDLE(PINNED), MODE, NUMBER(0), OPTIONS(request_options), GRANTED }, PLAINLY, 0 },
    { FUNCTION(acquire_pinned_callback), { HANDLE(PINNED), MODE, NUMBER(0), OPTIONS(request_options), { .is = A_CALLBACK }, NUMBER(0), { .is = A_FREE_FN, .may = BE_NULL }, GRANTED, WRITTEN }, PLAINLY, 0 },
    { FUNCTION(acquire_pinned_queue), { HANDLE(PINNED), MODE, NUMBER(0), OPTIONS(request_options), HANDLE(QUEUE), NUMBER(0), GRANTED, WRITTEN }, PLAINLY, 0 },
    { FUNCTION(cancel), { HANDLE(MANAGER), NUMBER(1), WRITTEN }, PLAINLY, 1 },
    { FUNCTION(release), { HANDLE(MANAGER), { .is = A_GRANT, .may = BE_CONSUMED } }, PLAINLY, 0 },
    { FUNCTION(release_many), { HANDLE(MANAGER), { .is = AN_ARRAY, .null_is = KEYLATCH_ENULL }, { .is = A_COUNT, .good = 2 }, { .is = OUT, .may = BE_NULL | BE_WRITTEN_ON_FAILURE } }, PLAINLY, 1 },
    { FUNCTION(downgrade), { HANDLE(MANAGER), GRANT }, PLAINLY, 0 },
    { FUNCTION(try_upgrade), { HANDLE(MANAGER), GRANT }, WITH_A_SHARED_GRANT, 0 },
    { FUNCTION(upgrade), { HANDLE(MANAGER), GRANT, NUMBER(0) }, WITH_A_SHARED_GRANT, 0 },
    { FUNCTION(upgrade_queue), { HANDLE(MANAGER), GRANT, NUMBER(0), HANDLE(QUEUE), NUMBER(0), WRITTEN }, WITH_A_SHARED_GRANT, 0 },
    { FUNCTION(grant_mode), { HANDLE(MANAGER), GRANT, WRITTEN }, PLAINLY, 0 },
    { FUNCTION(grant_key), { HANDLE(MANAGER), GRANT, { .is = AN_ARRAY, .null_is = KEYLATCH_ENULL }, { .is = A_NUMBER, .good = 64 }, WRITTEN }, PLAINLY, 0 },
    { FUNCTION(fence), { HANDLE(MANAGER), GRANT, WRITTEN }, PLAINLY, 0 },
    { FUNCTION(previous_holder_died), { HANDLE(MANAGER), GRANT, WRITTEN }, PLAINLY, 0 },
    { FUNCTION(is_current), { HANDLE(MANAGER), { .is = A_KEY, .may = BE_LONG }, NUMBER(1), WRITTEN }, PLAINLY, 0 },
    { FUNCTION(renew), { HANDLE(MANAGER), GRANT, NUMBER(1000000000000) }, PLAINLY, 0 },
    { FUNCTION(remaining), { HANDLE(MANAGER), GRANT, WRITTEN }, PLAINLY, 0 },
    { FUNCTION(is_valid), { HANDLE(MANAGER), { .is = A_GRANT, .may = BE_NOT_HELD }, WRITTEN }, PLAINLY, 1 },
    { FUNCTION(on_lost), { HANDLE(MANAGER), GRANT, { .is = A_CALLBACK }, NUMBER(0), { .is = A_FREE_FN, .may = BE_NULL } }, PLAINLY, 0 },
    { FUNCTION(acquire_batch), { HANDLE(MANAGER), { .is = AN_ARRAY, .null_is = KEYLATCH_ENULL }, { .is = A_COUNT, .good = 0 }, NUMBER(0), OPTIONS(batch_options), WRITTEN_OR_NULL, WRITTEN_OR_NULL }, PLAINLY, 1 },
    { FUNCTION(acquire_batch_callback), { HANDLE(MANAGER), { .is = AN_ARRAY, .null_is = KEYLATCH_ENULL }, { .is = A_COUNT, .good = 0 }, NUMBER(0), OPTIONS(batch_options), { .is = A_CALLBACK }, NUMBER(0), { .is = A_FREE_FN, .may = BE_NULL }, WRITTEN_OR_NULL, WRITTEN_OR_NULL, WRITTEN }, PLAINLY, 0 },
    { FUNCTION(acquire_batch_queue), { HANDLE(MANAGER), { .is = AN_ARRAY, .null_is = KEYLATCH_ENULL }, { .is = A_COUNT, .good = 0 }, NUMBER(0), OPTIONS(batch_options), HANDLE(QUEUE), NUMBER(0), WRITTEN_OR_NULL, WRITTEN_OR_NULL, WRITTEN }, PLAINLY, 0 },
    { FUNCTION(last_key), { WRITTEN }, WITH_A_TIMEOUT, 1 },
    { FUNCTION(last_waited), { WRITTEN }, WITH_A_TIMEOUT, 1 },
    { FUNCTION(last_holder), { { .is = A_NUMBER, .good = 0 }, FILLED(listed_holders), WRITTEN_OR_NULL }, WITH_A_TIMEOUT, 1 },
    { FUNCTION(last_cycle_link), { { .is = A_NUMBER, .good = 0 }, FILLED(listed_links) }, WITH_A_DEADLOCK, 1 },
    { FUNCTION(listing_next_holder), { HANDLE(LISTING), FILLED(listed_holders) }, PLAINLY, 1 },
    { FUNCTION(listing_next_waiter), { HANDLE(LISTING), FILLED(listed_waiters) }, WITH_A_WAITER, 1 },
    { FUNCTION(listing_next_link), { HANDLE(LISTING), FILLED(listed_links) }, WITH_A_CHAIN, 1 },
    { FUNCTION(listing_next_key), { HANDLE(LISTING), FILLED(listed_keys) }, WITH_A_TOP_KEY, 1 },
    { FUNCTION(listing_next_tier_hold), { HANDLE(LISTING), FILLED(listed_tier_holds) }, WITH_A_TIER, 1 },
    { FUNCTION(listing_count), { HANDLE(LISTING), WRITTEN }, PLAINLY, 1 },
    { FUNCTION(listing_text), { HANDLE(LISTING), TEXT }, PLAINLY, 1 },
    { FUNCTION(listing_free), { FREES(LISTING) }, PLAINLY, 0 },
    { FUNCTION(holders), { HANDLE(MANAGER), OPTIONS(filters), MADE(LISTING) }, PLAINLY, 0 },
    { FUNCTION(waiters), { HANDLE(MANAGER), OPTIONS(filters), MADE(LISTING) }, PLAINLY, 0 },
    { FUNCTION(tier_holds), { HANDLE(MANAGER), { .is = A_KEY, .may = BE_NULL }, MADE(LISTING) }, WITH_A_TIER, 0 },
    { FUNCTION(top), { HANDLE(MANAGER), MODE, NUMBER(3), MADE(LISTING) }, PLAINLY, 0 },
    { FUNCTION(blocking_chain), { HANDLE(MANAGER), { .is = A_KEY, .null_is = KEYLATCH_EINVALID, .may = BE_LONG }, { .is = NOTHING }, WRITTEN_OR_NULL, MADE(LISTING) }, PLAINLY, 0 },
    { FUNCTION(blocking_chain), { HANDLE(MANAGER), { .is = NOTHING }, { .is = A_HANDLE, .kind = OWNER, .null_is = KEYLATCH_EINVALID }, WRITTEN_OR_NULL, MADE(LISTING) }, PLAINLY, 0 },
    { FUNCTION(recent_deadlocks), { HANDLE(MANAGER), MADE(LISTING) }, PLAINLY, 0 },
    { FUNCTION(lock_orders), { HANDLE(MANAGER), WRITTEN_OR_NULL, MADE(LISTING) }, PLAINLY, 0 },
    { FUNCTION(force_release), { HANDLE(MANAGER), REVOKED, WRITTEN_OR_NULL, MADE_OR_NULL(LISTING) }, PLAINLY, 0 },
    { FUNCTION(expire), { HANDLE(MANAGER), REVOKED, WRITTEN_OR_NULL, MADE_OR_NULL(LISTING) }, PLAINLY, 0 },
    { FUNCTION(events_new), { HANDLE(MANAGER), OPTIONS(event_options), MADE(EVENTS) }, PLAINLY, 0 },
    { FUNCTION(events_fd), { HANDLE(EVENTS), WRITTEN }, PLAINLY, 0 },
    { FUNCTION(events_next), { HANDLE(EVENTS), NUMBER(0), WRITTEN, MADE_OR_NULL(LISTING) }, WITH_AN_EVENT, 0 },
    { FUNCTION(events_dropped), { HANDLE(EVENTS), WRITTEN }, PLAINLY, 1 },
    { FUNCTION(events_free), { FREES(EVENTS) }, PLAINLY, 0 },
    { FUNCTION(manager_metrics), { HANDLE(MANAGER), { .is = A_NUMBER, .good = UINT32_MAX }, FILLED(metrics) }, PLAINLY, 0 },
    { FUNCTION(manager_health), { HANDLE(MANAGER), FILLED(health), { .is = OUT_TEXT, .may = BE_NULL } }, PLAINLY, 0 },
    { FUNCTION(manager_adaptive), { HANDLE(MANAGER), FILLED(adaptive) }, PLAINLY, 0 },
    { FUNCTION(manager_wait_times), { HANDLE(MANAGER), { .is = A_NUMBER, .good = UINT32_MAX }, { .is = AN_ARRAY, .null_is = KEYLATCH_ENULL }, { .is = A_NUMBER, .good = 64 }, WRITTEN }, PLAINLY, 0 },
    { FUNCTION(manager_openmetrics), { HANDLE(MANAGER), TEXT }, PLAINLY, 0 },
    { FUNCTION(manager_openmetrics_with_keys), { HANDLE(MANAGER), TEXT }, PLAINLY, 0 },
    { FUNCTION(manager_report), { HANDLE(MANAGER), TEXT }, PLAINLY, 0 },
    { FUNCTION(shared_open), { OPTIONS(shared_options), MADE(SHARED) }, PLAINLY, 1 },
    { FUNCTION(shared_free), { FREES(SHARED) }, PLAINLY, 0 },
    { FUNCTION(shared_try), { HANDLE(SHARED), { .is = A_KEY, .may = BE_LONGER }, MODE, OPTIONS(shared_requests), GRANTED }, PLAINLY, 0 },
    { FUNCTION(shared_acquire), { HANDLE(SHARED), { .is = A_KEY, .may = BE_LONGER }, MODE, NUMBER(0), OPTIONS(shared_requests), GRANTED }, PLAINLY, 0 },
    { FUNCTION(shared_acquire_cancellable), { HANDLE(SHARED), { .is = A_KEY, .may = BE_LONGER }, MODE, NUMBER(0), OPTIONS(shared_requests), GRANTED }, PLAINLY, 0 },
    { FUNCTION(shared_release), { HANDLE(SHARED), { .is = A_GRANT, .may = BE_CONSUMED } }, PLAINLY, 0 },
    { FUNCTION(shared_downgrade), { HANDLE(SHARED), GRANT }, PLAINLY, 0 },
    { FUNCTION(shared_try_upgrade), { HANDLE(SHARED), GRANT }, WITH_A_SHARED_GRANT, 0 },
    { FUNCTION(shared_hold_info), { HANDLE(SHARED), GRANT, FILLED(shared_holds) }, PLAINLY, 0 },
    { FUNCTION(shared_holders), { HANDLE(SHARED), { .is = A_KEY, .may = BE_NULL | BE_LONGER }, { .is = A_CALLBACK } }, PLAINLY, 0 },
    { FUNCTION(shared_waiting), { HANDLE(SHARED), { .is = A_KEY, .may = BE_LONGER }, WRITTEN }, PLAINLY, 0 },
    { FUNCTION(shared_revoke), { HANDLE(SHARED), { .is = A_GRANT, .may = BE_CONSUMED } }, PLAINLY, 0 },
    { FUNCTION(claims_new), { OPTIONS(claims_options), MADE(CLAIMS) }, PLAINLY, 1 },
    { FUNCTION(claims_free), { FREES(CLAIMS) }, PLAINLY, 0 },
    { FUNCTION(claimant_new), { HANDLE(CLAIMS), { .is = SOME_BYTES }, { .is = A_COUNT, .good = 3 }, NUMBER(0), MADE(CLAIMANT) }, PLAINLY, 0 },
    { FUNCTION(claimant_free), { FREES(CLAIMANT) }, PLAINLY, 0 },
    { FUNCTION(claimant_settle_below), { HANDLE(CLAIMANT), NUMBER(0) }, PLAINLY, 0 },
    { FUNCTION(claimant_renew), { HANDLE(CLAIMANT) }, PLAINLY, 0 },
    { FUNCTION(claim), { HANDLE(CLAIMANT), KEY, NUMBER(2), NUMBER(0), OPTIONS(claim_policies), FILLED(claim_answers) }, PLAINLY, 0 },
    { FUNCTION(claim_callback_submit), { HANDLE(CLAIMANT), KEY, NUMBER(2), NUMBER(0), OPTIONS(claim_policies), { .is = A_CALLBACK }, NUMBER(0), { .is = A_FREE_FN, .may = BE_NULL } }, PLAINLY, 0 },
    { FUNCTION(claim_complete), { HANDLE(CLAIMANT), NUMBER(1), NUMBER(1), NUMBER(1), { .is = SOME_BYTES }, { .is = A_COUNT, .good = 3 }, { .is = OUT_STRUCT, .shape = &claim_answers, .may = BE_NULL } }, PLAINLY, 0 },
    { FUNCTION(claim_progress), { HANDLE(CLAIMANT), NUMBER(1), NUMBER(1), NUMBER(5), NUMBER(9), { .is = SOME_BYTES }, { .is = A_COUNT, .good = 3 } }, PLAINLY, 0 },
    { FUNCTION(claim_renew), { HANDLE(CLAIMANT), NUMBER(1), NUMBER(1), NUMBER(1000000000) }, PLAINLY, 0 },
    { FUNCTION(claim_cancel), { HANDLE(CLAIMANT), NUMBER(1), { .is = OUT_STRUCT, .shape = &claim_answers, .may = BE_NULL } }, PLAINLY, 0 },
    { FUNCTION(claim_force_release), { HANDLE(CLAIMS), KEY, WRITTEN }, PLAINLY, 0 },
    { FUNCTION(claim_forget), { HANDLE(CLAIMS), KEY, WRITTEN }, PLAINLY, 0 },
    { FUNCTION(claim_queue_new), { HANDLE(CLAIMS), MADE(CLAIM_QUEUE) }, PLAINLY, 0 },
    { FUNCTION(claim_queue_free), { FREES(CLAIM_QUEUE) }, PLAINLY, 0 },
    { FUNCTION(claim_queue_fd), { HANDLE(CLAIM_QUEUE), WRITTEN }, PLAINLY, 0 },
    { FUNCTION(claim_queue_submit), { HANDLE(CLAIMANT), KEY, NUMBER(2), NUMBER(0), OPTIONS(claim_policies), HANDLE(CLAIM_QUEUE), NUMBER(7) }, PLAINLY, 0 },
    { FUNCTION(claim_queue_next), { HANDLE(CLAIM_QUEUE), WRITTEN, WRITTEN, FILLED(claim_answers) }, PLAINLY, 0 },
    { FUNCTION(claim_watch_new), { HANDLE(CLAIMS), KEY, NUMBER(0), NUMBER(0), MADE(CLAIM_WATCH) }, PLAINLY, 0 },
    { FUNCTION(claim_watch_free), { FREES(CLAIM_WATCH) }, PLAINLY, 0 },
    { FUNCTION(claim_watch_fd), { HANDLE(CLAIM_WATCH), WRITTEN }, PLAINLY, 0 },
    { FUNCTION(claim_watch_next), { HANDLE(CLAIM_WATCH), FILLED(claim_events) }, PLAINLY, 0 },
};

const size_t function_count = sizeof functions / sizeof *functions;
