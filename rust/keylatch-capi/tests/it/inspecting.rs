//! Listings, events and taking locks away, through the C functions as a program calls them.

// A test in C, written in Rust: every call is of a C function with pointers to what lives through it.
#![allow(clippy::undocumented_unsafe_blocks)]

use keylatch_capi::events::*;
use keylatch_capi::filter::keylatch_filter;
use keylatch_capi::filter::{KEYLATCH_FILTER_ALL, KEYLATCH_FILTER_SESSIONS};
use keylatch_capi::inspect::*;
use keylatch_capi::key::{KEYLATCH_EXCLUSIVE, KEYLATCH_SHARED, keylatch_key};
use keylatch_capi::listed::*;
use keylatch_capi::listing::*;
use keylatch_capi::manager::*;
use keylatch_capi::options::{KEYLATCH_WAIT_FOREVER, keylatch_request_options};
use keylatch_capi::owner::*;
use keylatch_capi::queue::{keylatch_completion, keylatch_queue, keylatch_queue_free, keylatch_queue_new};
use keylatch_capi::revoke::{keylatch_expire, keylatch_force_release};
use keylatch_capi::status::*;
use keylatch_capi::{acquire, failure, figures, grants, queue};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

/// What a function writes, or its status.
fn out<T>(ask: impl FnOnce(*mut T) -> i32) -> Result<T, i32> {
    let mut place = MaybeUninit::<T>::uninit();
    match ask(place.as_mut_ptr()) {
        // SAFETY: a function that says so has written it.
        KEYLATCH_OK => Ok(unsafe { place.assume_init() }),
        status => Err(status),
    }
}

/// A struct of zeros with its size.
fn sized<T>() -> T {
    let mut place = MaybeUninit::<T>::zeroed();
    // SAFETY: the structs of the header begin with their size, and may be zeros otherwise.
    unsafe {
        place.as_mut_ptr().cast::<usize>().write(size_of::<T>());
        place.assume_init()
    }
}

fn key(bucket: &str, object: &str) -> keylatch_key {
    let (bucket, bucket_len, object, object_len) =
        (bucket.as_ptr().cast(), bucket.len(), object.as_ptr().cast(), object.len());
    keylatch_key { bucket, bucket_len, object, object_len, version: null(), version_len: 0 }
}

/// A manager with what a test needs of it. Freed at the end.
struct Locks {
    manager: *mut keylatch_manager,
    queue: *mut keylatch_queue,
}

impl Drop for Locks {
    fn drop(&mut self) {
        // SAFETY: both are freed once, here.
        unsafe {
            assert_eq!(keylatch_queue_free(self.queue), KEYLATCH_OK);
            assert_eq!(keylatch_manager_free(self.manager), KEYLATCH_OK);
        }
    }
}

/// An entry of any kind, copied out of its listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Listed {
    object: String,
    owner: String,
    source: String,
    /// What it is, how it holds or waits, and its flags.
    facts: (&'static str, i32, u32),
    links: (u64, u64),
    grant: u64,
    position: u64,
    waiters: u64,
}

const HOLDS: &str = "holds";
const WAITS: &str = "waits";

fn text(pointer: *const std::ffi::c_char, length: usize) -> String {
    // SAFETY: the library says that the bytes are there.
    String::from_utf8(unsafe { std::slice::from_raw_parts(pointer.cast(), length) }.to_vec()).unwrap()
}

impl Locks {
    fn new(deadlock_delay_ns: u64) -> Self {
        let options = keylatch_manager_options { shards: 4, max_locks: 10_000, deadlock_delay_ns, ..sized() };
        // SAFETY: the options are there, and so is the place.
        let manager = out(|place| unsafe { keylatch_manager_new(&raw const options, place) }).unwrap();
        // SAFETY: as above.
        let queue = out(|place| unsafe { keylatch_queue_new(manager, place) }).unwrap();
        Self { manager, queue }
    }

    fn owner(&self, name: &str, source: &str, flags: u32) -> *mut keylatch_owner {
        let options =
            keylatch_owner_options { source: source.as_ptr().cast(), source_len: source.len(), flags, ..sized() };
        let name = (name.as_ptr().cast(), name.len());
        // SAFETY: as above.
        out(|place| unsafe { keylatch_owner_new(self.manager, name.0, name.1, &raw const options, place) }).unwrap()
    }

