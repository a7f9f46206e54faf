#include "cgo_claims.h"

/* A call that failed, with what it was about. */
static glue_answer settled(glue_answer answer)
{
    if (answer.status != KEYLATCH_OK)
        answer.failure = glue_failure();
    return answer;
}

/* The same of a claim; that nothing is there needs no explanation. */
static claim_answer answered(claim_answer answer)
{
    if (answer.status != KEYLATCH_OK && answer.status != KEYLATCH_EWOULDBLOCK)
        answer.failure = glue_failure();
    return answer;
}

static claim_answer no_answer(void)
{
    claim_answer answer = {KEYLATCH_CLAIM_ANSWER_INIT, 0, 0, 0};
    return answer;
}

static keylatch_key key_of(const char *bytes, claim_key parts)
{
    keylatch_key key;
    key.bucket = bytes;
    key.bucket_len = parts.bucket;
    key.object = bytes + parts.bucket;
    key.object_len = parts.object;
    key.version = NULL;
    key.version_len = parts.version;
    if (parts.has_version)
        key.version = parts.version > 0 ? bytes + parts.bucket + parts.object : "";
    return key;
}

glue_answer claims_new(keylatch_claims_options options)
{
    glue_answer answer = {0, 0, 0, 0};
    keylatch_claims *claims = NULL;
    options.struct_size = sizeof options;
    answer.status = keylatch_claims_new(&options, &claims);
    answer.number = (uintptr_t)claims;
    return settled(answer);
}

int32_t claims_free(uintptr_t claims) { return keylatch_claims_free((keylatch_claims *)claims); }

glue_answer claims_force_release(uintptr_t claims, const char *bytes, claim_key parts)
{
    glue_answer answer = {0, 0, 0, 0};
    keylatch_key key = key_of(bytes, parts);
    answer.status = keylatch_claim_force_release((keylatch_claims *)claims, &key, &answer.number);
    return settled(answer);
}

glue_answer claims_forget(uintptr_t claims, const char *bytes, claim_key parts)
{
    glue_answer answer = {0, 0, 0, 0};
    int32_t forgotten = 0;
    keylatch_key key = key_of(bytes, parts);
    answer.status = keylatch_claim_forget((keylatch_claims *)claims, &key, &forgotten);
    answer.number = (uint64_t)forgotten;
    return settled(answer);
}

glue_answer claimant_new(uintptr_t claims, const char *name, size_t name_len, uint64_t ttl_ns)
{
    glue_answer answer = {0, 0, 0, 0};
    keylatch_claimant *claimant = NULL;
    answer.status = keylatch_claimant_new((keylatch_claims *)claims, name, name_len, ttl_ns, &claimant);
    answer.number = (uintptr_t)claimant;
    return settled(answer);
}

int32_t claimant_free(uintptr_t claimant) { return keylatch_claimant_free((keylatch_claimant *)claimant); }

glue_answer claimant_settle_below(uintptr_t claimant, uint64_t number)
{
    glue_answer answer = {0, 0, 0, 0};
    answer.status = keylatch_claimant_settle_below((keylatch_claimant *)claimant, number);
    return settled(answer);
}

glue_answer claimant_renew(uintptr_t claimant)
{
    glue_answer answer = {0, 0, 0, 0};
    answer.status = keylatch_claimant_renew((keylatch_claimant *)claimant);
    return settled(answer);
}

claim_answer claim_now(uintptr_t claimant, const char *bytes, claim_key parts, uint64_t number,
                       keylatch_claim_policy policy)
{
    claim_answer answer = no_answer();
    keylatch_key key = key_of(bytes, parts);
    policy.struct_size = sizeof policy;
    answer.status = keylatch_claim((keylatch_claimant *)claimant, &key, number, 0, &policy, &answer.answer);
    return answered(answer);
}

glue_answer claim_submit(uintptr_t claimant, uintptr_t queue, const char *bytes, claim_key parts, uint64_t number,
                         keylatch_claim_policy policy, uint64_t token)
{
    glue_answer answer = {0, 0, 0, 0};
    keylatch_key key = key_of(bytes, parts);
    policy.struct_size = sizeof policy;
    answer.status = keylatch_claim_queue_submit((keylatch_claimant *)claimant, &key, number, KEYLATCH_WAIT_FOREVER,
                                                &policy, (keylatch_claim_queue *)queue, token);
    return settled(answer);
}

