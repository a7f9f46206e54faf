//! Keys without holders cost nothing. Each measurement runs in a process of its own, so that it sees only itself.
// What a sanitizer takes for itself would be measured too.
#![cfg(all(target_os = "linux", not(any(asan, tsan))))]

#[path = "it/steps/mod.rs"]
mod steps;

use keylatch::{FastObjectLockManager, LockRequest, Mode};
use std::process::Command;
use steps::*;

const MIB: u64 = 1 << 20;

/// Returns bytes of memory that the process really uses.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Runs the test of this name again, alone in a new process, where `work` is done.
fn alone(test: &str, work: impl FnOnce()) {
    const ALONE: &str = "KEYLATCH_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return work();
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.args(["--exact", test, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn names(count: u32, prefix: &str) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}/{n:09}")).collect()
}

#[test]
fn million_held_locks_leave_nothing() {
    alone("million_held_locks_leave_nothing", || {
        let names = names(1_000_000, "bucket/of/an/object/of/usual/length");
        let locks = FastObjectLockManager::new();
        // Touched before the measurement begins, so that only the manager's memory is in it.
        let mut held = Vec::with_capacity(names.len());
        drop(locks.try_acquire_write_lock("b", "warm", "x").unwrap());
        let before = resident();
        for (n, name) in names.iter().enumerate() {
            let mode = if n % 2 == 0 { Mode::Shared } else { Mode::Exclusive };
            held.push(locks.lock(LockRequest::new(("b", name), mode)).try_now().unwrap());
        }
        let while_held = locks.get_metrics();
        assert_eq!(
            (while_held.shard_metrics.holders, while_held.shard_metrics.entries >= 1_000_000),
            (1_000_000, true)
        );
        held.clear();
        drop(held);
        let left = resident().saturating_sub(before);
        assert!(left <= 32 * MIB, "{} MiB are left", left / MIB);
        assert_at_rest(&locks);
        let after = locks.get_metrics();
        assert!(
            after.bytes < 32 * MIB && after.bytes < while_held.bytes / 4,
            "{} of {}",
            after.bytes,
            while_held.bytes
        );
    });
}

#[test]
fn a_million_keys_in_turn_leave_nothing_behind() {
    alone("a_million_keys_in_turn_leave_nothing_behind", || {
        let locks = FastObjectLockManager::new();
        drop(locks.try_acquire_write_lock("b", "warm", "x").unwrap());
        let before = resident();
        for n in 0..1_000_000_u32 {
            drop(locks.try_acquire_write_lock("b", &n.to_le_bytes(), "x").unwrap());
        }
        let left = resident().saturating_sub(before);
        assert!(left <= 8 * MIB, "{} KiB are left", left / 1024);
        assert_at_rest(&locks);
    });
}

#[test]
fn long_keys_are_given_back() {
    alone("long_keys_are_given_back", || {
        let locks = FastObjectLockManager::new();
        let mut name = vec![b'k'; 4096];
        let mut before = 0;
        for round in 0..200_000_u32 {
            name[..4].copy_from_slice(&round.to_le_bytes());
            drop(locks.try_acquire_write_lock("b", &name, "x").unwrap());
            if round == 20_000 {
                before = resident();
            }
        }
        let left = resident().saturating_sub(before);
        assert!(left <= 4 * MIB, "{} KiB more after the first round", left / 1024);
        // Warm keys may be long ones: four a shard at most.
        assert!(locks.get_metrics().bytes <= 1024 * 4 * 8192 + 8 * MIB, "{}", locks.get_metrics().bytes);
        assert_at_rest(&locks);
    });
}

#[test]
fn second_flood_of_waiters_needs_no_memory() {
    alone("second_flood_of_waiters_needs_no_memory", || {
        let locks = FastObjectLockManager::new();
        let flood = || {
            let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
            let mut line: Vec<_> =
                (0..100_000).map(|_| ByHand::waiting(locks.acquire_read_lock("b", "o", "w"))).collect();
            drop(held);
            line.iter_mut().for_each(|waiter| drop(waiter.after_wakes().unwrap()));
        };
        flood();
        let before = resident();
        (0..4).for_each(|_| flood());
        let left = resident().saturating_sub(before);
        assert!(left <= 16 * MIB, "{} KiB more after the first flood", left / 1024);
        assert_at_rest(&locks);
    });
}

#[test]
fn owner_names_do_not_pile_up() {
    alone("owner_names_do_not_pile_up", || {
        let locks = FastObjectLockManager::new();
        let _held = locks.acquire_write_lock_blocking("b", "held", "a name in use").unwrap();
        let mut before = 0;
        for n in 0..400_000 {
            let name = format!("owner of a request, number {n}");
            drop(locks.acquire_write_lock_blocking("b", "o", &name).unwrap());
            if n == 100_000 {
                before = resident();
            }
        }
        let left = resident().saturating_sub(before);
        assert!(left <= 8 * MIB, "{} KiB more for 300,000 names", left / 1024);
        let refused = locks.try_acquire_read_lock("b", "held", "x").unwrap_err();
        assert!(refused.to_string().contains("a name in use"), "{refused}");
        let last = locks.acquire_write_lock_blocking("b", "o", "the last owner").unwrap();
        let refused = locks.try_acquire_read_lock("b", "o", "x").unwrap_err();
        assert!(refused.to_string().contains("the last owner"), "{refused}");
        drop(last);
    });
}

/// Names made for good fill the table of names; requests go on without one.
#[test]
fn request_works_without_room_for_name() {
    alone("request_works_without_room_for_name", || {
        let locks = FastObjectLockManager::new();
        let before = resident();
        let kept: Vec<_> = (0..65_536).map(|n| locks.owner(&format!("kept {n}"))).collect();
        let held = locks.acquire_write_lock_blocking("b", "o", kept[65_000]).unwrap();
        for n in 0..4000 {
            let name = format!("one name too many, {n}");
            assert!(locks.try_acquire_read_lock("b", "o", &name).is_err());
            drop(locks.try_acquire_read_lock("b", "free", &name).unwrap());
        }
        let refused = locks.try_acquire_read_lock("b", "o", "x").unwrap_err();
        assert!(refused.to_string().contains("kept 65000"), "{refused}");
        drop(held);
        assert!(resident().saturating_sub(before) <= 64 * MIB);
        assert_at_rest(&locks);
    });
}

#[test]
fn dropped_managers_give_memory_back() {
    alone("dropped_managers_give_memory_back", || {
        let round = || {
            let locks = FastObjectLockManager::new();
            let names = names(1000, "o");
            let held: Vec<_> = names.iter().map(|name| locks.try_acquire_read_lock("b", name, "x").unwrap()).collect();
            drop(held);
        };
        (0..20).for_each(|_| round());
        let before = resident();
        (0..200).for_each(|_| round());
        let left = resident().saturating_sub(before);
        assert!(left <= 4 * MIB, "{} KiB are left by 200 managers", left / 1024);
    });
}
