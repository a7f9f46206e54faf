//! A tier in memory: several managers of one process share keys as processes would.
//!
//! Calls travel to the hub in order, for a random time; events travel back for a random time, each on its own, so that they
//! overtake each other and the calls. Some calls are answered within the call, as those of shared memory are.

mod keys;

use keylatch::tier::{Answer, Ask, Effort, PermitId, Term, Tier, TierError, TierErrorKind, TierEvents};
use keylatch::{KeyRef, Mode};
use keys::{Event, Keys, Wish};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How a hub behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Drives all that is random.
    pub(crate) seed: u64,
    /// The longest time that a message travels. Zero: calls are answered within.
    pub(crate) delay: Duration,
    /// Of a thousand asks, how many fail because the hub cannot be reached.
    pub(crate) unavailable: u32,
    /// Numbers in a permit.
    pub(crate) fences: u32,
}

impl Weather {
    /// Messages travel for up to 200 microseconds.
    #[allow(dead_code)]
    pub(crate) fn rough(seed: u64) -> Self {
        Self { seed, delay: Duration::from_micros(200), unavailable: 0, fences: 1 << 16 }
    }

    /// Every call is answered within the call.
    #[allow(dead_code)]
    pub(crate) fn calm() -> Self {
        Self { seed: 1, delay: Duration::ZERO, unavailable: 0, fences: 1 << 16 }
    }
}

/// What travels.
enum Message {
    Call { process: usize, term: Term, call: Call },
    Event { process: usize, event: Event },
}

enum Call {
    Ask { wishes: Vec<Wish>, effort: Effort },
    Withdraw(PermitId),
    GiveBack(PermitId),
    Downgrade(PermitId),
    Upgrade(PermitId, Effort),
}

struct Process {
    events: Option<Arc<dyn TierEvents>>,
    term: Term,
    /// Between a loss and the next term.
    lost: bool,
    current: Arc<AtomicBool>,
    /// When the last of its calls arrives.
    last_call: Instant,
    /// Calls that are on their way.
    on_the_way: usize,
    /// Events that are being delivered.
    delivering: usize,
}

struct State {
    weather: Weather,
    random: u64,
    keys: Keys,
    processes: Vec<Process>,
    messages: BTreeMap<u64, Message>,
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    numbered: u64,
    stopped: bool,
}

/// The server that all processes reach.
pub(crate) struct Hub {
    state: Mutex<State>,
    changed: Condvar,
    couriers: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hub")
    }
}

impl State {
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below.max(1)
    }

    fn travel(&mut self) -> Duration {
        let most = u64::try_from(self.weather.delay.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.draw(most))
    }

    fn post(&mut self, at: Instant, message: Message) {
        self.numbered += 1;
        self.messages.insert(self.numbered, message);
        self.due.push(Reverse((at, self.numbered)));
    }

    fn post_call(&mut self, process: usize, call: Call) {
        let at = (Instant::now() + self.travel()).max(self.processes[process].last_call);
        let it = &mut self.processes[process];
        (it.last_call, it.on_the_way) = (at, it.on_the_way + 1);
        let term = it.term;
        self.post(at, Message::Call { process, term, call });
    }

    fn post_events(&mut self, events: Vec<(usize, Event)>) {
        for (process, event) in events {
            let at = Instant::now() + self.travel();
            self.post(at, Message::Event { process, event });
        }
    }

    /// Carries out a call that has arrived. Returns the answers to asks and upgrades.
    fn carry_out(&mut self, process: usize, term: Term, call: Call) -> Vec<(PermitId, Answer)> {
        let fails = self.weather.unavailable > 0 && self.draw(1000) < u64::from(self.weather.unavailable);
        let (fences, mut events) = (self.weather.fences, Vec::new());
        let present = &self.processes[process];
        let over = present.lost
            || matches!(&call, Call::Ask { wishes, .. } if wishes.iter().any(|wish| wish.term != present.term));
        let keys = &mut self.keys;
        let answers = match call {
            Call::Ask { wishes, .. } if over => {
                wishes.iter().map(|wish| (wish.id, Answer::Failed(TierError::term_over()))).collect()
            }
            Call::Ask { wishes, .. } if fails => {
                let gone = wishes.iter().filter_map(|wish| wish.replaces);
                gone.for_each(|id| keys.give_back(process, id, fences, &mut events));
                let error = TierError::new(TierErrorKind::Unavailable, "the hub is away", "try again");
                // It can be reached again soon.
                events.push((process, Event::Renewed(term)));
                wishes.iter().map(|wish| (wish.id, Answer::Failed(error.clone()))).collect()
            }
            Call::Ask { wishes, effort } => keys.ask(process, &wishes, effort, fences, &mut events),
            Call::Upgrade(id, effort) => {
                vec![(id, keys.upgrade(process, id, effort, fences, &mut events))]
            }
            Call::Withdraw(id) => {
                keys.withdraw(process, id, fences, &mut events);
                Vec::new()
            }
            Call::GiveBack(id) => {
                keys.give_back(process, id, fences, &mut events);
                Vec::new()
            }
            Call::Downgrade(id) => {
                keys.downgrade(process, id, fences, &mut events);
                Vec::new()
            }
        };
        self.post_events(events);
        answers
    }
}

