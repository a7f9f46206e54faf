//! The ways to wait for a claim inside a process.

use super::fixture::{layer, secs};
use keylatch::claim::*;
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

fn yours(answer: ClaimAnswer) -> ClaimOwned {
    match answer {
        ClaimAnswer::Yours(owned) => owned,
        other => panic!("expected a grant, got {other:?}"),
    }
}

/// Returns once `count` requests wait.
fn until_waiting(claims: &Claims, count: usize) {
    let mut watch = claims.watch(layer(), None).unwrap();
    while claims.figures().unwrap().waiting < count {
        // Nothing is published when a request queues.
        let _ = watch.next(Some(Duration::from_millis(1))).unwrap();
    }
}

#[test]
fn blocked_waiter_gets_the_failed_work() {
    let claims = Claims::new();
    let (a, b) = (claims.owner("a").unwrap(), claims.owner("b").unwrap());
    let first = yours(claims.claim(layer(), &a, 1).blocking().unwrap());
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| yours(claims.claim(layer(), &b, 1).blocking().unwrap()));
        until_waiting(&claims, 1);
        claims.complete(first, Err("no")).unwrap();
        let second = waiter.join().unwrap();
        assert_eq!((second.attempt, second.request), (2, b.request(1)));
        assert_eq!(claims.complete(second, Ok("yes")).unwrap(), ClaimAnswer::Ended(Ok("yes".into())));
    });
}

#[test]
fn timeout_leaves_the_line() {
    let claims = Claims::new();
    let (a, b) = (claims.owner("a").unwrap(), claims.owner("b").unwrap());
    let first = yours(claims.claim(layer(), &a, 1).blocking().unwrap());
    let late = claims.claim(layer(), &b, 1).timeout(Duration::from_millis(1)).blocking();
    assert!(matches!(late, Err(ClaimError::Timeout { .. })), "{late:?}");
    assert_eq!(claims.figures().unwrap().waiting, 0);
    claims.complete(first, Err("no")).unwrap();
    assert_eq!(claims.figures().unwrap().owned, 0);
}

#[test]
fn dropped_future_gives_the_work_on() {
    let claims = Claims::new();
    let (a, b, c) = (claims.owner("a").unwrap(), claims.owner("b").unwrap(), claims.owner("c").unwrap());
    let first = yours(claims.claim(layer(), &a, 1).blocking().unwrap());
    let mut context = Context::from_waker(Waker::noop());
    let mut waiting: Vec<_> =
        [&b, &c].into_iter().map(|owner| Box::pin(IntoFuture::into_future(claims.claim(layer(), owner, 1)))).collect();
    for future in &mut waiting {
        assert!(future.as_mut().poll(&mut context).is_pending());
    }
    claims.complete(first, Err("no")).unwrap();
    // Granted and not polled: the grant ends with the future.
    drop(waiting.remove(0));
    let Poll::Ready(Ok(answer)) = waiting[0].as_mut().poll(&mut context) else { panic!("it is its turn") };
    assert_eq!(yours(answer).attempt, 3);
}

#[test]
fn future_is_woken_by_a_success() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let claims = Claims::new();
        let (a, b) = (claims.owner("a").unwrap(), claims.owner("b").unwrap());
        let first = yours(claims.claim(layer(), &a, 1).await.unwrap());
        let other = claims.clone();
        let waiter = tokio::spawn(async move { other.claim(layer(), &b, 1).await });
        while claims.figures().unwrap().waiting == 0 {
            tokio::task::yield_now().await;
        }
        claims.complete(first, Ok("yes")).unwrap();
        assert!(matches!(waiter.await.unwrap(), Ok(ClaimAnswer::Done(_))));
        let late = claims.claim(("layers", "other"), &a, 2).await.unwrap();
        let c = claims.owner("c").unwrap();
        let timeout = claims.claim(("layers", "other"), &c, 1).timeout(Duration::from_millis(1)).await;
        assert!(matches!(timeout, Err(ClaimError::Timeout { .. })), "{timeout:?} after {late:?}");
    });
}

#[test]
fn callback_is_called_once_with_the_answer() {
    let claims = Claims::new();
    let (a, b) = (claims.owner("a").unwrap(), claims.owner("b").unwrap());
    let (answers, heard) = mpsc::channel();
    let send = |name: &'static str| {
        let answers = answers.clone();
        move |settled| answers.send((name, settled)).unwrap()
    };
    claims.claim(layer(), &a, 1).with_callback(send("a")).unwrap();
    let (name, settled) = heard.recv().unwrap();
    assert_eq!(name, "a");
    claims.claim(layer(), &b, 1).with_callback(|_| panic!("on purpose: a callback that panics")).unwrap();
    claims.claim(layer(), &b, 2).with_callback(send("b")).unwrap();
    claims.complete(yours(settled.unwrap()), Ok("yes")).unwrap();
    let (name, settled) = heard.recv().unwrap();
    assert_eq!(name, "b");
    assert!(matches!(settled, Ok(ClaimAnswer::Done(_))));
    let mine = claims.claim(("layers", "other"), &a, 2).blocking().unwrap();
    let late = claims.claim(("layers", "other"), &b, 3).timeout(Duration::from_millis(1));
    late.with_callback(send("late")).unwrap();
    assert!(matches!(heard.recv().unwrap(), ("late", Err(ClaimError::Timeout { .. }))));
    claims.claim(("layers", "other"), &b, 4).with_callback(send("closed")).unwrap();
    drop((claims, mine));
    assert_eq!(heard.recv().unwrap(), ("closed", Err(ClaimError::Closed)));
}

