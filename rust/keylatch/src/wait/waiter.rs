//! One request that waits: what it wants, its phase, and how to wake its caller.
//!
//! ```text
//!                 +-----------------------------------------------+
//!                 v                                               | lost the race, back to sleep
//!  (queued)    Waiting ---> Parked          Notified -------------+
//!                 |            |              ^  |
//!                 +-----+------+--------------+  |      the lock is free: come and try
//!                       |                        |
//!                       +-----------+------------+
//!                                   v
//!  (out of the queue)   Granted | TimedOut | Cancelled | Closed | Deadlocked | Refused
//! ```
//!
//! | change | made by, under what |
//! |---|---|
//! | Waiting -> Parked | the waiting thread, by compare-and-swap, just before it sleeps |
//! | all others | the owner of the lock's shard |
//!
//! A thread that moves a waiter out of Parked wakes it after the shard's mutex is released. The phase is the word that the
//! waiting thread sleeps on, and it sleeps only while the phase is Parked. So a change between its last look at the phase
//! and its sleep is not lost.
//!
//! **Rechecks.** A waiter has to recheck while it waits: has a lease expired, is it part of a deadlock? A thread sleeps
//! until `look_at` at most and rechecks then; for futures and callbacks the timer does. The shard's owner may have a waiter
//! recheck earlier: it lowers `look_at` and moves the waiter from Parked back to Waiting. The thread reads `look_at` after
//! it went to Parked, so it either sees the new moment or does not fall asleep.

use crate::error::LockError;
use crate::memory::{Arena, Cache, NONE, Pooled, Vacant};
use crate::mode::Mode;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::{Mutex, Park};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::task::Waker;

use super::completion::{CompletionList, Links};
use super::user_code::UserCode;

/// The phase of a waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Phase {
    Free = 0,
    /// Queued, awake.
    Waiting = 1,
    /// Queued, its thread asleep.
    Parked = 2,
    /// Queued, and woken because the lock is free: it may try to take it.
    Notified = 3,
    /// It has the lock.
    Granted = 4,
    TimedOut = 5,
    Cancelled = 6,
    /// The manager was closed.
    Closed = 7,
    /// It is the victim of a deadlock.
    Deadlocked = 8,
    /// The tier refused it.
    Refused = 9,
}

impl Phase {
    fn from_bits(bits: u32) -> Self {
        match bits {
            1 => Self::Waiting,
            2 => Self::Parked,
            3 => Self::Notified,
            4 => Self::Granted,
            5 => Self::TimedOut,
            6 => Self::Cancelled,
            7 => Self::Closed,
            8 => Self::Deadlocked,
            9 => Self::Refused,
            _ => Self::Free,
        }
    }

    /// Returns whether a waiter in this phase is in its lock's queue.
    pub(crate) fn is_queued(self) -> bool {
        matches!(self, Self::Waiting | Self::Parked | Self::Notified)
    }

    /// Returns whether a waiter in this phase has to be woken when the lock is free.
    pub(crate) fn is_asleep(self) -> bool {
        matches!(self, Self::Waiting | Self::Parked)
    }
}

/// What a waiter asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asking {
    pub(crate) mode: Mode,
    /// It holds the lock shared already.
    pub(crate) upgrade: bool,
    /// Its session holds the lock shared already, and counts its holds.
    pub(crate) rises: bool,
    /// It has a callback or a completion queue: it is handed the lock.
    ///
    /// It cannot try by itself, as a thread or a task can.
    pub(crate) by_completion: bool,
    /// Its grant has no guard from the beginning.
    pub(crate) detached: bool,
    /// It waits for the tier's answer, but not for other processes.
    pub(crate) tries: bool,
    pub(crate) priority: u8,
}

impl Asking {
    /// Returns whether it goes in front of the queue.
    ///
    /// It holds the lock shared, so no other waiter can have it exclusively before.
    pub(crate) fn goes_first(self) -> bool {
        self.upgrade || self.rises
    }

