/*
 * Keys, requests, guards and the manager. Included by keylatch.hpp.
 */

#ifndef KEYLATCH_MANAGER_HPP
#define KEYLATCH_MANAGER_HPP

#include <keylatch/error.hpp>
#include <keylatch/time.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>
#if defined(__cpp_impl_coroutine) && __cpp_impl_coroutine >= 201902L
#define KEYLATCH_HAS_COROUTINES 1
#endif

namespace keylatch {

enum class mode : std::int32_t { shared = KEYLATCH_SHARED, exclusive = KEYLATCH_EXCLUSIVE };

/// What is locked: bucket, object and, optionally, one version. It refers to bytes of the caller's, as a
/// std::string_view does; a function reads them during the call and keeps none of them.
class key {
  public:
    constexpr key(std::string_view bucket, std::string_view object) noexcept
        : bucket_(bucket), object_(object)
    {
    }
    constexpr key(std::string_view bucket, std::string_view object, std::string_view version) noexcept
        : bucket_(bucket), object_(object), version_(version), versioned_(true)
    {
    }
    constexpr std::string_view bucket() const noexcept { return bucket_; }
    constexpr std::string_view object() const noexcept { return object_; }
    constexpr std::optional<std::string_view> version() const noexcept
    {
        return versioned_ ? std::optional<std::string_view>(version_) : std::nullopt;
    }
    /// The key as the functions of keylatch.h take it.
    keylatch_key native() const noexcept
    {
        keylatch_key out{};
        out.bucket = bucket_.data();
        out.bucket_len = bucket_.size();
        out.object = object_.data();
        out.object_len = object_.size();
        if (versioned_) { // a version without bytes is a version, and NULL would be none
            out.version = version_.data() != nullptr ? version_.data() : "";
            out.version_len = version_.size();
        }
        return out;
    }

