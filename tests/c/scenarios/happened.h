/* Steps about what happens to locks: events, holds that are lost, and forked children. */
#ifndef HAPPENED_H
#define HAPPENED_H

#include "json.h"

void do_subscribe(struct json *step, struct json *expected);
void do_events(struct json *step, struct json *expected);
void do_on_lost(struct json *step, struct json *expected);
void do_lost(struct json *step, struct json *expected);
void do_forked(struct json *step, struct json *expected);

#endif