    fn to_bits(self) -> u32 {
        u32::from(self.mode == Mode::Exclusive)
            | u32::from(self.upgrade) << 1
            | u32::from(self.by_completion) << 2
            | u32::from(self.detached) << 3
            | u32::from(self.rises) << 4
            | u32::from(self.tries) << 5
            | u32::from(self.priority) << 8
    }

    fn from_bits(bits: u32) -> Self {
        let mode = if bits & 1 == 1 { Mode::Exclusive } else { Mode::Shared };
        // 8 bits; `BY_THREAD` is no part of what is asked for.
        let has = |bit: u32| bits & bit != 0;
        let (upgrade, by_completion, detached, rises, tries) = (has(2), has(4), has(8), has(16), has(32));
        Self { mode, upgrade, rises, by_completion, detached, tries, priority: (bits >> 8) as u8 }
    }
}

/// Beside the bits of an [`Asking`]: a thread waits.
///
/// It keeps the time itself.
const BY_THREAD: u32 = 1 << 16;

/// How the result reaches the caller.
// The representation makes memory of zero bytes a `Thread`, see `Vacant`.
#[repr(u8)]
pub(crate) enum Delivery {
    /// A thread that sleeps on the phase.
    Thread = 0,
    /// A future, by its waker.
    Task(Option<UserCode<Waker>>),
    /// A callback or a completion queue, by a list of finished waiters.
    Completion(Arc<CompletionList>, CompletionFn),
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Thread => "Thread",
            Self::Task(_) => "Task",
            Self::Completion(..) => "Completion",
        })
    }
}

/// Called with the index of the finished waiter, without any internal mutex.
///
/// It gives the waiter back.
pub(crate) type CompletionFn = Box<dyn FnOnce(u32) + Send>;

/// The number of a request that waits, to cancel it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(NonZeroU64);

impl Ticket {
    /// Returns the number, for C and for tables of the caller's.
    #[must_use]
    pub fn to_raw(self) -> u64 {
        self.0.get()
    }

    /// Makes a ticket from its number; `None` for 0. Use refuses a wrong number.
    #[must_use]
    pub fn from_raw(raw: u64) -> Option<Self> {
        NonZeroU64::new(raw).map(Self)
    }

    pub(crate) fn index(self) -> u32 {
        // The low half.
        self.0.get() as u32
    }

    pub(super) fn new(index: u32, generation: u32) -> Self {
        let raw = u64::from(generation) << 32 | u64::from(index);
        Self(NonZeroU64::new(raw).unwrap_or(NonZeroU64::MIN))
    }
}

/// A waiter; see the module.
///
/// Fields other than `phase` and `reply` change under the mutex of the lock's shard, or before the waiter
/// is queued.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Waiter {
    phase: Park,
    /// Its own, once it was taken.
    index: AtomicU32,
    generation: AtomicU32,
    pub(super) next: AtomicU32,
    pub(super) previous: AtomicU32,
    /// The entry it waits for.
    pub(crate) entry: AtomicU32,
    /// The hold record it will have, or has when it upgrades.
    pub(crate) record: AtomicU32,
    pub(crate) owner: AtomicU32,
    /// How often it was overtaken.
    pub(crate) overtaken: AtomicU32,
    asking: AtomicU32,
    /// When it was queued, in nanoseconds on the manager's clock.
    pub(crate) since: AtomicU64,
    /// The grant, once it has it.
    pub(crate) grant: AtomicU64,
    /// When it was notified last, on the manager's clock; and [`WATCHED`].
    notified: AtomicU64,
    /// Nanoseconds of the lease that the grant will have; 0 for none.
    pub(crate) lease: AtomicU64,
    /// When to recheck, on the manager's clock.
    ///
    /// For futures and callbacks only the first such moment: the timer keeps the others.
    look_at: AtomicU64,
    reply: Mutex<Reply>,
}