    fn hold(&self, object: &str, mode: i32, owner: *const keylatch_owner, ttl_ns: u64) -> u64 {
        let options = keylatch_request_options { owner, ttl_ns, ..sized() };
        let key = key("b", object);
        // SAFETY: as above.
        out(|place| unsafe { acquire::keylatch_try(self.manager, &raw const key, mode, &raw const options, place) })
            .unwrap()
    }

    /// Waits in the background.
    fn wait(&self, object: &str, mode: i32, owner: *const keylatch_owner) -> Result<u64, i32> {
        let options = keylatch_request_options { owner, priority: 7, ..sized() };
        let key = key("b", object);
        let mut ticket = 0;
        // SAFETY: as above.
        out(|place: *mut u64| unsafe {
            acquire::keylatch_acquire_queue(
                self.manager,
                &raw const key,
                mode,
                KEYLATCH_WAIT_FOREVER,
                &raw const options,
                self.queue,
                1,
                place,
                &raw mut ticket,
            )
        })?;
        Ok(ticket)
    }

    fn release(&self, grant: u64) -> i32 {
        // SAFETY: as above.
        unsafe { grants::keylatch_release(self.manager, grant) }
    }

    fn holders(&self, filter: &keylatch_filter) -> Vec<Listed> {
        // SAFETY: as above.
        let mut all = entries(out(|place| unsafe { keylatch_holders(self.manager, filter, place) }).unwrap());
        all.sort_by(|a, b| (&a.object, &a.owner).cmp(&(&b.object, &b.owner)));
        all
    }
}

/// Fetches an entry with one of the functions.
fn fetch<T>(
    listing: *mut keylatch_listing,
    next: unsafe extern "C" fn(*mut keylatch_listing, *mut T) -> i32,
) -> Result<T, i32> {
    let mut place: T = sized();
    // SAFETY: as above.
    match unsafe { next(listing, &raw mut place) } {
        KEYLATCH_OK => Ok(place),
        status => Err(status),
    }
}

/// The next entry of a listing, with whichever function fits.
fn next_entry(listing: *mut keylatch_listing) -> Result<Listed, i32> {
    match fetch(listing, keylatch_listing_next_holder) {
        Ok(holder) => {
            return Ok(Listed {
                object: text(holder.key.object.cast(), holder.key.object_len),
                owner: text(holder.owner, holder.owner_len),
                source: text(holder.source, holder.source_len),
                facts: (HOLDS, holder.mode, holder.flags),
                grant: holder.grant,
                ..Listed::default()
            });
        }
        Err(KEYLATCH_EINVALID) => {}
        Err(status) => return Err(status),
    }
    if let Ok(waiter) = fetch(listing, keylatch_listing_next_waiter) {
        return Ok(Listed {
            object: text(waiter.key.object.cast(), waiter.key.object_len),
            owner: text(waiter.owner, waiter.owner_len),
            source: text(waiter.source, waiter.source_len),
            facts: (WAITS, waiter.mode, waiter.flags),
            position: waiter.position,
            ..Listed::default()
        });
    }
    if let Ok(link) = fetch(listing, keylatch_listing_next_link) {
        return Ok(Listed {
            object: text(link.key.object.cast(), link.key.object_len),
            owner: text(link.owner, link.owner_len),
            source: text(link.source, link.source_len),
            facts: (if link.role == KEYLATCH_LINK_HOLDS { HOLDS } else { WAITS }, link.mode, link.flags),
            links: (link.link, link.after),
            grant: link.grant,
            position: link.position,
            ..Listed::default()
        });
    }
    let top = fetch(listing, keylatch_listing_next_key)?;
    Ok(Listed {
        object: text(top.key.object.cast(), top.key.object_len),
        owner: text(top.owner, top.owner_len),
        source: text(top.source, top.source_len),
        facts: (HOLDS, top.mode, top.flags),
        grant: top.grant,
        waiters: top.waiters,
        ..Listed::default()
    })
}

/// Everything in a listing, which is freed.
fn entries(listing: *mut keylatch_listing) -> Vec<Listed> {
    // SAFETY: as above.
    let count = out(|place| unsafe { keylatch_listing_count(listing, place) }).unwrap();
    let mut all = Vec::new();
    let end = loop {
        match next_entry(listing) {
            Ok(entry) => all.push(entry),
            Err(status) => break status,
        }
    };
    assert_eq!((all.len(), end), (count, KEYLATCH_EEND));
    // SAFETY: as above.
    unsafe {
        assert_eq!(keylatch_listing_free(listing), KEYLATCH_OK);
        assert_eq!(keylatch_listing_free(listing), KEYLATCH_EHANDLE);
    }
    all
}

