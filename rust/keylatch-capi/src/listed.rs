//! HOLDERS, WAITERS AND CHAIN LINKS
//!
//! What failures, listings and events consist of. A text has a length and does not end with a NUL. Texts and keys belong
//! to what they came from: those of a listing until it is freed, those of a failure until the next failure of the same
//! thread. What is not known is 0.

use crate::boundary::{Versioned, flag, nanoseconds};
use crate::key::{keylatch_key, number_of};
use keylatch::tier::RemoteHold;
use keylatch::{ChainLink, DeadlockLink, Grant, Holder, HolderInfo, LockOrderReport, TopKey, WaiterInfo};
use std::collections::HashSet;
use std::ffi::c_char;

/// The owner of this hold is a session.
pub const KEYLATCH_HOLDER_SESSION: u32 = 1;
/// The hold is a lease.
pub const KEYLATCH_HOLDER_LEASE: u32 = 2;
/// The lease ran out, and no request gets the lock before lock_delay_ns is over.
pub const KEYLATCH_HOLDER_LOCK_DELAY: u32 = 4;

/// A hold of a key.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_holder {
    /// sizeof(keylatch_holder), set by the caller
    pub struct_size: usize,
    pub key: keylatch_key,
    /// The owner's name, and where in the program the owner comes from.
    pub owner: *const c_char,
    pub owner_len: usize,
    pub source: *const c_char,
    pub source_len: usize,
    /// While keylatch_upgrade() or a downgrade works on this grant, it is only a name.
    pub grant: u64,
    /// The fence number of an exclusive hold.
    pub fence: u64,
    /// How long the key has been held, at least.
    ///
    /// Taking a free lock reads no clock, so the time counts from the first look at the hold.
    pub held_ns: u64,
    /// How long the lease still lasts.
    pub lease_ns: u64,
    /// KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE
    pub mode: i32,
    pub priority: u32,
    /// KEYLATCH_HOLDER_SESSION, _LEASE, _LOCK_DELAY
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

/// The owner of this request is a session.
pub const KEYLATCH_WAITER_SESSION: u32 = 1;
/// The request waits to upgrade: its owner holds the key shared already.
pub const KEYLATCH_WAITER_UPGRADE: u32 = 2;
/// In an event: the request got the lock in the end.
pub const KEYLATCH_WAITER_GRANTED: u32 = 4;

/// A request that waits for a key.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_waiter {
    /// sizeof(keylatch_waiter), set by the caller
    pub struct_size: usize,
    pub key: keylatch_key,
    /// The owner's name, and where in the program the owner comes from.
    pub owner: *const c_char,
    pub owner_len: usize,
    pub source: *const c_char,
    pub source_len: usize,
    /// How long the request has waited.
    pub waited_ns: u64,
    /// Its place in the queue of this key; 1 is the next one.
    pub position: u64,
    /// The mode it wants: KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE.
    pub mode: i32,
    pub priority: u32,
    /// KEYLATCH_WAITER_SESSION, _UPGRADE, _GRANTED
    pub flags: u32,
    /// In a timeout's event: how many more held the lock than are listed.
    pub more: u32,
}

/// This link of a chain holds the key.
pub const KEYLATCH_LINK_HOLDS: u32 = 1;
/// This link of a chain waits for the key.
pub const KEYLATCH_LINK_WAITS: u32 = 2;

/// The owner of this link is a session.
pub const KEYLATCH_LINK_SESSION: u32 = 1;
/// The hold is a lease.
pub const KEYLATCH_LINK_LEASE: u32 = 2;
/// The request waits to upgrade: its owner holds the key shared already.
pub const KEYLATCH_LINK_UPGRADE: u32 = 4;
/// The holder waits for nothing, as far as is known: the one to look at.
pub const KEYLATCH_LINK_RUNS: u32 = 8;
/// In a deadlock: the session whose request was refused.
pub const KEYLATCH_LINK_VICTIM: u32 = 16;

