//! The hook for locks beyond one process: a slower permission below the manager's own locks.
//!
//! A **tier** grants *permits*, shared or exclusive, to processes. A manager that has one grants a lock to its own threads
//! only while its process has a permit for the key. It keeps the permit until another process wants it, so that a key which
//! one process uses costs what a local lock costs. Requests of one process wait in the manager's queue; the tier sees at
//! most one ask or permit of a process and key at a time.
//!
//! ```text
//!   threads and tasks of a process        other processes
//!        |   |   |                              |
//!      FastObjectLockManager            FastObjectLockManager
//!        |  ask, give back, ...                 |
//!        v          ^ answered, recalled        v
//!      Tier of this process  <-- transport --> Tier of that process
//! ```
//!
//! [`Tier`] is what a transport implements, [`TierEvents`] is what it calls. Their documentation is the whole contract;
//! exclusion between processes is the tier's promise, exclusion within a process the manager's.
//!
//! # The life of a permit
//!
//! 1. The first request for a key *asks*: the manager draws a [`PermitId`] and calls [`Tier::ask`].
//! 2. The tier answers [`Answer::Granted`], in the call or later by [`TierEvents::answered`]. The ask has become a permit
//!    under the same number.
//! 3. While the permit is there, threads of the process take and release the lock without the tier.
//! 4. Another process wants the key, and the tier *recalls*: [`TierEvents::recalled`]. The manager lets waiters of its own
//!    have the lock for a bounded time, waits for the holders, and calls [`Tier::give_back`], [`Tier::downgrade`], or
//!    [`Tier::ask`] with [`Ask::replaces`].
//!
//! If no request needs an ask any more, the manager calls [`Tier::withdraw`]. A grant that comes first is kept as an idle
//! permit.
//!
//! # Terms
//!
//! A [`Term`] is a time in which permits do not end on their own. When a tier can no longer vouch for its permits, because
//! a lease ran out or a server lost its state, it calls [`TierEvents::all_lost`]: all permits and asks of that term are
//! gone. Once it can vouch for new ones it calls [`TierEvents::renewed`] with the next term. Each ask names the term that it
//! is made in, and the tier refuses those of earlier terms with [`TierErrorKind::TermOver`].
//!
//! The order in which events arrive is never what exclusion rests on. An event of an earlier term or of a former permit
//! changes nothing.
//!
//! # What differs for callers
//!
//! * A request that tries, of which the process has no permit, waits for the tier's answer, and for no other process. It may
//!   say that the lock is taken where another process only keeps its permit.
//! * An error names `(another process)` where the tier has no more to say. [`LockError::Tier`](crate::LockError::Tier) is
//!   what the tier itself cannot do.
//! * Holds that lose their permit are lost, as by an expired lease: [`Lost::Permit`](crate::Lost::Permit).
//! * A batch asks for its keys one after the other, in their order, so that batches of two processes do not deadlock. Other
//!   circles of holds across processes end by timeouts: deadlocks are found within a process alone.
//! * Fairness holds within a process. A process that waits gets its turn after each other one has had at most one, each of at
//!   most 64 waiters and 10 ms beyond the holds that it had.
//! * Fences come from the tier, and grow over all processes.

mod ask;
mod contract;
mod error;
pub(crate) mod permit;

pub use ask::{Answer, Ask, Effort, Fences, PermitId, RemoteHold, Term};
pub use contract::{Tier, TierEvents};
pub use error::{TierError, TierErrorKind};
