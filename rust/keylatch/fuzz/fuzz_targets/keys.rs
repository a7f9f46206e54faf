//! Any bytes as keys: what goes in comes out, equal keys are one lock, and different keys are two.

#![no_main]

use keylatch::{FastObjectLockManager, KeyRef, LockConfig, LockError, LockRequest, Mode, ObjectKey};
use libfuzzer_sys::fuzz_target;
use std::collections::{BTreeSet, HashSet};
use std::sync::LazyLock;

/// One shard, so that every key meets every other one in its chains.
static LOCKS: LazyLock<FastObjectLockManager> = LazyLock::new(|| {
    let config = LockConfig { shards: 1, max_key_bytes: 4096, ..LockConfig::default() };
    FastObjectLockManager::with_config(config).expect("these settings are fine")
});

/// Takes a key from the front of the bytes; repeats parts to make long ones.
fn key(bytes: &mut &[u8]) -> Option<ObjectKey> {
    let (&[shape, bucket, object, version, times], rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    let mut part = |length: u8| {
        let (part, rest) = bytes.split_at(usize::from(length % 32).min(bytes.len()));
        *bytes = rest;
        part
    };
    let (bucket, object, version) = (part(bucket), part(object).repeat(usize::from(times) + 1), part(version));
    let key = ObjectKey::new(bucket, object);
    Some(if shape % 2 == 0 { key } else { key.with_version(version) })
}

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let keys: Vec<ObjectKey> = std::iter::from_fn(|| key(&mut rest)).take(40).collect();
    let hashed: HashSet<&ObjectKey> = keys.iter().collect();
    let sorted: BTreeSet<KeyRef<'_>> = keys.iter().map(ObjectKey::as_ref).collect();
    assert_eq!(hashed.len(), sorted.len(), "equality, order and hash do not go together");

    let mut held = Vec::new();
    for key in &keys {
        let reference = key.as_ref();
        assert_eq!((reference.to_owned(), key.to_string()), (key.clone(), reference.to_string()));
        let again = held.iter().any(|(other, _)| *other == key);
        match LOCKS.lock(LockRequest::new(reference, Mode::Exclusive)).try_now() {
            Ok(guard) => {
                assert!(!again, "{key:?} is held twice");
                assert_eq!(guard.key(), *key);
                held.push((key, guard));
            }
            Err(LockError::WouldBlock { key: named, .. }) => assert!(again && named == *key, "{key:?} was free"),
            Err(LockError::InvalidKey { bytes, limit }) => assert!(bytes == reference.byte_len() && bytes > limit),
            Err(other) => panic!("{key:?}: {other}"),
        }
    }
    drop(held);
    let figures = LOCKS.get_metrics().shard_metrics;
    assert_eq!(figures.holders, 0);
    assert!(figures.entries <= 4, "{} idle keys stay", figures.entries);
});
