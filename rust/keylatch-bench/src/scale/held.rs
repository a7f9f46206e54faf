//! Beside a number of held locks.

use std::hint::black_box;
use std::time::Instant;

use keylatch::{Filter, Grant};

use super::setup::{BUCKET, Keys, PACE, manager, median_micros, nanos_each};
use crate::machine::{resident_bytes, trim_allocator};
use crate::row::Row;
use crate::slices::{Lane, in_turn};

const KEY_BYTES: usize = 32;
/// Keys beyond those that are held, for locks that come and go.
const IN_TURN: usize = 10_000;
const MIB: f64 = 1048576.0;

pub(super) fn measure(size: u64) -> Row {
    let count = size as usize;
    let (keys, mut held) = (Keys::new(count + IN_TURN, KEY_BYTES), vec![0_u64; count]);
    let locks = manager();
    let owner = locks.owner("node-7");
    let pair = |number: usize| {
        drop(black_box(locks.acquire_write_lock_blocking(BUCKET, keys.object(number), owner)));
    };
    pair(count);
    // Touched, so that only the manager's memory is measured; the first look needs memory of its own.
    held.fill(1);
    resident_bytes();

    let before = resident_bytes();
    let fill_ns = nanos_each(size, || {
        for (number, grant) in held.iter_mut().enumerate() {
            let guard = locks.acquire_write_lock_blocking(BUCKET, keys.object(number), owner);
            *grant = guard.expect("a free key is granted").into_grant().to_raw();
        }
    });
    let bytes = resident_bytes().saturating_sub(before) as f64 / size as f64;

    let mut turn = 0;
    let [warm, in_turn] = in_turn(
        &PACE,
        [
            Lane::new(|pairs| (0..pairs).for_each(|_| pair(count))),
            Lane::new(|pairs| {
                for _ in 0..pairs {
                    turn = (turn + 1) % IN_TURN;
                    pair(count + turn);
                }
            })
            .warmed_up_by(IN_TURN as u64),
        ],
    );

    let of_key = |number: usize| Filter::new().key((BUCKET, keys.object(number)));
    let held_key = of_key(count / 2);
    let holders_us = median_micros(101, || assert_eq!(locks.holders(&held_key).len(), 1));
    let waiters_us = median_micros(101, || assert!(locks.waiters(&held_key).is_empty()));
    let readers = [(); 2].map(|()| locks.acquire_read_lock_blocking(BUCKET, keys.object(count), owner));
    let shared_key = of_key(count);
    let shared_holders_us = median_micros(9, || assert_eq!(locks.holders(&shared_key).len(), 2));
    drop(readers);

    // The list of grants goes, too.
    let (freed, began) = (8 * size, Instant::now());
    for grant in held {
        locks.release(Grant::from_raw(grant).expect("a grant is never 0")).expect("it is held");
    }
    let release_ns = began.elapsed().as_nanos() as f64 / size as f64;
    trim_allocator();
    let left = resident_bytes().saturating_sub(before.saturating_sub(freed)) as f64 / MIB;

    let mut row = Row::new("", "")
        .with("in_turn_ns", in_turn.best)
        .with("fill_ns", fill_ns)
        .with("release_ns", release_ns)
        .with("bytes", bytes)
        .with("left_mib", left)
        .with("holders_us", holders_us)
        .with("shared_holders_us", shared_holders_us)
        .with("waiters_us", waiters_us);
    row.ns = warm.best;
    row
}
