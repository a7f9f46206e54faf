//! Managers that share their keys through a table: permits that are kept, recalled, and lost with their process.

use crate::children::{Child, Folder, Pipe};
use crate::tier_events::{Event, Recorder};
use keylatch::tier::{Answer, Ask, Effort, Fences, PermitId, Term, Tier, TierErrorKind};
use keylatch::{FastLockGuard, FastObjectLockManager, KeyRef, LockConfig, LockError, LockRequest, Mode};
use keylatch_shm::tier::{SharedMemory, SharedMemoryTier};
use keylatch_shm::{SharedTable, TableConfig};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const CAT: (&str, &str) = ("photos", "cat.jpg");
/// Longer than any recovery; a test that needs it has failed.
const LONG: Duration = Duration::from_secs(60);

fn config() -> TableConfig {
    TableConfig::default().keys(64).members(16)
}

fn manager(path: &Path) -> FastObjectLockManager {
    manager_with(path, &config())
}

fn manager_with(path: &Path, config: &TableConfig) -> FastObjectLockManager {
    let tier = SharedMemoryTier::open(path, config).expect("a tier");
    FastObjectLockManager::with_tier(LockConfig::default(), Arc::new(tier)).expect("a manager")
}

/// Locks and unlocks the key; its permit is kept then.
fn use_once(locks: &FastObjectLockManager, mode: Mode) {
    drop(locks.lock(LockRequest::new(CAT, mode).timeout(LONG)).blocking().expect("no end"));
}

fn holders(path: &Path) -> usize {
    let table = SharedTable::open(path, &config()).expect("a table");
    table.holders(Some(CAT.into())).expect("sound").len()
}

#[test]
fn kept_permit_goes_to_manager_that_waits() {
    let folder = Folder::new();
    let (one, two) = (manager(&folder.file()), manager(&folder.file()));
    for first in [Mode::Exclusive, Mode::Shared] {
        for second in [Mode::Exclusive, Mode::Shared] {
            use_once(&one, first);
            assert_eq!(holders(&folder.file()), 1, "it is kept");
            use_once(&two, second);
            use_once(&one, Mode::Exclusive);
        }
    }
}

#[test]
fn shared_memory_opens_one_table_for_all() {
    let folder = Folder::new();
    let one = LockConfig::default().shared_memory(folder.file()).expect("a manager");
    let two = LockConfig::default().shared_memory(folder.file()).expect("a manager");
    let guard = one.lock(LockRequest::write(CAT)).blocking().expect("free");
    assert!(two.lock(LockRequest::read(CAT).timeout(Duration::from_millis(5))).blocking().is_err());
    drop(guard);
    use_once(&two, Mode::Shared);
    let missing = LockConfig::default().shared_memory(folder.path().join("none/locks")).expect_err("no such folder");
    assert!(missing.to_string().contains("none"), "{missing}");
}

#[test]
fn threads_of_three_managers_exclude_each_other() {
    let folder = Folder::new();
    let managers = [(); 3].map(|()| manager(&folder.file()));
    // Read and written apart: wrong if two are inside.
    let (count, readers, last) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU64::new(0));
    let work = |locks: &FastObjectLockManager, thread: u32| {
        for turn in 0..300 {
            let mode = if (turn + thread).is_multiple_of(3) { Mode::Shared } else { Mode::Exclusive };
            let guard = locks.lock(LockRequest::new(CAT, mode).timeout(LONG)).blocking().expect("no end");
            if mode == Mode::Shared {
                readers.fetch_add(1, Ordering::SeqCst);
                let seen = count.load(Ordering::SeqCst);
                std::thread::yield_now();
                assert_eq!(count.load(Ordering::SeqCst), seen, "a writer is inside");
                readers.fetch_sub(1, Ordering::SeqCst);
            } else {
                let seen = count.load(Ordering::SeqCst);
                assert_eq!(readers.load(Ordering::SeqCst), 0, "a reader is inside");
                std::thread::yield_now();
                count.store(seen + 1, Ordering::SeqCst);
                let fence = guard.fence();
                assert!(last.swap(fence, Ordering::SeqCst) < fence, "fences grow over all managers");
            }
        }
    };
    std::thread::scope(|scope| {
        for locks in &managers {
            (0..3).for_each(|thread| drop(scope.spawn(move || work(locks, thread))));
        }
    });
    assert_eq!(count.into_inner(), 3 * 3 * 200);
}

