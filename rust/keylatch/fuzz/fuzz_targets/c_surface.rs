//! Any bytes as a program of calls from C, most of them with something wrong: handles that were freed or are another
//! kind's, grants of others, sizes, flags and numbers that mean nothing. No call may panic inside, fail with a number that the
//! header does not know, or write a result when it fails; and in the end everything can be released.

#![no_main]

use keylatch_capi::acquire::{keylatch_acquire, keylatch_acquire_queue, keylatch_cancel, keylatch_try};
use keylatch_capi::batch::{keylatch_acquire_batch, keylatch_batch_item};
use keylatch_capi::events::{keylatch_event_options, keylatch_events_free, keylatch_events_new, keylatch_events_next};
use keylatch_capi::figures::{KEYLATCH_ALL_SHARDS, keylatch_manager_metrics, keylatch_metrics};
use keylatch_capi::filter::keylatch_filter;
use keylatch_capi::grants::{
    keylatch_downgrade, keylatch_fence, keylatch_grant_key, keylatch_is_valid, keylatch_release, keylatch_release_many,
    keylatch_renew, keylatch_try_upgrade, keylatch_upgrade_queue,
};
use keylatch_capi::inspect::{keylatch_holders, keylatch_top, keylatch_waiters};
use keylatch_capi::key::keylatch_key;
use keylatch_capi::listed::{keylatch_holder, keylatch_top_key, keylatch_waiter};
use keylatch_capi::listing::{
    keylatch_listing_free, keylatch_listing_next_holder, keylatch_listing_next_key, keylatch_listing_next_waiter,
};
use keylatch_capi::manager::{keylatch_manager_free, keylatch_manager_new, keylatch_manager_options};
use keylatch_capi::options::keylatch_request_options;
use keylatch_capi::owner::{keylatch_owner_free, keylatch_owner_new, keylatch_owner_options};
use keylatch_capi::queue::{keylatch_completion, keylatch_queue_drain, keylatch_queue_free, keylatch_queue_new};
use keylatch_capi::status::{KEYLATCH_EPANIC, keylatch_status_name};
use keylatch_capi::revoke::{keylatch_expire, keylatch_force_release};
use libfuzzer_sys::fuzz_target;
use std::ffi::{CStr, c_void};
use std::mem::zeroed;
use std::ptr::{null, null_mut};

/// What no call writes by chance.
const UNTOUCHED: u64 = 0x5afe_5afe_5afe_5afe;

struct Bytes<'b>(&'b [u8]);

impl Bytes<'_> {
    /// 0 once there are no more.
    fn next(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// Often the usual, now and then anything.
    fn number(&mut self, usual: u64) -> u64 {
        match self.next() {
            0..=199 => usual,
            200..=219 => 0,
            220..=239 => u64::MAX,
            _ => u64::from_le_bytes([(); 8].map(|()| self.next())),
        }
    }

    fn one_of<T: Copy>(&mut self, several: &[T]) -> Option<T> {
        let number = usize::from(self.next());
        several.get(number % (several.len() + 1)).copied()
    }
}

/// Every handle and number that was ever handed out, freed or not.
#[derive(Default)]
struct Known {
    handles: Vec<*mut c_void>,
    grants: Vec<u64>,
    tickets: Vec<u64>,
}

impl Known {
    /// Mostly the first of the handles; now and then another one, or NULL.
    fn handle<T>(&self, bytes: &mut Bytes<'_>, usual: *mut T) -> *mut T {
        match bytes.next() {
            0..=219 => usual,
            _ => bytes.one_of(&self.handles).unwrap_or(null_mut()).cast(),
        }
    }

    fn grant(&self, bytes: &mut Bytes<'_>) -> u64 {
        let known = bytes.one_of(&self.grants).unwrap_or(1);
        bytes.number(known)
    }
}

