//! The paths a request takes. This room knows the others and brings them together: keys in the table, waiters in lines,
//! holds in records, figures in counters.
//!
//! A request enters in [`acquire`]; if it has to wait it goes on in [`waiting`]; a release leaves through [`release`],
//! and where somebody waits through [`hand_off`]; [`convert`] turns one mode into the other, [`batch`] takes many. A hold
//! that may end otherwise has a [`lease`] or is taken away by force, in [`take_away`], or goes in [`make_room`]; a session that asks for what it
//! holds is recognised in [`reenter`].

pub(crate) mod acquire;
pub(crate) mod batch;
pub(crate) mod close;
pub(crate) mod convert;
pub(crate) mod core;
pub(crate) mod figures;
pub(crate) mod hand_off;
pub(crate) mod lease;
pub(crate) mod local;
pub(crate) mod looking;
pub(crate) mod loss;
pub(crate) mod mail;
pub(crate) mod make_room;
pub(crate) mod noticing;
pub(crate) mod reenter;
pub(crate) mod release;
pub(crate) mod special;
pub(crate) mod take_away;
pub(crate) mod waiting;

pub(crate) use core::Core;
#[doc(hidden)]
pub use core::Place;

#[cfg(all(test, loom))]
mod models;
