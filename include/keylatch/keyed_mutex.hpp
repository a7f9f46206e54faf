/*
 * One key as a mutex of the standard library's kind. Included by keylatch.hpp.
 */

#ifndef KEYLATCH_KEYED_MUTEX_HPP
#define KEYLATCH_KEYED_MUTEX_HPP

#include <keylatch/manager.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace keylatch {

/// One key as a mutex of the standard library's kind (SharedTimedLockable), for std::unique_lock,
/// std::shared_lock and std::scoped_lock. It keeps a copy of the key and may be used by many threads together;
/// several values of one key exclude each other. It refers to the manager's handle, as a guard does.
class keyed_mutex {
  public:
    keyed_mutex(manager &locks, const key &key)
        : locks_(locks.native_handle()), bucket_(key.bucket()), object_(key.object()),
          version_(key.version() ? std::optional<std::string>(*key.version()) : std::nullopt)
    {
    }
    keyed_mutex(const keyed_mutex &) = delete;
    keyed_mutex &operator=(const keyed_mutex &) = delete;

    void lock() { exclusive_.store(waited(mode::exclusive), std::memory_order_relaxed); }
    bool try_lock() { return lock_within(0); }
    template <class Rep, class Period> bool try_lock_for(std::chrono::duration<Rep, Period> timeout)
    {
        return lock_within(detail::nanoseconds_of(timeout));
    }
    template <class Clock, class Duration> bool try_lock_until(std::chrono::time_point<Clock, Duration> deadline)
    {
        return lock_within(detail::nanoseconds_until(deadline));
    }
    /// Releases the lock. errc::not_held says that it was not locked, or has been revoked.
    void unlock()
    {
        release(exclusive_.exchange(0, std::memory_order_relaxed));
    }

    void lock_shared()
    {
        const place reserved(*this);
        keep(waited(mode::shared));
    }
    bool try_lock_shared() { return lock_shared_within(0); }
    template <class Rep, class Period> bool try_lock_shared_for(std::chrono::duration<Rep, Period> timeout)
    {
        return lock_shared_within(detail::nanoseconds_of(timeout));
    }
    template <class Clock, class Duration>
    bool try_lock_shared_until(std::chrono::time_point<Clock, Duration> deadline)
    {
        return lock_shared_within(detail::nanoseconds_until(deadline));
    }
    /// Releases one of this value's shared holds; which one makes no difference.
    void unlock_shared()
    {
        std::uint64_t grant = 0;
        {
            const std::lock_guard<std::mutex> in(readers_mutex_);
            if (!readers_.empty()) {
                grant = readers_.back();
                readers_.pop_back();
            }
        }
        release(grant);
    }

  private:
    void release(std::uint64_t grant)
    {
        if (grant == 0)
            detail::fail(errc::not_held, "this mutex is not locked: unlock it once for each lock() that returned");
        detail::check(keylatch_release(locks_, grant));
    }
    /// Room for one more reader's grant, made before the lock is asked for: nothing fails after it is held.
    class place {
      public:
        explicit place(keyed_mutex &mutex) : mutex_(mutex)
        {
            const std::lock_guard<std::mutex> in(mutex_.readers_mutex_);
            const std::size_t wanted = mutex_.readers_.size() + mutex_.arriving_ + 1;
            if (mutex_.readers_.capacity() < wanted)
                mutex_.readers_.reserve(2 * wanted);
            ++mutex_.arriving_;
        }
        ~place()
        {
            const std::lock_guard<std::mutex> in(mutex_.readers_mutex_);
            --mutex_.arriving_;
        }
        place(const place &) = delete;
        place &operator=(const place &) = delete;

      private:
        keyed_mutex &mutex_;
    };

    keylatch_key native() const noexcept
    {
        return version_ ? key(bucket_, object_, *version_).native() : key(bucket_, object_).native();
    }
    std::uint64_t waited(mode mode)
    {
        std::uint64_t grant = 0;
        const keylatch_key key = native();
        detail::check(keylatch_acquire(locks_, &key, static_cast<std::int32_t>(mode), KEYLATCH_WAIT_DEFAULT, nullptr,
                                       &grant));
        return grant;
    }
    /// Returns 0 when the lock is held by others for all of the time.
    std::uint64_t tried(mode mode, std::uint64_t timeout)
    {
        std::uint64_t grant = 0;
        const keylatch_key key = native();
        const auto as = static_cast<std::int32_t>(mode);
        const std::int32_t status = timeout == 0 ? keylatch_try(locks_, &key, as, nullptr, &grant)
                                                 : keylatch_acquire(locks_, &key, as, timeout, nullptr, &grant);
        if (status != KEYLATCH_OK && !detail::is_refusal(status))
            detail::fail(detail::code_of(status));
        return grant;
    }
    bool lock_within(std::uint64_t timeout)
    {
        const std::uint64_t grant = tried(mode::exclusive, timeout);
        if (grant != 0)
            exclusive_.store(grant, std::memory_order_relaxed);
        return grant != 0;
    }
    bool lock_shared_within(std::uint64_t timeout)
    {
        const place reserved(*this);
        const std::uint64_t grant = tried(mode::shared, timeout);
        if (grant != 0)
            keep(grant);
        return grant != 0;
    }
    void keep(std::uint64_t grant)
    {
        const std::lock_guard<std::mutex> in(readers_mutex_);
        readers_.push_back(grant); // a place was reserved
    }

    keylatch_manager *locks_;
    std::string bucket_, object_;
    std::optional<std::string> version_;
    std::atomic<std::uint64_t> exclusive_{0}; // changed by the exclusive holder, and by an unlock that is a mistake
    std::mutex readers_mutex_;
    std::vector<std::uint64_t> readers_; // grants of shared holds
    std::size_t arriving_ = 0;           // readers that have a place reserved and no grant yet
};

} // namespace keylatch

#endif /* KEYLATCH_KEYED_MUTEX_HPP */