/// What the caller gets, and how.
#[derive(Debug)]
struct Reply {
    delivery: Delivery,
    /// Why the request failed, where the thread that ended the wait knew it.
    error: Option<Box<LockError>>,
}

/// No moment to recheck at.
pub(crate) const NEVER: u64 = u64::MAX;

/// In `notified`: the timer keeps the moment after which others are served first.
///
/// The clock gets there in 292 years.
const WATCHED: u64 = 1 << 63;

#[cfg(not(loom))]
const _: () = assert!(size_of::<Waiter>() == 128, "32 waiters are a page");

#[cfg(not(loom))]
// SAFETY: atomic integers, and a mutex of parking_lot's, whose zero bytes are an open one. In it are zero bytes of a `Reply`:
// a `Delivery` with an explicit representation and `Thread` for 0, and an `Option` of a box, for which Rust promises that
// zero is `None`. Neither has anything to drop.
unsafe impl Vacant for Waiter {}
#[cfg(loom)]
// SAFETY: built by hand under the model checker.
unsafe impl Vacant for Waiter {
    fn vacant() -> Self {
        Self {
            phase: Park::default(),
            index: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            next: AtomicU32::new(0),
            previous: AtomicU32::new(0),
            entry: AtomicU32::new(0),
            record: AtomicU32::new(0),
            owner: AtomicU32::new(0),
            overtaken: AtomicU32::new(0),
            asking: AtomicU32::new(0),
            since: AtomicU64::new(0),
            grant: AtomicU64::new(0),
            notified: AtomicU64::new(0),
            lease: AtomicU64::new(0),
            look_at: AtomicU64::new(0),
            reply: Mutex::new(Reply { delivery: Delivery::Thread, error: None }),
        }
    }
    fn vacate(&self) {
        self.generation.store(0, Ordering::Relaxed);
    }
}

// SAFETY: as above.
unsafe impl Pooled for Waiter {
    fn link(&self) -> &AtomicU32 {
        &self.next
    }

    fn mark(&self) -> u64 {
        u64::from(self.generation.load(Ordering::Relaxed))
    }

    fn revive(&self, mark: u64) {
        // It was a generation.
        self.generation.store(mark as u32, Ordering::Relaxed);
    }
}

impl Waiter {
    /// Its own.
    pub(crate) fn index(&self) -> u32 {
        self.index.load(Ordering::Relaxed)
    }

