//! Two sessions that wait for each other, while something else ends one of the waits.

use super::*;
use crate::config::Victim;
use crate::hold::{OwnerRef, SessionState};
use crate::wait::Phase;

/// Session a holds key 0 and waits for key 1, session b the other way round.
struct Embrace {
    model: Model,
    held: [Grant; 2],
    waits: [Ticket; 2],
}

impl Embrace {
    fn new(shards: u32, victim: Victim) -> Self {
        let (model, sessions, held) = Self::before(shards, victim);
        let waits = [0, 1].map(|who| Self::queue(&model, who, &sessions[who]));
        Self { model, held, waits }
    }

    /// Each session holds its key, and none waits.
    fn before(shards: u32, victim: Victim) -> (Model, [Arc<SessionState>; 2], [Grant; 2]) {
        let config = LockConfig {
            shards,
            fairness: Fairness::Fifo,
            max_locks: 3,
            max_waiters: MAX_WAITERS,
            deadlock_delay: Some(Duration::ZERO),
            victim,
            ..LockConfig::default()
        };
        let core = Arc::new(Core::new(config).expect("a valid setting"));
        let model = Model(Arc::new(Parts { core, protected: Arc::new(std::array::from_fn(|_| UnsafeCell::new(0))) }));
        model.open_fast_path();
        let sessions = ["a", "b"].map(|name| model.core().begin_session(name, "").expect("no fork"));
        let held = [0, 1].map(|key| model.core().try_now(asked(&model, key, &sessions[key]), false).expect("free"));
        (model, sessions, held)
    }

    fn queue(model: &Model, who: usize, session: &SessionState) -> Ticket {
        let core = model.core();
        let wanted = core.wanted(core.local(), &asked(model, 1 - who, session));
        match core.acquire_slow(core.local(), &wanted, Wait::InLine(Delivery::Thread)) {
            Ok(Answer::Queued(ticket)) => ticket,
            other => panic!("{other:?} though the other holds it"),
        }
    }

    /// How a session's wait ended; it works, and lets go of everything.
    fn end(model: &Model, who: usize, (held, ticket): (Grant, Ticket), deadline: Option<Instant>) -> Phase {
        let ended = model.wait_until(ticket, 1 - who, deadline);
        model.work(who, EXCLUSIVE);
        let phase = match ended {
            Ended::Granted(Some(grant)) => {
                model.work(1 - who, EXCLUSIVE);
                model.release(grant);
                Phase::Granted
            }
            Ended::Granted(None) => panic!("no upgrade"),
            Ended::Failed { why, error, .. } => {
                let explained = error.is_some_and(|error| matches!(*error, LockError::Deadlock { .. }));
                assert_eq!(explained, why == Phase::Deadlocked);
                why
            }
        };
        model.release(held);
        phase
    }
}

fn asked<'s>(model: &Model, key: usize, session: &'s SessionState) -> LockRequest<'s> {
    request(key, EXCLUSIVE).owner(OwnerRef::Session(session.as_owner(model.core().identity())))
}

/// Would catch: two victims or none, or a victim that is not woken.
#[test]
fn one_of_two_gives_way() {
    check(|| {
        let Embrace { model, held, waits } = Embrace::new(1, Victim::Asker);
        let other = model.spawn(move |model| Embrace::end(model, 1, (held[1], waits[1]), None));
        let mine = Embrace::end(&model, 0, (held[0], waits[0]), None);
        let theirs = other.join().unwrap();
        assert_ne!(mine == Phase::Deadlocked, theirs == Phase::Deadlocked);
        assert_eq!(model.core().recent_deadlocks().len(), 1);
        model.assert_nothing_left();
    });
}

/// Would catch: mutexes in the wrong order, or one released before the wait ends.
#[test]
fn two_shards_and_a_time_out() {
    check(|| {
        let Embrace { model, held, waits } = Embrace::new(2, Victim::Asker);
        let some_time = Some(Instant::now() + Duration::from_secs(3600));
        let other = model.spawn(move |model| Embrace::end(model, 1, (held[1], waits[1]), some_time));
        let mine = Embrace::end(&model, 0, (held[0], waits[0]), None);
        let theirs = other.join().unwrap();
        let victims = usize::from(mine == Phase::Deadlocked) + usize::from(theirs == Phase::Deadlocked);
        assert_eq!(victims, model.core().recent_deadlocks().len());
        assert!(victims == 1 || (victims == 0 && theirs == Phase::TimedOut), "{mine:?} {theirs:?}");
        model.assert_nothing_left();
    });
}

/// Would catch: a wait that ends twice: as a deadlock's, and as cancelled.
#[test]
fn a_deadlock_against_a_cancel() {
    check(|| {
        let Embrace { model, held, waits } = Embrace::new(1, Victim::Youngest);
        let looker = model.spawn(move |model| model.core().look(waits[0]));
        let cancelled = model.core().end_by_ticket(waits[1], Phase::Cancelled, |_| true);
        looker.join().unwrap();
        let theirs = Embrace::end(&model, 1, (held[1], waits[1]), None);
        assert_eq!(theirs, if cancelled { Phase::Cancelled } else { Phase::Deadlocked });
        assert_eq!(Embrace::end(&model, 0, (held[0], waits[0]), None), Phase::Granted);
        model.assert_nothing_left();
    });
}

/// Would catch: a victim that has the lock and a deadlock, or a false alarm.
#[test]
fn a_deadlock_against_the_grant() {
    check(|| {
        let (model, [a, b], held) = Embrace::before(1, Victim::Asker);
        // The request of a closes the circle.
        let theirs = Embrace::queue(&model, 1, &b);
        let waits = [Embrace::queue(&model, 0, &a), theirs];
        let looker = model.spawn(move |model| model.core().look(waits[0]));
        // Another thread of the session b, which does not keep to the rule that it lets go of nothing.
        model.work(1, EXCLUSIVE);
        model.release(held[1]);
        looker.join().unwrap();
        let mine = Embrace::end(&model, 0, (held[0], waits[0]), None);
        assert!(matches!(mine, Phase::Granted | Phase::Deadlocked));
        assert_eq!(model.core().recent_deadlocks().len(), usize::from(mine == Phase::Deadlocked));
        let Ended::Granted(Some(grant)) = model.wait(waits[1], 0) else { panic!("the key is free") };
        model.release(grant);
        model.assert_nothing_left();
    });
}

/// Would catch: a sleeping victim that is not woken.
///
/// There was no deadlock at its own recheck.
#[test]
fn who_gives_way_sleeps() {
    check(|| {
        let (model, [a, b], held) = Embrace::before(1, Victim::Youngest);
        let ticket = Embrace::queue(&model, 1, &b);
        let other = model.spawn(move |model| Embrace::end(model, 1, (held[1], ticket), None));
        let ticket = Embrace::queue(&model, 0, &a);
        assert_eq!(Embrace::end(&model, 0, (held[0], ticket), None), Phase::Granted);
        assert_eq!(other.join().unwrap(), Phase::Deadlocked);
        model.assert_nothing_left();
    });
}
