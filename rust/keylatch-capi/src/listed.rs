//! PARTIES
//!
//! Who holds a lock and who waits for one, as failures, listings and events tell it.

use crate::boundary::{Versioned, nanoseconds};
use crate::key::{keylatch_key, number_of};
use keylatch::{DeadlockLink, HolderInfo, WaiterInfo};
use std::ffi::c_char;

/// It holds the key.
pub const KEYLATCH_PARTY_HOLDS: u32 = 1;
/// It waits for the key.
pub const KEYLATCH_PARTY_WAITS: u32 = 2;
/// Neither: only the key is known.
pub const KEYLATCH_PARTY_NEITHER: u32 = 3;

/// The owner is a session.
pub const KEYLATCH_PARTY_SESSION: u32 = 1;
/// The hold is a lease.
pub const KEYLATCH_PARTY_LEASE: u32 = 2;
/// It waits to upgrade: it holds the key shared already.
pub const KEYLATCH_PARTY_UPGRADE: u32 = 4;
/// Of a chain: it waits for nothing, as far as is known; the one to look at.
pub const KEYLATCH_PARTY_RUNS: u32 = 8;
/// Of an event: it got the lock after all.
pub const KEYLATCH_PARTY_GRANTED: u32 = 16;
/// Of a deadlock: it had to give way.
pub const KEYLATCH_PARTY_VICTIM: u32 = 32;
/// Its lease ran out, and the lock is kept shut for lock_delay_ns.
pub const KEYLATCH_PARTY_LOCK_DELAY: u32 = 64;

/// One who holds a key or waits for it. What is not known is 0.
///
/// Texts and keys have a length and do not end with a NUL. They belong to what was asked: a listing's until it is freed, those of a failure until the
/// next failure of the same thread.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_party {
    /// sizeof(keylatch_party), set by the caller
    pub struct_size: usize,
    pub key: keylatch_key,
    /// The owner's name, and where in the program the owner comes from.
    pub owner: *const c_char,
    pub owner_len: usize,
    pub source: *const c_char,
    pub source_len: usize,
    /// Who holds: the grant.
    ///
    /// While a request of keylatch_upgrade() or a downgrade uses it, it is only a name.
    pub grant: u64,
    /// Who holds exclusively: its fence number.
    pub fence: u64,
    /// Who waits: for how long it has.
    ///
    /// Who holds: for how long at least; taking a free lock reads no clock, so the time counts from the first look at
    /// it.
    pub time_ns: u64,
    /// For a lease: how long it still lasts.
    pub lease_ns: u64,
    /// Who waits: its place in the line for this key; 1 is the next one.
    pub position: u64,
    /// In a listing of keylatch_top(): the waiters of the key, and the longest wait.
    pub waiters: u64,
    pub longest_wait_ns: u64,
    /// In a chain: the number of the link, from 1 on, and of the one that it follows.
    ///
    /// In a listing of deadlocks: the number of the deadlock, from 1 on.
    pub link: u64,
    pub after: u64,
    /// KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE: how it holds the key or wants it.
    pub mode: i32,
    /// KEYLATCH_PARTY_HOLDS, _WAITS, _NEITHER
    pub role: u32,
    /// Of a deadlock: how the next one holds the key; 0 if it waits in line first.
    pub blocked_by: i32,
    pub priority: u32,
    /// KEYLATCH_PARTY_SESSION, _LEASE, _UPGRADE, _RUNS, _GRANTED, _VICTIM, _LOCK_DELAY
    pub flags: u32,
    /// Of a timeout's event, who waited: how many more held the lock than are listed.
    pub more: u32,
}

// SAFETY: integers and pointers without padding.
unsafe impl Versioned for keylatch_party {
    const FIRST_SIZE: usize = 184;
    const NAME: &'static str = "keylatch_party";
}

const _: () = assert!(size_of::<keylatch_party>() == 184);

impl keylatch_party {
    /// A name, and nothing else known.
    pub(crate) fn named(owner: &str, source: &str) -> Self {
        Self {
            struct_size: 0,
            key: keylatch_key::NONE,
            owner: owner.as_ptr().cast(),
            owner_len: owner.len(),
            source: source.as_ptr().cast(),
            source_len: source.len(),
            grant: 0,
            fence: 0,
            time_ns: 0,
            lease_ns: 0,
            position: 0,
            waiters: 0,
            longest_wait_ns: 0,
            link: 0,
            after: 0,
            mode: 0,
            role: KEYLATCH_PARTY_NEITHER,
            blocked_by: 0,
            priority: 0,
            flags: 0,
            more: 0,
        }
    }

    pub(crate) fn holding(hold: &HolderInfo) -> Self {
        Self {
            key: keylatch_key::of(hold.key.as_ref()),
            role: KEYLATCH_PARTY_HOLDS,
            grant: hold.grant.to_raw(),
            fence: hold.fence.unwrap_or(0),
            time_ns: nanoseconds(hold.held_for),
            lease_ns: hold.lease.map_or(0, nanoseconds),
            mode: number_of(hold.mode),
            priority: u32::from(hold.priority),
            flags: flag(hold.session, KEYLATCH_PARTY_SESSION)
                | flag(hold.lease.is_some(), KEYLATCH_PARTY_LEASE)
                | flag(hold.in_lock_delay, KEYLATCH_PARTY_LOCK_DELAY),
            ..Self::named(&hold.owner, hold.source)
        }
    }

    pub(crate) fn waiting(wait: &WaiterInfo) -> Self {
        Self {
            key: keylatch_key::of(wait.key.as_ref()),
            role: KEYLATCH_PARTY_WAITS,
            time_ns: nanoseconds(wait.waited),
            position: wait.position as u64,
            mode: number_of(wait.mode),
            priority: u32::from(wait.priority),
            flags: flag(wait.session, KEYLATCH_PARTY_SESSION) | flag(wait.upgrade, KEYLATCH_PARTY_UPGRADE),
            ..Self::named(&wait.owner, wait.source)
        }
    }

    pub(crate) fn linked(link: &DeadlockLink) -> Self {
        Self {
            key: keylatch_key::of(link.key.as_ref()),
            role: KEYLATCH_PARTY_WAITS,
            mode: number_of(link.mode),
            blocked_by: link.blocked_by.map_or(0, number_of),
            flags: KEYLATCH_PARTY_SESSION,
            ..Self::named(&link.session, link.source)
        }
    }

    pub(crate) fn with_flags(self, flags: u32) -> Self {
        Self { flags: self.flags | flags, ..self }
    }
}

pub(crate) fn flag(is_set: bool, flag: u32) -> u32 {
    if is_set { flag } else { 0 }
}
