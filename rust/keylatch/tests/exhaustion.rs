//! What happens when there is no memory, no thread, no descriptor or no address space to be had: a clear error, and
//! nothing is lost. Each case runs in a process of its own.
// A sanitizer needs memory and address space of its own.
#![cfg(all(target_os = "linux", not(any(asan, tsan))))]

#[path = "it/steps/mod.rs"]
mod steps;

use keylatch::{FastObjectLockManager, LockConfig, LockError, LockRequest, ObjectLocks};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::time::Duration;
use steps::*;

/// Tells a child what to be short of.
const CASE: &str = "KEYLATCH_SHORT_OF";

/// Memory that runs out: the n-th allocation of a thread that asked for it fails.
struct RunsOut;

thread_local! {
    static UNTIL_IT_FAILS: Cell<usize> = const { Cell::new(0) };
}

fn fails() -> bool {
    let count_down = |left: &Cell<usize>| {
        let now = left.get();
        left.set(now.saturating_sub(1));
        now == 1
    };
    UNTIL_IT_FAILS.try_with(count_down).unwrap_or(false)
}

// SAFETY: the system's allocator, which may say that there is no memory.
unsafe impl GlobalAlloc for RunsOut {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the system allocator's.
        if fails() { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(address, layout) }
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        if fails() { std::ptr::null_mut() } else { unsafe { System.realloc(address, layout, size) } }
    }
}

#[global_allocator]
static MEMORY: RunsOut = RunsOut;

/// Runs `act` with its n-th allocation failing: its result, if it came to that.
///
/// Returns what it did, and whether it came to that.
fn short_of_memory<T>(n: usize, act: impl FnOnce() -> T) -> (T, bool) {
    UNTIL_IT_FAILS.set(n);
    let done = act();
    let came_to_it = UNTIL_IT_FAILS.replace(0) == 0;
    (done, came_to_it)
}

/// Returns the number that a child is to use; `None` in the parent.
fn case() -> Option<usize> {
    std::env::var(CASE).ok().map(|case| case.parse().expect("a number"))
}

/// Runs a test of this file again, as a child with this number.
fn child(test: &str, case: usize) -> Output {
    let program = std::env::current_exe().expect("a test knows itself");
    let mut command = Command::new(program);
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CASE, case.to_string());
    command.env("RUST_BACKTRACE", "0").output().expect("a child process")
}

/// That a child did what it should; its complaint otherwise.
fn assert_fine(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}{}", output.status, String::from_utf8_lossy(&output.stdout));
}

/// That an idle manager has lost nothing, and works.
fn assert_intact(locks: &FastObjectLockManager) {
    let metrics = locks.get_metrics().shard_metrics;
    assert_eq!((metrics.holders, metrics.waiters), (0, 0));
    for key in ["b", "o", "new"] {
        drop(locks.try_acquire_write_lock("b", key, "after").expect("free, and there is memory again"));
    }
}

/// Whether what a child ended with is how Rust ends a program without memory.
fn was_ended_by_rust(output: &Output) -> bool {
    output.status.signal() == Some(6) && String::from_utf8_lossy(&output.stderr).contains("memory allocation of")
}

const ENOUGH: i32 = 77;

/// Ends a child in which fewer allocations are made.
fn end_if(enough: bool) {
    if enough {
        std::process::exit(ENOUGH);
    }
}

/// Runs a test's children, each with a later allocation failing, until none fails.
///
/// Returns how many went on, and how many Rust ended.
fn each_allocation(test: &str) -> (usize, usize) {
    let (mut went_on, mut ended) = (0, 0);
    for n in 1..200 {
        let output = child(test, n);
        match output.status.code() {
            Some(ENOUGH) => {
                eprintln!("{test}: of {} allocations {went_on} may fail; Rust ends the program at {ended}", n - 1);
                return (went_on, ended);
            }
            None if was_ended_by_rust(&output) => ended += 1,
            _ => {
                assert_fine(&output);
                went_on += 1;
            }
        }
    }
    panic!("{test} never has enough");
}

