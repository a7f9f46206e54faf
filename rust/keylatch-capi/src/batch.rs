//! BATCHES
//!
//! Many locks in one call, with one deadline for all of them. They are waited for in the order of their keys, so that two
//! batches never wait for each other, whatever order they were written in. A key that is named twice is taken once,
//! exclusively if either asks for that.

use crate::acquire::array_len;
use crate::boundary::{Failure, call, invalid, null};
use crate::key::{self, keylatch_key};
use crate::manager::{self, keylatch_manager};
use crate::options::{
    Given, KEYLATCH_BEST_EFFORT, KEYLATCH_WAIT_DEFAULT, KEYLATCH_WAIT_FOREVER, keylatch_request_options,
};
use crate::status::KEYLATCH_OK;
use keylatch::{BatchLockRequest, BatchMode, KeyRef, Mode};
use std::ptr::NonNull;
use std::time::Duration;

/// One lock of a batch. This struct will never change.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_batch_item {
    pub key: keylatch_key,
    /// KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE.
    pub mode: i32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<keylatch_batch_item>() == size_of::<keylatch_key>() + 8);

/// Waits for count locks in the calling thread, for at most timeout_ns altogether, as in keylatch_acquire(). All of them
/// or none; with the flag KEYLATCH_BEST_EFFORT those that can be had.
///
/// grants has room for count numbers and statuses, which may be NULL, too. On success grants[i] is the grant of
/// items[i], or 0 if an item before it has the same key, or if a best effort did not get it; statuses[i] is KEYLATCH_OK,
/// or why the best effort did not get it. Release each with keylatch_release(), or all with keylatch_release_many(). On failure nothing
/// is held and nothing written, and keylatch_last_key() tells the key that failed.
///
/// options may be NULL; a ttl_ns holds for each lock of the batch, and KEYLATCH_EINVALID is told for a request_id. Errors: as
/// keylatch_acquire(), for any of the locks. A best effort fails only for what
/// is wrong with the call, and when the manager is closed. Threads: any, but callbacks must not wait, except with a timeout of 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_acquire_batch(
    manager: *mut keylatch_manager,
    items: *const keylatch_batch_item,
    count: usize,
    timeout_ns: u64,
    options: *const keylatch_request_options,
    grants: *mut u64,
    statuses: *mut i32,
) -> i32 {
    call(|| {
        let manager = manager::enter(manager)?;
        let count = array_len::<keylatch_batch_item>(count)?;
        if count > 0 && grants.is_null() {
            return Err(null("the array for the grants"));
        }
        // SAFETY: the header says what the caller promises.
        let wanted = unsafe { read_items(items, count) }?;
        // SAFETY: the header says what the caller promises.
        let given = unsafe { Given::read(options, &manager, KEYLATCH_BEST_EFFORT) }?;
        let batch = match timeout_ns {
            KEYLATCH_WAIT_DEFAULT => BatchLockRequest::new(given.owner()),
            KEYLATCH_WAIT_FOREVER => BatchLockRequest::new(given.owner()).timeout(Duration::MAX),
            nanoseconds => BatchLockRequest::new(given.owner()).timeout(Duration::from_nanos(nanoseconds)),
        };
        let mode = match given.flags & KEYLATCH_BEST_EFFORT {
            0 => BatchMode::AllOrNothing,
            _ => BatchMode::BestEffort,
        };
        if given.request_id.is_some() {
            return Err(invalid("a batch has no request_id; requests for one lock have".into()));
        }
        let order = in_order(&wanted);
        let batch = batch.mode(mode).priority(given.priority);
        let batch = match given.ttl {
            Some(ttl) => batch.ttl(ttl),
            None => batch,
        };
        let batch = order.iter().fold(batch, |batch, first| batch.add(first.key, first.mode));
        let held = manager.locks.acquire_locks_batch_blocking(batch)?;
        let mut missing = held.missing().iter().map(|(key, why)| (key.clone(), why.code())).peekable();
        let mut numbers = vec![(0, KEYLATCH_OK); count];
        let mut outcome = Vec::with_capacity(order.len());
        for first in &order {
            outcome.push(missing.next_if(|(key, _)| key.as_ref() == first.key).map(|(_, why)| why));
        }
        let mut got = held.into_grants().into_iter();
        for (first, why) in order.iter().zip(outcome) {
            match why {
                Some(why) => first.positions.iter().for_each(|position| numbers[*position].1 = why),
                None => numbers[first.positions[0]].0 = got.next().map_or(0, keylatch::Grant::to_raw),
            }
        }
        for (position, (grant, status)) in numbers.into_iter().enumerate() {
            // SAFETY: the header says what the caller promises.
            unsafe { grants.add(position).write_unaligned(grant) };
            if let Some(statuses) = NonNull::new(statuses) {
                // SAFETY: the header says what the caller promises.
                unsafe { statuses.add(position).write_unaligned(status) };
            }
        }
        Ok(())
    })
}

/// # Safety
/// As the header says of the items.
unsafe fn read_items<'a>(items: *const keylatch_batch_item, count: usize) -> Result<Vec<(KeyRef<'a>, Mode)>, Failure> {
    if count > 0 && items.is_null() {
        return Err(null("the array of items"));
    }
    let mut wanted = Vec::with_capacity(count);
    for position in 0..count {
        // SAFETY: promised.
        let item = unsafe { items.add(position).read_unaligned() };
        if item.reserved != 0 {
            return Err(invalid(format!("reserved of item {position} is not 0")));
        }
        // SAFETY: promised.
        wanted.push((unsafe { key::parts(&item.key) }?, key::mode(item.mode)?));
    }
    Ok(wanted)
}

/// A key of a batch.
struct First<'k> {
    key: KeyRef<'k>,
    /// The strongest that is asked for.
    mode: Mode,
    /// Where it is named, the first place first.
    positions: Vec<usize>,
}

/// Each key once, in the order in which the core answers.
fn in_order<'k>(wanted: &[(KeyRef<'k>, Mode)]) -> Vec<First<'k>> {
    let mut positions: Vec<usize> = (0..wanted.len()).collect();
    positions.sort_by(|a, b| wanted[*a].0.cmp(&wanted[*b].0));
    let mut order: Vec<First<'k>> = Vec::with_capacity(wanted.len());
    for position in positions {
        let (key, mode) = wanted[position];
        match order.last_mut() {
            Some(last) if last.key == key => {
                last.mode = last.mode.max(mode);
                last.positions.push(position);
            }
            _ => order.push(First { key, mode, positions: vec![position] }),
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_once_in_its_strongest_mode_at_its_first_place() {
        let (x, y) = (KeyRef::new("b", "x"), KeyRef::new("b", "y"));
        let order = in_order(&[(y, Mode::Shared), (x, Mode::Shared), (y, Mode::Exclusive), (y, Mode::Shared)]);
        let told: Vec<_> = order.into_iter().map(|first| (first.key, first.mode, first.positions)).collect();
        assert_eq!(told, [(x, Mode::Shared, vec![1]), (y, Mode::Exclusive, vec![0, 2, 3])]);
    }
}
