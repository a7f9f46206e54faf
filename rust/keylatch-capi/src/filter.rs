//! FILTERS
//!
//! Which holds or waits are meant.

use crate::boundary::{Versioned, bytes, read, text};
use crate::key::{self, keylatch_key};
use crate::refusal::{Failure, invalid, null};
use keylatch::Filter;
use std::ffi::{c_char, c_void};
use std::ptr::NonNull;
use std::time::Duration;

/// Those of sessions, and not of labels.
pub const KEYLATCH_FILTER_SESSIONS: u32 = 1;
/// All of them, without any other condition.
///
/// keylatch_force_release() and keylatch_expire() need it to revoke everything.
pub const KEYLATCH_FILTER_ALL: u32 = 2;

/// Which holds or waits are meant: those that meet every condition that is set.
///
/// What is NULL or 0 is not set. Without a condition,
///
///     keylatch_filter filter = KEYLATCH_FILTER_INIT;
///
/// is all of them in a listing. A revocation refuses it, because a condition may have been lost on the way.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_filter {
    /// sizeof(keylatch_filter)
    pub struct_size: usize,
    /// Those of keys in this bucket.
    ///
    /// To mean the bucket whose name has no bytes, point anywhere.
    pub bucket: *const c_void,
    pub bucket_len: usize,
    /// Those of this one key.
    ///
    /// Without a version that is the object without a version, and no other.
    pub key: *const keylatch_key,
    /// Those of objects whose names begin so, in whatever bucket and version.
    pub prefix: *const c_void,
    pub prefix_len: usize,
    /// Those of owners with this name, labels and sessions.
    pub owner: *const c_char,
    pub owner_len: usize,
    /// Those of owners that come from here.
    pub source: *const c_char,
    pub source_len: usize,
    /// Those that have been held, or waited, for at least this duration.
    ///
    /// A hold's age counts from the first look at it, by a waiter or by a listing: to find old holds without waiters,
    /// list them twice.
    pub older_than_ns: u64,
    /// Those that are held, or asked for, in this mode.
    pub mode: i32,
    /// KEYLATCH_FILTER_SESSIONS or KEYLATCH_FILTER_ALL, or 0.
    pub flags: u32,
}

// SAFETY: integers and pointers without padding.
unsafe impl Versioned for keylatch_filter {
    const FIRST_SIZE: usize = 96;
    const NAME: &'static str = "keylatch_filter";
}

const _: () = assert!(size_of::<keylatch_filter>() == 96);

/// A filter of the caller's; NULL lets everything pass.
///
/// # Safety
/// As the header says of keylatch_filter.
pub(crate) unsafe fn filter(pointer: *const keylatch_filter) -> Result<Filter, Failure> {
    let Some(pointer) = NonNull::new(pointer.cast_mut()) else { return Ok(Filter::new()) };
    // SAFETY: promised.
    let given = unsafe { read(pointer) }?;
    if given.flags & !(KEYLATCH_FILTER_SESSIONS | KEYLATCH_FILTER_ALL) != 0 {
        return Err(invalid(format!(
            "{:#x} is not a set of flags of a filter: they are KEYLATCH_FILTER_SESSIONS and KEYLATCH_FILTER_ALL",
            given.flags
        )));
    }
    let mut filter = Filter::new();
    // A length without a pointer is refused by `bytes`; neither is not said.
    let said = |pointer: *const c_void, length: usize| !pointer.is_null() || length > 0;
    if said(given.bucket, given.bucket_len) {
        // SAFETY: promised.
        filter = filter.bucket(unsafe { bytes(given.bucket, given.bucket_len, "bucket of the filter") }?);
    }
    if !given.key.is_null() {
        // SAFETY: promised.
        filter = filter.key(unsafe { key::read(given.key) }?);
    }
    if said(given.prefix, given.prefix_len) {
        // SAFETY: promised.
        filter = filter.prefix(unsafe { bytes(given.prefix, given.prefix_len, "prefix of the filter") }?);
    }
    if said(given.owner.cast(), given.owner_len) {
        // SAFETY: promised.
        filter = filter.owner(unsafe { text(given.owner.cast(), given.owner_len, "owner of the filter") }?);
    }
    if said(given.source.cast(), given.source_len) {
        // SAFETY: promised.
        filter = filter.source(unsafe { text(given.source.cast(), given.source_len, "source of the filter") }?);
    }
    if given.older_than_ns > 0 {
        filter = filter.older_than(Duration::from_nanos(given.older_than_ns));
    }
    if given.mode != 0 {
        filter = filter.mode(key::mode(given.mode)?);
    }
    if given.flags & KEYLATCH_FILTER_SESSIONS != 0 {
        filter = filter.sessions();
    }
    if given.flags & KEYLATCH_FILTER_ALL == 0 {
        return Ok(filter);
    }
    if filter.is_unspecified() {
        Ok(Filter::all())
    } else {
        Err(invalid("a filter has KEYLATCH_FILTER_ALL or conditions, not both".into()))
    }
}

/// A filter of the caller's for a revocation, which has to say what it is for.
///
/// # Safety
/// As the header says of keylatch_filter.
pub(crate) unsafe fn revocation(pointer: *const keylatch_filter) -> Result<Filter, Failure> {
    if pointer.is_null() {
        return Err(null("the filter"));
    }
    // SAFETY: promised.
    let filter = unsafe { self::filter(pointer) }?;
    if filter.is_unspecified() {
        return Err(invalid(
            "the filter has no condition: set one, or KEYLATCH_FILTER_ALL to revoke everything".into(),
        ));
    }
    Ok(filter)
}
