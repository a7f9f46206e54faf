//! How threads of one member share its name in a word, and how the last of them becomes the writer.
//!
//! Two threads of one member share an entry, and each tries to become its writer. A thread of another member tries to
//! have it alone. A revoker takes one shared hold away. Every access to the word is a step; the member's mutex is held from
//! the first look to the swap.

use crate::word::{MemberId, Word};
use stateright::{Checker, HasDiscoveries, Model, Property};

const THREADS: usize = 3;
/// The thread of the other member.
const OTHER: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Step {
    Idle,
    Enter,
    EnterSwap(Word),
    Shares,
    Upgrade,
    UpgradeSwap(Word),
    Leave,
    LeaveLocked,
    LeaveSwap(Word),
    Writes,
}

/// Where the revoker of a thread's hold stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Revoker {
    Idle,
    Mark(usize),
    /// Each thread has begun its release by now, or sees the mark.
    Remove(usize, Word),
    Unmark(usize),
    Done,
}

#[derive(Clone, PartialEq, Eq, Debug, Hash)]
struct State {
    revoker: Revoker,
    /// The thread whose hold bears the mark.
    marked: Option<usize>,
    /// A thread released a hold that bore a mark, which was then taken back.
    ///
    /// Its name stays until the process ends.
    leaked: bool,
    word: Word,
    /// Threads behind the name.
    named: u32,
    mutex: Option<usize>,
    steps: [Step; THREADS],
    turns: [u8; THREADS],
    /// An upgrade was refused though no other thread used the entry.
    refused_alone: bool,
    upgraded_after_sharing: bool,
}

/// One way to get a step wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// The mark of a shared name counts as a second thread.
    TrustsTheMark,
    /// The second thread is not counted.
    MissesSecond,
    /// The count stays when the name becomes the writer's.
    KeepsTheCount,
    /// The upgrade does not take the mutex.
    UpgradesUnlocked,
    /// The revoker removes a name that another thread has joined.
    RemovesJoined,
}

struct Setup(Option<Fault>);

fn member(t: usize) -> MemberId {
    MemberId::at(usize::from(t == OTHER))
}

impl Setup {
    fn has(&self, fault: Fault) -> bool {
        self.0 == Some(fault)
    }

    fn step(&self, s: &mut State, t: usize) -> Option<()> {
        let me = member(t);
        let lock = |s: &mut State| s.mutex.is_none().then(|| s.mutex = Some(t));
        let swap = |s: &mut State, from: Word, to: Word| (s.word == from).then(|| s.word = to).is_some();
        let step = s.steps[t];
        s.steps[t] = match step {
            Step::Idle => {
                s.turns[t] = s.turns[t].checked_sub(1)?;
                Step::Enter
            }
            Step::Enter if t == OTHER => {
                if swap(s, Word::FREE, Word::only_writer(me)) {
                    Step::Writes
                } else {
                    Step::Idle
                }
            }
            // The fast path needs no mutex.
            Step::Enter if swap(s, Word::FREE, Word::only_reader(me)) => Step::Shares,
            Step::Enter => {
                lock(s)?;
                Step::EnterSwap(s.word)
            }
            Step::EnterSwap(seen) if !seen.is_open_to(me) => {
                s.mutex = None;
                Step::Idle
            }
            Step::EnterSwap(seen) => {
                let wanted = if seen.is_reader(me) { seen.joined(me) } else { seen.with_reader(me)? };
                if wanted != seen && !swap(s, seen, wanted) {
                    Step::EnterSwap(s.word)
                } else {
                    if seen.is_reader(me) {
                        s.named = if seen.is_joined(me) { s.named + 1 } else { 2 };
                        s.named -= u32::from(self.has(Fault::MissesSecond));
                    }
                    s.mutex = None;
                    Step::Shares
                }
            }
            Step::Shares => return None,
            Step::Upgrade if s.marked == Some(t) => Step::Shares,
            Step::Upgrade => {
                if !self.has(Fault::UpgradesUnlocked) {
                    lock(s)?;
                }
                Step::UpgradeSwap(s.word)
            }
            Step::UpgradeSwap(seen) => {
                let threads = if self.has(Fault::TrustsTheMark) { u32::MAX } else { s.named };
                let uses = |other: &usize| !matches!(s.steps[*other], Step::Idle | Step::Writes);
                let is_alone = !(0..THREADS).filter(|other| *other != t).any(|other| uses(&other));
                match seen.upgraded(me, threads) {
                    None => {
                        s.refused_alone |= is_alone && s.word.writer().is_none() && s.is_settled();
                        s.unlock(t);
                        Step::Shares
                    }
                    Some(wanted) if swap(s, seen, wanted) => {
                        s.upgraded_after_sharing |= seen.is_joined(me);
                        if !self.has(Fault::KeepsTheCount) {
                            s.named = 0;
                        }
                        s.unlock(t);
                        Step::Writes
                    }
                    Some(_) => Step::UpgradeSwap(s.word),
                }
            }
            Step::Writes => {
                let free = s.word.without_writer(me);
                s.word = free;
                Step::Idle
            }
            // The release sees the mark, and touches nothing.
            Step::Leave if s.marked == Some(t) => {
                // Its next hold has another number.
                s.marked = None;
                Step::Idle
            }
            Step::Leave if swap(s, Word::only_reader(me), Word::FREE) => Step::Idle,
            Step::Leave => {
                lock(s)?;
                Step::LeaveLocked
            }
            Step::LeaveLocked => {
                let joined = s.word.is_joined(me);
                if joined {
                    s.named = s.named.saturating_sub(1);
                }
                if joined && s.named > 0 {
                    s.unlock(t);
                    Step::Idle
                } else {
                    Step::LeaveSwap(s.word)
                }
            }
            Step::LeaveSwap(seen) if swap(s, seen, seen.without_reader(me)) => {
                s.unlock(t);
                Step::Idle
            }
            Step::LeaveSwap(_) => Step::LeaveSwap(s.word),
        };
        Some(())
    }
}

