//! THE LIBRARY
//!
//! KEYLATCH_VERSION and its parts say which header a program was compiled with, these functions which library it runs
//! with. A program works with every library whose KEYLATCH_ABI_VERSION is the one it was compiled with; the loader sees
//! to that by the library's SONAME.

use crate::boundary::{Out, call};
use crate::refusal::invalid;
use crate::{
    batch, claim_events, claim_verbs, claims, etcd, events, figures, filter, key, listed, manager, options, owner,
    queue, shared,
};
use std::ffi::c_char;

/// Counts the incompatible changes of this interface.
pub const KEYLATCH_ABI_VERSION: u32 = 0;

/// The structs, for keylatch_struct_size().
pub const KEYLATCH_STRUCT_KEY: i32 = 1;
pub const KEYLATCH_STRUCT_MANAGER_OPTIONS: i32 = 2;
pub const KEYLATCH_STRUCT_OWNER_OPTIONS: i32 = 3;
pub const KEYLATCH_STRUCT_REQUEST_OPTIONS: i32 = 4;
pub const KEYLATCH_STRUCT_BATCH_ITEM: i32 = 5;
pub const KEYLATCH_STRUCT_COMPLETION: i32 = 6;
pub const KEYLATCH_STRUCT_METRICS: i32 = 7;
pub const KEYLATCH_STRUCT_HEALTH: i32 = 8;
pub const KEYLATCH_STRUCT_HOLDER: i32 = 9;
pub const KEYLATCH_STRUCT_FILTER: i32 = 10;
pub const KEYLATCH_STRUCT_EVENT_OPTIONS: i32 = 11;
pub const KEYLATCH_STRUCT_ADAPTIVE: i32 = 12;
pub const KEYLATCH_STRUCT_WAIT_BUCKET: i32 = 13;
pub const KEYLATCH_STRUCT_CLAIMS_OPTIONS: i32 = 14;
pub const KEYLATCH_STRUCT_CLAIM_ANSWER: i32 = 15;
pub const KEYLATCH_STRUCT_CLAIM_POLICY: i32 = 16;
pub const KEYLATCH_STRUCT_CLAIM_EVENT: i32 = 17;
pub const KEYLATCH_STRUCT_SHARED_OPTIONS: i32 = 18;
pub const KEYLATCH_STRUCT_SHARED_HOLD: i32 = 19;
pub const KEYLATCH_STRUCT_SHARED_HOLDER: i32 = 20;
pub const KEYLATCH_STRUCT_WAITER: i32 = 21;
pub const KEYLATCH_STRUCT_CHAIN_LINK: i32 = 22;
pub const KEYLATCH_STRUCT_TOP_KEY: i32 = 23;
pub const KEYLATCH_STRUCT_ETCD_OPTIONS: i32 = 24;
pub const KEYLATCH_STRUCT_TIER_HOLD: i32 = 25;

/// The library's version, such as "0.1.0". Never NULL.
///
/// Memory: the text is static. Errors: none. Threads: any, at any time, also in a forked child.
#[unsafe(no_mangle)]
pub extern "C" fn keylatch_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The library's KEYLATCH_ABI_VERSION.
///
/// Errors: none. Threads: any, at any time, also in a forked child.
#[unsafe(no_mangle)]
pub extern "C" fn keylatch_abi_version() -> u32 {
    KEYLATCH_ABI_VERSION
}

/// Does nothing, and has KEYLATCH_ABI_VERSION in its name.
///
/// A program that calls it does not link with a library of another one, static or shared.
///
/// Errors: none. Threads: any, at any time, also in a forked child.
#[unsafe(no_mangle)]
pub extern "C" fn keylatch_abi_0() {}

const _: () = assert!(KEYLATCH_ABI_VERSION == 0, "keylatch_abi_0 is to be renamed too");

/// Gets how large a struct (KEYLATCH_STRUCT_...) is in the running library.
///
/// A binding that was made without a C compiler can check its own layout so.
///
/// Writes *size on success. Errors: KEYLATCH_ENULL; KEYLATCH_EINVALID for a number that is no struct's. Threads: any,
/// at any time, also in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_struct_size(which: i32, size: *mut usize) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(size) }?;
        out.write(match which {
            KEYLATCH_STRUCT_KEY => size_of::<key::keylatch_key>(),
            KEYLATCH_STRUCT_MANAGER_OPTIONS => size_of::<manager::keylatch_manager_options>(),
            KEYLATCH_STRUCT_OWNER_OPTIONS => size_of::<owner::keylatch_owner_options>(),
            KEYLATCH_STRUCT_REQUEST_OPTIONS => size_of::<options::keylatch_request_options>(),
            KEYLATCH_STRUCT_BATCH_ITEM => size_of::<batch::keylatch_batch_item>(),
            KEYLATCH_STRUCT_COMPLETION => size_of::<queue::keylatch_completion>(),
            KEYLATCH_STRUCT_METRICS => size_of::<figures::keylatch_metrics>(),
            KEYLATCH_STRUCT_HEALTH => size_of::<figures::keylatch_health>(),
            KEYLATCH_STRUCT_HOLDER => size_of::<listed::keylatch_holder>(),
            KEYLATCH_STRUCT_FILTER => size_of::<filter::keylatch_filter>(),
            KEYLATCH_STRUCT_EVENT_OPTIONS => size_of::<events::keylatch_event_options>(),
            KEYLATCH_STRUCT_ADAPTIVE => size_of::<figures::keylatch_adaptive>(),
            KEYLATCH_STRUCT_WAIT_BUCKET => size_of::<figures::keylatch_wait_bucket>(),
            KEYLATCH_STRUCT_CLAIMS_OPTIONS => size_of::<claims::keylatch_claims_options>(),
            KEYLATCH_STRUCT_CLAIM_ANSWER => size_of::<claim_verbs::keylatch_claim_answer>(),
            KEYLATCH_STRUCT_CLAIM_POLICY => size_of::<claim_verbs::keylatch_claim_policy>(),
            KEYLATCH_STRUCT_CLAIM_EVENT => size_of::<claim_events::keylatch_claim_event>(),
            KEYLATCH_STRUCT_SHARED_OPTIONS => size_of::<shared::keylatch_shared_options>(),
            KEYLATCH_STRUCT_SHARED_HOLD => size_of::<shared::keylatch_shared_hold>(),
            KEYLATCH_STRUCT_SHARED_HOLDER => size_of::<shared::keylatch_shared_holder>(),
            KEYLATCH_STRUCT_WAITER => size_of::<listed::keylatch_waiter>(),
            KEYLATCH_STRUCT_CHAIN_LINK => size_of::<listed::keylatch_chain_link>(),
            KEYLATCH_STRUCT_TOP_KEY => size_of::<listed::keylatch_top_key>(),
            KEYLATCH_STRUCT_ETCD_OPTIONS => size_of::<etcd::keylatch_etcd_options>(),
            KEYLATCH_STRUCT_TIER_HOLD => size_of::<listed::keylatch_tier_hold>(),
            other => return Err(invalid(format!("{other} is no struct's number"))),
        });
        Ok(())
    })
}