claim_answer claim_complete(uintptr_t claimant, uint64_t number, uint64_t fence, int32_t succeeded, const char *text,
                            size_t text_len)
{
    claim_answer answer = no_answer();
    answer.status = keylatch_claim_complete((keylatch_claimant *)claimant, number, fence, succeeded, text, text_len,
                                            &answer.answer);
    return answered(answer);
}

glue_answer claim_progress(uintptr_t claimant, uint64_t number, uint64_t fence, uint64_t done, uint64_t total,
                           const char *address, size_t address_len)
{
    glue_answer answer = {0, 0, 0, 0};
    answer.status = keylatch_claim_progress((keylatch_claimant *)claimant, number, fence, done, total, address,
                                            address_len);
    return settled(answer);
}

glue_answer claim_renew(uintptr_t claimant, uint64_t number, uint64_t fence, uint64_t lease_ns)
{
    glue_answer answer = {0, 0, 0, 0};
    answer.status = keylatch_claim_renew((keylatch_claimant *)claimant, number, fence, lease_ns);
    return settled(answer);
}

claim_answer claim_cancel(uintptr_t claimant, uint64_t number)
{
    claim_answer answer = no_answer();
    answer.status = keylatch_claim_cancel((keylatch_claimant *)claimant, number, &answer.answer);
    return answered(answer);
}

glue_answer claim_queue_new(uintptr_t claims)
{
    glue_answer answer = {0, 0, 0, 0};
    keylatch_claim_queue *queue = NULL;
    answer.status = keylatch_claim_queue_new((keylatch_claims *)claims, &queue);
    answer.number = (uintptr_t)queue;
    return settled(answer);
}

glue_answer claim_queue_fd(uintptr_t queue)
{
    glue_answer answer = {0, 0, 0, 0};
    int32_t fd = -1;
    answer.status = keylatch_claim_queue_fd((keylatch_claim_queue *)queue, &fd);
    answer.number = (uint64_t)fd;
    return settled(answer);
}

int32_t claim_queue_free(uintptr_t queue) { return keylatch_claim_queue_free((keylatch_claim_queue *)queue); }

claim_answer claim_queue_next(uintptr_t queue)
{
    claim_answer answer = no_answer();
    int32_t status = KEYLATCH_OK;
    answer.status =
        keylatch_claim_queue_next((keylatch_claim_queue *)queue, &answer.token, &status, &answer.answer);
    if (answer.status == KEYLATCH_OK && status != KEYLATCH_OK) {
        answer.status = status;
        answer.failure = glue_failure();
        return answer;
    }
    return answered(answer);
}

glue_answer claim_watch_new(uintptr_t claims, const char *bytes, claim_key parts, uint64_t epoch, uint64_t sequence)
{
    glue_answer answer = {0, 0, 0, 0};
    keylatch_claim_watch *watch = NULL;
    keylatch_key key = key_of(bytes, parts);
    answer.status = keylatch_claim_watch_new((keylatch_claims *)claims, &key, epoch, sequence, &watch);
    answer.number = (uintptr_t)watch;
    return settled(answer);
}

glue_answer claim_watch_fd(uintptr_t watch)
{
    glue_answer answer = {0, 0, 0, 0};
    int32_t fd = -1;
    answer.status = keylatch_claim_watch_fd((keylatch_claim_watch *)watch, &fd);
    answer.number = (uint64_t)fd;
    return settled(answer);
}

int32_t claim_watch_free(uintptr_t watch) { return keylatch_claim_watch_free((keylatch_claim_watch *)watch); }

claim_event claim_watch_next(uintptr_t watch)
{
    claim_event came = {KEYLATCH_CLAIM_EVENT_INIT, 0, 0};
    came.status = keylatch_claim_watch_next((keylatch_claim_watch *)watch, &came.event);
    if (came.status != KEYLATCH_OK && came.status != KEYLATCH_EWOULDBLOCK)
        came.failure = glue_failure();
    return came;
}
