//! Two processes that share a key through a tier: recall against the fast path, grant against cancel, give-back against
//! acquire, loss.
//!
//! The tier here grants in order and answers within the call. What it has to say to others waits until a thread delivers
//! it: the checker tries every moment.

use super::*;
use crate::sync::Mutex;
use crate::tier::{Answer as Reply, Ask, Effort, Fences, PermitId, Term, Tier, TierError, TierEvents};
use crate::wait::Phase;

/// One key's permits and asks, in order.
#[derive(Debug, Default)]
struct Server {
    line: Vec<(usize, PermitId, Mode, bool)>,
    terms: [u64; 2],
    /// What is to be said to a process.
    said: Vec<(usize, Said)>,
    fence: u64,
}

#[derive(Debug, Clone, Copy)]
enum Said {
    Granted(PermitId, u64),
    Recalled(PermitId, Mode),
    AllLost(Term),
    Renewed(Term),
}

impl Server {
    /// Grants from the front, and recalls what is in the way of the first that waits.
    fn settle(&mut self, own: Option<(usize, PermitId)>) -> Option<u64> {
        let mut answer = None;
        while let Some(at) = self.line.iter().position(|(.., granted)| !granted) {
            let (process, id, mode, _) = self.line[at];
            let in_the_way =
                |(_, _, other, granted): &(usize, PermitId, Mode, bool)| *granted && !mode.goes_with(*other);
            if self.line.iter().any(in_the_way) {
                for (process, id, ..) in self.line.iter().filter(|place| in_the_way(place)) {
                    self.said.push((*process, Said::Recalled(*id, mode)));
                }
                return answer;
            }
            self.line[at].3 = true;
            self.fence += 100;
            if own == Some((process, id)) {
                answer = Some(self.fence);
            } else {
                self.said.push((process, Said::Granted(id, self.fence)));
            }
        }
        answer
    }

    fn change(&mut self, process: usize, id: PermitId, to: Mode) {
        let own = self.line.iter_mut().find(|(owner, other, ..)| (*owner, *other) == (process, id));
        own.into_iter().for_each(|place| place.2 = to);
    }

    /// Ends the first term of the first process.
    fn end_term(&mut self) {
        self.line.retain(|(owner, ..)| *owner != 0);
        self.terms[0] = 1;
    }

    fn remove(&mut self, process: usize, id: PermitId) {
        self.line.retain(|(owner, other, ..)| (*owner, *other) != (process, id));
        self.settle(None);
    }
}

fn granted(first: u64) -> Reply {
    Reply::Granted { fences: Fences { first, count: 100 }, previous_died: false }
}

/// The tier of one process.
struct ModelTier {
    server: Arc<Mutex<Server>>,
    process: usize,
    events: Mutex<Option<Arc<dyn TierEvents>>>,
}

impl std::fmt::Debug for ModelTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ModelTier({})", self.process)
    }
}

impl Tier for ModelTier {
    fn attach(&self, events: Arc<dyn TierEvents>) -> Result<Term, TierError> {
        *self.events.lock() = Some(events);
        Ok(Term(0))
    }

    fn ask(&self, asks: &[Ask<'_>], effort: Effort, answers: &mut [Reply]) {
        let mut server = self.server.lock();
        for (ask, answer) in asks.iter().zip(answers) {
            if ask.term.0 != server.terms[self.process] {
                *answer = Reply::Failed(TierError::term_over());
                continue;
            }
            if let Some(old) = ask.replaces {
                server.line.retain(|(owner, other, ..)| (*owner, *other) != (self.process, old));
            }
            assert!(server.line.iter().all(|(owner, ..)| *owner != self.process), "asked twice");
            let goes = server.line.iter().all(|(_, _, mode, granted)| *granted && mode.goes_with(ask.mode));
            if effort == Effort::AllOrNone && !goes {
                *answer = Reply::Busy;
                continue;
            }
            server.line.push((self.process, ask.id, ask.mode, false));
            if let Some(first) = server.settle(Some((self.process, ask.id))) {
                *answer = granted(first);
            }
        }
    }

    fn withdraw(&self, id: PermitId) {
        let mut server = self.server.lock();
        let waits = server
            .line
            .iter()
            .any(|(owner, other, _, granted)| (*owner, *other, *granted) == (self.process, id, false));
        if waits {
            server.remove(self.process, id);
            drop(server);
            self.events().withdrawn(id);
        }
    }

    fn give_back(&self, id: PermitId) {
        self.server.lock().remove(self.process, id);
    }

    fn downgrade(&self, id: PermitId) {
        let mut server = self.server.lock();
        server.change(self.process, id, Mode::Shared);
        server.settle(None);
    }

    fn upgrade(&self, id: PermitId, _: Term, _: Effort) -> Reply {
        let mut server = self.server.lock();
        if server.line.iter().filter(|(.., granted)| *granted).count() > 1 {
            return Reply::Busy;
        }
        server.change(self.process, id, Mode::Exclusive);
        server.fence += 100;
        let first = server.fence;
        server.settle(None);
        granted(first)
    }

    fn detach(&self) {
        *self.events.lock() = None;
    }
}

impl ModelTier {
    fn events(&self) -> Arc<dyn TierEvents> {
        self.events.lock().clone().expect("attached")
    }

