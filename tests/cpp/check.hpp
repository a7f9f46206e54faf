/* What the C++ tests share: checks that name their place, and a list of tests. */

#ifndef KEYLATCH_TEST_CHECK_HPP
#define KEYLATCH_TEST_CHECK_HPP

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>
#include <vector>

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                     \
            std::exit(1);                                                                                    \
        }                                                                                                    \
    } while (0)

/* Runs `action` and checks that it throws a keylatch::error of this status. */
#define CHECK_FAILS(action, status)                                                                          \
    do {                                                                                                     \
        bool thrown = false;                                                                                 \
        try {                                                                                                \
            (void)(action);                                                                                  \
        } catch (const keylatch::error &error) {                                                             \
            thrown = true;                                                                                   \
            CHECK(error.code() == (status));                                                                 \
            CHECK(std::string_view(error.what()).size() > 8);                                                \
        }                                                                                                    \
        CHECK(thrown && "it should have thrown");                                                            \
    } while (0)

using test = std::pair<const char *, void (*)()>;

inline int run(const std::vector<test> &tests)
{
    for (const auto &[name, function] : tests) {
        function();
        std::printf("ok %s\n", name);
    }
    std::printf("%zu passed, 0 failed\n", tests.size());
    return 0;
}

#endif