/// Fails for what no caller may ever see.
#[track_caller]
fn succeeded(status: i32) -> bool {
    assert_ne!(status, KEYLATCH_EPANIC);
    // SAFETY: the text is static.
    let name = unsafe { CStr::from_ptr(keylatch_status_name(status)) };
    assert!(status <= 0 && name != c"unknown", "{status}");
    status == 0
}

fn key<'b>(bytes: &mut Bytes<'b>) -> keylatch_key {
    let part = |bytes: &mut Bytes<'b>| {
        let length = usize::from(bytes.next() % 4).min(bytes.0.len());
        let (part, rest) = bytes.0.split_at(length);
        bytes.0 = rest;
        part
    };
    let (bucket, object, version) = (part(bytes), part(bytes), part(bytes));
    let with_version = bytes.next() < 64;
    let mut key = keylatch_key {
        bucket: bucket.as_ptr().cast(),
        bucket_len: bucket.len(),
        object: object.as_ptr().cast(),
        object_len: object.len(),
        version: if with_version { version.as_ptr().cast() } else { null() },
        version_len: if with_version { version.len() } else { 0 },
    };
    if bytes.next() > 240 {
        // A length without bytes, or one that no memory has.
        (key.bucket, key.bucket_len) = (null(), usize::from(bytes.next()));
    } else if bytes.next() > 240 {
        key.object_len = usize::MAX - usize::from(bytes.next());
    }
    key
}

fn request(bytes: &mut Bytes<'_>, known: &Known, owner: *mut c_void) -> keylatch_request_options {
    // SAFETY: integers and pointers.
    let mut options: keylatch_request_options = unsafe { zeroed() };
    // Never larger than it is: what lies behind it would be read.
    options.struct_size =
        (bytes.number(size_of::<keylatch_request_options>() as u64) as usize).min(size_of_val(&options));
    if bytes.next() > 127 {
        options.owner = known.handle(bytes, owner.cast());
    }
    options.ttl_ns = bytes.number(0);
    options.request_id = bytes.number(0);
    options.priority = bytes.number(0) as u32;
    options.flags = bytes.number(0) as u32;
    options
}

