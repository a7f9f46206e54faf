//! Functions for lost holds that are called while a batch or a queue asks for locks: they may call everything.

use keylatch_capi::acquire::{keylatch_acquire, keylatch_acquire_queue, keylatch_cancel};
use keylatch_capi::batch::keylatch_batch_item;
use keylatch_capi::batch_later::{keylatch_acquire_batch_callback, keylatch_acquire_batch_queue};
use keylatch_capi::grants::{keylatch_is_valid, keylatch_on_lost, keylatch_release};
use keylatch_capi::key::{KEYLATCH_EXCLUSIVE, keylatch_key};
use keylatch_capi::manager::{keylatch_manager, keylatch_manager_free, keylatch_manager_new};
use keylatch_capi::options::{KEYLATCH_WAIT_FOREVER, keylatch_request_options};
use keylatch_capi::owner::{KEYLATCH_OWNER_SESSION, keylatch_owner_free, keylatch_owner_new, keylatch_owner_options};
use keylatch_capi::queue::{
    keylatch_completion, keylatch_queue, keylatch_queue_drain, keylatch_queue_free, keylatch_queue_new,
};
use keylatch_capi::status::KEYLATCH_OK;
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// A call that has not come by then never comes.
const LONG: Duration = Duration::from_secs(60);

fn key(object: &'static str) -> keylatch_key {
    keylatch_key {
        bucket: null(),
        bucket_len: 0,
        object: object.as_ptr().cast(),
        object_len: object.len(),
        version: null(),
        version_len: 0,
    }
}

/// What a function for a lost hold has: everything of the test.
struct Test {
    locks: *mut keylatch_manager,
    queue: *mut keylatch_queue,
    ticket: AtomicU64,
    calls: Sender<&'static str>,
}

// SAFETY: handles of the library are for all threads.
unsafe impl Sync for Test {}

unsafe extern "C" fn lost(test: *mut c_void, _: u64, _: i32) {
    // SAFETY: the test that gave the pointer lives for ever.
    let test = unsafe { &*test.cast::<Test>() };
    let (mut cancelled, mut got) = (0, 0_usize);
    let mut results = [keylatch_completion { ticket: 0, token: 0, grant: 0, status: 0, reserved: 0 }; 4];
    // SAFETY: the handles are live, and so are the arguments until the call returns.
    unsafe {
        // The ticket may be over, and there may be no result: it is enough that both calls return.
        let _ = keylatch_cancel(test.locks, test.ticket.load(Ordering::SeqCst), &raw mut cancelled);
        let _ = keylatch_queue_drain(test.queue, results.as_mut_ptr(), results.len(), &raw mut got);
    }
    test.calls.send("lost").expect("the test waits");
}

unsafe extern "C" fn ended(test: *mut c_void, status: i32, _: u64) {
    // SAFETY: the test that gave the pointer lives for ever.
    let test = unsafe { &*test.cast::<Test>() };
    test.calls.send(if status == KEYLATCH_OK { "granted" } else { "refused" }).expect("the test waits");
}

/// The test, which lives for ever: a call that hangs uses it. And what it calls.
fn begin() -> (&'static Test, Receiver<&'static str>) {
    let (mut locks, mut queue) = (null_mut(), null_mut());
    // SAFETY: the handles are live, and so are the arguments until the call returns.
    assert_eq!(unsafe { keylatch_manager_new(null(), &raw mut locks) }, KEYLATCH_OK);
    // SAFETY: the handles are live, and so are the arguments until the call returns.
    assert_eq!(unsafe { keylatch_queue_new(locks, &raw mut queue) }, KEYLATCH_OK);
    let (calls, heard) = channel();
    (Box::leak(Box::new(Test { locks, queue, ticket: AtomicU64::new(0), calls })), heard)
}

impl Test {
    fn hold(&self, object: &'static str, ttl_ns: u64) -> u64 {
        let options = keylatch_request_options { ttl_ns, ..keylatch_request_options::defaults() };
        let (key, mut grant) = (key(object), 0);
        let (locks, mode) = (self.locks, KEYLATCH_EXCLUSIVE);
        // SAFETY: the handles are live, and so are the arguments until the call returns.
        let status = unsafe {
            keylatch_acquire(locks, &raw const key, mode, KEYLATCH_WAIT_FOREVER, &raw const options, &raw mut grant)
        };
        assert_eq!(status, KEYLATCH_OK);
        grant
    }

    /// A hold whose lease is over, and which is not revoked yet.
    fn hold_overdue(&'static self, object: &'static str) {
        let grant = self.hold(object, 1);
        let this = std::ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the handles are live, and so are the arguments until the call returns.
        assert_eq!(unsafe { keylatch_on_lost(self.locks, grant, Some(lost), this, None) }, KEYLATCH_OK);
        let mut valid = 1;
        while valid != 0 {
            // SAFETY: the handles are live, and so are the arguments until the call returns.
            assert_eq!(unsafe { keylatch_is_valid(self.locks, grant, &raw mut valid) }, KEYLATCH_OK);
        }
    }

