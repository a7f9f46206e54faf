//! HOLDERS
//!
//! Who holds what, as failures and listings tell it.

use crate::boundary::Versioned;
use crate::key::keylatch_key;
use std::ffi::c_char;

/// The owner is a session.
pub const KEYLATCH_HOLDER_SESSION: u32 = 1;
/// The hold is a lease.
pub const KEYLATCH_HOLDER_LEASE: u32 = 2;

/// One holder of one key. What is not known is 0.
///
/// Texts have a length and do not end with a NUL. They belong to what was asked: a listing's until it is freed, those of a failure until the
/// next failure of the same thread.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_holder {
    /// sizeof(keylatch_holder), set by the caller
    pub struct_size: usize,
    pub key: keylatch_key,
    pub owner: *const c_char,
    pub owner_len: usize,
    /// Where in the program the owner comes from.
    pub source: *const c_char,
    pub source_len: usize,
    /// The grant, to be released or looked at; not told by failures.
    pub grant: u64,
    /// For an exclusive hold, its fence number; not told by failures.
    pub fence: u64,
    /// For how long at least it has been held: taking a free lock reads no clock, so the time counts from the first look at it.
    pub held_ns: u64,
    /// For a lease: how long it still lasts.
    pub lease_ns: u64,
    /// KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE.
    pub mode: i32,
    pub priority: u32,
    /// KEYLATCH_HOLDER_SESSION, KEYLATCH_HOLDER_LEASE
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: integers and pointers without padding.
unsafe impl Versioned for keylatch_holder {
    const FIRST_SIZE: usize = 136;
    const NAME: &'static str = "keylatch_holder";
}

const _: () = assert!(size_of::<keylatch_holder>() == 136);

impl keylatch_holder {
    /// Nothing known.
    pub(crate) fn nobody() -> Self {
        Self {
            struct_size: 0,
            key: keylatch_key::NONE,
            owner: c"".as_ptr(),
            owner_len: 0,
            source: c"".as_ptr(),
            source_len: 0,
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
}
