/* Steps that ask who holds and who waits, and that take locks away. */
#ifndef LISTED_H
#define LISTED_H

#include "json.h"

void do_holders(struct json *step, struct json *expected);
void do_waiters(struct json *step, struct json *expected);
void do_force_release(struct json *step, struct json *expected);
void do_expire(struct json *step, struct json *expected);
void do_blocking_chain(struct json *step, struct json *expected);
void do_top(struct json *step, struct json *expected);

#endif
