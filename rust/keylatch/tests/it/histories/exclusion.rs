//! An exclusive holder is alone, and has a greater fence than those before.

use super::story::{Hold, Story};
use super::verdict::Violation;
use keylatch::Mode;

/// Checks the requests of one key.
pub(crate) fn check(stories: &[&Story], violations: &mut Vec<Violation>) {
    let mut holds: Vec<Hold> = stories.iter().flat_map(|story| story.holds.iter().copied()).collect();
    holds.sort_unstable_by_key(|hold| hold.from);
    // Of the holds so far, those of each mode that last longest: if one does not overlap, none of its mode does.
    let (mut exclusive, mut shared): (Option<Hold>, Option<Hold>) = (None, None);
    for hold in holds {
        for earlier in [exclusive, shared].into_iter().flatten() {
            if !hold.mode.goes_with(earlier.mode) && hold.from < earlier.to {
                violations.push(Violation::Together { first: earlier, second: hold });
            }
        }
        let longest = match hold.mode {
            Mode::Exclusive => &mut exclusive,
            Mode::Shared => &mut shared,
        };
        if hold.mode == Mode::Exclusive
            && let Some(before) = *longest
            && hold.fence <= before.fence
        {
            violations.push(Violation::FenceStands { before, after: hold });
        }
        if longest.is_none_or(|longest| longest.to <= hold.to) {
            *longest = Some(hold);
        }
    }
}
