//! How an entry gets another key: look-up without a lock, insertion under the gate, eviction, and recovery of all three.
//!
//! Two keys compete for one or two entries. Locks are words with a writer only; waiting is trying again, for lost
//! wake-ups are the other model's subject. A thread acquires and releases the keys of its script, may be killed before
//! each step, and two recoverers may work on the same dead member.
//!
//! The order of the writes makes every moment of a change safe to die in: raise the floor, blank the old key and then its
//! tag, write the fence, write the new tag and then the key. So a recoverer has only the name to remove. A look-up goes by
//! the tag, and a holder compares the key: what has a key has its tag.

use super::fault::Fault;
use crate::word::{MemberId, Word};
use stateright::{Checker, HasDiscoveries, Model, Property};

const MEMBERS: usize = 4;
const ENTRIES: usize = 2;
const GATE: usize = ENTRIES;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Step {
    Find,
    LogGate,
    Gate,
    SearchAgain,
    Choose(usize),
    Claim(usize),
    RaiseFloor(usize),
    Blank(usize),
    BlankTag(usize),
    WriteFence(usize),
    WriteTag(usize),
    WriteKey(usize),
    LeaveGate(Option<usize>),
    LogEntry(usize),
    Enter(usize),
    Compare(usize),
    Fence(usize),
    Hold(usize),
    Leave(usize, bool),
    ClearLog(bool),
    Announce(MemberId),
    Recover(MemberId),
    Remove(MemberId, usize),
    ClearRecord(MemberId, usize),
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
struct Thread {
    step: Step,
    op: u8,
    alive: bool,
    quiet: bool,
    /// Slots that the log names.
    log: u8,
}

#[derive(Clone, PartialEq, Eq, Debug, Hash)]
struct State {
    words: [Word; ENTRIES + 1],
    tags: [u8; ENTRIES],
    keys: [u8; ENTRIES],
    fences: [u8; ENTRIES],
    floor: u8,
    threads: [Thread; MEMBERS],
    crashes: u8,
    /// The greatest fence of each key that a holder had.
    seen: [u8; 4],
    broken: Option<&'static str>,
}

#[derive(Clone, Debug)]
struct Setup {
    /// Keys and fences of the entries at the start.
    start: [[u8; ENTRIES]; 2],
    /// Keys (1 to 3) that each thread acquires in turn.
    ///
    /// An empty script is a recoverer's.
    scripts: Vec<Vec<u8>>,
    entries: usize,
    crashes: u8,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Action {
    Run(usize),
    Crash(usize),
    Recover(usize, usize),
}

impl Setup {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn find(&self, s: &State, key: u8) -> Option<usize> {
        (0..self.entries).find(|entry| s.tags[*entry] == key && s.keys[*entry] == key)
    }

    /// What is written first of a new key, and taken away last of an old one.
    fn first_to_say<'a>(&self, s: &'a mut State, entry: usize) -> &'a mut u8 {
        if self.has(Fault::KeyBeforeTag) { &mut s.keys[entry] } else { &mut s.tags[entry] }
    }

    /// What is written last of a new key, and taken away first of an old one.
    fn last_to_say<'a>(&self, s: &'a mut State, entry: usize) -> &'a mut u8 {
        if self.has(Fault::KeyBeforeTag) { &mut s.tags[entry] } else { &mut s.keys[entry] }
    }

    #[allow(clippy::too_many_lines, reason = "one match over all steps reads better than pieces of it")]
    fn run(&self, s: &mut State, t: usize) {
        let me = MemberId::at(t);
        let key = self.scripts[t].get(s.threads[t].op as usize).copied().unwrap_or(0);
        let next = match s.threads[t].step {
            Step::Find if key == 0 => Step::Done,
            Step::Find => self.find(s, key).map_or(Step::LogGate, Step::LogEntry),
            Step::LogGate => {
                s.threads[t].log |= 1 << GATE;
                if self.has(Fault::InsertWithoutGate) { Step::SearchAgain } else { Step::Gate }
            }
            Step::Gate if s.words[GATE] == Word::FREE => {
                s.words[GATE] = Word::only_writer(me);
                if self.has(Fault::InsertWithoutSearch) { Step::Choose(0) } else { Step::SearchAgain }
            }
            Step::Gate => Step::Gate,
            Step::SearchAgain => match self.find(s, key) {
                Some(_) => Step::LeaveGate(None),
                None => Step::Choose(0),
            },
            Step::Choose(entry) if entry == self.entries => Step::LeaveGate(None),
            Step::Choose(entry) => {
                s.threads[t].log |= 1 << entry;
                Step::Claim(entry)
            }
            Step::Claim(entry) => {
                let word = s.words[entry];
                if word.is_unnamed() || self.has(Fault::EvictsHeld) {
                    s.words[entry] = word.with_writer(me);
                    Step::RaiseFloor(entry)
                } else {
                    s.threads[t].log &= !(1 << entry);
                    Step::Choose(entry + 1)
                }
            }
            Step::RaiseFloor(entry) => {
                if !self.has(Fault::FloorNotRaised) {
                    s.floor = s.floor.max(s.fences[entry]);
                }
                Step::Blank(entry)
            }
            Step::Blank(entry) => {
                *self.last_to_say(s, entry) = 0;
                Step::BlankTag(entry)
            }
            Step::BlankTag(entry) => {
                *self.first_to_say(s, entry) = 0;
                if self.has(Fault::FenceWrittenLate) { Step::WriteTag(entry) } else { Step::WriteFence(entry) }
            }
            Step::WriteFence(entry) => {
                s.fences[entry] = s.floor;
                if s.keys[entry] == key { Step::LeaveGate(Some(entry)) } else { Step::WriteTag(entry) }
            }
            Step::WriteTag(entry) => {
                *self.first_to_say(s, entry) = key;
                Step::WriteKey(entry)
            }
            Step::WriteKey(entry) => {
                *self.last_to_say(s, entry) = key;
                if self.has(Fault::FenceWrittenLate) { Step::WriteFence(entry) } else { Step::LeaveGate(Some(entry)) }
            }
            Step::LeaveGate(held) => {
                s.words[GATE] = s.words[GATE].without_writer(me);
                s.threads[t].log &= !(1 << GATE);
                held.map_or(Step::Find, Step::Fence)
            }
            Step::LogEntry(entry) => {
                s.threads[t].log |= 1 << entry;
                Step::Enter(entry)
            }
            Step::Enter(entry) => {
                if s.words[entry].writer().is_none() {
                    s.words[entry] = s.words[entry].with_writer(me);
                    if self.has(Fault::NoCompareAfterAcquire) { Step::Fence(entry) } else { Step::Compare(entry) }
                } else {
                    s.threads[t].log &= !(1 << entry);
                    Step::Find
                }
            }
            Step::Compare(entry) => {
                if s.keys[entry] == key {
                    Step::Fence(entry)
                } else {
                    Step::Leave(entry, false)
                }
            }
            Step::Fence(entry) => {
                s.fences[entry] += 1;
                if s.fences[entry] <= s.seen[key as usize] {
                    s.broken = Some("a fence did not grow");
                }
                s.seen[key as usize] = s.fences[entry];
                Step::Hold(entry)
            }
            Step::Hold(entry) => Step::Leave(entry, true),
            Step::Leave(entry, done) => {
                s.words[entry] = s.words[entry].without_writer(me);
                Step::ClearLog(done)
            }
            Step::ClearLog(done) => {
                s.threads[t].log = 0;
                s.threads[t].op += u8::from(done);
                Step::Find
            }
            Step::Announce(dead) => Step::Recover(dead),
            Step::Recover(dead) => {
                let log = s.threads[dead.index()].log;
                match (0..=ENTRIES).find(|slot| log & 1 << slot != 0) {
                    None => {
                        s.threads[dead.index()].quiet = true;
                        Step::Done
                    }
                    Some(slot) => Step::Remove(dead, slot),
                }
            }
            Step::Remove(dead, slot) => {
                s.words[slot] = s.words[slot].without_writer(dead);
                Step::ClearRecord(dead, slot)
            }
            Step::ClearRecord(dead, slot) => {
                s.threads[dead.index()].log &= !(1 << slot);
                Step::Recover(dead)
            }
            Step::Done => Step::Done,
        };
        s.threads[t].step = next;
    }

    fn held_key(&self, s: &State, t: usize) -> Option<u8> {
        let thread = &s.threads[t];
        let is_holding = thread.alive && matches!(thread.step, Step::Hold(_));
        is_holding.then(|| self.scripts[t][thread.op as usize])
    }
}

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let thread = Thread { step: Step::Done, op: 0, alive: false, quiet: true, log: 0 };
        let mut threads = [thread; MEMBERS];
        for (t, script) in self.scripts.iter().enumerate() {
            let step = if script.is_empty() { Step::Done } else { Step::Find };
            threads[t] = Thread { step, alive: true, quiet: false, ..thread };
        }
        let [keys, fences] = self.start;
        let mut seen = [0; 4];
        for (key, fence) in keys.into_iter().zip(fences) {
            seen[key as usize] = fence;
        }
        vec![State {
            words: [Word::FREE; ENTRIES + 1],
            tags: keys,
            keys,
            fences,
            floor: 0,
            threads,
            crashes: self.crashes,
            seen,
            broken: None,
        }]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        if s.broken.is_some() {
            return;
        }
        for (t, thread) in s.threads.iter().enumerate().take(self.scripts.len()) {
            if !thread.alive {
                continue;
            }
            if thread.step != Step::Done {
                actions.push(Action::Run(t));
                if s.crashes > 0 {
                    actions.push(Action::Crash(t));
                }
            } else if self.scripts[t].is_empty() {
                let dead = |other: &usize| !s.threads[*other].alive && !s.threads[*other].quiet;
                actions.extend((0..self.scripts.len()).filter(dead).map(|dead| Action::Recover(t, dead)));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut s = last.clone();
        match action {
            Action::Run(t) => self.run(&mut s, t),
            Action::Crash(t) => {
                s.crashes -= 1;
                s.threads[t].alive = false;
                s.threads[t].step = Step::Done;
            }
            Action::Recover(t, dead) => s.threads[t].step = Step::Announce(MemberId::at(dead)),
        }
        Some(s)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a key has one holder", |setup: &Setup, s: &State| {
                let held: Vec<u8> = (0..setup.scripts.len()).filter_map(|t| setup.held_key(s, t)).collect();
                (1..4).all(|key| held.iter().filter(|other| **other == key).count() <= 1)
            }),
            Property::always("a key stands in one entry", |_, s: &State| s.keys[0] == 0 || s.keys[0] != s.keys[1]),
            Property::always("no step breaks a promise", |_, s: &State| s.broken.is_none()),
            Property::always("nothing is left", |_, s: &State| {
                let ended = s.threads.iter().all(|thread| thread.step == Step::Done && (thread.alive || thread.quiet));
                !ended || s.words.iter().all(|word| *word == Word::FREE)
            }),
            Property::sometimes("all ends", |_, s: &State| s.threads.iter().all(|thread| thread.step == Step::Done)),
        ]
    }
}