/// A link of a blocking chain, of a deadlock, or of a report about lock orders.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_chain_link {
    /// sizeof(keylatch_chain_link), set by the caller
    pub struct_size: usize,
    pub key: keylatch_key,
    /// The owner's name, and where in the program the owner comes from.
    pub owner: *const c_char,
    pub owner_len: usize,
    pub source: *const c_char,
    pub source_len: usize,
    /// The grant of a holder in a chain.
    pub grant: u64,
    /// In a chain: how long the key has been held or waited for.
    ///
    /// In a listing of deadlocks or of lock orders: when it was, as the time since the manager was made.
    pub time_ns: u64,
    /// How long the lease of a holder in a chain still lasts.
    pub lease_ns: u64,
    /// The place of a waiter in the queue of its key; 1 is the next one.
    pub position: u64,
    /// The number of the link, from 1 on, and of the link that it follows.
    ///
    /// In a listing of deadlocks or of lock orders, link is the number of the report.
    pub link: u64,
    pub after: u64,
    /// KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE: how the owner holds the key or wants it.
    pub mode: i32,
    /// KEYLATCH_LINK_HOLDS or KEYLATCH_LINK_WAITS
    pub role: u32,
    /// In a deadlock: how the next session holds the key; 0 if it waits in the queue.
    pub blocked_by: i32,
    /// KEYLATCH_LINK_SESSION, _LEASE, _UPGRADE, _RUNS, _VICTIM
    pub flags: u32,
}

/// A key that stands out, as keylatch_top() lists it, with its oldest holder.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_top_key {
    /// sizeof(keylatch_top_key), set by the caller
    pub struct_size: usize,
    pub key: keylatch_key,
    /// How many requests wait for the key, and the longest wait.
    pub waiters: u64,
    pub longest_wait_ns: u64,
    /// The oldest holder, as in keylatch_holder.
    pub owner: *const c_char,
    pub owner_len: usize,
    pub source: *const c_char,
    pub source_len: usize,
    pub grant: u64,
    pub held_ns: u64,
    /// How the oldest holder holds the key; 0 if the key was free by then.
    pub mode: i32,
    /// KEYLATCH_HOLDER_SESSION, _LEASE, _LOCK_DELAY
    pub flags: u32,
}

/// The process waits for the key.
pub const KEYLATCH_TIER_HOLD_WAITS: u32 = 1;
/// It is a hold or a request of the process that lists.
pub const KEYLATCH_TIER_HOLD_OWN: u32 = 2;

/// What a process has of a key, or waits for, as keylatch_tier_holds() lists it.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_tier_hold {
    /// sizeof(keylatch_tier_hold), set by the caller
    pub struct_size: usize,
    pub key: keylatch_key,
    /// The owner's name, as its process gave it.
    pub owner: *const c_char,
    pub owner_len: usize,
    /// The process, as people recognise it: its host, name and number.
    pub process: *const c_char,
    pub process_len: usize,
    /// For how long the process has had the key, or has waited; etcd does not know it.
    pub since_ns: u64,
    /// KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE
    pub mode: i32,
    /// KEYLATCH_TIER_HOLD_WAITS, _OWN
    pub flags: u32,
}

// SAFETY: integers and pointers without padding, as the assertion below shows.
unsafe impl Versioned for keylatch_holder {
    const FIRST_SIZE: usize = 136;
    const NAME: &'static str = "keylatch_holder";
}

// SAFETY: as above.
unsafe impl Versioned for keylatch_waiter {
    const FIRST_SIZE: usize = 120;
    const NAME: &'static str = "keylatch_waiter";
}

// SAFETY: as above.
unsafe impl Versioned for keylatch_chain_link {
    const FIRST_SIZE: usize = 152;
    const NAME: &'static str = "keylatch_chain_link";
}

// SAFETY: as above.
unsafe impl Versioned for keylatch_top_key {
    const FIRST_SIZE: usize = 128;
    const NAME: &'static str = "keylatch_top_key";
}

