//! Who waits for whom, down to the one who runs.

use crate::steps::*;
use keylatch::{
    BlockingChain, ChainStart, CompletionQueue, Fairness, FastObjectLockManager, KeyRef, LockConfig, LockRequest,
    Session, Submitted,
};

/// Deadlocks stay for these tests to look at.
fn without_detection() -> FastObjectLockManager {
    with(LockConfig { shards: 4, fairness: Fairness::Fifo, deadlock_delay: None, ..LockConfig::default() })
}

fn hold<'l>(locks: &'l FastObjectLockManager, key: &str, session: &Session) -> keylatch::FastLockGuard<'l> {
    locks.lock(LockRequest::write(("b", key)).owner(session)).blocking().unwrap()
}

fn wait(locks: &FastObjectLockManager, queue: &CompletionQueue, key: &str, session: &Session) {
    let submitted = locks.lock(LockRequest::write(("b", key)).owner(session)).with_queue(queue, 0).unwrap();
    assert!(matches!(submitted, Submitted::Waiting(_)));
}

fn keys(chain: &BlockingChain) -> Vec<&str> {
    chain.links.iter().map(|link| std::str::from_utf8(link.key.object()).unwrap()).collect()
}

fn running(chain: &BlockingChain) -> Vec<&str> {
    chain.running.iter().map(|hold| &*hold.owner).collect()
}

#[test]
fn free_key_has_no_chain() {
    let locks = without_detection();
    let session = locks.session("idle");
    assert!(locks.blocking_chain(&session).is_empty());
    assert!(locks.blocking_chain("stranger").is_empty());
    assert!(locks.blocking_chain(("b", "free")).is_empty());
    assert_eq!(locks.blocking_chain(("b", "free")).to_string(), "no waiters");
    let _held = hold(&locks, "k", &session);
    assert!(locks.blocking_chain(&session).is_empty(), "it holds and waits for nothing");
    let chain = locks.blocking_chain(("b", "k"));
    assert_eq!((keys(&chain), running(&chain), chain.circle), (vec!["k"], vec!["idle"], false));
    assert!(chain.links[0].waiter.is_none() && chain.links[0].after.is_none());
}

