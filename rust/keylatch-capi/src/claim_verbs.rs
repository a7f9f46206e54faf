//! CLAIMING AND COMPLETING
//!
//! A request is answered with a keylatch_claim_answer. KEYLATCH_CLAIM_YOURS says that the work is the claimant's to do: its
//! fence completes it, and goes with what is written, so that the store can refuse what an earlier owner writes late.

use crate::acquire::keylatch_free_fn;
use crate::boundary::{Out, SizedOut, Versioned, call, read, text};
use crate::callbacks::Promise;
use crate::claims::{enter, enter_claims, keylatch_claimant, keylatch_claims, no_flags, timeout};
use crate::figures;
use crate::key::{self, keylatch_key};
use crate::last_error;
use crate::refusal::{Failure, invalid, null};
use crate::status::KEYLATCH_OK;
use keylatch::claim::{ClaimAnswer, ClaimError, ClaimLine, ClaimPolicy, ClaimResult, ClaimWhenTaken, PendingClaim};
use std::ffi::{CString, c_char, c_void};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::time::Duration;

/// The request is in line; ahead says how many are before it.
pub const KEYLATCH_CLAIM_WAITING: i32 = 0;
/// The work is the claimant's to do: fence, attempt and first_in_epoch.
pub const KEYLATCH_CLAIM_YOURS: i32 = 1;
/// The work has an outcome: succeeded, text, and its owner's fence and attempt.
///
/// text is the note or the reason.
pub const KEYLATCH_CLAIM_DONE: i32 = 2;
/// This request completed the work: succeeded and text.
pub const KEYLATCH_CLAIM_ENDED: i32 = 3;
/// This request owned the work and lost it; text says why.
pub const KEYLATCH_CLAIM_LOST: i32 = 4;
/// Another has the work; text is its owner's name. The request was not to wait.
pub const KEYLATCH_CLAIM_SKIPPED: i32 = 5;
/// A later request took the places of all that waited.
pub const KEYLATCH_CLAIM_SUPERSEDED: i32 = 6;
/// The request was cancelled; fence is that of the grant that ended with it, or 0.
pub const KEYLATCH_CLAIM_CANCELLED: i32 = 7;

/// The answer of a request.
///
/// A function that writes one says so; text is the caller's then, to be freed with keylatch_text_free(), and NULL where
/// there is none. In a callback it lives until the callback returns.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_claim_answer {
    /// sizeof(keylatch_claim_answer)
    pub struct_size: usize,
    pub text: *mut c_char,
    pub fence: u64,
    pub ahead: u64,
    /// KEYLATCH_CLAIM_...
    pub kind: i32,
    /// 1 for a success, 0 for a failure.
    pub succeeded: i32,
    /// 1 for the first attempt at the work, one more after each failure.
    pub attempt: u32,
    /// 1 if no earlier attempt is known: look whether the work is done already.
    pub first_in_epoch: u32,
}

// SAFETY: integers and a pointer without padding.
unsafe impl Versioned for keylatch_claim_answer {
    const FIRST_SIZE: usize = 48;
    const NAME: &'static str = "keylatch_claim_answer";
}

const _: () = assert!(size_of::<keylatch_claim_answer>() == 48 || size_of::<usize>() != 8);

impl keylatch_claim_answer {
    pub(crate) const NONE: Self = Self {
        struct_size: size_of::<Self>(),
        text: null_mut(),
        fence: 0,
        ahead: 0,
        kind: KEYLATCH_CLAIM_WAITING,
        succeeded: 0,
        attempt: 0,
        first_in_epoch: 0,
    };

    fn of_result(kind: i32, result: &ClaimResult) -> Self {
        let said = result.as_ref().unwrap_or_else(|reason| reason);
        let succeeded = i32::from(result.is_ok());
        Self { kind, succeeded, text: figures::text(said.to_string()), ..Self::NONE }
    }

