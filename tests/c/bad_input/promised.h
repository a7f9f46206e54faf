#ifndef PROMISED_H
#define PROMISED_H

#include "keylatch.h"

#include <stdbool.h>

/* Reads the header, once. */
void promises_of(const char *path);
void promises_forgotten(void);

/* Whether the header says of the function that it may come to this. */
bool is_promised(const char *function, int32_t status);

#endif