fn search(setup: &Setup) -> Result<usize, String> {
    let checker = setup.clone().checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    match checker.discoveries().into_iter().find(|(name, _)| *name != "all ends") {
        None => Ok(checker.unique_state_count()),
        Some((name, path)) => Err(format!("{name}: {:?}", path.into_actions())),
    }
}

fn setup(scripts: Vec<Vec<u8>>, entries: usize, crashes: u8) -> Setup {
    Setup { start: [[0; ENTRIES]; 2], scripts, entries, crashes, fault: None }
}

/// Two processes that want one key, and one whose key has to go for it.
fn insertion() -> Setup {
    setup(vec![vec![1, 1], vec![1], vec![2]], 2, 0)
}

fn eviction() -> Setup {
    setup(vec![vec![1, 1], vec![2, 1]], 1, 0)
}

fn crashes() -> Setup {
    setup(vec![vec![1, 1], vec![2, 1], vec![], vec![]], 1, 1)
}

fn recoverer_crashes() -> Setup {
    setup(vec![vec![1], vec![2, 1], vec![], vec![]], 1, 2)
}

/// The key with the greatest fence is evicted, and comes back beside an old fence.
fn return_of_a_key() -> Setup {
    Setup { start: [[2, 1], [3, 1]], ..setup(vec![vec![3], vec![2], vec![2], vec![]], 2, 1) }
}

