//! Who may hold a key together with whom, what one key is, and how many may share it.

use crate::steps::*;
use keylatch::{FastObjectLockManager, KeyRef, LockError, LockRequest, Mode, ObjectKey};
use std::collections::HashSet;

const MODES: [Mode; 2] = [Mode::Shared, Mode::Exclusive];

#[test]
fn two_holders_go_together_only_when_both_share() {
    let locks = FastObjectLockManager::new();
    for first in MODES {
        for second in MODES {
            let held = locks.lock(LockRequest::new(("b", "o"), first).owner("first")).try_now().unwrap();
            assert_eq!(held.mode(), first);
            assert_eq!(held.key(), ObjectKey::new("b", "o"));
            let answer = locks.lock(LockRequest::new(("b", "o"), second).owner("second")).try_now();
            match answer {
                Ok(guard) => {
                    assert!(first.goes_with(second), "{first} let {second} in");
                    assert_eq!(guard.mode(), second);
                }
                Err(LockError::WouldBlock { key, holders }) => {
                    assert!(!first.goes_with(second), "{first} kept {second} out");
                    assert_eq!(key, ObjectKey::new("b", "o"));
                    assert_eq!(holders.named.len(), 1);
                    assert_eq!((&*holders.named[0].owner, holders.named[0].mode), ("first", first));
                }
                Err(other) => panic!("{other:?}"),
            }
            drop(held);
        }
    }
    assert_at_rest(&locks);
}

#[test]
fn every_front_door_opens_the_same_lock() {
    let locks = FastObjectLockManager::new();
    let refused = |answer: Result<_, LockError>| match answer {
        Err(error @ LockError::WouldBlock { .. }) => assert!(error.is_transient()),
        Err(other) => panic!("{other:?}"),
        Ok::<keylatch::FastLockGuard<'_>, _>(_) => panic!("two writers"),
    };
    let held = locks.acquire_write_lock_blocking("b", "o", "x").unwrap();
    refused(locks.try_acquire_write_lock("b", "o", "y"));
    refused(locks.try_acquire_read_lock("b", "o", "y"));
    drop(held);
    let held = locks.acquire_write_lock_versioned_blocking("b", "o", "v", "x").unwrap();
    refused(locks.try_acquire_write_lock_versioned("b", "o", "v", "y"));
    refused(locks.try_acquire_read_lock_versioned("b", "o", "v", "y"));
    drop(held);
    let held = locks.acquire_read_lock_versioned_blocking("b", "o", "v", "x").unwrap();
    drop(locks.try_acquire_read_lock_versioned("b", "o", "v", "y").unwrap());
    refused(locks.try_acquire_write_lock_versioned("b", "o", "v", "y"));
    drop(held);
    let held = ByHand::new(locks.acquire_read_lock("b", "o", "x")).ready().unwrap();
    drop(locks.acquire_read_lock_blocking("b", "o", "y").unwrap());
    refused(locks.try_acquire_write_lock("b", "o", "y"));
    drop(held);
    let held = ByHand::new(locks.acquire_write_lock_versioned("b", "o", "v", "x")).ready().unwrap();
    let mut second = ByHand::waiting(locks.acquire_read_lock_versioned("b", "o", "v", "x"));
    drop(held);
    drop(second.ready().unwrap());
    assert_at_rest(&locks);
}

#[test]
fn a_version_is_a_key_of_its_own() {
    let locks = FastObjectLockManager::new();
    let latest = locks.try_acquire_write_lock("b", "o", "x").unwrap();
    let empty = locks.try_acquire_write_lock_versioned("b", "o", "", "x").unwrap();
    let first = locks.try_acquire_write_lock_versioned("b", "o", "v1", "x").unwrap();
    let second = locks.try_acquire_write_lock_versioned("b", "o", "v2", "x").unwrap();
    assert_eq!(latest.key().version(), None);
    assert_eq!(empty.key().version(), Some(&b""[..]));
    assert_eq!(first.key(), ObjectKey::new("b", "o").with_version("v1"));
    assert!(locks.try_acquire_read_lock_versioned("b", "o", "v1", "y").is_err());
    drop(first);
    assert!(locks.try_acquire_read_lock_versioned("b", "o", "v1", "y").is_ok());
    assert!(locks.try_acquire_read_lock("b", "o", "y").is_err());
    drop((latest, empty, second));
    assert_at_rest(&locks);
}