impl Hub {
    /// Begins to carry messages.
    pub(crate) fn new(weather: Weather) -> Arc<Self> {
        let hub = Arc::new(Self {
            state: Mutex::new(State {
                weather,
                random: weather.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
                keys: Keys::default(),
                processes: Vec::new(),
                messages: BTreeMap::new(),
                due: BinaryHeap::new(),
                numbered: 0,
                stopped: false,
            }),
            changed: Condvar::new(),
            couriers: Mutex::new(Vec::new()),
        });
        let couriers = (0..2).map(|_| {
            let hub = Arc::clone(&hub);
            std::thread::spawn(move || hub.carry())
        });
        hub.couriers.lock().unwrap().extend(couriers);
        hub
    }

    /// Returns the tier of another process.
    pub(crate) fn process(self: &Arc<Self>) -> Arc<HubTier> {
        let current = Arc::new(AtomicBool::new(true));
        let mut state = self.state();
        state.processes.push(Process {
            events: None,
            term: Term(1),
            lost: false,
            current: Arc::clone(&current),
            last_call: Instant::now(),
            on_the_way: 0,
            delivering: 0,
        });
        Arc::new(HubTier { hub: Arc::clone(self), process: state.processes.len() - 1, current })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn carry(&self) {
        let mut state = self.state();
        while !state.stopped {
            let now = Instant::now();
            match state.due.peek().map(|Reverse((at, _))| *at) {
                Some(at) if at <= now => {
                    let number = state.due.pop().map_or(0, |Reverse((_, number))| number);
                    let Some(message) = state.messages.remove(&number) else { continue };
                    state = self.deliver(state, message);
                }
                Some(at) => state = self.changed.wait_timeout(state, at - now).unwrap().0,
                None => state = self.changed.wait(state).unwrap(),
            }
        }
    }

    fn deliver<'h>(&'h self, mut state: MutexGuard<'h, State>, message: Message) -> MutexGuard<'h, State> {
        let (process, event) = match message {
            Message::Event { process, event } => (process, event),
            Message::Call { process, term, call } => {
                state.processes[process].on_the_way -= 1;
                let answers = state.carry_out(process, term, call);
                let answered = answers.into_iter().filter(|(_, answer)| *answer != Answer::Pending);
                let events = answered.map(|(id, answer)| (process, Event::Answered(id, answer))).collect();
                state.post_events(events);
                self.changed.notify_all();
                return state;
            }
        };
        let Some(events) = state.processes[process].events.clone() else { return state };
        state.processes[process].delivering += 1;
        drop(state);
        event.deliver(&*events);
        drop(events);
        state = self.state();
        state.processes[process].delivering -= 1;
        self.changed.notify_all();
        state
    }

    /// Makes a call: it is sent, or carried out now.
    ///
    /// Returns the answers if they are there.
    fn call(&self, process: usize, call: Call) -> Vec<(PermitId, Answer)> {
        let mut state = self.state();
        // Behind those that are on their way it may not be carried out.
        let now = state.processes[process].on_the_way == 0 && (state.weather.delay.is_zero() || state.draw(4) == 0);
        let answers = if now {
            let term = state.processes[process].term;
            state.carry_out(process, term, call)
        } else {
            state.post_call(process, call);
            Vec::new()
        };
        self.changed.notify_all();
        answers
    }

    /// Ends all permits of a process, and its term.
    #[allow(dead_code)]
    pub(crate) fn lose(&self, process: &HubTier) {
        let process = process.process;
        let mut state = self.state();
        // By its own clock the process knows before the others may go on.
        state.processes[process].current.store(false, Ordering::SeqCst);
        if state.processes[process].lost {
            return;
        }
        state.processes[process].lost = true;
        let term = state.processes[process].term;
        let (fences, mut events) = (state.weather.fences, vec![(process, Event::AllLost(term))]);
        state.keys.lose_all(process, fences, &mut events);
        state.post_events(events);
        self.changed.notify_all();
    }

    /// A process that lost its permits gets another term.
    #[allow(dead_code)]
    pub(crate) fn renew(&self, process: &HubTier) {
        let process = process.process;
        let mut state = self.state();
        let it = &mut state.processes[process];
        if !it.lost {
            return;
        }
        (it.lost, it.term) = (false, Term(it.term.0 + 1));
        it.current.store(true, Ordering::SeqCst);
        let term = it.term;
        state.post_events(vec![(process, Event::Renewed(term))]);
        self.changed.notify_all();
    }

    /// Has the next grant of a key say that a process died.
    #[allow(dead_code)]
    pub(crate) fn note_death(&self, key: KeyRef<'_>) {
        self.state().keys.note_death(key.to_owned());
    }

    /// Returns whether the next grant of a key will say that a process died.
    #[allow(dead_code)]
    pub(crate) fn has_death_to_report(&self, key: KeyRef<'_>) -> bool {
        self.state().keys.has_death_to_report(&key.to_owned())
    }

    /// Permits that are out, and asks that wait.
    #[allow(dead_code)]
    pub(crate) fn in_use(&self) -> (usize, usize) {
        self.state().keys.in_use()
    }

    /// Ends the couriers.
    #[allow(dead_code)]
    pub(crate) fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_all();
        let couriers = std::mem::take(&mut *self.couriers.lock().unwrap());
        couriers.into_iter().for_each(|courier| courier.join().unwrap());
    }
}

