//! BATCHES
//!
//! Many locks in one call, with one deadline for all of them. They are waited for in the order of their keys, so that two
//! batches never wait for each other, whatever order they were written in. A key that is named twice is taken once,
//! exclusively if either asks for that.

use crate::acquire::array_len;
use crate::annotate;
use crate::boundary::call;
use crate::handle;
use crate::key::{self, KEYLATCH_EXCLUSIVE, KEYLATCH_SHARED, keylatch_key};
use crate::manager::{self, keylatch_manager};
use crate::options::{
    self, Given, KEYLATCH_BEST_EFFORT, KEYLATCH_WAIT_DEFAULT, KEYLATCH_WAIT_FOREVER, Plain, keylatch_request_options,
};
use crate::refusal::{Failure, invalid, null};
use crate::status::KEYLATCH_OK;
use keylatch::{BatchLockRequest, BatchMode, Grant, KeyRef, LockRequest, Mode};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
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

/// Waits for count locks in the calling thread, for at most timeout_ns altogether.
///
/// It waits as keylatch_acquire() does. All of them or none; with the flag KEYLATCH_BEST_EFFORT those that can be had.
///
/// grants has room for count numbers and statuses, which may be NULL, too. On success grants[i] is the grant of
/// items[i], or 0 if an item before it has the same key, or if a best effort did not get it; statuses[i] is KEYLATCH_OK,
/// or why the best effort did not get it. Release each with keylatch_release(), or all with keylatch_release_many(). On failure nothing
/// is held and nothing written, and keylatch_last_key() tells the key that failed.
///
/// options may be NULL; a ttl_ns holds for each lock of the batch, from the moment on in which it has them all, and
/// a request_id gets KEYLATCH_EINVALID. Errors: as keylatch_acquire(), for any of the locks. A best effort fails only
/// for what is wrong with the call, and when the manager is closed. Threads: any, but callbacks must not wait, except
/// with a timeout of 0.
#[must_use]
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
    // SAFETY: the header says what the caller promises.
    unsafe {
        match try_fast(manager, items, count, options, grants, statuses) {
            true => KEYLATCH_OK,
            false => acquire_batch_slow(manager, items, count, timeout_ns, options, grants, statuses),
        }
    }
}

/// Batches of up to this many take no memory but the stack's.
const ON_STACK: usize = 128;

/// Takes all the locks if each is plainly free and asked for in an ordinary way.
///
/// This is the fast path of a batch, which enters the manager once. It does not wait, so any order will do. `false`
/// gives no reason; nothing is held then, and nothing was written.
///
/// # Safety
/// As the header says of keylatch_acquire_batch().
#[inline(always)]
unsafe fn try_fast(
    manager: *mut keylatch_manager,
    items: *const keylatch_batch_item,
    count: usize,
    options: *const keylatch_request_options,
    grants: *mut u64,
    statuses: *mut i32,
) -> bool {
    if count == 0 || items.is_null() || grants.is_null() || array_len::<keylatch_batch_item>(count).is_err() {
        return false;
    }
    let mut few = [const { MaybeUninit::<u64>::uninit() }; ON_STACK];
    let mut many = Vec::new();
    let taken = if count <= ON_STACK {
        &mut few[..]
    } else {
        if many.try_reserve_exact(count).is_err() {
            return false;
        }
        many.spare_capacity_mut()
    };
    let mut so_far = 0;
    let take = || {
        let manager = handle::enter_fast::<keylatch_manager>(manager.cast())?;
        // SAFETY: promised.
        let given = unsafe { options::plain_of_batch(options, &manager) }?;
        let mut readers = 0;
        for (position, room) in taken[..count].iter_mut().enumerate() {
            // SAFETY: promised.
            let grant = unsafe {
                let item = items.add(position);
                let is_object = (&raw const (*item).key.version).read_unaligned().is_null();
                match (&raw const (*item).mode).read_unaligned() {
                    KEYLATCH_EXCLUSIVE if is_object => one::<KEYLATCH_EXCLUSIVE, false>(&manager, &given, item),
                    KEYLATCH_EXCLUSIVE => one::<KEYLATCH_EXCLUSIVE, true>(&manager, &given, item),
                    KEYLATCH_SHARED => {
                        readers += 1;
                        match is_object {
                            true => one::<KEYLATCH_SHARED, false>(&manager, &given, item),
                            false => one::<KEYLATCH_SHARED, true>(&manager, &given, item),
                        }
                    }
                    _ => None,
                }
            }?;
            room.write(grant.to_raw());
            annotate::granted(manager.number, &manager.locks, grant);
            so_far += 1;
        }
        // A key that is named twice is refused by the lock itself, unless all want to read: those would be two holds.
        // SAFETY: promised.
        (readers < 2 || unsafe { readers_differ(items, count) }).then_some(())
    };
    // It does not panic; if it does all the same, the way around it finds out about that too.
    let all = matches!(catch_unwind(AssertUnwindSafe(take)), Ok(Some(())));
    // SAFETY: that many were written.
    let taken = unsafe { std::slice::from_raw_parts(taken.as_ptr().cast::<u64>(), so_far) };
    if !all {
        give_back(manager, taken);
        return false;
    }
    // SAFETY: promised.
    unsafe {
        grants.cast::<u8>().copy_from_nonoverlapping(taken.as_ptr().cast(), size_of_val(taken));
        if !statuses.is_null() {
            (0..count).for_each(|position| statuses.add(position).write_unaligned(KEYLATCH_OK));
        }
    }
    true
}

