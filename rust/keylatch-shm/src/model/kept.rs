//! How processes of one table keep the `flock` of a file, and give it up to a program that knows nothing of the table.
//!
//! There are two threads that hold the file in turn, of one process or of two. Each has the key in the table while it is at
//! work, unless that is revoked. Each process has a watcher and a timer. The program opens the file, which each watcher
//! reads later. Then it tries the file's exclusive lock once, as the package `filelock` does, or sleeps until it has it,
//! as flock(1) does. Every access to a word and every system call is a step.
//!
//! Busy threads hold the file for ever in turn, each less long than a term. The ends of terms are then steps of all
//! processes together. Two times are long enough for the program to wake if the file is free: the gap that a holder leaves
//! before it releases the key, and the time after a term in which a process keeps nothing. The latter is long enough for the
//! watchers of all processes, too. A timer is set in the term in which the file is locked. So the program has the file before
//! the fourth term ends.

use crate::lock_file::kept::Kept;
use stateright::{Checker, HasDiscoveries, Model, Property};

const PROCESSES: usize = 2;
const THREADS: usize = 2;
/// More than a program has to sleep.
const MANY_TERMS: u8 = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Holder {
    Idle,
    Enter,
    AwaitMutex,
    Look,
    TakeOver(Kept),
    Lock,
    WriteWord,
    BeginTerm,
    Inside,
    Leave,
    AwaitToLeave,
    LookToLeave,
    Unlock,
    ClearWord,
    Gap,
    LeaveTable,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Watcher {
    Listen,
    AwaitMutex,
    Look,
    Swap(Kept),
    Unlock,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Program {
    Open,
    Try,
    Inside,
    Gone,
}

/// Who has the mutex of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Owner {
    Thread(usize),
    Watcher,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
struct Process {
    word: Kept,
    mutex: Option<Owner>,
    /// The kernel's shared lock.
    has_lock: bool,
    watcher: Watcher,
    /// Openings that the watcher has not read.
    opened: bool,
    /// A term has begun.
    term: bool,
    /// The timer of a busy process has run out, and the watcher has not read that.
    ended: bool,
    /// Nothing is kept: a term ended a moment ago.
    breathes: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
struct Thread {
    holder: Holder,
    turns: u8,
    /// The number of its hold.
    hold: u64,
    is_revoked: bool,
    /// It locked the file when it was allowed to keep it.
    may_keep: bool,
    /// It has been at work since before the last term ended.
    stays: bool,
}

impl Thread {
    fn is_inside(&self) -> bool {
        self.holder == Holder::Inside && !self.is_revoked
    }

    /// Whether it does nothing with the file any more unless it is asked.
    fn is_done(&self) -> bool {
        self.turns == 0 && self.holder == Holder::Idle
    }
}

impl Process {
    fn has_read(&self) -> bool {
        self.watcher == Watcher::Listen && !self.opened
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Hash)]
struct State {
    threads: [Thread; THREADS],
    processes: [Process; PROCESSES],
    table: Option<usize>,
    holds: u64,
    revocations: u8,
    program: Program,
    tries: u8,
    /// Whether a holder began to keep the file after the program had opened it.
    kept_since: bool,
    /// Terms that ended while the program slept.
    terms: u8,
    /// Whether a try failed otherwise, when all were done and had read of it.
    starved: bool,
}

/// One way to get a step wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// The watcher does not take the mutex.
    WatchesUnlocked,
    /// The watcher unlocks under a holder.
    IgnoresHolder,
    /// The holder does not take the mutex to lock the file.
    LocksUnlocked,
    /// The holder does not take the mutex to unlock the file.
    LeavesUnlocked,
    /// A holder that was asked keeps the lock.
    KeepsWhenAsked,
    /// The watcher ignores what is opened.
    IgnoresOpening,
    /// What is kept has no term.
    NoTerm,
    /// A term ends in each process on its own.
    OwnTerms,
    /// A holder that unlocks the file releases the key with it.
    NoGap,
    /// A hold that was revoked leaves whatever the word says.
    LeavesForOthers,
    /// A hold does not take the place of one that was revoked.
    LeavesOthersNumber,
    /// A hold takes the place of a later one.
    TakesLaterPlace,
}

#[derive(Clone, Debug)]
struct Setup {
    /// The process of each thread.
    processes: [usize; THREADS],
    turns: u8,
    tries: u8,
    revocations: u8,
    /// The program sleeps until it has the lock.
    sleeps: bool,
    /// Turns do not end.
    busy: bool,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Action {
    Hold(usize),
    /// The holder locks the file, to keep it or not.
    Write(usize, bool),
    /// A holder gives up that finds the file locked.
    GiveUp(usize),
    /// The key is taken away.
    Revoke(usize),
    Watch(usize),
    EndTerm(usize),
    /// The clock of all processes reaches the end of a term.
    EndTerms,
    /// Of one process, where it has a clock of its own.
    EndOwnTerm(usize),
    KeepAgain(usize),
    Go,
}

impl Setup {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn hold(&self, s: &mut State, t: usize) -> Option<()> {
        let excluded = s.program == Program::Inside;
        let wakes = self.wakes(s);
        let table = s.table;
        let (thread, process) = (&mut s.threads[t], &mut s.processes[self.processes[t]]);
        let hold = thread.hold;
        let await_mutex = |process: &mut Process, fault| {
            if self.has(fault) {
                return Some(());
            }
            process.mutex.is_none().then(|| process.mutex = Some(Owner::Thread(t)))
        };
        thread.holder = match thread.holder {
            Holder::Idle => {
                if table.is_some() || thread.turns == 0 {
                    return None;
                }
                thread.is_revoked = false;
                if self.busy {
                    // None is revoked, so what matters is that another has another.
                    thread.hold = t as u64 + 1;
                } else {
                    thread.turns -= 1;
                    s.holds += 1;
                    thread.hold = s.holds;
                }
                s.table = Some(t);
                Holder::Enter
            }
            Holder::Enter if process.word == Kept::IDLE => {
                process.word = Kept::held(hold);
                Holder::Inside
            }
            Holder::Enter => Holder::AwaitMutex,
            Holder::AwaitMutex => {
                await_mutex(process, Fault::LocksUnlocked)?;
                Holder::Look
            }
            Holder::Look if process.word == Kept::NOTHING => Holder::Lock,
            Holder::Look => Holder::TakeOver(process.word),
            Holder::TakeOver(seen) if process.word != seen => Holder::Look,
            Holder::TakeOver(seen) => {
                process.word = match seen.taken(hold)? {
                    _ if self.has(Fault::LeavesOthersNumber) && seen != Kept::IDLE => seen,
                    _ if self.has(Fault::TakesLaterPlace) => Kept::held(hold),
                    taken => taken,
                };
                process.release(t);
                Holder::Inside
            }
            Holder::Lock => {
                if excluded {
                    return None;
                }
                process.has_lock = true;
                thread.may_keep = !process.breathes;
                Holder::WriteWord
            }
            Holder::WriteWord => return None,
            Holder::BeginTerm => {
                process.term = !self.has(Fault::NoTerm);
                Holder::Inside
            }
            Holder::Inside => Holder::Leave,
            Holder::Leave => {
                let stays = process.word == Kept::held(hold)
                    || self.has(Fault::KeepsWhenAsked) && process.word != Kept::locked(hold, false);
                if stays {
                    process.word = Kept::IDLE;
                    Holder::LeaveTable
                } else {
                    Holder::AwaitToLeave
                }
            }
            Holder::AwaitToLeave => {
                await_mutex(process, Fault::LeavesUnlocked)?;
                Holder::LookToLeave
            }
            Holder::LookToLeave if process.word.is_unlocked_by(hold) || self.has(Fault::LeavesForOthers) => {
                Holder::Unlock
            }
            Holder::LookToLeave => {
                process.release(t);
                Holder::LeaveTable
            }
            Holder::Unlock => {
                process.has_lock = false;
                Holder::ClearWord
            }
            Holder::ClearWord => {
                process.word = Kept::NOTHING;
                process.release(t);
                if self.busy && !self.has(Fault::NoGap) { Holder::Gap } else { Holder::LeaveTable }
            }
            // Long enough for the program to wake.
            Holder::Gap if wakes => return None,
            Holder::Gap => Holder::LeaveTable,
            Holder::LeaveTable => {
                thread.stays = false;
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
        if thread.holder != Holder::WriteWord || keep && !thread.may_keep {
            return None;
        }
        thread.may_keep = false;
        process.word = Kept::locked(thread.hold, keep);
        process.release(t);
        thread.holder = if keep { Holder::BeginTerm } else { Holder::Inside };
        s.kept_since |= keep;
        Some(())
    }

    fn give_up(&self, s: &mut State, t: usize) -> Option<()> {
        if s.threads[t].holder != Holder::Lock || s.program != Program::Inside {
            return None;
        }
        s.processes[self.processes[t]].release(t);
        s.threads[t].holder = Holder::LeaveTable;
        Some(())
    }

    /// The hold stays inside, and another may have the key.
    fn revoke(s: &mut State, t: usize) -> Option<()> {
        if s.revocations == 0 || s.table != Some(t) {
            return None;
        }
        s.revocations -= 1;
        s.table = None;
        s.threads[t].is_revoked = true;
        Some(())
    }

    fn end_term(&self, s: &mut State, p: usize) -> Option<()> {
        let process = &mut s.processes[p];
        if !process.term || process.watcher != Watcher::Listen || self.busy && !process.ended {
            return None;
        }
        process.term = false;
        process.ended = false;
        process.watcher = Watcher::AwaitMutex;
        Some(())
    }

    /// Whether a program that sleeps finds the file free.
    fn wakes(&self, s: &State) -> bool {
        self.sleeps && s.program == Program::Try && !s.processes.iter().any(|process| process.has_lock)
    }

    /// Whether all that the end of a term began is over.
    ///
    /// Who was at work then is not any more.
    fn is_mid_term(&self, s: &State) -> bool {
        let is_quiet = |process: &Process| process.has_read() && !process.ended && !process.breathes;
        let is_slow = |thread: &Thread| thread.stays || matches!(thread.holder, Holder::WriteWord | Holder::BeginTerm);
        self.busy && s.processes.iter().all(is_quiet) && !s.threads.iter().any(is_slow) && !self.wakes(s)
    }

    fn end_terms(&self, s: &mut State) -> Option<()> {
        if self.has(Fault::OwnTerms) || !self.is_mid_term(s) {
            return None;
        }
        for process in &mut s.processes {
            process.ended = process.term;
            process.breathes = true;
        }
        self.count_term(s);
        Some(())
    }

    fn end_own_term(&self, s: &mut State, p: usize) -> Option<()> {
        if !self.has(Fault::OwnTerms) || !self.is_mid_term(s) || !s.processes[p].term {
            return None;
        }
        s.processes[p].ended = true;
        s.processes[p].breathes = true;
        self.count_term(s);
        Some(())
    }

    fn count_term(&self, s: &mut State) {
        s.threads.iter_mut().for_each(|thread| thread.stays = thread.holder != Holder::Idle);
        s.terms += u8::from(s.program == Program::Try && s.terms < MANY_TERMS);
    }

    fn keep_again(&self, s: &mut State, p: usize) -> Option<()> {
        let is_over = s.processes.iter().all(|process| process.has_read() && !process.ended);
        if !s.processes[p].breathes || !is_over || self.wakes(s) {
            return None;
        }
        s.processes[p].breathes = false;
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
                if self.has(Fault::IgnoresOpening) { Watcher::Listen } else { Watcher::AwaitMutex }
            }
            Watcher::AwaitMutex => {
                if !self.has(Fault::WatchesUnlocked) {
                    process.mutex.is_none().then(|| process.mutex = Some(Owner::Watcher))?;
                }
                Watcher::Look
            }
            Watcher::Look => Watcher::Swap(process.word),
            Watcher::Swap(seen) => match seen.asked() {
                Some(_) if process.word != seen => Watcher::Look,
                Some(_) if self.has(Fault::IgnoresHolder) => Watcher::Unlock,
                Some(next) => {
                    process.word = next;
                    if next == Kept::NOTHING { Watcher::Unlock } else { process.watched() }
                }
                None => process.watched(),
            },
            Watcher::Unlock => {
                process.has_lock = false;
                process.word = Kept::NOTHING;
                process.watched()
            }
        };
        Some(())
    }

    fn go(&self, s: &mut State) -> Option<()> {
        let is_locked = s.processes.iter().any(|process| process.has_lock);
        s.program = match s.program {
            Program::Open => {
                s.processes.iter_mut().for_each(|process| process.opened = true);
                s.kept_since = false;
                Program::Try
            }
            Program::Try if !is_locked => Program::Inside,
            Program::Try if self.sleeps => return None,
            Program::Try => {
                let is_free = s.threads.iter().all(Thread::is_done) && s.processes.iter().all(Process::has_read);
                s.starved |= is_free && !s.kept_since;
                if s.tries == 0 {
                    Program::Gone
                } else {
                    s.tries -= 1;
                    Program::Open
                }
            }
            Program::Inside => Program::Gone,
            Program::Gone => return None,
        };
        Some(())
    }

    /// Whether the program sleeps for a file that none will give up.
    fn sleeps_for_ever(&self, s: &State) -> bool {
        let is_quiet = |process: &Process| process.has_read() && !process.term;
        self.sleeps
            && s.program == Program::Try
            && s.threads.iter().all(Thread::is_done)
            && s.processes.iter().all(is_quiet)
            && s.processes.iter().any(|process| process.has_lock)
    }
}

impl Process {
    fn release(&mut self, t: usize) {
        if self.mutex == Some(Owner::Thread(t)) {
            self.mutex = None;
        }
    }

    fn watched(&mut self) -> Watcher {
        if self.mutex == Some(Owner::Watcher) {
            self.mutex = None;
        }
        Watcher::Listen
    }
}

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let process = Process {
            word: Kept::NOTHING,
            mutex: None,
            has_lock: false,
            watcher: Watcher::Listen,
            opened: false,
            term: false,
            ended: false,
            breathes: false,
        };
        let thread = Thread {
            holder: Holder::Idle,
            turns: self.turns,
            hold: 0,
            is_revoked: false,
            may_keep: false,
            stays: false,
        };
        vec![State {
            threads: [thread; THREADS],
            processes: [process; PROCESSES],
            table: None,
            holds: 0,
            revocations: self.revocations,
            program: Program::Open,
            tries: self.tries,
            kept_since: false,
            terms: 0,
            starved: false,
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::Go, Action::EndTerms]);
        for t in 0..THREADS {
            let writes = [true, false].map(|keep| Action::Write(t, keep));
            actions.extend([Action::Hold(t), Action::GiveUp(t), Action::Revoke(t)].into_iter().chain(writes));
        }
        let own = |p| [Action::Watch(p), Action::EndTerm(p), Action::EndOwnTerm(p), Action::KeepAgain(p)];
        actions.extend((0..PROCESSES).flat_map(own));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut s = state.clone();
        match action {
            Action::Hold(t) => self.hold(&mut s, t)?,
            Action::Write(t, keep) => self.write(&mut s, t, keep)?,
            Action::GiveUp(t) => self.give_up(&mut s, t)?,
            Action::Revoke(t) => Self::revoke(&mut s, t)?,
            Action::Watch(p) => self.watch(&mut s, p)?,
            Action::EndTerm(p) => self.end_term(&mut s, p)?,
            Action::EndTerms => self.end_terms(&mut s)?,
            Action::EndOwnTerm(p) => self.end_own_term(&mut s, p)?,
            Action::KeepAgain(p) => self.keep_again(&mut s, p)?,
            Action::Go => self.go(&mut s)?,
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
            Property::always("no program sleeps for ever", |setup: &Self, s: &State| !setup.sleeps_for_ever(s)),
            Property::always("no program starves", |_, s: &State| s.terms < MANY_TERMS),
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

fn setups() -> Vec<Setup> {
    let setup =
        |processes, sleeps| Setup { processes, turns: 2, tries: 2, revocations: 0, sleeps, busy: false, fault: None };
    let revoked = |sleeps| Setup { revocations: 1, tries: 0, ..setup([0, 0], sleeps) };
    let plain = [[0, 1], [0, 0]].into_iter().flat_map(|processes| [true, false].map(|sleeps| setup(processes, sleeps)));
    let busy = [[0, 1], [0, 0]].map(|processes| Setup { busy: true, tries: 0, ..setup(processes, true) });
    plain.chain([true, false].map(revoked)).chain(busy).collect()
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
        Fault::WatchesUnlocked,
        Fault::IgnoresHolder,
        Fault::LocksUnlocked,
        Fault::LeavesUnlocked,
        Fault::KeepsWhenAsked,
        Fault::IgnoresOpening,
        Fault::NoTerm,
        Fault::OwnTerms,
        Fault::NoGap,
        Fault::LeavesForOthers,
        Fault::LeavesOthersNumber,
        Fault::TakesLaterPlace,
    ];
    let mut missed = Vec::new();
    for fault in faults {
        let broken = setups().into_iter().rev().find_map(|setup| search(&Setup { fault: Some(fault), ..setup }).err());
        match broken {
            None => missed.push(fault),
            Some(broken) => println!("{fault:?}: {}", broken.split(':').next().unwrap_or_default()),
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}
