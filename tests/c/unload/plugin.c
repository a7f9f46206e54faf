/* A plug-in that contains the static library, uses every thread that the library starts, and frees everything. */
#include <keylatch.h>

#include "../check.h"

static void ended(void *user_data, int32_t status, uint64_t grant)
{
    (void)grant;
    *(int32_t *)user_data = status;
}

static void claimed(void *user_data, int32_t status, const keylatch_claim_answer *answer)
{
    (void)answer;
    *(int32_t *)user_data = status;
}

void use_everything(void);
void use_everything(void)
{
    keylatch_manager *manager;
    keylatch_queue *queue;
    keylatch_claims *claims;
    keylatch_claimant *first, *second;
    keylatch_claim_answer answer = KEYLATCH_CLAIM_ANSWER_INIT;
    keylatch_key key = keylatch_key_of("photos", "cat.jpg");
    uint64_t grant, none, ticket;
    int32_t by_callback = 1, by_claim = 1;
    keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT;

    /* With a server, the threads of the network, too. */
    options.etcd = getenv("KEYLATCH_ETCD");
    OK(keylatch_manager_new(&options, &manager));
    OK(keylatch_queue_new(manager, &queue));
    OK(keylatch_acquire(manager, &key, KEYLATCH_EXCLUSIVE, options.etcd ? KEYLATCH_WAIT_FOREVER : 0, NULL, &grant));
    /* The thread of callbacks, and that of timeouts. */
    OK(keylatch_acquire_callback(manager, &key, KEYLATCH_SHARED, KEYLATCH_WAIT_FOREVER, NULL, ended, &by_callback, NULL, &none,
                                 &ticket));
    CHECK(ticket != 0);
    OK(keylatch_acquire_queue(manager, &key, KEYLATCH_SHARED, 3600000000000, NULL, queue, 7, &none, &ticket));
    CHECK(ticket != 0);
    OK(keylatch_manager_free(manager));
    CHECK(by_callback == KEYLATCH_ECLOSED);
    OK(keylatch_queue_free(queue));

    OK(keylatch_claims_new(NULL, &claims));
    OK(keylatch_claimant_new(claims, "first", 5, 0, &first));
    OK(keylatch_claimant_new(claims, "second", 6, 0, &second));
    OK(keylatch_claim(first, &key, 1, 0, NULL, &answer));
    CHECK(answer.kind == KEYLATCH_CLAIM_YOURS);
    OK(keylatch_claim_callback_submit(second, &key, 1, KEYLATCH_WAIT_FOREVER, NULL, claimed, &by_claim, NULL));
    OK(keylatch_claims_free(claims));
    CHECK(by_claim == KEYLATCH_ECLOSED);
    OK(keylatch_claimant_free(first));
    OK(keylatch_claimant_free(second));
}
