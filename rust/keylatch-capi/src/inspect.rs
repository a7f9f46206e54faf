//! WHO HOLDS, WHO WAITS
//!
//! Questions about a manager as it is now. They stop no other call, however many locks there are. A hold or wait that lasts
//! from before the call to after it is listed exactly once, and each listed one existed at some moment of the call.

use crate::boundary::{Out, call};
use crate::filter::{filter, keylatch_filter};
use crate::handle;
use crate::key::{self, keylatch_key};
use crate::listing::{Answer, answered, keylatch_listing};
use crate::manager::{self, keylatch_manager};
use crate::owner::keylatch_owner;
use crate::refusal::{Failure, invalid};
use crate::status::KEYLATCH_EHANDLE;
use keylatch::TopBy;
use std::ptr::NonNull;

/// What stands out: the locks that have been held for longest.
///
/// Ages count from the first look at a hold.
pub const KEYLATCH_TOP_AGE: i32 = 1;
/// What stands out: the keys that most requests wait for.
pub const KEYLATCH_TOP_WAITERS: i32 = 2;

/// Lists who holds what, as far as the filter lets pass, in no particular order.
///
/// filter may be NULL for all.
///
/// Writes *listing on success; it is the caller's, to be freed with keylatch_listing_free(). Errors: KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID,
/// KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_holders(
    manager: *mut keylatch_manager,
    filter: *const keylatch_filter,
    listing: *mut *mut keylatch_listing,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(listing) }?;
        let manager = manager::enter_here(manager)?;
        // SAFETY: the header says what the caller promises.
        let filter = unsafe { self::filter(filter) }?;
        out.write(answered(Answer::Holders(manager.locks.holders(&filter)))?);
        Ok(())
    })
}

/// Lists who waits for what, as far as the filter lets pass, line by line.
///
/// Each line is listed from its front. filter may be NULL for all.
///
/// Writes *listing on success; it is the caller's, to be freed with keylatch_listing_free(). Errors: KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID,
/// KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_waiters(
    manager: *mut keylatch_manager,
    filter: *const keylatch_filter,
    listing: *mut *mut keylatch_listing,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(listing) }?;
        let manager = manager::enter_here(manager)?;
        // SAFETY: the header says what the caller promises.
        let filter = unsafe { self::filter(filter) }?;
        out.write(answered(Answer::Waiters(manager.locks.waiters(&filter)))?);
        Ok(())
    })
}

/// Lists what all processes hold and wait for, of one key or of all.
///
/// It is for managers that share their keys by shared_memory or etcd, which it asks; keylatch_holders() and keylatch_waiters() know this process
/// alone. A process keeps a key for a while after its last hold of it, and is listed for as long. Those that wait are
/// listed with etcd. key is NULL for all.
///
/// Writes *listing on success; it is the caller's, to be freed with keylatch_listing_free(). Errors: KEYLATCH_ETIER for a manager
/// with neither, and if what it asks does not answer; KEYLATCH_EKEY, KEYLATCH_ECLOSED, KEYLATCH_EFORKED, KEYLATCH_ENULL,
/// KEYLATCH_EINVALID, KEYLATCH_EHANDLE. Threads: any; it may wait for an answer, so not from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_tier_holds(
    manager: *mut keylatch_manager,
    key: *const keylatch_key,
    listing: *mut *mut keylatch_listing,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(listing) }?;
        let manager = manager::enter_here(manager)?;
        // SAFETY: the header says what the caller promises.
        let key = if key.is_null() { None } else { Some(unsafe { key::read(key) }?) };
        out.write(answered(Answer::Tier(manager.locks.tier_holds(key).map_err(Failure::from)?))?);
        Ok(())
    })
}

/// Lists what stands out most, at most count of it.
///
/// by is KEYLATCH_TOP_AGE or KEYLATCH_TOP_WAITERS. For each it lists a key with its oldest holder (or none, if it was
/// free by then), how many wait for it, and for how long.
///
/// Writes *listing on success; it is the caller's, to be freed with keylatch_listing_free(). Errors: KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID,
/// KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_top(
    manager: *mut keylatch_manager,
    by: i32,
    count: usize,
    listing: *mut *mut keylatch_listing,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(listing) }?;
        let manager = manager::enter_here(manager)?;
        let by = match by {
            KEYLATCH_TOP_AGE => TopBy::Age,
            KEYLATCH_TOP_WAITERS => TopBy::Waiters,
            other => return Err(invalid(format!("nothing stands out by {other}"))),
        };
        out.write(answered(Answer::Top(manager.locks.top(count, by)))?);
        Ok(())
    })
}