// SAFETY: as above.
unsafe impl Versioned for keylatch_tier_hold {
    const FIRST_SIZE: usize = 104;
    const NAME: &'static str = "keylatch_tier_hold";
}

const _: () = assert!(
    size_of::<keylatch_holder>() == 136
        && size_of::<keylatch_waiter>() == 120
        && size_of::<keylatch_chain_link>() == 152
        && size_of::<keylatch_top_key>() == 128
        && size_of::<keylatch_tier_hold>() == 104
);

impl keylatch_holder {
    /// A holder of which only the owner is known.
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
            held_ns: 0,
            lease_ns: 0,
            mode: 0,
            priority: 0,
            flags: 0,
            reserved: 0,
        }
    }

    pub(crate) fn of(hold: &HolderInfo) -> Self {
        Self {
            key: keylatch_key::of(hold.key.as_ref()),
            grant: hold.grant.to_raw(),
            fence: hold.fence.unwrap_or(0),
            held_ns: nanoseconds(hold.held_for),
            lease_ns: hold.lease.map_or(0, nanoseconds),
            mode: number_of(hold.mode),
            priority: u32::from(hold.priority),
            flags: flag(hold.session, KEYLATCH_HOLDER_SESSION)
                | flag(hold.lease.is_some(), KEYLATCH_HOLDER_LEASE)
                | flag(hold.in_lock_delay, KEYLATCH_HOLDER_LOCK_DELAY),
            ..Self::named(&hold.owner, hold.source)
        }
    }

    /// A holder as a failed request knows it.
    pub(crate) fn of_failure(key: keylatch_key, holder: &Holder) -> Self {
        Self {
            key,
            grant: holder.grant.map_or(0, Grant::to_raw),
            fence: holder.fence.unwrap_or(0),
            lease_ns: holder.lease.map_or(0, nanoseconds),
            held_ns: nanoseconds(holder.held_for),
            mode: number_of(holder.mode),
            flags: flag(holder.lease.is_some(), KEYLATCH_HOLDER_LEASE),
            ..Self::named(&holder.owner, "")
        }
    }
}

impl keylatch_waiter {
    /// A waiter of which only the owner is known.
    pub(crate) fn named(owner: &str, source: &str) -> Self {
        Self {
            struct_size: 0,
            key: keylatch_key::NONE,
            owner: owner.as_ptr().cast(),
            owner_len: owner.len(),
            source: source.as_ptr().cast(),
            source_len: source.len(),
            waited_ns: 0,
            position: 0,
            mode: 0,
            priority: 0,
            flags: 0,
            more: 0,
        }
    }

    pub(crate) fn of(wait: &WaiterInfo) -> Self {
        Self {
            key: keylatch_key::of(wait.key.as_ref()),
            waited_ns: nanoseconds(wait.waited),
            position: wait.position as u64,
            mode: number_of(wait.mode),
            priority: u32::from(wait.priority),
            flags: flag(wait.session, KEYLATCH_WAITER_SESSION) | flag(wait.upgrade, KEYLATCH_WAITER_UPGRADE),
            ..Self::named(&wait.owner, wait.source)
        }
    }
}

impl keylatch_chain_link {
    fn named(owner: &str, source: &str, role: u32) -> Self {
        Self {
            struct_size: 0,
            key: keylatch_key::NONE,
            owner: owner.as_ptr().cast(),
            owner_len: owner.len(),
            source: source.as_ptr().cast(),
            source_len: source.len(),
            grant: 0,
            time_ns: 0,
            lease_ns: 0,
            position: 0,
            link: 0,
            after: 0,
            mode: 0,
            role,
            blocked_by: 0,
            flags: 0,
        }
    }

