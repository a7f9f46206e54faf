/*
 * keylatch.h - who may touch this object now?
 *
 * keylatch 0.1.0: shared and exclusive locks on bucket/object/version keys that need no
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
#define KEYLATCH_VERSION "0.1.0"
#define KEYLATCH_VERSION_MAJOR 0
#define KEYLATCH_VERSION_MINOR 1
#define KEYLATCH_VERSION_PATCH 0

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

/* ==== STATUS =====================================================================================
 *
 * Every function that can fail returns one of these. The numbers never change, and a number is the
 * same in every language. New ones may be added: treat a negative number that you do not know as a
 * failure.
 */

/* Success. */
#define KEYLATCH_OK 0

/* The time given was over before the lock was free. */
#define KEYLATCH_ETIMEOUT (-1)

/*
 * The lock is held, and the request was not to wait.
 *
 * Also: nothing lies in the queue.
 */
#define KEYLATCH_EWOULDBLOCK (-2)

/* Sessions wait for each other, and this request is the victim. */
#define KEYLATCH_EDEADLOCK (-3)

/* The request was cancelled while it waited. */
#define KEYLATCH_ECANCELLED (-4)

/* The manager was closed. */
#define KEYLATCH_ECLOSED (-5)

/* The grant is not held: released, revoked, made up, or another manager's. */
#define KEYLATCH_ENOTHELD (-6)

/* The grant's lease ran out and the lock was revoked. */
#define KEYLATCH_ELEASELOST (-7)

/* As many locks are in the table as it may hold. */
#define KEYLATCH_ETABLEFULL (-8)

/* The key is longer than keys may be. */
#define KEYLATCH_EKEY (-9)

/* A setting has a value that it cannot have. */
#define KEYLATCH_ECONFIG (-10)

/* The process is a fork of the one that made the manager. */
#define KEYLATCH_EFORKED (-11)

/* Another holder already waits to upgrade: each would wait for the other. */
#define KEYLATCH_EUPGRADE (-12)

/* The manager has max_waiters waiting requests already. */
#define KEYLATCH_EWAITERS (-13)

/*
 * What the manager shares its keys through has failed.
 *
 * Such as a file of shared memory. keylatch_last_error() says how.
 */
#define KEYLATCH_ETIER (-14)

/* The claimant has ended or run out; make a new one. */
#define KEYLATCH_ESESSION (-20)

/* The claims were started anew since the number was given out. */
#define KEYLATCH_EEPOCH (-21)

/* The request's number is settled; use a new one. */
#define KEYLATCH_ESTALE (-22)

/* The request's number is in use for another resource. */
#define KEYLATCH_ENUMBER (-23)

/* The claimant has as many open requests as it may have; settle some. */
#define KEYLATCH_EOPEN (-24)

/* There are max_claimants claimants already. */
#define KEYLATCH_ESESSIONS (-25)

/* A shared table has no room for another hold or waiting request. */
#define KEYLATCH_ELOGFULL (-40)

/* As many processes use a shared table as it was made for. */
#define KEYLATCH_EMEMBERS (-41)

/* The file of a shared table, or its folder, could not be used. */
#define KEYLATCH_EFILE (-42)

/* The file is no shared table of this version and machine, or a smaller one. */
#define KEYLATCH_EWRONGFILE (-43)

/* The file of a shared table was truncated, removed, replaced or damaged. */
#define KEYLATCH_EDAMAGED (-44)

/* The system lacks something that shared tables need. */
#define KEYLATCH_EUNSUPPORTED (-45)

/* A pointer that must point to something is NULL. */
#define KEYLATCH_ENULL (-100)

/*
 * An argument has a value that means nothing.
 *
 * For instance an unknown mode or flag, a length beyond all memory, a NULL with a length.
 */
#define KEYLATCH_EINVALID (-101)

/*
 * struct_size is too small, or the struct has something set that is not known.
 *
 * Too small is smaller than the struct ever was; not known is what this library does not know.
 */
#define KEYLATCH_ESTRUCT (-102)

/* The handle is not one, or of another kind, or freed, or of another manager. */
#define KEYLATCH_EHANDLE (-103)

/*
 * The library has failed inside: a bug in it.
 *
 * The call did not do what it was asked to.
 */
#define KEYLATCH_EPANIC (-104)

/* The operating system refused what was needed, such as a file descriptor. */
#define KEYLATCH_ESYSTEM (-105)

/* The caller's buffer is too small. */
#define KEYLATCH_EBUFFER (-106)

/* The handle cannot be freed by a callback that runs inside a call on it. */
#define KEYLATCH_EBUSY (-107)

/* There is nothing more. */
#define KEYLATCH_EEND (-108)

/*
 * The name of a status, such as "KEYLATCH_ETIMEOUT"; "unknown" for other numbers.
 *
 * Never NULL.
 *
 * Memory: the text is static. Errors: none. Threads: any, at any time, also in a forked child.
 */
const char *keylatch_status_name(int32_t status);

/*
 * What a status means, a phrase in English.
 *
 * Never NULL. What a particular failure was about, keylatch_last_error() says.
 *
 * Memory: the text is static. Errors: none. Threads: any, at any time, also in a forked child.
 */
const char *keylatch_status_text(int32_t status);

/*
 * 1 if the same call may succeed later, as after KEYLATCH_ETIMEOUT; 0 if not.
 *
 * Errors: none. Threads: any, at any time, also in a forked child.
 */
int32_t keylatch_status_is_transient(int32_t status);

/* ==== THE LIBRARY ================================================================================
 *
 * KEYLATCH_VERSION and its parts say which header a program was compiled with, these functions
 * which library it runs with. A program works with every library whose KEYLATCH_ABI_VERSION is the
 * one it was compiled with; the loader sees to that by the library's SONAME.
 */

/* Counts the incompatible changes of this interface. */
#define KEYLATCH_ABI_VERSION 0

/* The structs, for keylatch_struct_size(). */
#define KEYLATCH_STRUCT_KEY 1

#define KEYLATCH_STRUCT_MANAGER_OPTIONS 2

#define KEYLATCH_STRUCT_OWNER_OPTIONS 3

#define KEYLATCH_STRUCT_REQUEST_OPTIONS 4

#define KEYLATCH_STRUCT_BATCH_ITEM 5

#define KEYLATCH_STRUCT_COMPLETION 6

#define KEYLATCH_STRUCT_METRICS 7

#define KEYLATCH_STRUCT_HEALTH 8

#define KEYLATCH_STRUCT_HOLDER 9

#define KEYLATCH_STRUCT_FILTER 10

#define KEYLATCH_STRUCT_EVENT_OPTIONS 11

#define KEYLATCH_STRUCT_ADAPTIVE 12

#define KEYLATCH_STRUCT_WAIT_BUCKET 13

#define KEYLATCH_STRUCT_CLAIMS_OPTIONS 14

#define KEYLATCH_STRUCT_CLAIM_ANSWER 15

#define KEYLATCH_STRUCT_CLAIM_POLICY 16

#define KEYLATCH_STRUCT_CLAIM_EVENT 17

#define KEYLATCH_STRUCT_SHARED_OPTIONS 18

#define KEYLATCH_STRUCT_SHARED_HOLD 19

#define KEYLATCH_STRUCT_SHARED_HOLDER 20

#define KEYLATCH_STRUCT_WAITER 21

#define KEYLATCH_STRUCT_CHAIN_LINK 22

#define KEYLATCH_STRUCT_TOP_KEY 23

#define KEYLATCH_STRUCT_ETCD_OPTIONS 24

#define KEYLATCH_STRUCT_TIER_HOLD 25

/*
 * The library's version, such as "0.1.0". Never NULL.
 *
 * Memory: the text is static. Errors: none. Threads: any, at any time, also in a forked child.
 */
const char *keylatch_version(void);

/*
 * The library's KEYLATCH_ABI_VERSION.
 *
 * Errors: none. Threads: any, at any time, also in a forked child.
 */
uint32_t keylatch_abi_version(void);

/*
 * Does nothing, and has KEYLATCH_ABI_VERSION in its name.
 *
 * A program that calls it does not link with a library of another one, static or shared.
 *
 * Errors: none. Threads: any, at any time, also in a forked child.
 */
void keylatch_abi_0(void);

/*
 * Gets how large a struct (KEYLATCH_STRUCT_...) is in the running library.
 *
 * A binding that was made without a C compiler can check its own layout so.
 *
 * Writes *size on success. Errors: KEYLATCH_ENULL; KEYLATCH_EINVALID for a number that is no
 * struct's. Threads: any, at any time, also in a forked child.
 */
int32_t keylatch_struct_size(int32_t which,
                             size_t *size);

/* ==== KEYS =======================================================================================
 *
 * A key is bytes: bucket, object and, optionally, one version of the object. NUL, invalid UTF-8 and
 * empty parts are fine, and the parts are never joined: "a/b" + "c" is not "a" + "b/c". A version
 * is a key of its own, and so is the object without a version; an empty version is a version.
 */

/* Any number of holders at a time. */
#define KEYLATCH_SHARED 1

/* One holder, alone. */
#define KEYLATCH_EXCLUSIVE 2

/*
 * What is locked.
 *
 * version is NULL for none. A part that has no bytes may be NULL, except a version, which would be
 * none.
 *
 * The bytes are the caller's and are read until the call that is given the key returns; nothing
 * keeps the pointers. This struct will never change.
 */
typedef struct keylatch_key {
  const void *bucket;
  size_t bucket_len;
  const void *object;
  size_t object_len;
  const void *version;
  size_t version_len;
} keylatch_key;

/* ==== LOCKS BETWEEN MACHINES =====================================================================
 *
 * A manager with keylatch_manager_options.etcd shares its keys with the managers of all machines
 * that use the same etcd cluster and namespace. All calls are the same. A process that dies or
 * loses contact loses its locks when its lease ends; what it writes after that is for fences to
 * refuse (keylatch_fence()). It needs a library that was built with etcd: libkeylatch_etcd, which
 * is libkeylatch with that in it.
 */

/*
 * How a cluster is reached, and what the locks are called there.
 *
 * Everything that is 0 or NULL is the default. Texts end with a NUL.
 */
typedef struct keylatch_etcd_options {
  /* sizeof(keylatch_etcd_options) */
  size_t struct_size;
  /*
   * Managers with the same one exclude each other.
   *
   * 1 to 64 letters, digits, '-', '_' and '.'. Default "default".
   */
  const char *namespace_name;
  /*
   * After how long without contact all locks of the process end.
   *
   * Whole seconds, of at least the server's floor, which is usually 2. Default 10 seconds.
   */
  uint64_t ttl_ns;
  /*
   * How long keylatch_manager_new() tries to reach the cluster.
   *
   * Default 5 seconds.
   */
  uint64_t connect_timeout_ns;
  /*
   * A file with the authority of the members' certificates, in PEM.
   *
   * With it, addresses without a scheme are https://.
   */
  const char *ca_file;
  /* Files with the process's own certificate and its key, in PEM. */
  const char *certificate_file;
  const char *key_file;
  /*
   * The name that the members' certificates are for.
   *
   * Default: the host of the address.
   */
  const char *server_name;
  /* For clusters with authentication: both, or neither. */
  const char *user;
  const char *password;
  /* What listings call the process, beside its host and number. */
  const char *label;
} keylatch_etcd_options;

