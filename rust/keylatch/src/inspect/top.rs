//! What stands out: the oldest holds, and the keys that most wait for.

use super::Filter;
use crate::engine::Core;
use crate::key::ObjectKey;
use crate::listed::{HolderInfo, TopKey};
use std::cmp::Reverse;
use std::time::Duration;

/// What [`top`](crate::FastObjectLockManager::top) looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopBy {
    /// The locks that have been held for longest.
    ///
    /// As with [`Filter::older_than`], ages count from the first look at a hold.
    Age,
    /// The keys that most requests wait for.
    Waiters,
}

/// What is known of a line.
struct Line {
    key: ObjectKey,
    waiters: usize,
    since: u64,
}

impl Core {
    pub(crate) fn oldest(&self, count: usize) -> Vec<TopKey> {
        let mut oldest: Vec<HolderInfo> = Vec::new();
        let keep_oldest = |holds: &mut Vec<HolderInfo>| {
            holds.sort_by_key(|hold| Reverse(hold.held_for));
            holds.truncate(count);
        };
        self.for_each_hold(&Filter::new(), |hold| {
            oldest.push(hold);
            // Now and then, so that it costs little and never needs room for all there are.
            if oldest.len() >= count.saturating_mul(2).max(1024) {
                keep_oldest(&mut oldest);
            }
        });
        keep_oldest(&mut oldest);
        oldest
            .into_iter()
            .map(|hold| {
                let mut line = None;
                self.for_each_line(&Filter::new().key(&hold.key), |_, waits| line = Some(Line::of(&hold.key, waits)));
                self.row(hold.key.clone(), line, Some(hold))
            })
            .collect()
    }

    pub(crate) fn most_waited_for(&self, count: usize) -> Vec<TopKey> {
        let mut lines = Vec::new();
        self.for_each_line(&Filter::new(), |key, waits| lines.push(Line::of(key, waits)));
        lines.sort_by_key(|line| (Reverse(line.waiters), line.since));
        lines.truncate(count);
        lines
            .into_iter()
            .map(|line| {
                let holders = self.holders_at(&line.key.as_ref(), &Filter::new());
                let oldest = holders.into_iter().map(|(_, hold)| hold).max_by_key(|hold| hold.held_for);
                self.row(line.key.clone(), Some(line), oldest)
            })
            .collect()
    }

    fn row(&self, key: ObjectKey, line: Option<Line>, holder: Option<HolderInfo>) -> TopKey {
        let waited = line.as_ref().map_or(0, |line| self.now().saturating_sub(line.since));
        let waiters = line.map_or(0, |line| line.waiters);
        TopKey { key, holder, waiters, longest_wait: Duration::from_nanos(waited) }
    }
}

impl Line {
    fn of(key: &ObjectKey, waits: &[super::waiters::InLine]) -> Self {
        let since = waits.iter().map(|wait| wait.since).min().unwrap_or_default();
        Self { key: key.clone(), waiters: waits.len(), since }
    }
}
