//! What each process does until it is killed.

use crate::options::{Control, Options};
use crate::{Random, table_config};
use keylatch::Mode;
use keylatch_shm::{BatchLockRequest, LockRequest, SharedLockGuard, SharedTable, ShmError};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Keys that are checked; the first few are hot, the rest come and go.
pub(crate) const KEYS: u64 = 48;
const HOT: u64 = 3;
/// Longer than any wait that is not a lost lock.
const STUCK: Duration = Duration::from_secs(8);

/// Memory that the parent and all workers have in common, apart from the table.
pub(crate) struct Shared {
    pub(crate) stop: AtomicU64,
    pub(crate) violations: AtomicU64,
    pub(crate) stuck: AtomicU64,
    pub(crate) locks: AtomicU64,
    pub(crate) upgrades: AtomicU64,
    pub(crate) reported: AtomicU64,
    pub(crate) longest_ms: AtomicU64,
    pub(crate) rechecks: AtomicU64,
    pub(crate) late_signals: AtomicU64,
    protected: [[AtomicU64; 2]; KEYS as usize],
}

impl Shared {
    pub(crate) fn new() -> &'static Self {
        // SAFETY: a new mapping, shared with the children, zeroed, and never unmapped.
        unsafe {
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let base = libc::mmap(std::ptr::null_mut(), size_of::<Self>(), access, flags, -1, 0);
            assert!(base != libc::MAP_FAILED, "no memory for the check");
            &*base.cast::<Self>()
        }
    }

    pub(crate) fn is_bad(&self) -> bool {
        self.violations.load(SeqCst) + self.stuck.load(SeqCst) > 0
    }
}

pub(crate) fn key(number: u64) -> String {
    format!("object-{number}")
}

pub(crate) fn run(path: &Path, shared: &'static Shared, options: &Options, seed: u64) {
    let config = table_config().label("chaos").recheck(options.recheck);
    let table = match SharedTable::open(path, &config) {
        Ok(table) => table,
        // More processes are dying than there are slots for.
        Err(ShmError::TooManyMembers { .. }) => return,
        Err(error) => return bad(shared, &format!("the table could not be opened: {error}")),
    };
    std::thread::scope(|scope| {
        for thread in 0..options.threads {
            let table = &table;
            scope.spawn(move || {
                let mut random = Random::new(seed * 64 + u64::from(thread));
                while shared.stop.load(SeqCst) == 0 {
                    turn(table, shared, options, &mut random);
                }
            });
        }
    });
    let figures = table.figures();
    shared.rechecks.fetch_add(figures.rechecks, SeqCst);
    shared.late_signals.fetch_add(figures.late_signals, SeqCst);
}

fn bad(shared: &Shared, what: &str) {
    shared.violations.fetch_add(1, SeqCst);
    eprintln!("violation: {what}");
}

fn turn(table: &SharedTable, shared: &'static Shared, options: &Options, random: &mut Random) {
    let number = if random.below(4) == 0 { random.below(KEYS) } else { random.below(HOT) };
    let name = key(number);
    let mode = if random.below(2) == 0 { Mode::Shared } else { Mode::Exclusive };
    let request = LockRequest::new(("chaos", &name), mode).owner("worker");
    let begun = Instant::now();
    let kind = random.below(16);
    let result = match kind {
        0 => table.lock(request).now(),
        1 | 2 => table.lock(request.timeout(Duration::from_micros(random.below(400)))).blocking(),
        3 => return batch(table, shared, random),
        4 | 5 => block_on(table.lock(request.timeout(STUCK)), random),
        _ => table.lock(request.timeout(STUCK)).blocking(),
    };
    let waited = begun.elapsed();
    shared.longest_ms.fetch_max(waited.as_millis() as u64, SeqCst);
    match result {
        Ok(mut guard) => {
            shared.locks.fetch_add(1, SeqCst);
            let died = guard.previous_holder_died();
            check(shared, number, mode, guard.fence(), died, random);
            if died {
                shared.reported.fetch_add(1, SeqCst);
            }
            if mode == Mode::Shared && random.below(3) == 0 {
                upgrade(&mut guard, shared, number, random);
            }
        }
        Err(ShmError::WouldBlock { .. } | ShmError::TableFull { .. }) => {}
        Err(ShmError::Timeout { .. }) if waited < STUCK => {}
        Err(error) if options.control != Control::None && !matches!(error, ShmError::Timeout { .. }) => {
            bad(shared, &error.to_string());
        }
        Err(error) => {
            shared.stuck.fetch_add(1, SeqCst);
            eprintln!("stuck: {error}");
        }
    }
}