    /// The waiter of a link of a chain.
    pub(crate) fn waiting(wait: &WaiterInfo) -> Self {
        Self {
            key: keylatch_key::of(wait.key.as_ref()),
            time_ns: nanoseconds(wait.waited),
            position: wait.position as u64,
            mode: number_of(wait.mode),
            flags: flag(wait.session, KEYLATCH_LINK_SESSION) | flag(wait.upgrade, KEYLATCH_LINK_UPGRADE),
            ..Self::named(&wait.owner, wait.source, KEYLATCH_LINK_WAITS)
        }
    }

    /// A holder of a link of a chain; `running` has the holders that wait for nothing.
    pub(crate) fn holding(link: &ChainLink, place: usize, running: &HashSet<Grant>) -> Option<Self> {
        let hold = link.holders.get(place)?;
        Some(Self {
            key: keylatch_key::of(hold.key.as_ref()),
            grant: hold.grant.to_raw(),
            time_ns: nanoseconds(hold.held_for),
            lease_ns: hold.lease.map_or(0, nanoseconds),
            mode: number_of(hold.mode),
            flags: flag(hold.session, KEYLATCH_LINK_SESSION)
                | flag(hold.lease.is_some(), KEYLATCH_LINK_LEASE)
                | flag(running.contains(&hold.grant), KEYLATCH_LINK_RUNS),
            ..Self::named(&hold.owner, hold.source, KEYLATCH_LINK_HOLDS)
        })
    }

    /// A session of a deadlock; the first one is the victim.
    pub(crate) fn of_deadlock(links: &[DeadlockLink], place: usize) -> Option<Self> {
        let link = links.get(place)?;
        Some(Self {
            key: keylatch_key::of(link.key.as_ref()),
            mode: number_of(link.mode),
            blocked_by: link.blocked_by.map_or(0, number_of),
            flags: KEYLATCH_LINK_SESSION | flag(place == 0, KEYLATCH_LINK_VICTIM),
            ..Self::named(&link.session, link.source, KEYLATCH_LINK_WAITS)
        })
    }

    /// Makes two links of each order: the key held, and the key asked for next.
    pub(crate) fn of_order(report: &LockOrderReport, place: usize) -> Option<Self> {
        let link = report.links.get(place / 2)?;
        let (key, mode, role) = match place % 2 {
            0 => (&link.held, link.held_mode, KEYLATCH_LINK_HOLDS),
            _ => (&link.wanted, link.wanted_mode, KEYLATCH_LINK_WAITS),
        };
        Some(Self {
            key: keylatch_key::of(key.as_ref()),
            mode: number_of(mode),
            flags: KEYLATCH_LINK_SESSION,
            ..Self::named(&link.session, link.source, role)
        })
    }
}

impl keylatch_top_key {
    pub(crate) fn of(top: &TopKey) -> Self {
        let holder = top.holder.as_ref().map_or_else(|| keylatch_holder::named("", ""), keylatch_holder::of);
        Self {
            struct_size: 0,
            key: keylatch_key::of(top.key.as_ref()),
            waiters: top.waiters as u64,
            longest_wait_ns: nanoseconds(top.longest_wait),
            owner: holder.owner,
            owner_len: holder.owner_len,
            source: holder.source,
            source_len: holder.source_len,
            grant: holder.grant,
            held_ns: holder.held_ns,
            mode: holder.mode,
            flags: holder.flags,
        }
    }
}

impl keylatch_tier_hold {
    pub(crate) fn of(hold: &RemoteHold) -> Self {
        Self {
            struct_size: 0,
            key: keylatch_key::of(hold.key.as_ref()),
            owner: hold.owner.as_ptr().cast(),
            owner_len: hold.owner.len(),
            process: hold.process.as_ptr().cast(),
            process_len: hold.process.len(),
            since_ns: hold.since.map_or(0, nanoseconds),
            mode: number_of(hold.mode),
            flags: flag(hold.waits, KEYLATCH_TIER_HOLD_WAITS) | flag(hold.own, KEYLATCH_TIER_HOLD_OWN),
        }
    }
}
