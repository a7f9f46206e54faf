/* What tests need: a check that says where it failed, and threads that are joined. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* A status, with what the library says of it. */
#define CHECK_STATUS(expected, call)                                                               \
    do {                                                                                           \
        int32_t status_ = (call);                                                                  \
        if (status_ != (expected)) {                                                               \
            fprintf(stderr, "%s:%d: %s came to %s, not to %s: %s\n", __FILE__, __LINE__, #call,    \
                    keylatch_status_name(status_), keylatch_status_name(expected),                 \
                    keylatch_last_error());                                                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define OK(call) CHECK_STATUS(KEYLATCH_OK, call)

#endif
