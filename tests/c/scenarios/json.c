#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Deeper ones would only exhaust the stack. */
#define DEEPEST 32

struct reader {
    const char *at, *end, *start;
    int depth;
    const char *problem;
};

static struct json *value(struct reader *in);

static void *made(size_t size)
{
    void *memory = calloc(1, size);
    if (!memory)
        abort();
    return memory;
}

static void *refuse(struct reader *in, const char *problem)
{
    if (!in->problem)
        in->problem = problem;
    return NULL;
}

static void skip(struct reader *in)
{
    while (in->at < in->end && strchr(" \t\r\n", *in->at) && *in->at)
        in->at++;
}

static bool follows(struct reader *in, char what)
{
    skip(in);
    if (in->at == in->end || *in->at != what)
        return false;
    in->at++;
    return true;
}

static int hex4(struct reader *in)
{
    int number = 0;
    for (int i = 0; i < 4; i++) {
        if (in->at == in->end)
            return -1;
        char digit = *in->at++;
        const char *digits = "0123456789abcdef", *found = strchr(digits, digit | 0x20);
        if (digit < '0' || !found)
            return -1;
        number = number * 16 + (int)(found - digits);
    }
    return number;
}

static size_t utf8(uint32_t code, char *to)
{
    if (code < 0x80)
        return to[0] = (char)code, 1;
    if (code < 0x800)
        return to[0] = (char)(0xc0 | code >> 6), to[1] = (char)(0x80 | (code & 0x3f)), 2;
    if (code < 0x10000)
        return to[0] = (char)(0xe0 | code >> 12), to[1] = (char)(0x80 | (code >> 6 & 0x3f)),
               to[2] = (char)(0x80 | (code & 0x3f)), 3;
    return to[0] = (char)(0xf0 | code >> 18), to[1] = (char)(0x80 | (code >> 12 & 0x3f)),
           to[2] = (char)(0x80 | (code >> 6 & 0x3f)), to[3] = (char)(0x80 | (code & 0x3f)), 4;
}

/* The character after \u, of one escape or of two. */
static bool escaped(struct reader *in, uint32_t *code)
{
    int high = hex4(in);
    if (high < 0 || (high >= 0xdc00 && high < 0xe000))
        return false;
    *code = (uint32_t)high;
    if (high < 0xd800 || high >= 0xe000)
        return true;
    if (in->end - in->at < 6 || in->at[0] != '\\' || in->at[1] != 'u')
        return false;
    in->at += 2;
    int low = hex4(in);
    *code = 0x10000 + (((uint32_t)high & 0x3ff) << 10) + ((uint32_t)low & 0x3ff);
    return low >= 0xdc00 && low < 0xe000;
}

/* What stands between quotes; the first has been read. */
static char *text(struct reader *in, size_t *length)
{
    const char *closing = in->at;
    while (closing < in->end && *closing != '"')
        closing += *closing == '\\' ? 2 : 1;
    if (closing >= in->end)
        return refuse(in, "a text does not end");
    char *bytes = made((size_t)(closing - in->at) + 1);
    *length = 0;
    while (in->at < closing) {
        char byte = *in->at++;
        if ((unsigned char)byte < 0x20)
            return free(bytes), refuse(in, "a text has a line break or a control character in it");
        if (byte != '\\') {
            bytes[(*length)++] = byte;
            continue;
        }
        const char *letters = "\"\\/bfnrt", *meant = "\"\\/\b\f\n\r\t", *found;
        uint32_t code;
        byte = *in->at++;
        if (byte == 'u' && escaped(in, &code))
            *length += utf8(code, bytes + *length);
        else if (byte && (found = strchr(letters, byte)))
            bytes[(*length)++] = meant[found - letters];
        else
            return free(bytes), refuse(in, "a text has an escape that is none");
    }
    in->at = closing + 1;
    return bytes;
}

static struct json *number(struct reader *in, struct json *into)
{
    bool minus = *in->at == '-';
    in->at += minus;
    const char *first = in->at;
    while (in->at < in->end && *in->at >= '0' && *in->at <= '9') {
        if (into->number > (INT64_MAX - 9) / 10)
            return refuse(in, "a number is too large");
        into->number = into->number * 10 + (*in->at++ - '0');
    }
    if (in->at == first || (*first == '0' && in->at > first + 1))
        return refuse(in, "this is no value");
    if (in->at < in->end && *in->at && strchr(".eE", *in->at))
        return refuse(in, "a number is not whole");
    if (minus)
        into->number = -into->number;
    into->kind = JSON_NUMBER;
    return into;
}

