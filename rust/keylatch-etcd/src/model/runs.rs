//! What is searched, and which search notices which deliberate fault.

use super::fault::Fault;
use super::search::{ALONE, ENDS, FENCED, KNOWN, RENEWED, search, search_for, with};
use super::state::{Budget, Op, Setup};

fn op(keys: &[(usize, bool)]) -> Op {
    Op { keys: keys.to_vec(), may_cancel: false, writes: false, downgrades: false, upgrades: false, waits: false }
}

fn cancelled(op: Op) -> Op {
    Op { may_cancel: true, ..op }
}

fn writing(op: Op) -> Op {
    Op { writes: true, ..op }
}

const X: (usize, bool) = (0, true);
const S: (usize, bool) = (0, false);
const Y: (usize, bool) = (1, true);

fn setup(name: &str) -> Setup {
    let none = Budget { losses: 0, retries: 0, deletions: 0, renewals: 0, refusals: 0, full: 0 };
    let of = |scripts: Vec<Vec<Op>>, ticks, budget| Setup { scripts, ticks, budget, fault: None, in_line: 0 };
    match name {
        "leases" => of(vec![vec![op(&[X])], vec![op(&[X])]], 2, Budget { renewals: 1, ..none }),
        "leases for longer" => of(vec![vec![op(&[X])], vec![op(&[X])]], 3, Budget { renewals: 1, ..none }),
        "writers of a store for longer" => of(vec![vec![writing(op(&[X]))], vec![writing(op(&[X]))]], 3, none),
        "lost messages" => of(vec![vec![op(&[X])], vec![op(&[X])]], 0, Budget { losses: 2, retries: 1, ..none }),
        "lost messages and leases" => {
            of(vec![vec![op(&[X])], vec![op(&[X])]], 2, Budget { losses: 1, retries: 1, ..none })
        }
        "retries" => of(vec![vec![op(&[X]), op(&[X])], vec![op(&[X])]], 0, Budget { retries: 2, ..none }),
        "cancellation" => of(
            vec![vec![cancelled(op(&[X])), op(&[X])], vec![cancelled(op(&[X]))]],
            0,
            Budget { losses: 1, retries: 1, ..none },
        ),
        "cancellations" => {
            of(vec![vec![cancelled(op(&[X])), cancelled(op(&[X]))]], 0, Budget { losses: 1, retries: 2, ..none })
        }
        "full database" => {
            let upgrading = Op { upgrades: true, ..op(&[S]) };
            let scripts = vec![vec![cancelled(op(&[X])), op(&[X])], vec![upgrading]];
            of(scripts, 0, Budget { retries: 1, full: 2, ..none })
        }
        "full database and marks" => {
            let upgrading = Op { upgrades: true, waits: true, ..op(&[S]) };
            of(vec![vec![upgrading], vec![op(&[S])], vec![op(&[X])]], 0, Budget { full: 1, retries: 1, ..none })
        }
        "slots" => of(vec![vec![op(&[X]), op(&[X]), op(&[X])], vec![op(&[X])]], 0, Budget { retries: 2, ..none }),
        "readers" => of(vec![vec![op(&[S])], vec![op(&[S])], vec![op(&[X])]], 0, none),
        "deleted by hand" => {
            of(vec![vec![op(&[X])], vec![op(&[X])], vec![op(&[X])]], 0, Budget { deletions: 1, ..none })
        }
        "store" => of(vec![vec![writing(op(&[X]))], vec![writing(op(&[X]))]], 2, none),
        "downgrade" => {
            let sharing = Op { downgrades: true, ..op(&[X]) };
            let budget = Budget { retries: 1, losses: 1, ..none };
            of(vec![vec![sharing], vec![op(&[X])], vec![op(&[S])]], 0, budget)
        }
        "upgrade" => {
            let upgrading = Op { upgrades: true, ..op(&[S]) };
            let budget = Budget { retries: 1, losses: 1, refusals: 1, ..none };
            of(vec![vec![upgrading], vec![cancelled(op(&[X])), op(&[X])]], 0, budget)
        }
        "waiting upgrade" => {
            let upgrading = Op { upgrades: true, waits: true, ..op(&[S]) };
            of(vec![vec![upgrading], vec![cancelled(op(&[X]))], vec![op(&[S])]], 0, Budget { retries: 1, ..none })
        }
        // The first waits for no one, until the early writer leaves. Then a reader is in its way that was not before.
        "upgrade and early writer" => {
            let upgrading = Op { upgrades: true, waits: true, ..op(&[S]) };
            let (writer, reader) = (cancelled(op(&[X])), op(&[S]));
            let scripts = [upgrading, writer.clone(), reader.clone(), writer, reader].map(|op| vec![op]);
            Setup { in_line: 5, ..of(scripts.into(), 0, Budget { retries: 1, ..none }) }
        }
        "waiting upgrade and downgrade" => {
            let upgrading = Op { upgrades: true, waits: true, ..op(&[S]) };
            let sharing = Op { downgrades: true, ..op(&[X]) };
            of(vec![vec![upgrading.clone()], vec![sharing], vec![upgrading]], 0, Budget { losses: 1, ..none })
        }
        "batches" => of(vec![vec![op(&[X, Y])], vec![op(&[Y, X])]], 0, Budget { retries: 1, losses: 1, ..none }),
        other => panic!("no search is called {other}"),
    }
}