fuzz_target!(|input: &[u8]| {
    let mut bytes = Bytes(input);
    let bytes = &mut bytes;
    let mut known = Known::default();
    // SAFETY: every pointer is NULL, to memory that is there, or was once handed out, as the header asks.
    unsafe {
        let mut options: keylatch_manager_options = zeroed();
        options.struct_size = size_of_val(&options);
        (options.shards, options.max_locks, options.max_waiters) = (4, 1000, 100);
        options.fairness = u32::from(bytes.next() % 6);
        options.reentrancy = u32::from(bytes.next() % 4);
        let mut manager = null_mut();
        if !succeeded(keylatch_manager_new(&raw const options, &raw mut manager)) {
            assert!(manager.is_null());
            (options.fairness, options.reentrancy) = (0, 0);
            assert!(succeeded(keylatch_manager_new(&raw const options, &raw mut manager)));
        }
        let (mut owner, mut queue, mut events) = (null_mut(), null_mut(), null_mut());
        let mut of_owner: keylatch_owner_options = zeroed();
        (of_owner.struct_size, of_owner.flags) = (size_of_val(&of_owner), 1);
        assert!(succeeded(keylatch_owner_new(manager, c"owner".as_ptr(), 5, &raw const of_owner, &raw mut owner)));
        assert!(succeeded(keylatch_queue_new(manager, &raw mut queue)));
        assert!(succeeded(keylatch_events_new(manager, null(), &raw mut events)));
        known.handles.extend([manager.cast(), owner.cast(), queue.cast(), events.cast::<c_void>()]);

        while !bytes.0.is_empty() {
            let call = bytes.next() % 24;
            let to = known.handle(bytes, manager);
            let (mut grant, mut ticket) = (UNTOUCHED, UNTOUCHED);
            match call {
                0..=5 => {
                    let (key, options) = (key(bytes), request(bytes, &known, owner.cast()));
                    let options = if bytes.next() > 100 { null() } else { &raw const options };
                    let mode = bytes.number(u64::from(bytes.0.len() as u32 % 2 + 1)) as i32;
                    let got = match call {
                        0..=2 => succeeded(keylatch_try(to, &raw const key, mode, options, &raw mut grant)),
                        3 => succeeded(keylatch_acquire(to, &raw const key, mode, 0, options, &raw mut grant)),
                        _ => {
                            let queue = known.handle(bytes, queue);
                            let (grant, ticket) = (&raw mut grant, &raw mut ticket);
                            let timeout = bytes.number(u64::MAX);
                            succeeded(keylatch_acquire_queue(
                                to,
                                &raw const key,
                                mode,
                                timeout,
                                options,
                                queue,
                                7,
                                grant,
                                ticket,
                            ))
                        }
                    };
                    assert!(got || (grant, ticket) == (UNTOUCHED, UNTOUCHED));
                    known.grants.extend((got && grant != 0).then_some(grant));
                    known.tickets.extend((got && ticket != UNTOUCHED && ticket != 0).then_some(ticket));
                }
                6..=8 => drop(succeeded(keylatch_release(to, known.grant(bytes)))),
                9 => {
                    let grants = [known.grant(bytes), known.grant(bytes), 0];
                    let mut released = usize::MAX;
                    succeeded(keylatch_release_many(to, grants.as_ptr(), grants.len(), &raw mut released));
                    assert!(released <= 2 || released == usize::MAX);
                }
                10 => drop(succeeded(keylatch_downgrade(to, known.grant(bytes)))),
                11 => drop(succeeded(keylatch_try_upgrade(to, known.grant(bytes)))),
                12 => {
                    let queue = known.handle(bytes, queue);
                    let grant = known.grant(bytes);
                    if succeeded(keylatch_upgrade_queue(to, grant, bytes.number(u64::MAX), queue, 8, &raw mut ticket)) {
                        known.tickets.extend((ticket != 0).then_some(ticket));
                    }
                }
                13 => drop(succeeded(keylatch_renew(to, known.grant(bytes), bytes.number(1)))),
                14 => {
                    let got = succeeded(keylatch_fence(to, known.grant(bytes), &raw mut grant));
                    assert!(got != (grant == UNTOUCHED));
                    let mut valid = -7;
                    assert!(succeeded(keylatch_is_valid(to, known.grant(bytes), &raw mut valid)) == (valid != -7));
                }
                15 => {
                    let (mut buffer, mut key) = ([0_u8; 16], zeroed());
                    let room = usize::from(bytes.next() % 17);
                    succeeded(keylatch_grant_key(to, known.grant(bytes), buffer.as_mut_ptr().cast(), room, &raw mut key));
                }
                16 => {
                    let mut cancelled = -7;
                    let ticket = bytes.one_of(&known.tickets).unwrap_or(3);
                    succeeded(keylatch_cancel(to, bytes.number(ticket), &raw mut cancelled));
                }
                17 | 18 => {
                    let mut items = [(); 3].map(|()| keylatch_batch_item { key: key(bytes), mode: 1, reserved: 0 });
                    items[0].mode = bytes.number(2) as i32;
                    items[1].reserved = bytes.number(0) as u32;
                    let (mut grants, mut statuses) = ([UNTOUCHED; 3], [-7; 3]);
                    let options = request(bytes, &known, owner.cast());
                    let (grants_at, statuses_at) = (grants.as_mut_ptr(), statuses.as_mut_ptr());
                    let count = usize::from(bytes.next() % 4);
                    let items = items.as_ptr();
                    if succeeded(keylatch_acquire_batch(to, items, count, 0, &raw const options, grants_at, statuses_at)) {
                        known.grants.extend(grants[..count].iter().filter(|grant| **grant != 0));
                    } else {
                        assert_eq!(grants, [UNTOUCHED; 3]);
                    }
                }
                19 => {
                    let mut results: [keylatch_completion; 2] = zeroed();
                    let mut count = 0;
                    let queue = known.handle(bytes, queue);
                    succeeded(keylatch_queue_drain(queue, results.as_mut_ptr(), results.len(), &raw mut count));
                    known.grants.extend(results[..count].iter().filter(|one| succeeded(one.status)).map(|one| one.grant));
                }
                20 | 21 => {
                    let mut filter: keylatch_filter = zeroed();
                    filter.struct_size =
                        (bytes.number(size_of::<keylatch_filter>() as u64) as usize).min(size_of_val(&filter));
                    filter.mode = bytes.number(0) as i32;
                    filter.flags = bytes.number(0) as u32;
                    let filter = if bytes.next() > 200 { null() } else { &raw const filter };
                    let mut listing = null_mut();
                    let got = match bytes.next() % 5 {
                        0 => succeeded(keylatch_waiters(to, filter, &raw mut listing)),
                        1 => succeeded(keylatch_expire(to, filter, null_mut(), &raw mut listing)),
                        2 => succeeded(keylatch_force_release(to, filter, null_mut(), &raw mut listing)),
                        3 => succeeded(keylatch_top(to, bytes.number(1) as i32, 3, &raw mut listing)),
                        _ => succeeded(keylatch_holders(to, filter, &raw mut listing)),
                    };
                    assert_eq!(got, !listing.is_null());
                    known.handles.extend(got.then_some(listing.cast()));
                    let (mut holder, mut waiter): (keylatch_holder, keylatch_waiter) = (zeroed(), zeroed());
                    let mut key: keylatch_top_key = zeroed();
                    holder.struct_size = size_of_val(&holder);
                    waiter.struct_size = size_of_val(&waiter);
                    key.struct_size = size_of_val(&key);
                    while got
                        && (succeeded(keylatch_listing_next_holder(listing, &raw mut holder))
                            || succeeded(keylatch_listing_next_waiter(listing, &raw mut waiter))
                            || succeeded(keylatch_listing_next_key(listing, &raw mut key)))
                    {}
                    succeeded(keylatch_listing_free(known.handle(bytes, listing)));
                }
                22 => {
                    let (mut kind, mut about) = (0, null_mut());
                    if succeeded(keylatch_events_next(known.handle(bytes, events), 0, &raw mut kind, &raw mut about)) {
                        succeeded(keylatch_listing_free(about));
                    }
                    let mut options: keylatch_event_options = zeroed();
                    options.struct_size =
                        (bytes.number(size_of_val(&options) as u64) as usize).min(size_of_val(&options));
                    options.capacity = bytes.number(2) as u32;
                    let mut more = null_mut();
                    if succeeded(keylatch_events_new(to, &raw const options, &raw mut more)) {
                        known.handles.push(more.cast());
                        assert!(succeeded(keylatch_events_free(more)));
                    }
                }
                _ => {
                    // Freed, maybe twice, maybe as what they are not.
                    let handle = bytes.one_of(&known.handles[1..]).unwrap_or(null_mut());
                    succeeded(match bytes.next() % 4 {
                        0 => keylatch_owner_free(handle.cast()),
                        1 => keylatch_queue_free(handle.cast()),
                        2 => keylatch_events_free(handle.cast()),
                        _ => keylatch_listing_free(handle.cast()),
                    });
                }
            }
        }
        succeeded(keylatch_queue_free(queue));
        for grant in &known.grants {
            succeeded(keylatch_release(manager, *grant));
        }
        let mut metrics: keylatch_metrics = zeroed();
        metrics.struct_size = size_of_val(&metrics);
        if succeeded(keylatch_manager_metrics(manager, KEYLATCH_ALL_SHARDS, &raw mut metrics)) {
            assert_eq!((metrics.holders, metrics.waiters), (0, 0));
        }
        succeeded(keylatch_events_free(events));
        succeeded(keylatch_owner_free(owner));
        succeeded(keylatch_manager_free(manager));
    }
});
