//! With keys of a number of bytes.

use std::hint::black_box;

use super::setup::{BUCKET, Keys, PACE, manager};
use crate::machine::resident_bytes;
use crate::row::Row;
use crate::slices::{Lane, in_turn};

/// Locks held to see the memory of one.
const HELD: usize = 100_000;

pub(super) fn measure(size: u64) -> Row {
    let keys = Keys::new(HELD + 1, size as usize);
    let locks = manager();
    let owner = locks.owner("node-7");
    let key = keys.object(HELD);
    let [exclusive, shared] = in_turn(
        &PACE,
        [
            Lane::new(|pairs| {
                (0..pairs).for_each(|_| drop(black_box(locks.acquire_write_lock_blocking(BUCKET, key, owner))));
            }),
            Lane::new(|pairs| {
                (0..pairs).for_each(|_| drop(black_box(locks.acquire_read_lock_blocking(BUCKET, key, owner))));
            }),
        ],
    );
    let mut held = Vec::with_capacity(HELD);
    let before = resident_bytes();
    held.extend((0..HELD).map(|number| locks.acquire_write_lock_blocking(BUCKET, keys.object(number), owner)));
    // The guards themselves lie in memory that is touched with them.
    let own = HELD * size_of_val(&held[0]);
    let bytes = resident_bytes().saturating_sub(before + own as u64) as f64 / HELD as f64;

    let mut row = Row::new("", "").with("shared_ns", shared.best).with("bytes", bytes);
    row.ns = exclusive.best;
    row
}
