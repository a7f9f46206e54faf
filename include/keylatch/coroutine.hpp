/*
 * Awaiting a lock in a C++20 coroutine. Included by keylatch.hpp where the compiler has coroutines.
 */

#ifndef KEYLATCH_COROUTINE_HPP
#define KEYLATCH_COROUTINE_HPP

#include <keylatch/manager.hpp>

#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace keylatch {

/// Resumes a coroutine on the library's callback thread, of which a manager has one. What the coroutine does
/// there before it suspends again delays the other callbacks, and it must not wait: give `async_lock` a
/// function that hands the coroutine to your executor instead, where that is not so.
struct resume_on_callback_thread {
    void operator()(std::coroutine_handle<> coroutine) const { coroutine.resume(); }
};

/// What `manager::async_lock` returns, to be awaited once. It asks for the lock when it is awaited; the bytes of
/// the key and of the owner's name have to live until then, as they do in `co_await locks.async_lock(...)`.
template <class Post> class lock_awaiter {
  public:
    lock_awaiter(keylatch_manager *locks, const key &key, mode mode, std::uint64_t timeout,
                 const request &request, Post post)
        : key_(key), mode_(mode), timeout_(timeout), request_(request),
          wait_(std::make_shared<wait>(locks, std::move(post)))
    {
    }
    lock_awaiter(const lock_awaiter &) = delete;
    lock_awaiter &operator=(const lock_awaiter &) = delete;
    /// Ends the wait if the coroutine is destroyed while it waits. A grant that comes all the same is released.
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
        wait_->coroutine = coroutine;
        auto shared = std::make_unique<std::shared_ptr<wait>>(wait_);
        const keylatch_key native = key_.native();
        const keylatch_request_options options = request_.native();
        std::uint64_t grant = 0;
        // From here on the library owns `shared`; it frees it by `forget`, also when the call fails.
        const std::int32_t status =
            keylatch_acquire_callback(wait_->locks, &native, static_cast<std::int32_t>(mode_), timeout_, &options,
                                      &lock_awaiter::answer, shared.release(), &lock_awaiter::forget, &grant, &ticket_);
        if (status != KEYLATCH_OK || grant != 0) {
            wait_->settle(status, grant);
            return false;
        }
        // The answer may be here already. The second of this thread and the answer's resumes the coroutine;
        // once `suspended` is stored, the awaiter may be gone, so nothing of it is touched any more.
        // Pairs with: the exchange in `answer`.
        auto expected = phase::asking;
        return wait_->state.compare_exchange_strong(expected, phase::suspended, std::memory_order_acq_rel);
    }
    guard await_resume()
    {
        guard taken(wait_->locks, std::exchange(wait_->grant, 0));
        if (wait_->status != KEYLATCH_OK) {
#if defined(__cpp_exceptions)
            throw error(detail::code_of(wait_->status), wait_->text);
#else
            detail::fail(detail::code_of(wait_->status));
#endif
        }
        return taken;
    }

  private:
    /// asking -> suspended -> answered, or asking -> answered; abandoned from each of them.
    enum class phase : int { asking, suspended, answered, abandoned };

    /// What the awaiter and the library share; it lives until both have let go of it.
    struct wait {
        wait(keylatch_manager *handle, Post function) : locks(handle), post(std::move(function)) {}
        wait(const wait &) = delete;
        wait &operator=(const wait &) = delete;
        ~wait()
        {
            if (grant != 0)
                keylatch_release(locks, grant);
        }
        void settle(std::int32_t answer, std::uint64_t granted)
        {
            status = answer;
            grant = granted;
            if (status != KEYLATCH_OK)
                text = keylatch_last_error();
        }
        keylatch_manager *locks;
        Post post;
        std::coroutine_handle<> coroutine{};
        std::int32_t status = KEYLATCH_OK;
        std::uint64_t grant = 0; // released by the destructor unless await_resume() took it
        std::string text;
        std::atomic<phase> state{phase::asking};
    };

    static void answer(void *user_data, std::int32_t status, std::uint64_t grant)
    {
        const std::shared_ptr<wait> shared = *static_cast<std::shared_ptr<wait> *>(user_data);
        shared->settle(status, grant);
        // Pairs with: the exchanges in `await_suspend` and in the destructor.
        if (shared->state.exchange(phase::answered, std::memory_order_acq_rel) == phase::suspended)
            shared->post(shared->coroutine);
    }
    static void forget(void *user_data) { delete static_cast<std::shared_ptr<wait> *>(user_data); }

    key key_;
    mode mode_;
    std::uint64_t timeout_;
    request request_;
    std::uint64_t ticket_ = 0;
    std::shared_ptr<wait> wait_;
};

template <class Post>
lock_awaiter<Post> manager::async_lock(const key &key, mode mode, std::chrono::nanoseconds timeout,
                                       const request &request, Post post)
{
    const bool forever = timeout == std::chrono::nanoseconds::max();
    return lock_awaiter<Post>(handle_, key, mode, forever ? KEYLATCH_WAIT_DEFAULT : detail::nanoseconds_of(timeout),
                              request, std::move(post));
}

} // namespace keylatch

#endif /* KEYLATCH_COROUTINE_HPP */
