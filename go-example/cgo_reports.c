/* What the library reports to a thread or to a callback, as blocks of memory that cgo_answers.go takes apart. */
#include "cgo_shared.h"
#include <string.h>

typedef struct block {
    char *bytes;
    size_t length, room;
} block;

/* As much as most failures take. */
enum { FIRST_ROOM = 1024 };

/* Without memory the block is none from then on, and only its length grows. */
static void put(block *to, const void *bytes, size_t length)
{
    size_t begin = to->length;
    int lost = to->bytes == NULL && begin > 0;
    to->length += (length + 7) / 8 * 8;
    if (to->length > to->room && !lost) {
        to->room = to->length < FIRST_ROOM ? FIRST_ROOM : to->length * 2;
        char *grown = realloc(to->bytes, to->room);
        if (grown == NULL)
            free(to->bytes);
        to->bytes = grown;
    }
    if (to->bytes != NULL && length > 0)
        memcpy(to->bytes + begin, bytes, length);
}

static void put_key(block *to, const keylatch_key *key)
{
    put(to, key->bucket, key->bucket_len);
    put(to, key->object, key->object_len);
    put(to, key->version, key->version_len);
}

uintptr_t glue_failure(void)
{
    block made = {0};
    glue_about about = {0};
    int32_t status = keylatch_last_status();
    /* The text for a held lock only repeats the parts below, and composing it takes as long as all the rest. */
    const char *message = status == KEYLATCH_EWOULDBLOCK || status == KEYLATCH_ETIMEOUT ? "" : keylatch_last_error();
    about.message_len = strlen(message);
    about.has_key = keylatch_last_key(&about.key) == KEYLATCH_OK;
    keylatch_last_waited(&about.waited_ns);
    put(&made, &about, sizeof about);
    put_key(&made, &about.key);
    put(&made, message, about.message_len);
    keylatch_holder holder = {sizeof holder};
    for (; keylatch_last_holder(about.holders, &holder, &about.more_holders) == KEYLATCH_OK; about.holders++) {
        put(&made, &holder, sizeof holder);
        put_key(&made, &holder.key);
        put(&made, holder.owner, holder.owner_len);
        put(&made, holder.source, holder.source_len);
    }
    keylatch_chain_link link = {sizeof link};
    for (; status == KEYLATCH_EDEADLOCK && keylatch_last_cycle_link(about.links, &link) == KEYLATCH_OK; about.links++) {
        put(&made, &link, sizeof link);
        put_key(&made, &link.key);
        put(&made, link.owner, link.owner_len);
        put(&made, link.source, link.source_len);
    }
    about.length = made.length;
    if (made.bytes != NULL)
        memcpy(made.bytes, &about, sizeof about);
    return (uintptr_t)made.bytes;
}

static int32_t put_shared_holder(void *made, const keylatch_shared_holder *holder)
{
    put(made, holder, sizeof *holder);
    put_key(made, &holder->key);
    put(made, holder->owner, holder->owner_len);
    put(made, holder->program, holder->program_len);
    put(made, holder->label, holder->label_len);
    return 0;
}

glue_answer glue_shared_holders(uintptr_t table, const keylatch_key *key)
{
    glue_answer answer = {0};
    block made = {0};
    put(&made, &made.length, sizeof made.length);
    answer.status = keylatch_shared_holders((keylatch_shared_table *)table, key, put_shared_holder, &made);
    if (answer.status != KEYLATCH_OK) {
        free(made.bytes);
        return glue_with_failure(answer);
    }
    if (made.bytes != NULL)
        memcpy(made.bytes, &made.length, sizeof made.length);
    answer.number = (uintptr_t)made.bytes;
    return answer;
}
