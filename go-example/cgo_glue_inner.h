/* What cgo_glue.c and glue_listings.c have in common. */
#ifndef KEYLATCH_GO_GLUE_INNER_H
#define KEYLATCH_GO_GLUE_INNER_H

#include "cgo_glue.h"

/* Reads the key at *bytes and moves *bytes behind it. before is the key before it, or NULL. */
static inline keylatch_key next_key(const char **bytes, const glue_head *head, const keylatch_key *before)
{
    keylatch_key key;
    if (head->bucket == GLUE_SAME_BUCKET) {
        key.bucket = before != NULL ? before->bucket : *bytes;
        key.bucket_len = before != NULL ? before->bucket_len : 0;
    } else {
        key.bucket = *bytes;
        key.bucket_len = head->bucket;
        *bytes += head->bucket;
    }
    key.object = *bytes;
    key.object_len = head->object;
    *bytes += head->object;
    if (head->version == GLUE_NO_VERSION) {
        key.version = NULL;
        key.version_len = 0;
    } else {
        /* An empty version must not be NULL, which the end of no bytes at all could be. */
        key.version = head->version > 0 ? *bytes : "";
        key.version_len = head->version;
        *bytes += head->version;
    }
    return key;
}

/* Gives the answer its failure, if it is one. */
static inline glue_answer with_failure(glue_answer answer)
{
    if (answer.status != KEYLATCH_OK)
        answer.failure = glue_failure();
    return answer;
}

#endif