    /// Pairs with: `advance`. What was done for the waiter is visible with its phase.
    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        Phase::from_bits(self.phase.load(Ordering::Acquire))
    }

    /// Changes the phase and returns the one before. AcqRel, see `phase`.
    pub(crate) fn advance(&self, to: Phase) -> Phase {
        Phase::from_bits(self.phase.swap(to as u32, Ordering::AcqRel))
    }

    /// Notes that the thread is about to sleep; returns when it has to recheck.
    pub(crate) fn lie_down(&self) -> u64 {
        // A failure means that it is Parked already, after a sleep that ended early, or that the phase has changed. The
        // compare-and-swap comes before the load of `look_at`, see the module.
        let _ = self.phase.compare_exchange(Phase::Waiting as u32, Phase::Parked as u32);
        self.look_at.load(Ordering::Acquire)
    }

    /// Sleeps until the phase is no longer Parked or the deadline has passed.
    ///
    /// Comes after `lie_down`. If the phase has changed since, it returns immediately.
    pub(crate) fn sleep(&self, deadline: Option<std::time::Instant>) -> crate::sync::ParkedUntil {
        self.phase.park(Phase::Parked as u32, deadline)
    }

    /// Sets the first moment to recheck, before the waiter is queued.
    pub(crate) fn set_first_look(&self, at: u64) {
        self.look_at.store(at, Ordering::Relaxed);
    }

    /// Returns the first moment to recheck, for the thread that queued or finishes it.
    pub(crate) fn first_look(&self) -> u64 {
        self.look_at.load(Ordering::Relaxed)
    }

    /// Notes that the waiting thread begins to recheck.
    ///
    /// Pairs with: `look_by`. A moment that was set before is one whose reason this recheck sees.
    pub(crate) fn begin_look(&self) {
        self.look_at.swap(NEVER, Ordering::AcqRel);
    }

    /// Has the waiting thread recheck at this moment, if it would not earlier.
    ///
    /// Returns whether that is a change. AcqRel as in `begin_look`.
    pub(crate) fn look_by(&self, at: u64) -> bool {
        let mut set = self.look_at.load(Ordering::Relaxed);
        while at < set {
            match self.look_at.compare_exchange(set, at, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => set = now,
            }
        }
        false
    }

    /// Returns whether its own thread keeps the time.
    pub(crate) fn keeps_time(&self) -> bool {
        // No look at the delivery: the waiter may be another's by now.
        self.asking.load(Ordering::Relaxed) & BY_THREAD != 0
    }

    /// Stores why the request failed, before the phase says that it has.
    pub(crate) fn explain(&self, error: LockError) {
        self.reply.lock().error = Some(Box::new(error));
    }

    /// Takes what `explain` stored.
    pub(crate) fn take_explanation(&self) -> Option<Box<LockError>> {
        self.reply.lock().error.take()
    }

    /// Notes when it is notified. Caller holds: shard mutex.
    pub(crate) fn note_notified(&self, now: u64) {
        self.notified.store(now & !WATCHED, Ordering::Relaxed);
    }

    /// Notes that the timer keeps the moment from which on others are served past it.
    ///
    /// Returns whether it did not before. Caller holds: shard mutex.
    pub(crate) fn begin_watch(&self) -> bool {
        let was = self.notified.load(Ordering::Relaxed);
        self.notified.store(was | WATCHED, Ordering::Relaxed);
        was & WATCHED == 0
    }

    /// Returns when it was notified. Caller holds: shard mutex.
    pub(crate) fn notified(&self) -> u64 {
        self.notified.load(Ordering::Relaxed) & !WATCHED
    }

    pub(crate) fn wake(&self) {
        self.phase.wake();
    }

    pub(crate) fn asking(&self) -> Asking {
        Asking::from_bits(self.asking.load(Ordering::Relaxed))
    }

    pub(crate) fn ticket(&self, index: u32) -> Ticket {
        Ticket::new(index, self.generation.load(Ordering::Relaxed))
    }

    /// Fills in a waiter that no other thread knows yet.
    pub(crate) fn prepare(&self, entry: u32, record: u32, owner: u32, asking: Asking, since: u64, delivery: Delivery) {
        self.entry.store(entry, Ordering::Relaxed);
        self.record.store(record, Ordering::Relaxed);
        self.owner.store(owner, Ordering::Relaxed);
        let by_thread = if matches!(delivery, Delivery::Thread) { BY_THREAD } else { 0 };
        self.asking.store(asking.to_bits() | by_thread, Ordering::Relaxed);
        self.since.store(since, Ordering::Relaxed);
        self.overtaken.store(0, Ordering::Relaxed);
        self.grant.store(0, Ordering::Relaxed);
        self.lease.store(0, Ordering::Relaxed);
        self.look_at.store(NEVER, Ordering::Relaxed);
        *self.reply.lock() = Reply { delivery, error: None };
        self.phase.store(Phase::Waiting as u32, Ordering::Release);
    }

    /// Sets the waker to call; returns the old one.
    ///
    /// The caller drops the old one without any mutex, and looks at the phase afterwards: it shows what came before the
    /// waker was set.
    #[must_use]
    pub(crate) fn set_waker(&self, waker: &Waker) -> Option<UserCode<Waker>> {
        let fresh = UserCode::new(waker.clone());
        let mut reply = self.reply.lock();
        match &mut reply.delivery {
            Delivery::Task(old) if old.as_ref().is_some_and(|old| old.will_wake(&fresh)) => Some(fresh),
            other => match std::mem::replace(other, Delivery::Task(Some(fresh))) {
                Delivery::Task(old) => old,
                _ => None,
            },
        }
    }

    /// Changes the phase, and takes what is needed to wake the caller.
    ///
    /// It is used after the shard's mutex is released. A completion function stays, for the thread that reads the list.
    pub(crate) fn advance_with_wakeup(&self, to: Phase) -> (Phase, Wakeup) {
        // The phase changes under the mutex. A future that sets its waker does so before this, and the waker is taken
        // here, or it looks at the phase afterwards and sees the change.
        let mut reply = self.reply.lock();
        let wakes = match &mut reply.delivery {
            Delivery::Thread => Wakeup::Thread,
            Delivery::Task(waker) => Wakeup::Task(waker.take()),
            Delivery::Completion(completions, _) => Wakeup::Completion(Arc::clone(completions)),
        };
        let was = self.advance(to);
        drop(reply);
        (was, wakes)
    }

    /// Returns whether it is finished through this list.
    ///
    /// Only of a waiter whose memory stays, see [`Waiters::for_each_at_rest`].
    pub(crate) fn is_for(&self, completions: &Arc<CompletionList>) -> bool {
        matches!(&self.reply.lock().delivery, Delivery::Completion(own, _) if Arc::ptr_eq(own, completions))
    }

    /// Takes the way to reach the caller, to use it or to drop it.
    #[must_use]
    pub(crate) fn take_delivery(&self) -> Delivery {
        std::mem::replace(&mut self.reply.lock().delivery, Delivery::Thread)
    }
}