/// Takes the lock of an item.
///
/// A function of its own, so that it has the registers to itself; what it is for is in its type, as in `try_fast`.
///
/// # Safety
/// As the header says of the items.
#[inline(never)]
unsafe fn one<const MODE: i32, const VERSIONED: bool>(
    manager: &keylatch_manager,
    given: &Plain,
    item: *const keylatch_batch_item,
) -> Option<Grant> {
    // SAFETY: promised.
    let item = unsafe { item.read_unaligned() };
    if item.reserved != 0 {
        return None;
    }
    // SAFETY: promised.
    let key = unsafe { key::plain::<VERSIONED>(&item.key) }?;
    key::forced_panic(key.bucket());
    let mode = if MODE == KEYLATCH_SHARED { Mode::Shared } else { Mode::Exclusive };
    let request = LockRequest::new(key, mode).owner(given.owner()).priority(given.priority);
    manager.locks.lock(request).grant_fast()
}

/// Places of the small table in which keys that are read are looked for.
const PLACES: usize = 512;

/// Whether none of the keys that are to be read is named twice.
///
/// It may say no where it is so: many keys that end alike meet in one place, and comparing them all would take long.
///
/// # Safety
/// As the header says of the items, each of which is plain.
#[inline(never)]
unsafe fn readers_differ(items: *const keylatch_batch_item, count: usize) -> bool {
    if count > PLACES / 2 {
        return false;
    }
    let mut places = [0_u16; PLACES];
    let mut looks = 8 * count;
    // SAFETY: promised.
    let item = |position: usize| unsafe { items.add(position).read_unaligned() };
    // SAFETY: promised.
    let key_of = |item: &keylatch_batch_item| unsafe { key::parts(&item.key) };
    for position in 0..count {
        let item_here = item(position);
        if item_here.mode != KEYLATCH_SHARED {
            continue;
        }
        let Ok(key) = key_of(&item_here) else { return false };
        let mut place = scatter(&key) % PLACES;
        while places[place] != 0 {
            let other = item(usize::from(places[place]) - 1);
            if looks == 0 || key_of(&other).is_ok_and(|other| other == key) {
                return false;
            }
            looks -= 1;
            place = (place + 1) % PLACES;
        }
        places[place] = position as u16 + 1;
    }
    true
}

/// A number from the ends of a key's parts.
///
/// Those tell keys apart more often than their beginnings.
#[inline(always)]
fn scatter(key: &KeyRef<'_>) -> usize {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let end = |part: &[u8]| match part.last_chunk() {
        Some(last) => u64::from_ne_bytes(*last),
        None => part.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)),
    };
    let mut number = end(key.object()).wrapping_add(key.object().len() as u64);
    number = number.wrapping_mul(ODD).wrapping_add(end(key.bucket()));
    number = number.wrapping_mul(ODD).wrapping_add(key.version().map_or(0, end));
    (number.wrapping_mul(ODD) >> 48) as usize
}

#[cold]
#[inline(never)]
fn give_back(manager: *mut keylatch_manager, taken: &[u64]) {
    if taken.is_empty() {
        return;
    }
    call(|| {
        let manager = manager::enter(manager)?;
        for grant in taken.iter().rev().copied().filter_map(Grant::from_raw) {
            // If it was lost meanwhile there is nothing to give back.
            let _ = manager.locks.release(grant);
        }
        Ok(())
    });
}

/// # Safety
/// As the header says of keylatch_acquire_batch().
#[cold]
#[inline(never)]
unsafe fn acquire_batch_slow(
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
        let order = named_once(&wanted);
        let batch = batch.mode(mode).priority(given.priority);
        let batch = match given.ttl {
            Some(ttl) => batch.ttl(ttl),
            None => batch,
        };
        let batch = order.iter().fold(batch, |batch, first| batch.add(first.key, first.mode));
        let held = match timeout_ns {
            0 => without_time(manager.locks.acquire_locks_batch(batch)),
            _ => manager.locks.acquire_locks_batch_blocking(batch),
        }?;
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
                None => {
                    let grant = got.next();
                    grant.into_iter().for_each(|grant| annotate::granted(manager.number, &manager.locks, grant));
                    numbers[first.positions[0]].0 = grant.map_or(0, Grant::to_raw);
                }
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

/// Waits for what a batch without time waits for: the answer of a tier.
///
/// A thread polls for some microseconds whether a lock is about to be free, even if it has no time. A future does not.
fn without_time<T>(batch: impl Future<Output = T>) -> T {
    let mut batch = pin!(batch);
    if let Poll::Ready(answer) = batch.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return answer;
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match batch.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => thread::park(),
        }
    }
}

/// Wakes a thread that waits for an answer.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// # Safety
/// As the header says of the items.
pub(crate) unsafe fn read_items<'a>(
    items: *const keylatch_batch_item,
    count: usize,
) -> Result<Vec<(KeyRef<'a>, Mode)>, Failure> {
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
pub(crate) struct First<'k> {
    pub(crate) key: KeyRef<'k>,
    /// The strongest that is asked for.
    pub(crate) mode: Mode,
    /// Where it is named, the first place first.
    pub(crate) positions: Vec<usize>,
}

/// Each key once, in the order in which the core answers.
pub(crate) fn named_once<'k>(wanted: &[(KeyRef<'k>, Mode)]) -> Vec<First<'k>> {
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
    fn each_key_once_in_its_strongest_mode() {
        let (x, y) = (KeyRef::new("b", "x"), KeyRef::new("b", "y"));
        let order = named_once(&[(y, Mode::Shared), (x, Mode::Shared), (y, Mode::Exclusive), (y, Mode::Shared)]);
        let seen: Vec<_> = order.into_iter().map(|first| (first.key, first.mode, first.positions)).collect();
        assert_eq!(seen, [(x, Mode::Shared, vec![1]), (y, Mode::Exclusive, vec![0, 2, 3])]);
    }
}