/// A process that keeps the key's permit, with no thread that holds the lock.
fn keeper(folder: &Folder, ready: &Pipe) -> Child {
    let path = folder.file();
    Child::run(move || {
        let locks = manager(&path);
        use_once(&locks, Mode::Exclusive);
        ready.say();
        loop {
            std::thread::park();
        }
    })
}

#[test]
fn idle_process_gives_its_permit_back() {
    let (folder, ready) = (Folder::new(), Pipe::new());
    let child = keeper(&folder, &ready);
    ready.hear();
    assert_eq!(holders(&folder.file()), 1, "it is kept");
    use_once(&manager(&folder.file()), Mode::Exclusive);
    child.kill();
}

#[test]
fn permit_of_killed_process_is_free() {
    let (folder, ready) = (Folder::new(), Pipe::new());
    let locks = manager(&folder.file());
    for _ in 0..5 {
        let child = keeper(&folder, &ready);
        ready.hear();
        child.kill();
        let guard = locks.lock(LockRequest::write(CAT).timeout(LONG)).blocking().expect("recovered");
        assert!(guard.previous_holder_died(), "what it kept may be half-written");
        drop(guard);
        use_once(&locks, Mode::Exclusive);
    }
}

#[test]
fn killed_processes_leave_keys_to_the_others() {
    /// Memory of all processes: who is inside, and whether it is over.
    fn shared() -> &'static [AtomicU32; 2] {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, which is never unmapped, of zeros.
        unsafe { &*libc::mmap(std::ptr::null_mut(), 4096, access, flags, -1, 0).cast() }
    }
    let (folder, ready, [inside, is_over]) = (Folder::new(), Pipe::new(), shared());
    let path = folder.file();
    let start = || {
        Child::run(|| {
            let locks = manager(&path);
            ready.say();
            while is_over.load(Ordering::SeqCst) == 0 {
                let guard = locks.lock(LockRequest::write(CAT).timeout(LONG)).blocking().expect("no end");
                let me = std::process::id();
                let before = inside.swap(me, Ordering::SeqCst);
                assert!(before == 0 || guard.previous_holder_died(), "process {before} is inside");
                std::hint::spin_loop();
                assert_eq!(inside.swap(0, Ordering::SeqCst), me, "another process came in");
            }
        })
    };
    let survivors = [start(), start()];
    survivors.iter().for_each(|_| ready.hear());
    for turn in 0..30 {
        let child = start();
        ready.hear();
        std::thread::sleep(Duration::from_micros(300 * turn));
        child.kill();
    }
    is_over.store(1, Ordering::SeqCst);
    assert!(survivors.into_iter().all(Child::wait), "an assertion of a child has failed");
    use_once(&manager(&path), Mode::Exclusive);
}

/// A tier whose events are written down.
struct Process {
    tier: SharedMemoryTier,
    events: Receiver<Event>,
    term: Term,
}

impl Process {
    fn new(path: &Path) -> Self {
        let tier = SharedMemoryTier::open(path, &config()).expect("a tier");
        let (recorder, events) = Recorder::new();
        let term = tier.attach(recorder).expect("attached");
        Self { tier, events, term }
    }

