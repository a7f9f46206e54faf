//! One process's membership in a table: what its threads share.

use crate::config::TableConfig;
use crate::death::Informed;
use crate::error::ShmError;
use crate::file::{Presence, TableFile};
use crate::lines::Lines;
use crate::os::fork;
use crate::record_lists::Records;
use crate::region::Region;
use crate::word::MemberId;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Why a table handle gives no locks any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Status {
    Ok = 0,
    /// Set by the signal handler, which knows the number 1 only.
    Truncated = 1,
    Removed = 2,
    Replaced = 3,
    Corrupt = 4,
}

/// Everything behind a table handle.
pub(crate) struct Core {
    /// Of all tables that this process ever opened.
    ///
    /// Thread-local caches are keyed by it.
    pub(crate) id: u64,
    pub(crate) me: MemberId,
    /// A [`Status`]; 0 is the only value with which a lock may be reported as granted.
    pub(crate) status: AtomicU32,
    forks: u32,
    pub(crate) region: Region,
    pub(crate) file: File,
    _presence: Presence,
    pub(crate) path: PathBuf,
    pub(crate) config: TableConfig,
    pub(crate) records: Records,
    pub(crate) lines: Lines,
    /// Held while this process asks for a hold of another; it announces one at a time.
    pub(crate) revoking: Mutex<()>,
    pub(crate) informed: Informed,
    /// A process announces one recovery at a time.
    pub(crate) recovery: Mutex<()>,
    /// Milliseconds; 0 has the next acquisition read the clock.
    pub(crate) coarse_ms: AtomicU64,
    /// Whether the life thread sleeps without a tick.
    pub(crate) clock_sleeps: AtomicBool,
    pub(crate) closing: AtomicBool,
    pub(crate) rechecks: AtomicU64,
    pub(crate) late_signals: AtomicU64,
    pub(crate) attendant: crate::attendant::Attendant,
}

static TABLES: AtomicU64 = AtomicU64::new(1);

impl Core {
    pub(crate) fn new(file: TableFile, me: MemberId, config: TableConfig) -> Self {
        let TableFile { file, path, region, presence } = file;
        Self {
            id: TABLES.fetch_add(1, Ordering::Relaxed),
            me,
            status: AtomicU32::new(Status::Ok as u32),
            forks: fork::count(),
            records: Records::default(),
            lines: Lines::default(),
            revoking: Mutex::default(),
            informed: Informed::default(),
            recovery: Mutex::new(()),
            coarse_ms: AtomicU64::new(0),
            clock_sleeps: AtomicBool::new(true),
            closing: AtomicBool::new(false),
            rechecks: AtomicU64::new(0),
            late_signals: AtomicU64::new(0),
            attendant: crate::attendant::Attendant::default(),
            region,
            file,
            _presence: presence,
            path,
            config,
        }
    }

    #[inline(always)]
    pub(crate) fn is_forked(&self) -> bool {
        self.forks != fork::count()
    }

    /// Whether a lock may be reported as granted.
    #[inline(always)]
    pub(crate) fn is_sound(&self) -> bool {
        self.status.load(Ordering::Relaxed) == Status::Ok as u32
    }

    /// The reason why no lock may be granted, if there is one.
    pub(crate) fn check(&self) -> Result<(), ShmError> {
        if self.is_forked() {
            return Err(ShmError::Forked);
        }
        let problem = match self.status.load(Ordering::Relaxed) {
            0 => return Ok(()),
            1 => "the file was truncated",
            2 => "the file was removed",
            3 => "another file has its name now",
            _ => "a lock word or log record makes no sense",
        };
        Err(ShmError::Damaged { problem: format!("{problem} ({})", self.path.display()) })
    }

    /// Marks the table as unusable; the first reason stays.
    pub(crate) fn fail(&self, why: Status) {
        let _ = self.status.compare_exchange(0, why as u32, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Recovers a member if it is dead.
    pub(crate) fn recover(&self, dead: MemberId) -> bool {
        if dead == self.me || !self.region.has_member(dead) || !crate::protocol::recover::is_dead(&self.region, dead) {
            return false;
        }
        let _one = crate::mutex::lock(&self.recovery);
        crate::protocol::recover::recover(&self.region, self.me, dead)
    }

    /// Recovers all members that are dead.
    pub(crate) fn recover_all(&self) {
        for id in self.region.members() {
            self.recover(id);
        }
    }

    /// The coarse clock of holds: at most about 20 milliseconds old.
    #[inline(always)]
    pub(crate) fn now_ms(&self) -> u64 {
        match self.coarse_ms.load(Ordering::Relaxed) {
            0 => self.now_ms_slow(),
            now => now,
        }
    }

    #[cold]
    #[inline(never)]
    fn now_ms_slow(&self) -> u64 {
        let now = (crate::os::clock::monotonic().as_millis() as u64).max(1);
        self.coarse_ms.store(now, Ordering::Relaxed);
        if self.clock_sleeps.swap(false, Ordering::Relaxed) {
            self.wake_life_thread();
        }
        now
    }

    pub(crate) fn wake_life_thread(&self) {
        let bell = &self.region.member(self.me).watch_bell;
        // Pairs with: the life thread's load before it looks at what it waits for.
        bell.fetch_add(1, Ordering::SeqCst);
        crate::os::futex::wake_all(bell);
    }

    /// How long requests sleep before they look themselves.
    pub(crate) fn recheck(&self) -> Duration {
        self.config.recheck
    }
}
