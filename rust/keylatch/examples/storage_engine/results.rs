//! What the workload measured itself.

use crate::histogram::Histogram;
use crate::jobs::Kind;
use std::time::{Duration, Instant};

/// Jobs of one kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobResults {
    pub(crate) done: u64,
    /// Jobs that ended without the lock, by a timeout or a refusal.
    pub(crate) gave_up: u64,
    /// From asking for the lock to having it, or to giving up.
    pub(crate) wait: Histogram,
    /// From having the lock to having released it.
    pub(crate) hold: Histogram,
}

/// Jobs of all kinds, by the kind's position.
#[derive(Debug)]
pub(crate) struct Results(Vec<JobResults>);

impl Default for Results {
    fn default() -> Self {
        Self(vec![JobResults::default(); Kind::ALL.len()])
    }
}

impl Results {
    pub(crate) fn of(&self, kind: Kind) -> &JobResults {
        &self.0[kind as usize]
    }

    /// Returns all kinds together.
    pub(crate) fn together(&self) -> JobResults {
        let mut all = JobResults::default();
        self.0.iter().for_each(|job| all.add(job));
        all
    }

    /// A job is done whose lock was asked for, had, and released at these times.
    pub(crate) fn done(&mut self, kind: Kind, times: Times) {
        let job = &mut self.0[kind as usize];
        job.done += 1;
        job.wait.record(times.waited());
        job.hold.record(times.held());
    }

    /// A job is given up whose lock was not had in time.
    pub(crate) fn gave_up(&mut self, kind: Kind, waited: Duration) {
        let job = &mut self.0[kind as usize];
        job.gave_up += 1;
        job.wait.record(waited);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, job) in self.0.iter_mut().zip(&other.0) {
            sum.add(job);
        }
    }
}

impl JobResults {
    fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.gave_up += other.gave_up;
        self.wait.add(&other.wait);
        self.hold.add(&other.hold);
    }
}

/// The three moments of a lock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) asked: Instant,
    pub(crate) granted: Instant,
    pub(crate) released: Instant,
}

impl Times {
    fn waited(self) -> Duration {
        self.granted - self.asked
    }

    fn held(self) -> Duration {
        self.released - self.granted
    }
}
