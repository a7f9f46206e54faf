//! CLAIMS
//!
//! One does the work of a resource, the others wait for its outcome. A claimant asks under a number that it counts itself,
//! and repeats a request under the same number: it gets the same answer. Success answers everyone in line; failure makes
//! the first in line the owner before anything is published.
//!
//! Claims have no manager: a keylatch_claims stands for itself.

use crate::annotate;
use crate::boundary::{Out, Versioned, call, read, text};
use crate::callbacks::Outstanding;
use crate::handle::{self, Entered, Kind, Mark};
use crate::manager::handed_out;
use crate::refusal::{Failure, invalid};
use keylatch::claim::{ClaimConfig, ClaimOwner, ClaimPresence, ClaimSessionOptions, Claims};
use std::ffi::{c_char, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Claims on resources: keylatch_claims_new() makes it.
///
/// Freed by keylatch_claims_free().
#[derive(Debug)]
pub struct keylatch_claims {
    pub(crate) claims: Claims,
    /// Different from the number of every manager.
    pub(crate) number: u64,
    pub(crate) callbacks: Arc<Outstanding>,
}

impl Kind for keylatch_claims {
    const MARK: &'static Mark = {
        static MARK: Mark = Mark::new();
        &MARK
    };
    const NAME: &'static str = "keylatch_claims";
}

/// One who claims: keylatch_claimant_new() makes it.
///
/// Freed by keylatch_claimant_free().
#[derive(Debug)]
pub struct keylatch_claimant {
    pub(crate) owner: ClaimOwner,
    pub(crate) claims: Claims,
    pub(crate) number: u64,
    pub(crate) callbacks: Arc<Outstanding>,
}

impl Kind for keylatch_claimant {
    const MARK: &'static Mark = {
        static MARK: Mark = Mark::new();
        &MARK
    };
    const NAME: &'static str = "keylatch_claimant";
}

/// The limits of claims. Everything that is 0 is the default.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_claims_options {
    /// sizeof(keylatch_claims_options)
    pub struct_size: usize,
    /// How long an outcome is kept for new requests. Default 10 minutes.
    pub retain_ns: u64,
    /// Resources without owner and line that are remembered. Default 10,000.
    pub retain_count: u64,
    /// Events of each resource that are kept. Default 256.
    pub ring: u64,
    /// Claimants that may be there. Default 100,000.
    pub max_claimants: u64,
    /// Open numbers of a claimant. Default 1,024.
    pub max_open: u64,
    /// Requests that may wait. Default 100,000.
    pub max_waiters: u64,
}

// SAFETY: integers without padding.
unsafe impl Versioned for keylatch_claims_options {
    const FIRST_SIZE: usize = 56;
    const NAME: &'static str = "keylatch_claims_options";
}

const _: () = assert!(size_of::<keylatch_claims_options>() == 56);

/// Beyond the numbers of managers, which count from 1.
static NUMBER: AtomicU64 = AtomicU64::new(1 << 63);

pub(crate) fn enter_claims(claims: *const keylatch_claims) -> Result<Entered<keylatch_claims>, Failure> {
    handle::enter_here(claims.cast())
}

pub(crate) fn enter(claimant: *const keylatch_claimant) -> Result<Entered<keylatch_claimant>, Failure> {
    handle::enter_here(claimant.cast())
}

/// Makes claims. options may be NULL for all defaults.
///
/// Writes *claims on success; it is the caller's, to be freed with keylatch_claims_free(). Errors: KEYLATCH_ECONFIG,
/// KEYLATCH_ENULL, KEYLATCH_ESTRUCT. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claims_new(
    options: *const keylatch_claims_options,
    claims: *mut *mut keylatch_claims,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(claims) }?;
        let mut config = ClaimConfig::default();
        if let Some(options) = NonNull::new(options.cast_mut()) {
            // SAFETY: the header says what the caller promises.
            let given = unsafe { read(options) }?;
            let set = |setting: &mut usize, given: u64| {
                if given > 0 {
                    *setting = usize::try_from(given).unwrap_or(usize::MAX);
                }
            };
            if given.retain_ns > 0 {
                config.retain_for = Duration::from_nanos(given.retain_ns);
            }
            set(&mut config.retain_count, given.retain_count);
            set(&mut config.ring, given.ring);
            set(&mut config.max_sessions, given.max_claimants);
            set(&mut config.max_open, given.max_open);
            set(&mut config.max_waiters, given.max_waiters);
        }
        keylatch::run_threads_inside(annotate::own_thread);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let made = keylatch_claims { claims: Claims::with_config(config)?, number, callbacks: Arc::default() };
        out.write(handed_out(handle::create(made)?));
        Ok(())
    })
}

