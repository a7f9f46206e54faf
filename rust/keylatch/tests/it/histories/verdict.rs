//! Whether a history keeps what is promised, and how not.

use super::event::{By, Event};
use super::story::{Hold, NEVER, Story, stories};
use super::{exclusion, overtaking};
use keylatch::{Fairness, ShardMetrics};

/// What the manager that was watched had promised.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promise {
    pub(crate) fairness: Fairness,
    pub(crate) overtake_limit: usize,
    pub(crate) shards: u64,
}

/// What a manager looks like when all work has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AtRest {
    pub(crate) holders: u64,
    pub(crate) waiters: u64,
    pub(crate) entries: u64,
    /// Locks taken, less locks released.
    pub(crate) unreleased: u64,
}

impl AtRest {
    pub(crate) fn of(figures: &ShardMetrics) -> Self {
        let unreleased = figures.acquisitions().abs_diff(figures.releases);
        Self { holders: figures.holders, waiters: figures.waiters, entries: figures.entries, unreleased }
    }
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Violation {
    /// An event that cannot follow those before: the history itself is wrong.
    Nonsense { event: Event },
    /// Two hold at the same time that must not.
    Together { first: Hold, second: Hold },
    /// An exclusive hold has no greater fence than the one before.
    FenceStands { before: Hold, after: Hold },
    /// A hold did not end.
    StillHeld { hold: Hold },
    /// A request ended with two results, or none.
    NoResult { request: u64 },
    /// A waiting request was not answered exactly once, or one without a wait was.
    ///
    /// The answers come by callback or queue.
    Answers { request: u64, count: u32 },
    /// A request came before one that it may never overtake.
    Overtaken { request: u64, by: u64 },
    /// More came before a request than may.
    OvertakenTooOften { request: u64, times: usize, most: usize },
    /// Something is left in the table.
    LeftBehind { at_rest: AtRest },
}

/// Returns all broken promises of a history.
pub(crate) fn check(promise: &Promise, events: Vec<Event>, at_rest: AtRest) -> Vec<Violation> {
    let (stories, mut violations) = stories(events);
    for key in keys(&stories) {
        let of_key: Vec<&Story> = stories.iter().filter(|story| story.key == key).collect();
        exclusion::check(&of_key, &mut violations);
        overtaking::check(promise, &of_key, &mut violations);
    }
    stories.iter().for_each(|story| results(story, &mut violations));
    let clean = AtRest { entries: at_rest.entries, ..AtRest::default() };
    if at_rest != clean || at_rest.entries > 4 * promise.shards {
        violations.push(Violation::LeftBehind { at_rest });
    }
    violations
}

fn keys(stories: &[Story]) -> Vec<usize> {
    let mut keys: Vec<_> = stories.iter().map(|story| story.key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Each request has one result, each background wait one answer, each hold an end.
fn results(story: &Story, violations: &mut Vec<Violation>) {
    let request = story.request;
    if story.granted.is_none() && story.gave_up.is_none() {
        violations.push(Violation::NoResult { request });
    }
    let by_completion = matches!(story.by, By::Callback | By::Queue);
    if story.answers != u32::from(by_completion && story.in_line.is_some()) {
        violations.push(Violation::Answers { request, count: story.answers });
    }
    violations
        .extend(story.holds.iter().filter(|hold| hold.to == NEVER).map(|hold| Violation::StillHeld { hold: *hold }));
}
