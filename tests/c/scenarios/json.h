/* Reads JSON: as much of it as scenarios are written in. Numbers are whole. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum json_kind { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_TEXT, JSON_ARRAY, JSON_OBJECT };

/* A value. Items of arrays and fields of objects are lists. */
struct json {
    enum json_kind kind;
    int64_t number;
    /* Of a text: its bytes, among which a NUL may be; one more follows them. */
    char *text;
    size_t length;
    struct json *first;
    size_t count;
    struct json *next;
    /* Of an object's field. */
    char *name;
    bool taken;
};

/* NULL for what is no JSON, and problem says why. */
struct json *json_read(const char *text, size_t length, char *problem, size_t problem_size);
void json_free(struct json *value);

/* A field of an object, or NULL. It counts as understood from then on. */
struct json *json_take(struct json *object, const char *name);
/* The name of a field that was not taken, or NULL. */
const char *json_untaken(const struct json *object);
bool json_is_text(const struct json *value, const char *text);

#endif
