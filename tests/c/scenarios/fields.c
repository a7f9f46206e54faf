#include "fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct json *needed(struct json *object, const char *name)
{
    struct json *field = json_take(object, name);
    if (!field)
        fail("there is no %s", name);
    return field;
}

static const char *as_text(const struct json *field)
{
    if (field->kind != JSON_TEXT)
        fail("%s is not a text", field->name ? field->name : "an item");
    return field->text;
}

static int64_t as_number(const struct json *field)
{
    if (field->kind != JSON_NUMBER || field->number < 0)
        fail("%s is not a number", field->name ? field->name : "an item");
    return field->number;
}

const char *text_field(struct json *object, const char *name)
{
    struct json *field = json_take(object, name);
    return field ? as_text(field) : NULL;
}

size_t text_length(struct json *object, const char *name)
{
    struct json *field = json_take(object, name);
    return field ? field->length : 0;
}

const char *needed_text(struct json *object, const char *name)
{
    return as_text(needed(object, name));
}

int64_t number_field(struct json *object, const char *name)
{
    struct json *field = json_take(object, name);
    return field ? as_number(field) : -1;
}

int64_t needed_number(struct json *object, const char *name)
{
    return as_number(needed(object, name));
}

bool is_true(const struct json *value)
{
    if (value && value->kind != JSON_TRUE && value->kind != JSON_FALSE)
        fail("%s is neither true nor false", value->name ? value->name : "an item");
    return value && value->kind == JSON_TRUE;
}

void all_understood(const struct json *object)
{
    const char *name = json_untaken(object);
    if (name)
        fail("not understood: %s", name);
}

const void *part_from(struct json *value, size_t *length)
{
    if (value->kind == JSON_TEXT)
        return *length = value->length, value->text;
    if (value->kind != JSON_OBJECT)
        fail("a part of a key is neither a text nor an object");
    const char *hex = text_field(value, "hex");
    char *bytes;
    if (hex) {
        size_t digits = strlen(hex);
        bytes = keep(digits / 2 + 1);
        *length = digits / 2;
        for (size_t i = 0; i < digits; i++) {
            const char *all = "0123456789abcdef", *found = strchr(all, hex[i]);
            if (!found || digits % 2)
                fail("%s is not hex", hex);
            bytes[i / 2] = (char)(bytes[i / 2] * 16 + (found - all));
        }
    } else {
        const char *unit = needed_text(value, "repeat");
        size_t times = (size_t)needed_number(value, "times"), each = strlen(unit);
        *length = each * times;
        bytes = keep(*length + 1);
        for (size_t i = 0; i < times; i++)
            memcpy(bytes + i * each, unit, each);
    }
    all_understood(value);
    return bytes;
}

keylatch_key key_from(struct json *value)
{
    if (value->kind != JSON_ARRAY || value->count < 2 || value->count > 3)
        fail("a key has not two or three parts");
    keylatch_key key = { 0 };
    struct json *object = value->first->next, *version = object->next;
    key.bucket = part_from(value->first, &key.bucket_len);
    key.object = part_from(object, &key.object_len);
    if (version)
        key.version = part_from(version, &key.version_len);
    return key;
}

int32_t mode_from(const struct json *value)
{
    if (json_is_text(value, "shared"))
        return KEYLATCH_SHARED;
    if (json_is_text(value, "exclusive"))
        return KEYLATCH_EXCLUSIVE;
    fail("%s is no mode", value->kind == JSON_TEXT ? value->text : "this");
}

uint64_t milliseconds(int64_t number)
{
    return (uint64_t)number * 1000000;
}

uint64_t timeout_field(struct json *object)
{
    struct json *field = json_take(object, "timeout_ms");
    if (!field)
        return KEYLATCH_WAIT_DEFAULT;
    return field->kind == JSON_NULL ? KEYLATCH_WAIT_FOREVER : milliseconds(as_number(field));
}