    fn send(&self, key: &str, mode: Mode, effort: Effort, replaces: Option<PermitId>) -> (PermitId, Answer) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = PermitId::from_raw(NEXT.fetch_add(1, Ordering::Relaxed)).expect("not 0");
        let ask = Ask { id, key: KeyRef::new("photos", key), mode, term: self.term, replaces, owner: "test" };
        let mut answers = [Answer::Pending];
        self.tier.ask(&[ask], effort, &mut answers);
        let [answer] = answers;
        (id, answer)
    }

    fn granted(&self, mode: Mode) -> (PermitId, Fences) {
        match self.send("cat.jpg", mode, Effort::Queue, None) {
            (id, Answer::Granted { fences, .. }) => (id, fences),
            (_, other) => panic!("{other:?}"),
        }
    }

    fn pending(&self, mode: Mode, replaces: Option<PermitId>) -> PermitId {
        let (id, answer) = self.send("cat.jpg", mode, Effort::Queue, replaces);
        assert_eq!(answer, Answer::Pending);
        id
    }

    /// The next event that is no recall of these permits.
    ///
    /// A recall may come more than once, and after the permit was given back.
    fn next(&self, recalled: &[PermitId]) -> Event {
        let deadline = Instant::now() + LONG;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left).expect("an event") {
                Event::Recalled(id, _) if recalled.contains(&id) => {}
                event => return event,
            }
        }
    }
}

#[test]
fn tier_calls_answered_as_promised() {
    let folder = Folder::new();
    let (one, two) = (Process::new(&folder.file()), Process::new(&folder.file()));
    let (x, first) = one.granted(Mode::Exclusive);
    assert_eq!(two.send("cat.jpg", Mode::Shared, Effort::AllOrNone, None).1, Answer::Busy);
    let waits = two.pending(Mode::Shared, None);
    assert_eq!(one.next(&[]), Event::Recalled(x, Mode::Shared));
    two.tier.withdraw(waits);
    assert_eq!(two.next(&[]), Event::Withdrawn(waits));
    let waits = two.pending(Mode::Shared, None);
    one.tier.downgrade(x);
    assert!(matches!(two.next(&[]), Event::Answered(id, Answer::Granted { .. }) if id == waits));
    assert_eq!(one.tier.upgrade(x, one.term, Effort::AllOrNone), Answer::Busy);
    assert_eq!(one.tier.upgrade(x, one.term, Effort::Queue), Answer::Pending);
    assert_eq!(two.next(&[]), Event::Recalled(waits, Mode::Exclusive));
    assert_eq!(two.tier.upgrade(waits, two.term, Effort::Queue), Answer::UpgradeConflict);
    one.tier.withdraw(x);
    assert_eq!(one.next(&[x]), Event::Withdrawn(x));
    let table = SharedTable::open(folder.file(), &config()).expect("a table");
    drop(table.lock(keylatch_shm::LockRequest::read(CAT)).now().expect("it bars none any more"));
    assert_eq!(one.tier.upgrade(x, one.term, Effort::Queue), Answer::Pending);
    two.tier.give_back(waits);
    let Event::Answered(_, Answer::Granted { fences, .. }) = one.next(&[x]) else { panic!("none is in the way") };
    assert!(fences.first >= first.end(), "{fences:?} come after {first:?}");
    // It goes behind the one that waits, and its permit is gone with that.
    let waits = two.pending(Mode::Exclusive, None);
    let deadline = Instant::now() + LONG;
    while table.waiting(CAT).expect("sound") == 0 {
        assert!(Instant::now() < deadline, "it does not wait");
    }
    let mut again = Some(one.pending(Mode::Exclusive, Some(x)));
    let mut recalled = vec![x];
    recalled.extend(again);
    let (id, later) = loop {
        assert!(Instant::now() < deadline, "neither gets it");
        if let Ok(Event::Answered(id, Answer::Granted { fences, .. })) = two.events.try_recv() {
            break (id, fences);
        }
        // A process that does not run may be overtaken.
        if let Ok(Event::Answered(id, _)) = one.events.try_recv() {
            assert_eq!(again.take(), Some(id));
            one.tier.give_back(id);
        }
    };
    assert!(id == waits && later.first >= fences.end());
    two.tier.give_back(waits);
    let again = match again {
        Some(again) => {
            assert!(matches!(one.next(&recalled), Event::Answered(id, Answer::Granted { .. }) if id == again));
            again
        }
        None => one.granted(Mode::Exclusive).0,
    };
    // What the other takes by force is lost.
    assert_eq!(two.tier.revoke(("photos", "cat.jpg").into()), Ok(1));
    recalled.retain(|id| *id != again);
    assert_eq!(one.next(&recalled), Event::Lost(again));
    two.granted(Mode::Exclusive);
    std::fs::remove_file(folder.file()).expect("it is there");
    assert_eq!(one.next(&[]), Event::AllLost(one.term));
    assert!(matches!(one.next(&[]), Event::Renewed(term) if term != one.term));
    assert!(!one.tier.is_current());
}