#[test]
fn no_memory_for_another_waiter_is_said_so() {
    let Some(n) = case() else {
        let (went_on, ended) = each_allocation("no_memory_for_another_waiter_is_said_so");
        assert!(went_on >= 2 && ended == 0, "{went_on} {ended}");
        return;
    };
    let locks = FastObjectLockManager::new();
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            // So that the thread is known; to parking_lot too, which makes what it needs of memory when a thread waits for
            // a mutex for the first time, and cannot say that there is none.
            drop(locks.acquire_write_lock_blocking("b", "other", "waiter").unwrap());
            let mutex = parking_lot::Mutex::new(());
            let locked = mutex.lock();
            assert!(mutex.try_lock_for(Duration::from_millis(1)).is_none(), "it waited");
            drop(locked);
            short_of_memory(n, || locks.acquire_write_lock_blocking("b", "o", "waiter").map(drop))
        });
        until("an answer or a wait", || waiter.is_finished() || locks.get_metrics().shard_metrics.waiters == 1);
        drop(held);
        let (answer, came_to_it) = waiter.join().unwrap();
        assert!(matches!(answer, Ok(()) | Err(LockError::TooManyWaiters { .. })), "{answer:?}");
        assert!(answer.is_ok() || came_to_it);
        end_if(!came_to_it);
    });
    assert_intact(&locks);
}