const QUICK: [&str; 17] = [
    "leases",
    "lost messages",
    "retries",
    "cancellation",
    "cancellations",
    "full database",
    "full database and marks",
    "slots",
    "readers",
    "deleted by hand",
    "store",
    "downgrade",
    "upgrade",
    "waiting upgrade",
    "upgrade and early writer",
    "waiting upgrade and downgrade",
    "batches",
];

/// Each fault, the search that notices it, and the promise that it breaks there.
const NOTICED: [(Fault, &str, &str); 22] = [
    (Fault::NoConfirm, "deleted by hand", ALONE),
    (Fault::OlderIgnored, "readers", ALONE),
    (Fault::StoreUnchecked, "store", FENCED),
    (Fault::KeyReused, "retries", ALONE),
    (Fault::ReleaseByClient, "retries", ALONE),
    (Fault::LeaseBeforeRevoke, "leases", RENEWED),
    (Fault::DeadlineFromAnswer, "leases", ALONE),
    (Fault::LateRenewalRevives, "leases", ENDS),
    (Fault::NoClockCheck, "leases", ALONE),
    (Fault::BatchSplit, "batches", ENDS),
    (Fault::NotAhead, "downgrade", ALONE),
    (Fault::UnknownIsKept, "upgrade", ALONE),
    (Fault::BusyIsFinal, "upgrade", ALONE),
    (Fault::MarkUnseen, "waiting upgrade", ALONE),
    (Fault::NoSecondMark, "waiting upgrade", ALONE),
    (Fault::TakenByName, "upgrade and early writer", ALONE),
    (Fault::PendingSeen, "waiting upgrade and downgrade", ENDS),
    (Fault::NoFloor, "cancellation", KNOWN),
    (Fault::FloorLowered, "cancellations", KNOWN),
    (Fault::UnknownIsFailure, "cancellation", KNOWN),
    (Fault::FullIsNotDone, "full database", KNOWN),
    (Fault::SlotBeforeRemovalEnds, "slots", ALONE),
];

/// Minutes rather than seconds.
const LONG: [&str; 3] = ["lost messages and leases", "leases for longer", "writers of a store for longer"];

fn assert_hold(names: &[&str]) {
    for name in names {
        let begun = std::time::Instant::now();
        match search(&setup(name)) {
            Ok(states) => println!("{name}: {states} states, complete, in {:.1?}", begun.elapsed()),
            Err(broken) => panic!("{name}: {broken}"),
        }
    }
}

#[test]
fn searches_quick_complete_hold() {
    assert_hold(&QUICK);
}

#[test]
#[ignore = "minutes; make etcd-model runs it"]
fn searches_long_complete_hold() {
    assert_hold(&LONG);
}

#[test]
fn faults_each_noticed() {
    let mut missed = Vec::new();
    for (fault, name, promise) in NOTICED {
        match search_for(&with(fault, setup(name)), promise) {
            None => missed.push((fault, name)),
            Some(steps) => println!("{fault:?}: {name}: {promise}, after {steps} steps"),
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}