    pub(crate) fn of(answer: &ClaimAnswer) -> Self {
        let kind = |kind| Self { kind, ..Self::NONE };
        match answer {
            ClaimAnswer::Waiting { ahead } => Self { ahead: *ahead as u64, ..Self::NONE },
            ClaimAnswer::Yours(owned) => Self {
                fence: owned.grant.fence,
                attempt: owned.attempt,
                first_in_epoch: u32::from(owned.first_in_epoch),
                ..kind(KEYLATCH_CLAIM_YOURS)
            },
            ClaimAnswer::Done(outcome) => Self {
                fence: outcome.grant.fence,
                attempt: outcome.attempt,
                ..Self::of_result(KEYLATCH_CLAIM_DONE, &outcome.result)
            },
            ClaimAnswer::Ended(result) => Self::of_result(KEYLATCH_CLAIM_ENDED, result),
            ClaimAnswer::Lost(loss) => {
                Self { text: figures::text(loss.word().to_owned()), ..kind(KEYLATCH_CLAIM_LOST) }
            }
            ClaimAnswer::Skipped { owner } => Self {
                text: figures::text(owner.as_deref().unwrap_or_default().to_owned()),
                ..kind(KEYLATCH_CLAIM_SKIPPED)
            },
            ClaimAnswer::Superseded { .. } => kind(KEYLATCH_CLAIM_SUPERSEDED),
            ClaimAnswer::Cancelled { grant } => {
                Self { fence: grant.map_or(0, |grant| grant.fence), ..kind(KEYLATCH_CLAIM_CANCELLED) }
            }
        }
    }

    /// Frees the text that a callback was shown.
    fn free_text(self) {
        if !self.text.is_null() {
            // SAFETY: made by `figures::text` for this answer alone.
            drop(unsafe { CString::from_raw(self.text) });
        }
    }
}

/// Do not wait for work that is another's.
pub const KEYLATCH_CLAIM_SKIP_IF_CLAIMED: u32 = 1;
/// Take the places of all that wait: only the latest request waits.
pub const KEYLATCH_CLAIM_LATEST_ONLY: u32 = 2;

/// The rules of a request.
///
/// Each concerns that request alone. Everything that is 0 is the default.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_claim_policy {
    /// sizeof(keylatch_claim_policy)
    pub struct_size: usize,
    /// How long the grant lasts without keylatch_claim_renew().
    ///
    /// Default: as long as the claimant.
    pub lease_ns: u64,
    /// How long the next attempt is held back when this one fails.
    ///
    /// Default: not at all.
    pub retry_after_ns: u64,
    /// How many may be in line for it to join. Default: no limit.
    pub max_waiting: u64,
    /// If this attempt fails, everyone in line is answered with the failure.
    ///
    /// Default: no limit.
    pub max_attempts: u32,
    /// KEYLATCH_CLAIM_SKIP_IF_CLAIMED, KEYLATCH_CLAIM_LATEST_ONLY, or 0.
    pub flags: u32,
}

// SAFETY: integers without padding.
unsafe impl Versioned for keylatch_claim_policy {
    const FIRST_SIZE: usize = 40;
    const NAME: &'static str = "keylatch_claim_policy";
}

const _: () = assert!(size_of::<keylatch_claim_policy>() == 40 || size_of::<usize>() != 8);

/// # Safety
/// NULL, or as the header says of keylatch_claim_policy.
unsafe fn policy(pointer: *const keylatch_claim_policy) -> Result<ClaimPolicy, Failure> {
    let Some(pointer) = NonNull::new(pointer.cast_mut()) else { return Ok(ClaimPolicy::default()) };
    // SAFETY: promised.
    let given = unsafe { read(pointer) }?;
    no_flags(given.flags, KEYLATCH_CLAIM_SKIP_IF_CLAIMED | KEYLATCH_CLAIM_LATEST_ONLY)?;
    let has = |flag| given.flags & flag != 0;
    Ok(ClaimPolicy {
        max_attempts: (given.max_attempts > 0).then_some(given.max_attempts),
        retry_after: Duration::from_nanos(given.retry_after_ns),
        when_taken: if has(KEYLATCH_CLAIM_SKIP_IF_CLAIMED) { ClaimWhenTaken::Skip } else { ClaimWhenTaken::Wait },
        line: if has(KEYLATCH_CLAIM_LATEST_ONLY) { ClaimLine::LatestOnly } else { ClaimLine::All },
        max_waiting: (given.max_waiting > 0).then(|| usize::try_from(given.max_waiting).unwrap_or(usize::MAX)),
        lease: (given.lease_ns > 0).then(|| Duration::from_nanos(given.lease_ns)),
    })
}

/// # Safety
/// As the header says of keylatch_claim().
pub(crate) unsafe fn pending(
    claimant: &keylatch_claimant,
    resource: *const keylatch_key,
    number: u64,
    rules: *const keylatch_claim_policy,
) -> Result<PendingClaim, Failure> {
    // SAFETY: promised.
    let (resource, policy) = unsafe { (key::read(resource)?, policy(rules)?) };
    Ok(claimant.claims.claim(resource, &claimant.owner, number).policy(policy))
}