#[test]
fn oldest_of_too_many_permits_recalled() {
    let folder = Folder::new();
    let one = Process::new(&folder.file());
    // One for each four keys may be kept.
    let ids: Vec<_> = (0..17).map(|key| one.send(&format!("{key}"), Mode::Exclusive, Effort::Queue, None).0).collect();
    assert_eq!(one.next(&[]), Event::Recalled(ids[0], Mode::Exclusive));
}

/// The kind of the tier's error that a request ended with.
fn refusal(outcome: Result<FastLockGuard<'_>, LockError>) -> TierErrorKind {
    match outcome.expect_err("the table is gone") {
        LockError::Tier { error } => error.kind(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_fail_when_table_is_gone() {
    let folder = Folder::new();
    let locks = manager(&folder.file());
    let held = locks.lock(LockRequest::write(CAT)).blocking().expect("free");
    let (sender, lost) = channel();
    held.on_lost(move |_| sender.send(()).unwrap_or(()));
    let wait = |key: (&'static str, &'static str)| locks.lock(LockRequest::write(key).timeout(LONG)).blocking();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| refusal(wait(CAT)));
        std::fs::remove_file(folder.file()).expect("it is there");
        lost.recv_timeout(LONG).expect("the loss is noticed");
        // The tier's term is over.
        assert_eq!(refusal(wait(("photos", "dog.jpg"))), TierErrorKind::Damaged);
        drop(held);
        assert_eq!(waiter.join().expect("no panic"), TierErrorKind::Damaged);
    });
}

#[test]
fn unreported_death_reaches_next_holder() {
    let (folder, ready) = (Folder::new(), Pipe::new());
    let (one, two) = (Process::new(&folder.file()), Process::new(&folder.file()));
    let died = |process: &Process| match process.send("cat.jpg", Mode::Exclusive, Effort::Queue, None) {
        (id, Answer::Granted { previous_died, .. }) => (id, previous_died),
        (id, _) => match process.next(&[]) {
            Event::Answered(_, Answer::Granted { previous_died, .. }) => (id, previous_died),
            other => panic!("{other:?}"),
        },
    };
    let ends: [fn(&Process, &Process, PermitId); 4] = [
        |one, _, id| {
            one.tier.death_unreported(id);
            one.tier.give_back(id);
        },
        |one, _, id| {
            one.tier.downgrade(id);
            one.tier.death_unreported(id);
            one.tier.give_back(id);
        },
        |one, two, id| {
            assert_eq!(two.tier.revoke(CAT.into()), Ok(1));
            assert_eq!(one.next(&[]), Event::Lost(id));
            one.tier.death_unreported(id);
        },
        |one, _, id| one.tier.give_back(id),
    ];
    for (turn, end) in ends.into_iter().enumerate() {
        let child = keeper(&folder, &ready);
        ready.hear();
        child.kill();
        let (id, is_informed) = died(&one);
        assert!(is_informed, "the keeper was killed");
        end(&one, &two, id);
        let (id, is_informed) = died(&two);
        assert_eq!(is_informed, turn < 3, "end {turn}");
        two.tier.give_back(id);
    }
}

