//! EVENTS
//!
//! What is worth a report when it happens: long waits and holds, timeouts with the holders at that moment, deadlocks, and
//! revoked locks. Each subscription has a queue of its own. When that is full, further events are dropped and counted.

use crate::boundary::{Out, Versioned, call, nanoseconds, read};
use crate::handle::{self, Kind, Mark};
use crate::key::{keylatch_key, number_of};
use crate::listed::{KEYLATCH_WAITER_GRANTED, keylatch_chain_link, keylatch_holder, keylatch_waiter};
use crate::listing::{Answer, Entries, Entry, answered, keylatch_listing};
use crate::manager::{self, handed_out, keylatch_manager};
use crate::options::{KEYLATCH_WAIT_DEFAULT, KEYLATCH_WAIT_FOREVER};
use crate::queue::system;
use crate::refusal::{Failure, invalid};
use crate::status::{KEYLATCH_ECLOSED, KEYLATCH_EHANDLE, KEYLATCH_ETIMEOUT, KEYLATCH_EWOULDBLOCK};
use keylatch::{Event, EventOptions, Events, ObjectKey};
use std::fmt;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A wait that took long has ended.
///
/// The listing has its waiter (KEYLATCH_WAITER_GRANTED if it got the lock).
pub const KEYLATCH_EVENT_SLOW_WAIT: i32 = 1;
/// A lock that was held for long has been released. The listing has its holder.
pub const KEYLATCH_EVENT_SLOW_HOLD: i32 = 2;
/// A request gave up because its time was over.
///
/// The listing has its waiter, then the holders of the lock at that moment, at most 64 of them; more of the waiter says
/// how many there were besides.
pub const KEYLATCH_EVENT_TIMEOUT: i32 = 3;
/// A deadlock was found: sessions that waited for each other.
///
/// The listing has a link for each, beginning with the session whose request was refused.
pub const KEYLATCH_EVENT_DEADLOCK: i32 = 4;
/// A lease ran out and the lock was revoked. The listing has the old holder.
pub const KEYLATCH_EVENT_EXPIRED: i32 = 5;
/// A lock was revoked by force. The listing has the old holder.
pub const KEYLATCH_EVENT_FORCED: i32 = 6;
/// Sessions took locks in orders that contradict each other.
///
/// Reported with KEYLATCH_MANAGER_LOCK_ORDER. The listing has links, as in keylatch_lock_orders().
pub const KEYLATCH_EVENT_LOCK_ORDER: i32 = 7;

/// A subscription; made by keylatch_events_new(), freed by keylatch_events_free().
#[derive(Debug)]
pub struct keylatch_events {
    events: Events,
    freed: AtomicBool,
}

impl Kind for keylatch_events {
    const MARK: &'static Mark = {
        static MARK: Mark = Mark::new();
        &MARK
    };
    const NAME: &'static str = "keylatch_events";
}

/// What a subscriber receives.
///
/// Timeouts, deadlocks and revoked locks are always reported. Everything that is 0 is the default.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_event_options {
    /// sizeof(keylatch_event_options)
    pub struct_size: usize,
    /// Reports waits of at least this duration. Default: none; 1 is nearly all.
    pub wait_above_ns: u64,
    /// Reports holds of at least this duration.
    ///
    /// Default: none. This is the only setting that costs those who do not wait: while it is set, every request reads
    /// the clock and takes a mutex.
    pub hold_above_ns: u64,
    /// Events that are kept until they are fetched. Default 1024.
    pub capacity: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: integers without padding.
unsafe impl Versioned for keylatch_event_options {
    const FIRST_SIZE: usize = 32;
    const NAME: &'static str = "keylatch_event_options";
}

const _: () = assert!(size_of::<keylatch_event_options>() == 32);