/// Asks for the work of a resource under a number, and waits for an answer.
///
/// It waits in the calling thread, for at most timeout_ns. With 0 it asks without waiting: after KEYLATCH_CLAIM_WAITING
/// the request is in line, until it is asked for again or cancelled. A request that times out leaves the line, and its
/// number is used up. policy may be NULL.
///
/// Set answer->struct_size first; the rest is written on success. Errors: KEYLATCH_ETIMEOUT; KEYLATCH_ESESSION,
/// KEYLATCH_ESTALE, KEYLATCH_ENUMBER, KEYLATCH_EOPEN, KEYLATCH_EWAITERS, KEYLATCH_EKEY, KEYLATCH_ECLOSED,
/// KEYLATCH_EFORKED; KEYLATCH_ECONFIG for a lease_ns beyond an hour; KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_ESTRUCT,
/// KEYLATCH_EHANDLE. Threads: any, but callbacks must not wait. Signals do not end the wait.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claim(
    claimant: *const keylatch_claimant,
    resource: *const keylatch_key,
    number: u64,
    timeout_ns: u64,
    policy: *const keylatch_claim_policy,
    answer: *mut keylatch_claim_answer,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { SizedOut::new(answer) }?;
        let claimant = enter(claimant)?;
        // SAFETY: the header says what the caller promises.
        let pending = unsafe { pending(&claimant, resource, number, policy) }?;
        let settled = match timeout(timeout_ns) {
            None => pending.blocking(),
            Some(Duration::ZERO) => pending.now(),
            Some(timeout) => pending.timeout(timeout).blocking(),
        };
        out.write(&keylatch_claim_answer::of(&settled?));
        Ok(())
    })
}

/// Called once with the answer of a claim.
///
/// That is KEYLATCH_OK and the answer, or why not and NULL. keylatch_last_error() tells more of a failure. It runs on a
/// thread of the library's, one callback of its claims at a time. It may call everything that does not wait.
pub type keylatch_claim_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, status: i32, answer: *const keylatch_claim_answer)>;

/// As keylatch_claim(), with the answer for the callback.
///
/// The callback gets it, too, if it is there already.
///
/// After KEYLATCH_OK it is called once; after an error it is not. free_fn is called once in any case, last.
///
/// Errors: as keylatch_claim(), without KEYLATCH_ETIMEOUT, which the callback gets; KEYLATCH_ESYSTEM if there is no
/// thread to be had. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claim_callback_submit(
    claimant: *const keylatch_claimant,
    resource: *const keylatch_key,
    number: u64,
    timeout_ns: u64,
    policy: *const keylatch_claim_policy,
    callback: keylatch_claim_callback,
    user_data: *mut c_void,
    free_fn: keylatch_free_fn,
) -> i32 {
    let promise = Promise::new(user_data, free_fn);
    let kept = Arc::clone(&promise);
    let status = call(|| {
        let callback = callback.ok_or_else(|| null("the callback"))?;
        let claimant = enter(claimant)?;
        // SAFETY: the header says what the caller promises.
        let mut pending = unsafe { pending(&claimant, resource, number, policy) }?;
        if let Some(timeout) = timeout(timeout_ns) {
            pending = pending.timeout(timeout);
        }
        promise.is_owed(claimant.number, &claimant.callbacks);
        pending.with_callback(move |settled| {
            let (status, shown) = match settled {
                Ok(answer) => (KEYLATCH_OK, Some(keylatch_claim_answer::of(&answer))),
                Err(error) => (status_of(error), None),
            };
            let pointer = shown.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            // SAFETY: the caller gave the function for this pointer.
            kept.call(|user_data| unsafe { callback(user_data, status, pointer) });
            shown.into_iter().for_each(keylatch_claim_answer::free_text);
        })?;
        Ok(())
    });
    // Out of the claimant, so that free_fn may free it.
    drop(promise);
    status
}

/// Ends the work, with success or failure.
///
/// succeeded is 1 with a note, or 0 with the reason of the failure, which may be NULL if it has no bytes. A repetition
/// gets the stored answer: KEYLATCH_CLAIM_ENDED with what was completed first, or how the grant was lost. answer may be
/// NULL.
///
/// Errors: KEYLATCH_ENOTHELD if the fence is not this request's; KEYLATCH_ESESSION, KEYLATCH_ESTALE, KEYLATCH_ECLOSED, KEYLATCH_EFORKED;
/// KEYLATCH_EINVALID for a text beyond 4,096 bytes; KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claim_complete(
    claimant: *const keylatch_claimant,
    number: u64,
    fence: u64,
    succeeded: i32,
    note: *const c_char,
    note_len: usize,
    answer: *mut keylatch_claim_answer,
) -> i32 {
    call(|| {
        let out = (!answer.is_null()).then(|| {
            // SAFETY: the header says what the caller promises.
            unsafe { SizedOut::new(answer) }
        });
        let out = out.transpose()?;
        let claimant = enter(claimant)?;
        // SAFETY: the header says what the caller promises.
        let note = unsafe { text(note.cast::<c_void>(), note_len, "note") }?;
        let result = match succeeded {
            1 => Ok(note.as_ref()),
            0 => Err(note.as_ref()),
            other => return Err(invalid(format!("succeeded is {other}; it has to be 0 or 1"))),
        };
        let ended = claimant.claims.complete(claimant.owner.owned(number, fence), result)?;
        if let Some(out) = out {
            out.write(&keylatch_claim_answer::of(&ended));
        }
        Ok(())
    })
}