void in_range(const struct json *bounds, uint64_t figure, const char *what)
{
    if (bounds->kind != JSON_ARRAY || bounds->count != 2)
        fail("%s is not [least, most]", what);
    uint64_t least = (uint64_t)as_number(bounds->first), most = (uint64_t)as_number(bounds->first->next);
    if (figure < least || figure > most)
        fail("%s is %llu, not in [%llu, %llu]", what, (unsigned long long)figure, (unsigned long long)least, (unsigned long long)most);
}

/* A word of a list, by its number; the first one's is 1. */
static uint32_t one_of(const char *word, const char *const *words)
{
    for (uint32_t i = 0; words[i]; i++)
        if (strcmp(word, words[i]) == 0)
            return i + 1;
    fail("%s is not known", word);
}

/* A number of the struct in which 0 is not said: smallest is as good as 0 then. */
static uint64_t or_smallest(uint64_t number, uint64_t smallest)
{
    return number ? number : smallest;
}

static uint32_t setting(struct json *object, const char *name, uint32_t when_zero)
{
    int64_t number = number_field(object, name);
    if (number > UINT32_MAX)
        fail("%s is too large", name);
    return number < 0 ? 0 : (uint32_t)or_smallest((uint64_t)number, when_zero);
}

keylatch_manager_options settings_from(struct json *object, struct json **expected)
{
    static const char *const fairness[] = { "eventual", "fifo", "writer_first", "reader_first", NULL };
    static const char *const reentrancy[] = { "deny", "count", NULL };
    static const char *const victim[] = { "asker", "youngest", "lowest_priority", NULL };
    keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT;
    *expected = json_take(object, "expect");
    const char *word = text_field(object, "fairness");
    options.fairness = word ? one_of(word, fairness) : 0;
    int64_t number = number_field(object, "fairness_after_us");
    options.fairness_after_ns = number < 0 ? 0 : or_smallest((uint64_t)number * 1000, 1);
    number = number_field(object, "default_timeout_ms");
    options.default_timeout_ns = number < 0 ? 0 : or_smallest(milliseconds(number), 1);
    options.shards = setting(object, "shards", UINT32_MAX);
    options.max_locks = setting(object, "max_locks", UINT32_MAX);
    options.max_waiters = setting(object, "max_waiters", UINT32_MAX);
    options.overtake_limit = setting(object, "overtake_limit", KEYLATCH_OVERTAKE_NEVER);
    number = number_field(object, "max_key_bytes");
    options.max_key_bytes = number < 0 ? 0 : or_smallest((uint64_t)number, UINT64_MAX);
    word = text_field(object, "reentrancy");
    options.reentrancy = word ? one_of(word, reentrancy) : 0;
    word = text_field(object, "victim");
    options.victim = word ? one_of(word, victim) : 0;
    struct json *delay = json_take(object, "deadlock_delay_ms");
    if (delay)
        options.deadlock_delay_ns = delay->kind == JSON_NULL ? KEYLATCH_NEVER : or_smallest(milliseconds(as_number(delay)), 1);
    number = number_field(object, "lock_delay_ms");
    options.lock_delay_ns = number < 0 ? 0 : milliseconds(number);
    all_understood(object);
    return options;
}

int32_t status_from(const char *word)
{
    static const struct { const char *word; int32_t status; } all[] = {
        { "timeout", KEYLATCH_ETIMEOUT },
        { "would_block", KEYLATCH_EWOULDBLOCK },
        { "deadlock", KEYLATCH_EDEADLOCK },
        { "cancelled", KEYLATCH_ECANCELLED },
        { "closed", KEYLATCH_ECLOSED },
        { "not_held", KEYLATCH_ENOTHELD },
        { "lease_lost", KEYLATCH_ELEASELOST },
        { "table_full", KEYLATCH_ETABLEFULL },
        { "invalid_key", KEYLATCH_EKEY },
        { "invalid_config", KEYLATCH_ECONFIG },
        { "forked", KEYLATCH_EFORKED },
        { "upgrade_conflict", KEYLATCH_EUPGRADE },
        { "too_many_waiters", KEYLATCH_EWAITERS },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(word, all[i].word) == 0)
            return all[i].status;
    fail("%s is no error", word);
}