/// Closes and frees claims.
///
/// Requests that wait end with KEYLATCH_ECLOSED; this function waits until every call in progress on the claims has
/// returned, every callback has been called and has returned, and the claims' own thread has ended. A callback may free
/// its claims; then callbacks that are still to come are not waited for. Claimants, queues and watches stay, to be
/// freed by their own functions. NULL is fine and does nothing.
///
/// Errors: KEYLATCH_EHANDLE; KEYLATCH_EFORKED in a forked child. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claims_free(claims: *mut keylatch_claims) -> i32 {
    call(|| {
        if !claims.is_null() {
            let ended = handle::end::<keylatch_claims>(claims.cast(), |inside| inside.claims.close())?;
            if ended.callbacks.wait_for_all(ended.number) {
                ended.claims.join_thread();
            }
        }
        Ok(())
    })
}

/// Makes a claimant.
///
/// ttl_ns is how long it lives without keylatch_claimant_renew(); 0 is until it is freed.
///
/// Writes *claimant on success; it is the caller's, to be freed with keylatch_claimant_free(), before or after its claims.
/// Errors: KEYLATCH_ESESSIONS, KEYLATCH_ECLOSED, KEYLATCH_EFORKED; KEYLATCH_ECONFIG for a ttl_ns beyond an hour;
/// KEYLATCH_EINVALID for a name beyond 4,096 bytes; KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claimant_new(
    claims: *const keylatch_claims,
    name: *const c_char,
    name_len: usize,
    ttl_ns: u64,
    claimant: *mut *mut keylatch_claimant,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(claimant) }?;
        let entered = enter_claims(claims)?;
        // SAFETY: the header says what the caller promises.
        let name = unsafe { text(name.cast::<c_void>(), name_len, "name") }?;
        let ttl = (ttl_ns > 0).then(|| Duration::from_nanos(ttl_ns));
        let options = ClaimSessionOptions { owner: name.as_ref().into(), ttl, presence: ClaimPresence::Renewals };
        let made = keylatch_claimant {
            owner: entered.claims.owner_with(&options)?,
            claims: entered.claims.clone(),
            number: entered.number,
            callbacks: Arc::clone(&entered.callbacks),
        };
        out.write(handed_out(handle::create(made)?));
        Ok(())
    })
}

/// Frees a claimant.
///
/// What it waits for and what it owns end as failures: the next in line owns the work. A thread that waits in
/// keylatch_claim() comes out with KEYLATCH_ESESSION. NULL is fine and does nothing.
///
/// Errors: KEYLATCH_EHANDLE; KEYLATCH_EFORKED in a forked child. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claimant_free(claimant: *mut keylatch_claimant) -> i32 {
    call(|| {
        if !claimant.is_null() {
            drop(handle::end::<keylatch_claimant>(claimant.cast(), |inside| inside.owner.end())?);
        }
        Ok(())
    })
}

/// Declares that the claimant is done with all numbers below this one.
///
/// Its next request has their answers forgotten, and ends what they still wait for or own.
///
/// Errors: KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claimant_settle_below(claimant: *const keylatch_claimant, number: u64) -> i32 {
    call(|| {
        enter(claimant)?.owner.settle_below(number);
        Ok(())
    })
}

/// Renews a claimant for its ttl_ns.
///
/// Errors: KEYLATCH_ESESSION if it ran out; KEYLATCH_ECLOSED, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claimant_renew(claimant: *const keylatch_claimant) -> i32 {
    call(|| Ok(enter(claimant)?.owner.renew()?))
}

/// What a wait that has no end is on the claims' side.
pub(crate) fn timeout(timeout_ns: u64) -> Option<Duration> {
    use crate::options::{KEYLATCH_WAIT_DEFAULT, KEYLATCH_WAIT_FOREVER};
    match timeout_ns {
        KEYLATCH_WAIT_DEFAULT | KEYLATCH_WAIT_FOREVER => None,
        nanoseconds => Some(Duration::from_nanos(nanoseconds)),
    }
}

pub(crate) fn no_flags(given: u32, known: u32) -> Result<(), Failure> {
    if given & !known == 0 { Ok(()) } else { Err(invalid(format!("{given:#x} is not a set of flags of a claim"))) }
}
