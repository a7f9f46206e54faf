//! What keylatch has set itself to reach, and whether a row reaches it. Shown, never asserted: a busy machine is not
//! a defect of the code.

use crate::row::Row;

/// One promise about one figure of one subject.
pub(crate) struct Goal {
    subject: &'static str,
    scenario: &'static str,
    /// The figure, by its name in the row.
    figure: &'static str,
    at_most: f64,
    /// The promise in words.
    pub(crate) says: &'static str,
}

const GOALS: &[Goal] = &[
    bare("keylatch", "same_key_exclusive", 3.0, "at most 3.0 x parking_lot"),
    goal("same_key_exclusive", "allocs", 0.0, "0 allocations"),
    bare("keylatch_pinned", "same_key_exclusive", 1.4, "at most 1.4 x parking_lot"),
    bare("keylatch_prepared", "same_key_exclusive", 2.2, "at most 2.2 x parking_lot"),
    bare("keylatch", "same_key_shared", 3.0, "at most 3.0 x parking_lot"),
    goal("same_key_shared", "allocs", 0.0, "0 allocations"),
    bare("keylatch_pinned", "same_key_shared", 1.4, "at most 1.4 x parking_lot"),
    bare("keylatch_prepared", "same_key_shared", 2.2, "at most 2.2 x parking_lot"),
    goal("keys_100k", "versus_lockmap", 0.9, "at most 0.9 x lockmap"),
    goal("keys_100k", "allocs", 0.0, "0 allocations"),
    goal("keys_1m", "versus_lockmap", 0.9, "at most 0.9 x lockmap"),
    goal("keys_1m", "allocs", 0.0, "0 allocations"),
    goal("async_same_key", "versus_blocking", 1.15, "at most 1.15 x blocking"),
    goal("batch_16", "versus_16_singles", 1.15, "at most 1.15 x 16 singles"),
    goal("leased", "versus_plain", 2.0, "at most 2 x a plain pair"),
    goal("session", "versus_plain", 10.0, "at most 10 x a plain pair"),
    goal("disjoint_2t", "versus_alone", 1.3, "at most 1.3 x alone"),
    bare("keylatch", "hot_exclusive_2t", 2.8, "at most 2.8 x parking_lot"),
    bare("keylatch_pinned", "hot_exclusive_2t", 1.4, "at most 1.4 x parking_lot"),
    bare("keylatch_fifo", "hot_exclusive_2t", 10.0, "at most 10 x parking_lot"),
    bare("keylatch", "hot_shared_2t", 1.0, "at most 1.0 x parking_lot"),
    goal("handoff", "versus_control", 3.0, "at most 3 x control"),
    goal("handoff", "above_5ms_unexcused", 0.0, "none above 5 ms that the control has not too"),
    goal("bytes_held", "bytes", 192.0, "at most 192 bytes"),
    goal("bytes_left", "mib", 32.0, "at most 32 MiB"),
    goal("create", "ns", 200_000.0, "under 200 us"),
    goal("create", "kib", 1024.0, "under 1 MiB"),
    Goal { subject: "keylatch_c", ..goal("c_pair", "versus_rust", 1.5, "at most 1.5 x Rust") },
    Goal { subject: "keylatch_c_shared", ..goal("c_pair", "versus_rust", 1.5, "at most 1.5 x Rust") },
    Goal { subject: "keylatch_c_pinned", ..goal("c_pair", "versus_rust", 1.5, "at most 1.5 x Rust, pinned") },
    Goal { subject: "keylatch_c_pinned_shared", ..goal("c_pair", "versus_rust", 1.5, "at most 1.5 x Rust, pinned") },
    Goal { subject: "keylatch_c_owner", ..goal("c_pair", "versus_rust", 1.5, "at most 1.5 x Rust") },
    goal("instructions_exclusive", "instructions", 250.0, "at most 250"),
    goal("instructions_shared", "instructions", 250.0, "at most 250"),
    Goal { subject: "keylatch_pinned", ..goal("instructions_exclusive", "instructions", 130.0, "at most 130") },
    Goal { subject: "keylatch_pinned", ..goal("instructions_shared", "instructions", 130.0, "at most 130") },
    Goal { subject: "keylatch_prepared", ..goal("instructions_exclusive", "instructions", 200.0, "at most 200") },
    Goal { subject: "keylatch_prepared", ..goal("instructions_shared", "instructions", 200.0, "at most 200") },
    goal("atomics_exclusive", "locked", 2.0, "exactly 2"),
    goal("atomics_shared", "locked", 2.0, "exactly 2"),
];

const fn goal(scenario: &'static str, figure: &'static str, at_most: f64, says: &'static str) -> Goal {
    Goal { subject: crate::subjects::OURS, scenario, figure, at_most, says }
}

/// A goal beside a bare `parking_lot::RwLock`.
const fn bare(subject: &'static str, scenario: &'static str, at_most: f64, says: &'static str) -> Goal {
    Goal { subject, ..goal(scenario, "versus_parking_lot", at_most, says) }
}

impl Goal {
    /// Returns whether `row` keeps the promise; `None` if it does not say.
    fn reached(&self, row: &Row) -> Option<bool> {
        let figure = match self.figure {
            // Preemption hits both alike: only what goes beyond the control's count is ours.
            "above_5ms_unexcused" => (row.figure("above_5ms")? - row.figure("control_above_5ms")?).max(0.0),
            name => row.figure(name)?,
        };
        Some(figure <= self.at_most)
    }
}

/// The goals of a row with their verdicts: `reached`, `missed`, or `not measured`.
pub(crate) fn judge(row: &Row) -> impl Iterator<Item = (&'static Goal, &'static str)> {
    let of_this_row = GOALS.iter().filter(|goal| goal.subject == row.subject && goal.scenario == row.scenario);
    of_this_row.map(|goal| {
        let verdict = match goal.reached(row) {
            Some(true) => "reached",
            Some(false) => "missed",
            None => "not measured",
        };
        (goal, verdict)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(row: &Row) -> Vec<&'static str> {
        judge(row).map(|(_, verdict)| verdict).collect()
    }

    #[test]
    fn goal_is_reached_at_its_limit() {
        let mut row = Row::new("keylatch", "same_key_shared").with("versus_parking_lot", 3.0);
        assert_eq!(verdicts(&row), ["reached", "reached"]);
        row = row.with("versus_parking_lot", 3.1);
        row.allocs = 0.001;
        assert_eq!(verdicts(&row), ["missed", "missed"]);
    }

    #[test]
    fn peers_have_no_goals() {
        assert!(verdicts(&Row::new("std", "same_key_shared")).is_empty());
    }

    #[test]
    fn a_slow_hand_off_is_excused_by_the_control() {
        let row = |ours, control| {
            Row::new("keylatch", "handoff")
                .with("versus_control", 1.0)
                .with("above_5ms", ours)
                .with("control_above_5ms", control)
        };
        assert_eq!(verdicts(&row(3.0, 3.0)), ["reached", "reached"]);
        assert_eq!(verdicts(&row(4.0, 3.0)), ["reached", "missed"]);
        assert_eq!(verdicts(&Row::new("keylatch", "handoff")), ["not measured", "not measured"]);
    }

    #[test]
    fn every_scenario_of_a_goal_exists() {
        for goal in GOALS {
            let elsewhere = goal.scenario == "c_pair";
            let counted =
                elsewhere || goal.scenario.starts_with("instructions_") || goal.scenario.starts_with("atomics_");
            assert!(counted || crate::scenarios::named(goal.scenario).is_some(), "{}", goal.scenario);
        }
    }
}