/* For a keylatch_etcd_options: its size, and zeros. */
#define KEYLATCH_ETCD_OPTIONS_INIT \
    { sizeof(keylatch_etcd_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* ==== MANAGERS ===================================================================================
 *
 * A manager is one table of locks. Most programs have one. Making one reserves address space, not
 * memory.
 */

/*
 * A running caller may take a free lock ahead of the line; the default.
 *
 * It may until a waiter has waited for fairness_after_ns. This is by far the fastest on a hot key.
 */
#define KEYLATCH_FAIRNESS_EVENTUAL 1

/* First come, first served; every release hands the lock to the next in line. */
#define KEYLATCH_FAIRNESS_FIFO 2

/*
 * As FIFO, but a writer queues ahead of waiting readers.
 *
 * A reader is overtaken at most overtake_limit times.
 */
#define KEYLATCH_FAIRNESS_WRITER_FIRST 3

/*
 * As FIFO, but a reader joins readers ahead of waiting writers.
 *
 * A writer is overtaken at most overtake_limit times.
 */
#define KEYLATCH_FAIRNESS_READER_FIRST 4

/*
 * A session that would wait for itself fails with KEYLATCH_EDEADLOCK.
 *
 * It asks again for what it holds, in a way that has to wait. The default.
 */
#define KEYLATCH_REENTRANCY_DENY 1

/*
 * It is granted once more; the lock is free when as many grants are released. A session that shares
 * a lock and asks for it exclusively has all its holds exclusively, once it shares with no other.
 */
#define KEYLATCH_REENTRANCY_COUNT 2

/*
 * The victim is the session whose request closed the circle.
 *
 * The default.
 */
#define KEYLATCH_VICTIM_ASKER 1

/* The victim is the session that was begun last. */
#define KEYLATCH_VICTIM_YOUNGEST 2

/*
 * The victim is the session that waits with the lowest priority.
 *
 * Of several it is the youngest.
 */
#define KEYLATCH_VICTIM_LOWEST_PRIORITY 3

/*
 * KEYLATCH_WAIT_DEFAULT is learned from how long waits take.
 *
 * See keylatch_manager_adaptive().
 */
#define KEYLATCH_MANAGER_ADAPTIVE 1

/*
 * Watches sessions for lock orders that contradict each other.
 *
 * Such orders can become a deadlock.
 *
 * keylatch_lock_orders() and an event report them. For development: every request of a session
 * takes a mutex then.
 */
#define KEYLATCH_MANAGER_LOCK_ORDER 2

/*
 * Lets the readers of a crowded key write nothing that their threads share.
 *
 * Each writes to memory of its own thread instead. The first request that asks for the key
 * exclusively, converts a lock or lists its holders looks at the memory of all threads: some
 * microseconds. Not where a tier shares the keys. The default.
 */
#define KEYLATCH_MANAGER_READER_SLOTS 4

/* The opposite of KEYLATCH_MANAGER_READER_SLOTS. */
#define KEYLATCH_MANAGER_NO_READER_SLOTS 8

/* Never: a time that does not end. */
#define KEYLATCH_NEVER UINT64_MAX

/* For overtake_limit: no waiter is ever overtaken. */
#define KEYLATCH_OVERTAKE_NEVER UINT32_MAX

/*
 * A lock manager: keylatch_manager_new() makes it.
 *
 * Freed by keylatch_manager_free().
 */
typedef struct keylatch_manager keylatch_manager;

/*
 * The settings of a manager. Everything that is 0 is the default, so that
 *
 *     keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT;
 *
 * is all defaults.
 */
typedef struct keylatch_manager_options {
  /* sizeof(keylatch_manager_options) */
  size_t struct_size;
  /*
   * Parts of the table that change independently.
   *
   * A power of two from 1 to 65,536. Default 1024.
   */
  uint32_t shards;
  /* Who goes first: KEYLATCH_FAIRNESS_... Default EVENTUAL. */
  uint32_t fairness;
  /*
   * For EVENTUAL: how long a waiter may be overtaken.
   *
   * Default 500 us; 1 is practically not at all.
   */
  uint64_t fairness_after_ns;
  /*
   * How long a request waits that says KEYLATCH_WAIT_DEFAULT.
   *
   * Default KEYLATCH_WAIT_FOREVER.
   */
  uint64_t default_timeout_ns;
  /*
   * Locks that can be in the table at a time, up to 33,554,432.
   *
   * Default 8,388,608, or as many as address space can be had for. Only address space is reserved
   * for them. A key longer than 56 bytes counts as several.
   */
  uint32_t max_locks;
  /* Requests that can wait at a time, up to 16,777,216. Default 1,048,576. */
  uint32_t max_waiters;
  /* Bytes of a key, its parts together, up to 65,535. Default 8192. */
  uint64_t max_key_bytes;
  /*
   * How often a waiter may be overtaken.
   *
   * That is by higher priorities, or by the mode that the fairness prefers. Default 64;
   * KEYLATCH_OVERTAKE_NEVER for not at all.
   */
  uint32_t overtake_limit;
  /*
   * What a session gets that asks again for what it holds.
   *
   * KEYLATCH_REENTRANCY_...; default DENY.
   */
  uint32_t reentrancy;
  /*
   * How long a session's request waits before it looks for a deadlock.
   *
   * Default 50 ms; 1 is practically no delay, KEYLATCH_NEVER does not look.
   */
  uint64_t deadlock_delay_ns;
  /* Which session of a deadlock is the victim: KEYLATCH_VICTIM_... Default ASKER. */
  uint32_t victim;
  /* Flags: KEYLATCH_MANAGER_..., or 0. */
  uint32_t flags;
  /*
   * How long a lock stays closed that an exclusive holder lost by its lease.
   *
   * What the old holder still has on its way arrives first. Default: not at all.
   */
  uint64_t lock_delay_ns;
  /*
   * For KEYLATCH_MANAGER_ADAPTIVE: how the timeout is learned.
   *
   * The timeout is adaptive_factor_per_mille thousandths (at least 1000, default 2000) of what
   * adaptive_quantile_per_mille thousandths (1 to 1000, default 990) of waits stay below, but not
   * shorter than adaptive_floor_ns (default 10 ms) and not longer than adaptive_ceiling_ns (default
   * 30 s). Until 32 waits were observed it is default_timeout_ns, or else the longest.
   */
  uint32_t adaptive_quantile_per_mille;
  uint32_t adaptive_factor_per_mille;
  uint64_t adaptive_floor_ns;
  uint64_t adaptive_ceiling_ns;
  /* The window of keylatch_manager_health(). Default one minute. */
  uint64_t health_window_ns;
  /*
   * A file through which managers of several processes share their keys.
   *
   * Such as "/dev/shm/my-engine", with a terminating NUL. It is made if it is missing. NULL for a
   * manager of this process alone, the default. keylatch_manager_settings() does not tell it.
   */
  const char *shared_memory;
  /*
   * The addresses of an etcd cluster through which managers share their keys.
   *
   * On several machines. Such as "10.0.0.1:2379,10.0.0.2:2379", with a terminating NUL; http:// and
   * https:// may be before each. Not together with shared_memory. NULL for none, the default.
   * keylatch_manager_settings() does not tell it.
   */
  const char *etcd;
  /* What else is to be said of the cluster; NULL for all defaults. */
  const keylatch_etcd_options *etcd_options;
} keylatch_manager_options;

/* For a keylatch_manager_options: its size, and zeros. */
#define KEYLATCH_MANAGER_OPTIONS_INIT \
    { sizeof(keylatch_manager_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/*
 * Makes a manager. options may be NULL for the defaults.
 *
 * With etcd it waits until the cluster has answered, or until etcd_options->connect_timeout_ns is
 * over and some seconds.
 *
 * Writes *manager on success; it is the caller's, to be freed with keylatch_manager_free(). Errors:
 * KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EINVALID; KEYLATCH_ECONFIG for an invalid setting, and
 * keylatch_last_error() names a valid value; KEYLATCH_ETIER if shared_memory or etcd cannot be
 * used; KEYLATCH_EHANDLE if there are as many handles as there can be. Threads: any; also in a
 * forked child.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_manager_new(const struct keylatch_manager_options *options,
                             struct keylatch_manager **manager);

/*
 * Gets the settings that the manager has, with every default written out.
 *
 * Set options->struct_size first; the rest is written on success. Errors: KEYLATCH_ENULL,
 * KEYLATCH_EHANDLE, KEYLATCH_ESTRUCT. Threads: any, at any time.
 */
int32_t keylatch_manager_settings(const struct keylatch_manager *manager,
                                  struct keylatch_manager_options *options);

/*
 * Closes a manager: requests that wait and those to come fail.
 *
 * They fail with KEYLATCH_ECLOSED. What is held stays held until it is released. Closing again does
 * nothing.
 *
 * Errors: KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any, at any time; also from callbacks. Never
 * waits.
 */
int32_t keylatch_manager_close(struct keylatch_manager *manager);

/*
 * Gets whether a manager was closed: *closed is 1 or 0.
 *
 * Writes *closed on success. Errors: KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any, at any time.
 */
int32_t keylatch_manager_is_closed(const struct keylatch_manager *manager, int32_t *closed);

/*
 * Closes and frees a manager.
 *
 * Requests that wait in other threads end with KEYLATCH_ECLOSED; this function waits until every
 * call in progress on the manager has returned, until every callback has been called, has returned,
 * and its free_fn too, and until the manager's own threads have ended: a plug-in that contains the
 * library may be unloaded then. Calls that come later get KEYLATCH_EHANDLE. Grants of this manager
 * end with it, on other machines, too: with etcd the cluster knows when it returns. Owners and
 * queues of it stay, to be freed by their own functions.
 *
 * A callback may free its manager; then callbacks of this manager that are still to come, and its
 * own end, are not waited for. A callback of another manager waits as other threads do; two
 * callbacks that free each other's manager wait for ever. NULL is fine and does nothing.
 *
 * Errors: KEYLATCH_EHANDLE, for a second time for instance; KEYLATCH_EFORKED in a forked child:
 * nothing is freed there then; KEYLATCH_EBUSY from a function that is called back inside a call on
 * this manager (a free_fn). Threads: any; two together are fine, one of them gets KEYLATCH_EHANDLE.
 */
int32_t keylatch_manager_free(struct keylatch_manager *manager);

/* ==== OWNERS =====================================================================================
 *
 * Who makes a request. There are two kinds.
 *
 * A label, such as a node's name, is for people: errors and listings show it, the library concludes
 * nothing from it, and two requests of one label wait for each other like any others. A request may
 * also give a name as it comes (owner_name); an owner that is made once saves looking the name up.
 *
 * A session is one logical thread of control, such as a transaction: while one of its requests
 * waits it does nothing else. So deadlocks among sessions are found, and a session that asks again
 * for what it holds is recognised.
 */

/* The owner is a session. */
#define KEYLATCH_OWNER_SESSION 1

/*
 * Freeing the session releases what it still holds.
 *
 * keylatch_owner_release_all() does the same. For sessions only.
 */
#define KEYLATCH_OWNER_RELEASES 2

/*
 * An owner of requests: keylatch_owner_new() makes it.
 *
 * Freed by keylatch_owner_free().
 */
typedef struct keylatch_owner keylatch_owner;

/* How an owner is made. Everything that is 0 is the default. */
typedef struct keylatch_owner_options {
  /* sizeof(keylatch_owner_options) */
  size_t struct_size;
  /*
   * Where in the program it comes from, such as "replicator", for listings.
   *
   * At most 256 bytes of it are kept, and at most 1024 different ones a process.
   */
  const char *source;
  size_t source_len;
  /* KEYLATCH_OWNER_SESSION and KEYLATCH_OWNER_RELEASES, or 0 for a label. */
  uint32_t flags;
  /* 0. */
  uint32_t reserved;
} keylatch_owner_options;

/* For a keylatch_owner_options: its size, and zeros. */
#define KEYLATCH_OWNER_OPTIONS_INIT \
    { sizeof(keylatch_owner_options), 0, 0, 0, 0 }

/*
 * Makes an owner by name.
 *
 * At most 256 bytes of the name are kept; what is not UTF-8 in it is replaced. options may be NULL
 * for a label.
 *
 * Writes *owner on success; it is the caller's, to be freed with keylatch_owner_free(), before or
 * after its manager. Errors: KEYLATCH_ENULL, KEYLATCH_EHANDLE, KEYLATCH_ESTRUCT, KEYLATCH_EINVALID.
 * Threads: any; the owner can be used by several together, though a session that waits in two
 * places is not one logical thread of control.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_owner_new(keylatch_manager *manager,
                           const char *name,
                           size_t name_len,
                           const struct keylatch_owner_options *options,
                           struct keylatch_owner **owner);

/*
 * Releases by force all that a session holds, as a rollback wants.
 *
 * Functions of keylatch_on_lost() are called before this one returns, with KEYLATCH_LOST_FORCED.
 *
 * count may be NULL. Writes *count on success: how many locks that were. Errors: KEYLATCH_EINVALID
 * for an owner that is no session; KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads:
 * any; also from callbacks.
 */
int32_t keylatch_owner_release_all(struct keylatch_owner *owner,
                                   size_t *count);

/*
 * Frees an owner.
 *
 * What it holds stays held, under its name, unless it is a session with KEYLATCH_OWNER_RELEASES.
 * NULL is fine and does nothing.
 *
 * Errors: KEYLATCH_EHANDLE, KEYLATCH_EFORKED in a forked child, KEYLATCH_EBUSY from a free_fn that
 * is called inside a call with this owner. Threads: any; waits for calls in progress with this
 * owner, so end their waits first (keylatch_cancel(), keylatch_manager_close()).
 */
int32_t keylatch_owner_free(struct keylatch_owner *owner);

/* ==== REQUESTS ===================================================================================
 *
 * What a request can say besides its key, its mode and how long it waits.
 */

/* For a timeout: for as long as it takes. */
#define KEYLATCH_WAIT_FOREVER UINT64_MAX

/* For a timeout: as the manager is set. */
#define KEYLATCH_WAIT_DEFAULT (UINT64_MAX - 1)

/* For a batch: take those locks that can be had in time, rather than all or none. */
#define KEYLATCH_BEST_EFFORT 1

/*
 * What a request says of itself.
 *
 * Everything that is 0 is the default, and a NULL for the whole is all defaults.
 */
typedef struct keylatch_request_options {
  /* sizeof(keylatch_request_options) */
  size_t struct_size;
  /* Who asks; NULL for owner_name. */
  const keylatch_owner *owner;
  /* Who asks, by name, if owner is NULL: a label. No bytes for none. */
  const char *owner_name;
  size_t owner_name_len;
  /*
   * 0 for a hold that lasts until it is released; otherwise a lease.
   *
   * That long after the grant a waiter may take the lock, unless the lease is renewed.
   */
  uint64_t ttl_ns;
  /*
   * For sessions: a number of the caller's for this request, not 0.
   *
   * While its grant is held, a request of the same session with the same number is answered with
   * the same grant. While it waits, such a request waits for the same answer in a thread; one by
   * callback or queue gets KEYLATCH_EWOULDBLOCK, because the answer goes to the first. Should the
   * first one end without a lock, the next one asks.
   */
  uint64_t request_id;
  /*
   * 0 to 255.
   *
   * A request waits ahead of those of lower priority, which it may overtake overtake_limit times.
   */
  uint32_t priority;
  /* KEYLATCH_BEST_EFFORT, or 0. */
  uint32_t flags;
} keylatch_request_options;

/* For a keylatch_request_options: its size, and zeros. */
#define KEYLATCH_REQUEST_OPTIONS_INIT \
    { sizeof(keylatch_request_options), 0, 0, 0, 0, 0, 0, 0 }

/* ==== COMPLETION QUEUES ==========================================================================
 *
 * For event loops: results of requests that had to wait lie in a queue until they are fetched, and
 * a file descriptor is readable while there are any. Poll it for reading, then fetch until there
 * are no more.
 *
 * Once its manager is closed or freed, a queue hands out what is still to come, the requests that
 * this has ended too. Then it says KEYLATCH_ECLOSED, and its descriptor stays readable until it is
 * freed.
 */

/*
 * Results of requests that had to wait: keylatch_queue_new() makes it.
 *
 * Freed by keylatch_queue_free().
 */
typedef struct keylatch_queue keylatch_queue;

/* One result. This struct will never change. */
typedef struct keylatch_completion {
  /* The request, as the call that made it returned it. */
  uint64_t ticket;
  /* What the caller gave along. */
  uint64_t token;
  /* The lock, which is the caller's now, if status is KEYLATCH_OK; otherwise 0. */
  uint64_t grant;
  /* KEYLATCH_OK, or why not. */
  int32_t status;
  /* 0. */
  uint32_t reserved;
} keylatch_completion;

/*
 * Makes a queue for requests of a manager. Takes three file descriptors.
 *
 * Writes *queue on success; it is the caller's, to be freed with keylatch_queue_free(), before or
 * after its manager. Errors: KEYLATCH_ESYSTEM if there are no descriptors; KEYLATCH_ENULL,
 * KEYLATCH_EHANDLE. Threads: any.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_queue_new(keylatch_manager *manager,
                           struct keylatch_queue **queue);

/*
 * Frees a queue.
 *
 * Requests that still wait are cancelled, and locks that were granted or upgraded and not fetched
 * are released. A thread that waits in keylatch_queue_next() comes out with KEYLATCH_EHANDLE. NULL
 * is fine and does nothing.
 *
 * Errors: KEYLATCH_EHANDLE, KEYLATCH_EFORKED in a forked child. Threads: any; waits for calls in
 * progress on this queue, and for requests that are just being answered.
 */
int32_t keylatch_queue_free(struct keylatch_queue *queue);

/*
 * Gets the descriptor that is readable while results lie in the queue.
 *
 * It is readable, too, once there will be no more. It is the queue's: poll it, do not read or close
 * it.
 *
 * Writes *fd on success. Errors: KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
 */
int32_t keylatch_queue_fd(const struct keylatch_queue *queue,
                          int32_t *fd);

/*
 * Fetches up to capacity results without waiting, the oldest first.
 *
 * *count says how many; when it is less than capacity, there are no more, and the descriptor is
 * unreadable until more arrive. If the last one is a failure, keylatch_last_error() and its like
 * tell more of it.
 *
 * Writes *count and as many of results on success; none at all is a success. Errors:
 * KEYLATCH_ECLOSED when the manager is closed or freed and all was fetched; KEYLATCH_EFORKED,
 * KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; each result is fetched by one.
 */
int32_t keylatch_queue_drain(struct keylatch_queue *queue,
                             struct keylatch_completion *results,
                             size_t capacity,
                             size_t *count);

/*
 * Fetches the oldest result, waiting for one for at most timeout_ns.
 *
 * It waits in the calling thread: 0 is not at all, KEYLATCH_WAIT_FOREVER for as long as it takes.
 * KEYLATCH_OK says that a result was fetched; what the result is, result->status says, and if that
 * is a failure, keylatch_last_error() and its like tell more of it.
 *
 * Writes *result on success. Errors: KEYLATCH_EWOULDBLOCK if nothing is there and timeout_ns is 0;
 * KEYLATCH_ETIMEOUT; KEYLATCH_ECLOSED when the manager is closed or freed and all was fetched;
 * KEYLATCH_EHANDLE, also if the queue is freed meanwhile; KEYLATCH_EFORKED, KEYLATCH_ENULL,
 * KEYLATCH_ESYSTEM. Threads: any, but callbacks must not wait; each result is fetched by one.
 * Signals do not end the wait.
 */
int32_t keylatch_queue_next(struct keylatch_queue *queue,
                            uint64_t timeout_ns,
                            struct keylatch_completion *result);

/* ==== ACQUIRING ==================================================================================
 *
 * A lock that is had is a grant: a number that is never 0. It belongs to the caller, from whatever
 * thread, until it is released; nothing else has to be kept. A request that has to wait in the
 * background has a ticket: a number that is never 0 either.
 */

/*
 * Called once with the result of a request that had to wait.
 *
 * KEYLATCH_OK comes with the grant, which is the callee's now; an error comes with 0.
 * keylatch_last_error() and its like tell more of a failure.
 *
 * It runs on a thread of the library's, never inside one of its locks, one callback of a manager at
 * a time. It may call everything that does not wait. It must return: no longjmp, no exception, no
 * pthread_exit.
 */
typedef void (*keylatch_callback)(void *user_data, int32_t status, uint64_t grant);

/* Called once with a user_data that is no longer needed; NULL for no such call. */
typedef void (*keylatch_free_fn)(void *user_data);

/*
 * Takes a lock if it is free. Never waits.
 *
 * options may be NULL. Writes *grant on success. Errors: KEYLATCH_EWOULDBLOCK, and
 * keylatch_last_holder() says who holds it, which may be the asking session itself; KEYLATCH_EKEY,
 * KEYLATCH_ETABLEFULL, KEYLATCH_ECLOSED, KEYLATCH_EFORKED; KEYLATCH_ECONFIG for a request_id that
 * was for something else or is no session's, and a ttl_ns that is too long; KEYLATCH_ENULL,
 * KEYLATCH_EINVALID, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_try(keylatch_manager *manager,
                     const keylatch_key *key,
                     int32_t mode,
                     const keylatch_request_options *options,
                     uint64_t *grant);

/*
 * Waits for a lock in the calling thread, for at most timeout_ns nanoseconds.
 *
 * A timeout_ns of 0 tries once without waiting, KEYLATCH_WAIT_FOREVER waits as long as it takes,
 * and KEYLATCH_WAIT_DEFAULT as the manager is set.
 *
 * options may be NULL. Writes *grant on success. Errors: KEYLATCH_ETIMEOUT, and
 * keylatch_last_holder() says who held it; KEYLATCH_EDEADLOCK, and keylatch_last_cycle_link() says
 * who waits for whom; KEYLATCH_ECLOSED if the manager is closed or freed meanwhile; KEYLATCH_EKEY,
 * KEYLATCH_ETABLEFULL, KEYLATCH_EWAITERS, KEYLATCH_EFORKED; KEYLATCH_ECONFIG for a request_id that
 * was for something else or is no session's, and a ttl_ns that is too long; KEYLATCH_ENULL,
 * KEYLATCH_EINVALID, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any, but callbacks must not wait.
 * Signals do not end the wait.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_acquire(keylatch_manager *manager,
                         const keylatch_key *key,
                         int32_t mode,
                         uint64_t timeout_ns,
                         const keylatch_request_options *options,
                         uint64_t *grant);

/*
 * Takes a lock if it is free; otherwise has callback called with the result.
 *
 * The callback is called once. Never waits.
 *
 * On success exactly one of *grant and *ticket is not 0. *grant: the lock was free, and callback
 * will not be called. *ticket: it was not, and callback will be called, maybe before this function
 * returns; keylatch_cancel() ends the wait. free_fn (NULL for none) is called once with user_data
 * when that is no longer needed, in any case: after callback has returned, or, when callback will
 * not be called, before this function returns.
 *
 * options may be NULL. Errors: as keylatch_acquire(); callback is not called then.
 * KEYLATCH_ETIMEOUT only for a timeout of 0; KEYLATCH_EWOULDBLOCK for a request_id of which the
 * same request waits already; KEYLATCH_ESYSTEM if there is no thread for callbacks. Threads: any;
 * also from callbacks.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_acquire_callback(keylatch_manager *manager,
                                  const keylatch_key *key,
                                  int32_t mode,
                                  uint64_t timeout_ns,
                                  const keylatch_request_options *options,
                                  keylatch_callback callback,
                                  void *user_data,
                                  keylatch_free_fn free_fn,
                                  uint64_t *grant,
                                  uint64_t *ticket);

/*
 * Takes a lock if it is free; otherwise the result arrives in the queue.
 *
 * It comes with token, which is the caller's own. Never waits.
 *
 * On success exactly one of *grant and *ticket is not 0. *grant: the lock was free, and nothing
 * will arrive. *ticket: the result will arrive; keylatch_cancel() ends the wait.
 *
 * options may be NULL. Errors: as keylatch_acquire(); nothing arrives then. KEYLATCH_ETIMEOUT only
 * for a timeout of 0; KEYLATCH_EWOULDBLOCK for a request_id of which the same request waits
 * already; KEYLATCH_EHANDLE also for a queue of another manager. Threads: any; also from callbacks.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_acquire_queue(keylatch_manager *manager,
                               const keylatch_key *key,
                               int32_t mode,
                               uint64_t timeout_ns,
                               const keylatch_request_options *options,
                               keylatch_queue *queue,
                               uint64_t token,
                               uint64_t *grant,
                               uint64_t *ticket);

/*
 * Ends the wait of a request that was made with a callback or a queue.
 *
 * *cancelled is 1 if it did: the result that arrives is KEYLATCH_ECANCELLED. It is 0 if the request
 * had ended already, with a grant for instance: its result has arrived or is about to, and the
 * grant has to be released. A number that was never a ticket is 0 too, and so is every number in a
 * forked child.
 *
 * Writes *cancelled on success. Errors: KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from
 * callbacks. Never waits.
 */
int32_t keylatch_cancel(keylatch_manager *manager,
                        uint64_t ticket,
                        int32_t *cancelled);

/* ==== PINNED KEYS ================================================================================
 *
 * A key that a program knows it will lock often, such as an inode of a table in memory. It stays in
 * the manager's table while the pin is there, held or not, and locking it with the pin costs less:
 * there is nothing to hash, to look up or to compare. It is the same lock as that of the key
 * without the pin, and its grants are grants of the manager.
 */

/*
 * A key that stays in its manager's table.
 *
 * Made by keylatch_pin(), ended by keylatch_unpin().
 */
typedef struct keylatch_pinned_key keylatch_pinned_key;

/*
 * Keeps a key in the manager's table until keylatch_unpin(), held or not.
 *
 * It takes one place of max_locks meanwhile. Writes *pin on success; it is the caller's, to be
 * ended with keylatch_unpin(). Errors: KEYLATCH_ETABLEFULL, KEYLATCH_EKEY, KEYLATCH_ECLOSED,
 * KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID; KEYLATCH_EHANDLE also if there are as many
 * handles as there can be. Threads: any; also from callbacks.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_pin(keylatch_manager *manager,
                     const keylatch_key *key,
                     struct keylatch_pinned_key **pin);

/*
 * Ends a pin. What is held of the key stays held. NULL is fine and does nothing.
 *
 * A pin has to be ended also after its manager was freed; until then the memory of the manager's
 * table stays. Errors: KEYLATCH_EHANDLE, KEYLATCH_EFORKED in a forked child, KEYLATCH_EBUSY from a
 * free_fn that is called inside a call with this pin. Threads: any; waits for calls in progress
 * with this pin, so end their waits first (keylatch_cancel(), keylatch_manager_close()).
 */
int32_t keylatch_unpin(struct keylatch_pinned_key *pin);

/*
 * As keylatch_try(), for the key of a pin.
 *
 * Errors: as keylatch_try(); KEYLATCH_EHANDLE also if the manager was freed. Threads: any; also
 * from callbacks.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_try_pinned(struct keylatch_pinned_key *pin,
                            int32_t mode,
                            const keylatch_request_options *options,
                            uint64_t *grant);

/*
 * As keylatch_acquire(), for the key of a pin.
 *
 * Errors: as keylatch_acquire(); KEYLATCH_EHANDLE also if the manager was freed. Threads: any, but
 * callbacks must not wait.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_acquire_pinned(struct keylatch_pinned_key *pin,
                                int32_t mode,
                                uint64_t timeout_ns,
                                const keylatch_request_options *options,
                                uint64_t *grant);

/*
 * As keylatch_acquire_callback(), for the key of a pin.
 *
 * Errors: as keylatch_acquire_callback(); KEYLATCH_EHANDLE also if the manager was freed. Threads:
 * any; also from callbacks.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_acquire_pinned_callback(struct keylatch_pinned_key *pin,
                                         int32_t mode,
                                         uint64_t timeout_ns,
                                         const keylatch_request_options *options,
                                         keylatch_callback callback,
                                         void *user_data,
                                         keylatch_free_fn free_fn,
                                         uint64_t *grant,
                                         uint64_t *ticket);

/*
 * As keylatch_acquire_queue(), for the key of a pin.
 *
 * Errors: as keylatch_acquire_queue(); KEYLATCH_EHANDLE also if the manager was freed. Threads:
 * any; also from callbacks.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_acquire_pinned_queue(struct keylatch_pinned_key *pin,
                                      int32_t mode,
                                      uint64_t timeout_ns,
                                      const keylatch_request_options *options,
                                      keylatch_queue *queue,
                                      uint64_t token,
                                      uint64_t *grant,
                                      uint64_t *ticket);

/* ==== GRANTS =====================================================================================
 *
 * What can be done with a lock that is held. Each function takes the grant's number, from whatever
 * thread, and each says KEYLATCH_ENOTHELD to a number that is no grant or no grant any more, and
 * KEYLATCH_ELEASELOST to a lease that ran out and was revoked, and changes nothing. While a
 * downgrade or an upgrade works on a grant in one thread, another thread that uses the same grant
 * gets KEYLATCH_ENOTHELD.
 */

/* The lease ran out, and a waiter took the lock, or a caller revoked it. */
#define KEYLATCH_LOST_EXPIRED 1

/* The lock was released by force. */
#define KEYLATCH_LOST_FORCED 2

/*
 * Called once when a hold is revoked: which, and why (KEYLATCH_LOST_...).
 *
 * It runs in the thread that revokes the lock, inside a call of that thread, but never inside one
 * of the library's locks. It may call everything that does not wait, except that freeing the
 * handles of that call gets KEYLATCH_EBUSY.
 */
typedef void (*keylatch_lost_callback)(void *user_data, uint64_t grant, int32_t why);

/*
 * Releases a lock. Never waits, allocates nothing.
 *
 * Errors: KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED, KEYLATCH_ENULL,
 * KEYLATCH_EHANDLE. Threads: any, whichever acquired it; also from callbacks. Of several that
 * release the same grant one succeeds.
 */
int32_t keylatch_release(keylatch_manager *manager,
                         uint64_t grant);

/*
 * Releases many locks: an array of grants as a batch gave them.
 *
 * Zeros are passed over. All are tried.
 *
 * released may be NULL; otherwise *released is written on success, and when releasing one of them
 * failed: how many were released. When none was tried (KEYLATCH_ENULL, KEYLATCH_EHANDLE,
 * KEYLATCH_EINVALID) it is left alone. Errors: that of the first that failed, as
 * keylatch_release(); KEYLATCH_EINVALID for more grants than memory can have. Threads: any; also
 * from callbacks.
 */
int32_t keylatch_release_many(keylatch_manager *manager,
                              const uint64_t *grants,
                              size_t count,
                              size_t *released);

/*
 * From exclusive to shared, without a gap for another exclusive holder.
 *
 * Does nothing to a shared hold, nor to one of several that a session has of the lock
 * (KEYLATCH_REENTRANCY_COUNT). Never waits.
 *
 * Errors: KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED, KEYLATCH_ENULL,
 * KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 */
int32_t keylatch_downgrade(keylatch_manager *manager,
                           uint64_t grant);

/*
 * From shared to exclusive, if there is no other holder now.
 *
 * Goes ahead of all who wait. Does nothing to an exclusive hold. Never waits.
 *
 * Errors: KEYLATCH_EWOULDBLOCK, and keylatch_last_holder() tells the other readers;
 * KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. After
 * an error the hold is as it was. Threads: any; also from callbacks.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_try_upgrade(keylatch_manager *manager,
                             uint64_t grant);

/*
 * From shared to exclusive, as soon as the other readers are gone.
 *
 * Goes ahead of all others who wait. Waits in the calling thread, for at most timeout_ns as in
 * keylatch_acquire(); while it waits the grant cannot be used otherwise.
 *
 * Errors: KEYLATCH_EUPGRADE without waiting if another reader already waits to upgrade: neither
 * could go first, so release and ask for it exclusively. KEYLATCH_ETIMEOUT, KEYLATCH_EDEADLOCK,
 * KEYLATCH_ECLOSED, KEYLATCH_EWAITERS, KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED,
 * KEYLATCH_ENULL, KEYLATCH_EHANDLE. After an error the hold is shared as before. Threads: any, but
 * callbacks must not wait.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_upgrade(keylatch_manager *manager,
                         uint64_t grant,
                         uint64_t timeout_ns);

/*
 * As keylatch_upgrade(), without waiting: the result may arrive in the queue.
 *
 * It does if others read, with token, which is the caller's own.
 *
 * On success *ticket is 0 if the lock was upgraded without waiting; otherwise the result will
 * arrive, and keylatch_cancel() ends the wait. The grant of the result is the same number. Until it
 * is fetched the grant cannot be used otherwise; when the queue is freed before, the lock is
 * released if it was upgraded, and is held shared if not.
 *
 * Writes *ticket on success. Errors: as keylatch_upgrade(), KEYLATCH_EUPGRADE and KEYLATCH_ENOTHELD
 * for instance; nothing arrives then, and the hold is as it was. KEYLATCH_ETIMEOUT only for a
 * timeout of 0; KEYLATCH_EHANDLE also for a queue of another manager. Threads: any; also from
 * callbacks.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_upgrade_queue(keylatch_manager *manager,
                               uint64_t grant,
                               uint64_t timeout_ns,
                               keylatch_queue *queue,
                               uint64_t token,
                               uint64_t *ticket);

/*
 * Gets how a lock is held now: *mode is KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE.
 *
 * Writes *mode on success. Errors: KEYLATCH_ENOTHELD, KEYLATCH_EFORKED, KEYLATCH_ENULL,
 * KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 */
int32_t keylatch_grant_mode(keylatch_manager *manager,
                            uint64_t grant,
                            int32_t *mode);

/*
 * Gets what is held: the key, with its bytes in buffer.
 *
 * The parts are copied one after the other, and *key points into buffer. A buffer as large as the
 * setting max_key_bytes always suffices.
 *
 * Writes *key and buffer on success. Errors: KEYLATCH_EBUFFER if the key has more than buffer_len
 * bytes, and keylatch_last_error() tells how many; KEYLATCH_ENOTHELD, KEYLATCH_EFORKED,
 * KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 */
int32_t keylatch_grant_key(keylatch_manager *manager,
                           uint64_t grant,
                           void *buffer,
                           size_t buffer_len,
                           keylatch_key *key);

/*
 * Gets the fence number of a hold.
 *
 * For an exclusive one it is greater than that of every exclusive hold of the same key before,
 * whatever happened in between, so that a store can refuse a writer whose number is lower than one
 * it has seen. For a shared one it is the number of the latest exclusive one.
 *
 * Writes *fence on success. Errors: KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED,
 * KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 */
int32_t keylatch_fence(keylatch_manager *manager,
                       uint64_t grant,
                       uint64_t *fence);

/*
 * Says whether another process died while it had the key exclusively.
 *
 * What the key protects may be half written then. *died is 1 or 0. The first holder after the death
 * is informed. 0 for a manager that shares its keys with no other process.
 *
 * Writes *died on success. Errors: KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED,
 * KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 */
int32_t keylatch_previous_holder_died(keylatch_manager *manager,
                                      uint64_t grant,
                                      int32_t *died);

/*
 * Gets whether the exclusive hold with this fence number still has the key.
 *
 * *current is 1, or 0 after it was released, downgraded or revoked. A store asks this before it
 * lets a late write through.
 *
 * Writes *current on success. Errors: KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID,
 * KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 */
int32_t keylatch_is_current(keylatch_manager *manager,
                            const keylatch_key *key,
                            uint64_t fence,
                            int32_t *current);

/*
 * Begins the lease of a grant anew, to last ttl_ns from now; or begins one.
 *
 * Errors: KEYLATCH_ELEASELOST, KEYLATCH_ENOTHELD, KEYLATCH_EFORKED; KEYLATCH_ECONFIG for a ttl_ns
 * of 0 or KEYLATCH_NEVER; KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 * Never waits.
 */
int32_t keylatch_renew(keylatch_manager *manager,
                       uint64_t grant,
                       uint64_t ttl_ns);

/*
 * Gets how long a grant is safe from now on.
 *
 * That is 0 once its lease has run out, although it stays held until another request revokes it,
 * and KEYLATCH_NEVER for a hold without a lease, which never runs out.
 *
 * Writes *remaining_ns on success. Errors: KEYLATCH_ELEASELOST, KEYLATCH_ENOTHELD,
 * KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 */
int32_t keylatch_remaining(keylatch_manager *manager,
                           uint64_t grant,
                           uint64_t *remaining_ns);

/*
 * Gets whether a grant is held and, if it is a lease, safe at this moment.
 *
 * *valid is 1 or 0. A number that is no grant is not valid.
 *
 * Writes *valid on success. Errors: KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from
 * callbacks.
 */
int32_t keylatch_is_valid(keylatch_manager *manager,
                          uint64_t grant,
                          int32_t *valid);

/*
 * Has callback called once if the hold is revoked.
 *
 * If it was revoked before, callback is called immediately. When the hold is released, or ends with
 * its manager, it is not called. free_fn (NULL for none) is called once with user_data in any case:
 * after callback, when the hold is over, or before this function returns if it fails.
 *
 * Errors: KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED, KEYLATCH_ENULL,
 * KEYLATCH_EHANDLE. Threads: any; also from callbacks. Never waits.
 */
int32_t keylatch_on_lost(keylatch_manager *manager,
                         uint64_t grant,
                         keylatch_lost_callback callback,
                         void *user_data,
                         keylatch_free_fn free_fn);

/* ==== BATCHES ====================================================================================
 *
 * Many locks in one call, with one deadline for all of them. They are waited for in the order of
 * their keys, so that two batches never wait for each other, whatever order they were written in. A
 * key that is named twice is taken once, exclusively if either asks for that.
 */

/* One lock of a batch. This struct will never change. */
typedef struct keylatch_batch_item {
  keylatch_key key;
  /* KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE. */
  int32_t mode;
  /* 0. */
  uint32_t reserved;
} keylatch_batch_item;

/*
 * Waits for count locks in the calling thread, for at most timeout_ns altogether.
 *
 * It waits as keylatch_acquire() does. All of them or none; with the flag KEYLATCH_BEST_EFFORT
 * those that can be had.
 *
 * grants has room for count numbers and statuses, which may be NULL, too. On success grants[i] is
 * the grant of items[i], or 0 if an item before it has the same key, or if a best effort did not
 * get it; statuses[i] is KEYLATCH_OK, or why the best effort did not get it. Release each with
 * keylatch_release(), or all with keylatch_release_many(). On failure nothing is held and nothing
 * written, and keylatch_last_key() tells the key that failed.
 *
 * options may be NULL; a ttl_ns holds for each lock of the batch, from the moment on in which it
 * has them all, and a request_id gets KEYLATCH_EINVALID. Errors: as keylatch_acquire(), for any of
 * the locks. A best effort fails only for what is wrong with the call, and when the manager is
 * closed. Threads: any, but callbacks must not wait, except with a timeout of 0.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_acquire_batch(keylatch_manager *manager,
                               const struct keylatch_batch_item *items,
                               size_t count,
                               uint64_t timeout_ns,
                               const keylatch_request_options *options,
                               uint64_t *grants,
                               int32_t *statuses);

/* ==== BATCHES WITHOUT A THREAD THAT WAITS ========================================================
 *
 * As keylatch_acquire_batch(), with the result by a callback or in a queue. A batch that waits has
 * the locks of the keys before the one that it waits for. With a queue it goes on when results are
 * fetched: fetch them whenever the descriptor is readable.
 */

/*
 * Takes count locks; if one is held, callback is called with the result.
 *
 * It never waits. On success *ticket is 0 if all locks were had, and callback will not be called.
 * Otherwise callback will be called, maybe before this function returns, with the status and with 0
 * for its grant; keylatch_cancel() ends the wait. grants and statuses are written as by
 * keylatch_acquire_batch(), on success only, before this function returns or before callback is
 * called: until then they belong to the library. items may go when this function returns. free_fn
 * (NULL for none) is called once with user_data when nothing needs that any longer, as by
 * keylatch_acquire_callback().
 *
 * Errors: as keylatch_acquire_batch(); callback is not called then. KEYLATCH_ESYSTEM if there is no
 * thread for callbacks. Threads: any; also from callbacks.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_acquire_batch_callback(keylatch_manager *manager,
                                        const keylatch_batch_item *items,
                                        size_t count,
                                        uint64_t timeout_ns,
                                        const keylatch_request_options *options,
                                        keylatch_callback callback,
                                        void *user_data,
                                        keylatch_free_fn free_fn,
                                        uint64_t *grants,
                                        int32_t *statuses,
                                        uint64_t *ticket);

/*
 * Takes count locks; if one is held, the result arrives in queue.
 *
 * It never waits. The queue is one of the manager's. On success *ticket is 0 if all locks were had,
 * and nothing will arrive. Otherwise a result will arrive with this ticket and token, and with 0
 * for its grant; keylatch_cancel() ends the wait. grants and statuses are written as by
 * keylatch_acquire_batch(), on success only, before this function returns or when the result is
 * fetched: until then they belong to the library. items may go when this function returns.
 *
 * Errors: as keylatch_acquire_batch(); nothing arrives then. KEYLATCH_EHANDLE also for another
 * manager's queue. Threads: any; also from callbacks.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_acquire_batch_queue(keylatch_manager *manager,
                                     const keylatch_batch_item *items,
                                     size_t count,
                                     uint64_t timeout_ns,
                                     const keylatch_request_options *options,
                                     keylatch_queue *queue,
                                     uint64_t token,
                                     uint64_t *grants,
                                     int32_t *statuses,
                                     uint64_t *ticket);

/* ==== HOLDERS, WAITERS AND CHAIN LINKS ===========================================================
 *
 * What failures, listings and events consist of. A text has a length and does not end with a NUL.
 * Texts and keys belong to what they came from: those of a listing until it is freed, those of a
 * failure until the next failure of the same thread. What is not known is 0.
 */

/* The owner of this hold is a session. */
#define KEYLATCH_HOLDER_SESSION 1

/* The hold is a lease. */
#define KEYLATCH_HOLDER_LEASE 2

/* The lease ran out, and no request gets the lock before lock_delay_ns is over. */
#define KEYLATCH_HOLDER_LOCK_DELAY 4

/* The owner of this request is a session. */
#define KEYLATCH_WAITER_SESSION 1

/* The request waits to upgrade: its owner holds the key shared already. */
#define KEYLATCH_WAITER_UPGRADE 2

/* In an event: the request got the lock in the end. */
#define KEYLATCH_WAITER_GRANTED 4

/* This link of a chain holds the key. */
#define KEYLATCH_LINK_HOLDS 1

/* This link of a chain waits for the key. */
#define KEYLATCH_LINK_WAITS 2

/* The owner of this link is a session. */
#define KEYLATCH_LINK_SESSION 1

/* The hold is a lease. */
#define KEYLATCH_LINK_LEASE 2

/* The request waits to upgrade: its owner holds the key shared already. */
#define KEYLATCH_LINK_UPGRADE 4

/* The holder waits for nothing, as far as is known: the one to look at. */
#define KEYLATCH_LINK_RUNS 8

/* In a deadlock: the session whose request was refused. */
#define KEYLATCH_LINK_VICTIM 16

/* The process waits for the key. */
#define KEYLATCH_TIER_HOLD_WAITS 1

/* It is a hold or a request of the process that lists. */
#define KEYLATCH_TIER_HOLD_OWN 2

/* A hold of a key. */
typedef struct keylatch_holder {
  /* sizeof(keylatch_holder), set by the caller */
  size_t struct_size;
  keylatch_key key;
  /* The owner's name, and where in the program the owner comes from. */
  const char *owner;
  size_t owner_len;
  const char *source;
  size_t source_len;
  /* While keylatch_upgrade() or a downgrade works on this grant, it is only a name. */
  uint64_t grant;
  /* The fence number of an exclusive hold. */
  uint64_t fence;
  /*
   * How long the key has been held, at least.
   *
   * Taking a free lock reads no clock, so the time counts from the first look at the hold.
   */
  uint64_t held_ns;
  /* How long the lease still lasts. */
  uint64_t lease_ns;
  /* KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE */
  int32_t mode;
  uint32_t priority;
  /* KEYLATCH_HOLDER_SESSION, _LEASE, _LOCK_DELAY */
  uint32_t flags;
  /* 0. */
  uint32_t reserved;
} keylatch_holder;

/* For a keylatch_holder: its size, and zeros. */
#define KEYLATCH_HOLDER_INIT \
    { sizeof(keylatch_holder), { 0, 0, 0, 0, 0, 0 }, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* A request that waits for a key. */
typedef struct keylatch_waiter {
  /* sizeof(keylatch_waiter), set by the caller */
  size_t struct_size;
  keylatch_key key;
  /* The owner's name, and where in the program the owner comes from. */
  const char *owner;
  size_t owner_len;
  const char *source;
  size_t source_len;
  /* How long the request has waited. */
  uint64_t waited_ns;
  /* Its place in the queue of this key; 1 is the next one. */
  uint64_t position;
  /* The mode it wants: KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE. */
  int32_t mode;
  uint32_t priority;
  /* KEYLATCH_WAITER_SESSION, _UPGRADE, _GRANTED */
  uint32_t flags;
  /* In a timeout's event: how many more held the lock than are listed. */
  uint32_t more;
} keylatch_waiter;

/* For a keylatch_waiter: its size, and zeros. */
#define KEYLATCH_WAITER_INIT \
    { sizeof(keylatch_waiter), { 0, 0, 0, 0, 0, 0 }, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* A link of a blocking chain, of a deadlock, or of a report about lock orders. */
typedef struct keylatch_chain_link {
  /* sizeof(keylatch_chain_link), set by the caller */
  size_t struct_size;
  keylatch_key key;
  /* The owner's name, and where in the program the owner comes from. */
  const char *owner;
  size_t owner_len;
  const char *source;
  size_t source_len;
  /* The grant of a holder in a chain. */
  uint64_t grant;
  /*
   * In a chain: how long the key has been held or waited for.
   *
   * In a listing of deadlocks or of lock orders: when it was, as the time since the manager was
   * made.
   */
  uint64_t time_ns;
  /* How long the lease of a holder in a chain still lasts. */
  uint64_t lease_ns;
  /* The place of a waiter in the queue of its key; 1 is the next one. */
  uint64_t position;
  /*
   * The number of the link, from 1 on, and of the link that it follows.
   *
   * In a listing of deadlocks or of lock orders, link is the number of the report.
   */
  uint64_t link;
  uint64_t after;
  /* KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE: how the owner holds the key or wants it. */
  int32_t mode;
  /* KEYLATCH_LINK_HOLDS or KEYLATCH_LINK_WAITS */
  uint32_t role;
  /* In a deadlock: how the next session holds the key; 0 if it waits in the queue. */
  int32_t blocked_by;
  /* KEYLATCH_LINK_SESSION, _LEASE, _UPGRADE, _RUNS, _VICTIM */
  uint32_t flags;
} keylatch_chain_link;

/* For a keylatch_chain_link: its size, and zeros. */
#define KEYLATCH_CHAIN_LINK_INIT \
    { sizeof(keylatch_chain_link), { 0, 0, 0, 0, 0, 0 }, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* A key that stands out, as keylatch_top() lists it, with its oldest holder. */
typedef struct keylatch_top_key {
  /* sizeof(keylatch_top_key), set by the caller */
  size_t struct_size;
  keylatch_key key;
  /* How many requests wait for the key, and the longest wait. */
  uint64_t waiters;
  uint64_t longest_wait_ns;
  /* The oldest holder, as in keylatch_holder. */
  const char *owner;
  size_t owner_len;
  const char *source;
  size_t source_len;
  uint64_t grant;
  uint64_t held_ns;
  /* How the oldest holder holds the key; 0 if the key was free by then. */
  int32_t mode;
  /* KEYLATCH_HOLDER_SESSION, _LEASE, _LOCK_DELAY */
  uint32_t flags;
} keylatch_top_key;

/* For a keylatch_top_key: its size, and zeros. */
#define KEYLATCH_TOP_KEY_INIT \
    { sizeof(keylatch_top_key), { 0, 0, 0, 0, 0, 0 }, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* What a process has of a key, or waits for, as keylatch_tier_holds() lists it. */
typedef struct keylatch_tier_hold {
  /* sizeof(keylatch_tier_hold), set by the caller */
  size_t struct_size;
  keylatch_key key;
  /* The owner's name, as its process gave it. */
  const char *owner;
  size_t owner_len;
  /* The process, as people recognise it: its host, name and number. */
  const char *process;
  size_t process_len;
  /* For how long the process has had the key, or has waited; etcd does not know it. */
  uint64_t since_ns;
  /* KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE */
  int32_t mode;
  /* KEYLATCH_TIER_HOLD_WAITS, _OWN */
  uint32_t flags;
} keylatch_tier_hold;

/* For a keylatch_tier_hold: its size, and zeros. */
#define KEYLATCH_TIER_HOLD_INIT \
    { sizeof(keylatch_tier_hold), { 0, 0, 0, 0, 0, 0 }, 0, 0, 0, 0, 0, 0, 0 }

/* ==== THE LAST FAILURE ===========================================================================
 *
 * Every function that fails notes in its thread what happened; a success leaves it as it is. What
 * these functions hand out stays where it is until the next failure of the same thread, or until
 * keylatch_last_error_clear().
 */

/*
 * What the last failure of this thread was about, in English.
 *
 * The text has the key, the holders and what to do about it. Empty if there was none. Never NULL.
 *
 * Memory: until the next failure of this thread. Errors: none. Threads: each has its own.
 */
const char *keylatch_last_error(void);

/*
 * The status of the last failure of this thread; KEYLATCH_OK if there was none.
 *
 * Errors: none. Threads: each has its own.
 */
int32_t keylatch_last_status(void);

/*
 * Forgets the last failure of this thread, and gives its memory back.
 *
 * Errors: none. Threads: each has its own.
 */
void keylatch_last_error_clear(void);

/*
 * Gets the key that the last failure of this thread was about.
 *
 * Writes *key on success; it points to memory that stays until the next failure of this thread.
 * Errors: KEYLATCH_EEND if it was about none, which does not count as a failure itself;
 * KEYLATCH_ENULL. Threads: each has its own.
 */
int32_t keylatch_last_key(keylatch_key *key);

/*
 * Gets how long the request waited that timed out.
 *
 * Writes *waited_ns on success. Errors: KEYLATCH_EEND if the last failure of this thread was no
 * timeout, which does not count as a failure itself; KEYLATCH_ENULL. Threads: each has its own.
 */
int32_t keylatch_last_waited(uint64_t *waited_ns);

/*
 * Gets one of the holders of the lock, by number from 0 on.
 *
 * At most 64 can be asked for; *more says how many more held it. A refusal without waiting names
 * the exclusive holder, or a reader if one is at hand.
 *
 * Set holder->struct_size first; the rest is written on success. more may be NULL. Errors:
 * KEYLATCH_EEND if there are fewer holders, or the last failure of this thread has none, which does
 * not count as a failure itself; KEYLATCH_ENULL, KEYLATCH_ESTRUCT. Threads: each has its own.
 */
int32_t keylatch_last_holder(size_t index,
                             keylatch_holder *holder,
                             size_t *more);

/*
 * Gets one session of the deadlock that was this thread's last failure.
 *
 * They are numbered from 0 on, beginning with the session whose request this was: its name, where
 * it comes from, the key it waits for, and how it wants it. The next one, or after the last the
 * first, holds that key in the mode link->blocked_by, or waits in line before it.
 *
 * Set link->struct_size first; the rest is written on success. Errors: KEYLATCH_EEND if there are
 * fewer, or it was no deadlock, which does not count as a failure itself; KEYLATCH_ENULL,
 * KEYLATCH_ESTRUCT. Threads: each has its own.
 */
int32_t keylatch_last_cycle_link(size_t index,
                                 keylatch_chain_link *link);

/* ==== FILTERS ====================================================================================
 *
 * Which holds or waits are meant.
 */

/* Those of sessions, and not of labels. */
#define KEYLATCH_FILTER_SESSIONS 1

/*
 * All of them, without any other condition.
 *
 * keylatch_force_release() and keylatch_expire() need it to revoke everything.
 */
#define KEYLATCH_FILTER_ALL 2

/*
 * Which holds or waits are meant: those that meet every condition that is set.
 *
 * What is NULL or 0 is not set. Without a condition,
 *
 *     keylatch_filter filter = KEYLATCH_FILTER_INIT;
 *
 * is all of them in a listing. A revocation refuses it, because a condition may have been lost on
 * the way.
 */
typedef struct keylatch_filter {
  /* sizeof(keylatch_filter) */
  size_t struct_size;
  /*
   * Those of keys in this bucket.
   *
   * To mean the bucket whose name has no bytes, point anywhere.
   */
  const void *bucket;
  size_t bucket_len;
  /*
   * Those of this one key.
   *
   * Without a version that is the object without a version, and no other.
   */
  const keylatch_key *key;
  /* Those of objects whose names begin so, in whatever bucket and version. */
  const void *prefix;
  size_t prefix_len;
  /* Those of owners with this name, labels and sessions. */
  const char *owner;
  size_t owner_len;
  /* Those of owners that come from here. */
  const char *source;
  size_t source_len;
  /*
   * Those that have been held, or waited, for at least this duration.
   *
   * A hold's age counts from the first look at it, by a waiter or by a listing: to find old holds
   * without waiters, list them twice.
   */
  uint64_t older_than_ns;
  /* Those that are held, or asked for, in this mode. */
  int32_t mode;
  /* KEYLATCH_FILTER_SESSIONS or KEYLATCH_FILTER_ALL, or 0. */
  uint32_t flags;
} keylatch_filter;

/* For a keylatch_filter: its size, and zeros. */
#define KEYLATCH_FILTER_INIT \
    { sizeof(keylatch_filter), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* ==== LISTINGS ===================================================================================
 *
 * The answer to a question about holders and waiters: entries, each to be fetched once. A listing
 * is a copy. It stays as it is, also when its manager is freed.
 *
 * What an entry is follows from the question; each kind has its own function to fetch it. Of
 * another kind, KEYLATCH_EINVALID names the right function, and the entry stays to be fetched.
 */

/* An answer; freed by keylatch_listing_free(). */
typedef struct keylatch_listing keylatch_listing;

/*
 * Fetches the next holder.
 *
 * For the listings of keylatch_holders(), keylatch_force_release() and keylatch_expire(), and for
 * events. Its key and its texts stay where they are until the listing is freed.
 *
 * Set holder->struct_size first; the rest is written on success. Errors: KEYLATCH_EEND after the
 * last entry, which does not count as a failure for keylatch_last_error(); KEYLATCH_EINVALID if the
 * next entry is of another kind; KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any;
 * each entry is fetched by one.
 */
int32_t keylatch_listing_next_holder(struct keylatch_listing *listing,
                                     keylatch_holder *holder);

/*
 * Fetches the next waiter.
 *
 * For the listings of keylatch_waiters(), and for events. Its key and its texts stay where they are
 * until the listing is freed.
 *
 * Set waiter->struct_size first; the rest is written on success. Errors: KEYLATCH_EEND after the
 * last entry, which does not count as a failure for keylatch_last_error(); KEYLATCH_EINVALID if the
 * next entry is of another kind; KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any;
 * each entry is fetched by one.
 */
int32_t keylatch_listing_next_waiter(struct keylatch_listing *listing,
                                     keylatch_waiter *waiter);

/*
 * Fetches the next link of a chain.
 *
 * For the listings of keylatch_blocking_chain(), keylatch_recent_deadlocks() and
 * keylatch_lock_orders(), and for events. Its key and its texts stay where they are until the
 * listing is freed.
 *
 * Set link->struct_size first; the rest is written on success. Errors: KEYLATCH_EEND after the last
 * entry, which does not count as a failure for keylatch_last_error(); KEYLATCH_EINVALID if the next
 * entry is of another kind; KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; each
 * entry is fetched by one.
 */
int32_t keylatch_listing_next_link(struct keylatch_listing *listing,
                                   keylatch_chain_link *link);

/*
 * Fetches the next key that stands out.
 *
 * For the listings of keylatch_top(). Its key and its texts stay where they are until the listing
 * is freed.
 *
 * Set key->struct_size first; the rest is written on success. Errors: KEYLATCH_EEND after the last
 * entry, which does not count as a failure for keylatch_last_error(); KEYLATCH_EINVALID if the next
 * entry is of another kind; KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; each
 * entry is fetched by one.
 */
int32_t keylatch_listing_next_key(struct keylatch_listing *listing,
                                  keylatch_top_key *key);

/*
 * Fetches the next hold or request of a process.
 *
 * For the listings of keylatch_tier_holds(). Its key and its texts stay where they are until the
 * listing is freed.
 *
 * Set hold->struct_size first; the rest is written on success. Errors: KEYLATCH_EEND after the last
 * entry, which does not count as a failure for keylatch_last_error(); KEYLATCH_EINVALID if the next
 * entry is of another kind; KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; each
 * entry is fetched by one.
 */
int32_t keylatch_listing_next_tier_hold(struct keylatch_listing *listing,
                                        keylatch_tier_hold *hold);

/*
 * Says how many entries there are, those that were fetched included.
 *
 * Writes *count on success. Errors: KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
 */
int32_t keylatch_listing_count(const struct keylatch_listing *listing, size_t *count);

/*
 * Writes all of it for people, a line for each entry or for each link.
 *
 * Writes *for_people on success; it ends with a NUL and is the caller's, to be freed with
 * keylatch_text_free(). Errors: KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
 */
int32_t keylatch_listing_text(const struct keylatch_listing *listing,
                              char **for_people);

/*
 * Frees a listing. NULL is fine and does nothing.
 *
 * Errors: KEYLATCH_EHANDLE, KEYLATCH_EFORKED in a forked child. Threads: any; waits for calls in
 * progress on this listing.
 */
int32_t keylatch_listing_free(struct keylatch_listing *listing);

/* ==== WHO HOLDS, WHO WAITS =======================================================================
 *
 * Questions about a manager as it is now. They stop no other call, however many locks there are. A
 * hold or wait that lasts from before the call to after it is listed exactly once, and each listed
 * one existed at some moment of the call.
 */

/*
 * What stands out: the locks that have been held for longest.
 *
 * Ages count from the first look at a hold.
 */
#define KEYLATCH_TOP_AGE 1

/* What stands out: the keys that most requests wait for. */
#define KEYLATCH_TOP_WAITERS 2

/*
 * Lists who holds what, as far as the filter lets pass, in no particular order.
 *
 * filter may be NULL for all.
 *
 * Writes *listing on success; it is the caller's, to be freed with keylatch_listing_free(). Errors:
 * KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads:
 * any; also from callbacks.
 */
int32_t keylatch_holders(keylatch_manager *manager,
                         const keylatch_filter *filter,
                         keylatch_listing **listing);

/*
 * Lists who waits for what, as far as the filter lets pass, line by line.
 *
 * Each line is listed from its front. filter may be NULL for all.
 *
 * Writes *listing on success; it is the caller's, to be freed with keylatch_listing_free(). Errors:
 * KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads:
 * any; also from callbacks.
 */
int32_t keylatch_waiters(keylatch_manager *manager,
                         const keylatch_filter *filter,
                         keylatch_listing **listing);

/*
 * Lists what all processes hold and wait for, of one key or of all.
 *
 * It is for managers that share their keys by shared_memory or etcd, which it asks;
 * keylatch_holders() and keylatch_waiters() know this process alone. A process keeps a key for a
 * while after its last hold of it, and is listed for as long. Those that wait are listed with etcd.
 * key is NULL for all.
 *
 * Writes *listing on success; it is the caller's, to be freed with keylatch_listing_free(). Errors:
 * KEYLATCH_ETIER for a manager with neither, and if what it asks does not answer; KEYLATCH_EKEY,
 * KEYLATCH_ECLOSED, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_EHANDLE. Threads:
 * any; it may wait for an answer, so not from callbacks.
 */
int32_t keylatch_tier_holds(keylatch_manager *manager,
                            const keylatch_key *key,
                            keylatch_listing **listing);

/*
 * Lists what stands out most, at most count of it.
 *
 * by is KEYLATCH_TOP_AGE or KEYLATCH_TOP_WAITERS. For each it lists a key with its oldest holder
 * (or none, if it was free by then), how many wait for it, and for how long.
 *
 * Writes *listing on success; it is the caller's, to be freed with keylatch_listing_free(). Errors:
 * KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_EHANDLE. Threads: any; also from
 * callbacks.
 */
int32_t keylatch_top(keylatch_manager *manager,
                     int32_t by,
                     size_t count,
                     keylatch_listing **listing);

/*
 * Lists a blocking chain, from a key, or from what an owner waits for.
 *
 * It leads to the holders, to what those wait for, and so on to holders that wait for nothing
 * (KEYLATCH_LINK_RUNS). Only sessions are followed. One of key and owner is NULL. Each link has its
 * waiter, unless it is the key that was asked about, and after it the holders of what the waiter
 * waits for.
 *
 * circle may be NULL; otherwise *circle is 1 if the chain leads back to itself: sessions of it wait
 * for each other. The chain is read link by link, so it may never have been a circle at any one
 * moment.
 *
 * Writes *circle and *listing on success; the listing is the caller's, to be freed with
 * keylatch_listing_free(), and empty if there is no waiter and no holder. Errors:
 * KEYLATCH_EINVALID, also for both or neither of key and owner; KEYLATCH_EFORKED, KEYLATCH_ENULL,
 * KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 */
int32_t keylatch_blocking_chain(keylatch_manager *manager,
                                const keylatch_key *key,
                                const keylatch_owner *owner,
                                int32_t *circle,
                                keylatch_listing **listing);

/*
 * Lists the latest broken deadlocks among sessions, the oldest first.
 *
 * There are at most 64. Each lists the sessions that waited for each other, beginning with the
 * victim (KEYLATCH_LINK_VICTIM); link is the number of the deadlock, and time_ns says when it was,
 * as the time since the manager was made.
 *
 * Writes *listing on success; it is the caller's, to be freed with keylatch_listing_free(). Errors:
 * KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 */
int32_t keylatch_recent_deadlocks(keylatch_manager *manager,
                                  keylatch_listing **listing);

/*
 * Lists the latest reports of contradicting lock orders, the oldest first.
 *
 * There are at most 64, if the manager was made with KEYLATCH_MANAGER_LOCK_ORDER. Each order lists
 * what a session held (KEYLATCH_LINK_HOLDS) and after it what it asked for (KEYLATCH_LINK_WAITS),
 * which is what the next one held; link is the number of the report, and time_ns says when it was,
 * as the time since the manager was made. reported may be NULL; otherwise *reported says how many
 * reports there were altogether.
 *
 * Writes *reported and *listing on success; the listing is the caller's, to be freed with
 * keylatch_listing_free(). Errors: KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads:
 * any; also from callbacks.
 */
int32_t keylatch_lock_orders(keylatch_manager *manager,
                             uint64_t *reported,
                             keylatch_listing **listing);

/* ==== REVOKING LOCKS =============================================================================
 *
 * For holders that are stuck, or whose leases have run out. The waiters of a revoked lock are
 * served. The old holder's grant is void, and releasing it changes nothing. The old holder may
 * still be at work: the fence number keeps that work from doing harm.
 */

/*
 * Revokes the locks that the filter lets pass.
 *
 * Functions of keylatch_on_lost() are called before this one returns, with KEYLATCH_LOST_FORCED.
 *
 * count and listing may be NULL. Writes on success *count, how many locks that were, and *listing,
 * their holders; it is the caller's, to be freed with keylatch_listing_free(). Errors:
 * KEYLATCH_EINVALID for a filter without a condition, which has to say KEYLATCH_FILTER_ALL for
 * everything; KEYLATCH_ENULL, KEYLATCH_EFORKED, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any;
 * also from callbacks.
 */
int32_t keylatch_force_release(keylatch_manager *manager,
                               const keylatch_filter *filter,
                               size_t *count,
                               keylatch_listing **listing);

/*
 * Revokes locks whose leases have run out, also without waiters.
 *
 * It does so as far as the filter lets pass. Functions of keylatch_on_lost() are called before this
 * one returns, with KEYLATCH_LOST_EXPIRED.
 *
 * count and listing may be NULL. Writes on success *count, how many locks that were, and *listing,
 * their holders; it is the caller's, to be freed with keylatch_listing_free(). Errors:
 * KEYLATCH_EINVALID for a filter without a condition, which has to say KEYLATCH_FILTER_ALL for
 * everything; KEYLATCH_ENULL, KEYLATCH_EFORKED, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any;
 * also from callbacks.
 */
int32_t keylatch_expire(keylatch_manager *manager,
                        const keylatch_filter *filter,
                        size_t *count,
                        keylatch_listing **listing);

/* ==== EVENTS =====================================================================================
 *
 * What is worth a report when it happens: long waits and holds, timeouts with the holders at that
 * moment, deadlocks, and revoked locks. Each subscription has a queue of its own. When that is
 * full, further events are dropped and counted.
 */

/*
 * A wait that took long has ended.
 *
 * The listing has its waiter (KEYLATCH_WAITER_GRANTED if it got the lock).
 */
#define KEYLATCH_EVENT_SLOW_WAIT 1

/* A lock that was held for long has been released. The listing has its holder. */
#define KEYLATCH_EVENT_SLOW_HOLD 2

/*
 * A request gave up because its time was over.
 *
 * The listing has its waiter, then the holders of the lock at that moment, at most 64 of them; more
 * of the waiter says how many there were besides.
 */
#define KEYLATCH_EVENT_TIMEOUT 3

/*
 * A deadlock was found: sessions that waited for each other.
 *
 * The listing has a link for each, beginning with the session whose request was refused.
 */
#define KEYLATCH_EVENT_DEADLOCK 4

/* A lease ran out and the lock was revoked. The listing has the old holder. */
#define KEYLATCH_EVENT_EXPIRED 5

/* A lock was revoked by force. The listing has the old holder. */
#define KEYLATCH_EVENT_FORCED 6

/*
 * Sessions took locks in orders that contradict each other.
 *
 * Reported with KEYLATCH_MANAGER_LOCK_ORDER. The listing has links, as in keylatch_lock_orders().
 */
#define KEYLATCH_EVENT_LOCK_ORDER 7

/* A subscription; made by keylatch_events_new(), freed by keylatch_events_free(). */
typedef struct keylatch_events keylatch_events;

/*
 * What a subscriber receives.
 *
 * Timeouts, deadlocks and revoked locks are always reported. Everything that is 0 is the default.
 */
typedef struct keylatch_event_options {
  /* sizeof(keylatch_event_options) */
  size_t struct_size;
  /* Reports waits of at least this duration. Default: none; 1 is nearly all. */
  uint64_t wait_above_ns;
  /*
   * Reports holds of at least this duration.
   *
   * Default: none. This is the only setting that costs those who do not wait: while it is set,
   * every request reads the clock and takes a mutex.
   */
  uint64_t hold_above_ns;
  /* Events that are kept until they are fetched. Default 1024. */
  uint32_t capacity;
  /* 0. */
  uint32_t reserved;
} keylatch_event_options;

/* For a keylatch_event_options: its size, and zeros. */
#define KEYLATCH_EVENT_OPTIONS_INIT \
    { sizeof(keylatch_event_options), 0, 0, 0, 0 }

/*
 * Subscribes to a manager's events from now on. options may be NULL.
 *
 * Writes *events on success; it is the caller's, to be freed with keylatch_events_free(), before or
 * after its manager. Errors: KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_ESTRUCT,
 * KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_events_new(keylatch_manager *manager,
                            const struct keylatch_event_options *options,
                            struct keylatch_events **events);

/*
 * Gets a descriptor that is readable while events lie in the queue.
 *
 * It is readable, too, once the manager is closed. It is the subscription's: poll it, then call
 * keylatch_events_next() until it says KEYLATCH_EWOULDBLOCK; do not read or close it. Takes two
 * file descriptors when it is called first.
 *
 * Writes *fd on success. Errors: KEYLATCH_ESYSTEM if there are no descriptors; KEYLATCH_EFORKED,
 * KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
 */
int32_t keylatch_events_fd(struct keylatch_events *events,
                           int32_t *fd);

/*
 * Fetches the oldest event, waiting for one for at most timeout_ns.
 *
 * It waits in the calling thread: 0 is not at all, KEYLATCH_WAIT_FOREVER for as long as it takes.
 * *kind becomes one of KEYLATCH_EVENT_..., or a number that later versions know; *about becomes a
 * listing of what it is about, the caller's, to be freed with keylatch_listing_free(). about may be
 * NULL.
 *
 * Writes *kind and *about on success. Errors: KEYLATCH_EWOULDBLOCK if nothing is there and
 * timeout_ns is 0; KEYLATCH_ETIMEOUT; KEYLATCH_ECLOSED when the manager is closed and all was
 * fetched; KEYLATCH_EHANDLE, also if the subscription is freed meanwhile; KEYLATCH_EFORKED,
 * KEYLATCH_ENULL. Threads: any, but callbacks must not wait; each event is fetched by one. Signals
 * do not end the wait.
 */
int32_t keylatch_events_next(struct keylatch_events *events,
                             uint64_t timeout_ns,
                             int32_t *kind,
                             keylatch_listing **about);

/*
 * Gets how many events were dropped because the queue was full.
 *
 * Writes *dropped on success. Errors: KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
 */
int32_t keylatch_events_dropped(struct keylatch_events *events, uint64_t *dropped);

/*
 * Ends a subscription and frees it.
 *
 * A thread that waits in keylatch_events_next() comes out with KEYLATCH_EHANDLE. Listings that were
 * fetched stay, to be freed by their own function. NULL is fine and does nothing.
 *
 * Errors: KEYLATCH_EHANDLE, KEYLATCH_EFORKED in a forked child. Threads: any; waits for calls in
 * progress on this subscription.
 */
int32_t keylatch_events_free(struct keylatch_events *events);

/* ==== FIGURES ====================================================================================
 *
 * What happened so far. Counting costs the locks nothing; reading takes the mutex of each part of
 * the table for a moment.
 */

/* For the shard of keylatch_manager_metrics(): all of them together. */
#define KEYLATCH_ALL_SHARDS UINT32_MAX

/* Figures of a manager, or of one shard of it. Those that count only grow. */
typedef struct keylatch_metrics {
  /* sizeof(keylatch_metrics), set by the caller */
  size_t struct_size;
  /* Locks taken: by one compare-and-swap, under the shard's mutex, or after a wait. */
  uint64_t acquisitions;
  uint64_t fast;
  uint64_t inserted;
  uint64_t slow;
  /* Locks released. */
  uint64_t releases;
  /* Requests that had to wait in line. */
  uint64_t waits;
  /* Requests whose time was over before they had the lock. */
  uint64_t timeouts;
  /* Waits that were cancelled, or ended by closing the manager. */
  uint64_t cancelled;
  /* Attempts without waiting that found the lock held. */
  uint64_t refused;
  /* Time waited altogether, and the longest wait, of requests whose wait is over. */
  uint64_t wait_ns;
  uint64_t max_wait_ns;
  /*
   * Bounds below which 50, 90 and 99 % of waits stayed.
   *
   * UINT64_MAX if that is longer than the histogram reaches, 0 if there were no waits.
   */
  uint64_t wait_p50_ns;
  uint64_t wait_p90_ns;
  uint64_t wait_p99_ns;
  /*
   * Now: locks held, requests waiting, and keys in the table.
   *
   * Each reader counts as a held lock, and the keys include a few idle ones.
   */
  uint64_t holders;
  uint64_t waiters;
  uint64_t entries;
  /* Of the whole manager, for any shard: its memory, and how long it has existed. */
  uint64_t bytes;
  uint64_t uptime_ns;
  /* Deadlocks that were found. */
  uint64_t deadlocks;
} keylatch_metrics;

/* For a keylatch_metrics: its size, and zeros. */
#define KEYLATCH_METRICS_INIT \
    { sizeof(keylatch_metrics), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Waits of about the same length. This struct will never change. */
typedef struct keylatch_wait_bucket {
  /*
   * They were shorter than this, and not than the bound of the bucket before.
   *
   * UINT64_MAX for the last one, which has no bound.
   */
  uint64_t below_ns;
  /* How many. */
  uint64_t waits;
} keylatch_wait_bucket;

/* How a manager has been doing in the last minute. */
typedef struct keylatch_health {
  /* sizeof(keylatch_health), set by the caller */
  size_t struct_size;
  /*
   * 1 if the manager has been doing well; 0 if not.
   *
   * That is: more than 80 % of locks were had without a wait, fewer than 5 % of requests timed out,
   * and waits were shorter than 10 ms on average. A manager that did nothing is healthy.
   */
  int32_t healthy;
  /* 0. */
  uint32_t reserved;
  /* The share of locks that were had without a wait, 0 to 1. */
  double fast_path_rate;
  /* The share of requests that timed out, 0 to 1. */
  double timeout_rate;
  /* The mean wait of those who had to wait. */
  uint64_t avg_wait_ns;
} keylatch_health;

/* For a keylatch_health: its size, and zeros. */
#define KEYLATCH_HEALTH_INIT \
    { sizeof(keylatch_health), 0, 0, 0, 0, 0 }

/* What a manager has learned about how long waits take. */
typedef struct keylatch_adaptive {
  /* sizeof(keylatch_adaptive), set by the caller */
  size_t struct_size;
  /* How long a request waits now that says KEYLATCH_WAIT_DEFAULT. */
  uint64_t timeout_ns;
  /* What the given share of the latest waits stayed below; 0 before 32 waits. */
  uint64_t quantile_ns;
  /* Waits that were learned from, and how many of them timed out. */
  uint64_t samples;
  uint64_t timeouts;
  /* The limits of the timeout, and how often each replaced what was learned. */
  uint64_t floor_ns;
  uint64_t ceiling_ns;
  uint64_t times_at_floor;
  uint64_t times_at_ceiling;
} keylatch_adaptive;

/* For a keylatch_adaptive: its size, and zeros. */
#define KEYLATCH_ADAPTIVE_INIT \
    { sizeof(keylatch_adaptive), 0, 0, 0, 0, 0, 0, 0, 0 }

/*
 * Gets the figures of one shard, or of all together: KEYLATCH_ALL_SHARDS.
 *
 * Set metrics->struct_size first; the rest is written on success. Errors: KEYLATCH_EINVALID for a
 * shard that there is not; KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE.
 * Threads: any; also from callbacks.
 */
int32_t keylatch_manager_metrics(const keylatch_manager *manager,
                                 uint32_t shard,
                                 struct keylatch_metrics *metrics);

/*
 * Gets how long waits of one shard were, or of all (KEYLATCH_ALL_SHARDS).
 *
 * It says how many there were of each of a fixed row of lengths, the shortest first. There are at
 * most 64 buckets, the same ones always.
 *
 * Writes *count, and as many buckets, on success. Errors: KEYLATCH_EBUFFER if there are more than
 * capacity, and keylatch_last_error() tells how many; KEYLATCH_EINVALID for a shard that there is
 * not; KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 */
int32_t keylatch_manager_wait_times(const keylatch_manager *manager,
                                    uint32_t shard,
                                    struct keylatch_wait_bucket *buckets,
                                    size_t capacity,
                                    size_t *count);

/*
 * Gets whether a manager has been doing well in the last minute.
 *
 * If problems is not NULL, *problems becomes a text with a line for each thing that is wrong, empty
 * if nothing is; it is the caller's, to be freed with keylatch_text_free().
 *
 * Set health->struct_size first; the rest is written on success. Errors: KEYLATCH_EFORKED,
 * KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 */
int32_t keylatch_manager_health(const keylatch_manager *manager,
                                struct keylatch_health *health,
                                char **problems);

/*
 * Gets what the manager has learned about how long waits take.
 *
 * It learns if it was made with KEYLATCH_MANAGER_ADAPTIVE.
 *
 * Set adaptive->struct_size first; the rest is written on success. Errors: KEYLATCH_EEND if it was
 * made without; KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any;
 * also from callbacks.
 */
int32_t keylatch_manager_adaptive(const keylatch_manager *manager,
                                  struct keylatch_adaptive *adaptive);

/*
 * Gets the figures as OpenMetrics 1.0 text, which monitoring systems read.
 *
 * It can be served as "application/openmetrics-text; version=1.0.0; charset=utf-8".
 *
 * Writes *metrics_text on success; it ends with a NUL and is the caller's, to be freed with
 * keylatch_text_free(). Errors: KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any;
 * also from callbacks.
 */
int32_t keylatch_manager_openmetrics(const keylatch_manager *manager,
                                     char **metrics_text);

/*
 * As keylatch_manager_openmetrics(), with the ten hottest keys.
 *
 * Each of these keys is a label, and so a time series of its own in the monitoring system. Writes
 * *metrics_text on success; it ends with a NUL and is the caller's, to be freed with
 * keylatch_text_free(). Errors: KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any;
 * also from callbacks.
 */
int32_t keylatch_manager_openmetrics_with_keys(const keylatch_manager *manager,
                                               char **metrics_text);

/*
 * Gets the figures as a report for people.
 *
 * Writes *report on success; it ends with a NUL and is the caller's, to be freed with
 * keylatch_text_free(). Errors: KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any;
 * also from callbacks.
 */
int32_t keylatch_manager_report(const keylatch_manager *manager,
                                char **report);

/*
 * Frees a text that the library made. NULL is fine and does nothing.
 *
 * Errors: none; a text that was freed before, or is not the library's, is undefined behaviour, as
 * with free(). Threads: any.
 */
void keylatch_text_free(char *text);

/* ==== SHARED TABLES ==============================================================================
 *
 * Locks between the processes of one Linux machine, in a file that they map. A process may be
 * killed at any moment: what it held is free as soon as another process notices, at most about 20
 * milliseconds later, and the next exclusive holder can ask whether its predecessor died
 * (keylatch_shared_hold). There is nothing to clean up by hand.
 *
 * A grant of a shared table belongs to the process, from any thread, until it is released. It is a
 * number that is never 0, and no grant of a manager. In a forked child the parent's table is
 * KEYLATCH_EFORKED: open it again there.
 */

/*
 * A table of locks that processes share.
 *
 * Made by keylatch_shared_open(), freed by keylatch_shared_free().
 */
typedef struct keylatch_shared_table keylatch_shared_table;

/* The settings of a shared table. Everything that is 0 is the default. */
typedef struct keylatch_shared_options {
  /* sizeof(keylatch_shared_options) */
  size_t struct_size;
  /* What listings call this process, beside its name; the first 31 bytes are kept. */
  const char *label;
  size_t label_len;
  /* How long requests with KEYLATCH_WAIT_DEFAULT wait. 0 for as long as it takes. */
  uint64_t default_timeout_ns;
  /*
   * Keys that may be held at the same time.
   *
   * 0 for 65,536 in a new table, and what there is in one that exists; a smaller one is refused
   * otherwise.
   */
  uint32_t keys;
  /*
   * Processes that may use the table at the same time, at most 4,095.
   *
   * 0 for 256 in a new table, and as above.
   */
  uint32_t members;
  /*
   * Holds and waiting requests of all processes together.
   *
   * 0 for as many as keys, and 126 a process.
   */
  uint32_t holds;
  /* Permissions of a new file, such as 0660. 0 for 0600. The umask is not applied. */
  uint32_t mode;
} keylatch_shared_options;

/* For a keylatch_shared_options: its size, and zeros. */
#define KEYLATCH_SHARED_OPTIONS_INIT \
    { sizeof(keylatch_shared_options), 0, 0, 0, 0, 0, 0, 0 }

/* What there is to know of a hold of this process. */
typedef struct keylatch_shared_hold {
  /* sizeof(keylatch_shared_hold) */
  size_t struct_size;
  /*
   * Greater than that of every exclusive hold of the key before.
   *
   * Of a shared hold, that of the latest exclusive one.
   */
  uint64_t fence;
  /* KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE. */
  int32_t mode;
  /*
   * 1 if the last process that held the key exclusively died with it.
   *
   * What the lock protects may be half-written then. It may be 1 once too often, never once too
   * seldom.
   */
  uint32_t previous_holder_died;
  /* 1 while the lock is held; 0 once it was revoked, or the file was damaged. */
  uint32_t is_valid;
  /* 0. */
  uint32_t reserved;
} keylatch_shared_hold;

/* For a keylatch_shared_hold: its size, and zeros. */
#define KEYLATCH_SHARED_HOLD_INIT \
    { sizeof(keylatch_shared_hold), 0, 0, 0, 0, 0 }

/* One hold of one process, as a listing shows it. Its texts are not terminated. */
typedef struct keylatch_shared_holder {
  /* sizeof(keylatch_shared_holder) */
  size_t struct_size;
  /* What is held; of a long key the first 80 bytes. */
  keylatch_key key;
  /* The owner_name of the request, the first 32 bytes. */
  const char *owner;
  size_t owner_len;
  /* The name of the holder's program. */
  const char *program;
  size_t program_len;
  /* What the process called itself when it opened the table. */
  const char *label;
  size_t label_len;
  /* For how long it has been held, to about 20 milliseconds. */
  uint64_t held_ns;
  /* Names the hold, with member, for keylatch_shared_revoke(). */
  uint64_t hold;
  uint32_t member;
  /* The process id, as the holder itself sees it. */
  uint32_t pid;
  /* KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE. */
  int32_t mode;
  /* 0. */
  uint32_t reserved;
} keylatch_shared_holder;

/* For a keylatch_shared_holder: its size, and zeros. */
#define KEYLATCH_SHARED_HOLDER_INIT \
    { sizeof(keylatch_shared_holder), { 0, 0, 0, 0, 0, 0 }, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/*
 * Called for each holder of a listing. What is not 0 ends the listing.
 *
 * The holder and its texts are the library's, and gone when the function returns. It may call
 * everything but keylatch_shared_free() of the table.
 */
typedef int32_t (*keylatch_shared_holder_fn)(void *user_data,
                                             const struct keylatch_shared_holder *holder);

/*
 * Opens a table, or makes it. Any number of processes may do so at the same time.
 *
 * path is the file's, such as "/dev/shm/my-engine", with a terminating NUL. options may be NULL.
 * Writes *table on success. Errors: KEYLATCH_EFILE if the file cannot be made or opened,
 * KEYLATCH_EWRONGFILE if it is no table of this version and machine, or a smaller one;
 * KEYLATCH_EMEMBERS if as many processes use it as may; KEYLATCH_ECONFIG, KEYLATCH_EUNSUPPORTED,
 * KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_shared_open(const char *path,
                             const struct keylatch_shared_options *options,
                             struct keylatch_shared_table **table);

/*
 * Frees a table handle, and releases what it holds.
 *
 * Waits until calls on it have returned; those that wait for a lock fail with KEYLATCH_ECLOSED.
 * NULL is fine and does nothing.
 *
 * The file stays, for the other processes and the next time. Errors: KEYLATCH_EBUSY from a callback
 * of a listing of the table; KEYLATCH_EFORKED, KEYLATCH_EHANDLE. Threads: any.
 */
int32_t keylatch_shared_free(struct keylatch_shared_table *table);

/*
 * Takes a lock of a shared table if it is free. Never waits for a holder.
 *
 * options may be NULL, and may say owner_name. Writes *grant on success. Errors:
 * KEYLATCH_EWOULDBLOCK, and keylatch_last_error() names the holders; KEYLATCH_ETABLEFULL,
 * KEYLATCH_ELOGFULL, KEYLATCH_EDAMAGED, KEYLATCH_EKEY, KEYLATCH_EFORKED, KEYLATCH_ENULL,
 * KEYLATCH_EINVALID, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_shared_try(struct keylatch_shared_table *table,
                            const keylatch_key *key,
                            int32_t mode,
                            const keylatch_request_options *options,
                            uint64_t *grant);

/*
 * Waits for a lock of a shared table in the calling thread.
 *
 * At most for timeout_ns nanoseconds: 0 is once and no more, KEYLATCH_WAIT_FOREVER for as long as
 * it takes, KEYLATCH_WAIT_DEFAULT as the table is set.
 *
 * options may be NULL, and may say owner_name. Writes *grant on success. Errors: KEYLATCH_ETIMEOUT,
 * and keylatch_last_error() names the holders; KEYLATCH_ECLOSED if the handle is freed meanwhile;
 * KEYLATCH_ETABLEFULL, KEYLATCH_ELOGFULL, KEYLATCH_EDAMAGED, KEYLATCH_EKEY, KEYLATCH_EFORKED,
 * KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any. Signals do
 * not end the wait.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_shared_acquire(struct keylatch_shared_table *table,
                                const keylatch_key *key,
                                int32_t mode,
                                uint64_t timeout_ns,
                                const keylatch_request_options *options,
                                uint64_t *grant);

/*
 * Waits for a lock of a shared table, until another thread cancels that.
 *
 * As keylatch_shared_acquire(), and the wait ends at most about 20 milliseconds after *cancelled is
 * not 0 any more. Store to it atomically. It is read until the function returns, and never written;
 * it may be NULL. A request keeps its place in line for as long as it waits, so do not wait in
 * slices instead.
 *
 * Errors: KEYLATCH_ECANCELLED; KEYLATCH_ETIMEOUT, and keylatch_last_error() names the holders;
 * KEYLATCH_ECLOSED if the handle is freed meanwhile; KEYLATCH_ETABLEFULL, KEYLATCH_ELOGFULL,
 * KEYLATCH_EDAMAGED, KEYLATCH_EKEY, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID,
 * KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any. Signals do not end the wait.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_shared_acquire_cancellable(struct keylatch_shared_table *table,
                                            const keylatch_key *key,
                                            int32_t mode,
                                            uint64_t timeout_ns,
                                            const keylatch_request_options *options,
                                            const uint32_t *cancelled,
                                            uint64_t *grant);

/*
 * Releases a lock of a shared table. Never waits.
 *
 * Errors: KEYLATCH_ENOTHELD if it was released before, revoked, or is another table's;
 * KEYLATCH_EDAMAGED if the table was damaged meanwhile, and the grant is gone; KEYLATCH_EFORKED,
 * KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
 */
int32_t keylatch_shared_release(struct keylatch_shared_table *table,
                                uint64_t grant);

/*
 * Shares a lock from now on that was held exclusively.
 *
 * There is no moment in between in which another could have it exclusively. Does nothing to a
 * shared hold.
 *
 * Errors: KEYLATCH_ENOTHELD, KEYLATCH_EDAMAGED, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE.
 * Threads: any.
 */
int32_t keylatch_shared_downgrade(struct keylatch_shared_table *table,
                                  uint64_t grant);

/*
 * Holds a lock exclusively that was shared, if no other holds it or waits.
 *
 * Does nothing to an exclusive hold.
 *
 * Errors: KEYLATCH_EUPGRADE if another is in the way, or another thread of the process has shared
 * the lock in the meantime, and the lock is still shared; KEYLATCH_ENOTHELD, KEYLATCH_EDAMAGED,
 * KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
 */
KEYLATCH_MUST_CHECK
int32_t keylatch_shared_try_upgrade(struct keylatch_shared_table *table,
                                    uint64_t grant);

/*
 * Gets the fence of a hold, whether its predecessor died, and if it is valid.
 *
 * Set hold->struct_size first; the rest is written on success. Errors: KEYLATCH_ENOTHELD,
 * KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any.
 */
int32_t keylatch_shared_hold_info(struct keylatch_shared_table *table,
                                  uint64_t grant,
                                  struct keylatch_shared_hold *hold);

/*
 * Calls back for each hold of all processes, or of one key; stops nothing.
 *
 * key is NULL for all. Errors: KEYLATCH_EDAMAGED, KEYLATCH_EKEY, KEYLATCH_EFORKED, KEYLATCH_ENULL,
 * KEYLATCH_EINVALID, KEYLATCH_EHANDLE. Threads: any; holder runs in the calling thread, inside no
 * lock of the library.
 */
int32_t keylatch_shared_holders(struct keylatch_shared_table *table,
                                const keylatch_key *key,
                                keylatch_shared_holder_fn holder,
                                void *user_data);

/*
 * Counts the processes that wait for a key at this moment.
 *
 * Each counts once, whatever number of its requests waits. Writes *count on success. Errors:
 * KEYLATCH_EDAMAGED, KEYLATCH_EKEY, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID,
 * KEYLATCH_EHANDLE. Threads: any.
 */
int32_t keylatch_shared_waiting(struct keylatch_shared_table *table,
                                const keylatch_key *key,
                                size_t *count);

/*
 * Takes a hold away from a process, by the hold and member of a listing.
 *
 * The process may run or be stopped. It is not interrupted, and finds out when it asks; what it
 * still writes has a lower fence than its successor.
 *
 * Errors: KEYLATCH_ENOTHELD if it was released or revoked before; KEYLATCH_EUPGRADE if several
 * threads of the process share the hold, which cannot be taken apart; KEYLATCH_EDAMAGED,
 * KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
 */
int32_t keylatch_shared_revoke(struct keylatch_shared_table *table,
                               uint64_t hold,
                               uint32_t member);

/* ==== CLAIMS =====================================================================================
 *
 * One does the work of a resource, the others wait for its outcome. A claimant asks under a number
 * that it counts itself, and repeats a request under the same number: it gets the same answer.
 * Success answers everyone in line; failure makes the first in line the owner before anything is
 * published.
 *
 * Claims have no manager: a keylatch_claims stands for itself.
 */

/*
 * One who claims: keylatch_claimant_new() makes it.
 *
 * Freed by keylatch_claimant_free().
 */
typedef struct keylatch_claimant keylatch_claimant;

/*
 * Claims on resources: keylatch_claims_new() makes it.
 *
 * Freed by keylatch_claims_free().
 */
typedef struct keylatch_claims keylatch_claims;

/* The limits of claims. Everything that is 0 is the default. */
typedef struct keylatch_claims_options {
  /* sizeof(keylatch_claims_options) */
  size_t struct_size;
  /* How long an outcome is kept for new requests. Default 10 minutes. */
  uint64_t retain_ns;
  /* Resources without owner and line that are remembered. Default 10,000. */
  uint64_t retain_count;
  /* Events of each resource that are kept. Default 256. */
  uint64_t ring;
  /* Claimants that may be there. Default 100,000. */
  uint64_t max_claimants;
  /* Open numbers of a claimant. Default 1,024. */
  uint64_t max_open;
  /* Requests that may wait. Default 100,000. */
  uint64_t max_waiters;
} keylatch_claims_options;

/* For a keylatch_claims_options: its size, and zeros. */
#define KEYLATCH_CLAIMS_OPTIONS_INIT \
    { sizeof(keylatch_claims_options), 0, 0, 0, 0, 0, 0 }

/*
 * Makes claims. options may be NULL for all defaults.
 *
 * Writes *claims on success; it is the caller's, to be freed with keylatch_claims_free(). Errors:
 * KEYLATCH_ECONFIG, KEYLATCH_ENULL, KEYLATCH_ESTRUCT. Threads: any.
 */
int32_t keylatch_claims_new(const struct keylatch_claims_options *options,
                            struct keylatch_claims **claims);

/*
 * Closes and frees claims.
 *
 * Requests that wait end with KEYLATCH_ECLOSED; this function waits until every call in progress on
 * the claims has returned, every callback has been called and has returned, and the claims' own
 * thread has ended. A callback may free its claims; then callbacks that are still to come are not
 * waited for. Claimants, queues and watches stay, to be freed by their own functions. NULL is fine
 * and does nothing.
 *
 * Errors: KEYLATCH_EHANDLE; KEYLATCH_EFORKED in a forked child. Threads: any.
 */
int32_t keylatch_claims_free(struct keylatch_claims *claims);

/*
 * Makes a claimant.
 *
 * ttl_ns is how long it lives without keylatch_claimant_renew(); 0 is until it is freed.
 *
 * Writes *claimant on success; it is the caller's, to be freed with keylatch_claimant_free(),
 * before or after its claims. Errors: KEYLATCH_ESESSIONS, KEYLATCH_ECLOSED, KEYLATCH_EFORKED;
 * KEYLATCH_ECONFIG for a ttl_ns beyond an hour; KEYLATCH_EINVALID for a name beyond 4,096 bytes;
 * KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
 */
int32_t keylatch_claimant_new(const struct keylatch_claims *claims,
                              const char *name,
                              size_t name_len,
                              uint64_t ttl_ns,
                              struct keylatch_claimant **claimant);

/*
 * Frees a claimant.
 *
 * What it waits for and what it owns end as failures: the next in line owns the work. A thread that
 * waits in keylatch_claim() comes out with KEYLATCH_ESESSION. NULL is fine and does nothing.
 *
 * Errors: KEYLATCH_EHANDLE; KEYLATCH_EFORKED in a forked child. Threads: any.
 */
int32_t keylatch_claimant_free(struct keylatch_claimant *claimant);

/*
 * Declares that the claimant is done with all numbers below this one.
 *
 * Its next request has their answers forgotten, and ends what they still wait for or own.
 *
 * Errors: KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
 */
int32_t keylatch_claimant_settle_below(const struct keylatch_claimant *claimant, uint64_t number);

/*
 * Renews a claimant for its ttl_ns.
 *
 * Errors: KEYLATCH_ESESSION if it ran out; KEYLATCH_ECLOSED, KEYLATCH_EFORKED, KEYLATCH_ENULL,
 * KEYLATCH_EHANDLE. Threads: any.
 */
int32_t keylatch_claimant_renew(const struct keylatch_claimant *claimant);

/* ==== CLAIMING AND COMPLETING ====================================================================
 *
 * A request is answered with a keylatch_claim_answer. KEYLATCH_CLAIM_YOURS says that the work is
 * the claimant's to do: its fence completes it, and goes with what is written, so that the store
 * can refuse what an earlier owner writes late.
 */

/* The request is in line; ahead says how many are before it. */
#define KEYLATCH_CLAIM_WAITING 0

/* The work is the claimant's to do: fence, attempt and first_in_epoch. */
#define KEYLATCH_CLAIM_YOURS 1

/*
 * The work has an outcome: succeeded, text, and its owner's fence and attempt.
 *
 * text is the note or the reason.
 */
#define KEYLATCH_CLAIM_DONE 2

/* This request completed the work: succeeded and text. */
#define KEYLATCH_CLAIM_ENDED 3

/* This request owned the work and lost it; text says why. */
#define KEYLATCH_CLAIM_LOST 4

/* Another has the work; text is its owner's name. The request was not to wait. */
#define KEYLATCH_CLAIM_SKIPPED 5

/* A later request took the places of all that waited. */
#define KEYLATCH_CLAIM_SUPERSEDED 6

/* The request was cancelled; fence is that of the grant that ended with it, or 0. */
#define KEYLATCH_CLAIM_CANCELLED 7

/* Do not wait for work that is another's. */
#define KEYLATCH_CLAIM_SKIP_IF_CLAIMED 1

/* Take the places of all that wait: only the latest request waits. */
#define KEYLATCH_CLAIM_LATEST_ONLY 2

/*
 * The rules of a request.
 *
 * Each concerns that request alone. Everything that is 0 is the default.
 */
typedef struct keylatch_claim_policy {
  /* sizeof(keylatch_claim_policy) */
  size_t struct_size;
  /*
   * How long the grant lasts without keylatch_claim_renew().
   *
   * Default: as long as the claimant.
   */
  uint64_t lease_ns;
  /*
   * How long the next attempt is held back when this one fails.
   *
   * Default: not at all.
   */
  uint64_t retry_after_ns;
  /* How many may be in line for it to join. Default: no limit. */
  uint64_t max_waiting;
  /*
   * If this attempt fails, everyone in line is answered with the failure.
   *
   * Default: no limit.
   */
  uint32_t max_attempts;
  /* KEYLATCH_CLAIM_SKIP_IF_CLAIMED, KEYLATCH_CLAIM_LATEST_ONLY, or 0. */
  uint32_t flags;
} keylatch_claim_policy;

/* For a keylatch_claim_policy: its size, and zeros. */
#define KEYLATCH_CLAIM_POLICY_INIT \
    { sizeof(keylatch_claim_policy), 0, 0, 0, 0, 0 }

/*
 * The answer of a request.
 *
 * A function that writes one says so; text is the caller's then, to be freed with
 * keylatch_text_free(), and NULL where there is none. In a callback it lives until the callback
 * returns.
 */
typedef struct keylatch_claim_answer {
  /* sizeof(keylatch_claim_answer) */
  size_t struct_size;
  char *text;
  uint64_t fence;
  uint64_t ahead;
  /* KEYLATCH_CLAIM_... */
  int32_t kind;
  /* 1 for a success, 0 for a failure. */
  int32_t succeeded;
  /* 1 for the first attempt at the work, one more after each failure. */
  uint32_t attempt;
  /* 1 if no earlier attempt is known: look whether the work is done already. */
  uint32_t first_in_epoch;
} keylatch_claim_answer;

/* For a keylatch_claim_answer: its size, and zeros. */
#define KEYLATCH_CLAIM_ANSWER_INIT \
    { sizeof(keylatch_claim_answer), 0, 0, 0, 0, 0, 0, 0 }

/*
 * Called once with the answer of a claim.
 *
 * That is KEYLATCH_OK and the answer, or why not and NULL. keylatch_last_error() tells more of a
 * failure. It runs on a thread of the library's, one callback of its claims at a time. It may call
 * everything that does not wait.
 */
typedef void (*keylatch_claim_callback)(void *user_data,
                                        int32_t status,
                                        const struct keylatch_claim_answer *answer);

/*
 * Asks for the work of a resource under a number, and waits for an answer.
 *
 * It waits in the calling thread, for at most timeout_ns. With 0 it asks without waiting: after
 * KEYLATCH_CLAIM_WAITING the request is in line, until it is asked for again or cancelled. A
 * request that times out leaves the line, and its number is used up. policy may be NULL.
 *
 * Set answer->struct_size first; the rest is written on success. Errors: KEYLATCH_ETIMEOUT;
 * KEYLATCH_ESESSION, KEYLATCH_ESTALE, KEYLATCH_ENUMBER, KEYLATCH_EOPEN, KEYLATCH_EWAITERS,
 * KEYLATCH_EKEY, KEYLATCH_ECLOSED, KEYLATCH_EFORKED; KEYLATCH_ECONFIG for a lease_ns beyond an
 * hour; KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any, but
 * callbacks must not wait. Signals do not end the wait.
 */
int32_t keylatch_claim(const keylatch_claimant *claimant,
                       const keylatch_key *resource,
                       uint64_t number,
                       uint64_t timeout_ns,
                       const struct keylatch_claim_policy *policy,
                       struct keylatch_claim_answer *answer);

/*
 * As keylatch_claim(), with the answer for the callback.
 *
 * The callback gets it, too, if it is there already.
 *
 * After KEYLATCH_OK it is called once; after an error it is not. free_fn is called once in any
 * case, last.
 *
 * Errors: as keylatch_claim(), without KEYLATCH_ETIMEOUT, which the callback gets; KEYLATCH_ESYSTEM
 * if there is no thread to be had. Threads: any; also from callbacks.
 */
int32_t keylatch_claim_callback_submit(const keylatch_claimant *claimant,
                                       const keylatch_key *resource,
                                       uint64_t number,
                                       uint64_t timeout_ns,
                                       const struct keylatch_claim_policy *policy,
                                       keylatch_claim_callback callback,
                                       void *user_data,
                                       keylatch_free_fn free_fn);

/*
 * Ends the work, with success or failure.
 *
 * succeeded is 1 with a note, or 0 with the reason of the failure, which may be NULL if it has no
 * bytes. A repetition gets the stored answer: KEYLATCH_CLAIM_ENDED with what was completed first,
 * or how the grant was lost. answer may be NULL.
 *
 * Errors: KEYLATCH_ENOTHELD if the fence is not this request's; KEYLATCH_ESESSION, KEYLATCH_ESTALE,
 * KEYLATCH_ECLOSED, KEYLATCH_EFORKED; KEYLATCH_EINVALID for a text beyond 4,096 bytes;
 * KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 */
int32_t keylatch_claim_complete(const keylatch_claimant *claimant,
                                uint64_t number,
                                uint64_t fence,
                                int32_t succeeded,
                                const char *note,
                                size_t note_len,
                                struct keylatch_claim_answer *answer);

/*
 * Reports how far the work is.
 *
 * That is units done, units in all (0 if unknown), and where to look at it, which may be NULL if it
 * has no bytes.
 *
 * Errors: as keylatch_claim_complete(); KEYLATCH_ENOTHELD also if the grant was lost. Threads: any;
 * also from callbacks.
 */
int32_t keylatch_claim_progress(const keylatch_claimant *claimant,
                                uint64_t number,
                                uint64_t fence,
                                uint64_t done,
                                uint64_t total,
                                const char *address,
                                size_t address_len);

/*
 * Lets the lease of a grant begin again with this length.
 *
 * Errors: KEYLATCH_ENOTHELD if the grant was lost or is not this request's; KEYLATCH_ECONFIG for a
 * lease_ns of 0 or beyond an hour; KEYLATCH_ESESSION, KEYLATCH_ESTALE, KEYLATCH_ECLOSED,
 * KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 */
int32_t keylatch_claim_renew(const keylatch_claimant *claimant,
                             uint64_t number,
                             uint64_t fence,
                             uint64_t lease_ns);

/*
 * Gives a request up: its place, or the work that it owns, which then has failed.
 *
 * A request of that number that comes later is answered KEYLATCH_CLAIM_CANCELLED. answer may be
 * NULL.
 *
 * Errors: KEYLATCH_ESESSION, KEYLATCH_ESTALE, KEYLATCH_EOPEN, KEYLATCH_ECLOSED, KEYLATCH_EFORKED,
 * KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 */
int32_t keylatch_claim_cancel(const keylatch_claimant *claimant,
                              uint64_t number,
                              struct keylatch_claim_answer *answer);

/*
 * Ends the owner's grant as a failure.
 *
 * *fence becomes that of the grant, or 0 if the resource has no owner.
 *
 * Writes *fence on success. Errors: KEYLATCH_EKEY, KEYLATCH_ECLOSED, KEYLATCH_EFORKED,
 * KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 */
int32_t keylatch_claim_force_release(const keylatch_claims *claims,
                                     const keylatch_key *resource,
                                     uint64_t *fence);

/*
 * Drops a retained outcome, so that the next request does the work again.
 *
 * *forgotten becomes 1, or 0 if none was retained.
 *
 * Writes *forgotten on success. Errors: KEYLATCH_EKEY, KEYLATCH_ECLOSED, KEYLATCH_EFORKED,
 * KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
 */
int32_t keylatch_claim_forget(const keylatch_claims *claims,
                              const keylatch_key *resource,
                              int32_t *forgotten);

/* ==== CLAIMS IN EVENT LOOPS ======================================================================
 *
 * Answers of claims in a queue, and the numbered events of a resource. Both have a file descriptor
 * that is readable while there is something to fetch: poll it for reading, then fetch until
 * KEYLATCH_EWOULDBLOCK. Neither function waits.
 */

/*
 * The events up to this one are not kept; the event has the state after it.
 *
 * That is owner and fence if the work has an owner, waiting, and succeeded and text if it has an
 * outcome.
 */
#define KEYLATCH_CLAIM_EVENT_RESET 1

/*
 * A request became the owner: owner, fence, attempt.
 *
 * number is its claimant's number for it.
 */
#define KEYLATCH_CLAIM_EVENT_GRANTED 2

/*
 * An attempt failed: fence; text is the reason.
 *
 * number is that of the request that owns the work now, or 0.
 */
#define KEYLATCH_CLAIM_EVENT_FAILED 3

/* The work has an outcome: fence, attempt, succeeded, text. */
#define KEYLATCH_CLAIM_EVENT_DONE 4

/* The owner reported how far it is: fence, done, total; text is the address. */
#define KEYLATCH_CLAIM_EVENT_PROGRESS 5

/* The outcome is no longer retained. */
#define KEYLATCH_CLAIM_EVENT_FORGOTTEN 6

/*
 * Answers of claims: keylatch_claim_queue_new() makes it.
 *
 * Freed by keylatch_claim_queue_free().
 */
typedef struct keylatch_claim_queue keylatch_claim_queue;

/*
 * A subscription to a resource: keylatch_claim_watch_new() makes it.
 *
 * Freed by keylatch_claim_watch_free().
 */
typedef struct keylatch_claim_watch keylatch_claim_watch;

/*
 * One event of a resource.
 *
 * sequence counts without gaps; after a reset it goes on with the next one. owner and text are the
 * caller's, to be freed with keylatch_text_free(), and NULL where there is none.
 */
typedef struct keylatch_claim_event {
  /* sizeof(keylatch_claim_event) */
  size_t struct_size;
  char *owner;
  char *text;
  uint64_t epoch;
  uint64_t sequence;
  uint64_t number;
  uint64_t fence;
  uint64_t done;
  uint64_t total;
  uint64_t waiting;
  /* KEYLATCH_CLAIM_EVENT_... */
  int32_t kind;
  int32_t succeeded;
  uint32_t attempt;
  /* 1 if the work has an outcome. For a reset. */
  uint32_t has_outcome;
} keylatch_claim_event;

/* For a keylatch_claim_event: its size, and zeros. */
#define KEYLATCH_CLAIM_EVENT_INIT \
    { sizeof(keylatch_claim_event), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/*
 * Makes a queue for the answers of claims. Takes two file descriptors.
 *
 * Writes *queue on success; it is the caller's, to be freed with keylatch_claim_queue_free().
 * Errors: KEYLATCH_ESYSTEM if there are no descriptors; KEYLATCH_ECLOSED, KEYLATCH_EFORKED,
 * KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
 */
int32_t keylatch_claim_queue_new(const keylatch_claims *claims,
                                 struct keylatch_claim_queue **queue);

/*
 * Frees a queue.
 *
 * Answers that were not fetched are dropped; the requests stay as they are. NULL is fine and does
 * nothing.
 *
 * Errors: KEYLATCH_EHANDLE; KEYLATCH_EFORKED in a forked child. Threads: any.
 */
int32_t keylatch_claim_queue_free(struct keylatch_claim_queue *queue);

/*
 * Gets the descriptor that is readable while answers lie in the queue.
 *
 * It is the queue's: poll it, do not read or close it.
 *
 * Writes *fd on success. Errors: KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
 */
int32_t keylatch_claim_queue_fd(const struct keylatch_claim_queue *queue, int32_t *fd);

/*
 * As keylatch_claim(), with the answer in a queue of the same claims.
 *
 * It comes under this token, also if there is an answer already.
 *
 * Errors: as keylatch_claim(), without KEYLATCH_ETIMEOUT, which arrives in the queue;
 * KEYLATCH_ECONFIG for a queue of other claims; nothing arrives then. Threads: any; also from
 * callbacks.
 */
int32_t keylatch_claim_queue_submit(const keylatch_claimant *claimant,
                                    const keylatch_key *resource,
                                    uint64_t number,
                                    uint64_t timeout_ns,
                                    const keylatch_claim_policy *policy,
                                    const struct keylatch_claim_queue *queue,
                                    uint64_t token);

/*
 * Fetches the oldest answer, without waiting.
 *
 * It consists of a token, a status, and the answer if the status is KEYLATCH_OK.
 *
 * Set answer->struct_size first. Writes *token and *status on success, and the rest of answer if
 * the status is KEYLATCH_OK. Errors: KEYLATCH_EWOULDBLOCK if nothing is there; KEYLATCH_EFORKED,
 * KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; each answer is fetched by one.
 */
int32_t keylatch_claim_queue_next(const struct keylatch_claim_queue *queue,
                                  uint64_t *token,
                                  int32_t *status,
                                  keylatch_claim_answer *answer);

/*
 * Subscribes to the events of a resource after the one given.
 *
 * That is the one of this epoch and sequence; with both 0 they begin with a reset.
 *
 * Writes *watch on success; it is the caller's, to be freed with keylatch_claim_watch_free().
 * Errors: KEYLATCH_EKEY, KEYLATCH_ECLOSED, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID,
 * KEYLATCH_EHANDLE. Threads: any.
 */
int32_t keylatch_claim_watch_new(const keylatch_claims *claims,
                                 const keylatch_key *resource,
                                 uint64_t epoch,
                                 uint64_t sequence,
                                 struct keylatch_claim_watch **watch);

/*
 * Ends a subscription and frees it. NULL is fine and does nothing.
 *
 * Errors: KEYLATCH_EHANDLE; KEYLATCH_EFORKED in a forked child. Threads: any.
 */
int32_t keylatch_claim_watch_free(struct keylatch_claim_watch *watch);

/*
 * Gets a descriptor that is readable when there may be an event.
 *
 * It is the subscription's: poll it, do not read or close it. Takes two file descriptors when it is
 * called first.
 *
 * Writes *fd on success. Errors: KEYLATCH_ESYSTEM if there are no descriptors; KEYLATCH_EFORKED,
 * KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
 */
int32_t keylatch_claim_watch_fd(const struct keylatch_claim_watch *watch,
                                int32_t *fd);

/*
 * Fetches the next event, without waiting.
 *
 * Set event->struct_size first; the rest is written on success. Errors: KEYLATCH_EWOULDBLOCK if
 * nothing is there; KEYLATCH_ECLOSED, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_ESTRUCT,
 * KEYLATCH_EHANDLE. Threads: any; each event is fetched by one.
 */
int32_t keylatch_claim_watch_next(const struct keylatch_claim_watch *watch,
                                  struct keylatch_claim_event *event);

/* ==== FOR CONVENIENCE ============================================================================
 *
 * Keys from texts that end with a NUL.
 */

/* An object, without a version. */
static inline keylatch_key keylatch_key_of(const char *bucket, const char *object)
{
    keylatch_key key;
    key.version = NULL;
    key.version_len = 0;
    key.bucket = bucket;
    key.bucket_len = strlen(bucket);
    key.object = object;
    key.object_len = strlen(object);
    return key;
}

/* One version of an object. */
static inline keylatch_key keylatch_key_of_version(const char *bucket, const char *object, const char *version)
{
    keylatch_key key = keylatch_key_of(bucket, object);
    key.version = version;
    key.version_len = strlen(version);
    return key;
}

#ifdef __cplusplus
}
#endif

#endif /* KEYLATCH_H */
