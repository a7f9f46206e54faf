//! The tier, asked by a manager that only writes events down.

use crate::cluster::{Cluster, etcdctl, etcdctl_at};
use crate::proxy::{Proxy, Then};
use crate::tier_events::{Event, Recorder};
use keylatch::tier::{Answer, Ask, Effort, PermitId, Term, Tier, TierError, TierErrorKind};
use keylatch::{KeyRef, Mode};
use keylatch_etcd::EtcdConfig;
use keylatch_etcd::tier::EtcdTier;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(150);
const TTL: Duration = Duration::from_secs(10);
use Mode::{Exclusive as X, Shared as S};

/// A process with a tier, and the events that it got.
pub(crate) struct Process {
    pub(crate) tier: EtcdTier,
    events: Receiver<Event>,
    pub(crate) term: Term,
}

impl Process {
    pub(crate) fn new(cluster: &Cluster, namespace: &str, ttl: Duration) -> Self {
        Self::at(cluster.endpoints(), namespace, ttl)
    }

    fn at(endpoints: Vec<String>, namespace: &str, ttl: Duration) -> Self {
        Self::with(EtcdConfig::new(endpoints).namespace(namespace).ttl(ttl))
    }

    pub(crate) fn with(config: EtcdConfig) -> Self {
        let tier = EtcdTier::open(config).expect("a tier");
        let (recorder, events) = Recorder::new();
        let term = tier.attach(recorder).expect("attached");
        assert!(tier.is_current());
        Self { tier, events, term }
    }