    /// Delivers what is to be said to this process, the last first.
    fn deliver(&self) {
        loop {
            let mut server = self.server.lock();
            let Some(at) = server.said.iter().rposition(|(process, _)| *process == self.process) else { return };
            let (_, said) = server.said.remove(at);
            drop(server);
            let events = self.events();
            match said {
                Said::Granted(id, first) => events.answered(id, granted(first)),
                Said::Recalled(id, wanted) => events.recalled(id, wanted),
                Said::AllLost(term) => events.all_lost(term),
                Said::Renewed(term) => events.renewed(term),
            }
        }
    }
}

/// Two processes that protect the same thing.
#[derive(Clone)]
struct Pair {
    processes: [(Model, Arc<ModelTier>); 2],
    server: Arc<Mutex<Server>>,
}

impl Pair {
    fn new() -> Self {
        let server = Arc::new(Mutex::new(Server::default()));
        let protected = Arc::new(std::array::from_fn(|_| UnsafeCell::new(0)));
        let processes = [0, 1].map(|process| {
            let events = Mutex::new(None);
            let tier = Arc::new(ModelTier { server: Arc::clone(&server), process, events });
            let config = LockConfig {
                shards: 1,
                fairness: Fairness::Fifo,
                max_locks: 3,
                max_waiters: MAX_WAITERS,
                ..LockConfig::default()
            };
            let core = Core::shared_through(config, tier.clone()).expect("a valid setting");
            let model = Model(Arc::new(Parts { core, protected: Arc::clone(&protected) }));
            model.open_fast_path();
            (model, tier)
        });
        Self { processes, server }
    }

    fn one(&self) -> &Model {
        &self.processes[0].0
    }

    fn other(&self) -> &Model {
        &self.processes[1].0
    }

    fn spawn<T: 'static>(&self, run: impl FnOnce(&Self) -> T + 'static) -> JoinHandle<T> {
        let pair = self.clone();
        loom::thread::spawn(move || {
            pair.processes.iter().for_each(|(model, _)| model.open_fast_path());
            run(&pair)
        })
    }

    /// The last steps of a model in which the other process waits.
    fn end_with(&self, ticket: Ticket, mode: Mode) {
        self.deliver();
        self.other().wait_and_work(ticket, 0, mode);
        self.assert_idle();
    }

    /// As `end_with`, for a request that may have been granted.
    fn end_with_asked(&self, model: &Model, asked: Result<Grant, Ticket>) {
        self.deliver();
        model.finish_and_work(asked, 0, EXCLUSIVE);
        self.assert_idle();
    }

    /// Says all that is to be said, in both processes.
    fn deliver(&self) {
        while !self.server.lock().said.is_empty() {
            self.processes.iter().for_each(|(_, tier)| tier.deliver());
        }
    }

    /// Works with a lock that was granted by now, beside the other thread.
    fn work_if_granted(&self, ticket: &Ticket, mode: Mode) {
        if self.other().core().waiters.get(ticket.index()).phase() == Phase::Granted {
            self.other().work(0, mode);
        }
    }

    /// Nothing is held, nothing waits, and every permit that is there is idle.
    fn assert_idle(&self) {
        for (model, _) in &self.processes {
            let core = model.core();
            core.table.lock(0).for_each(|_, entry| {
                assert!(entry.word().is_free() && core.queue(entry).is_empty(), "left behind: {:?}", entry.word());
            });
        }
        assert!(self.server.lock().line.iter().all(|(.., granted)| *granted), "an ask waits for no waiter");
        let permits = self.server.lock().line.len();
        assert!(permits <= 1 || self.server.lock().line.iter().all(|(_, _, mode, _)| *mode == Mode::Shared));
    }
}

/// Would catch a permit that goes back beside a holder of the fast path.
#[test]
fn recall_against_the_fast_path() {
    for (mine, yours) in [(EXCLUSIVE, EXCLUSIVE), (SHARED, EXCLUSIVE), (EXCLUSIVE, SHARED)] {
        check(move || {
            let pair = Pair::new();
            pair.one().lock_and_work(0, mine);
            let takes = pair.spawn(move |pair| {
                if let Some(grant) = pair.one().lock_fast(0, mine) {
                    pair.one().work(0, mine);
                    pair.one().release(grant);
                }
            });
            let ticket = pair.other().queue(0, yours);
            pair.deliver();
            pair.work_if_granted(&ticket, yours);
            takes.join().unwrap();
            pair.end_with(ticket, yours);
        });
    }
}