#[test]
fn no_memory_for_more_keys_is_said_so() {
    let Some(n) = case() else {
        let (went_on, ended) = each_allocation("no_memory_for_more_keys_is_said_so");
        assert!(went_on >= 2 && ended == 0, "{went_on} {ended}");
        return;
    };
    let locks = FastObjectLockManager::new();
    let names: Vec<String> = (0..20_000).map(|number| format!("key {number}")).collect();
    let mut guards = Vec::with_capacity(names.len());
    drop(locks.acquire_write_lock_blocking("b", "o", "me").unwrap());
    let (refused, came_to_it) = short_of_memory(n, || {
        let mut refused = 0;
        for name in &names {
            match locks.acquire_write_lock_blocking("b", name.as_str(), "me") {
                Ok(guard) => guards.push(guard),
                Err(LockError::TableFull { .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        refused
    });
    end_if(!came_to_it);
    assert!(refused <= 1, "{refused}: there was memory again");
    assert_eq!(guards.len() + refused, names.len());
    drop(guards);
    assert_intact(&locks);
}

/// As `each_allocation`, where it is no matter which is which.
fn each_is_survived_or_ends(test: &str) {
    let (went_on, ended) = each_allocation(test);
    assert!(went_on + ended > 0, "{test} needs no memory");
}

/// Uses that need memory for their result, or for a thread.
///
/// There Rust ends the program, as it does everywhere. There must not be a lock that stays taken, a wait without end,
/// or a wrong answer.
fn anything(n: usize, act: impl FnOnce(&FastObjectLockManager)) {
    let locks = FastObjectLockManager::new();
    let ((), came_to_it) = short_of_memory(n, || act(&locks));
    end_if(!came_to_it);
    assert_intact(&locks);
}

#[test]
fn a_manager_is_made_or_is_not() {
    let Some(n) = case() else { return each_is_survived_or_ends("a_manager_is_made_or_is_not") };
    let (locks, came_to_it) = short_of_memory(n, FastObjectLockManager::new);
    end_if(!came_to_it);
    assert_intact(&locks);
}

#[test]
fn first_lock_of_thread_fits_or_fails() {
    let Some(n) = case() else {
        return each_is_survived_or_ends("first_lock_of_thread_fits_or_fails");
    };
    anything(n, |locks| drop(locks.acquire_write_lock_blocking("b", "o", "a new name")));
}

#[test]
fn batch_session_refusal_fit_or_fail() {
    let Some(n) = case() else { return each_is_survived_or_ends("batch_session_refusal_fit_or_fail") };
    anything(n, |locks| {
        let session = locks.session("session");
        let batch = keylatch::BatchLockRequest::new("x").add_write_lock("b", "o").add_read_lock("b", "p");
        let held = locks.acquire_locks_batch_blocking(batch);
        let refused = locks.lock(LockRequest::write(("b", "o")).owner(&session)).try_now();
        assert!(refused.is_err() || held.is_err());
    });
}

#[test]
fn a_callback_that_waits_is_called_or_is_not() {
    let Some(n) = case() else { return each_is_survived_or_ends("a_callback_that_waits_is_called_or_is_not") };
    anything(n, |locks| {
        let (answer, answered) = std::sync::mpsc::channel();
        let held = locks.acquire_write_lock_blocking("b", "o", "me").unwrap();
        let asked = locks.lock(LockRequest::write(("b", "o"))).with_callback(move |guard| {
            let granted = guard.map(drop).is_ok();
            answer.send(granted).expect("a receiver listens");
        });
        drop(held);
        if asked.is_ok() {
            assert!(answered.recv().expect("called"));
        }
    });
}

/// Sets a limit of this process, which gives up the rights of a superuser.
///
/// For the superuser most limits do not hold.
fn limit(resource: libc::__rlimit_resource_t, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: plain calls about this process, which is a child that runs one test.
    unsafe {
        if libc::geteuid() == 0 {
            assert_eq!(libc::setuid(65_534), 0);
        }
        assert_eq!(libc::setrlimit(resource, &limit), 0);
    }
}

#[test]
fn no_thread_for_callbacks_and_times_is_said_so() {
    if case().is_none() {
        return assert_fine(&child("no_thread_for_callbacks_and_times_is_said_so", 0));
    }
    let locks = FastObjectLockManager::new();
    let held = locks.lock(LockRequest::write(("b", "o")).ttl(Duration::from_secs(3600))).blocking().unwrap();
    limit(libc::RLIMIT_NPROC, 0);
    assert!(std::thread::Builder::new().spawn(|| ()).is_err(), "there are threads to be had");

    let refused = locks.lock(LockRequest::write(("b", "o"))).with_callback(|_| panic!("it was refused")).unwrap_err();
    assert!(refused.to_string().contains("no thread"), "{refused}");
    // A future without a timer gives up immediately, for its own time or for the lease in its way.
    let limited = LockRequest::write(("b", "o")).timeout(Duration::from_secs(3600));
    for request in [limited, LockRequest::write(("b", "o"))] {
        let answer = ByHand::new(locks.lock(request)).ready().map(drop);
        assert!(matches!(answer, Err(LockError::Timeout { .. })), "{answer:?}");
    }
    // So it is with the manager that has a thread for each.
    let global = keylatch::GlobalLockManager::new();
    let in_the_way = global.try_acquire(&limited).unwrap();
    let answer = ByHand::new(global.acquire(limited)).ready();
    assert!(matches!(answer, Err(LockError::Timeout { .. })), "{answer:?}");
    global.release(in_the_way).unwrap();
    global.release(global.try_acquire(&limited).expect("the line is empty")).unwrap();
    // A thread keeps its own time.
    let short = LockRequest::write(("b", "o")).timeout(Duration::from_millis(5));
    assert!(matches!(locks.lock(short).blocking().map(drop), Err(LockError::Timeout { .. })));
    drop(held);
    assert_intact(&locks);
    locks.close();
}

#[test]
fn no_descriptor_for_a_queue_is_said_so() {
    if case().is_none() {
        return assert_fine(&child("no_descriptor_for_a_queue_is_said_so", 0));
    }
    let locks = FastObjectLockManager::new();
    let held = locks.acquire_write_lock_blocking("b", "o", "me").unwrap();
    limit(libc::RLIMIT_NOFILE, 0);
    let refused = locks.completion_queue().map(drop).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EMFILE));
    // Nothing else needs one, not even a manager.
    let (answer, answered) = std::sync::mpsc::channel();
    let asked = locks.lock(LockRequest::write(("b", "o"))).with_callback(move |guard| {
        let granted = guard.map(drop).is_ok();
        answer.send(granted).expect("a receiver listens");
    });
    assert!(asked.unwrap().ticket().is_some());
    drop(held);
    assert!(answered.recv().unwrap());
    assert_intact(&locks);
    assert_intact(&FastObjectLockManager::new());
}

#[test]
fn no_address_space_for_a_manager_is_said_so() {
    if case().is_none() {
        return assert_fine(&child("no_address_space_for_a_manager_is_said_so", 0));
    }
    let before = FastObjectLockManager::new();
    let most = LockConfig { max_locks: 1 << 25, ..LockConfig::default() };
    drop(FastObjectLockManager::with_config(most.clone()).expect("there is room"));
    limit(libc::RLIMIT_AS, 5 << 29);
    let refused = FastObjectLockManager::with_config(most).map(drop).unwrap_err();
    let LockError::InvalidConfig { setting, problem } = refused else { panic!("{refused}") };
    assert_eq!(setting, "max_locks");
    assert!(problem.contains("address space") && problem.contains("lower"), "{problem}");
    // Set lower, as it says.
    let less = LockConfig { max_locks: 1 << 12, ..LockConfig::default() };
    assert_intact(&FastObjectLockManager::with_config(less).expect("room for a small one"));
    assert_intact(&before);
}
