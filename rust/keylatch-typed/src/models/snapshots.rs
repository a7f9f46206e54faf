//! Snapshots: freshness, updates that are not lost, and waits that end.

use super::{check, poll_once};
use crate::snapshot::coalesce::Coalescer;
use crate::sync::block_on;
use crate::{Snapshot, SnapshotClosed};
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use std::sync::Arc;

/// Would catch: a load that misses a publish which happened before it.
#[test]
fn load_sees_an_earlier_publish() {
    check(|| {
        let snapshot = Snapshot::new(1_u64);
        let mut reader = snapshot.reader();
        let published = Arc::new(AtomicBool::new(false));
        let other = {
            let published = Arc::clone(&published);
            thread::spawn(move || {
                snapshot.publish(2);
                published.store(true, Ordering::Release);
            })
        };
        let is_published = published.load(Ordering::Acquire);
        let value = **reader.load();
        assert!(value == 2 || !is_published);
        assert_eq!(value, reader.version());
        other.join().unwrap();
        assert_eq!(**reader.load(), 2);
    });
}

/// Would catch: a version published before its value, or values that go back.
#[test]
fn versions_belong_to_values() {
    check(|| {
        let snapshot = Snapshot::new(1_u64);
        let mut reader = snapshot.reader();
        let other = {
            let snapshot = snapshot.clone();
            thread::spawn(move || {
                snapshot.publish(2);
                snapshot.publish(3);
            })
        };
        let mut last = 0;
        for _ in 0..3 {
            let seen = snapshot.version();
            let value = **reader.load();
            assert!(value >= seen && value >= last && value == reader.version());
            last = value;
        }
        other.join().unwrap();
    });
}

/// Would catch: a wait that registers after the publish and sleeps.
#[test]
fn wait_for_a_change_ends() {
    check(|| {
        let snapshot = Snapshot::new(1_u64);
        let mut reader = snapshot.reader();
        let other = thread::spawn(move || assert_eq!(snapshot.publish(2), 2));
        assert_eq!(block_on(reader.changed(), |_| None), Ok(2));
        // The handle is dropped behind the publish: this wait ends as well.
        assert_eq!(block_on(reader.changed(), |_| None), Err(SnapshotClosed));
        other.join().unwrap();
    });
}

/// Would catch: an update queued just after the applier's last look.
#[test]
fn concurrent_updates_are_all_applied() {
    check(|| {
        let snapshot = Snapshot::new(0_u64);
        let other = {
            let snapshot = snapshot.clone();
            thread::spawn(move || drop(snapshot.update(|value| *value += 1)))
        };
        let version = snapshot.update(|value| *value += 10).wait().unwrap();
        assert!(version == 2 || version == 3);
        other.join().unwrap();
        assert_eq!(*snapshot.load(), 11);
    });
}

/// Would catch: a conditional publish that hides an update which runs meanwhile.
#[test]
fn conditional_publish_hides_no_update() {
    check(|| {
        let snapshot = Snapshot::new(0_u64);
        let other = {
            let snapshot = snapshot.clone();
            thread::spawn(move || snapshot.update(|value| *value += 1).wait().unwrap())
        };
        let published = snapshot.publish_if(1, 100);
        other.join().unwrap();
        match published {
            Ok(version) => assert_eq!((version, *snapshot.load()), (2, 101)),
            Err(conflict) => assert_eq!((conflict.version, *snapshot.load(), snapshot.version()), (2, 1, 2)),
        }
    });
}

/// Would catch: a plain publish that is lost to an update which runs meanwhile.
#[test]
fn publish_is_not_lost_to_an_update() {
    check(|| {
        let snapshot = Snapshot::new(0_u64);
        let other = {
            let snapshot = snapshot.clone();
            thread::spawn(move || snapshot.update(|value| *value += 1).wait().unwrap())
        };
        snapshot.publish(100);
        other.join().unwrap();
        let value = *snapshot.load();
        assert!(value == 100 || value == 101, "{value}");
    });
}

/// Would catch: a dropped wait that takes a slot which belongs to another.
#[test]
fn dropped_wait_leaves_the_other() {
    check(|| {
        let snapshot = Snapshot::new(1_u64);
        let (mut dropped, mut kept) = (snapshot.reader(), snapshot.reader());
        let mut wait = Box::pin(async move { dropped.changed().await });
        assert!(poll_once(&mut wait).is_none());
        let other = thread::spawn(move || drop(wait));
        let publishing = thread::spawn(move || assert_eq!(snapshot.publish(2), 2));
        assert_eq!(block_on(kept.changed(), |_| None), Ok(2));
        other.join().unwrap();
        publishing.join().unwrap();
    });
}

