//! The paths of a request. This room brings the others together: keys in the table, waiters in queues, holds in records,
//! figures in counters.
//!
//! A request begins in [`fast`], or else in [`acquire`]. If it has to wait, it goes on in [`waiting`]. A hold ends in
//! [`release`], and where requests wait, [`hand_off`] grants the lock to the next. [`convert`] turns one mode into the other,
//! [`batch`] takes many locks. [`revoke`] revokes a hold, by force or because its [`lease`] ran out, and a [`lock_delay`] may
//! follow. [`reclaim`] gets places back in a full table. [`reenter`] answers a session that asks for what it holds, and
//! [`rise`] makes its shared holds exclusive. A pinned key stays in the table: see [`pin`]. Readers of a key that many threads read at a time use [`slots`].
//!
//! Where the keys are shared beyond the process, [`permits`] says what may be granted and which call to the tier is due,
//! [`tier_events`] takes in what the tier says, [`tier_fast`] is the fast path then, and [`term`] the loss of permits.

pub(crate) mod acquire;
pub(crate) mod batch;
pub(crate) mod close;
pub(crate) mod completion;
pub(crate) mod convert;
pub(crate) mod core;
pub(crate) mod event_hooks;
pub(crate) mod fast;
pub(crate) mod figures;
mod grants;
pub(crate) mod hand_off;
pub(crate) mod lease;
pub(crate) mod local;
pub(crate) mod lock_delay;
pub(crate) mod loss;
pub(crate) mod numbered;
pub(crate) mod permits;
pub(crate) mod pin;
pub(crate) mod recheck;
pub(crate) mod reclaim;
pub(crate) mod reenter;
pub(crate) mod release;
pub(crate) mod revoke;
pub(crate) mod rise;
pub(crate) mod slots;
pub(crate) mod term;
pub(crate) mod tier_events;
pub(crate) mod tier_fast;
pub(crate) mod tiered;
pub(crate) mod tombstones;
pub(crate) mod waiting;
pub(crate) mod wanted;

pub(crate) use core::Core;

#[cfg(all(test, loom))]
mod models;
