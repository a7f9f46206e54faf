#include "expected.h"

#include <string.h>

static bool is_among(const struct json *name, char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (json_is_text(name, names[i]))
            return true;
    return false;
}

static struct json *items(struct json *value)
{
    if (value && value->kind != JSON_ARRAY)
        fail("%s is not an array", value->name ? value->name : "an item");
    return value ? value->first : NULL;
}

static void same_error(struct json *expected, const struct report *report)
{
    int32_t status = status_from(needed_text(expected, "error"));
    if (report->status != status)
        fail("%s was expected, %s came: %s", keylatch_status_name(status), keylatch_status_name(report->status), report->text);
    for (struct json *name = items(json_take(expected, "holders")); name; name = name->next)
        if (!is_among(name, report->holders, report->holder_count))
            fail("%s is not among the %zu holders that are named: %s", name->text, report->holder_count, report->text);
    struct json *key = json_take(expected, "key");
    if (key) {
        keylatch_key wanted = key_from(key);
        if (!report->has_key || !key_equal(&wanted, &report->key))
            fail("another key or none is named: %s", report->text);
    }
    struct json *transient = json_take(expected, "transient");
    if (transient && is_true(transient) != (keylatch_status_is_transient(report->status) == 1))
        fail("it is%s transient: %s", is_true(transient) ? " not" : "", report->text);
    const char *text = text_field(expected, "text");
    if (text && !strstr(report->text, text))
        fail("there is no \"%s\" in: %s", text, report->text);
    struct json *cycle = json_take(expected, "cycle");
    for (struct json *name = items(cycle); name; name = name->next)
        if (!is_among(name, report->cycle, report->cycle_count))
            fail("%s is not in the cycle of %zu: %s", name->text, report->cycle_count, report->text);
    if (cycle && cycle->count != report->cycle_count)
        fail("the cycle has %zu sessions: %s", report->cycle_count, report->text);
    all_understood(expected);
}

bool compare(struct json *expected, const struct report *report)
{
    if (!expected || json_is_text(expected, "ok")) {
        if (report->status != KEYLATCH_OK)
            fail("%s: %s", keylatch_status_name(report->status), report->text);
        return true;
    }
    if (expected->kind != JSON_OBJECT)
        fail("what is expected is neither \"ok\" nor an error");
    if (report->status == KEYLATCH_OK)
        fail("it succeeded, where an error was expected");
    same_error(expected, report);
    return false;
}

bool came_to(struct json *expected, int32_t status)
{
    static struct report last;
    report_free(&last);
    last = report_now(status);
    bool succeeded = compare(expected, &last);
    report_free(&last);
    return succeeded;
}

void succeed(const char *what, int32_t status)
{
    if (status != KEYLATCH_OK)
        fail("%s: %s: %s", what, keylatch_status_name(status), keylatch_last_error());
}