/// Would catch: an update that an applier leaves to a thread which does not look.
#[test]
fn left_updates_are_applied() {
    check(|| {
        let snapshot = Snapshot::new(0_u64);
        let threads = [1, 10].map(|step| {
            let snapshot = snapshot.clone();
            thread::spawn(move || snapshot.update(move |value| *value += step).wait().unwrap())
        });
        drop(snapshot.update(|value| *value += 100));
        threads.into_iter().for_each(|thread| assert!(thread.join().unwrap() > 1));
        assert_eq!(*snapshot.load(), 111);
    });
}

/// Would catch: an applier that leaves its rest to a future which is dropped.
#[test]
fn update_left_to_a_dropped_future_is_applied() {
    check(|| {
        let snapshot = Snapshot::new(0_u64);
        let other = {
            let snapshot = snapshot.clone();
            thread::spawn(move || {
                let mut update = snapshot.update(|value| *value += 10);
                let _ = poll_once(&mut update);
                drop(update);
            })
        };
        drop(snapshot.update(|value| *value += 1));
        other.join().unwrap();
        assert_eq!(*snapshot.load(), 11);
    });
}

/// A coalescer without its timer.
fn coalesce(coalescer: &Coalescer<u64>) {
    while block_on(Box::pin(coalescer.work_arrives()), |_| None) {
        let _ = coalescer.apply();
    }
}

/// Would catch: readers that hear of the end before the coalescer's last version.
#[test]
fn deferred_closure_comes_before_the_end() {
    check(|| {
        let snapshot = Snapshot::new(1_u64);
        let (mut reader, coalescer) = (snapshot.reader(), Coalescer::new(&snapshot));
        let coalescing = thread::spawn(move || coalesce(&coalescer));
        snapshot.defer(|value| *value += 1);
        drop(snapshot);
        assert_eq!(block_on(reader.changed(), |_| None), Ok(2));
        assert_eq!(block_on(reader.changed(), |_| None), Err(SnapshotClosed));
        coalescing.join().unwrap();
    });
}

/// Would catch: readers that wait for a coalescer which is dropped.
#[test]
fn dropped_coalescer_ends_the_waits() {
    check(|| {
        let snapshot = Snapshot::new(1_u64);
        let (mut reader, coalescer) = (snapshot.reader(), Coalescer::new(&snapshot));
        let dropping = thread::spawn(move || drop(coalescer));
        snapshot.defer(|value| *value += 1);
        let ending = thread::spawn(move || drop(snapshot));
        assert_eq!(block_on(reader.changed(), |_| None), Err(SnapshotClosed));
        dropping.join().unwrap();
        ending.join().unwrap();
    });
}

/// Would catch: a coalescer that finds another applier at work and sleeps for good.
#[test]
fn coalescer_beside_an_update_applies_all() {
    check(|| {
        let snapshot = Snapshot::new(0_u64);
        let coalescer = Coalescer::new(&snapshot);
        let coalescing = thread::spawn(move || coalesce(&coalescer));
        let (mut reader, inner) = (snapshot.reader(), snapshot.clone());
        // Deferred while the update is applied.
        drop(snapshot.update(move |value| {
            *value += 1;
            inner.defer(|value| *value += 10);
        }));
        while **reader.load() < 11 {
            block_on(reader.changed(), |_| None).unwrap();
        }
        drop(snapshot);
        coalescing.join().unwrap();
    });
}

/// Would catch: a coalescer that does not end when another took the rest.
#[test]
fn two_coalescers_end() {
    check(|| {
        let snapshot = Snapshot::new(0_u64);
        let coalescing = [(); 2].map(|()| {
            let coalescer = Coalescer::new(&snapshot);
            thread::spawn(move || coalesce(&coalescer))
        });
        snapshot.defer(|value| *value += 1);
        let mut reader = snapshot.reader();
        let update = snapshot.update(|value| *value += 10);
        drop(snapshot);
        assert!(update.wait().is_ok());
        coalescing.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(**reader.load(), 11);
    });
}

/// Would catch: a wait for a version that ends with an older one.
#[test]
fn load_waits_for_its_version() {
    check(|| {
        let snapshot = Snapshot::new(1_u64);
        let mut reader = snapshot.reader();
        let other = thread::spawn(move || {
            snapshot.publish(2);
            snapshot.publish(3);
        });
        assert_eq!(block_on(Box::pin(reader.load_no_older_than(3)), |_| None).map(|value| **value), Ok(3));
        other.join().unwrap();
    });
}