#[test]
fn queue_delivers_with_its_token() {
    let claims = Claims::new();
    let (a, b) = (claims.owner("a").unwrap(), claims.owner("b").unwrap());
    let queue = claims.completion_queue().unwrap();
    let _ = queue.as_fd();
    claims.claim(layer(), &a, 1).with_queue(&queue, 7).unwrap();
    let first = queue.try_next().unwrap();
    assert_eq!((first.token, first.request), (7, a.request(1)));
    claims.claim(layer(), &b, 1).with_queue(&queue, 8).unwrap();
    assert_eq!(queue.try_next(), None);
    claims.complete(yours(first.result.unwrap()), Err("no")).unwrap();
    let second = queue.next(None).unwrap();
    assert_eq!(second.token, 8);
    assert_eq!(yours(second.result.unwrap()).attempt, 2);
    let foreign = claims.claim(layer(), &a, 2).with_queue(&Claims::new().completion_queue().unwrap(), 9);
    assert!(matches!(foreign, Err(ClaimError::InvalidConfig { setting: "queue", .. })));
}

#[test]
fn lease_runs_out_without_a_call() {
    let claims = Claims::new();
    let (a, b) = (claims.owner("a").unwrap(), claims.owner("b").unwrap());
    let first = yours(claims.claim(layer(), &a, 1).lease(Duration::from_millis(20)).blocking().unwrap());
    let second = yours(claims.claim(layer(), &b, 1).blocking().unwrap());
    assert_eq!(second.attempt, 2);
    let late = claims.complete(first, Ok("late")).unwrap();
    assert_eq!(late, ClaimAnswer::Lost(ClaimLoss::LeaseExpired));
    assert_eq!(claims.remaining(second).unwrap(), None);
    claims.renew(second, secs(60)).unwrap();
    assert!(claims.remaining(second).unwrap().unwrap() > secs(30));
}

#[test]
fn dropped_owner_hands_over() {
    let claims = Claims::new();
    let (a, b) = (claims.owner("a").unwrap(), claims.owner("b").unwrap());
    let first = yours(claims.claim(layer(), &a, 1).blocking().unwrap());
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| yours(claims.claim(layer(), &b, 1).blocking().unwrap()));
        until_waiting(&claims, 1);
        drop(a);
        assert_eq!(waiter.join().unwrap().attempt, 2);
    });
    assert_eq!(claims.complete(first, Ok("late")), Err(ClaimError::SessionGone));
}

#[test]
fn closing_answers_those_who_wait() {
    let claims = Claims::new();
    let (a, b) = (claims.owner("a").unwrap(), claims.owner("b").unwrap());
    claims.claim(layer(), &a, 1).blocking().unwrap();
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| claims.claim(layer(), &b, 1).blocking());
        until_waiting(&claims, 1);
        claims.close();
        assert_eq!(waiter.join().unwrap(), Err(ClaimError::Closed));
    });
    assert_eq!(claims.claim(layer(), &a, 2).blocking(), Err(ClaimError::Closed));
    assert!(claims.is_closed());
}

#[test]
fn panic_of_the_work_is_a_failure() {
    let claims = Claims::new();
    let run = || claims.run_once(layer(), "a", |_| panic!("on purpose: the work fails"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
    let answer = claims.run_once(layer(), "b", |work| Ok(format!("attempt {}", work.attempt))).unwrap();
    assert_eq!(answer, ClaimAnswer::Ended(Ok("attempt 2".into())));
}

#[test]
fn watch_sees_each_event_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let claims = Claims::with_config(ClaimConfig { ring: 2, ..ClaimConfig::default() }).unwrap();
    let a = claims.owner("a").unwrap();
    let mut watch = claims.watch(layer(), None).unwrap();
    assert!(matches!(watch.try_next().unwrap(), Some(ClaimNotice::Reset { .. })));
    let mine = yours(claims.claim(layer(), &a, 1).blocking().unwrap());
    claims.progress(mine, 1, 2, "").unwrap();
    let granted = runtime.block_on(watch.recv()).unwrap();
    assert!(matches!(granted, ClaimNotice::Event(ClaimEvent { change: ClaimChange::Granted { .. }, .. })));
    assert!(matches!(watch.next(None).unwrap(), Some(ClaimNotice::Event(_))));
    assert_eq!(watch.next(Some(Duration::ZERO)).unwrap(), None);
    for done in 0..5 {
        claims.progress(mine, done, 5, "").unwrap();
    }
    assert!(matches!(watch.try_next().unwrap(), Some(ClaimNotice::Reset { .. })));
    assert_eq!(watch.try_next().unwrap(), None);
    // It goes on where it was.
    let mut again = claims.watch(layer(), watch.last()).unwrap();
    assert_eq!(again.try_next().unwrap(), None);
    claims.complete(mine, Ok("")).unwrap();
    assert!(matches!(again.next(None).unwrap(), Some(ClaimNotice::Event(_))));
}
