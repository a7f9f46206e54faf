//! The race of a failing owner with real threads: A fails; B, first in line, hears of it and asks again; C stands behind
//! B and asks again as well.
//!
//! `KEYLATCH_CLAIM_RACES` says how often.

use super::fixture::layer;
use keylatch::claim::*;
use std::sync::Barrier;

fn races() -> u64 {
    std::env::var("KEYLATCH_CLAIM_RACES").ok().and_then(|count| count.parse().ok()).unwrap_or(2_000)
}

/// What one waiter knows: the grants in its answer, its wait and the events.
fn grants_of(claims: &Claims, owner: &ClaimOwner, number: u64, from: ClaimEventId) -> Vec<ClaimGrant> {
    let mut watch = claims.watch(layer(), Some(from)).unwrap();
    let mut grants = Vec::new();
    // It hears of the failure, and asks again.
    loop {
        let Some(ClaimNotice::Event(event)) = watch.next(None).unwrap() else { panic!("the ring is large enough") };
        match event.change {
            ClaimChange::Failed { next, .. } => {
                assert!(next.is_some(), "a failure was published before the hand-over");
                break;
            }
            ClaimChange::Granted { request, owned, .. } if request == owner.request(number) => grants.push(owned.grant),
            _ => {}
        }
    }
    if let ClaimAnswer::Yours(owned) = claims.claim(layer(), owner, number).now().unwrap() {
        grants.push(owned.grant);
    }
    // The granted event follows the failure without a gap.
    let Some(ClaimNotice::Event(event)) = watch.next(None).unwrap() else { panic!("the ring is large enough") };
    match event.change {
        ClaimChange::Granted { request, owned, .. } if request == owner.request(number) => grants.push(owned.grant),
        ClaimChange::Granted { .. } => {}
        other => panic!("expected the grant after the failure, got {other:?}"),
    }
    grants
}

#[test]
fn next_in_line_always_owns_the_failed_work() {
    let (claims, barrier) = (Claims::new(), Barrier::new(5));
    let owners = ["a", "b", "c"].map(|name| claims.owner(name).unwrap());
    let (b, c) = (&owners[1], &owners[2]);
    let count = races();
    std::thread::scope(|threads| {
        // B and C hear of it by events; another thread of B's waits for its answer.
        let heard = |owner| {
            let (claims, barrier) = (&claims, &barrier);
            threads.spawn(move || {
                let mut all = Vec::new();
                for number in 1..=count {
                    barrier.wait();
                    let from = claims.watch(layer(), None).unwrap().try_next().unwrap();
                    let Some(ClaimNotice::Reset { id, .. }) = from else { panic!("no number was given") };
                    barrier.wait();
                    all.push(grants_of(claims, owner, number, id));
                    barrier.wait();
                    barrier.wait();
                }
                all
            })
        };
        let (by_b, by_c) = (heard(b), heard(c));
        let waiting_b = threads.spawn(|| {
            let mut all = Vec::new();
            for number in 1..=count {
                barrier.wait();
                barrier.wait();
                let ClaimAnswer::Yours(owned) = claims.claim(layer(), b, number).blocking().unwrap() else {
                    panic!("B is first in line")
                };
                all.push(owned);
                barrier.wait();
                barrier.wait();
            }
            all
        });
        let failing = threads.spawn(|| {
            let mut last_fence = 0;
            for number in 1..=count {
                let call = |owner: &ClaimOwner| {
                    owner.settle_below(number);
                    claims.claim(layer(), owner, number).now().unwrap()
                };
                let ClaimAnswer::Yours(first) = call(&owners[0]) else { panic!("the work is free") };
                assert!(first.grant.fence > last_fence);
                assert_eq!((call(b), call(c)), (ClaimAnswer::Waiting { ahead: 0 }, ClaimAnswer::Waiting { ahead: 1 }));
                barrier.wait();
                barrier.wait();
                claims.complete(first, Err("on purpose")).unwrap();
                barrier.wait();
                // B succeeds in the end, and C skips.
                let ClaimAnswer::Yours(second) = claims.claim(layer(), b, number).now().unwrap() else {
                    panic!("B owns it")
                };
                last_fence = second.grant.fence;
                claims.complete(second, Ok("")).unwrap();
                assert!(matches!(claims.claim(layer(), c, number).now().unwrap(), ClaimAnswer::Done(_)));
                assert!(claims.forget(layer()).unwrap());
                barrier.wait();
            }
        });
        // The fifth at the barrier: a newcomer that must not come first.
        let newcomer = claims.owner("d").unwrap();
        for number in 1..=count {
            barrier.wait();
            barrier.wait();
            newcomer.settle_below(number);
            let skip = claims.claim(layer(), &newcomer, number).skip_if_claimed().now().unwrap();
            assert!(matches!(skip, ClaimAnswer::Skipped { .. }), "a newcomer got the work: {skip:?}");
            barrier.wait();
            barrier.wait();
        }
        failing.join().unwrap();
        let (by_b, by_c, waiting_b) = (by_b.join().unwrap(), by_c.join().unwrap(), waiting_b.join().unwrap());
        for ((by_b, by_c), owned) in by_b.iter().zip(&by_c).zip(&waiting_b) {
            assert_eq!(by_b.len(), 2, "its question and the event name the grant");
            assert!(by_b.iter().all(|grant| *grant == owned.grant), "{by_b:?} and {owned:?}");
            assert!(by_c.is_empty(), "C came first: {by_c:?}");
        }
    });
    assert_eq!(claims.figures().unwrap().waiting, 0);
}