#[test]
fn death_reported_once_by_a_permit() {
    let (folder, ready) = (Folder::new(), Pipe::new());
    let child = keeper(&folder, &ready);
    ready.hear();
    child.kill();
    let one = Process::new(&folder.file());
    let (id, answer) = one.send("cat.jpg", Mode::Exclusive, Effort::Queue, None);
    let answer = if answer == Answer::Pending { one.next(&[]) } else { Event::Answered(id, answer) };
    assert!(matches!(answer, Event::Answered(_, Answer::Granted { previous_died: true, .. })), "{answer:?}");
    one.tier.downgrade(id);
    let answer = one.tier.upgrade(id, one.term, Effort::Queue);
    assert!(matches!(answer, Answer::Granted { previous_died: false, .. }), "{answer:?}");
}

#[test]
fn tries_get_what_others_keep_and_do_not_use() {
    let folder = Folder::new();
    let (one, two) = (manager(&folder.file()), manager(&folder.file()));
    let deadline = Instant::now() + LONG;
    use_once(&one, Mode::Exclusive);
    while two.try_acquire_write_lock("photos", "cat.jpg", "test").is_err() {
        assert!(Instant::now() < deadline, "it is never asked back");
    }
    use_once(&one, Mode::Shared);
    use_once(&two, Mode::Shared);
    assert_eq!(holders(&folder.file()), 2, "both keep it");
    let mut reads = one.lock(LockRequest::read(CAT)).blocking().expect("it is kept");
    while reads.try_upgrade().is_err() {
        assert!(Instant::now() < deadline, "it is never asked back");
    }
    assert_eq!(reads.mode(), Mode::Exclusive);
}

#[test]
fn try_to_write_bars_no_readers() {
    let folder = Folder::new();
    let (one, two) = (manager(&folder.file()), manager(&folder.file()));
    let table = SharedTable::open(folder.file(), &config()).expect("a table");
    let reads = one.lock(LockRequest::read(CAT)).blocking().expect("free");
    let tries = AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                assert!(two.try_acquire_write_lock("photos", "cat.jpg", "test").is_err(), "it is read");
                tries.fetch_add(1, Ordering::SeqCst);
            }
        });
        while tries.load(Ordering::SeqCst) < 20 {
            drop(table.lock(keylatch_shm::LockRequest::read(CAT)).now().expect("no writer has a place in line"));
        }
    });
    drop(reads);
}

#[test]
fn full_table_has_idle_permits_given_back() {
    let folder = Folder::new();
    // Sixteen entries, and two permits for each process.
    let config = TableConfig::default().keys(8).members(16);
    let managers: Vec<_> = (0..8).map(|_| manager_with(&folder.file(), &config)).collect();
    let write = |locks: &FastObjectLockManager, key: usize| {
        let object = format!("{key}");
        drop(
            locks.lock(LockRequest::write(("photos", object.as_str())).timeout(LONG)).blocking().expect("it has room"),
        );
    };
    for (key, locks) in managers.iter().chain(&managers).enumerate() {
        write(locks, key);
    }
    let table = SharedTable::open(folder.file(), &config).expect("a table");
    assert_eq!(table.holders(None).expect("sound").len(), 16, "all entries are kept");
    // Of others, and its own.
    write(&manager_with(&folder.file(), &config), 16);
    write(&managers[0], 17);
    let last = manager_with(&folder.file(), &config);
    assert!(last.try_acquire_write_lock("photos", "18", "test").is_ok());
}

