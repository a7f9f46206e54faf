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
    goal("same_key_exclusive", "ratio", 2.0, "at most 2.0 units"),
    goal("same_key_exclusive", "allocs", 0.0, "0 allocations"),
    goal("same_key_shared", "ratio", 2.0, "at most 2.0 units"),
    goal("same_key_shared", "allocs", 0.0, "0 allocations"),
    goal("keys_100k", "ratio", 4.0, "at most 4.0 units"),
    goal("keys_100k", "allocs", 0.0, "0 allocations"),
    goal("keys_1m", "ratio", 4.5, "at most 4.5 units"),
    goal("keys_1m", "allocs", 0.0, "0 allocations"),
    goal("async_same_key", "versus_blocking", 1.3, "at most 1.3 x blocking"),
    goal("batch_16", "versus_16_singles", 1.2, "at most 1.2 x 16 singles"),
    goal("disjoint_2t", "versus_alone", 1.3, "at most 1.3 x alone"),
    goal("hot_exclusive_2t", "versus_parking_lot", 2.0, "at most 2 x parking_lot"),
    Goal {
        subject: "keylatch_fifo",
        ..goal("hot_exclusive_2t", "versus_parking_lot", 10.0, "at most 10 x parking_lot")
    },
    goal("hot_shared_2t", "versus_parking_lot", 1.5, "at most 1.5 x parking_lot"),
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
        let mut row = Row::new("keylatch", "same_key_shared");
        row.ratio = 2.0;
        assert_eq!(verdicts(&row), ["reached", "reached"]);
        row.ratio = 2.1;
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
