//! What is tried. The larger set-ups run with `make claims-model`.

use crate::fault::Fault;
use crate::production::Production;
use crate::protocol::{Budget, Events, GivingUp, Protocol};
use crate::reference::Reference;
use crate::wire::Server;
use stateright::{Checker, HasDiscoveries, Model};

const NONE: Budget = Budget {
    losses: 0,
    doublings: 0,
    cancels: 0,
    crashes: 0,
    cuts: 0,
    poll_ends: 0,
    lease_ends: 0,
    retention_ends: 0,
    restarts: 0,
    renewals: 0,
};

/// Set-ups that take seconds together.
fn small<S: Server>() -> Vec<(&'static str, Protocol<S>)> {
    let once = GivingUp::OnceAndRenewals;
    vec![
        ("loss and doubling", Protocol::new(&[1, 1], Budget { losses: 1, doublings: 1, ..NONE })),
        ("two requests each", Protocol::new(&[2, 1], Budget { doublings: 1, ..NONE })),
        ("cancel, repeated", Protocol::new(&[1, 1], Budget { losses: 1, cancels: 1, ..NONE })),
        ("cancel, once", Protocol::new(&[1, 1], Budget { losses: 1, cancels: 1, ..NONE }).giving_up(once)),
        (
            "cancel, settled",
            Protocol::new(&[2, 1], Budget { losses: 1, cancels: 1, ..NONE }).giving_up(GivingUp::OnceAndSettles),
        ),
        ("renewals", Protocol::new(&[2, 1], Budget { renewals: 1, cancels: 1, ..NONE }).giving_up(once)),
        ("crash", Protocol::new(&[1, 1], Budget { crashes: 1, doublings: 1, ..NONE })),
        ("cut", Protocol::new(&[1, 1, 1], Budget { cuts: 1, ..NONE })),
        ("polls end", Protocol::new(&[1, 1, 1], Budget { poll_ends: 1, ..NONE })),
        ("lease ends", Protocol::new(&[1, 1], Budget { lease_ends: 1, renewals: 1, ..NONE })),
        ("retention ends", Protocol::new(&[1, 1], Budget { retention_ends: 1, poll_ends: 1, losses: 1, ..NONE })),
        ("restart", Protocol::new(&[1, 1], Budget { restarts: 1, losses: 1, ..NONE })),
    ]
}

/// Set-ups that take minutes together.
fn large<S: Server>() -> Vec<(&'static str, Protocol<S>)> {
    let once = GivingUp::OnceAndRenewals;
    vec![
        ("the seed's race, all events", Protocol::new(&[1, 1, 1], NONE).with_events(Events::All)),
        (
            "the seed's race, loss",
            Protocol::new(&[1, 1, 1], Budget { losses: 1, ..NONE }).with_events(Events::Failures),
        ),
        ("two losses and doublings", Protocol::new(&[1, 1], Budget { losses: 2, doublings: 2, ..NONE })),
        ("two requests, loss and doubling", Protocol::new(&[2, 2], Budget { losses: 1, doublings: 1, ..NONE })),
        ("cut and crash", Protocol::new(&[1, 1, 1], Budget { cuts: 1, crashes: 1, ..NONE })),
        ("cancel, loss, doubling", Protocol::new(&[2, 1], Budget { cancels: 1, losses: 1, doublings: 1, ..NONE })),
        (
            "renewals, loss, doubling",
            Protocol::new(&[2, 1], Budget { cancels: 1, renewals: 1, losses: 1, doublings: 1, ..NONE }).giving_up(once),
        ),
        ("two restarts", Protocol::new(&[2, 1], Budget { restarts: 2, losses: 1, doublings: 1, ..NONE })),
        ("restart and cut", Protocol::new(&[1, 1, 1], Budget { restarts: 1, cuts: 1, ..NONE })),
        (
            "crash, poll end, doubling",
            Protocol::new(&[1, 1, 1], Budget { crashes: 1, poll_ends: 1, doublings: 1, ..NONE }),
        ),
        (
            "retention and lease end",
            Protocol::new(&[2, 1], Budget { retention_ends: 1, lease_ends: 1, poll_ends: 1, doublings: 1, ..NONE }),
        ),
    ]
}

