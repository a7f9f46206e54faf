/*
 * Durations and deadlines as keylatch.h takes them. Included by keylatch.hpp.
 */

#ifndef KEYLATCH_TIME_HPP
#define KEYLATCH_TIME_HPP

#include <keylatch.h>

#include <chrono>
#include <cstdint>

namespace keylatch::detail {

/// A duration as the C library takes it: never early, and as long as there is where it does not fit.
template <class Rep, class Period> std::uint64_t nanoseconds_of(std::chrono::duration<Rep, Period> duration)
{
    using std::chrono::nanoseconds;
    if (!(duration > duration.zero())) // not `<=`: a floating-point duration may be no number
        return 0;
    const std::chrono::duration<double, std::nano> rough = duration;
    if (rough.count() >= 9.2e18)
        return KEYLATCH_WAIT_FOREVER;
    return static_cast<std::uint64_t>(std::chrono::ceil<nanoseconds>(duration).count());
}

/// The time until a point of any clock.
template <class Clock, class Duration> std::uint64_t nanoseconds_until(std::chrono::time_point<Clock, Duration> point)
{
    const auto now = Clock::now();
    return point <= now ? 0 : nanoseconds_of(point - now);
}

inline std::chrono::nanoseconds duration_of(std::uint64_t nanoseconds) noexcept
{
    constexpr std::uint64_t most = INT64_MAX;
    return std::chrono::nanoseconds(static_cast<std::int64_t>(nanoseconds < most ? nanoseconds : most));
}

} // namespace keylatch::detail

#endif /* KEYLATCH_TIME_HPP */
