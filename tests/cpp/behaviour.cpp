/* What keylatch.hpp promises to C++17: managers, guards, requests, errors, and locks of the standard library. */

#include <keylatch.hpp>

#include "check.hpp"

#include <condition_variable>
#include <cstring>
#include <limits>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <type_traits>

using namespace std::chrono_literals;
using keylatch::errc;

static_assert(!std::is_copy_constructible_v<keylatch::guard> && std::is_nothrow_move_constructible_v<keylatch::guard>);
static_assert(!std::is_copy_constructible_v<keylatch::manager> && !std::is_copy_constructible_v<keylatch::owner>);
static_assert(!std::is_move_constructible_v<keylatch::keyed_mutex>);
static_assert(!std::is_copy_constructible_v<keylatch::pinned_key> &&
              std::is_nothrow_move_constructible_v<keylatch::pinned_key>);
static_assert(std::is_base_of_v<std::system_error, keylatch::error>);

static const keylatch::key cat{"photos", "cat.jpg"};
static const keylatch::key dog{"photos", "dog.jpg"};

static void guard_scope_releases()
{
    keylatch::manager locks;
    {
        const keylatch::guard guard = locks.lock(cat);
        CHECK(guard && guard.grant() != 0 && guard.mode() == keylatch::mode::exclusive && guard.is_valid());
        CHECK(!locks.try_lock(cat) && !locks.try_lock_shared(cat));
        CHECK(locks.try_lock(dog));
    }
    CHECK(locks.try_lock(cat));
    CHECK(locks.metrics().holders == 0);
}

static void guard_moves_hold_once()
{
    keylatch::manager locks;
    keylatch::guard first = locks.lock(cat);
    const std::uint64_t grant = first.grant();
    keylatch::guard second = std::move(first);
    CHECK(!first && second.grant() == grant);
    keylatch::guard other = locks.lock(dog);
    other = std::move(second); // releases dog
    CHECK(other.grant() == grant && locks.try_lock(dog) && !locks.try_lock(cat));
    keylatch::guard &alias = other;
    other = std::move(alias); // a self-move keeps the hold
    CHECK(other.grant() == grant && !locks.try_lock(cat));
    keylatch::manager moved = std::move(locks); // guards stay valid
    other.unlock();
    CHECK(moved.try_lock(cat));
}

static void empty_guard_fails()
{
    keylatch::guard none;
    CHECK(!none && none.grant() == 0 && !none.is_valid());
    CHECK_FAILS(none.unlock(), errc::not_held);
    CHECK_FAILS(none.fence(), errc::not_held);
    CHECK_FAILS(none.upgrade(), errc::not_held);
    std::error_code code;
    none.unlock(code);
    CHECK(code == errc::not_held);
}

/* What the headers find out themselves has words of its own, not those of an earlier failure. */
template <class Action> static std::string what_of(Action &&action)
{
    try {
        action();
    } catch (const keylatch::error &error) {
        return error.what();
    }
    return "";
}

