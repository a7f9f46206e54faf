//! EVENTS
//!
//! What is worth telling when it happens: long waits and holds, timeouts with the holders at that moment, deadlocks, and
//! locks that were taken away. Each subscription has a queue of its own. When that is full, what comes is dropped and counted.

use crate::boundary::{Out, Versioned, call, nanoseconds, read};
use crate::handle::{self, Kind, Mark};
use crate::key::{keylatch_key, number_of};
use crate::listing::{Answer, Parties, answered, keylatch_listing, ordered};
use crate::manager::{self, handed_out, keylatch_manager};
use crate::options::{KEYLATCH_WAIT_DEFAULT, KEYLATCH_WAIT_FOREVER};
use crate::party::{
    KEYLATCH_PARTY_GRANTED, KEYLATCH_PARTY_HOLDS, KEYLATCH_PARTY_VICTIM, KEYLATCH_PARTY_WAITS, flag, keylatch_party,
};
use crate::queue::system;
use crate::refusal::{Failure, invalid};
use crate::status::{KEYLATCH_ECLOSED, KEYLATCH_EHANDLE, KEYLATCH_ETIMEOUT, KEYLATCH_EWOULDBLOCK};
use keylatch::{Event, EventOptions, Events, Holder, ObjectKey};
use std::fmt;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A wait that took long has ended.
///
/// About: who waited (KEYLATCH_PARTY_GRANTED if it got the lock).
pub const KEYLATCH_EVENT_SLOW_WAIT: i32 = 1;
/// A lock that was held for long has been released. About: who held it.
pub const KEYLATCH_EVENT_SLOW_HOLD: i32 = 2;
/// A request gave up because its time was over.
///
/// About: who waited, then those who held the lock at that moment, at most 64 of them; more of the first one says how
/// many there were besides.
pub const KEYLATCH_EVENT_TIMEOUT: i32 = 3;
/// Sessions that waited for each other in a circle were found.
///
/// About: these, beginning with the one that had to give way.
pub const KEYLATCH_EVENT_DEADLOCK: i32 = 4;
/// A lease ran out and the lock was taken away. About: who had held it.
pub const KEYLATCH_EVENT_EXPIRED: i32 = 5;
/// A lock was released by force. About: who had held it.
pub const KEYLATCH_EVENT_FORCED: i32 = 6;
/// Sessions took locks in orders that go round (KEYLATCH_MANAGER_LOCK_ORDER).
///
/// About: as in keylatch_lock_orders().
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
/// Timeouts, deadlocks and locks that were taken away are always reported. Everything that is 0 is the default.
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

impl Parties for About {
    fn len(&self) -> usize {
        match &*self.0 {
            Event::Timeout { holders, .. } => 1 + holders.named.len(),
            Event::Deadlock { cycle, .. } => cycle.len(),
            Event::LockOrder(report) => 2 * report.links.len(),
            _ => 1,
        }
    }

    fn party(&self, position: usize) -> Option<keylatch_party> {
        let of = |key: &ObjectKey| keylatch_key::of(key.as_ref());
        match &*self.0 {
            Event::Timeout { key, holders, .. } if position > 0 => {
                holders.named.get(position - 1).map(|holder| held(of(key), holder))
            }
            Event::Deadlock { cycle, .. } => cycle
                .get(position)
                .map(|link| keylatch_party::linked(link).with_flags(flag(position == 0, KEYLATCH_PARTY_VICTIM))),
            Event::LockOrder(report) => ordered(report, position),
            _ if position > 0 => None,
            Event::SlowWait { key, mode, owner, source, waited, granted, .. } => Some(keylatch_party {
                key: of(key),
                role: KEYLATCH_PARTY_WAITS,
                mode: number_of(*mode),
                time_ns: nanoseconds(*waited),
                flags: flag(*granted, KEYLATCH_PARTY_GRANTED),
                ..keylatch_party::named(owner, source)
            }),
            Event::SlowHold { key, mode, owner, source, held_for, .. } => Some(keylatch_party {
                key: of(key),
                role: KEYLATCH_PARTY_HOLDS,
                mode: number_of(*mode),
                time_ns: nanoseconds(*held_for),
                ..keylatch_party::named(owner, source)
            }),
            Event::Timeout { key, mode, owner, source, waited, holders, .. } => Some(keylatch_party {
                more: holders.more,
                key: of(key),
                role: KEYLATCH_PARTY_WAITS,
                mode: number_of(*mode),
                time_ns: nanoseconds(*waited),
                ..keylatch_party::named(owner, source)
            }),
            Event::Expired(hold) | Event::Forced(hold) => Some(keylatch_party::holding(hold)),
            _ => None,
        }
    }
}

/// A holder as a failure knows it.
pub(crate) fn held(key: keylatch_key, holder: &Holder) -> keylatch_party {
    keylatch_party {
        key,
        role: KEYLATCH_PARTY_HOLDS,
        grant: holder.grant.map_or(0, keylatch::Grant::to_raw),
        fence: holder.fence.unwrap_or(0),
        lease_ns: holder.lease.map_or(0, nanoseconds),
        time_ns: nanoseconds(holder.held_for),
        mode: number_of(holder.mode),
        flags: crate::party::flag(holder.lease.is_some(), crate::party::KEYLATCH_PARTY_LEASE),
        ..keylatch_party::named(&holder.owner, "")
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

/// Tells a descriptor that is readable while events lie in the queue.
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
/// KEYLATCH_EVENT_..., or a number that later versions know; *about becomes a listing of whom it is about, the
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

/// Tells how many events were dropped because the queue was full.
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
