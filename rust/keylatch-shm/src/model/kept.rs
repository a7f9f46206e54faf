//! How processes of one table keep the `flock` of a file, and give it up to a program that knows nothing of the table.
//!
//! There are two threads that hold the file in turn, of one process or of two. Each has the key in the table while it is at
//! work. Each process has a watcher. The program opens the file,
//! which each watcher hears of later, and then tries the file's exclusive lock once, as the package `filelock` does. Every
//! access to a word and every system call is a step.

use crate::lock_file::kept::Kept;
use stateright::{Checker, HasDiscoveries, Model, Property};

const PROCESSES: usize = 2;
const THREADS: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Holder {
    Idle,
    Enter,
    AwaitWatcher,
    Lock,
    WriteWord,
    Inside,
    Leave,
    Unlock,
    ClearWord,
    LeaveTable,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Watcher {
    Listen,
    Look,
    Swap(Kept),
    Unlock,
    ClearWord,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Program {
    Open,
    Try,
    Inside,
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
struct Process {
    word: Kept,
    /// The kernel's shared lock.
    has_lock: bool,
    watcher: Watcher,
    /// Openings that the watcher has not heard of.
    opened: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
struct Thread {
    holder: Holder,
    turns: u8,
}

impl Thread {
    fn is_inside(&self) -> bool {
        self.holder == Holder::Inside
    }

    /// Whether it does nothing with the file any more unless it is asked.
    fn is_done(&self) -> bool {
        self.turns == 0 && self.holder == Holder::Idle
    }
}

impl Process {
    fn has_heard(&self) -> bool {
        self.watcher == Watcher::Listen && !self.opened
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Hash)]
struct State {
    threads: [Thread; THREADS],
    processes: [Process; PROCESSES],
    table: Option<usize>,
    program: Program,
    tries: u8,
    /// Whether a holder began to keep the file after the program had opened it.
    kept_since: bool,
    /// Whether a try failed otherwise, when all were done and had heard of it.
    starved: bool,
}

/// One way to get a step wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// The watcher unlocks without a word that says so.
    UnlocksUnannounced,
    /// The watcher unlocks under a holder.
    IgnoresHolder,
    /// The holder does not wait until the watcher has unlocked.
    DoesNotAwait,
    /// A holder that was asked keeps the lock.
    KeepsWhenAsked,
    /// The watcher does not hear.
    Deaf,
    /// The key is released before the file is left.
    TableFirst,
}

#[derive(Clone, Debug)]
struct Setup {
    /// The process of each thread.
    processes: [usize; THREADS],
    turns: u8,
    tries: u8,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Action {
    Hold(usize),
    /// The holder locks the file, to keep it or not.
    Write(usize, bool),
    /// A holder gives up that finds the file locked.
    GiveUp(usize),
    Watch(usize),
    Go,
}

impl Setup {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn hold(&self, s: &mut State, t: usize) -> Option<()> {
        let excluded = s.program == Program::Inside;
        let table = s.table;
        let (thread, process) = (&mut s.threads[t], &mut s.processes[self.processes[t]]);
        thread.holder = match thread.holder {
            Holder::Idle => {
                if table.is_some() || thread.turns == 0 {
                    return None;
                }
                thread.turns -= 1;
                s.table = Some(t);
                Holder::Enter
            }
            Holder::Enter if process.word == Kept::IDLE => {
                process.word = Kept::HELD;
                Holder::Inside
            }
            Holder::Enter => Holder::AwaitWatcher,
            Holder::AwaitWatcher => {
                if process.word.is_busy() && !self.has(Fault::DoesNotAwait) {
                    return None;
                }
                Holder::Lock
            }
            Holder::Lock => {
                if excluded {
                    return None;
                }
                process.has_lock = true;
                Holder::WriteWord
            }
            Holder::WriteWord => return None,
            Holder::Inside => Holder::Leave,
            Holder::Leave if self.has(Fault::TableFirst) && table == Some(t) => {
                s.table = None;
                Holder::Leave
            }
            Holder::Leave => {
                let stays = process.word == Kept::HELD
                    || self.has(Fault::KeepsWhenAsked) && process.word != Kept::locked(false);
                if stays {
                    process.word = Kept::IDLE;
                    Holder::LeaveTable
                } else {
                    Holder::Unlock
                }
            }
            Holder::Unlock => {
                process.has_lock = false;
                Holder::ClearWord
            }
            Holder::ClearWord => {
                process.word = Kept::NOTHING;
                Holder::LeaveTable
            }
            Holder::LeaveTable => {
                if table == Some(t) {
                    s.table = None;
                }
                Holder::Idle
            }
        };
        Some(())
    }

    fn write(&self, s: &mut State, t: usize, keep: bool) -> Option<()> {
        let (thread, process) = (&mut s.threads[t], &mut s.processes[self.processes[t]]);
        if thread.holder != Holder::WriteWord {
            return None;
        }
        process.word = Kept::locked(keep);
        thread.holder = Holder::Inside;
        s.kept_since |= keep;
        Some(())
    }

    fn watch(&self, s: &mut State, p: usize) -> Option<()> {
        let process = &mut s.processes[p];
        process.watcher = match process.watcher {
            Watcher::Listen => {
                if !process.opened {
                    return None;
                }
                process.opened = false;
                if self.has(Fault::Deaf) { Watcher::Listen } else { Watcher::Look }
            }
            Watcher::Look => Watcher::Swap(process.word),
            Watcher::Swap(seen) => match seen.asked() {
                None => Watcher::Listen,
                Some(_) if process.word != seen => Watcher::Look,
                Some(_) if self.has(Fault::IgnoresHolder) => Watcher::Unlock,
                Some(next) if next.is_busy() => {
                    process.word = if self.has(Fault::UnlocksUnannounced) { Kept::NOTHING } else { next };
                    Watcher::Unlock
                }
                Some(next) => {
                    process.word = next;
                    Watcher::Listen
                }
            },
            Watcher::Unlock => {
                process.has_lock = false;
                Watcher::ClearWord
            }
            Watcher::ClearWord => {
                if !self.has(Fault::UnlocksUnannounced) {
                    process.word = Kept::NOTHING;
                }
                Watcher::Listen
            }
        };
        Some(())
    }

    fn go(s: &mut State) -> Option<()> {
        s.program = match s.program {
            Program::Open => {
                s.processes.iter_mut().for_each(|process| process.opened = true);
                s.kept_since = false;
                Program::Try
            }
            Program::Try => {
                if !s.processes.iter().any(|process| process.has_lock) {
                    Program::Inside
                } else {
                    let is_free = s.threads.iter().all(Thread::is_done) && s.processes.iter().all(Process::has_heard);
                    s.starved |= is_free && !s.kept_since;
                    if s.tries == 0 {
                        Program::Gone
                    } else {
                        s.tries -= 1;
                        Program::Open
                    }
                }
            }
            Program::Inside => Program::Gone,
            Program::Gone => return None,
        };
        Some(())
    }
}

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let process = Process { word: Kept::NOTHING, has_lock: false, watcher: Watcher::Listen, opened: false };
        let threads = [Thread { holder: Holder::Idle, turns: self.turns }; THREADS];
        let (processes, program) = ([process; PROCESSES], Program::Open);
        vec![State { threads, processes, table: None, program, tries: self.tries, kept_since: false, starved: false }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Go);
        for t in 0..THREADS {
            let writes = [true, false].map(|keep| Action::Write(t, keep));
            actions.extend([Action::Hold(t), Action::GiveUp(t)].into_iter().chain(writes));
        }
        actions.extend((0..PROCESSES).map(Action::Watch));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut s = state.clone();
        match action {
            Action::Hold(t) => self.hold(&mut s, t)?,
            Action::Write(t, keep) => self.write(&mut s, t, keep)?,
            Action::GiveUp(t) => {
                if s.threads[t].holder != Holder::Lock || s.program != Program::Inside {
                    return None;
                }
                s.threads[t].holder = Holder::LeaveTable;
            }
            Action::Watch(p) => self.watch(&mut s, p)?,
            Action::Go => Self::go(&mut s)?,
        }
        Some(s)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one is inside", |_, s: &State| {
                let inside = s.threads.iter().filter(|thread| thread.is_inside()).count();
                inside + usize::from(s.program == Program::Inside) <= 1
            }),
            Property::always("who is inside has the lock", |setup: &Self, s: &State| {
                let has_lock = |t: usize| s.processes[setup.processes[t]].has_lock;
                (0..THREADS).all(|t| has_lock(t) || !s.threads[t].is_inside())
            }),
            Property::always("nothing is kept that was asked for", |_, s: &State| !s.starved),
            Property::sometimes("the lock is kept", |_, s: &State| {
                s.processes.iter().any(|process| process.word == Kept::IDLE)
            }),
            Property::sometimes("the program is inside", |_, s: &State| s.program == Program::Inside),
        ]
    }
}

