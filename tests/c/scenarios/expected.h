/* Compares what a step came to with what it should have; ends the scenario where it differs. */
#ifndef EXPECTED_H
#define EXPECTED_H

#include "fields.h"
#include "report.h"

/* True for a success that was expected, false for the failure that was. expected may be NULL: success. */
bool compare(struct json *expected, const struct report *report);
/* The same for a call that was just made on this thread. */
bool came_to(struct json *expected, int32_t status);
/* For calls that cannot fail here. */
void succeed(const char *what, int32_t status);

#endif