static struct json *append(struct json *list, struct json *last, struct json *item)
{
    if (last)
        last->next = item;
    else
        list->first = item;
    list->count++;
    return item;
}

static struct json *array(struct reader *in, struct json *into)
{
    struct json *last = NULL;
    into->kind = JSON_ARRAY;
    if (follows(in, ']'))
        return into;
    do {
        struct json *item = value(in);
        if (!item)
            return NULL;
        last = append(into, last, item);
    } while (follows(in, ','));
    return follows(in, ']') ? into : refuse(in, "an array goes on without a comma");
}

static struct json *object(struct reader *in, struct json *into)
{
    struct json *last = NULL;
    into->kind = JSON_OBJECT;
    if (follows(in, '}'))
        return into;
    do {
        size_t length;
        char *name = follows(in, '"') ? text(in, &length) : refuse(in, "a field has no name");
        if (!name)
            return NULL;
        for (struct json *field = into->first; field; field = field->next)
            if (strcmp(field->name, name) == 0)
                return free(name), refuse(in, "two fields have one name");
        struct json *field = follows(in, ':') ? value(in) : refuse(in, "a field has no value");
        if (!field)
            return free(name), NULL;
        field->name = name;
        last = append(into, last, field);
    } while (follows(in, ','));
    return follows(in, '}') ? into : refuse(in, "an object goes on without a comma");
}

static bool word(struct reader *in, const char *name)
{
    size_t length = strlen(name);
    if ((size_t)(in->end - in->at) < length || memcmp(in->at, name, length) != 0)
        return false;
    in->at += length;
    return true;
}

static struct json *inside(struct reader *in, struct json *into)
{
    skip(in);
    if (in->at == in->end)
        return refuse(in, "it ends too early");
    if (follows(in, '{'))
        return object(in, into);
    if (follows(in, '['))
        return array(in, into);
    if (follows(in, '"'))
        return into->kind = JSON_TEXT, (into->text = text(in, &into->length)) ? into : NULL;
    if (word(in, "null"))
        return into->kind = JSON_NULL, into;
    if (word(in, "true"))
        return into->kind = JSON_TRUE, into;
    if (word(in, "false"))
        return into->kind = JSON_FALSE, into;
    return number(in, into);
}

static struct json *value(struct reader *in)
{
    if (++in->depth > DEEPEST)
        return refuse(in, "it is too deep");
    struct json *into = made(sizeof *into), *read = inside(in, into);
    in->depth--;
    if (!read)
        json_free(into);
    return read;
}

struct json *json_read(const char *from, size_t length, char *problem, size_t problem_size)
{
    struct reader in = { .at = from, .end = from + length, .start = from };
    struct json *read = value(&in);
    skip(&in);
    if (read && in.at < in.end) {
        json_free(read);
        read = refuse(&in, "something follows it");
    }
    if (!read) {
        int line = 1;
        for (const char *at = from; at < in.at; at++)
            line += *at == '\n';
        snprintf(problem, problem_size, "line %d: %s", line, in.problem);
    }
    return read;
}

void json_free(struct json *value)
{
    while (value) {
        struct json *next = value->next;
        json_free(value->first);
        free(value->text);
        free(value->name);
        free(value);
        value = next;
    }
}

struct json *json_take(struct json *object, const char *name)
{
    for (struct json *field = object ? object->first : NULL; field; field = field->next)
        if (field->name && strcmp(field->name, name) == 0)
            return field->taken = true, field;
    return NULL;
}

const char *json_untaken(const struct json *object)
{
    for (const struct json *field = object ? object->first : NULL; field; field = field->next)
        if (field->name && !field->taken)
            return field->name;
    return NULL;
}

bool json_is_text(const struct json *value, const char *text)
{
    return value && value->kind == JSON_TEXT && value->length == strlen(text) && memcmp(value->text, text, value->length) == 0;
}
