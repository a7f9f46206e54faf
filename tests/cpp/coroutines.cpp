/* What keylatch.hpp promises to C++20: locks that a coroutine awaits. */

#include <keylatch.hpp>

#include "check.hpp"

#include <condition_variable>
#include <coroutine>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#ifndef KEYLATCH_HAS_COROUTINES
#error "this compiler and standard have no coroutines"
#endif

using namespace std::chrono_literals;
using keylatch::errc;

static const keylatch::key cat{"photos", "cat.jpg"};
static const keylatch::key dog{"photos", "dog.jpg"};

/* A coroutine that starts when it is called and whose frame its owner destroys. How it ended is kept outside the
   frame, because the owner may destroy that as soon as it sees the end. */
struct task {
    struct ending {
        std::atomic<bool> done{false};
        std::exception_ptr failure;
    };
    struct promise_type {
        std::shared_ptr<ending> end = std::make_shared<ending>();
        task get_return_object() { return task{std::coroutine_handle<promise_type>::from_promise(*this), end}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        struct last {
            bool await_ready() noexcept { return false; }
            void await_suspend(std::coroutine_handle<promise_type> self) noexcept
            {
                const std::shared_ptr<ending> kept = self.promise().end;
                kept->done.store(true);
                kept->done.notify_all();
            }
            void await_resume() noexcept {}
        };
        last final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { end->failure = std::current_exception(); }
    };
    task(std::coroutine_handle<promise_type> handle, std::shared_ptr<ending> kept)
        : coroutine(handle), end(std::move(kept))
    {
    }
    task(task &&other) noexcept
        : coroutine(std::exchange(other.coroutine, nullptr)), end(std::move(other.end))
    {
    }
    ~task()
    {
        if (coroutine)
            coroutine.destroy();
    }
    bool is_done() const { return end->done.load(); }
    void wait() const
    {
        end->done.wait(false);
        if (end->failure)
            std::rethrow_exception(end->failure);
    }
    std::coroutine_handle<promise_type> coroutine;
    std::shared_ptr<ending> end;
};

static task take(keylatch::manager &locks, int &taken)
{
    const keylatch::guard guard = co_await locks.async_lock(cat);
    ++taken;
}

static void free_lock_is_granted_without_suspending()
{
    keylatch::manager locks;
    int taken = 0;
    const task task = take(locks, taken);
    CHECK(task.is_done() && taken == 1);
    CHECK(locks.metrics().waits == 0 && locks.metrics().holders == 0);
}

static void waiting_coroutines_go_in_turn()
{
    keylatch::manager locks;
    int taken = 0;
    std::optional<keylatch::guard> held = locks.try_lock(cat);
    std::vector<task> tasks;
    for (int number = 0; number < 100; ++number)
        tasks.push_back(take(locks, taken));
    CHECK(taken == 0 && locks.metrics().waiters == 100);
    held.reset();
    for (const task &task : tasks)
        task.wait();
    CHECK(taken == 100 && locks.metrics().holders == 0);
}

static task fail_in_time(keylatch::manager &locks, std::string &text)
{
    try {
        (void)co_await locks.async_lock(cat, keylatch::mode::shared, 1ms);
    } catch (const keylatch::error &error) {
        CHECK(error.code() == errc::timeout);
        text = error.what();
    }
}

static void timeout_throws_and_names_holder()
{
    keylatch::manager locks;
    std::string text;
    const keylatch::guard held = locks.lock(cat, {nullptr, "backup-7"});
    fail_in_time(locks, text).wait();
    CHECK(text.find("backup-7") != std::string::npos);
}

static task fail_without_waiting(keylatch::manager &locks, std::size_t length, errc expected)
{
    try {
        const std::string object(length, 'x');
        (void)co_await locks.async_lock({"photos", object});
        CHECK(false);
    } catch (const keylatch::error &error) {
        CHECK(error.code() == expected);
    }
}

static void refused_request_throws()
{
    keylatch::manager locks;
    CHECK(fail_without_waiting(locks, 100'000, errc::key_too_long).is_done());
    locks.close();
    CHECK(fail_without_waiting(locks, 3, errc::closed).is_done());
}

/* An executor with a queue that the test's own thread runs. */
struct executor {
    std::mutex mutex;
    std::condition_variable arrived;
    std::deque<std::coroutine_handle<>> ready;
    void post(std::coroutine_handle<> coroutine)
    {
        const std::lock_guard<std::mutex> in(mutex);
        ready.push_back(coroutine);
        arrived.notify_one();
    }
    std::coroutine_handle<> next()
    {
        std::unique_lock<std::mutex> in(mutex);
        arrived.wait(in, [&] { return !ready.empty(); });
        const auto coroutine = ready.front();
        ready.pop_front();
        return coroutine;
    }
};

struct post_to {
    executor *where;
    void operator()(std::coroutine_handle<> coroutine) const { where->post(coroutine); }
};

static task take_on(keylatch::manager &locks, executor &executor, std::thread::id &ran)
{
    const keylatch::guard guard = co_await locks.async_lock(cat, keylatch::mode::exclusive,
                                                            std::chrono::nanoseconds::max(), {}, post_to{&executor});
    ran = std::this_thread::get_id();
}

static void posted_coroutine_runs_where_it_is_sent()
{
    executor executor;
    keylatch::manager locks;
    std::thread::id ran;
    std::optional<keylatch::guard> held = locks.try_lock(cat);
    const task task = take_on(locks, executor, ran);
    held.reset();
    executor.next().resume();
    CHECK(task.is_done() && ran == std::this_thread::get_id());
}

static void destroyed_before_resume_releases()
{
    executor executor;
    keylatch::manager locks;
    std::thread::id ran;
    std::optional<keylatch::guard> held = locks.try_lock(cat);
    {
        const task task = take_on(locks, executor, ran);
        held.reset();
        (void)executor.next(); // granted, and never resumed
    }
    CHECK(locks.try_lock_for(cat, 30s) && ran == std::thread::id());
}

static void destroyed_while_waiting_leaves_no_trace()
{
    executor executor; // outlives the manager, and so its callbacks
    keylatch::manager locks;
    for (int round = 0; round < 20'000; ++round) {
        std::optional<keylatch::guard> held = locks.try_lock_for(cat, 30s);
        CHECK(held);
        std::thread::id ran;
        auto waiting = std::make_unique<task>(take_on(locks, executor, ran));
        std::thread releasing([&] { held.reset(); }); // the grant meets the end of the wait
        waiting.reset();
        releasing.join();
    }
    CHECK(locks.try_lock_for(cat, 30s));
    locks.close();
    CHECK(locks.metrics().waiters == 0);
}

static void awaited_locks_protect_data()
{
    keylatch::manager locks;
    long counter = 0;
    keylatch::pinned_key pin(locks, cat);
    const auto worker = [&](int rounds, bool pinned) -> task {
        for (int round = 0; round < rounds; ++round) {
            const keylatch::guard guard = pinned ? co_await pin.async_lock() : co_await locks.async_lock(cat);
            ++counter;
        }
    };
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 4; ++thread)
        threads.emplace_back([&, thread] { worker(5'000, thread % 2 == 1).wait(); });
    for (auto &thread : threads)
        thread.join();
    CHECK(counter == 20'000 && locks.try_lock_for(cat, 30s));
}

static const std::vector<keylatch::batch_item> both{{dog}, {cat}, {dog}};

static task take_both(keylatch::manager &locks, std::vector<std::uint64_t> &grants,
                      std::chrono::nanoseconds timeout = std::chrono::nanoseconds::max())
{
    try {
        const std::vector<keylatch::guard> guards = co_await locks.async_lock_all(both, timeout);
        for (const keylatch::guard &guard : guards)
            grants.push_back(guard.grant());
        CHECK(!locks.try_lock(cat) && !locks.try_lock(dog));
    } catch (const keylatch::error &error) {
        CHECK(error.code() == errc::timeout || error.code() == errc::closed);
    }
}

static void batch_is_awaited()
{
    keylatch::manager locks;
    std::vector<std::uint64_t> grants;
    CHECK(take_both(locks, grants).is_done());
    CHECK(grants.size() == 3 && grants[0] != 0 && grants[1] != 0 && grants[2] == 0 && locks.metrics().waits == 0);
    for (const auto &blocking : {cat, dog}) {
        grants.clear();
        std::optional<keylatch::guard> held = locks.try_lock(blocking);
        const task task = take_both(locks, grants);
        CHECK(!task.is_done());
        held.reset();
        task.wait();
        CHECK(grants.size() == 3 && locks.metrics().holders == 0);
    }
}

static void batch_that_fails_holds_nothing()
{
    keylatch::manager locks;
    std::vector<std::uint64_t> grants;
    std::optional<keylatch::guard> held = locks.try_lock(dog);
    take_both(locks, grants, 1ms).wait();
    CHECK(grants.empty() && locks.try_lock(cat));
    const task waiting = take_both(locks, grants);
    CHECK(!locks.try_lock(cat)); // had before the one that it waits for
    locks.close();
    waiting.wait();
    CHECK(grants.empty() && locks.metrics().holders == 1);
}

static task take_both_on(keylatch::manager &locks, executor &executor)
{
    (void)co_await locks.async_lock_all(both, std::chrono::nanoseconds::max(), {}, post_to{&executor});
    CHECK(false); // it is never resumed
}

static void destroyed_batch_leaves_no_trace()
{
    executor executor; // outlives the manager, and so its callbacks
    keylatch::manager locks;
    for (int round = 0; round < 5'000; ++round) {
        std::optional<keylatch::guard> held = locks.try_lock_for(dog, 30s);
        CHECK(held);
        auto waiting = std::make_unique<task>(take_both_on(locks, executor));
        std::thread releasing([&] { held.reset(); }); // the grant meets the end of the wait
        waiting.reset();
        releasing.join();
    }
    CHECK(locks.try_lock_for(cat, 30s) && locks.try_lock_for(dog, 30s));
}

static void destroyed_batch_that_was_granted_releases()
{
    executor executor;
    keylatch::manager locks;
    std::optional<keylatch::guard> held = locks.try_lock(dog);
    {
        const task task = take_both_on(locks, executor);
        held.reset();
        (void)executor.next(); // granted, and never resumed
    }
    CHECK(locks.try_lock_for(cat, 30s) && locks.try_lock_for(dog, 30s));
}

static task take_pinned(keylatch::pinned_key &pin, int &taken)
{
    const keylatch::guard guard = co_await pin.async_lock();
    ++taken;
}

static void pinned_key_is_awaited()
{
    keylatch::manager locks;
    keylatch::pinned_key pin(locks, cat);
    int taken = 0;
    CHECK(take_pinned(pin, taken).is_done());
    std::optional<keylatch::guard> held = locks.try_lock(cat);
    const task task = take_pinned(pin, taken);
    CHECK(!task.is_done() && taken == 1);
    held.reset();
    task.wait();
    CHECK(taken == 2 && locks.metrics().holders == 0);
}

int main()
{
    return run({
        {"free_lock_is_granted_without_suspending", free_lock_is_granted_without_suspending},
        {"waiting_coroutines_go_in_turn", waiting_coroutines_go_in_turn},
        {"timeout_throws_and_names_holder", timeout_throws_and_names_holder},
        {"refused_request_throws", refused_request_throws},
        {"posted_coroutine_runs_where_it_is_sent", posted_coroutine_runs_where_it_is_sent},
        {"destroyed_before_resume_releases", destroyed_before_resume_releases},
        {"destroyed_while_waiting_leaves_no_trace", destroyed_while_waiting_leaves_no_trace},
        {"awaited_locks_protect_data", awaited_locks_protect_data},
        {"batch_is_awaited", batch_is_awaited},
        {"batch_that_fails_holds_nothing", batch_that_fails_holds_nothing},
        {"destroyed_batch_leaves_no_trace", destroyed_batch_leaves_no_trace},
        {"destroyed_batch_that_was_granted_releases", destroyed_batch_that_was_granted_releases},
        {"pinned_key_is_awaited", pinned_key_is_awaited},
    });
}
