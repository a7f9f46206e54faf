/*
 * keylatch.h - who may touch this object now?
 *
 * keylatch @VERSION@: shared and exclusive locks on bucket/object/version keys that need no
 * creating and no cleaning up. Made from the library's source by `make header`; what is wrong here
 * is to be
 * put right there.
 *
 *     keylatch_manager *locks;
 *     uint64_t grant;
 *     keylatch_key key = keylatch_key_of("photos", "cat.jpg");
 *
 *     if (keylatch_manager_new(NULL, &locks) != KEYLATCH_OK) ...
 *     if (keylatch_acquire(locks, &key, KEYLATCH_EXCLUSIVE, 5000000000, NULL, &grant) != KEYLATCH_OK)
 *         fprintf(stderr, "%s\n", keylatch_last_error());
 *     else {
 *         ...
 *         keylatch_release(locks, grant);
 *     }
 *     keylatch_manager_free(locks);
 *
 *
 * WHAT A FUNCTION RETURNS
 *
 * Functions that can fail return an int32_t: KEYLATCH_OK, which is 0, or a negative status. Results
 * come through pointers, which are the last arguments; they are written when the function succeeds
 * and left alone when it fails, unless a function says otherwise. keylatch_last_error() and its
 * like tell more of the last failure of the calling thread.
 *
 * Each function lists the statuses that it returns. Besides those, each can return KEYLATCH_EPANIC,
 * which is a bug in the library: what was asked for was not done, nothing is held that was not held
 * before, and the process goes on. Each that is given a handle can return KEYLATCH_EBUSY where
 * callbacks inside calls inside callbacks go more than eight handles deep. A function may change
 * errno, whatever it returns.
 *
 *
 * OWNERSHIP
 *
 * Handles (keylatch_manager, keylatch_owner, keylatch_queue, ...) are made by a function ..._new()
 * and freed by ..._free(). Handles of one manager may be freed before or after it, in any order.
 *
 * A grant is a number. Any caller that knows it may release it, once, from any thread. A second
 * release, a late one, a made-up number and a grant of another manager get KEYLATCH_ENOTHELD and
 * change nothing. No number is used twice. A grant that is never released is held until its manager
 * is freed.
 *
 * What the caller passes in (keys, names, options, arrays) is read during the call and never kept.
 * What the library hands out says how long it lives; a text that is the caller's is freed with
 * keylatch_text_free().
 *
 *
 * MISTAKES
 *
 * A handle that was freed, one of another kind, and a second free get KEYLATCH_EHANDLE, for as long
 * as some hundred handles that are made later. A NULL gets KEYLATCH_ENULL, an unknown mode or flag
 * KEYLATCH_EINVALID. Freeing a handle while other threads are in calls on it is fine:
 * the function waits for them, and has those that sleep woken.
 *
 * Undefined is, as everywhere in C: a pointer that is none, or to less memory than a function says;
 * a handle pointer that no function of this library has ever handed out; freeing a text twice; a
 * callback that does not return.
 *
 *
 * STRUCTS
 *
 * A struct that may grow starts with struct_size, which the caller sets to the struct's sizeof; a
 * macro KEYLATCH_..._INIT sets that and leaves zeros, which are the defaults, in the rest.
 * Programs that were compiled with an older header go on working: what they do not have is the
 * default. Programs that were compiled with a newer one work as long as they leave zeros in what
 * this library does not know; something else there gets KEYLATCH_ESTRUCT, and is not ignored. In
 * a struct that a function fills in, what the library does not know becomes zeros. Fields named
 * reserved have to be 0.
 *
 *
 * THREADS
 *
 * Every function may be called from every thread at any time, on the same handle too, unless it
 * says otherwise. A lock belongs to no thread: a thread that ends leaves what it holds held. A
 * thread must not be cancelled (pthread_cancel) inside a function of this library, nor leave one by
 * longjmp.
 *
 * The library starts threads of its own: one a manager for callbacks, with the first request that
 * needs it, and one a manager that keeps time for requests in the background. They block all signals
 * but those that a fault of the thread's own raises (SIGSEGV and its like): the others are left to
 * the program's threads.
 *
 *
 * CALLBACKS
 *
 * Callbacks come as a function, a user_data that it is given, and a free_fn (or NULL) that is
 * called once with the user_data when that is no longer needed. They run on a thread of the library's
 * unless it is said otherwise, never inside a lock of the library's, and are called exactly once.
 * They may call every function that does not wait. They must return; an exception of C++ that
 * leaves one ends the process.
 *
 *
 * SIGNALS
 *
 * No function may be called from a signal handler. Signals do not end waits: a function goes on
 * waiting when the handler has returned. To be able to stop a wait, give it a timeout, or use
 * keylatch_acquire_queue() and keylatch_cancel().
 *
 *
 * FORK
 *
 * After fork() the child has its parent's locks in memory and no right to them. In the child every
 * function on a handle of the parent's returns KEYLATCH_EFORKED, or does nothing that the parent
 * would notice; make new managers there. Freeing the parent's handles is neither needed nor
 * possible in the child. The parent notices nothing. vfork() and posix_spawn() are fine.
 *
 *
 * LOADING
 *
 * dlopen() works. dlclose() leaves the library loaded, because threads of it may be running. Copies
 * of the library in one process, such as the program's own and one inside a plug-in, know nothing
 * of each other: a handle of one gets KEYLATCH_EHANDLE from another.
 *
 *
 * TIME
 *
 * Times are nanoseconds on the monotonic clock. A timeout of 0 tries once; KEYLATCH_WAIT_FOREVER
 * and KEYLATCH_WAIT_DEFAULT are what they say. A timeout does not come early.
 */

#ifndef KEYLATCH_H
#define KEYLATCH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The version of this header. */
#define KEYLATCH_VERSION "@VERSION@"
#define KEYLATCH_VERSION_MAJOR @MAJOR@
#define KEYLATCH_VERSION_MINOR @MINOR@
#define KEYLATCH_VERSION_PATCH @PATCH@

/*
 * Compilers that can warn where the result of such a function is not looked at: it says whether a
 * lock is held.
 */
#if defined(__GNUC__)
#define KEYLATCH_MUST_CHECK __attribute__((warn_unused_result))
#else
#define KEYLATCH_MUST_CHECK
#endif

#ifdef __cplusplus
extern "C" {
#endif