/// Would catch a release of a recalled lock that does not look in.
#[test]
fn recall_against_the_release() {
    for mode in [EXCLUSIVE, SHARED] {
        check(move || {
            let pair = Pair::new();
            let held = pair.one().lock(0, mode);
            let releases = pair.spawn(move |pair| {
                pair.one().work(0, mode);
                pair.one().release(held);
            });
            let ticket = pair.other().queue(0, EXCLUSIVE);
            pair.deliver();
            pair.work_if_granted(&ticket, EXCLUSIVE);
            releases.join().unwrap();
            pair.end_with(ticket, EXCLUSIVE);
        });
    }
}

/// Would catch an acquisition that relies on a permit which is being given back.
#[test]
fn give_back_against_acquire() {
    check(|| {
        let pair = Pair::new();
        pair.one().lock_and_work(0, EXCLUSIVE);
        let ticket = pair.other().queue(0, EXCLUSIVE);
        let waits = pair.spawn(move |pair| {
            let waits = pair.one().try_lock(0, EXCLUSIVE);
            if let Ok(grant) = waits {
                pair.one().work(0, EXCLUSIVE);
                pair.one().release(grant);
            }
        });
        pair.deliver();
        waits.join().unwrap();
        pair.end_with(ticket, EXCLUSIVE);
    });
}

/// Would catch a grant that is lost because its waiter leaves.
#[test]
fn grant_against_cancel() {
    check(|| {
        let pair = Pair::new();
        let held = pair.one().lock(0, EXCLUSIVE);
        let ticket = pair.other().queue(0, EXCLUSIVE);
        let leaves = pair.spawn(move |pair| {
            let ended = pair.other().wait_until(ticket, 0, Some(Instant::now()));
            if let Ended::Granted(Some(grant)) = ended {
                pair.other().work(0, EXCLUSIVE);
                pair.other().release(grant);
            }
        });
        pair.one().work(0, EXCLUSIVE);
        pair.deliver();
        pair.one().release(held);
        pair.deliver();
        leaves.join().unwrap();
        pair.deliver();
        let again = pair.one().queue_or_lock(0, EXCLUSIVE);
        pair.end_with_asked(pair.one(), again);
    });
}

/// Would catch a hold that outlives its permit.
#[test]
fn loss_against_the_fast_path() {
    for mode in [EXCLUSIVE, SHARED] {
        check(move || {
            let pair = Pair::new();
            pair.one().lock_and_work(0, mode);
            let takes = pair.spawn(move |pair| pair.one().lock_fast(0, mode));
            pair.server.lock().end_term();
            pair.processes[0].1.events().all_lost(Term(0));
            let taken = takes.join().unwrap();
            // Whatever was taken is marked as lost by now, or was refused.
            if let Some(grant) = taken {
                assert!(pair.one().core().standing(grant).is_err(), "held without a permit");
                pair.one().release(grant);
            }
            pair.server.lock().said.push((0, Said::AllLost(Term(0))));
            pair.server.lock().said.push((0, Said::Renewed(Term(1))));
            // In the opposite order.
            pair.deliver();
            let again = pair.one().queue_or_lock(0, EXCLUSIVE);
            pair.end_with_asked(pair.one(), again);
        });
    }
}

/// Would catch an ask of the old term that outlives it.
#[test]
fn ask_against_another_term() {
    check(|| {
        let pair = Pair::new();
        let asks = pair.spawn(|pair| pair.one().queue_or_lock(0, EXCLUSIVE));
        pair.server.lock().end_term();
        let events = pair.processes[0].1.events();
        events.all_lost(Term(0));
        events.renewed(Term(1));
        let asked = asks.join().unwrap();
        pair.deliver();
        let grant = match asked.map_err(|ticket| pair.one().wait(ticket, 0)) {
            Ok(grant) | Err(Ended::Granted(Some(grant))) => grant,
            Err(other) => panic!("{other:?}"),
        };
        pair.one().release(grant);
        let again = pair.other().queue_or_lock(0, EXCLUSIVE);
        pair.end_with_asked(pair.other(), again);
    });
}

impl Model {
    /// Takes the lock, or stands in line for it.
    fn queue_or_lock(&self, key: usize, mode: Mode) -> Result<Grant, Ticket> {
        let answer =
            self.core().acquire_slow(self.core().local(), &self.wanted(key, mode), Wait::InLine(Delivery::Thread));
        match answer.expect("no reason to refuse it") {
            Answer::Granted(grant) => Ok(grant),
            Answer::Queued(ticket) => Err(ticket),
        }
    }

    fn finish_and_work(&self, asked: Result<Grant, Ticket>, key: usize, mode: Mode) {
        match asked {
            Err(ticket) => self.wait_and_work(ticket, key, mode),
            Ok(grant) => {
                self.work(key, mode);
                self.release(grant);
            }
        }
    }
}