fn upgrade(guard: &mut SharedLockGuard<'_>, shared: &'static Shared, number: u64, random: &mut Random) {
    let patience = if random.below(4) == 0 { Duration::from_micros(random.below(400)) } else { STUCK };
    match guard.upgrade_blocking(Some(patience)) {
        Ok(()) => {
            shared.upgrades.fetch_add(1, SeqCst);
            let died = guard.previous_holder_died();
            check(shared, number, Mode::Exclusive, guard.fence(), died, random);
        }
        Err(ShmError::UpgradeConflict { .. }) => {}
        Err(ShmError::Timeout { waited, .. }) if waited < STUCK => {}
        Err(error) => {
            shared.stuck.fetch_add(1, SeqCst);
            eprintln!("stuck: {error}");
        }
    }
}

/// Polls a future on this thread.
///
/// Gives up on some, to see that nothing stays behind.
fn block_on<'t>(lock: keylatch_shm::Lock<'t>, random: &mut Random) -> Result<SharedLockGuard<'t>, ShmError> {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(std::future::IntoFuture::into_future(lock));
    let gives_up = random.below(4) == 0;
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(result) => return result,
            std::task::Poll::Pending if gives_up => {
                return Err(ShmError::WouldBlock { key: keylatch::ObjectKey::new("", ""), holders: Vec::new() });
            }
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

fn batch(table: &SharedTable, shared: &'static Shared, random: &mut Random) {
    let numbers: Vec<u64> = (0..3).map(|_| random.below(KEYS)).collect();
    let names: Vec<String> = numbers.iter().map(|number| key(*number)).collect();
    let mut request = BatchLockRequest::new("batch").timeout(Duration::from_millis(5));
    for name in &names {
        request = request.add(("chaos", name), Mode::Exclusive);
    }
    if let Ok(held) = table.acquire_locks_batch_blocking(&request) {
        for guard in held.guards() {
            let name = guard.key();
            let number = numbers.iter().zip(&names).find(|(_, other)| other.as_bytes() == name.object());
            let Some((number, _)) = number else { return bad(shared, "a batch holds what was not asked for") };
            check(shared, *number, Mode::Exclusive, guard.fence(), guard.previous_holder_died(), random);
        }
    }
}

/// Looks at what the key protects, and writes it if the mode allows that.
fn check(shared: &'static Shared, number: u64, mode: Mode, fence: u64, died: bool, random: &mut Random) {
    let [first, second] = &shared.protected[number as usize];
    let (one, two) = (first.load(SeqCst), second.load(SeqCst));
    if one != two && !died {
        bad(shared, &format!("key {number}: {one} and {two} differ, and no death was reported"));
    }
    if mode == Mode::Shared {
        pause(random);
        if (first.load(SeqCst), second.load(SeqCst)) != (one, two) {
            bad(shared, &format!("key {number}: a writer wrote beside a reader"));
        }
        return;
    }
    if fence <= one || fence <= two {
        bad(shared, &format!("key {number}: fence {fence} after {one} and {two}"));
    }
    first.store(fence, SeqCst);
    pause(random);
    let (now, then) = (first.load(SeqCst), second.load(SeqCst));
    if (now, then) != (fence, two) {
        bad(shared, &format!("key {number}: {now} and {then} where this writer had {fence} and {two}"));
    }
    second.store(fence, SeqCst);
}

fn pause(random: &mut Random) {
    for _ in 0..random.below(200) {
        std::hint::spin_loop();
    }
    if random.below(64) == 0 {
        std::thread::yield_now();
    }
}
