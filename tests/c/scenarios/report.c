#include "report.h"

#include <stdlib.h>
#include <string.h>

static void *copy(const void *bytes, size_t length)
{
    char *copied = malloc(length + 1);
    if (!copied)
        abort();
    if (length)
        memcpy(copied, bytes, length);
    copied[length] = 0;
    return copied;
}

keylatch_key key_copy(const keylatch_key *key)
{
    keylatch_key copied = *key;
    copied.bucket = copy(key->bucket, key->bucket_len);
    copied.object = copy(key->object, key->object_len);
    copied.version = key->version ? copy(key->version, key->version_len) : NULL;
    return copied;
}

void key_free(keylatch_key *key)
{
    free((void *)key->bucket);
    free((void *)key->object);
    free((void *)key->version);
}

static bool part_equal(const void *one, size_t one_length, const void *other, size_t other_length)
{
    return one_length == other_length && (one_length == 0 || memcmp(one, other, one_length) == 0);
}

bool key_equal(const keylatch_key *one, const keylatch_key *other)
{
    return part_equal(one->bucket, one->bucket_len, other->bucket, other->bucket_len) &&
           part_equal(one->object, one->object_len, other->object, other->object_len) &&
           !one->version == !other->version &&
           part_equal(one->version, one->version_len, other->version, other->version_len);
}

static void add(char ***names, size_t *count, const char *name, size_t length)
{
    *names = realloc(*names, (*count + 1) * sizeof **names);
    if (!*names)
        abort();
    (*names)[(*count)++] = copy(name, length);
}

struct report report_now(int32_t status)
{
    struct report report = { .status = status };
    if (status == KEYLATCH_OK)
        return report;
    report.text = copy(keylatch_last_error(), strlen(keylatch_last_error()));
    keylatch_key key;
    if (keylatch_last_key(&key) == KEYLATCH_OK) {
        report.has_key = true;
        report.key = key_copy(&key);
    }
    keylatch_holder holder = KEYLATCH_HOLDER_INIT;
    while (keylatch_last_holder(report.holder_count, &holder, NULL) == KEYLATCH_OK) {
        report.has_holders = true;
        add(&report.holders, &report.holder_count, holder.owner, holder.owner_len);
    }
    keylatch_chain_link link = KEYLATCH_CHAIN_LINK_INIT;
    while (keylatch_last_cycle_link(report.cycle_count, &link) == KEYLATCH_OK) {
        report.has_cycle = true;
        add(&report.cycle, &report.cycle_count, link.owner, link.owner_len);
    }
    return report;
}

void report_free(struct report *report)
{
    free(report->text);
    if (report->has_key)
        key_free(&report->key);
    for (size_t i = 0; i < report->holder_count; i++)
        free(report->holders[i]);
    free(report->holders);
    for (size_t i = 0; i < report->cycle_count; i++)
        free(report->cycle[i]);
    free(report->cycle);
    *report = (struct report){ 0 };
}