/// An event as a listing tells it. Boxed, so that what points into it stays right.
#[derive(Debug)]
pub(crate) struct About(Box<Event>);

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl About {
    fn kind(&self) -> i32 {
        match &*self.0 {
            Event::SlowWait { .. } => KEYLATCH_EVENT_SLOW_WAIT,
            Event::SlowHold { .. } => KEYLATCH_EVENT_SLOW_HOLD,
            Event::Timeout { .. } => KEYLATCH_EVENT_TIMEOUT,
            Event::Deadlock { .. } => KEYLATCH_EVENT_DEADLOCK,
            Event::Expired(_) => KEYLATCH_EVENT_EXPIRED,
            Event::Forced(_) => KEYLATCH_EVENT_FORCED,
            Event::LockOrder(_) => KEYLATCH_EVENT_LOCK_ORDER,
            _ => 0,
        }
    }
}

impl Entries for About {
    fn len(&self) -> usize {
        match &*self.0 {
            Event::Timeout { holders, .. } => 1 + holders.named.len(),
            Event::Deadlock { cycle, .. } => cycle.len(),
            Event::LockOrder(report) => 2 * report.links.len(),
            _ => 1,
        }
    }

    fn entry(&self, position: usize) -> Option<Entry> {
        let of = |key: &ObjectKey| keylatch_key::of(key.as_ref());
        match &*self.0 {
            Event::Timeout { key, holders, .. } if position > 0 => holders
                .named
                .get(position - 1)
                .map(|holder| Entry::Holder(keylatch_holder::of_failure(of(key), holder))),
            Event::Deadlock { cycle, .. } => keylatch_chain_link::of_deadlock(cycle, position).map(Entry::Link),
            Event::LockOrder(report) => keylatch_chain_link::of_order(report, position).map(Entry::Link),
            _ if position > 0 => None,
            Event::SlowWait { key, mode, owner, source, waited, granted, .. } => Some(Entry::Waiter(keylatch_waiter {
                key: of(key),
                mode: number_of(*mode),
                waited_ns: nanoseconds(*waited),
                flags: if *granted { KEYLATCH_WAITER_GRANTED } else { 0 },
                ..keylatch_waiter::named(owner, source)
            })),
            Event::SlowHold { key, mode, owner, source, held_for, .. } => Some(Entry::Holder(keylatch_holder {
                key: of(key),
                mode: number_of(*mode),
                held_ns: nanoseconds(*held_for),
                ..keylatch_holder::named(owner, source)
            })),
            Event::Timeout { key, mode, owner, source, waited, holders, .. } => Some(Entry::Waiter(keylatch_waiter {
                more: holders.more,
                key: of(key),
                mode: number_of(*mode),
                waited_ns: nanoseconds(*waited),
                ..keylatch_waiter::named(owner, source)
            })),
            Event::Expired(hold) | Event::Forced(hold) => Some(Entry::Holder(keylatch_holder::of(hold))),
            _ => None,
        }
    }
}

/// Subscribes to a manager's events from now on. options may be NULL.
///
/// Writes *events on success; it is the caller's, to be freed with keylatch_events_free(), before or after its manager. Errors: KEYLATCH_EFORKED,
/// KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_events_new(
    manager: *mut keylatch_manager,
    options: *const keylatch_event_options,
    events: *mut *mut keylatch_events,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(events) }?;
        let manager = manager::enter_here(manager)?;
        let mut wanted = EventOptions::default();
        if let Some(options) = NonNull::new(options.cast_mut()) {
            // SAFETY: the header says what the caller promises.
            let given = unsafe { read(options) }?;
            if given.reserved != 0 {
                return Err(invalid("reserved is not 0".into()));
            }
            let above = |nanoseconds: u64| (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds));
            (wanted.wait_above, wanted.hold_above) = (above(given.wait_above_ns), above(given.hold_above_ns));
            if given.capacity > 0 {
                wanted.capacity = given.capacity as usize;
            }
        }
        let events = manager.locks.subscribe(wanted);
        out.write(handed_out(handle::create(keylatch_events { events, freed: AtomicBool::new(false) })?));
        Ok(())
    })
}

