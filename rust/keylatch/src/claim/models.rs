//! Loom: the hand-over from the board's mutex to the threads that wait.

use super::{ClaimAnswer, ClaimError, ClaimOwned, Claims};
use loom::thread;
use std::sync::Arc;
use std::time::Duration;

const LAYER: (&str, &str) = ("layers", "x");

fn yours(answer: ClaimAnswer) -> ClaimOwned {
    match answer {
        ClaimAnswer::Yours(owned) => owned,
        other => panic!("expected a grant, got {other:?}"),
    }
}

/// Would catch: a waiter that parks although its answer was delivered.
///
/// Also one whose signal is cleared after it looked.
#[test]
fn waiter_gets_the_failed_work() {
    loom::model(|| {
        let claims = Claims::new();
        let (a, b) = (claims.owner("a").unwrap(), claims.owner("b").unwrap());
        let first = yours(claims.claim(LAYER, &a, 1).now().unwrap());
        let other = claims.clone();
        let waiter = thread::spawn(move || {
            let owned = yours(other.claim(LAYER, &b, 1).blocking().unwrap());
            (b, owned)
        });
        claims.complete(first, Err("no")).unwrap();
        let (_b, second) = waiter.join().unwrap();
        assert_eq!(second.attempt, 2);
    });
}

/// Would catch: a grant that arrives while its waiter gives up, and that stays.
///
/// It stays with nothing behind it.
#[test]
fn timeout_and_grant_leave_one_owner_or_none() {
    loom::model(|| {
        let claims = Claims::new();
        let (a, b) = (claims.owner("a").unwrap(), claims.owner("b").unwrap());
        let first = yours(claims.claim(LAYER, &a, 1).now().unwrap());
        let other = claims.clone();
        let waiter = thread::spawn(move || {
            let settled = other.claim(LAYER, &b, 1).timeout(Duration::from_secs(60)).blocking();
            (b, settled)
        });
        claims.complete(first, Err("no")).unwrap();
        let (_b, settled) = waiter.join().unwrap();
        let figures = claims.figures().unwrap();
        assert_eq!(figures.waiting, 0);
        match settled {
            Ok(answer) => assert_eq!((yours(answer).attempt, figures.owned), (2, 1)),
            Err(ClaimError::Timeout { .. }) => assert_eq!(figures.owned, 0),
            Err(other) => panic!("{other}"),
        }
    });
}

/// Would catch: an answer that wakes one of two waiters only.
#[test]
fn success_wakes_every_waiter() {
    loom::model(|| {
        let claims = Claims::new();
        let a = claims.owner("a").unwrap();
        let first = yours(claims.claim(LAYER, &a, 1).now().unwrap());
        let waiters: Vec<_> = ["b", "c"]
            .into_iter()
            .map(|name| {
                let owner = Arc::new(claims.owner(name).unwrap());
                let claims = claims.clone();
                thread::spawn(move || claims.claim(LAYER, &owner, 1).blocking())
            })
            .collect();
        claims.complete(first, Ok("yes")).unwrap();
        for waiter in waiters {
            assert!(matches!(waiter.join().unwrap(), Ok(ClaimAnswer::Done(_))));
        }
    });
}