/// Keys, all different, that a careless comparison would mix up.
fn strange_keys() -> Vec<ObjectKey> {
    let long = vec![b'k'; 2048];
    let mut keys = vec![
        ObjectKey::new("a/b", "c"),
        ObjectKey::new("a", "b/c"),
        ObjectKey::new("a", "b").with_version("c"),
        ObjectKey::new("a/b/c", ""),
        ObjectKey::new("", "a/b/c"),
        ObjectKey::new("", ""),
        ObjectKey::new("", "").with_version(""),
        ObjectKey::new("", "").with_version("\0"),
        ObjectKey::new("", "\0"),
        ObjectKey::new("\0", ""),
        ObjectKey::new("\0", "\0"),
        ObjectKey::new("a\0", "b"),
        ObjectKey::new("a", "\0b"),
        ObjectKey::new("a", "b"),
        ObjectKey::new("ab", ""),
        ObjectKey::new("a\0\0\0\0\0\0\0", "b"),
        ObjectKey::new(b"\xff", b"\xfe\x80"),
        ObjectKey::new(b"\xff\xfe", b"\x80"),
        ObjectKey::new("\u{fffd}", "\u{fffd}"),
        ObjectKey::new(&long, &long),
        ObjectKey::new(&long, &long).with_version(""),
        ObjectKey::new(&long, &long[1..]).with_version("k"),
        ObjectKey::new(&long[1..], &long).with_version("k"),
    ];
    // One byte apart, in each position of a key that spans several words and blocks, and in length.
    for position in 0..200 {
        let mut name = [b'x'; 200];
        name[position] = b'y';
        keys.push(ObjectKey::new("near", name));
    }
    keys.extend((0..200).map(|length| ObjectKey::new("near", vec![b'x'; length])));
    keys.extend((2..=4096).step_by(117).map(|length| ObjectKey::new("", vec![0; length])));
    keys
}

#[test]
fn only_equal_keys_exclude_each_other() {
    let locks = FastObjectLockManager::new();
    let keys = strange_keys();
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len(), "the test's own keys differ");
    let held: Vec<_> = keys
        .iter()
        .map(|key| locks.lock(LockRequest::write(key)).try_now().unwrap_or_else(|error| panic!("{error}")))
        .collect();
    for (key, guard) in keys.iter().zip(&held) {
        assert_eq!(guard.key(), *key, "the key comes back as it went in");
        let again = KeyRef::from(key);
        assert!(matches!(locks.lock(LockRequest::read(again)).try_now(), Err(LockError::WouldBlock { .. })));
    }
    drop(held);
    assert_at_rest(&locks);
}

#[test]
fn keys_are_compared_by_bytes() {
    let locks = FastObjectLockManager::new();
    let text = b"xxbucketobjectversionxx".to_vec();
    let held = locks.try_acquire_write_lock_versioned("bucket", "object", "version", "a").unwrap();
    let same = KeyRef::new(&text[2..8], &text[8..14]).with_version(&text[14..21]);
    assert!(locks.lock(LockRequest::write(same)).try_now().is_err());
    drop(held);
    assert!(locks.lock(LockRequest::write(same)).try_now().is_ok());
}

#[test]
fn readers_beyond_65_535_share_like_others() {
    let locks = with(keylatch::LockConfig { shards: 1, ..Default::default() });
    let reader = || locks.lock(LockRequest::read(("b", "popular")).owner("reader"));
    let count = 70_000;
    let readers: Vec<_> = (0..count).map(|_| reader().try_now().unwrap()).collect();
    assert_eq!(locks.get_metrics().shard_metrics.holders, count);
    assert!(locks.try_acquire_write_lock("b", "popular", "w").is_err());
    let late = locks.lock(LockRequest::write(("b", "popular")).timeout(std::time::Duration::from_millis(1))).blocking();
    match late {
        Err(LockError::Timeout { holders, .. }) => {
            assert_eq!(holders.named.len() as u64 + u64::from(holders.more), count);
        }
        other => panic!("{other:?}"),
    }
    let mut writer = ByHand::waiting(locks.acquire_write_lock("b", "popular", "writer"));
    drop(readers);
    drop(writer.after_wakes().unwrap());
    drop(writer);
    assert_at_rest(&locks);
}