/// Checks one set-up whole and returns how many states it has.
fn check<S: Server>(name: &str, model: Protocol<S>) -> usize {
    let checker = model.checker().threads(2).spawn_bfs().join();
    if let Some((invariant, path)) = checker.discoveries().into_iter().next() {
        panic!("{name}: invariant {invariant} is violated after {:#?}", path.into_actions());
    }
    println!("{name}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker.unique_state_count()
}

#[test]
fn board_keeps_every_invariant() {
    let race = ("the seed's race", Protocol::<Production>::new(&[1, 1, 1], NONE).with_events(Events::Failures));
    let states: usize = small().into_iter().chain([race]).map(|(name, model)| check(name, model)).sum();
    println!("{states} states");
    assert!(states > 100_000, "the set-ups explore {states} states only");
}

#[test]
#[ignore = "takes minutes: make claims-model"]
fn board_keeps_every_invariant_in_large_setups() {
    let states: usize = large::<Production>().into_iter().map(|(name, model)| check(name, model)).sum();
    println!("{states} states");
}

#[test]
fn reference_keeps_every_invariant() {
    for (name, model) in small::<Reference>() {
        check(name, model);
    }
}

/// Returns a set-up in which the fault shows.
fn setup_of(fault: Fault) -> Protocol<Reference> {
    let model = |requests: &[u8], budget| Protocol::new(requests, budget);
    let once = GivingUp::OnceAndRenewals;
    match fault {
        Fault::PublishBeforeHandOver => model(&[1, 1, 1], NONE).with_events(Events::Failures),
        Fault::MatchByNode | Fault::MemoryDroppedAtRelease => model(&[1, 1], Budget { doublings: 1, ..NONE }),
        Fault::MemoryTrimmedAndLowNumbersAccepted | Fault::CompleteByResource => {
            model(&[2, 1], Budget { doublings: 1, ..NONE })
        }
        Fault::CancelByNode => model(&[2, 1], Budget { doublings: 1, cancels: 1, ..NONE }),
        Fault::NewNumberOnRetry => model(&[1, 1], Budget { losses: 1, ..NONE }),
        Fault::NoTombstone | Fault::CancelWithoutRelease => model(&[1, 1], Budget { cancels: 1, ..NONE }),
        Fault::CancelSentOnce => model(&[1, 1], Budget { losses: 1, cancels: 1, ..NONE }).giving_up(once),
        Fault::SettledBelowKeepsOlderWork => {
            model(&[2, 1], Budget { losses: 1, cancels: 1, ..NONE }).giving_up(GivingUp::OnceAndSettles)
        }
        Fault::RenewalCancelsFromNextOn => model(&[2, 1], Budget { renewals: 1, ..NONE }),
        Fault::GrantToGoneSession | Fault::LateClaimOfGoneSession => model(&[1, 1], Budget { crashes: 1, ..NONE }),
        Fault::PlaceDroppedAtPollTimeout => model(&[1, 1, 1], Budget { poll_ends: 1, ..NONE }),
        Fault::PlaceDroppedAtCut => model(&[1, 1, 1], Budget { cuts: 1, ..NONE }),
        Fault::WaitersAnsweredFromRetentionOnly => model(&[1, 1], Budget { poll_ends: 1, retention_ends: 1, ..NONE }),
        Fault::RenewalRevivesAGrant => model(&[1, 1], Budget { lease_ends: 1, renewals: 1, ..NONE }),
        Fault::RenewalSaysLostAfterCompletion => model(&[1, 1], Budget { renewals: 1, ..NONE }),
        Fault::EventWithItsOwnGrant => model(&[1], NONE).with_events(Events::All),
        Fault::FenceNotPersisted | Fault::FenceNotPersistedAndNoEpochInGrant => {
            model(&[1, 1], Budget { restarts: 1, ..NONE })
        }
        Fault::OwnerPersistedMemoryNot => model(&[1, 1, 1], Budget { restarts: 1, ..NONE }),
        Fault::OldEpochDoneAccepted => model(&[1, 1], Budget { restarts: 1, doublings: 1, poll_ends: 1, ..NONE }),
    }
}

#[test]
fn every_fault_violates_its_invariant() {
    let mut missed = Vec::new();
    for (fault, expected) in Fault::ALL {
        let model = setup_of(fault).with_fault(fault);
        let checker = model.checker().threads(2).finish_when(HasDiscoveries::Any).spawn_bfs().join();
        let found: Vec<&str> = checker.discoveries().into_keys().collect();
        println!("{fault:?}: {found:?} after {} states", checker.unique_state_count());
        if !found.iter().any(|it| expected.contains(it)) {
            missed.push((fault, found, expected));
        }
    }
    assert!(missed.is_empty(), "found and expected differ: {missed:#?}");
}