/// The hub as one process sees it.
pub(crate) struct HubTier {
    hub: Arc<Hub>,
    process: usize,
    current: Arc<AtomicBool>,
}

impl std::fmt::Debug for HubTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HubTier({})", self.process)
    }
}

impl Tier for HubTier {
    fn attach(&self, events: Arc<dyn TierEvents>) -> Result<Term, TierError> {
        let mut state = self.hub.state();
        state.processes[self.process].events = Some(events);
        Ok(state.processes[self.process].term)
    }

    fn ask(&self, asks: &[Ask<'_>], effort: Effort, answers: &mut [Answer]) {
        let wish = |ask: &Ask<'_>| Wish {
            id: ask.id,
            key: ask.key.to_owned(),
            mode: ask.mode,
            term: ask.term,
            replaces: ask.replaces,
        };
        let wishes: Vec<Wish> = asks.iter().map(wish).collect();
        for (id, answer) in self.hub.call(self.process, Call::Ask { wishes, effort }) {
            let place = asks.iter().position(|ask| ask.id == id).expect("an ask of this call");
            answers[place] = answer;
        }
    }

    fn withdraw(&self, id: PermitId) {
        self.hub.call(self.process, Call::Withdraw(id));
    }

    fn give_back(&self, id: PermitId) {
        self.hub.call(self.process, Call::GiveBack(id));
    }

    fn death_unreported(&self, id: PermitId) {
        self.hub.state().keys.death_unreported(self.process, id);
    }

    fn downgrade(&self, id: PermitId) {
        self.hub.call(self.process, Call::Downgrade(id));
    }

    fn upgrade(&self, id: PermitId, _: Term, effort: Effort) -> Answer {
        let answers = self.hub.call(self.process, Call::Upgrade(id, effort));
        answers.into_iter().next().map_or(Answer::Pending, |(_, answer)| answer)
    }

    fn is_current(&self) -> bool {
        self.current.load(Ordering::SeqCst)
    }

    fn revoke(&self, key: KeyRef<'_>) -> Result<u32, TierError> {
        let mut state = self.hub.state();
        let (fences, mut events) = (state.weather.fences, Vec::new());
        let revoked = state.keys.revoke(self.process, &key.to_owned(), fences, &mut events);
        state.post_events(events);
        self.hub.changed.notify_all();
        Ok(revoked)
    }

    fn detach(&self) {
        let mut state = self.hub.state();
        let events = state.processes[self.process].events.take();
        // What is still on its way comes to nothing.
        state.processes[self.process].lost = true;
        let (fences, mut others) = (state.weather.fences, Vec::new());
        state.keys.lose_all(self.process, fences, &mut others);
        state.post_events(others);
        self.hub.changed.notify_all();
        while state.processes[self.process].delivering > 0 {
            state = self.hub.changed.wait(state).unwrap();
        }
        drop(state);
        drop(events);
    }
}

/// Returns the stronger of two modes.
pub(crate) fn stronger(one: Option<Mode>, other: Mode) -> Mode {
    one.map_or(other, |one| one.max(other))
}
