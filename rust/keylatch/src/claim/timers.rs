//! The points in time at which a board has something to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One point in time for each subject, in order of time. Every change is O(log n).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Timers<Subject: Ord> {
    by_subject: BTreeMap<Subject, Duration>,
    by_time: BTreeSet<(Duration, Subject)>,
}

impl<Subject: Ord + Clone> Timers<Subject> {
    pub(super) fn new() -> Self {
        Self { by_subject: BTreeMap::new(), by_time: BTreeSet::new() }
    }

    /// Moves the subject's point in time; `None` removes it.
    pub(super) fn set(&mut self, subject: &Subject, at: Option<Duration>) {
        let old = match at {
            Some(at) => self.by_subject.insert(subject.clone(), at),
            None => self.by_subject.remove(subject),
        };
        if let Some(old) = old {
            self.by_time.remove(&(old, subject.clone()));
        }
        if let Some(at) = at {
            self.by_time.insert((at, subject.clone()));
        }
    }

    pub(super) fn get(&self, subject: &Subject) -> Option<Duration> {
        self.by_subject.get(subject).copied()
    }

    /// Returns the earliest point in time.
    pub(super) fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Removes and returns the earliest subject that is due.
    pub(super) fn pop_due(&mut self, now: Duration) -> Option<Subject> {
        let (at, subject) = self.by_time.first().cloned()?;
        (at <= now).then(|| {
            self.set(&subject, None);
            subject
        })
    }
}
