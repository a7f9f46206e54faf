//! With a number of futures in line for one key.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use keylatch::{FastObjectLockManager, Owner};

use super::setup::{BUCKET, manager, nanos_each};
use crate::machine::{resident_bytes, trim_allocator};
use crate::row::Row;

const OBJECT: &str = "an/object/that/many/wait/for";
const MIB: f64 = 1048576.0;

/// Polls with a waker that does nothing.
fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Futures that were not polled yet.
fn requests(locks: &FastObjectLockManager, owner: Owner, count: u64) -> Vec<Pin<Box<keylatch::Acquire<'_, 'static>>>> {
    (0..count).map(|_| Box::pin(locks.acquire_write_lock(BUCKET, OBJECT, owner))).collect()
}

pub(super) fn measure(size: u64) -> Row {
    let locks = manager();
    let owner = locks.owner("node-7");
    let held = || locks.acquire_write_lock_blocking(BUCKET, OBJECT, owner).expect("nothing holds it");
    // What the first wait of a manager makes is not in any figure.
    let (mut first, holder) = (requests(&locks, owner, 1), held());
    assert!(first.iter_mut().all(|future| poll(future).is_pending()), "the key is held");
    drop((first, holder));
    resident_bytes();
    let fresh = resident_bytes();

    let (mut line, holder) = (requests(&locks, owner, size), held());
    let before = resident_bytes();
    let join_ns = nanos_each(size, || {
        line.iter_mut().for_each(|future| assert!(poll(future).is_pending(), "the key is held"));
    });
    let bytes = resident_bytes().saturating_sub(before) as f64 / size as f64;
    let next_ns = nanos_each(size, || {
        drop(holder);
        for future in &mut line {
            match poll(future) {
                Poll::Ready(guard) => drop(guard.expect("the first in line is granted")),
                Poll::Pending => unreachable!("the lock was released to the first in line"),
            }
        }
    });
    drop(line);

    let (mut line, holder) = (requests(&locks, owner, size), held());
    line.iter_mut().for_each(|future| assert!(poll(future).is_pending(), "the key is held"));
    let cancel_ns = nanos_each(size, || drop(line));
    drop(holder);
    trim_allocator();
    let left = resident_bytes().saturating_sub(fresh) as f64 / MIB;

    let mut row = Row::new("", "")
        .with("join_ns", join_ns)
        .with("cancel_ns", cancel_ns)
        .with("bytes", bytes)
        .with("left_mib", left);
    row.ns = next_ns;
    row
}