fn search(setup: &Setup) -> Result<usize, String> {
    let checker = setup.clone().checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let hoped = ["the lock is kept", "the program is inside"];
    match checker.discoveries().into_iter().find(|(name, _)| !hoped.contains(name)) {
        None => {
            assert_eq!(checker.discoveries().len(), hoped.len(), "something is never reached");
            Ok(checker.unique_state_count())
        }
        Some((name, path)) => Err(format!("{name}: {:?}", path.into_actions())),
    }
}

fn setups() -> [Setup; 2] {
    [[0, 1], [0, 0]].map(|processes| Setup { processes, turns: 2, tries: 2, fault: None })
}

#[test]
fn kept_search_complete_holds() {
    for setup in setups() {
        let states = search(&setup).unwrap_or_else(|broken| panic!("{setup:?}: {broken}"));
        println!("{setup:?}: {states} states, complete");
    }
}

#[test]
fn kept_faults_each_noticed() {
    let faults = [
        Fault::UnlocksUnannounced,
        Fault::IgnoresHolder,
        Fault::DoesNotAwait,
        Fault::KeepsWhenAsked,
        Fault::Deaf,
        Fault::TableFirst,
    ];
    let mut missed = Vec::new();
    for fault in faults {
        let broken = setups().into_iter().find_map(|setup| search(&Setup { fault: Some(fault), ..setup }).err());
        match broken {
            None => missed.push(fault),
            Some(broken) => println!("{fault:?}: {}", broken.split(':').next().unwrap_or_default()),
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}