/// Lists a blocking chain, from a key, or from what an owner waits for.
///
/// It leads to the holders, to what those wait for, and so on to holders that wait for nothing (KEYLATCH_LINK_RUNS). Only
/// sessions are followed. One of key and owner is NULL. Each link has its waiter, unless it is the key that was asked
/// about, and after it the holders of what the waiter waits for.
///
/// circle may be NULL; otherwise *circle is 1 if the chain leads back to itself: sessions of it wait for each other. The chain is
/// read link by link, so it may never have been a circle at any one moment.
///
/// Writes *circle and *listing on success; the listing is the caller's, to be freed with keylatch_listing_free(), and
/// empty if there is no waiter and no holder. Errors: KEYLATCH_EINVALID, also for both or neither of key and owner;
/// KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_blocking_chain(
    manager: *mut keylatch_manager,
    key: *const keylatch_key,
    owner: *const keylatch_owner,
    circle: *mut i32,
    listing: *mut *mut keylatch_listing,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(listing) }?;
        let manager = manager::enter_here(manager)?;
        if key.is_null() == owner.is_null() {
            return Err(invalid("a chain begins with a key or with an owner, one of them".into()));
        }
        let chain = if owner.is_null() {
            // SAFETY: the header says what the caller promises.
            manager.locks.blocking_chain(unsafe { key::read(key) }?)
        } else {
            let owner = handle::enter::<keylatch_owner>(owner.cast())?;
            if owner.manager != manager.number {
                return Err(Failure::new(
                    KEYLATCH_EHANDLE,
                    "the owner belongs to another manager; make one with keylatch_owner_new() of this one",
                ));
            }
            manager.locks.blocking_chain(owner.as_ref())
        };
        let goes_round = i32::from(chain.circle);
        out.write(answered(Answer::chain(chain))?);
        if let Some(circle) = NonNull::new(circle) {
            // SAFETY: the header says what the caller promises.
            unsafe { circle.write_unaligned(goes_round) };
        }
        Ok(())
    })
}

/// Lists the latest broken deadlocks among sessions, the oldest first.
///
/// There are at most 64. Each lists the sessions that waited for each other, beginning with the victim
/// (KEYLATCH_LINK_VICTIM); link is the number of the deadlock, and time_ns says when it was, as the time since the
/// manager was made.
///
/// Writes *listing on success; it is the caller's, to be freed with keylatch_listing_free(). Errors: KEYLATCH_EFORKED, KEYLATCH_ENULL,
/// KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_recent_deadlocks(
    manager: *mut keylatch_manager,
    listing: *mut *mut keylatch_listing,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(listing) }?;
        let manager = manager::enter_here(manager)?;
        out.write(answered(Answer::deadlocks(manager.locks.recent_deadlocks()))?);
        Ok(())
    })
}

/// Lists the latest reports of contradicting lock orders, the oldest first.
///
/// There are at most 64, if the manager was made with KEYLATCH_MANAGER_LOCK_ORDER. Each order lists what a session held
/// (KEYLATCH_LINK_HOLDS) and after it what it asked for (KEYLATCH_LINK_WAITS), which is what the next one held; link
/// is the number of the report, and time_ns says when it was, as the time since the manager was made. reported may be
/// NULL; otherwise *reported says how many reports there were altogether.
///
/// Writes *reported and *listing on success; the listing is the caller's, to be freed with keylatch_listing_free(). Errors: KEYLATCH_EFORKED,
/// KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_lock_orders(
    manager: *mut keylatch_manager,
    reported: *mut u64,
    listing: *mut *mut keylatch_listing,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(listing) }?;
        let found = manager::enter_here(manager)?.locks.lock_order_reports();
        out.write(answered(Answer::orders(found.reports))?);
        if let Some(reported) = NonNull::new(reported) {
            // SAFETY: the header says what the caller promises.
            unsafe { reported.write_unaligned(found.reported) };
        }
        Ok(())
    })
}