/// Gets a descriptor that is readable while events lie in the queue.
///
/// It is readable, too, once the manager is closed. It is the subscription's: poll it, then call keylatch_events_next()
/// until it says KEYLATCH_EWOULDBLOCK; do not read or close it. Takes two file descriptors when it is called first.
///
/// Writes *fd on success. Errors: KEYLATCH_ESYSTEM if there are no descriptors; KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_events_fd(events: *mut keylatch_events, fd: *mut i32) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(fd) }?;
        let entered = handle::enter_here::<keylatch_events>(events.cast())?;
        out.write(entered.events.descriptor().map_err(|error| system(&error))?.as_raw_fd());
        Ok(())
    })
}

/// Fetches the oldest event, waiting for one for at most timeout_ns.
///
/// It waits in the calling thread: 0 is not at all, KEYLATCH_WAIT_FOREVER for as long as it takes. *kind becomes one of
/// KEYLATCH_EVENT_..., or a number that later versions know; *about becomes a listing of what it is about, the
/// caller's, to be freed with keylatch_listing_free(). about may be NULL.
///
/// Writes *kind and *about on success. Errors: KEYLATCH_EWOULDBLOCK if nothing is there and timeout_ns is 0; KEYLATCH_ETIMEOUT; KEYLATCH_ECLOSED when the manager
/// is closed and all was fetched; KEYLATCH_EHANDLE, also if the subscription is freed meanwhile; KEYLATCH_EFORKED, KEYLATCH_ENULL. Threads: any, but callbacks must not
/// wait; each event is fetched by one. Signals do not end the wait.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_events_next(
    events: *mut keylatch_events,
    timeout_ns: u64,
    kind: *mut i32,
    about: *mut *mut keylatch_listing,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(kind) }?;
        let entered = handle::enter_here::<keylatch_events>(events.cast())?;
        let event = entered.next(timeout_ns).map(|event| About(Box::new(event)))?;
        let number = event.kind();
        if let Some(about) = NonNull::new(about) {
            // SAFETY: the header says what the caller promises.
            unsafe { about.write_unaligned(answered(Answer::Other(Box::new(event)))?) };
        }
        out.write(number);
        Ok(())
    })
}

impl keylatch_events {
    fn next(&self, timeout_ns: u64) -> Result<Event, Failure> {
        let timeout = match timeout_ns {
            KEYLATCH_WAIT_FOREVER | KEYLATCH_WAIT_DEFAULT => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        };
        let began = Instant::now();
        let next = if timeout_ns == 0 { self.events.try_next() } else { self.events.next(timeout) };
        // Freeing comes first: it closes the subscription.
        match next {
            _ if self.freed.load(Ordering::Acquire) => {
                Err(Failure::new(KEYLATCH_EHANDLE, "the subscription was freed while this call waited"))
            }
            Some(event) => Ok(event),
            None if self.events.is_closed() => self.events.try_next().ok_or_else(|| {
                Failure::new(KEYLATCH_ECLOSED, "the lock manager is closed, and all its events were fetched")
            }),
            None if timeout_ns == 0 => Err(Failure::new(KEYLATCH_EWOULDBLOCK, "there is no event")),
            None => Err(Failure::owned(KEYLATCH_ETIMEOUT, format!("there was no event in {:?}", began.elapsed()))),
        }
    }
}

/// Gets how many events were dropped because the queue was full.
///
/// Writes *dropped on success. Errors: KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_events_dropped(events: *mut keylatch_events, dropped: *mut u64) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(dropped) }?;
        out.write(handle::enter::<keylatch_events>(events.cast())?.events.dropped());
        Ok(())
    })
}

/// Ends a subscription and frees it.
///
/// A thread that waits in keylatch_events_next() comes out with KEYLATCH_EHANDLE. Listings that were fetched stay, to
/// be freed by their own function. NULL is fine and does nothing.
///
/// Errors: KEYLATCH_EHANDLE, KEYLATCH_EFORKED in a forked child. Threads: any; waits for calls in progress on this subscription.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_events_free(events: *mut keylatch_events) -> i32 {
    call(|| {
        if !events.is_null() {
            let hang_up = |events: &keylatch_events| {
                // Release pairs with the Acquire in `next`.
                events.freed.store(true, Ordering::Release);
                events.events.close();
            };
            drop(handle::end::<keylatch_events>(events.cast(), hang_up)?);
        }
        Ok(())
    })
}