    pub(crate) fn send(&self, mode: Mode, effort: Effort, replaces: Option<PermitId>) -> (PermitId, Answer) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = PermitId::from_raw(NEXT.fetch_add(1, Ordering::Relaxed)).expect("not 0");
        let key = KeyRef::new("photos", "cat.jpg");
        let mut answers = [Answer::Pending];
        let ask = Ask { id, key, mode, term: self.term, replaces, owner: "test" };
        self.tier.ask(&[ask], effort, &mut answers);
        let [answer] = answers;
        (id, answer)
    }

    pub(crate) fn ask(&self, mode: Mode) -> PermitId {
        let (id, answer) = self.send(mode, Effort::Queue, None);
        assert_eq!(answer, Answer::Pending);
        id
    }

    pub(crate) fn next(&self) -> Event {
        self.events.recv_timeout(LONG).expect("an event")
    }

    /// The next event is this one, apart from recalls, which may come more than once.
    pub(crate) fn expect(&self, wanted: &Event) {
        let next = std::iter::repeat_with(|| self.next())
            .find(|event| event == wanted || !matches!(event, Event::Recalled(..)))
            .expect("an event");
        assert_eq!(next, *wanted);
    }

    /// The first fence of the grant that comes next, apart from recalls.
    pub(crate) fn granted(&self, id: PermitId) -> u64 {
        loop {
            match self.next() {
                Event::Answered(of, Answer::Granted { fences, .. }) if of == id => return fences.first,
                Event::Recalled(..) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Whether nothing comes for a while but recalls, which may come more than once.
    pub(crate) fn has_no_answer(&self) -> bool {
        loop {
            match self.events.recv_timeout(SHORT) {
                Ok(Event::Recalled(..)) => {}
                answer => return answer.is_err(),
            }
        }
    }

    /// The next event that is no recall.
    fn next_answer(&self) -> Event {
        std::iter::repeat_with(|| self.next()).find(|event| !matches!(event, Event::Recalled(..))).expect("an event")
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.events.recv_timeout(SHORT).is_err()
    }
}

#[test]
fn exclusive_permit_recalled_and_passed_on() {
    let Some(cluster) = Cluster::shared() else { return };
    let (one, two) = (Process::new(cluster, "tier-x", TTL), Process::new(cluster, "tier-x", TTL));
    let first = one.ask(X);
    let fence = one.granted(first);
    assert!(one.is_silent(), "a permit that keeps no one waiting is not recalled");
    let second = two.ask(X);
    one.expect(&Event::Recalled(first, X));
    assert!(two.is_silent());
    one.tier.give_back(first);
    assert!(two.granted(second) >= fence + 32_767, "the ranges of fences are apart");
}

#[test]
fn shared_permits_go_together() {
    let Some(cluster) = Cluster::shared() else { return };
    let (one, two) = (Process::new(cluster, "tier-s", TTL), Process::new(cluster, "tier-s", TTL));
    let (first, second) = (one.ask(S), two.ask(S));
    one.granted(first);
    two.granted(second);
    assert!(one.is_silent());
    // The exclusive ask gives the shared permit back, and waits for the other's.
    let (third, answer) = one.send(X, Effort::Queue, Some(first));
    assert_eq!(answer, Answer::Pending);
    two.expect(&Event::Recalled(second, X));
    assert!(one.is_silent());
    two.tier.give_back(second);
    one.granted(third);
}

#[test]
fn try_leaves_nothing_queued() {
    let Some(cluster) = Cluster::shared() else { return };
    let (one, two) = (Process::new(cluster, "tier-try", TTL), Process::new(cluster, "tier-try", TTL));
    let first = one.ask(S);
    one.granted(first);
    let (second, answer) = two.send(X, Effort::AllOrNone, None);
    assert_eq!(answer, Answer::Pending);
    two.expect(&Event::Answered(second, Answer::Busy));
    let (third, _) = two.send(S, Effort::AllOrNone, None);
    two.granted(third);
    assert!(one.is_silent());
}

#[test]
fn try_replaces_permit_or_keeps_it() {
    let Some(cluster) = Cluster::shared() else { return };
    let (one, two) = (Process::new(cluster, "tier-tr", TTL), Process::new(cluster, "tier-tr", TTL));
    let (first, second) = (one.ask(S), two.ask(S));
    let fence = one.granted(first);
    two.granted(second);
    let (third, _) = one.send(X, Effort::AllOrNone, Some(first));
    one.expect(&Event::Answered(third, Answer::Busy));
    // The shared permit is as before: an exclusive ask waits for it, and it is recalled.
    let (fourth, _) = two.send(X, Effort::Queue, Some(second));
    one.expect(&Event::Recalled(first, X));
    assert!(two.is_silent());
    two.tier.withdraw(fourth);
    two.expect(&Event::Withdrawn(fourth));
    // Alone, the try takes its place, and the replaced permit is not reported as lost.
    let is_alone =
        || etcdctl(cluster, &["get", "--prefix", "--keys-only", "keylatch/1/tier-tr/q/"]).matches("q/").count() == 1;
    crate::locking::until("the withdrawn ask is gone", is_alone);
    let (fifth, _) = one.send(X, Effort::AllOrNone, Some(first));
    assert!(one.granted(fifth) > fence);
    assert!(one.is_silent());
    assert!(is_alone());
    one.tier.give_back(fifth);
    let sixth = two.ask(X);
    two.granted(sixth);
}

/// The permit that a try would replace vanishes when the try is on its way.
#[test]
fn try_whose_permit_was_deleted_ends() {
    let Some(cluster) = Cluster::shared() else { return };
    let proxy = Proxy::to(cluster.port(0));
    let one = Process::at(vec![proxy.endpoint()], "tier-gone", TTL);
    let first = one.ask(S);
    one.granted(first);
    let endpoints = cluster.endpoints();
    // Only a creation names the owner.
    proxy.on_request("test photos", move |seen| {
        if seen == 1 {
            etcdctl_at(&endpoints, &["del", "--prefix", "keylatch/1/tier-gone/q/"]);
        }
        Then::Pass
    });
    let (second, _) = one.send(X, Effort::AllOrNone, Some(first));
    let events = [one.next(), one.next()];
    assert!(events.contains(&Event::Answered(second, Answer::Busy)), "{events:?}");
    assert!(events.contains(&Event::Lost(first)), "{events:?}");
    let third = one.ask(X);
    one.granted(third);
}

/// A try does not run ahead of the permit that the one before left.
#[test]
fn try_after_failed_try_is_not_busy() {
    let Some(cluster) = Cluster::shared() else { return };
    let (one, two) = (Process::new(cluster, "tier-again", TTL), Process::new(cluster, "tier-again", TTL));
    for _ in 0..20 {
        let (first, second) = (one.ask(S), two.ask(S));
        one.granted(first);
        two.granted(second);
        let (third, _) = one.send(X, Effort::AllOrNone, Some(first));
        one.expect(&Event::Answered(third, Answer::Busy));
        two.tier.give_back(second);
        let entries = || etcdctl(cluster, &["get", "--prefix", "--keys-only", "keylatch/1/tier-again/q/"]);
        crate::locking::until("the other's permit is gone", || entries().matches("q/").count() == 1);
        one.tier.give_back(first);
        let (fourth, _) = one.send(X, Effort::AllOrNone, None);
        one.granted(fourth);
        one.tier.give_back(fourth);
    }
}

#[test]
fn upgrade_alone_or_not_at_all() {
    let Some(cluster) = Cluster::shared() else { return };
    let (one, two) = (Process::new(cluster, "tier-up", TTL), Process::new(cluster, "tier-up", TTL));
    let (first, second) = (one.ask(S), two.ask(S));
    one.granted(first);
    two.granted(second);
    assert_eq!(one.tier.upgrade(first, one.term, Effort::AllOrNone), Answer::Pending);
    one.expect(&Event::Answered(first, Answer::Busy));
    // The permit is as before: it keeps a writer out, and is recalled for it.
    let (third, _) = two.send(X, Effort::Queue, Some(second));
    one.expect(&Event::Recalled(first, X));
    assert!(two.is_silent());
    two.tier.withdraw(third);
    two.expect(&Event::Withdrawn(third));
    let entries = || etcdctl(cluster, &["get", "--prefix", "--keys-only", "keylatch/1/tier-up/q/"]);
    crate::locking::until("the withdrawn ask is gone", || entries().matches("q/").count() == 1);
    assert_eq!(one.tier.upgrade(first, one.term, Effort::Queue), Answer::Pending);
    let fence = one.granted(first);
    assert!(entries().contains("/w"), "it is exclusive");
    let fourth = two.ask(S);
    one.expect(&Event::Recalled(first, S));
    one.tier.downgrade(first);
    two.granted(fourth);
    two.tier.give_back(fourth);
    one.tier.give_back(first);
    let fifth = two.ask(X);
    assert!(two.granted(fifth) > fence);
    let over = Answer::Failed(TierError::term_over());
    crate::locking::until("it is over", || one.tier.upgrade(first, one.term, Effort::Queue) == over);
}

#[test]
fn upgrade_waits_for_readers_of_other_processes() {
    let Some(cluster) = Cluster::shared() else { return };
    let process = || Process::new(cluster, "tier-wait", TTL);
    let (one, two, three, four) = (process(), process(), process(), process());
    let first = one.ask(S);
    let shared = one.granted(first);
    let second = two.ask(S);
    let shared = two.granted(second).max(shared);
    // A writer waits already, and a reader behind it.
    let writer = three.ask(X);
    one.expect(&Event::Recalled(first, X));
    two.expect(&Event::Recalled(second, X));
    let reader = four.ask(S);
    assert_eq!(one.tier.upgrade(first, one.term, Effort::Queue), Answer::Pending);
    let entries = || etcdctl(cluster, &["get", "--prefix", "--keys-only", "keylatch/1/tier-wait/q/"]);
    crate::locking::until("the upgrade waits", || entries().contains("/wp"));
    // At most one upgrade of a key waits.
    assert_eq!(two.tier.upgrade(second, two.term, Effort::Queue), Answer::Pending);
    assert_eq!(two.next_answer(), Event::Answered(second, Answer::UpgradeConflict));
    assert!(one.has_no_answer(), "another process shares the key");
    two.tier.give_back(second);
    let upgraded = one.granted(first);
    assert!(three.has_no_answer() && four.has_no_answer(), "it is exclusive");
    // The reader behind the writer goes on waiting when the writer leaves.
    three.tier.withdraw(writer);
    three.expect(&Event::Withdrawn(writer));
    assert!(four.has_no_answer(), "a reader that came before the upgrade waits for it");
    let writer = three.ask(X);
    one.tier.downgrade(first);
    let last = four.granted(reader);
    assert!(shared < upgraded && three.has_no_answer());
    four.tier.give_back(reader);
    one.tier.give_back(first);
    let third = three.granted(writer);
    assert!(upgraded < third && last < third, "a later hold has a greater fence");
    assert_eq!(entries().matches("q/").count(), 1, "nothing else is left");
}

/// The writer that an upgrade passes keeps its place, and so its fence.
#[test]
fn upgrade_before_writer_has_lower_fence() {
    let Some(cluster) = Cluster::shared() else { return };
    let process = || Process::new(cluster, "tier-fence", TTL);
    let (one, two) = (process(), process());
    let first = one.ask(S);
    let mut fence = one.granted(first);
    let writer = two.ask(X);
    one.expect(&Event::Recalled(first, X));
    for _ in 0..3 {
        assert_eq!(one.tier.upgrade(first, one.term, Effort::Queue), Answer::Pending);
        let upgraded = one.granted(first);
        assert!(upgraded > fence + 2_047, "each upgrade has fences of its own");
        fence = upgraded;
        one.tier.downgrade(first);
    }
    assert!(two.has_no_answer());
    one.tier.give_back(first);
    assert!(two.granted(writer) > fence + 2_047);
}

#[test]
fn upgrade_withdrawn_or_lost_ends() {
    let Some(cluster) = Cluster::shared() else { return };
    let process = || Process::new(cluster, "tier-uw", TTL);
    let (one, two) = (process(), process());
    // In this order, because the oldest is revoked first.
    let first = one.ask(S);
    one.granted(first);
    let second = two.ask(S);
    two.granted(second);
    let entries = || etcdctl(cluster, &["get", "--prefix", "--keys-only", "keylatch/1/tier-uw/q/"]);
    let marks = || entries().matches("/wp").count() + entries().matches("/wu").count();
    assert_eq!(one.tier.upgrade(first, one.term, Effort::Queue), Answer::Pending);
    crate::locking::until("the upgrade waits", || marks() == 1);
    one.tier.withdraw(first);
    assert_eq!(one.next_answer(), Event::Withdrawn(first));
    crate::locking::until("the mark is gone", || marks() == 0);
    // The permit is shared as before.
    let third = process();
    let reader = third.ask(S);
    third.granted(reader);
    third.tier.give_back(reader);
    assert_eq!(one.tier.upgrade(first, one.term, Effort::Queue), Answer::Pending);
    crate::locking::until("the upgrade waits", || marks() == 1);
    assert_eq!(third.tier.revoke(KeyRef::new("photos", "cat.jpg")), Ok(2), "the mark waits, and is no hold");
    assert_eq!(one.next_answer(), Event::Lost(first));
    assert_eq!(two.next_answer(), Event::Lost(second));
    crate::locking::until("nothing is left", || entries().is_empty());
}

#[test]
fn withdrawn_ask_leaves_queue() {
    let Some(cluster) = Cluster::shared() else { return };
    let (one, two) = (Process::new(cluster, "tier-w", TTL), Process::new(cluster, "tier-w", TTL));
    let first = one.ask(X);
    one.granted(first);
    let second = two.ask(X);
    one.expect(&Event::Recalled(first, X));
    two.tier.withdraw(second);
    two.expect(&Event::Withdrawn(second));
    // A number that the tier does not know is withdrawn.
    two.tier.withdraw(second);
    two.expect(&Event::Withdrawn(second));
    one.tier.give_back(first);
    let third = one.ask(X);
    one.granted(third);
}

#[test]
fn downgrade_stays_ahead_of_writers() {
    let Some(cluster) = Cluster::shared() else { return };
    let process = || Process::new(cluster, "tier-d", TTL);
    let (one, two, three) = (process(), process(), process());
    let first = one.ask(X);
    one.granted(first);
    let reader = two.ask(S);
    one.expect(&Event::Recalled(first, S));
    let writer = three.ask(X);
    one.expect(&Event::Recalled(first, X));
    one.tier.downgrade(first);
    two.granted(reader);
    // The writer waits for both, whichever goes first, and the downgraded permit is recalled anew.
    one.expect(&Event::Recalled(first, X));
    two.tier.give_back(reader);
    assert!(three.is_silent(), "the downgraded permit is still there");
    one.tier.give_back(first);
    three.granted(writer);
}

#[test]
fn revoked_permit_is_lost() {
    let Some(cluster) = Cluster::shared() else { return };
    let (one, two) = (Process::new(cluster, "tier-r", TTL), Process::new(cluster, "tier-r", TTL));
    let first = one.ask(X);
    one.granted(first);
    let key = KeyRef::new("photos", "cat.jpg");
    assert_eq!(one.tier.revoke(key), Ok(0), "the own permit is not revoked");
    let mut list = Vec::new();
    two.tier.list(Some(key), &mut |hold| list.push(hold)).expect("a list");
    assert_eq!((list.len(), list[0].mode, list[0].waits, list[0].own), (1, X, false, false));
    assert_eq!(two.tier.revoke(key), Ok(1));
    one.expect(&Event::Lost(first));
    let second = two.ask(X);
    two.granted(second);
    two.tier.detach();
    let third = one.ask(X);
    one.granted(third);
}

#[test]
fn term_ends_with_lease() {
    let Some(cluster) = Cluster::start(1) else { return };
    let mut one = Process::new(&cluster, "n", Duration::from_secs(2));
    let first = one.ask(X);
    one.granted(first);
    cluster.pause(0);
    one.expect(&Event::AllLost(one.term));
    assert!(!one.tier.is_current());
    let (_, answer) = one.send(X, Effort::Queue, None);
    assert!(matches!(answer, Answer::Failed(error) if error.kind() == TierErrorKind::TermOver));
    cluster.resume(0);
    let Event::Renewed(term) = one.next() else { panic!("a new term") };
    assert!(term > one.term && one.tier.is_current());
    let (_, answer) = one.send(X, Effort::Queue, None);
    assert!(
        matches!(answer, Answer::Failed(error) if error.kind() == TierErrorKind::TermOver),
        "an ask of the old term"
    );
    one.term = term;
    let second = one.ask(X);
    one.granted(second);
    // All of the old term is gone from the server.
    let keys = etcdctl(&cluster, &["get", "--prefix", "--keys-only", "keylatch/1/n/q/"]);
    assert_eq!(keys.split_whitespace().count(), 1, "{keys}");
}

/// Writers are alone, over random asks, downgrades and withdrawals.
#[test]
fn random_permits_exclude() {
    let Some(cluster) = Cluster::shared() else { return };
    let (writers, readers) = (AtomicI32::new(0), AtomicI32::new(0));
    let enter = |mode| {
        let own = if mode == X { &writers } else { &readers };
        assert!(own.fetch_add(1, Ordering::SeqCst) == 0 || mode == S, "two writers");
        assert!(mode == S || readers.load(Ordering::SeqCst) == 0, "a writer beside readers");
        assert!(mode == X || writers.load(Ordering::SeqCst) == 0, "a reader beside a writer");
    };
    let leave = |mode| {
        let own = if mode == X { &writers } else { &readers };
        own.fetch_sub(1, Ordering::SeqCst);
    };
    std::thread::scope(|scope| {
        for seed in 1..=3_u64 {
            let (enter, leave) = (&enter, &leave);
            scope.spawn(move || {
                let process = Process::new(cluster, "tier-random", TTL);
                let mut random = seed;
                let mut below = |limit: u64| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (random >> 33) % limit
                };
                for _ in 0..60 {
                    let mode = if below(2) == 0 { X } else { S };
                    let effort = if below(4) == 0 { Effort::AllOrNone } else { Effort::Queue };
                    let (id, _) = process.send(mode, effort, None);
                    if below(5) == 0 {
                        process.tier.withdraw(id);
                    }
                    let is_granted = loop {
                        match process.next() {
                            Event::Answered(of, Answer::Granted { .. }) if of == id => break true,
                            Event::Answered(of, Answer::Busy) | Event::Withdrawn(of) if of == id => break false,
                            _ => {}
                        }
                    };
                    if !is_granted {
                        continue;
                    }
                    enter(mode);
                    let mut mode = mode;
                    if mode == X && below(2) == 0 {
                        leave(X);
                        enter(S);
                        mode = S;
                        process.tier.downgrade(id);
                    }
                    std::thread::sleep(Duration::from_micros(below(2_000)));
                    leave(mode);
                    process.tier.give_back(id);
                }
            });
        }
    });
}