static void misuse_does_not_show_old_failure()
{
    keylatch::manager locks;
    keylatch::keyed_mutex mutex(locks, cat);
    keylatch::guard none;
    for (const bool same_status : {false, true}) {
        if (same_status)
            CHECK(keylatch_release(locks.native_handle(), 0x1234) == KEYLATCH_ENOTHELD); // an old failure of the same status
        else
            CHECK_FAILS(locks.lock({"b", std::string(100'000, 'x')}), errc::key_too_long);
        const std::string old = keylatch_last_error();
        CHECK(what_of([&] { mutex.unlock(); }).find("not locked") != std::string::npos);
        CHECK(what_of([&] { mutex.unlock_shared(); }).find("not locked") != std::string::npos);
        for (const std::string &text : {what_of([&] { none.unlock(); }), what_of([&] { (void)none.fence(); })})
            CHECK(text != old && text.find("holds no lock") != std::string::npos);
    }
    // An error that a program makes of a status, which is not that of the latest failure.
    CHECK(std::string_view(keylatch::error(errc::closed).what()) == keylatch_status_text(KEYLATCH_ECLOSED));
}

static void negative_lease_is_refused()
{
    keylatch::manager locks;
    keylatch::pinned_key pin(locks, cat);
    keylatch::request leased;
    leased.ttl = -5ms;
    CHECK_FAILS(locks.lock(cat, leased), errc::bad_setting);
    CHECK_FAILS(locks.try_lock_shared(cat, leased), errc::bad_setting);
    CHECK_FAILS(locks.lock_all({{cat}}, leased), errc::bad_setting);
    CHECK_FAILS(pin.lock(leased), errc::bad_setting);
    CHECK_FAILS(pin.try_lock(leased), errc::bad_setting);
    std::error_code code;
    CHECK(!locks.lock(cat, leased, code) && code == errc::bad_setting);
    CHECK(!pin.lock(leased, code) && code == errc::bad_setting);
    CHECK(what_of([&] { (void)locks.lock(cat, leased); }).find("-5000000 ns") != std::string::npos);
    auto guard = locks.lock(cat);
    CHECK_FAILS(guard.renew(-5ms), errc::bad_setting);
}

static void detached_grant_is_adopted()
{
    keylatch::manager locks;
    const std::uint64_t grant = locks.lock(cat).detach();
    CHECK(!locks.try_lock(cat));
    {
        const keylatch::guard adopted(locks.native_handle(), grant);
    }
    CHECK(locks.try_lock(cat));
}

static void guard_outlives_manager()
{
    keylatch::guard guard;
    {
        keylatch::manager locks;
        guard = locks.lock(cat);
    }
    CHECK_FAILS(guard.unlock(), errc::bad_handle);
}

static void shared_holds_convert()
{
    keylatch::manager locks;
    keylatch::guard first = locks.lock_shared(cat);
    {
        const auto second = locks.try_lock_shared(cat);
        CHECK(second && !first.try_upgrade());
        CHECK_FAILS(first.upgrade_for(1ms), errc::timeout);
        CHECK(first.mode() == keylatch::mode::shared);
    }
    first.upgrade();
    CHECK(first.mode() == keylatch::mode::exclusive && first.fence() > 0 && !locks.try_lock_shared(cat));
    first.downgrade();
    CHECK(locks.try_lock_shared(cat));
    CHECK(first.try_upgrade());
}

static void try_lock_for_times_out()
{
    keylatch::manager locks;
    const keylatch::guard held = locks.lock(cat, {nullptr, "backup-7"});
    const auto begin = std::chrono::steady_clock::now();
    CHECK(!locks.try_lock_for(cat, 20ms));
    CHECK(std::chrono::steady_clock::now() - begin >= 20ms); // never early
    CHECK(!locks.try_lock_until(cat, std::chrono::system_clock::now() + 1ms));
    CHECK(!locks.try_lock_until(cat, std::chrono::steady_clock::time_point::min()));
    CHECK(!locks.try_lock_for(cat, -5s) && !locks.try_lock_shared_for(cat, 0.5us));
    CHECK(!locks.try_lock_for(cat, std::chrono::duration<double>(std::numeric_limits<double>::quiet_NaN())));
    // Times that do not fit are as long as there is; the lock is free, so that nothing waits.
    CHECK(locks.try_lock_for(dog, std::chrono::hours::max()));
    CHECK(locks.try_lock_for(dog, std::chrono::duration<double>(1e300)));
    CHECK(locks.try_lock_until(dog, std::chrono::steady_clock::time_point::max()));
}

static void timeout_error_names_holder()
{
    keylatch::manager_options options;
    options.default_timeout_ns = 1'000'000;
    keylatch::manager locks(options);
    const keylatch::guard held = locks.lock(cat, {nullptr, "backup-7"});
    try {
        (void)locks.lock(cat);
        CHECK(false);
    } catch (const keylatch::error &error) {
        CHECK(error.code() == errc::timeout && error.code() == std::errc::timed_out && error.is_transient());
        CHECK(std::strstr(error.what(), "cat.jpg") && std::strstr(error.what(), "backup-7"));
        CHECK(std::string_view(error.code().category().name()) == "keylatch");
    }
    std::error_code code;
    CHECK(!locks.lock(cat, {}, code) && code == errc::timeout);
    CHECK(locks.lock(dog, {}, code) && !code);
    CHECK(!locks.lock_shared(cat, {}, code) && code == errc::timeout);
}

static void bad_input_is_named()
{
    keylatch::manager_options options;
    options.shards = 3;
    CHECK_FAILS(keylatch::manager(options), errc::bad_setting);
    keylatch::manager locks;
    const std::string longest(100'000, 'x');
    CHECK_FAILS(locks.lock({"b", longest}), errc::key_too_long);
    CHECK_FAILS(locks.try_lock({"b", longest}), errc::key_too_long);
    CHECK_FAILS(locks.lock_all({{cat}, {{"b", longest}}}), errc::key_too_long);
    CHECK(locks.lock_all({}).empty());
    locks.close();
    CHECK(locks.is_closed());
    CHECK_FAILS(locks.lock(cat), errc::closed);
}

static void keys_are_bytes()
{
    keylatch::manager locks;
    const auto held = locks.try_lock({"a/b", "c"});
    CHECK(held && locks.try_lock({"a", "b/c"}));
    const auto none = locks.try_lock({"", ""});
    const auto version = locks.try_lock({"", "", ""}); // an empty version is a version
    CHECK(none && version);
    CHECK(!locks.try_lock({std::string_view(), std::string_view(), std::string_view()}));
    CHECK(locks.try_lock({std::string_view("a\0b", 3), "c"}) && locks.try_lock({"a", "c"}));
}

static void lease_is_renewed_and_lost()
{
    keylatch::manager locks;
    keylatch::request leased;
    leased.ttl = 1h;
    keylatch::guard guard = locks.lock(cat, leased);
    CHECK(guard.remaining() > 59min && guard.remaining() <= 1h);
    guard.renew(2h);
    CHECK(guard.remaining() > 119min);
    CHECK(locks.lock(dog).remaining() == std::chrono::nanoseconds::max());
    guard.renew(1ns);
    const auto next = locks.try_lock_for(cat, 30s); // the lease is over, so that this one gets the lock
    CHECK(next && !guard.is_valid() && next->fence() > 0);
    CHECK_FAILS(guard.unlock(), errc::lease_lost);
    CHECK(next->is_valid());
}

static void sessions_are_recognised()
{
    keylatch::manager locks;
    keylatch::owner session(locks, "transaction-1");
    keylatch::request request;
    request.by = &session;
    request.request_id = 7;
    keylatch::guard first = locks.lock(cat, request);
    CHECK(locks.lock(cat, request).detach() == first.grant()); // the same number is the same grant
    request.request_id = 0;
    CHECK_FAILS(locks.lock(cat, request), errc::deadlock);
    CHECK(session.release_all() == 1 && !first.is_valid());
    {
        keylatch::owner brief(locks, "transaction-2", keylatch::owner_kind::releasing_session);
        request.by = &brief;
        (void)locks.lock(dog, request).detach();
        CHECK(!locks.try_lock(dog));
    }
    CHECK(locks.try_lock(dog));
}

static void batch_is_all_or_none()
{
    keylatch::manager locks;
    {
        const auto guards = locks.lock_all({{dog}, {cat, keylatch::mode::shared}, {dog, keylatch::mode::shared}});
        CHECK(guards.size() == 3 && guards[0] && guards[1] && !guards[2]);
        CHECK(!locks.try_lock_shared(dog) && locks.try_lock_shared(cat));
        CHECK_FAILS(locks.lock_all_for({{{"photos", "owl.jpg"}}, {dog}}, 1ms), errc::timeout);
        CHECK(locks.try_lock({"photos", "owl.jpg"}));
    }
    CHECK(locks.metrics().holders == 0);
}

static void keyed_mutex_serves_standard_locks()
{
    keylatch::manager locks;
    keylatch::keyed_mutex first(locks, cat), again(locks, cat), other(locks, dog);
    {
        const std::unique_lock<keylatch::keyed_mutex> held(first);
        CHECK(!again.try_lock() && !again.try_lock_shared() && !again.try_lock_for(1ms));
        const std::unique_lock<keylatch::keyed_mutex> timed(other, 1s);
        CHECK(timed.owns_lock());
    }
    {
        const std::shared_lock<keylatch::keyed_mutex> one(first), two(first, std::try_to_lock), three(again);
        CHECK(two.owns_lock() && three.owns_lock());
        CHECK(other.try_lock_shared_until(std::chrono::steady_clock::time_point::min()));
        other.unlock_shared();
        CHECK(!first.try_lock() && !again.try_lock_until(std::chrono::steady_clock::now() + 1ms));
    }
    {
        const std::scoped_lock both(first, other);
        CHECK(!locks.try_lock(cat) && !locks.try_lock(dog));
    }
    CHECK(locks.metrics().holders == 0);
    CHECK_FAILS(first.unlock(), errc::not_held);
    CHECK_FAILS(first.unlock_shared(), errc::not_held);
}

static void keyed_mutex_protects_data()
{
    keylatch::manager locks;
    keylatch::keyed_mutex mutex(locks, cat);
    constexpr int each = 20'000;
    long counter = 0, readers_saw = 0;
    std::mutex sum;
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 4; ++thread)
        threads.emplace_back([&] {
            long seen = 0;
            for (int round = 0; round < each; ++round) {
                {
                    const std::scoped_lock in(mutex);
                    ++counter;
                }
                const std::shared_lock<keylatch::keyed_mutex> in(mutex);
                seen += counter > 0;
            }
            const std::lock_guard<std::mutex> in(sum);
            readers_saw += seen;
        });
    for (auto &thread : threads)
        thread.join();
    CHECK(counter == 4L * each && readers_saw == 4L * each);
    CHECK(locks.metrics().holders == 0);
}

static void reports_are_text()
{
    keylatch::manager locks;
    (void)locks.try_lock(cat);
    CHECK(locks.openmetrics().find("# EOF") != std::string::npos && !locks.report().empty());
    CHECK(locks.openmetrics_with_keys().find("# EOF") != std::string::npos);
    CHECK(locks.health().healthy == 1);
}

static void pinned_key_is_the_same_lock()
{
    keylatch::manager locks;
    std::optional<keylatch::pinned_key> pin(std::in_place, locks, cat);
    {
        const keylatch::guard held = pin->lock({nullptr, "indexer"});
        CHECK(held.mode() == keylatch::mode::exclusive && !pin->try_lock() && !pin->try_lock_shared());
        CHECK(!locks.try_lock(cat) && !pin->try_lock_for(1ms) && !pin->try_lock_shared_for(1ms));
        CHECK(!pin->try_lock_until(std::chrono::steady_clock::now() + 1ms));
        CHECK(locks.try_lock(dog));
    }
    {
        const keylatch::guard first = locks.lock_shared(cat), second = pin->lock_shared();
        CHECK(pin->try_lock_shared() && pin->try_lock_shared_until(std::chrono::system_clock::now()) && !pin->try_lock());
    }
    keylatch::pinned_key moved = std::move(*pin);
    CHECK_FAILS((void)pin->lock(), errc::null_pointer);
    pin.reset();
    const std::optional<keylatch::guard> kept = moved.try_lock();
    {
        const keylatch::pinned_key ended = std::move(moved);
    }
    CHECK(kept && !locks.try_lock(cat)); // the end of a pin releases nothing
}

static void pin_meets_bad_input()
{
    keylatch::manager_options small;
    small.max_locks = 1;
    std::optional<keylatch::manager> locks(std::in_place, small);
    CHECK_FAILS(keylatch::pinned_key(*locks, {"photos", std::string(100'000, 'x')}), errc::key_too_long);
    keylatch::pinned_key pin(*locks, cat);
    CHECK_FAILS(keylatch::pinned_key(*locks, dog), errc::table_full);
    std::error_code code;
    locks->close();
    CHECK(!pin.lock({}, code) && code == errc::closed);
    CHECK(!pin.lock_shared({}, code) && code == errc::closed);
    locks.reset();
    CHECK_FAILS((void)pin.try_lock(), errc::bad_handle);
}

int main()
{
    return run({
        {"guard_scope_releases", guard_scope_releases},
        {"guard_moves_hold_once", guard_moves_hold_once},
        {"empty_guard_fails", empty_guard_fails},
        {"misuse_does_not_show_old_failure", misuse_does_not_show_old_failure},
        {"negative_lease_is_refused", negative_lease_is_refused},
        {"detached_grant_is_adopted", detached_grant_is_adopted},
        {"guard_outlives_manager", guard_outlives_manager},
        {"shared_holds_convert", shared_holds_convert},
        {"try_lock_for_times_out", try_lock_for_times_out},
        {"timeout_error_names_holder", timeout_error_names_holder},
        {"bad_input_is_named", bad_input_is_named},
        {"keys_are_bytes", keys_are_bytes},
        {"lease_is_renewed_and_lost", lease_is_renewed_and_lost},
        {"sessions_are_recognised", sessions_are_recognised},
        {"batch_is_all_or_none", batch_is_all_or_none},
        {"keyed_mutex_serves_standard_locks", keyed_mutex_serves_standard_locks},
        {"keyed_mutex_protects_data", keyed_mutex_protects_data},
        {"reports_are_text", reports_are_text},
        {"pinned_key_is_the_same_lock", pinned_key_is_the_same_lock},
        {"pin_meets_bad_input", pin_meets_bad_input},
    });
}