/// What is left to do so that the caller of a waiter wakes up.
pub(crate) enum Wakeup {
    Thread,
    Task(Option<UserCode<Waker>>),
    Completion(Arc<CompletionList>),
}

/// All waiters, by index.
///
/// The memory of unused waiters goes back to the system, and reads as free waiters. So an old index is always a waiter.
#[derive(Debug)]
pub(crate) struct Waiters {
    waiters: Arena<Waiter>,
    free: Mutex<FreeWaiters>,
    limit: u32,
}

#[derive(Debug, Default)]
struct FreeWaiters {
    /// Those that are at hand. The others are with the arena.
    cache: Cache,
    out: u32,
}

impl Links for Waiters {
    fn next(&self, index: u32) -> &AtomicU32 {
        &self.get(index).next
    }
}

impl Waiters {
    /// Reserves room for `limit` waiters.
    ///
    /// `random` begins the generations, so that a ticket is not easily guessed, and other managers have others.
    pub(crate) fn reserve(limit: u32, random: u32) -> std::io::Result<Self> {
        // Far from the end of the numbers: a page that comes back begins with the greatest of its generations.
        let room = if cfg!(loom) { limit.min(8) } else { limit };
        let waiters = Arena::reserve(room, u64::from((random >> 1).max(1)))?;
        Ok(Self { waiters, free: Mutex::new(FreeWaiters::default()), limit })
    }

