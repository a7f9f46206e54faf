/* What the library tells of a failure, copied, because it is another thread's or is about to be overwritten. */
#ifndef REPORT_H
#define REPORT_H

#include "keylatch.h"

#include <stdbool.h>

struct report {
    int32_t status;
    char *text;
    bool has_key;
    keylatch_key key;
    bool has_holders;
    char **holders;
    size_t holder_count;
    bool has_cycle;
    char **cycle;
    size_t cycle_count;
};

/* Of the calling thread's last failure, which had this status; of a success nothing. */
struct report report_now(int32_t status);
void report_free(struct report *report);

/* A key with bytes of its own. */
keylatch_key key_copy(const keylatch_key *key);
void key_free(keylatch_key *key);
bool key_equal(const keylatch_key *one, const keylatch_key *other);

#endif
