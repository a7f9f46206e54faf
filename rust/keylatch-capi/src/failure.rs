//! THE LAST FAILURE
//!
//! Every function that fails notes in its thread what happened; a success leaves it as it is. What these functions hand
//! out stays where it is until the next failure of the same thread, or until keylatch_last_error_clear().

use crate::boundary::{Out, SizedOut, call, nanoseconds};
use crate::key::keylatch_key;
use crate::last_error::{LastError, look};
use crate::listed::{keylatch_chain_link, keylatch_holder};
use crate::refusal::Failure;
use crate::status::{KEYLATCH_EEND, KEYLATCH_OK};
use keylatch::LockError;
use std::ffi::c_char;

/// What the last failure of this thread was about, in English.
///
/// The text has the key, the holders and what to do about it. Empty if there was none. Never NULL.
///
/// Memory: until the next failure of this thread. Errors: none. Threads: each has its own.
#[unsafe(no_mangle)]
pub extern "C" fn keylatch_last_error() -> *const c_char {
    let text = std::panic::catch_unwind(|| look(|last| last.text().map(|text| text.as_ptr())));
    text.ok().flatten().flatten().unwrap_or(c"".as_ptr())
}

/// The status of the last failure of this thread; KEYLATCH_OK if there was none.
///
/// Errors: none. Threads: each has its own.
#[unsafe(no_mangle)]
pub extern "C" fn keylatch_last_status() -> i32 {
    look(|last| last.status()).unwrap_or(KEYLATCH_OK)
}

/// Forgets the last failure of this thread, and gives its memory back.
///
/// Errors: none. Threads: each has its own.
#[unsafe(no_mangle)]
pub extern "C" fn keylatch_last_error_clear() {
    crate::last_error::clear();
}

/// Costs nothing: it ends every walk through the holders, and has no text to see.
fn not_known() -> Failure {
    Failure::new(KEYLATCH_EEND, "the last failure has nothing of the kind")
}

/// Looks at the last failure without replacing it.
fn ask(inside: impl FnOnce(&mut LastError) -> Result<(), Failure>) -> i32 {
    let mut quiet = KEYLATCH_OK;
    let status = call(|| match look(inside).unwrap_or_else(|| Err(not_known())) {
        Err(failure) if failure.status() == KEYLATCH_EEND => {
            quiet = KEYLATCH_EEND;
            Ok(())
        }
        answer => answer,
    });
    if status == KEYLATCH_OK { quiet } else { status }
}

/// Gets the key that the last failure of this thread was about.
///
/// Writes *key on success; it points to memory that stays until the next failure of this thread. Errors: KEYLATCH_EEND
/// if it was about none, which does not count as a failure itself; KEYLATCH_ENULL. Threads: each has its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_last_key(key: *mut keylatch_key) -> i32 {
    ask(|last| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(key) }?;
        out.write(keylatch_key::of(last.key().ok_or_else(not_known)?.as_ref()));
        Ok(())
    })
}

/// Gets how long the request waited that timed out.
///
/// Writes *waited_ns on success. Errors: KEYLATCH_EEND if the last failure of this thread was no timeout, which does not
/// count as a failure itself; KEYLATCH_ENULL. Threads: each has its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_last_waited(waited_ns: *mut u64) -> i32 {
    ask(|last| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(waited_ns) }?;
        let Some(LockError::Timeout { waited, .. }) = last.cause() else { return Err(not_known()) };
        out.write(nanoseconds(*waited));
        Ok(())
    })
}

/// Gets one of the holders of the lock, by number from 0 on.
///
/// At most 64 can be asked for; *more says how many more held it. A refusal without waiting names the exclusive holder,
/// or a reader if one is at hand.
///
/// Set holder->struct_size first; the rest is written on success. more may be NULL. Errors: KEYLATCH_EEND if there are
/// fewer holders, or the last failure of this thread has none, which does not count as a failure itself; KEYLATCH_ENULL,
/// KEYLATCH_ESTRUCT. Threads: each has its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_last_holder(index: usize, holder: *mut keylatch_holder, more: *mut usize) -> i32 {
    ask(|last| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { SizedOut::new(holder) }?;
        let holders = last.holders().ok_or_else(not_known)?;
        let found = holders.named.get(index).ok_or_else(not_known)?;
        let key = last.key().map_or(keylatch_key::NONE, |key| keylatch_key::of(key.as_ref()));
        out.write(&keylatch_holder::of_failure(key, found));
        if !more.is_null() {
            // SAFETY: the header says what the caller promises.
            unsafe { more.write_unaligned(holders.more as usize) };
        }
        Ok(())
    })
}

/// Gets one session of the deadlock that was this thread's last failure.
///
/// They are numbered from 0 on, beginning with the session whose request this was: its name, where it comes from, the
/// key it waits for, and how it wants it. The next one, or after the last the first, holds that key in the mode
/// link->blocked_by, or waits in line before it.
///
/// Set link->struct_size first; the rest is written on success. Errors: KEYLATCH_EEND if there are fewer, or it was no
/// deadlock, which does not count as a failure itself; KEYLATCH_ENULL, KEYLATCH_ESTRUCT. Threads: each has its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_last_cycle_link(index: usize, link: *mut keylatch_chain_link) -> i32 {
    ask(|last| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { SizedOut::new(link) }?;
        let Some(LockError::Deadlock { cycle, .. }) = last.cause() else { return Err(not_known()) };
        out.write(&keylatch_chain_link::of_deadlock(cycle, index).ok_or_else(not_known)?);
        Ok(())
    })
}