    /// Returns the waiter at an index that `take` gave out at some time.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> &Waiter {
        self.waiters.get(index)
    }

    /// Takes a free waiter; `None` at the limit, or without memory.
    pub(crate) fn take(&self) -> Option<u32> {
        let mut free = self.free.lock();
        if free.out == self.limit {
            return None;
        }
        let index = self.waiters.take(&free.cache);
        if index == NONE {
            return None;
        }
        free.out += 1;
        drop(free);
        self.get(index).index.store(index, Ordering::Relaxed);
        Some(index)
    }

    /// Gives a waiter back; its ticket is void from now on.
    pub(crate) fn put(&self, index: u32) {
        let waiter = self.get(index);
        let free_reply = Reply { delivery: Delivery::Thread, error: None };
        let reply = std::mem::replace(&mut *waiter.reply.lock(), free_reply);
        let next = waiter.generation.load(Ordering::Relaxed).wrapping_add(1).max(1);
        waiter.generation.store(next, Ordering::Relaxed);
        waiter.phase.store(Phase::Free as u32, Ordering::Release);
        let mut free = self.free.lock();
        free.out -= 1;
        self.waiters.put(&free.cache, index);
        drop(free);
        // Dropping a waker runs the user's code: not under the mutex.
        drop(reply);
    }

    /// Returns whether a ticket that was given out still stands for its request.
    pub(crate) fn is_current(&self, ticket: Ticket) -> bool {
        self.get(ticket.index()).ticket(ticket.index()) == ticket
    }

    /// Returns whether the index of a ticket is one of ours.
    pub(crate) fn could_be(&self, ticket: Ticket) -> bool {
        self.waiters.could_be(ticket.index())
    }

    /// Calls `visit` with every waiter that is in use, and perhaps with others.
    pub(crate) fn for_each(&self, visit: impl FnMut(u32, &Waiter)) {
        self.waiters.for_each(usize::MAX, visit);
    }

    /// As `for_each`, while no waiter is taken or given back.
    ///
    /// So their memory stays, and their mutexes may be locked.
    pub(crate) fn for_each_at_rest(&self, visit: impl FnMut(u32, &Waiter)) {
        let _at_rest = self.free.lock();
        self.for_each(visit);
    }

    /// Returns the bytes of memory in use.
    pub(crate) fn bytes(&self) -> u64 {
        self.waiters.resident_bytes()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_unique_up_to_the_limit() {
        let waiters = Waiters::reserve(1000, 1).unwrap();
        let taken: std::collections::HashSet<u32> = std::iter::from_fn(|| waiters.take()).collect();
        assert_eq!(taken.len(), 1000);
        for index in &taken {
            assert_eq!((waiters.get(*index).phase(), waiters.get(*index).index()), (Phase::Free, *index));
        }
        waiters.put(7);
        assert_eq!(waiters.take(), Some(7));
        assert_eq!(waiters.take(), None);
    }

    #[test]
    fn memory_of_many_waiters_is_given_back() {
        let waiters = Waiters::reserve(1 << 18, u32::MAX).unwrap();
        let ticket = |index: u32| waiters.get(index).ticket(index);
        let crowd: Vec<u32> = (0..1 << 18).map(|_| waiters.take().unwrap()).collect();
        let tickets: Vec<Ticket> = crowd.iter().map(|index| ticket(*index)).collect();
        let most = waiters.bytes();
        assert!(most >= 32 << 20, "{most}");
        for index in crowd {
            waiters.get(index).prepare(1, 1, 1, Asking::from_bits(0), 1, Delivery::Thread);
            waiters.put(index);
        }
        let left = waiters.bytes();
        assert!(left <= 3 << 20, "{left} of {most} bytes are left");
        assert!(tickets.iter().all(|ticket| waiters.could_be(*ticket) && !waiters.is_current(*ticket)));
        let again: Vec<u32> = (0..1 << 18).map(|_| waiters.take().unwrap()).collect();
        assert!(tickets.iter().all(|ticket| !waiters.is_current(*ticket)), "a page came back with an old generation");
        assert!(again.iter().all(|index| waiters.get(*index).phase() == Phase::Free));
    }

    #[test]
    fn ticket_is_void_after_put() {
        let waiters = Waiters::reserve(10, 7).unwrap();
        let index = waiters.take().unwrap();
        let ticket = waiters.get(index).ticket(index);
        assert_eq!(ticket.index(), index);
        waiters.put(index);
        assert_ne!(waiters.get(waiters.take().unwrap()).ticket(index), ticket);
        assert!(!waiters.could_be(Ticket::new(0, 1)) && !waiters.could_be(Ticket::new(1 << 20, 1)));
    }
}