#[test]
fn chain_ends_at_the_running_session() {
    let locks = without_detection();
    let queue = locks.completion_queue().unwrap();
    let sessions: Vec<Session> = (0..5).map(|n| locks.session(&format!("s{n}"))).collect();
    let names = ["k0", "k1", "k2", "k3", "k4"];
    let held: Vec<_> = names.iter().zip(&sessions).map(|(key, session)| hold(&locks, key, session)).collect();
    for n in 0..4 {
        wait(&locks, &queue, names[n + 1], &sessions[n]);
    }
    let chain = locks.blocking_chain(&sessions[0]);
    assert_eq!((keys(&chain), running(&chain), chain.circle), (vec!["k1", "k2", "k3", "k4"], vec!["s4"], false));
    for (n, link) in chain.links.iter().enumerate() {
        let waiter = link.waiter.as_ref().unwrap();
        assert_eq!((waiter.owner.to_string(), waiter.position), (format!("s{n}"), 1));
        assert_eq!((link.holders.len(), link.holders[0].owner.to_string()), (1, format!("s{}", n + 1)));
        assert_eq!(link.after, n.checked_sub(1));
    }
    let text = chain.to_string();
    assert!(text.starts_with(r#"s0 waits for "b"/"k1" (exclusive, for "#), "{text}");
    assert!(text.contains("\n      s3 waits for \"b\"/\"k4\"") && text.contains("\nrunning: s4 (exclusive"), "{text}");

    // The same from a key, from a name, and from further down.
    assert_eq!(keys(&locks.blocking_chain(("b", "k0"))), names);
    assert_eq!(keys(&locks.blocking_chain(&keylatch::ObjectKey::new("b", "k3"))), ["k3", "k4"]);
    assert_eq!(keys(&locks.blocking_chain(ChainStart::from(KeyRef::new("b", "k3")))), ["k3", "k4"]);
    assert_eq!(keys(&locks.blocking_chain("s2")), ["k3", "k4"]);
    assert_eq!(keys(&locks.blocking_chain(&"s2".to_owned())), ["k3", "k4"]);
    drop(queue);
    drop(held);
    assert_at_rest(&locks);
}

#[test]
fn chain_tells_sessions_of_one_name_apart() {
    let locks = without_detection();
    let queue = locks.completion_queue().unwrap();
    let (holder, one, two) = (locks.session("holder"), locks.session("same"), locks.session("same"));
    let _held = [hold(&locks, "a", &holder), hold(&locks, "b", &holder)];
    wait(&locks, &queue, "a", &one);
    wait(&locks, &queue, "b", &two);
    assert_eq!(keys(&locks.blocking_chain(&one)), ["a"]);
    assert_eq!(keys(&locks.blocking_chain(&two)), ["b"]);
    assert_eq!(locks.blocking_chain("same").links.len(), 2);
    assert_eq!(running(&locks.blocking_chain("same")).len(), 2, "two holds of one that runs");
    let elsewhere = without_detection();
    assert!(locks.blocking_chain(&elsewhere.session("same")).is_empty());
}

#[test]
fn nothing_is_concluded_from_a_label() {
    let locks = without_detection();
    let queue = locks.completion_queue().unwrap();
    let node = locks.owner("node-7");
    let _held = locks.acquire_write_lock_blocking("b", "a", node).unwrap();
    let _other = locks.acquire_write_lock_blocking("b", "b", "other").unwrap();
    let _waiting = locks.lock(LockRequest::read(("b", "b")).owner(node)).with_queue(&queue, 0).unwrap();
    let session = locks.session("s");
    wait(&locks, &queue, "a", &session);
    let chain = locks.blocking_chain(&session);
    assert_eq!((keys(&chain), running(&chain)), (vec!["a"], vec!["node-7"]));
    // What it waits for itself can be asked all the same.
    let chain = locks.blocking_chain(node);
    assert_eq!((keys(&chain), running(&chain)), (vec!["b"], vec!["other"]));
}

#[test]
fn every_reader_in_the_way_is_followed() {
    let locks = without_detection();
    let queue = locks.completion_queue().unwrap();
    let [writer, one, two, three] = ["writer", "one", "two", "three"].map(|name| locks.session(name));
    let read = |session| locks.lock(LockRequest::read(("b", "shared")).owner(session)).blocking().unwrap();
    let _shared = [read(&one), read(&two), read(&three)];
    let end = locks.session("end");
    let _end = hold(&locks, "end", &end);
    wait(&locks, &queue, "end", &one);
    wait(&locks, &queue, "end", &two);
    wait(&locks, &queue, "shared", &writer);
    let chain = locks.blocking_chain(&writer);
    assert_eq!(keys(&chain), ["shared", "end", "end"]);
    let mut ends = running(&chain);
    ends.sort_unstable();
    assert_eq!((ends, chain.circle), (vec!["end", "three"], false));
    assert_eq!((chain.links[1].after, chain.links[2].after), (Some(0), Some(0)));
}

#[test]
fn a_circle_is_called_one_and_ends_the_chain() {
    let locks = without_detection();
    let queue = locks.completion_queue().unwrap();
    let sessions = ["s0", "s1", "s2"].map(|name| locks.session(name));
    let outside = locks.session("outside");
    let names = ["k0", "k1", "k2"];
    let held: Vec<_> = names.iter().zip(&sessions).map(|(key, session)| hold(&locks, key, session)).collect();
    for n in 0..3 {
        wait(&locks, &queue, names[(n + 1) % 3], &sessions[n]);
    }
    wait(&locks, &queue, "k0", &outside);
    for session in &sessions {
        let chain = locks.blocking_chain(session);
        assert!(chain.circle && chain.running.is_empty() && chain.links.len() == 3, "{chain}");
        assert!(chain.to_string().ends_with("it goes round: a deadlock"));
    }
    let chain = locks.blocking_chain(&outside);
    assert!(chain.circle && chain.links.len() == 4, "one that leads into a circle: {chain}");
    drop((queue, held));
    assert_at_rest(&locks);
}

#[test]
fn two_ways_to_one_holder_are_no_circle() {
    let locks = without_detection();
    let queue = locks.completion_queue().unwrap();
    let [top, left, right, end] = ["top", "left", "right", "end"].map(|name| locks.session(name));
    let read = |session| locks.lock(LockRequest::read(("b", "both")).owner(session)).blocking().unwrap();
    let _both = [read(&left), read(&right)];
    let (_middle, _end) = (hold(&locks, "middle", &left), hold(&locks, "end", &end));
    // right waits for left, and left for the end.
    wait(&locks, &queue, "end", &left);
    wait(&locks, &queue, "middle", &right);
    wait(&locks, &queue, "both", &top);
    let chain = locks.blocking_chain(&top);
    assert_eq!((running(&chain), chain.circle), (vec!["end"], false), "{chain}");
}

#[test]
fn chain_of_upgrade_leaves_itself_out() {
    let locks = without_detection();
    let [one, two] = ["one", "two"].map(|name| locks.session(name));
    let mut first = locks.lock(LockRequest::read(("b", "o")).owner(&one)).blocking().unwrap();
    let _second = locks.lock(LockRequest::read(("b", "o")).owner(&two)).blocking().unwrap();
    let _upgrade = ByHand::waiting(first.upgrade(None));
    let chain = locks.blocking_chain(&one);
    assert_eq!((keys(&chain), running(&chain), chain.circle), (vec!["o"], vec!["two"], false));
    assert!(chain.links[0].waiter.as_ref().unwrap().upgrade);
}