fn names(listed: &[Listed]) -> Vec<(&str, &str)> {
    listed.iter().map(|entry| (entry.object.as_str(), entry.owner.as_str())).collect()
}

#[test]
fn holders_by_every_filter() {
    let locks = Locks::new(0);
    let (node, session) = (locks.owner("node-7", "replicator", 0), locks.owner("txn", "", KEYLATCH_OWNER_SESSION));
    let cat = locks.hold("cat", KEYLATCH_EXCLUSIVE, node, 0);
    locks.hold("car", KEYLATCH_SHARED, session, 3_600_000_000_000);
    locks.hold("dog", KEYLATCH_SHARED, null(), 0);
    assert_eq!(names(&locks.holders(&sized())), [("car", "txn"), ("cat", "node-7"), ("dog", "")]);
    let all = locks.holders(&sized());
    assert_eq!(all[0].facts, (HOLDS, KEYLATCH_SHARED, KEYLATCH_HOLDER_SESSION | KEYLATCH_HOLDER_LEASE));
    assert_eq!((all[1].grant, all[1].source.as_str()), (cat, "replicator"));
    let wanted = key("b", "cat");
    for (filter, expected) in [
        (keylatch_filter { bucket: "b".as_ptr().cast(), bucket_len: 1, ..sized() }, 3),
        (keylatch_filter { bucket: "b".as_ptr().cast(), bucket_len: 0, ..sized() }, 0),
        (keylatch_filter { prefix: "ca".as_ptr().cast(), prefix_len: 2, ..sized() }, 2),
        (keylatch_filter { key: &raw const wanted, ..sized() }, 1),
        (keylatch_filter { owner: "node-7".as_ptr().cast(), owner_len: 6, ..sized() }, 1),
        (keylatch_filter { owner: "node-7".as_ptr().cast(), owner_len: 0, ..sized() }, 1),
        (keylatch_filter { source: "replicator".as_ptr().cast(), source_len: 10, ..sized() }, 1),
        (keylatch_filter { mode: KEYLATCH_SHARED, ..sized() }, 2),
        (keylatch_filter { flags: KEYLATCH_FILTER_SESSIONS, ..sized() }, 1),
        (keylatch_filter { older_than_ns: u64::MAX, ..sized() }, 0),
        (keylatch_filter { older_than_ns: 1, ..sized() }, 3),
    ] {
        assert_eq!(locks.holders(&filter).len(), expected, "{filter:?}");
    }
    for wrong in [
        keylatch_filter { mode: 9, ..sized() },
        keylatch_filter { flags: 8, ..sized() },
        keylatch_filter { bucket_len: 1, ..sized() },
        keylatch_filter { owner_len: 1, ..sized() },
    ] {
        // SAFETY: as above.
        let refused = out(|place| unsafe { keylatch_holders(locks.manager, &raw const wrong, place) });
        assert_eq!(refused.unwrap_err(), KEYLATCH_EINVALID);
    }
    // SAFETY: as above.
    unsafe {
        assert_eq!(keylatch_owner_free(node), KEYLATCH_OK);
        assert_eq!(keylatch_owner_free(session), KEYLATCH_OK);
    }
    assert_eq!(locks.holders(&sized()).len(), 3, "what an owner holds stays held");
}