/// Reports how far the work is.
///
/// That is units done, units in all (0 if unknown), and where to look at it, which may be NULL if it has no bytes.
///
/// Errors: as keylatch_claim_complete(); KEYLATCH_ENOTHELD also if the grant was lost. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claim_progress(
    claimant: *const keylatch_claimant,
    number: u64,
    fence: u64,
    done: u64,
    total: u64,
    address: *const c_char,
    address_len: usize,
) -> i32 {
    call(|| {
        let claimant = enter(claimant)?;
        // SAFETY: the header says what the caller promises.
        let address = unsafe { text(address.cast::<c_void>(), address_len, "address") }?;
        Ok(claimant.claims.progress(claimant.owner.owned(number, fence), done, total, &address)?)
    })
}

/// Lets the lease of a grant begin again with this length.
///
/// Errors: KEYLATCH_ENOTHELD if the grant was lost or is not this request's; KEYLATCH_ECONFIG for a lease_ns of 0 or beyond an hour;
/// KEYLATCH_ESESSION, KEYLATCH_ESTALE, KEYLATCH_ECLOSED, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claim_renew(
    claimant: *const keylatch_claimant,
    number: u64,
    fence: u64,
    lease_ns: u64,
) -> i32 {
    call(|| {
        let claimant = enter(claimant)?;
        let owned = claimant.owner.owned(number, fence);
        Ok(claimant.claims.renew(owned, Duration::from_nanos(lease_ns))?)
    })
}

/// Gives a request up: its place, or the work that it owns, which then has failed.
///
/// A request of that number that comes later is answered KEYLATCH_CLAIM_CANCELLED. answer may be NULL.
///
/// Errors: KEYLATCH_ESESSION, KEYLATCH_ESTALE, KEYLATCH_EOPEN, KEYLATCH_ECLOSED, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_ESTRUCT,
/// KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claim_cancel(
    claimant: *const keylatch_claimant,
    number: u64,
    answer: *mut keylatch_claim_answer,
) -> i32 {
    call(|| {
        let out = (!answer.is_null()).then(|| {
            // SAFETY: the header says what the caller promises.
            unsafe { SizedOut::new(answer) }
        });
        let out = out.transpose()?;
        let claimant = enter(claimant)?;
        let cancelled = claimant.claims.cancel(claimant.owner.request(number))?;
        if let Some(out) = out {
            out.write(&keylatch_claim_answer::of(&cancelled));
        }
        Ok(())
    })
}

/// Ends the owner's grant as a failure.
///
/// *fence becomes that of the grant, or 0 if the resource has no owner.
///
/// Writes *fence on success. Errors: KEYLATCH_EKEY, KEYLATCH_ECLOSED, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_EHANDLE.
/// Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claim_force_release(
    claims: *const keylatch_claims,
    resource: *const keylatch_key,
    fence: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let (out, resource) = unsafe { (Out::new(fence)?, key::read(resource)?) };
        let ended = enter_claims(claims)?.claims.force_release(resource)?;
        out.write(ended.map_or(0, |grant| grant.fence));
        Ok(())
    })
}

/// Drops a retained outcome, so that the next request does the work again.
///
/// *forgotten becomes 1, or 0 if none was retained.
///
/// Writes *forgotten on success. Errors: KEYLATCH_EKEY, KEYLATCH_ECLOSED, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_EHANDLE.
/// Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claim_forget(
    claims: *const keylatch_claims,
    resource: *const keylatch_key,
    forgotten: *mut i32,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let (out, resource) = unsafe { (Out::new(forgotten)?, key::read(resource)?) };
        out.write(i32::from(enter_claims(claims)?.claims.forget(resource)?));
        Ok(())
    })
}

/// The status of a claim that has no answer.
pub(crate) fn status_of(error: ClaimError) -> i32 {
    last_error::note(error.into())
}
