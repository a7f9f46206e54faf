//! KEYS
//!
//! A key is bytes: bucket, object and, optionally, one version of the object. NUL, invalid UTF-8 and empty parts are
//! fine, and the parts are never joined: "a/b" + "c" is not "a" + "b/c". A version is a key of its own, and so is the
//! object without a version; an empty version is a version.

use crate::boundary::bytes;
use crate::refusal::{Failure, invalid, null};
use crate::status::KEYLATCH_EINVALID;
use keylatch::{FastObjectLockManager, KeyRef, LockError, Mode};
use std::ffi::c_void;
use std::ptr::null as null_pointer;

/// Any number of holders at a time.
pub const KEYLATCH_SHARED: i32 = 1;
/// One holder, alone.
pub const KEYLATCH_EXCLUSIVE: i32 = 2;

/// What is locked.
///
/// version is NULL for none. A part that has no bytes may be NULL, except a version, which would be none.
///
/// The bytes are the caller's and are read until the call that is given the key returns; nothing keeps the pointers.
/// This struct will never change.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_key {
    pub bucket: *const c_void,
    pub bucket_len: usize,
    pub object: *const c_void,
    pub object_len: usize,
    pub version: *const c_void,
    pub version_len: usize,
}

impl keylatch_key {
    pub(crate) const NONE: Self = Self {
        bucket: null_pointer(),
        bucket_len: 0,
        object: null_pointer(),
        object_len: 0,
        version: null_pointer(),
        version_len: 0,
    };

    /// A key of ours for the caller to look at.
    pub(crate) fn of(key: KeyRef<'_>) -> Self {
        Self {
            bucket: key.bucket().as_ptr().cast(),
            bucket_len: key.bucket().len(),
            object: key.object().as_ptr().cast(),
            object_len: key.object().len(),
            version: key.version().map_or(null_pointer(), |version| version.as_ptr().cast()),
            version_len: key.version().map_or(0, <[u8]>::len),
        }
    }
}

/// Reads a key of the caller's.
///
/// # Safety
/// As the header says of keylatch_key.
#[inline(always)]
pub(crate) unsafe fn read<'a>(pointer: *const keylatch_key) -> Result<KeyRef<'a>, Failure> {
    if pointer.is_null() {
        return Err(null("the key"));
    }
    // SAFETY: promised.
    unsafe { parts(&*pointer) }
}

/// # Safety
/// As [`read`].
#[inline(always)]
pub(crate) unsafe fn parts<'a>(key: &keylatch_key) -> Result<KeyRef<'a>, Failure> {
    // SAFETY: promised.
    let bucket = unsafe { bytes(key.bucket, key.bucket_len, "bucket") }?;
    // SAFETY: promised.
    let object = unsafe { bytes(key.object, key.object_len, "object") }?;
    forced_panic(bucket);
    let whole = KeyRef::new(bucket, object);
    if key.version.is_null() && key.version_len == 0 {
        return Ok(whole);
    }
    // SAFETY: promised.
    let version = unsafe { bytes(key.version, key.version_len, "version") }?;
    if bucket.len().checked_add(object.len()).and_then(|sum| sum.checked_add(version.len())).is_none() {
        return Err(Failure::new(KEYLATCH_EINVALID, "the parts of the key are longer than all memory"));
    }
    Ok(whole.with_version(version))
}

/// Bytes of a key at most, whatever a manager is set to.
const LONGEST: usize = 65_535;

/// Refuses a key that is to be locked and is too long, before it is hashed whole.
pub(crate) fn lockable<'a>(key: KeyRef<'a>, locks: &FastObjectLockManager) -> Result<KeyRef<'a>, Failure> {
    let (bytes, limit) = (key.byte_len(), locks.config().max_key_bytes);
    if bytes > limit { Err(LockError::InvalidKey { bytes, limit }.into()) } else { Ok(key) }
}

/// Panics in the middle of a call, where a test wants to see what becomes of it.
///
/// Handles are entered then, and the caller's things in hand.
#[cfg(feature = "forced-panic")]
pub(crate) fn forced_panic(bucket: &[u8]) {
    assert!(bucket != b"panic!", "as was asked for");
}

#[cfg(not(feature = "forced-panic"))]
#[inline(always)]
pub(crate) fn forced_panic(_: &[u8]) {}

/// Reads a key on a fast path; `None` if anything about it is not plain.
///
/// The caller knows whether it is for a version.
///
/// # Safety
/// As [`read`].
#[inline(always)]
pub(crate) unsafe fn plain<'a, const VERSIONED: bool>(key: &keylatch_key) -> Option<KeyRef<'a>> {
    // Together: none is longer than any key may be, which is said before all its bytes are looked at.
    let lengths = key.bucket_len | key.object_len | key.version_len;
    if lengths > LONGEST || key.bucket.is_null() || key.object.is_null() {
        return None;
    }
    // SAFETY: promised, and neither NULL nor too long.
    let part = |pointer: *const c_void, length| unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), length) };
    let whole = KeyRef::new(part(key.bucket, key.bucket_len), part(key.object, key.object_len));
    match (VERSIONED, key.version_len) {
        (false, 0) => Some(whole),
        (false, _) => None,
        (true, length) => Some(whole.with_version(part(key.version, length))),
    }
}

#[inline(always)]
pub(crate) fn mode(mode: i32) -> Result<Mode, Failure> {
    match mode {
        KEYLATCH_SHARED => Ok(Mode::Shared),
        KEYLATCH_EXCLUSIVE => Ok(Mode::Exclusive),
        other => Err(no_mode(other)),
    }
}

#[cold]
fn no_mode(mode: i32) -> Failure {
    invalid(format!("{mode} is no mode; KEYLATCH_SHARED and KEYLATCH_EXCLUSIVE are"))
}

pub(crate) fn number_of(mode: Mode) -> i32 {
    match mode {
        Mode::Shared => KEYLATCH_SHARED,
        Mode::Exclusive => KEYLATCH_EXCLUSIVE,
    }
}
