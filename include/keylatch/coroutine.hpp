/*
 * Awaiting locks in a C++20 coroutine. Included by keylatch.hpp where the compiler has coroutines.
 */

#ifndef KEYLATCH_COROUTINE_HPP
#define KEYLATCH_COROUTINE_HPP

#include <keylatch/manager.hpp>
#include <keylatch/pinned.hpp>

#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace keylatch {

/// Resumes a coroutine on the library's callback thread, of which a manager has one. What the coroutine does
/// there before it suspends again delays the other callbacks, and it must not wait: give `async_lock` a
/// function that hands the coroutine to your executor instead, where that is not so. The executor has to outlive the
/// manager. It may be handed a coroutine that is destroyed in that moment by another thread: one whose coroutines
/// are destroyed while they wait has to know which are left.
struct resume_on_callback_thread {
    void operator()(std::coroutine_handle<> coroutine) const { coroutine.resume(); }
};

namespace detail {

/// The grant of one lock, until a guard takes it.
struct one_grant {
    void set(std::uint64_t granted) noexcept { grant = granted; }
    void release(keylatch_manager *locks) noexcept
    {
        if (grant != 0)
            keylatch_release(locks, grant);
    }
    guard take(keylatch_manager *locks) noexcept { return guard(locks, std::exchange(grant, 0)); }
    std::uint64_t grant = 0;
};

/// What a coroutine asks for, and where the answer goes: a key, a pinned key, a batch.
struct one_key {
    using answer = one_grant;
    std::int32_t ask(keylatch_manager *locks, std::uint64_t timeout, const keylatch_request_options &options,
                     keylatch_callback callback, void *user_data, keylatch_free_fn forget, answer &granted,
                     std::uint64_t &ticket) const
    {
        const keylatch_key native = what.native();
        std::uint64_t grant = 0; // not where the callback writes, which may be called before this returns
        const std::int32_t status = keylatch_acquire_callback(locks, &native, static_cast<std::int32_t>(how), timeout,
                                                              &options, callback, user_data, forget, &grant, &ticket);
        if (grant != 0)
            granted.set(grant);
        return status;
    }
    key what;
    mode how;
};

struct one_pin {
    using answer = one_grant;
    std::int32_t ask(keylatch_manager *, std::uint64_t timeout, const keylatch_request_options &options,
                     keylatch_callback callback, void *user_data, keylatch_free_fn forget, answer &granted,
                     std::uint64_t &ticket) const
    {
        std::uint64_t grant = 0; // as above
        const std::int32_t status = keylatch_acquire_pinned_callback(pin, static_cast<std::int32_t>(how), timeout, &options,
                                                                     callback, user_data, forget, &grant, &ticket);
        if (grant != 0)
            granted.set(grant);
        return status;
    }
    keylatch_pinned_key *pin;
    mode how;
};

struct many_keys {
    /// The library writes the grants before it calls back; until then they are its own.
    struct answer {
        void set(std::uint64_t) noexcept {}
        void release(keylatch_manager *locks) noexcept
        {
            keylatch_release_many(locks, grants.data(), grants.size(), nullptr);
        }
        std::vector<guard> take(keylatch_manager *locks)
        {
            std::vector<guard> guards;
            guards.reserve(grants.size()); // what fails, fails before a guard has a grant
            for (std::uint64_t &grant : grants)
                guards.emplace_back(locks, std::exchange(grant, 0));
            return guards;
        }
        std::vector<std::uint64_t> grants;
    };
    std::int32_t ask(keylatch_manager *locks, std::uint64_t timeout, const keylatch_request_options &options,
                     keylatch_callback callback, void *user_data, keylatch_free_fn forget, answer &granted,
                     std::uint64_t &ticket) const
    {
        return keylatch_acquire_batch_callback(locks, items.data(), items.size(), timeout, &options, callback, user_data,
                                               forget, granted.grants.data(), nullptr, &ticket);
    }
    std::vector<keylatch_batch_item> items;
};

} // namespace detail

