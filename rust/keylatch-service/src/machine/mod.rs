//! The lock server as a deterministic state machine: no clock, no sockets, no threads.
//!
//! Every call names the time. The shell (`crate::server`) holds one mutex around a [`Machine`], so each call is one step,
//! and everything that this module says happens in that step.
//!
//! # Sessions
//!
//! A session is one lease for any number of locks. Its number is never used again, and belongs to one epoch.
//!
//! ```text
//!             open(attach later)           attach                 stream ends
//!   (new) ------------------------> Cut ----------> Attached ---------------------> Cut
//!     |                              ^                  |                            |
//!     | open                         |                  | deadline, end              | deadline, end
//!     +-----------> Detached --------+--(attach)--> Attached                         |
//!                       |                               v                            v
//!                       +----------- deadline, end --> gone <------------------------+
//! ```
//!
//! | presence | its queued requests | deadline | answered validity |
//! |---|---|---|---|
//! | `Detached` | are granted in turn | last renewal + ttl | ttl |
//! | `Attached` | are granted in turn | last renewal or attach + ttl | min(ttl, grace) |
//! | `Cut` | keep their place, are passed over | stream end + grace, or the last promise | min(ttl, grace) |
//!
//! Invariant: a session's locks are not freed before `promised_until`, except by force. `promised_until` is the arrival
//! of the latest renewal plus the validity that its answer named, so a client that counts from the moment it *sent* the
//! renewal stops believing before the server frees.
//!
//! # Requests
//!
//! The client numbers its requests. A number is unknown, or in one of these states until the session ends or the client
//! says that it has settled (`settled_below`):
//!
//! ```text
//!   unknown --lock--> Queued --grant--> Held --unlock--> Ended
//!      |                |                 |---force----> Lost
//!      |                +----cancel-------+---cancel---> Cancelled
//!      |---lock without waiting, not free--------------> Refused
//!      +---cancel (its lock may still be on the way)---> Cancelled
//! ```
//!
//! A repeated call answers from the state and changes nothing: a number has at most one grant.
//!
//! # Queues
//!
//! A request gets all its keys in one step or holds none of them, so requests that wait hold nothing for each other.
//! Places are ordered by priority, then by arrival, over all keys alike. A request is granted when each of its keys is
//! compatible with the holders, and no present waiter ahead at any of them is in conflict with it. Therefore the first
//! present request of all waits for holders only, and no two requests ever wait for each other.
//!
//! # Claims
//!
//! A claim is a numbered request too. Its rules are those of [`ClaimBoard`](keylatch::claim::ClaimBoard), which counts no
//! time for sessions here and takes its fences from the same sequence as locks.

mod call;
mod claim_board;
mod claims;
mod core;
mod figures;
mod grant;
mod listing;
mod requests;
mod ring;
mod session;
mod sessions;
mod table;
mod tier;
mod tier_notes;

pub use call::{
    Answer, Ask, AttachPlan, Call, CancelAnswer, Holder, Item, Limit, Limits, Open, Opened, Reason, Refusal, Renewed,
    RequestKey, SessionName, Start, Wait,
};
pub use claim_board::ClaimNote;
pub use claims::Report;
pub use core::Machine;
pub use figures::{Figures, WAIT_BOUNDS_US};
pub use grant::Grant;
pub use listing::{HeldLock, KeyFilter, LockFilter, Page, QueuedRequest};
pub use ring::{Event, EventKind, Replay};
pub use session::{Presence, Stream};
pub use tier_notes::{TierAsk, TierNote};