impl Setup {
    fn revoke(&self, s: &mut State) -> Option<()> {
        let me = member(0);
        s.revoker = match s.revoker {
            Revoker::Idle => {
                // The listing has shown a shared hold of a thread that is not changing it.
                let victim = (0..OTHER).find(|t| s.steps[*t] == Step::Shares)?;
                if s.word.is_joined(me) { Revoker::Done } else { Revoker::Mark(victim) }
            }
            Revoker::Mark(victim) => {
                if s.steps[victim] != Step::Shares {
                    Revoker::Done
                } else {
                    s.marked = Some(victim);
                    Revoker::Remove(victim, s.word)
                }
            }
            Revoker::Remove(victim, seen) => match seen.without_lone_reader(me) {
                None if !self.has(Fault::RemovesJoined) => Revoker::Unmark(victim),
                without if s.word == seen => {
                    s.word = without.unwrap_or(seen.without_reader(me));
                    Revoker::Done
                }
                _ => Revoker::Remove(victim, s.word),
            },
            Revoker::Unmark(_) => {
                s.leaked |= s.marked.is_none();
                s.marked = None;
                Revoker::Done
            }
            Revoker::Done => return None,
        };
        Some(())
    }
}

impl State {
    /// Whether no revocation is under way, and none has left a name behind.
    fn is_settled(&self) -> bool {
        matches!(self.revoker, Revoker::Idle | Revoker::Done) && !self.leaked
    }

    fn unlock(&mut self, t: usize) {
        if self.mutex == Some(t) {
            self.mutex = None;
        }
    }

    fn holds(&self, t: usize) -> bool {
        let shares = matches!(self.steps[t], Step::Shares | Step::Upgrade | Step::UpgradeSwap(_) | Step::Leave);
        (shares || self.steps[t] == Step::Writes) && self.marked != Some(t)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Action {
    Step(usize),
    Upgrade(usize),
    Leave(usize),
    Revoke,
}

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let (steps, turns) = ([Step::Idle; THREADS], [2; THREADS]);
        let word = Word::FREE;
        vec![State {
            revoker: Revoker::Idle,
            marked: None,
            leaked: false,
            word,
            named: 0,
            mutex: None,
            steps,
            turns,
            refused_alone: false,
            upgraded_after_sharing: false,
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Revoke);
        actions.extend((0..THREADS).flat_map(|t| [Action::Step(t), Action::Upgrade(t), Action::Leave(t)]));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut s = state.clone();
        match action {
            Action::Step(t) => self.step(&mut s, t)?,
            Action::Revoke => self.revoke(&mut s)?,
            Action::Upgrade(t) | Action::Leave(t) if s.steps[t] != Step::Shares => return None,
            Action::Upgrade(t) => s.steps[t] = Step::Upgrade,
            Action::Leave(t) => s.steps[t] = Step::Leave,
        }
        Some(s)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a writer is alone", |_, s: &State| {
                let holders = (0..THREADS).filter(|t| s.holds(*t)).count();
                holders <= 1 || !s.steps.contains(&Step::Writes)
            }),
            Property::always("nothing is left behind", |_, s: &State| {
                let is_at_rest = s.steps.iter().all(|step| *step == Step::Idle) && s.is_settled();
                !is_at_rest || s.word == Word::FREE && s.named == 0
            }),
            Property::always("who is alone becomes the writer", |_, s: &State| !s.refused_alone),
            Property::sometimes("a name that was shared becomes the writer's", |_, s: &State| s.upgraded_after_sharing),
        ]
    }
}

fn search(fault: Option<Fault>) -> Result<usize, String> {
    let checker = Setup(fault).checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let hoped = "a name that was shared becomes the writer's";
    let discoveries = checker.discoveries();
    match discoveries.iter().find(|(name, _)| **name != hoped) {
        Some((name, path)) => Err(format!("{name}: {:?}", path.clone().into_actions())),
        None if discoveries.is_empty() => Err("something is never reached".into()),
        None => Ok(checker.unique_state_count()),
    }
}

#[test]
fn sharers_search_complete_holds() {
    let states = search(None).unwrap_or_else(|broken| panic!("{broken}"));
    println!("sharers: {states} states, complete");
}

#[test]
fn sharers_faults_each_noticed() {
    let faults = [
        Fault::TrustsTheMark,
        Fault::MissesSecond,
        Fault::KeepsTheCount,
        Fault::UpgradesUnlocked,
        Fault::RemovesJoined,
    ];
    for fault in faults {
        let broken = search(Some(fault)).expect_err("a fault");
        println!("{fault:?}: {}", broken.split(':').next().unwrap_or_default());
    }
}