/// What `async_lock` and `async_lock_all` return, to be awaited once. It asks when it is awaited; the bytes of the
/// keys and of the owner's name have to live until then, as they do in `co_await locks.async_lock(...)`.
template <class Ask, class Post> class lock_awaiter {
  public:
    lock_awaiter(keylatch_manager *locks, Ask ask, typename Ask::answer room, std::chrono::nanoseconds timeout,
                 const request &request, Post post)
        : ask_(std::move(ask)),
          timeout_(timeout == std::chrono::nanoseconds::max() ? KEYLATCH_WAIT_DEFAULT : detail::nanoseconds_of(timeout)),
          request_(request), wait_(std::make_shared<wait>(locks, std::move(room), std::move(post)))
    {
    }
    lock_awaiter(const lock_awaiter &) = delete;
    lock_awaiter &operator=(const lock_awaiter &) = delete;
    /// Ends the wait if the coroutine is destroyed while it waits. What is granted all the same is released.
    ~lock_awaiter()
    {
        if (wait_->state.exchange(phase::abandoned, std::memory_order_acq_rel) == phase::suspended) {
            std::int32_t cancelled = 0;
            keylatch_cancel(wait_->locks, ticket_, &cancelled);
        }
    }

    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> coroutine)
    {
        request_.check();
        wait_->coroutine = coroutine;
        auto shared = std::make_unique<std::shared_ptr<wait>>(wait_);
        const keylatch_request_options options = request_.native();
        // From here on the library owns `shared`; it frees it by `forget`, also when the call fails.
        const std::int32_t status = ask_.ask(wait_->locks, timeout_, options, &lock_awaiter::answer, shared.release(),
                                             &lock_awaiter::forget, wait_->granted, ticket_);
        if (status != KEYLATCH_OK || ticket_ == 0) {
            wait_->settle(status);
            return false;
        }
        // The answer may be here already. The second of this thread and the answer's resumes the coroutine;
        // once `suspended` is stored, the awaiter may be gone, so nothing of it is touched any more.
        // Pairs with: the exchange in `answer`.
        auto expected = phase::asking;
        return wait_->state.compare_exchange_strong(expected, phase::suspended, std::memory_order_acq_rel);
    }
    auto await_resume()
    {
        if (wait_->status != KEYLATCH_OK) {
#if defined(__cpp_exceptions)
            throw error(detail::code_of(wait_->status), wait_->text);
#else
            detail::fail(detail::code_of(wait_->status));
#endif
        }
        return wait_->granted.take(wait_->locks);
    }

  private:
    /// asking -> suspended -> answered, or asking -> answered; abandoned from each of them.
    enum class phase : int { asking, suspended, answered, abandoned };

    /// What the awaiter and the library share; it lives until both have let go of it.
    struct wait {
        wait(keylatch_manager *handle, typename Ask::answer room, Post function)
            : locks(handle), granted(std::move(room)), post(std::move(function))
        {
        }
        wait(const wait &) = delete;
        wait &operator=(const wait &) = delete;
        ~wait() { granted.release(locks); }
        void settle(std::int32_t answer)
        {
            status = answer;
            if (status != KEYLATCH_OK)
                text = keylatch_last_error();
        }
        keylatch_manager *locks;
        typename Ask::answer granted; // released by the destructor unless await_resume() took it
        Post post;
        std::coroutine_handle<> coroutine{};
        std::int32_t status = KEYLATCH_OK;
        std::string text;
        std::atomic<phase> state{phase::asking};
    };

    static void answer(void *user_data, std::int32_t status, std::uint64_t grant)
    {
        const std::shared_ptr<wait> shared = *static_cast<std::shared_ptr<wait> *>(user_data);
        shared->granted.set(grant);
        shared->settle(status);
        // Pairs with: the exchanges in `await_suspend` and in the destructor.
        if (shared->state.exchange(phase::answered, std::memory_order_acq_rel) == phase::suspended)
            shared->post(shared->coroutine);
    }
    static void forget(void *user_data) { delete static_cast<std::shared_ptr<wait> *>(user_data); }

    Ask ask_;
    std::uint64_t timeout_;
    request request_;
    std::uint64_t ticket_ = 0;
    std::shared_ptr<wait> wait_;
};

template <class Post>
lock_awaiter<detail::one_key, Post> manager::async_lock(const key &key, mode mode, std::chrono::nanoseconds timeout,
                                                        const request &request, Post post)
{
    return {handle_, detail::one_key{key, mode}, {}, timeout, request, std::move(post)};
}

template <class Post>
lock_awaiter<detail::many_keys, Post> manager::async_lock_all(const std::vector<batch_item> &items,
                                                              std::chrono::nanoseconds timeout,
                                                              const request &request, Post post)
{
    detail::many_keys::answer room{std::vector<std::uint64_t>(items.size())};
    return {handle_, detail::many_keys{natives(items)}, std::move(room), timeout, request, std::move(post)};
}

template <class Post>
lock_awaiter<detail::one_pin, Post> pinned_key::async_lock(mode mode, std::chrono::nanoseconds timeout,
                                                           const request &request, Post post)
{
    return {locks_, detail::one_pin{pin_, mode}, {}, timeout, request, std::move(post)};
}

} // namespace keylatch

#endif /* KEYLATCH_COROUTINE_HPP */
