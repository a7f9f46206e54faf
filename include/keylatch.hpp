/*
 * keylatch.hpp - keylatch for C++17 and later, over keylatch.h. Header only: link the C library.
 *
 *     keylatch::manager locks;
 *     {
 *         keylatch::guard guard = locks.lock({"photos", "cat.jpg"});      // waits; throws keylatch::error
 *         ...
 *     }                                                                   // released here
 *     if (auto guard = locks.try_lock_shared_for({"photos", "cat.jpg"}, 50ms)) ...
 *
 *     keylatch::keyed_mutex cat{locks, {"photos", "cat.jpg"}};            // for std::unique_lock and its like
 *     std::scoped_lock both{cat, dog};
 *
 *     keylatch::guard guard = co_await locks.async_lock({"photos", "cat.jpg"});  // C++20
 *
 *     keylatch::pinned_key inode{locks, {"volume", "7"}};                 // for a key that is locked often
 *     keylatch::guard guard = inode.lock();
 *
 *     keylatch::shared_table table{"/dev/shm/my-engine"};                 // locks between processes
 *     keylatch::shared_guard guard = table.lock({"photos", "cat.jpg"});
 *
 * ERRORS. A function that can fail has two forms. The first throws keylatch::error, a
 * std::system_error whose code is a status of keylatch.h and whose text names the key, the holders
 * and what to do. The second takes a std::error_code& as its last argument and throws nothing. A
 * `try_` function answers an empty optional when the lock is held, or when its time is over; every
 * other failure throws. Without exceptions (-fno-exceptions) the first form ends the process.
 *
 * OWNERSHIP. A manager, an owner and a guard can be moved and not copied; moving a manager leaves
 * its guards valid. A guard may be released by any thread. Destroying a guard releases its lock; a
 * lock that was revoked before needs no release. Locks end with their manager: destroying a guard
 * later does nothing.
 *
 * FORK, CALLBACKS and THREADS are as keylatch.h says.
 */

#ifndef KEYLATCH_HPP
#define KEYLATCH_HPP

#include <keylatch/error.hpp>
#include <keylatch/keyed_mutex.hpp>
#include <keylatch/manager.hpp>
#include <keylatch/pinned.hpp>
#include <keylatch/shared.hpp>
#ifdef KEYLATCH_HAS_COROUTINES
#include <keylatch/coroutine.hpp>
#endif

#endif /* KEYLATCH_HPP */
