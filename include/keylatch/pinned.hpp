/*
 * Keys that stay in the manager's table. Included by keylatch.hpp.
 */

#ifndef KEYLATCH_PINNED_HPP
#define KEYLATCH_PINNED_HPP

#include <keylatch/manager.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

namespace keylatch {

/// A key that is locked often, such as an inode of a table in memory. It stays in the manager's table while this
/// value exists, held or not, and takes one place of `max_locks`; locking it costs less, because there is
/// nothing to hash or to look up. It is the same lock as that of the key. Any thread may use it; its
/// destruction has to come after their calls. After its manager it answers errc::bad_handle.
class pinned_key {
  public:
    pinned_key(manager &locks, const key &key) : locks_(locks.native_handle())
    {
        const keylatch_key native = key.native();
        detail::check(keylatch_pin(locks_, &native, &pin_));
    }
    pinned_key(pinned_key &&other) noexcept : locks_(other.locks_), pin_(std::exchange(other.pin_, nullptr)) {}
    pinned_key &operator=(pinned_key &&other) noexcept
    {
        std::swap(locks_, other.locks_);
        std::swap(pin_, other.pin_);
        return *this;
    }
    /// Ends the pin. What is held of the key stays held.
    ~pinned_key() { keylatch_unpin(pin_); }

    keylatch_pinned_key *native_handle() const noexcept { return pin_; }

    /// Waits for the lock, as long as the manager's default timeout says (for ever, unless it is set).
    [[nodiscard]] guard lock(const request &request = {}) { return acquired(mode::exclusive, request); }
    [[nodiscard]] guard lock_shared(const request &request = {}) { return acquired(mode::shared, request); }
    [[nodiscard]] guard lock(const request &request, std::error_code &code) noexcept
    {
        return acquired(mode::exclusive, request, code);
    }
    [[nodiscard]] guard lock_shared(const request &request, std::error_code &code) noexcept
    {
        return acquired(mode::shared, request, code);
    }

    /// Takes the lock if it is free. Never waits.
    [[nodiscard]] std::optional<guard> try_lock(const request &request = {})
    {
        return tried(mode::exclusive, 0, request);
    }
    [[nodiscard]] std::optional<guard> try_lock_shared(const request &request = {})
    {
        return tried(mode::shared, 0, request);
    }

    /// Waits for the lock for at most `timeout`.
    template <class Rep, class Period>
    [[nodiscard]] std::optional<guard> try_lock_for(std::chrono::duration<Rep, Period> timeout,
                                                    const request &request = {})
    {
        return tried(mode::exclusive, detail::nanoseconds_of(timeout), request);
    }
    template <class Rep, class Period>
    [[nodiscard]] std::optional<guard> try_lock_shared_for(std::chrono::duration<Rep, Period> timeout,
                                                           const request &request = {})
    {
        return tried(mode::shared, detail::nanoseconds_of(timeout), request);
    }
    template <class Clock, class Duration>
    [[nodiscard]] std::optional<guard> try_lock_until(std::chrono::time_point<Clock, Duration> deadline,
                                                      const request &request = {})
    {
        return tried(mode::exclusive, detail::nanoseconds_until(deadline), request);
    }
    template <class Clock, class Duration>
    [[nodiscard]] std::optional<guard> try_lock_shared_until(std::chrono::time_point<Clock, Duration> deadline,
                                                             const request &request = {})
    {
        return tried(mode::shared, detail::nanoseconds_until(deadline), request);
    }

#ifdef KEYLATCH_HAS_COROUTINES
    /// As `manager::async_lock`. The pin has to exist until it is awaited, not while it waits.
    template <class Post = resume_on_callback_thread>
    [[nodiscard]] lock_awaiter<detail::one_pin, Post>
    async_lock(mode mode = mode::exclusive, std::chrono::nanoseconds timeout = std::chrono::nanoseconds::max(),
               const request &request = {}, Post post = Post{});
#endif

  private:
    guard acquired(mode mode, const request &request)
    {
        std::error_code code;
        request.check();
        guard taken = acquired(mode, request, code);
        if (code)
            detail::fail(code);
        return taken;
    }
    guard acquired(mode mode, const request &request, std::error_code &code) noexcept
    {
        if (request.ttl.count() < 0) {
            code = errc::bad_setting;
            return {};
        }
        std::uint64_t grant = 0;
        const keylatch_request_options options = request.native();
        code = detail::code_of(keylatch_acquire_pinned(pin_, static_cast<std::int32_t>(mode), KEYLATCH_WAIT_DEFAULT,
                                                       &options, &grant));
        return guard(locks_, grant);
    }
    std::optional<guard> tried(mode mode, std::uint64_t timeout, const request &request)
    {
        request.check();
        std::uint64_t grant = 0;
        const keylatch_request_options options = request.native();
        const auto as = static_cast<std::int32_t>(mode);
        const std::int32_t status = timeout == 0 ? keylatch_try_pinned(pin_, as, &options, &grant)
                                                 : keylatch_acquire_pinned(pin_, as, timeout, &options, &grant);
        if (status == KEYLATCH_OK)
            return guard(locks_, grant);
        if (!detail::is_refusal(status))
            detail::fail(detail::code_of(status));
        return std::nullopt;
    }

    keylatch_manager *locks_;
    keylatch_pinned_key *pin_ = nullptr;
};

} // namespace keylatch

#endif /* KEYLATCH_PINNED_HPP */