    /// A drain that finds nothing has no lock to wait for.
    fn put_result_in_queue(&self) {
        let (first, key, mut grant, mut ticket) = (self.hold("c", 0), key("c"), 0, 0);
        let (locks, queue, mode) = (self.locks, self.queue, KEYLATCH_EXCLUSIVE);
        let (grant, ticket) = (&raw mut grant, &raw mut ticket);
        // SAFETY: the handles are live, and so are the arguments until the call returns.
        let status = unsafe {
            keylatch_acquire_queue(locks, &raw const key, mode, KEYLATCH_WAIT_FOREVER, null(), queue, 0, grant, ticket)
        };
        assert_eq!(status, KEYLATCH_OK);
        // SAFETY: the handles are live, and so are the arguments until the call returns.
        assert_eq!(unsafe { keylatch_release(locks, first) }, KEYLATCH_OK);
    }

    fn end(&self) {
        // SAFETY: the handles are live, and so are the arguments until the call returns.
        assert_eq!(unsafe { keylatch_queue_free(self.queue) }, KEYLATCH_OK);
        // SAFETY: the handles are live, and so are the arguments until the call returns.
        assert_eq!(unsafe { keylatch_manager_free(self.locks) }, KEYLATCH_OK);
    }
}

const ITEMS: [&str; 2] = ["a", "b"];

fn items() -> [keylatch_batch_item; 2] {
    ITEMS.map(|object| keylatch_batch_item { key: key(object), mode: KEYLATCH_EXCLUSIVE, reserved: 0 })
}

#[test]
fn lost_in_a_batch_may_cancel_it() {
    let (test, heard) = begin();
    let first = test.hold("a", 0);
    test.hold_overdue("b");
    let (items, mut ticket) = (items(), 0);
    let grants = Box::leak(Box::new([0_u64; 2]));
    let this = std::ptr::from_ref(test).cast_mut().cast();
    // SAFETY: the handles are live, and so are the arguments until the call returns.
    let status = unsafe {
        keylatch_acquire_batch_callback(
            test.locks,
            items.as_ptr(),
            2,
            KEYLATCH_WAIT_FOREVER,
            null(),
            Some(ended),
            this,
            None,
            grants.as_mut_ptr(),
            null_mut(),
            &raw mut ticket,
        )
    };
    assert!(status == KEYLATCH_OK && ticket != 0);
    test.ticket.store(ticket, Ordering::SeqCst);
    // SAFETY: the handles are live, and so are the arguments until the call returns.
    assert_eq!(unsafe { keylatch_release(test.locks, first) }, KEYLATCH_OK);
    assert_eq!(heard.recv_timeout(LONG), Ok("lost"), "the function hangs");
    assert_eq!(heard.recv_timeout(LONG), Ok("granted"));
    test.end();
}

/// In a thread of its own: it may hang.
fn calls_lost(ask: fn(&'static Test)) {
    let (test, heard) = begin();
    test.hold_overdue("b");
    test.put_result_in_queue();
    std::thread::spawn(move || {
        ask(test);
        test.calls.send("asked").expect("the test waits");
    });
    assert_eq!(heard.recv_timeout(LONG), Ok("lost"), "the function hangs");
    assert_eq!(heard.recv_timeout(LONG), Ok("asked"));
    test.end();
}

#[test]
fn lost_in_a_batch_for_a_queue_may_drain_it() {
    calls_lost(|test| {
        let (items, mut ticket) = (items(), 0);
        let mut grants = [0_u64; 2];
        // SAFETY: the handles are live, and so are the arguments until the call returns.
        let status = unsafe {
            keylatch_acquire_batch_queue(
                test.locks,
                items.as_ptr(),
                2,
                KEYLATCH_WAIT_FOREVER,
                null(),
                test.queue,
                0,
                grants.as_mut_ptr(),
                null_mut(),
                &raw mut ticket,
            )
        };
        assert!(status == KEYLATCH_OK && ticket == 0);
    });
}

#[test]
fn lost_in_a_numbered_request_may_drain() {
    calls_lost(|test| {
        let session = keylatch_owner_options {
            struct_size: size_of::<keylatch_owner_options>(),
            source: null(),
            source_len: 0,
            flags: KEYLATCH_OWNER_SESSION,
            reserved: 0,
        };
        let mut owner = null_mut();
        // SAFETY: the handles are live, and so are the arguments until the call returns.
        let named = unsafe { keylatch_owner_new(test.locks, c"mover".as_ptr(), 5, &raw const session, &raw mut owner) };
        assert_eq!(named, KEYLATCH_OK);
        let options = keylatch_request_options { request_id: 7, owner, ..keylatch_request_options::defaults() };
        let (key, mut grant, mut ticket) = (key("b"), 0, 0);
        // SAFETY: the handles are live, and so are the arguments until the call returns.
        let status = unsafe {
            keylatch_acquire_queue(
                test.locks,
                &raw const key,
                KEYLATCH_EXCLUSIVE,
                KEYLATCH_WAIT_FOREVER,
                &raw const options,
                test.queue,
                0,
                &raw mut grant,
                &raw mut ticket,
            )
        };
        assert!(status == KEYLATCH_OK && ticket == 0 && grant != 0);
        // SAFETY: the handles are live, and so are the arguments until the call returns.
        assert_eq!(unsafe { keylatch_owner_free(owner) }, KEYLATCH_OK);
    });
}
