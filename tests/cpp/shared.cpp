/* What keylatch.hpp promises of locks between processes: guards, death, revocation, listings. */

#include <keylatch.hpp>

#include "check.hpp"

#include <csignal>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

using namespace std::chrono_literals;
using keylatch::errc;

static_assert(!std::is_copy_constructible_v<keylatch::shared_guard>);
static_assert(std::is_nothrow_move_constructible_v<keylatch::shared_guard>);
static_assert(!std::is_copy_constructible_v<keylatch::shared_table>);

static const keylatch::key cat{"photos", "cat.jpg"};
static std::string path;

static keylatch::shared_table opened(std::string_view label)
{
    keylatch::shared_options options;
    options.label = label;
    options.keys = 64;
    options.members = 16;
    return keylatch::shared_table(path, options);
}

static void guard_scope_releases()
{
    keylatch::shared_table table = opened("main");
    std::uint64_t fence = 0;
    {
        const keylatch::shared_guard guard = table.lock(cat, "indexer");
        CHECK(guard && guard.is_valid() && guard.mode() == keylatch::mode::exclusive && !guard.previous_holder_died());
        fence = guard.fence();
        CHECK(!table.try_lock(cat) && !table.try_lock_shared(cat) && !table.try_lock_for(cat, 1ms));
        const auto holders = table.holders(cat);
        CHECK(holders.size() == 1 && table.holders().size() == 1);
        CHECK(holders[0].bucket == "photos" && holders[0].object == "cat.jpg" && !holders[0].version);
        CHECK(holders[0].owner == "indexer" && holders[0].label == "main" && holders[0].pid == std::uint32_t(getpid()));
    }
    CHECK(table.holders().empty());
    const auto again = table.try_lock(cat);
    CHECK(again && again->fence() > fence);
}

static void guard_moves_hold_once()
{
    keylatch::shared_table table = opened("main");
    keylatch::shared_guard first = table.lock(cat);
    keylatch::shared_guard second = std::move(first);
    CHECK(!first && second && !first.is_valid());
    CHECK_FAILS(first.fence(), errc::not_held);
    CHECK_FAILS(first.downgrade(), errc::not_held);
    keylatch::shared_table moved = std::move(table); // guards stay valid
    second.downgrade();
    CHECK(moved.try_lock_shared(cat) && !moved.try_lock(cat));
    CHECK(second.try_upgrade() && second.mode() == keylatch::mode::exclusive);
    second.unlock();
    CHECK_FAILS(second.unlock(), errc::not_held);
    std::error_code code;
    second.unlock(code);
    CHECK(code == errc::not_held && moved.try_lock(cat));
}

static void revoked_guard_says_so()
{
    keylatch::shared_table table = opened("main");
    keylatch::shared_guard guard = table.lock(cat);
    const auto holders = table.holders(cat);
    CHECK(table.revoke(holders.at(0)) && !table.revoke(holders.at(0)) && !guard.is_valid());
    const auto next = table.try_lock(cat);
    CHECK(next);
    CHECK_FAILS(guard.unlock(), errc::not_held);
    CHECK(next->is_valid());
}

static void killed_holder_frees()
{
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    const pid_t child = fork();
    if (child == 0) {
        keylatch::shared_table table = opened("child");
        const keylatch::shared_guard guard = table.lock(cat);
        CHECK(write(pipes[1], "!", 1) == 1);
        for (;;)
            pause();
    }
    char byte;
    CHECK(read(pipes[0], &byte, 1) == 1);
    close(pipes[0]);
    close(pipes[1]);
    keylatch::shared_table table = opened("main");
    CHECK(!table.try_lock(cat));
    std::thread waits([&table] {
        const keylatch::shared_guard guard = table.lock(cat);
        CHECK(guard.previous_holder_died());
    });
    while (table.waiting(cat) == 0)
        std::this_thread::yield();
    CHECK(kill(child, SIGKILL) == 0);
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    waits.join();
    CHECK(!table.lock(cat).previous_holder_died());
}

static void bad_settings_refused()
{
    CHECK_FAILS(keylatch::shared_table("/no/such/folder/locks"), std::error_code(KEYLATCH_EFILE, keylatch::category()));
    keylatch::shared_options options;
    options.members = 5000;
    CHECK_FAILS(keylatch::shared_table(path + "-other", options), errc::bad_setting);
    options = {};
    options.default_timeout = -5ms; // not "as long as it takes"
    CHECK_FAILS(keylatch::shared_table(path + "-other", options), errc::bad_setting);
    keylatch::shared_table table = opened("main");
    keylatch::shared_guard none;
    CHECK(!none && !none.is_valid());
    CHECK_FAILS(none.try_upgrade(), errc::not_held);
}

int main()
{
    path = "/dev/shm/keylatch-cpp-" + std::to_string(getpid());
    const int failed = run({
        {"killed_holder_frees", killed_holder_frees},
        {"guard_scope_releases", guard_scope_releases},
        {"guard_moves_hold_once", guard_moves_hold_once},
        {"revoked_guard_says_so", revoked_guard_says_so},
        {"bad_settings_refused", bad_settings_refused},
    });
    unlink(path.c_str());
    return failed;
}