/// A key moves to the other entry between a look-up and the acquisition.
fn moving_key() -> Setup {
    Setup { start: [[1, 0], [1, 0]], ..setup(vec![vec![1], vec![2], vec![1]], 2, 0) }
}

/// The same, and a process may die between any two writes.
fn moving_key_crashes() -> Setup {
    Setup { start: [[1, 0], [1, 0]], ..setup(vec![vec![1], vec![2], vec![1], vec![]], 2, 1) }
}

#[test]
fn rekey_searches_complete_hold() {
    let with_crashes = [crashes(), recoverer_crashes(), return_of_a_key(), moving_key_crashes()];
    for setup in [insertion(), eviction(), moving_key()].into_iter().chain(with_crashes) {
        match search(&setup) {
            Ok(states) => println!("{:?}: {states} states, complete", setup.scripts),
            Err(broken) => panic!("{setup:?}: {broken}"),
        }
    }
}

#[test]
fn rekey_faults_each_noticed() {
    let noticed = [
        (Fault::InsertWithoutSearch, insertion()),
        (Fault::InsertWithoutGate, insertion()),
        (Fault::NoCompareAfterAcquire, moving_key()),
        (Fault::EvictsHeld, eviction()),
        (Fault::FloorNotRaised, return_of_a_key()),
        (Fault::FenceWrittenLate, return_of_a_key()),
        (Fault::KeyBeforeTag, moving_key_crashes()),
    ];
    let mut missed = Vec::new();
    for (fault, setup) in noticed {
        match search(&Setup { fault: Some(fault), ..setup }) {
            Ok(states) => missed.push((fault, states)),
            Err(broken) => println!("{fault:?}: {}", broken.split(':').next().unwrap_or_default()),
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}
