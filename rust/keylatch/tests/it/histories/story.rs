//! From events to the story of each request.

use super::event::{By, Event, What};
use super::verdict::Violation;
use keylatch::Mode;
use std::collections::BTreeMap;

/// The end of a hold that never ended.
pub(crate) const NEVER: u64 = u64::MAX;

/// The lock was certainly held like this from one number to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) request: u64,
    pub(crate) mode: Mode,
    pub(crate) fence: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// What happened to one request.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    pub(crate) request: u64,
    pub(crate) key: usize,
    pub(crate) mode: Mode,
    pub(crate) priority: u8,
    pub(crate) by: By,
    /// The number before it was made.
    pub(crate) asked: u64,
    /// Number and time after it was seen in line.
    pub(crate) in_line: Option<(u64, u64)>,
    /// Polls that found it still in line: number after, time before.
    pub(crate) polled: Vec<(u64, u64)>,
    pub(crate) granted: Option<u64>,
    pub(crate) cancelling: Option<u64>,
    /// The number after it was known to have ended without the lock.
    pub(crate) gave_up: Option<u64>,
    /// The time at which it was known to have ended without the lock.
    pub(crate) ended_at: u64,
    pub(crate) answers: u32,
    pub(crate) holds: Vec<Hold>,
}

impl Story {
    /// Until this number it did not have the lock though it wanted it.
    pub(crate) fn wanted_until(&self) -> Option<u64> {
        self.granted.or(self.cancelling)
    }

    /// After this number it certainly stands in no line any more.
    pub(crate) fn out_of_line(&self) -> u64 {
        self.granted.or(self.gave_up).unwrap_or(NEVER)
    }
}

/// The stories in the order of their requests; impossible events are violations.
pub(crate) fn stories(mut events: Vec<Event>) -> (Vec<Story>, Vec<Violation>) {
    events.sort_unstable_by_key(|event| event.number);
    let mut stories: BTreeMap<u64, Story> = BTreeMap::new();
    let mut violations = Vec::new();
    for event in events {
        if let What::Asking { key, mode, priority, by } = event.what {
            let story = Story {
                request: event.request,
                key,
                mode,
                priority,
                by,
                asked: event.number,
                in_line: None,
                polled: Vec::new(),
                granted: None,
                cancelling: None,
                gave_up: None,
                ended_at: 0,
                answers: 0,
                holds: Vec::new(),
            };
            if stories.insert(event.request, story).is_none() {
                continue;
            }
        } else if stories.get_mut(&event.request).is_some_and(|story| story.goes_on(event)) {
            continue;
        }
        violations.push(Violation::Nonsense { event });
    }
    let mut stories: Vec<_> = stories.into_values().collect();
    stories.sort_unstable_by_key(|story| story.asked);
    (stories, violations)
}

impl Story {
    /// Takes in the next event; `false` if it cannot be.
    fn goes_on(&mut self, event: Event) -> bool {
        let number = event.number;
        let holds_now = self.holds.last().is_some_and(|hold| hold.to == NEVER);
        let ended = self.granted.is_some() || self.gave_up.is_some();
        match event.what {
            What::Asking { .. } => return false,
            // The caller may learn its place in line after a callback has learned of the end.
            What::InLine if self.in_line.is_some() => return false,
            What::InLine => self.in_line = Some((number, event.time)),
            What::Polled { began_at } => self.polled.push((number, began_at)),
            What::Granted { .. } | What::GaveUp if ended => return false,
            What::Granted { fence } => {
                self.granted = Some(number);
                self.begin_hold(self.mode, fence, number);
            }
            What::Changing | What::Releasing => {
                let Some(hold) = self.holds.last_mut().filter(|_| holds_now) else { return false };
                hold.to = number;
            }
            What::Changed { .. } if holds_now || self.granted.is_none() => return false,
            What::Changed { mode, fence } => self.begin_hold(mode, fence, number),
            What::Cancelling => self.cancelling = self.cancelling.or(Some(number)),
            What::GaveUp => (self.gave_up, self.ended_at) = (Some(number), event.time),
            What::Answered => self.answers += 1,
        }
        true
    }

    fn begin_hold(&mut self, mode: Mode, fence: u64, from: u64) {
        self.holds.push(Hold { request: self.request, mode, fence, from, to: NEVER });
    }
}
