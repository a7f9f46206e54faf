//! No request overtakes one that it may not pass, nor more often than it may.
//!
//! One request overtakes another if it was made when the other had been seen in line, and held the lock while the other
//! still waited. A grant may be written down long after it was given, but not after the hold has ended: of two that
//! exclude each other, the one with the earlier number had the lock first. Two that share exclude nothing and are not
//! compared.

use super::event::By;
use super::story::{NEVER, Story};
use super::verdict::{Promise, Violation};
use keylatch::{Fairness, Mode};

/// Checks the requests of one key, in the order in which they were made.
pub(crate) fn check(promise: &Promise, stories: &[&Story], violations: &mut Vec<Violation>) {
    for waiting in stories {
        let overtakers = overtakers(stories, waiting);
        match promise.fairness {
            Fairness::Eventual { after } => {
                let after = u64::try_from(after.as_nanos()).unwrap_or(NEVER);
                let illicit = overtakers
                    .iter()
                    .find(|by| by.priority <= waiting.priority && too_late(stories, waiting, by, after));
                violations.extend(illicit.map(|by| overtaken(waiting, by)));
            }
            fairness => {
                let illicit = overtakers.iter().find(|by| rank(fairness, by) <= rank(fairness, waiting));
                violations.extend(illicit.map(|by| overtaken(waiting, by)));
                let (times, most) = (overtakers.len(), promise.overtake_limit);
                if times > most {
                    violations.push(Violation::OvertakenTooOften { request: waiting.request, times, most });
                }
            }
        }
    }
}

fn overtaken(waiting: &Story, by: &Story) -> Violation {
    Violation::Overtaken { request: waiting.request, by: by.request }
}

fn overtakers<'s>(stories: &[&'s Story], waiting: &Story) -> Vec<&'s Story> {
    let (Some((in_line, _)), Some(until)) = (waiting.in_line, waiting.wanted_until()) else { return Vec::new() };
    let first = stories.partition_point(|story| story.asked < in_line);
    let later = stories[first..].iter().take_while(|story| story.asked < until);
    let overtook =
        |story: &&&Story| !story.mode.goes_with(waiting.mode) && story.granted.is_some_and(|granted| granted < until);
    later.filter(overtook).copied().collect()
}

/// Returns the rank of a waiter; the higher one goes first.
fn rank(fairness: Fairness, story: &Story) -> (u8, bool) {
    let preferred = match fairness {
        Fairness::WriterFirst => Some(Mode::Exclusive),
        Fairness::ReaderFirst => Some(Mode::Shared),
        Fairness::Eventual { .. } | Fairness::Fifo => None,
    };
    (story.priority, preferred == Some(story.mode))
}

/// Under `Eventual`, whether `by` came when it could not overtake any more.
///
/// Then `waiting` was settled, and so were all others that could be in line: none of them was on its way to try while
/// the lock was free for all.
fn too_late(stories: &[&Story], waiting: &Story, by: &Story, after: u64) -> bool {
    let Some(granted) = by.granted else { return false };
    let Some(settled) = settled(stories, waiting, after).filter(|settled| *settled < by.asked) else { return false };
    stories
        .iter()
        .filter(|other| other.request != by.request && other.by != By::Try)
        .filter(|other| other.asked < granted && other.out_of_line() > settled)
        .all(|other| self::settled(stories, other, after).is_some_and(|settled| settled < by.asked))
}

/// The number from which on a request is handed the lock rather than woken to try.
///
/// It waited for `after`; but a release that looked at the clock before that may still be about to wake it for a try.
/// Only one at a time works at a shard: once a request has been refused by the shard, all such releases have ended. A
/// poll after that either finds that it was woken, and tries, or shows that it will not be.
fn settled(stories: &[&Story], story: &Story, after: u64) -> Option<u64> {
    let (_, in_line_at) = story.in_line?;
    let waited = |(_, began_at): &&(u64, u64)| *began_at >= in_line_at.saturating_add(after);
    let (waited, _) = story.polled.iter().find(waited)?;
    let later = &stories[stories.partition_point(|other| other.asked < *waited)..];
    let until = story.polled.last()?.0;
    let refused = later.iter().take_while(|other| other.asked < until).filter(|other| other.by == By::Try);
    let refused_at = refused.filter_map(|other| other.gave_up.map(|_| other.ended_at)).min()?;
    story.polled.iter().find(|(_, began_at)| *began_at >= refused_at).map(|(number, _)| *number)
}
