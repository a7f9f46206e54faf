/* What the header says that a function returns: the statuses in its list of errors, and those of the lists that this names. */
#include "promised.h"

#include "../check.h"

#include <ctype.h>
#include <string.h>

static char *header;

void promises_of(const char *path)
{
    FILE *file = fopen(path, "r");
    size_t room = 1 << 20;
    CHECK(file && (header = malloc(room)));
    size_t length = fread(header, 1, room - 1, file);
    CHECK(length > 0 && length < room - 1 && fclose(file) == 0);
    header[length] = 0;
}

void promises_forgotten(void)
{
    free(header);
}

static bool is_name(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Where the list of a function begins and ends. */
static bool list_of(const char *function, size_t length, const char **begin, const char **end)
{
    for (const char *at = header; (at = strstr(at, "\nint32_t ")); at++) {
        const char *name = at + strlen("\nint32_t ");
        if (strncmp(name, function, length) != 0 || name[length] != '(')
            continue;
        const char *comment = at;
        while (comment > header && strncmp(comment, "/*", 2) != 0)
            comment--;
        *begin = strstr(comment, "Errors:");
        if (!*begin || *begin > at)
            return false;
        const char *threads = strstr(*begin, "Threads:");
        *end = threads && threads < at ? threads : at;
        return true;
    }
    return false;
}

static bool lists(const char *function, size_t length, const char *status, int depth)
{
    const char *at, *end;
    CHECK(depth < 4);
    if (!list_of(function, length, &at, &end)) {
        fprintf(stderr, "the header has no errors of %.*s\n", (int)length, function);
        exit(1);
    }
    while (at < end) {
        if (!is_name(*at)) {
            at++;
            continue;
        }
        const char *word = at;
        while (is_name(*at))
            at++;
        size_t size = (size_t)(at - word);
        if (size == strlen(status) && strncmp(word, status, size) == 0)
            return true;
        /* "as keylatch_acquire()". Two words and a space or a new line of the comment before. */
        if (*at != '(' || strncmp(word, "keylatch_", 9) != 0)
            continue;
        const char *before = word;
        while (!is_name(before[-1]))
            before--;
        if (strncmp(before - 3, " as", 3) == 0 && lists(word, size, status, depth + 1))
            return true;
    }
    return false;
}

bool is_promised(const char *function, int32_t status)
{
    return status == KEYLATCH_OK || lists(function, strlen(function), keylatch_status_name(status), 0);
}
