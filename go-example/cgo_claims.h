/*
 * What lies between Go and the claims of keylatch.h. As in cgo_glue.h every function is one crossing, none calls back into
 * Go, and none waits. What a failure was about comes with it: in the next crossing a goroutine may be on another thread.
 */
#ifndef KEYLATCH_GO_CGO_CLAIMS_H
#define KEYLATCH_GO_CGO_CLAIMS_H

#include "cgo_glue.h"

/* A resource, whose parts are Go's for the time of the call. */
typedef struct claim_key {
    uint32_t bucket, object, version;
    int32_t has_version;
} claim_key;

/* An answer, or a status and a failure. The text is to be given back with keylatch_text_free(). */
typedef struct claim_answer {
    keylatch_claim_answer answer;
    uint64_t token;
    uintptr_t failure;
    int32_t status;
} claim_answer;

/* An event, or a status and a failure. owner and text are to be given back. */
typedef struct claim_event {
    keylatch_claim_event event;
    uintptr_t failure;
    int32_t status;
} claim_event;

glue_answer claims_new(keylatch_claims_options options);
int32_t claims_free(uintptr_t claims);
glue_answer claims_force_release(uintptr_t claims, const char *bytes, claim_key key);
glue_answer claims_forget(uintptr_t claims, const char *bytes, claim_key key);

glue_answer claimant_new(uintptr_t claims, const char *name, size_t name_len, uint64_t ttl_ns);
int32_t claimant_free(uintptr_t claimant);
glue_answer claimant_settle_below(uintptr_t claimant, uint64_t number);
glue_answer claimant_renew(uintptr_t claimant);

/* Without waiting. */
claim_answer claim_now(uintptr_t claimant, const char *bytes, claim_key key, uint64_t number,
                       keylatch_claim_policy policy);
/* The answer will lie in the queue under the token. */
glue_answer claim_submit(uintptr_t claimant, uintptr_t queue, const char *bytes, claim_key key, uint64_t number,
                         keylatch_claim_policy policy, uint64_t token);
claim_answer claim_complete(uintptr_t claimant, uint64_t number, uint64_t fence, int32_t succeeded, const char *text,
                            size_t text_len);
glue_answer claim_progress(uintptr_t claimant, uint64_t number, uint64_t fence, uint64_t done, uint64_t total,
                           const char *address, size_t address_len);
glue_answer claim_renew(uintptr_t claimant, uint64_t number, uint64_t fence, uint64_t lease_ns);
claim_answer claim_cancel(uintptr_t claimant, uint64_t number);

glue_answer claim_queue_new(uintptr_t claims);
glue_answer claim_queue_fd(uintptr_t queue);
int32_t claim_queue_free(uintptr_t queue);
/* The status is KEYLATCH_EWOULDBLOCK if nothing is there. */
claim_answer claim_queue_next(uintptr_t queue);

glue_answer claim_watch_new(uintptr_t claims, const char *bytes, claim_key key, uint64_t epoch, uint64_t sequence);
glue_answer claim_watch_fd(uintptr_t watch);
int32_t claim_watch_free(uintptr_t watch);
claim_event claim_watch_next(uintptr_t watch);

#endif