  private:
    std::string_view bucket_, object_, version_{};
    bool versioned_ = false;
};

class manager;

/// How an owner is made: a label for people, or a session, among which deadlocks are found.
enum class owner_kind {
    label,
    session,
    /// A session that releases what it still holds when it is destroyed.
    releasing_session,
};

/// Who makes requests. See OWNERS in keylatch.h.
class owner {
  public:
    owner(manager &locks, std::string_view name, owner_kind kind = owner_kind::session);
    owner(owner &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    owner &operator=(owner &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~owner() { keylatch_owner_free(handle_); }
    /// Revokes whatever this session holds; returns how many locks that were.
    std::size_t release_all()
    {
        std::size_t count = 0;
        detail::check(keylatch_owner_release_all(handle_, &count));
        return count;
    }
    keylatch_owner *native_handle() const noexcept { return handle_; }

  private:
    keylatch_owner *handle_ = nullptr;
};

/// What a request says besides its key and its time. The default says nothing.
struct request {
    /// Who asks; it has to outlive the call. Without one, `owner_name` is the owner's label.
    const keylatch::owner *by = nullptr;
    std::string_view owner_name{};
    /// Longer than zero for a lease: the lock can be revoked that long after it was granted, unless it is renewed.
    std::chrono::nanoseconds ttl{0};
    /// For sessions: a number by which a repeated request gets the same grant. 0 for none.
    std::uint64_t request_id = 0;
    /// A request waits ahead of those of lower priority.
    std::uint8_t priority = 0;

    /// Throws errc::bad_setting if the lease is shorter than zero: a lock without a lease is not what was meant.
    void check() const
    {
        if (ttl.count() < 0)
            detail::fail(errc::bad_setting, "a ttl of " + std::to_string(ttl.count()) +
                                                " ns is in the past: make it longer than zero, or zero for no lease");
    }
    keylatch_request_options native() const noexcept
    {
        keylatch_request_options out{};
        out.struct_size = sizeof out;
        out.owner = by != nullptr ? by->native_handle() : nullptr;
        out.owner_name = owner_name.data();
        out.owner_name_len = owner_name.size();
        out.ttl_ns = detail::nanoseconds_of(ttl);
        out.request_id = request_id;
        out.priority = priority;
        return out;
    }
};

/* ==== GUARDS ================================================================================== */

/// A lock that is held, and is released when the guard is destroyed. A default-constructed, moved-from,
/// unlocked or detached guard holds nothing; its functions throw errc::not_held.
class guard {
  public:
    guard() noexcept = default;
    /// Adopts a grant that was detached, or that a function of keylatch.h gave.
    guard(keylatch_manager *locks, std::uint64_t grant) noexcept : locks_(locks), grant_(grant) {}
    guard(guard &&other) noexcept
        : locks_(std::exchange(other.locks_, nullptr)), grant_(std::exchange(other.grant_, 0))
    {
    }
    guard &operator=(guard &&other) noexcept
    {
        guard taken(std::move(other));
        std::swap(locks_, taken.locks_);
        std::swap(grant_, taken.grant_);
        return *this;
    }
    ~guard() { release(); }

    explicit operator bool() const noexcept { return grant_ != 0; }
    /// The number that names this hold in listings, in keylatch.h and in other languages.
    std::uint64_t grant() const noexcept { return grant_; }
    /// Releases the lock. errc::lease_lost or errc::not_held says that it had been revoked.
    void unlock()
    {
        locks(); // throws if there is nothing to unlock
        detail::check(release());
    }
    void unlock(std::error_code &code) noexcept { code = detail::code_of(release()); }
    /// Returns the grant, which stays held; release it by keylatch_release(), or adopt it.
    std::uint64_t detach() noexcept
    {
        locks_ = nullptr;
        return std::exchange(grant_, 0);
    }

    /// From exclusive to shared, without a moment in which the key is free.
    void downgrade() { detail::check(keylatch_downgrade(locks(), grant_)); }
    /// From shared to exclusive, if this is the only reader.
    bool try_upgrade()
    {
        const std::int32_t status = keylatch_try_upgrade(locks(), grant_);
        if (status != KEYLATCH_OK && !detail::is_refusal(status))
            detail::fail(detail::code_of(status));
        return status == KEYLATCH_OK;
    }
    /// From shared to exclusive, as soon as the other readers are gone. After an error the lock is shared as before.
    void upgrade() { detail::check(keylatch_upgrade(locks(), grant_, KEYLATCH_WAIT_DEFAULT)); }
    template <class Rep, class Period> void upgrade_for(std::chrono::duration<Rep, Period> timeout)
    {
        detail::check(keylatch_upgrade(locks(), grant_, detail::nanoseconds_of(timeout)));
    }

    keylatch::mode mode() const
    {
        std::int32_t mode = 0;
        detail::check(keylatch_grant_mode(locks(), grant_, &mode));
        return static_cast<keylatch::mode>(mode);
    }
    /// The fence number: a store refuses a writer whose number is lower than one that it has seen.
    std::uint64_t fence() const
    {
        std::uint64_t fence = 0;
        detail::check(keylatch_fence(locks(), grant_, &fence));
        return fence;
    }
    /// Returns whether another process died while it had the key exclusively.
    bool previous_holder_died() const
    {
        std::int32_t died = 0;
        detail::check(keylatch_previous_holder_died(locks(), grant_, &died));
        return died != 0;
    }
    /// Begins the lease anew, to last `ttl` from now.
    template <class Rep, class Period> void renew(std::chrono::duration<Rep, Period> ttl)
    {
        detail::check(keylatch_renew(locks(), grant_, detail::nanoseconds_of(ttl)));
    }
    /// Returns how long the lock is safe from now on; nanoseconds::max() without a lease.
    std::chrono::nanoseconds remaining() const
    {
        std::uint64_t left = 0;
        detail::check(keylatch_remaining(locks(), grant_, &left));
        return detail::duration_of(left);
    }
    /// Returns whether the lock is held and, with a lease, safe at this moment.
    bool is_valid() const noexcept
    {
        std::int32_t valid = 0;
        return grant_ != 0 && keylatch_is_valid(locks_, grant_, &valid) == KEYLATCH_OK && valid != 0;
    }

  private:
    keylatch_manager *locks() const
    {
        if (grant_ == 0)
            detail::fail_empty("this guard holds no lock");
        return locks_;
    }
    std::int32_t release() noexcept
    {
        const std::uint64_t grant = std::exchange(grant_, 0);
        return grant == 0 ? KEYLATCH_ENOTHELD : keylatch_release(locks_, grant);
    }

    keylatch_manager *locks_ = nullptr;
    std::uint64_t grant_ = 0;
};

/// One lock of a batch.
struct batch_item {
    keylatch::key key;
    keylatch::mode mode = keylatch::mode::exclusive;
};

/* ==== MANAGERS ================================================================================ */

/// The settings of a manager, those of keylatch_manager_options: what is 0 is the default.
struct manager_options : keylatch_manager_options {
    manager_options() noexcept : keylatch_manager_options{} { struct_size = sizeof(keylatch_manager_options); }
};

/// How an etcd cluster is reached, for manager_options::etcd_options: what is 0 is the default.
struct etcd_options : keylatch_etcd_options {
    etcd_options() noexcept : keylatch_etcd_options{} { struct_size = sizeof(keylatch_etcd_options); }
};

#ifdef KEYLATCH_HAS_COROUTINES
struct resume_on_callback_thread;
template <class Ask, class Post> class lock_awaiter;
namespace detail {
struct one_key;
struct one_pin;
struct many_keys;
} // namespace detail
#endif

/// One table of locks. Most programs have one.
class manager {
  public:
    manager() { detail::check(keylatch_manager_new(nullptr, &handle_)); }
    explicit manager(const manager_options &options) { detail::check(keylatch_manager_new(&options, &handle_)); }
    /// Adopts a manager that keylatch_manager_new() made.
    explicit manager(keylatch_manager *handle) noexcept : handle_(handle) {}
    manager(manager &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    manager &operator=(manager &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    /// Ends requests that wait with errc::closed, waits for calls and callbacks in progress, and frees the table.
    ~manager() { keylatch_manager_free(handle_); }

    keylatch_manager *native_handle() const noexcept { return handle_; }

    /// Waits for the lock, as long as the manager's default timeout says (for ever, unless it is set).
    [[nodiscard]] guard lock(const key &key, const request &request = {})
    {
        return acquired(key, mode::exclusive, KEYLATCH_WAIT_DEFAULT, request);
    }
    [[nodiscard]] guard lock(const key &key, const request &request, std::error_code &code) noexcept
    {
        return acquired(key, mode::exclusive, KEYLATCH_WAIT_DEFAULT, request, code);
    }
    [[nodiscard]] guard lock_shared(const key &key, const request &request = {})
    {
        return acquired(key, mode::shared, KEYLATCH_WAIT_DEFAULT, request);
    }
    [[nodiscard]] guard lock_shared(const key &key, const request &request, std::error_code &code) noexcept
    {
        return acquired(key, mode::shared, KEYLATCH_WAIT_DEFAULT, request, code);
    }

    /// Takes the lock if it is free. Never waits.
    [[nodiscard]] std::optional<guard> try_lock(const key &key, const request &request = {})
    {
        return tried(key, mode::exclusive, 0, request);
    }
    [[nodiscard]] std::optional<guard> try_lock_shared(const key &key, const request &request = {})
    {
        return tried(key, mode::shared, 0, request);
    }

    /// Waits for the lock for at most `timeout`.
    template <class Rep, class Period>
    [[nodiscard]] std::optional<guard> try_lock_for(const key &key, std::chrono::duration<Rep, Period> timeout,
                                                    const request &request = {})
    {
        return tried(key, mode::exclusive, detail::nanoseconds_of(timeout), request);
    }
    template <class Rep, class Period>
    [[nodiscard]] std::optional<guard> try_lock_shared_for(const key &key, std::chrono::duration<Rep, Period> timeout,
                                                           const request &request = {})
    {
        return tried(key, mode::shared, detail::nanoseconds_of(timeout), request);
    }
    template <class Clock, class Duration>
    [[nodiscard]] std::optional<guard> try_lock_until(const key &key, std::chrono::time_point<Clock, Duration> deadline,
                                                      const request &request = {})
    {
        return tried(key, mode::exclusive, detail::nanoseconds_until(deadline), request);
    }
    template <class Clock, class Duration>
    [[nodiscard]] std::optional<guard> try_lock_shared_until(const key &key,
                                                             std::chrono::time_point<Clock, Duration> deadline,
                                                             const request &request = {})
    {
        return tried(key, mode::shared, detail::nanoseconds_until(deadline), request);
    }

    /// Waits for all of these locks, in the order of their keys, so that two batches never wait for each other.
    /// The guard at an item's place holds nothing if an earlier item has the same key.
    [[nodiscard]] std::vector<guard> lock_all(const std::vector<batch_item> &items, const request &request = {})
    {
        return all(items, KEYLATCH_WAIT_DEFAULT, request);
    }
    template <class Rep, class Period>
    [[nodiscard]] std::vector<guard> lock_all_for(const std::vector<batch_item> &items,
                                                  std::chrono::duration<Rep, Period> timeout,
                                                  const request &request = {})
    {
        return all(items, detail::nanoseconds_of(timeout), request);
    }

#ifdef KEYLATCH_HAS_COROUTINES
    /// `co_await` answers a guard, or throws. `post` is called with the coroutine when a lock that was waited for is
    /// had, or cannot be had. A lock that is free is granted without suspending. Destroying the coroutine while
    /// it waits ends the wait.
    template <class Post = resume_on_callback_thread>
    [[nodiscard]] lock_awaiter<detail::one_key, Post>
    async_lock(const key &key, mode mode = mode::exclusive,
               std::chrono::nanoseconds timeout = std::chrono::nanoseconds::max(), const request &request = {},
               Post post = Post{});
    /// The same for all of these locks; `co_await` answers what `lock_all` returns.
    template <class Post = resume_on_callback_thread>
    [[nodiscard]] lock_awaiter<detail::many_keys, Post>
    async_lock_all(const std::vector<batch_item> &items,
                   std::chrono::nanoseconds timeout = std::chrono::nanoseconds::max(), const request &request = {},
                   Post post = Post{});
#endif

    /// Ends requests that wait, and refuses those to come, with errc::closed. What is held stays held.
    void close() { detail::check(keylatch_manager_close(handle_)); }
    bool is_closed() const
    {
        std::int32_t closed = 0;
        detail::check(keylatch_manager_is_closed(handle_, &closed));
        return closed != 0;
    }
    keylatch_metrics metrics() const
    {
        keylatch_metrics figures{};
        figures.struct_size = sizeof figures;
        detail::check(keylatch_manager_metrics(handle_, KEYLATCH_ALL_SHARDS, &figures));
        return figures;
    }
    keylatch_health health() const
    {
        keylatch_health verdict{};
        verdict.struct_size = sizeof verdict;
        detail::check(keylatch_manager_health(handle_, &verdict, nullptr));
        return verdict;
    }
    /// The figures as OpenMetrics 1.0 text.
    std::string openmetrics() const { return text(keylatch_manager_openmetrics); }
    /// The same, with the keys that most requests wait for: a label each, ten at most.
    std::string openmetrics_with_keys() const { return text(keylatch_manager_openmetrics_with_keys); }
    /// The figures as a report for people.
    std::string report() const { return text(keylatch_manager_report); }

  private:
    guard acquired(const key &key, mode mode, std::uint64_t timeout, const request &request)
    {
        std::error_code code;
        request.check();
        guard taken = acquired(key, mode, timeout, request, code);
        if (code)
            detail::fail(code);
        return taken;
    }
    guard acquired(const key &key, mode mode, std::uint64_t timeout, const request &request,
                   std::error_code &code) noexcept
    {
        if (request.ttl.count() < 0) {
            code = errc::bad_setting;
            return {};
        }
        std::uint64_t grant = 0;
        const keylatch_key native = key.native();
        const keylatch_request_options options = request.native();
        code = detail::code_of(
            keylatch_acquire(handle_, &native, static_cast<std::int32_t>(mode), timeout, &options, &grant));
        return guard(handle_, grant);
    }
    std::optional<guard> tried(const key &key, mode mode, std::uint64_t timeout, const request &request)
    {
        request.check();
        std::uint64_t grant = 0;
        const keylatch_key native = key.native();
        const keylatch_request_options options = request.native();
        const auto as = static_cast<std::int32_t>(mode);
        const std::int32_t status = timeout == 0
                                        ? keylatch_try(handle_, &native, as, &options, &grant)
                                        : keylatch_acquire(handle_, &native, as, timeout, &options, &grant);
        if (status == KEYLATCH_OK)
            return guard(handle_, grant);
        if (!detail::is_refusal(status))
            detail::fail(detail::code_of(status));
        return std::nullopt;
    }
    static std::vector<keylatch_batch_item> natives(const std::vector<batch_item> &items)
    {
        std::vector<keylatch_batch_item> made;
        made.reserve(items.size());
        for (const batch_item &item : items) {
            keylatch_batch_item native{};
            native.key = item.key.native();
            native.mode = static_cast<std::int32_t>(item.mode);
            made.push_back(native);
        }
        return made;
    }
    std::vector<guard> all(const std::vector<batch_item> &items, std::uint64_t timeout, const request &request)
    {
        request.check();
        const std::vector<keylatch_batch_item> asked = natives(items);
        std::vector<std::uint64_t> grants(items.size());
        std::vector<guard> guards;
        guards.reserve(items.size()); // all memory before the first lock, so that none is lost
        const keylatch_request_options options = request.native();
        detail::check(keylatch_acquire_batch(handle_, asked.data(), asked.size(), timeout, &options, grants.data(),
                                             nullptr));
        for (const std::uint64_t grant : grants)
            guards.emplace_back(handle_, grant);
        return guards;
    }
    std::string text(std::int32_t (*of)(const keylatch_manager *, char **)) const
    {
        char *made = nullptr;
        detail::check(of(handle_, &made));
        struct freed {
            char *made;
            ~freed() { keylatch_text_free(made); }
        } const frees{made};
        return made;
    }

    keylatch_manager *handle_ = nullptr;
};

inline owner::owner(manager &locks, std::string_view name, owner_kind kind)
{
    keylatch_owner_options options{};
    options.struct_size = sizeof options;
    if (kind != owner_kind::label)
        options.flags = KEYLATCH_OWNER_SESSION;
    if (kind == owner_kind::releasing_session)
        options.flags |= KEYLATCH_OWNER_RELEASES;
    const char *bytes = name.data() != nullptr ? name.data() : "";
    detail::check(keylatch_owner_new(locks.native_handle(), bytes, name.size(), &options, &handle_));
}

} // namespace keylatch

#endif /* KEYLATCH_MANAGER_HPP */