#[test]
fn recall_needs_no_look_without_reason() {
    let folder = Folder::new();
    // No sleeper looks by itself, neither a request nor a keeper.
    let config = config().recheck(2 * LONG);
    let managers = [(); 3].map(|()| manager_with(&folder.file(), &config));
    std::thread::scope(|scope| {
        for (at, locks) in managers.iter().enumerate() {
            scope.spawn(move || {
                for turn in 0..300 {
                    use_once(locks, if (turn + at) % 3 == 0 { Mode::Shared } else { Mode::Exclusive });
                }
            });
        }
    });
    // Each keeps it until the next one comes.
    for locks in managers.iter().cycle().take(30) {
        use_once(locks, Mode::Exclusive);
    }
}

#[test]
fn readers_of_two_processes_share_after_write() {
    let folder = Folder::new();
    let (one, two) = (manager(&folder.file()), manager(&folder.file()));
    use_once(&one, Mode::Exclusive);
    let first = one.lock(LockRequest::read(CAT)).blocking().expect("it is kept");
    let second = two.lock(LockRequest::read(CAT).timeout(LONG)).blocking().expect("it is shared");
    // Neither does it bar further readers.
    let third = one.lock(LockRequest::read(CAT).timeout(LONG)).blocking().expect("it is shared");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| use_once(&two, Mode::Exclusive));
        drop((first, second, third));
        writer.join().expect("no panic");
    });
}

#[test]
fn upgrade_waits_for_other_managers() {
    let folder = Folder::new();
    let managers = [(); 3].map(|()| manager(&folder.file()));
    let read = |at: usize| managers[at].lock(LockRequest::read(CAT).timeout(LONG)).blocking().expect("it is shared");
    // One that only keeps it gives it back.
    use_once(&managers[2], Mode::Shared);
    let (mut one, mut two) = (read(0), read(1));
    let brief = Some(Duration::from_millis(5));
    assert!(matches!(one.upgrade_blocking(brief), Err(LockError::Timeout { .. })));
    let table = SharedTable::open(folder.file(), &config()).expect("a table");
    std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| {
            one.upgrade_blocking(Some(LONG)).expect("the other leaves");
            one
        });
        let deadline = Instant::now() + LONG;
        while table.lock(keylatch_shm::LockRequest::read(CAT)).try_now().expect("sound").is_some() {
            assert!(Instant::now() < deadline, "readers come in");
        }
        assert!(matches!(two.upgrade_blocking(Some(LONG)), Err(LockError::UpgradeConflict { .. })));
        // Its manager keeps it, as the third one does.
        drop(two);
        let one = upgrade.join().expect("no panic");
        assert_eq!(one.mode(), Mode::Exclusive);
        let writer = scope.spawn(|| use_once(&managers[2], Mode::Exclusive));
        drop(one);
        writer.join().expect("no panic");
    });
}

#[test]
fn upgrades_of_managers_need_no_look() {
    let folder = Folder::new();
    // No sleeper looks by itself, neither a request nor a keeper.
    let config = config().recheck(2 * LONG);
    let managers = [(); 3].map(|()| manager_with(&folder.file(), &config));
    let (writers, upgrades) = (AtomicU32::new(0), AtomicU32::new(0));
    let exclusive = || {
        assert_eq!(writers.fetch_add(1, Ordering::SeqCst), 0, "another writer is inside");
        std::thread::yield_now();
        writers.fetch_sub(1, Ordering::SeqCst);
    };
    std::thread::scope(|scope| {
        for locks in &managers {
            let (upgrades, exclusive) = (&upgrades, &exclusive);
            scope.spawn(move || {
                for turn in 0..200 {
                    if turn % 3 == 0 {
                        let _guard = locks.lock(LockRequest::write(CAT).timeout(LONG)).blocking().expect("no end");
                        exclusive();
                        continue;
                    }
                    let mut guard = locks.lock(LockRequest::read(CAT).timeout(LONG)).blocking().expect("no end");
                    match guard.upgrade_blocking(Some(LONG)) {
                        Ok(()) => {
                            exclusive();
                            upgrades.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(LockError::UpgradeConflict { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert!(upgrades.into_inner() > 0);
}
