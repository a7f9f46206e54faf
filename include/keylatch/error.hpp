/*
 * The statuses of keylatch.h as std::error_code, and what functions throw. Included by keylatch.hpp.
 */

#ifndef KEYLATCH_ERROR_HPP
#define KEYLATCH_ERROR_HPP

#include <keylatch.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <system_error>

namespace keylatch {

/// The statuses of keylatch.h. They compare with a std::error_code: `error.code() == keylatch::errc::timeout`.
enum class errc : int {
    timeout = KEYLATCH_ETIMEOUT,
    would_block = KEYLATCH_EWOULDBLOCK,
    deadlock = KEYLATCH_EDEADLOCK,
    cancelled = KEYLATCH_ECANCELLED,
    closed = KEYLATCH_ECLOSED,
    not_held = KEYLATCH_ENOTHELD,
    lease_lost = KEYLATCH_ELEASELOST,
    table_full = KEYLATCH_ETABLEFULL,
    key_too_long = KEYLATCH_EKEY,
    bad_setting = KEYLATCH_ECONFIG,
    forked = KEYLATCH_EFORKED,
    upgrade_conflict = KEYLATCH_EUPGRADE,
    too_many_waiters = KEYLATCH_EWAITERS,
    tier = KEYLATCH_ETIER,
    null_pointer = KEYLATCH_ENULL,
    invalid_argument = KEYLATCH_EINVALID,
    bad_struct = KEYLATCH_ESTRUCT,
    bad_handle = KEYLATCH_EHANDLE,
    panic = KEYLATCH_EPANIC,
    system = KEYLATCH_ESYSTEM,
    buffer_too_small = KEYLATCH_EBUFFER,
    busy = KEYLATCH_EBUSY,
    end = KEYLATCH_EEND,
};

} // namespace keylatch

template <> struct std::is_error_code_enum<keylatch::errc> : std::true_type {};

namespace keylatch {

namespace detail {

class status_category final : public std::error_category {
  public:
    const char *name() const noexcept override { return "keylatch"; }
    std::string message(int status) const override { return keylatch_status_text(status); }
    std::error_condition default_error_condition(int status) const noexcept override
    {
        switch (status) {
        case KEYLATCH_ETIMEOUT: return std::errc::timed_out;
        case KEYLATCH_EWOULDBLOCK: return std::errc::resource_unavailable_try_again;
        case KEYLATCH_EDEADLOCK:
        case KEYLATCH_EUPGRADE: return std::errc::resource_deadlock_would_occur;
        case KEYLATCH_ECANCELLED: return std::errc::operation_canceled;
        case KEYLATCH_ENOTHELD:
        case KEYLATCH_ELEASELOST: return std::errc::operation_not_permitted;
        case KEYLATCH_ETABLEFULL:
        case KEYLATCH_EWAITERS: return std::errc::no_lock_available;
        case KEYLATCH_EKEY:
        case KEYLATCH_ECONFIG:
        case KEYLATCH_ENULL:
        case KEYLATCH_EINVALID: return std::errc::invalid_argument;
        case KEYLATCH_EBUSY: return std::errc::device_or_resource_busy;
        default: return {status, *this};
        }
    }
};

} // namespace detail

/// The category of every std::error_code that the library makes.
inline const std::error_category &category() noexcept
{
    static const detail::status_category instance;
    return instance;
}

inline std::error_code make_error_code(errc status) noexcept { return {static_cast<int>(status), category()}; }

namespace detail {

/// What the library says of a failure of the calling thread, if this is its latest; otherwise what the status means.
inline std::string text_of(const std::error_code &code)
{
    return keylatch_last_status() == code.value() ? keylatch_last_error() : code.message();
}

} // namespace detail

/// What a function that failed throws. `what()` names the key, the holders and what to do.
class error : public std::system_error {
  public:
    /// Describes the latest failure of the calling thread, if it has this status.
    explicit error(std::error_code code) : error(code, detail::text_of(code)) {}
    error(std::error_code code, const std::string &text)
        : std::system_error(code), text_(text.empty() ? code.message() : text)
    {
    }
    const char *what() const noexcept override { return text_.c_str(); }
    /// Returns whether the same call may succeed when it is made again later.
    bool is_transient() const noexcept { return keylatch_status_is_transient(code().value()) != 0; }

  private:
    std::string text_;
};

namespace detail {

[[noreturn]] inline void fail(std::error_code code, const std::string &text)
{
#if defined(__cpp_exceptions)
    throw error(code, text);
#else
    (void)code;
    std::fprintf(stderr, "keylatch: %s\n", text.c_str());
    std::abort();
#endif
}

[[noreturn]] inline void fail(std::error_code code) { fail(code, text_of(code)); }

/// For what these headers find out themselves: the latest failure of the library is another.
[[noreturn]] inline void fail_empty(const char *what)
{
    fail(errc::not_held, std::string(what) + ": it was unlocked, moved from or detached, or never locked");
}

inline std::error_code code_of(std::int32_t status) noexcept { return {status, category()}; }

inline void check(std::int32_t status)
{
    if (status != KEYLATCH_OK)
        fail(code_of(status));
}

/// Whether a status says "held by another" rather than "failed".
inline bool is_refusal(std::int32_t status) noexcept
{
    return status == KEYLATCH_EWOULDBLOCK || status == KEYLATCH_ETIMEOUT;
}

} // namespace detail

} // namespace keylatch

#endif /* KEYLATCH_ERROR_HPP */