#[test]
fn waiters_chains_and_what_stands_out() {
    let locks = Locks::new(0);
    let [one, two] = ["one", "two"].map(|name| locks.owner(name, "", KEYLATCH_OWNER_SESSION));
    locks.hold("x", KEYLATCH_EXCLUSIVE, one, 0);
    locks.hold("y", KEYLATCH_EXCLUSIVE, two, 0);
    locks.wait("x", KEYLATCH_EXCLUSIVE, two).unwrap();
    locks.wait("x", KEYLATCH_SHARED, null()).unwrap();
    // SAFETY: as above.
    let waiters = entries(out(|place| unsafe { keylatch_waiters(locks.manager, null(), place) }).unwrap());
    assert_eq!(names(&waiters), [("x", "two"), ("x", "")]);
    assert_eq!((waiters[0].position, waiters[1].position), (1, 2));
    assert_eq!(waiters[0].facts, (WAITS, KEYLATCH_EXCLUSIVE, KEYLATCH_WAITER_SESSION));

    let (asked, mut circle) = (key("b", "y"), 9);
    let ask =
        // SAFETY: as above.
        |place| unsafe { keylatch_blocking_chain(locks.manager, &raw const asked, null(), &raw mut circle, place) };
    let chain = entries(out(ask).unwrap());
    let rows: Vec<_> = chain.iter().map(|row| (row.owner.as_str(), row.facts.0, row.links)).collect();
    assert_eq!(rows, [("two", HOLDS, (1, 0)), ("two", WAITS, (2, 1)), ("one", HOLDS, (2, 1))]);
    assert_eq!(chain[2].facts.2 & KEYLATCH_LINK_RUNS, KEYLATCH_LINK_RUNS);
    assert_eq!(circle, 0);
    let by_owner = entries(
        // SAFETY: as above.
        out(|place| unsafe { keylatch_blocking_chain(locks.manager, null(), two, null_mut(), place) }).unwrap(),
    );
    assert_eq!(names(&by_owner), [("x", "two"), ("x", "one")]);
    for (key, owner) in [(null(), null::<keylatch_owner>()), (&raw const asked, two.cast_const())] {
        // SAFETY: as above.
        let refused = out(|place| unsafe { keylatch_blocking_chain(locks.manager, key, owner, null_mut(), place) });
        assert_eq!(refused.unwrap_err(), KEYLATCH_EINVALID);
    }

    let hot = |count| {
        // SAFETY: as above.
        entries(out(|place| unsafe { keylatch_top(locks.manager, KEYLATCH_TOP_WAITERS, count, place) }).unwrap())
    };
    assert_eq!((names(&hot(9)), hot(9)[0].waiters, hot(0).len()), (vec![("x", "one")], 2, 0));
    // SAFETY: as above.
    let old = entries(out(|place| unsafe { keylatch_top(locks.manager, KEYLATCH_TOP_AGE, 2, place) }).unwrap());
    assert_eq!(old.len(), 2);
    // SAFETY: as above.
    assert_eq!(out(|place| unsafe { keylatch_top(locks.manager, 0, 1, place) }).unwrap_err(), KEYLATCH_EINVALID);

    // SAFETY: as above.
    let listing = out(|place| unsafe { keylatch_waiters(locks.manager, null(), place) }).unwrap();
    // An entry of another kind stays to be fetched.
    assert_eq!(fetch(listing, keylatch_listing_next_holder).unwrap_err(), KEYLATCH_EINVALID);
    // SAFETY: as above.
    let named = unsafe { CStr::from_ptr(failure::keylatch_last_error()) }.to_str().unwrap();
    assert!(named.contains("keylatch_listing_next_waiter()"), "{named}");
    assert_eq!(fetch(listing, keylatch_listing_next_link).unwrap_err(), KEYLATCH_EINVALID);
    assert_eq!(fetch(listing, keylatch_listing_next_key).unwrap_err(), KEYLATCH_EINVALID);
    assert_eq!(fetch(listing, keylatch_listing_next_waiter).unwrap().position, 1);
    // SAFETY: as above.
    let lines = out(|place| unsafe { keylatch_listing_text(listing, place) }).unwrap();
    // SAFETY: as above.
    let for_people = unsafe { CStr::from_ptr(lines) }.to_str().unwrap().to_owned();
    assert!(for_people.starts_with(r#"two waits for "b"/"x" (exclusive"#), "{for_people}");
    assert_eq!(for_people.lines().count(), 2);
    // SAFETY: as above.
    unsafe {
        figures::keylatch_text_free(lines);
        assert_eq!(keylatch_listing_free(listing), KEYLATCH_OK);
        assert_eq!(keylatch_owner_free(one), KEYLATCH_OK);
        assert_eq!(keylatch_owner_free(two), KEYLATCH_OK);
    }
}

#[test]
fn locks_are_revoked_in_every_way() {
    let locks = Locks::new(0);
    let session = locks.owner("txn", "", KEYLATCH_OWNER_SESSION);
    let stuck = locks.hold("x", KEYLATCH_EXCLUSIVE, null(), 0);
    let lease = locks.hold("y", KEYLATCH_EXCLUSIVE, null(), 1);
    let [first, second] = ["p", "q"].map(|object| locks.hold(object, KEYLATCH_EXCLUSIVE, session, 0));
    let (mut count, mut from) = (9, null_mut());
    // SAFETY: as above.
    unsafe {
        // What says nothing revokes nothing: the condition that was to be set may have been lost on the way.
        let all = keylatch_filter { flags: KEYLATCH_FILTER_ALL, ..sized() };
        let nothing: keylatch_filter = sized();
        let both = keylatch_filter { prefix: "x".as_ptr().cast(), prefix_len: 1, ..all };
        for revoke in [keylatch_expire, keylatch_force_release] {
            assert_eq!(revoke(locks.manager, null(), &raw mut count, null_mut()), KEYLATCH_ENULL);
            assert_eq!(revoke(locks.manager, &raw const nothing, &raw mut count, null_mut()), KEYLATCH_EINVALID);
            assert_eq!(revoke(locks.manager, &raw const both, &raw mut count, null_mut()), KEYLATCH_EINVALID);
        }
        assert_eq!((count, locks.holders(&sized()).len(), locks.holders(&all).len()), (9, 4, 4));
        assert_eq!(keylatch_expire(locks.manager, &raw const all, &raw mut count, null_mut()), KEYLATCH_OK);
        assert_eq!((count, locks.release(lease)), (1, KEYLATCH_ELEASELOST));
        let x = keylatch_filter { prefix: "x".as_ptr().cast(), prefix_len: 1, ..sized() };
        let taken = keylatch_force_release(locks.manager, &raw const x, &raw mut count, &raw mut from);
        assert_eq!((taken, count, locks.release(stuck)), (KEYLATCH_OK, 1, KEYLATCH_ENOTHELD));
        assert_eq!(entries(from)[0].grant, stuck);
        assert_eq!(keylatch_owner_release_all(session, &raw mut count), KEYLATCH_OK);
        assert_eq!((count, locks.release(first), locks.release(second)), (2, KEYLATCH_ENOTHELD, KEYLATCH_ENOTHELD));
        let label = locks.owner("label", "", 0);
        assert_eq!(keylatch_owner_release_all(label, null_mut()), KEYLATCH_EINVALID);
        assert_eq!(keylatch_owner_free(label), KEYLATCH_OK);
        assert_eq!(keylatch_owner_free(session), KEYLATCH_OK);

        let releasing = locks.owner("txn", "", KEYLATCH_OWNER_SESSION | KEYLATCH_OWNER_RELEASES);
        let held = locks.hold("z", KEYLATCH_EXCLUSIVE, releasing, 0);
        assert_eq!(keylatch_owner_free(releasing), KEYLATCH_OK);
        assert_eq!(locks.release(held), KEYLATCH_ENOTHELD);
        let options = keylatch_owner_options { flags: KEYLATCH_OWNER_RELEASES, ..sized() };
        let refused = out(|place| keylatch_owner_new(locks.manager, null(), 0, &raw const options, place));
        assert_eq!(refused.unwrap_err(), KEYLATCH_EINVALID);
    }
}

fn next(events: *mut keylatch_events, timeout_ns: u64) -> Result<(i32, Vec<Listed>), i32> {
    let mut about = null_mut();
    // SAFETY: as above.
    let kind = out(|place| unsafe { keylatch_events_next(events, timeout_ns, place, &raw mut about) })?;
    Ok((kind, entries(about)))
}

#[test]
fn events_and_deadlocks() {
    let locks = Locks::new(1);
    let options = keylatch_event_options { wait_above_ns: 1, hold_above_ns: 1, capacity: 5, ..sized() };
    // SAFETY: as above.
    let events = out(|place| unsafe { keylatch_events_new(locks.manager, &raw const options, place) }).unwrap();
    // SAFETY: as above.
    let fd = out(|place| unsafe { keylatch_events_fd(events, place) }).unwrap();
    let readable = || {
        let mut asked = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: as above.
        unsafe { libc::poll(&raw mut asked, 1, 0) == 1 }
    };
    assert_eq!(next(events, 0).unwrap_err(), KEYLATCH_EWOULDBLOCK);
    assert_eq!(next(events, 1_000_000).unwrap_err(), KEYLATCH_ETIMEOUT);
    assert!(!readable());

    let [one, two] = ["one", "two"].map(|name| locks.owner(name, "here", KEYLATCH_OWNER_SESSION));
    let first = locks.hold("x", KEYLATCH_EXCLUSIVE, one, 0);
    let second = locks.hold("y", KEYLATCH_EXCLUSIVE, two, 0);
    locks.wait("y", KEYLATCH_SHARED, one).unwrap();
    let wanted = key("b", "x");
    let by_two = keylatch_request_options { owner: two, ..sized() };
    // SAFETY: as above.
    let status = unsafe {
        let mut grant = 0;
        acquire::keylatch_acquire(
            locks.manager,
            &raw const wanted,
            KEYLATCH_EXCLUSIVE,
            KEYLATCH_WAIT_FOREVER,
            &raw const by_two,
            &raw mut grant,
        )
    };
    assert_eq!(status, KEYLATCH_EDEADLOCK);
    let mut link: keylatch_chain_link = sized();
    // SAFETY: as above.
    assert_eq!(unsafe { failure::keylatch_last_cycle_link(1, &raw mut link) }, KEYLATCH_OK);
    assert_eq!(text(link.owner, link.owner_len), "one");
    assert_eq!(
        (link.mode, link.blocked_by, text(link.source, link.source_len)),
        (1, KEYLATCH_EXCLUSIVE, "here".into())
    );
    // SAFETY: as above.
    let deadlocks = entries(out(|place| unsafe { keylatch_recent_deadlocks(locks.manager, place) }).unwrap());
    assert_eq!(names(&deadlocks), [("x", "two"), ("y", "one")]);
    assert_eq!(deadlocks[0].facts.2, KEYLATCH_LINK_SESSION | KEYLATCH_LINK_VICTIM);
    assert!(readable());
    let mut kinds = Vec::new();
    while let Ok((kind, about)) = next(events, 0) {
        kinds.push((kind, names(&about).into_iter().map(|(_, owner)| owner.to_owned()).collect::<Vec<_>>()));
    }
    kinds.sort();
    let expected = [
        (KEYLATCH_EVENT_SLOW_WAIT, vec!["two".to_owned()]),
        (KEYLATCH_EVENT_DEADLOCK, vec!["two".into(), "one".into()]),
    ];
    assert_eq!(kinds, expected);
    assert!(!readable());

    assert_eq!(locks.release(second), KEYLATCH_OK);
    let mut answer: keylatch_completion = keylatch_completion::default();
    // SAFETY: as above.
    assert_eq!(unsafe { queue::keylatch_queue_next(locks.queue, KEYLATCH_WAIT_FOREVER, &raw mut answer) }, KEYLATCH_OK);
    let (mut kinds, mut granted) = (Vec::new(), 0);
    while let Ok((kind, about)) = next(events, 0) {
        kinds.push(kind);
        granted += about.iter().filter(|entry| entry.facts.2 & KEYLATCH_WAITER_GRANTED != 0).count();
    }
    kinds.sort();
    assert_eq!((kinds, granted), (vec![KEYLATCH_EVENT_SLOW_WAIT, KEYLATCH_EVENT_SLOW_HOLD], 1));

    // A timeout tells the holders; force and expiry tell from whom; and what is too much is counted.
    let short = keylatch_request_options { owner: two, ..sized() };
    // SAFETY: as above.
    let status = out(|place| unsafe {
        acquire::keylatch_acquire(locks.manager, &raw const wanted, KEYLATCH_SHARED, 1_000_000, &raw const short, place)
    });
    assert_eq!(status.unwrap_err(), KEYLATCH_ETIMEOUT);
    let (_, wait) = next(events, 0).unwrap();
    assert_eq!(names(&wait), [("x", "two")]);
    let (kind, about) = next(events, 0).unwrap();
    let roles: Vec<_> = about.iter().map(|entry| (entry.owner.as_str(), entry.facts.0)).collect();
    assert_eq!(kind, KEYLATCH_EVENT_TIMEOUT);
    assert_eq!(roles, [("two", WAITS), ("one", HOLDS)]);
    locks.hold("lease", KEYLATCH_EXCLUSIVE, null(), 1);
    // SAFETY: as above.
    unsafe {
        let all = keylatch_filter { flags: KEYLATCH_FILTER_ALL, ..sized() };
        assert_eq!(keylatch_expire(locks.manager, &raw const all, null_mut(), null_mut()), KEYLATCH_OK);
        let x = keylatch_filter { prefix: "x".as_ptr().cast(), prefix_len: 1, ..sized() };
        assert_eq!(keylatch_force_release(locks.manager, &raw const x, null_mut(), null_mut()), KEYLATCH_OK);
    }
    let _ = first;
    let mut kinds = Vec::new();
    while let Ok((kind, about)) = next(events, 0) {
        kinds.push((kind, about[0].object.clone()));
    }
    kinds.retain(|(kind, _)| *kind != KEYLATCH_EVENT_SLOW_HOLD);
    assert_eq!(kinds, [(KEYLATCH_EVENT_EXPIRED, "lease".to_owned()), (KEYLATCH_EVENT_FORCED, "x".to_owned())]);
    for _ in 0..9 {
        let held = locks.hold("z", KEYLATCH_EXCLUSIVE, null(), 0);
        assert_eq!(locks.release(held), KEYLATCH_OK);
    }
    // SAFETY: as above.
    assert_eq!(out(|place| unsafe { keylatch_events_dropped(events, place) }).unwrap(), 4);
    // SAFETY: as above.
    assert_eq!(unsafe { keylatch_manager_close(locks.manager) }, KEYLATCH_OK);
    for _ in 0..5 {
        assert_eq!(next(events, KEYLATCH_WAIT_FOREVER).unwrap().0, KEYLATCH_EVENT_SLOW_HOLD);
    }
    assert_eq!(next(events, KEYLATCH_WAIT_FOREVER).unwrap_err(), KEYLATCH_ECLOSED);
    assert!(readable());
    // SAFETY: as above.
    unsafe {
        assert_eq!(keylatch_events_free(events), KEYLATCH_OK);
        assert_eq!(keylatch_events_free(events), KEYLATCH_EHANDLE);
        assert_eq!(keylatch_owner_free(one), KEYLATCH_OK);
        assert_eq!(keylatch_owner_free(two), KEYLATCH_OK);
    }
}

#[test]
fn free_wakes_waiter_for_event() {
    let locks = Locks::new(0);
    for _ in 0..50 {
        // SAFETY: as above.
        let events = out(|place| unsafe { keylatch_events_new(locks.manager, null(), place) }).unwrap();
        let address = events.expose_provenance();
        let reader = std::thread::spawn(move || {
            let events = std::ptr::with_exposed_provenance_mut(address);
            let mut kind = 0;
            // SAFETY: as above.
            unsafe { keylatch_events_next(events, KEYLATCH_WAIT_FOREVER, &raw mut kind, null_mut()) }
        });
        // SAFETY: as above.
        assert_eq!(unsafe { keylatch_events_free(events) }, KEYLATCH_OK);
        assert_eq!(reader.join().unwrap(), KEYLATCH_EHANDLE);
    }
}

#[test]
fn learned_timeout_is_reported() {
    let options = keylatch_manager_options {
        shards: 4,
        max_locks: 10_000,
        flags: KEYLATCH_MANAGER_ADAPTIVE,
        adaptive_floor_ns: 1_000_000,
        adaptive_ceiling_ns: 50_000_000,
        ..sized()
    };
    // SAFETY: as above.
    let manager = out(|place| unsafe { keylatch_manager_new(&raw const options, place) }).unwrap();
    let mut learned: figures::keylatch_adaptive = sized();
    // SAFETY: as above.
    assert_eq!(unsafe { figures::keylatch_manager_adaptive(manager, &raw mut learned) }, KEYLATCH_OK);
    assert_eq!((learned.timeout_ns, learned.quantile_ns, learned.samples), (50_000_000, 0, 0));
    assert_eq!((learned.floor_ns, learned.ceiling_ns), (1_000_000, 50_000_000));
    let mut settings: keylatch_manager_options = sized();
    // SAFETY: as above.
    assert_eq!(unsafe { keylatch_manager_settings(manager, &raw mut settings) }, KEYLATCH_OK);
    assert_eq!(settings.adaptive_quantile_per_mille, 990);
    assert_eq!(settings.flags, KEYLATCH_MANAGER_ADAPTIVE | KEYLATCH_MANAGER_READER_SLOTS);
    let wrong = keylatch_manager_options { adaptive_factor_per_mille: 10, ..options };
    // SAFETY: as above.
    let refused = out(|place| unsafe { keylatch_manager_new(&raw const wrong, place) });
    assert_eq!(refused.unwrap_err(), KEYLATCH_ECONFIG);
    // SAFETY: as above.
    assert_eq!(unsafe { keylatch_manager_free(manager) }, KEYLATCH_OK);
    let without = Locks::new(0);
    // SAFETY: as above.
    assert_eq!(unsafe { figures::keylatch_manager_adaptive(without.manager, &raw mut learned) }, KEYLATCH_EEND);
}

#[test]
fn circular_orders_are_reported() {
    let options = keylatch_manager_options { shards: 4, flags: KEYLATCH_MANAGER_LOCK_ORDER, ..sized() };
    // SAFETY: as above.
    let manager = out(|place| unsafe { keylatch_manager_new(&raw const options, place) }).unwrap();
    // SAFETY: as above.
    let queue = out(|place| unsafe { keylatch_queue_new(manager, place) }).unwrap();
    let locks = Locks { manager, queue };
    // SAFETY: as above.
    let events = out(|place| unsafe { keylatch_events_new(manager, null(), place) }).unwrap();
    for (name, order) in [("one", ["x", "y"]), ("two", ["y", "x"])] {
        let session = locks.owner(name, "here", KEYLATCH_OWNER_SESSION | KEYLATCH_OWNER_RELEASES);
        for object in order {
            let (wanted, options) = (key("b", object), keylatch_request_options { owner: session, ..sized() });
            // SAFETY: as above.
            let taken = out(|place: *mut u64| unsafe {
                acquire::keylatch_acquire(
                    manager,
                    &raw const wanted,
                    KEYLATCH_EXCLUSIVE,
                    KEYLATCH_WAIT_FOREVER,
                    &raw const options,
                    place,
                )
            });
            assert_ne!(taken.unwrap(), 0);
        }
        // SAFETY: as above.
        assert_eq!(unsafe { keylatch_owner_free(session) }, KEYLATCH_OK);
    }
    let mut reported = 0;
    // SAFETY: as above.
    let listing = out(|place| unsafe { keylatch_lock_orders(manager, &raw mut reported, place) }).unwrap();
    let listed = entries(listing);
    assert_eq!((reported, names(&listed)), (1, vec![("y", "two"), ("x", "two"), ("x", "one"), ("y", "one")]));
    let roles: Vec<_> = listed.iter().map(|entry| entry.facts.0).collect();
    assert_eq!(roles, [HOLDS, WAITS, HOLDS, WAITS]);
    assert_eq!((listed[0].links, listed[0].source.as_str()), ((1, 0), "here"));
    let (kind, about) = std::iter::from_fn(|| next(events, 0).ok())
        .find(|(kind, _)| *kind == KEYLATCH_EVENT_LOCK_ORDER)
        .expect("it is an event too");
    assert_eq!((kind, names(&about)), (KEYLATCH_EVENT_LOCK_ORDER, names(&listed)));
    // SAFETY: as above.
    assert_eq!(unsafe { keylatch_events_free(events) }, KEYLATCH_OK);
}

#[test]
fn queue_upgrade_keeps_its_grant() {
    let locks = Locks::new(0);
    let mine = locks.hold("x", KEYLATCH_SHARED, null(), 0);
    let ask = |token| {
        // SAFETY: as above.
        out(|place| unsafe {
            grants::keylatch_upgrade_queue(locks.manager, mine, KEYLATCH_WAIT_FOREVER, locks.queue, token, place)
        })
    };
    assert_eq!(ask(1), Ok(0), "no other reads");
    // SAFETY: as above.
    assert_eq!(unsafe { grants::keylatch_downgrade(locks.manager, mine) }, KEYLATCH_OK);
    let other = locks.hold("x", KEYLATCH_SHARED, null(), 0);
    let next = || {
        let mut answer = keylatch_completion::default();
        // SAFETY: as above.
        let status = unsafe { queue::keylatch_queue_next(locks.queue, KEYLATCH_WAIT_FOREVER, &raw mut answer) };
        assert_eq!(status, KEYLATCH_OK);
        answer
    };
    let ticket = ask(2).unwrap();
    // SAFETY: as above.
    let cancelled = out(|place| unsafe { acquire::keylatch_cancel(locks.manager, ticket, place) });
    assert_eq!((cancelled, next().status), (Ok(1), KEYLATCH_ECANCELLED));
    let ticket = ask(3).unwrap();
    assert_eq!((locks.release(mine), ask(4)), (KEYLATCH_ENOTHELD, Err(KEYLATCH_ENOTHELD)));
    assert_eq!(locks.release(other), KEYLATCH_OK);
    let answer = next();
    assert_eq!((answer.ticket, answer.token, answer.status, answer.grant), (ticket, 3, KEYLATCH_OK, mine));
    // SAFETY: as above.
    assert_eq!(out(|place| unsafe { grants::keylatch_grant_mode(locks.manager, mine, place) }), Ok(KEYLATCH_EXCLUSIVE));
    assert_eq!(locks.release(mine), KEYLATCH_OK);
}
