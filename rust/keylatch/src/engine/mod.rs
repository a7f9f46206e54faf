//! The paths a request takes. This room knows the others and brings them together: keys in the table, waiters in lines,
//! holds in records, figures in counters.
//!
//! A request enters in [`fast`], or else in [`acquire`]; if it has to wait it goes on in [`waiting`]; a release leaves through [`release`],
//! and where somebody waits through [`hand_off`]; [`convert`] turns one mode into the other, [`batch`] takes many. A hold
//! may be revoked, in [`revoke`], by force or because its [`lease`] ran out, and a [`lock_delay`] may follow; a full table gets
//! room in [`reclaim`]; a session that asks for what it holds is recognised in [`reenter`], and what it shares rises in [`rise`].
//! A pinned key stays in the table: see [`pin`]. Readers of a key that many threads read at a time use [`slots`].
//!
//! Where the keys are shared beyond the process, [`permits`] says what may be granted and which call to the tier is due,
//! [`tier_events`] takes in what the tier says, [`tier_fast`] is the fast path then, and [`term`] the loss of permits.

pub(crate) mod acquire;
pub(crate) mod batch;
pub(crate) mod close;
pub(crate) mod convert;
pub(crate) mod core;
pub(crate) mod fast;
pub(crate) mod figures;
pub(crate) mod hand_off;
pub(crate) mod lease;
pub(crate) mod local;
pub(crate) mod lock_delay;
pub(crate) mod looking;
pub(crate) mod loss;
pub(crate) mod mail;
pub(crate) mod noticing;
pub(crate) mod permits;
pub(crate) mod pin;
pub(crate) mod reclaim;
pub(crate) mod reenter;
pub(crate) mod release;
pub(crate) mod revoke;
pub(crate) mod rise;
pub(crate) mod slots;
pub(crate) mod special;
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
