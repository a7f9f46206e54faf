/* What border.c and border_told.c have in common. */
#ifndef KEYLATCH_GO_BORDER_INNER_H
#define KEYLATCH_GO_BORDER_INNER_H

#include "border.h"

/* Reads the key at *bytes and moves *bytes behind it. */
static inline keylatch_key next_key(const char **bytes, const uint32_t *lengths)
{
    keylatch_key key;
    key.bucket = *bytes;
    key.bucket_len = lengths[0];
    *bytes += lengths[0];
    key.object = *bytes;
    key.object_len = lengths[1];
    *bytes += lengths[1];
    if (lengths[2] == BORDER_NO_VERSION) {
        key.version = NULL;
        key.version_len = 0;
    } else {
        /* An empty version must not be NULL, which the end of no bytes at all could be. */
        key.version = lengths[2] > 0 ? *bytes : "";
        key.version_len = lengths[2];
        *bytes += lengths[2];
    }
    return key;
}

/* Gives the answer its failure, if it is one. */
static inline border_answer told(border_answer answer)
{
    if (answer.status != KEYLATCH_OK)
        answer.failure = border_failure();
    return answer;
}

#endif
