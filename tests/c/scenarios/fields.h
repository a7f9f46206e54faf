/* Reads what scenarios say, and ends a scenario that says something else. */
#ifndef FIELDS_H
#define FIELDS_H

#include "json.h"
#include "keylatch.h"

/* Ends the scenario that is being carried out. Only on the thread that carries it out. */
#if defined(__GNUC__)
__attribute__((noreturn, format(printf, 1, 2)))
#endif
void fail(const char *format, ...);

/* Memory until the scenario is over. */
void *keep(size_t size);

struct json *needed(struct json *object, const char *name);
/* NULL for a field that is not there. */
const char *text_field(struct json *object, const char *name);
const char *needed_text(struct json *object, const char *name);
/* -1 for a field that is not there. */
int64_t number_field(struct json *object, const char *name);
int64_t needed_number(struct json *object, const char *name);
/* What keeps a text field's bytes company. */
size_t text_length(struct json *object, const char *name);
bool is_true(const struct json *value);

/* The bytes of one part of a key. */
const void *part_from(struct json *value, size_t *length);
keylatch_key key_from(struct json *value);
int32_t mode_from(const struct json *value);
/* timeout_ms, in nanoseconds and as the library wants it. */
uint64_t timeout_field(struct json *object);
uint64_t milliseconds(int64_t number);
void in_range(const struct json *bounds, uint64_t figure, const char *what);
/* Fails if something has not been read. */
void all_understood(const struct json *object);

/* Settings of a manager; *expected is what making it has to come to, or NULL. */
keylatch_manager_options settings_from(struct json *object, struct json **expected);
int32_t status_from(const char *word);

#endif
