//! How a hold of a living process is taken away while that process may change it.
//!
//! The holder writes its name, waits for a reader to leave, counts its fence, changes its word some times, and then releases.
//! The acquisition is a change from its first store on; before each later one, the holder says so: that store may wait in the
//! buffer of its processor, which only a swap of its own and a revoker's barrier empty. Asleep for the reader it changes
//! nothing. Revokers ask, run the barrier, look, and
//! take the hold by a swap; each may be killed until then. What follows after that swap is in [`super::revokers`].

use stateright::{Checker, Model, Property};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Mark {
    None,
    /// By whom.
    Asked(usize),
    Revoked,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Holder {
    WritesName,
    /// The reader is there or has left; the swap of a drain.
    Drains,
    CountsFence,
    /// Sleeps, or holds.
    Idle,
    /// Has said that it changes the word.
    Looks,
    TakesBack,
    Changes,
    PutsRecord,
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Revoker {
    Begins,
    Asks(Mark),
    Barrier { asked: bool },
    Looks { asked: bool },
    Undoes,
    Takes,
    RemovesName,
    Ended,
}

#[derive(Clone, PartialEq, Eq, Debug, Hash)]
struct State {
    mark: Mark,
    /// What others see, and what the holder's processor has not shown them yet.
    is_changing: bool,
    buffered: Option<bool>,
    has_name: bool,
    holder: Holder,
    has_reader: bool,
    has_fence: bool,
    changes: u8,
    revokers: [Revoker; 2],
    /// A word was changed that did not have the name any more.
    is_wrong: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// A question is an answer to the holder.
    AskedIsRevoked,
    /// The holder takes a question back without a swap.
    TakesBackBlindly,
    NoBarrier,
    /// A revoker takes another one's question for its own.
    QuestionWithoutName,
    /// The revoker does not look whether the holder changes the word.
    NoLook,
    /// The acquisition counts as ended when the name is in the word.
    EndsBeforeFence,
    /// A holder that slept drains without a look at the mark.
    DrainsUnasked,
    /// A holder counts as one that changes its word while it sleeps for the reader.
    SleepsAsChange,
}

#[derive(Clone, Debug)]
struct Setup(Option<Fault>);

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Action {
    Hold,
    ReaderLeaves,
    /// The processor shows what the holder stored.
    Show,
    Revoke(usize),
    Kill(usize),
}

impl State {
    fn show(&mut self) {
        self.is_changing = self.buffered.take().unwrap_or(self.is_changing);
    }

    fn store(&mut self, is_changing: bool) {
        // In order: an older store is shown first.
        self.show();
        self.buffered = Some(is_changing);
    }

    fn is_over(&self) -> bool {
        self.holder == Holder::Ended && self.revokers == [Revoker::Ended; 2]
    }

    fn remove_name(&mut self) {
        self.is_wrong |= !self.has_name;
        self.has_name = false;
    }
}

impl Setup {
    fn question(&self, which: usize) -> Mark {
        Mark::Asked(if self.0 == Some(Fault::QuestionWithoutName) { 0 } else { which })
    }

    fn hold(&self, s: &mut State) -> Option<()> {
        s.holder = match s.holder {
            Holder::WritesName => {
                s.show();
                s.has_name = true;
                if self.0 == Some(Fault::EndsBeforeFence) {
                    s.store(false);
                }
                Holder::Drains
            }
            Holder::Drains if s.has_reader => {
                if self.0 != Some(Fault::SleepsAsChange) {
                    s.store(false);
                }
                Holder::Idle
            }
            Holder::Drains => Holder::CountsFence,
            Holder::CountsFence => {
                s.is_wrong |= !s.has_name;
                s.has_fence = true;
                s.store(false);
                Holder::Idle
            }
            Holder::Idle if !s.has_fence && s.has_reader => return None,
            Holder::Idle if !s.has_fence && self.0 == Some(Fault::DrainsUnasked) => Holder::Drains,
            Holder::Idle => {
                s.store(true);
                Holder::Looks
            }
            Holder::Looks => match s.mark {
                Mark::None => Holder::Changes,
                Mark::Asked(_) if self.0 == Some(Fault::AskedIsRevoked) => Holder::PutsRecord,
                Mark::Asked(_) => Holder::TakesBack,
                Mark::Revoked => Holder::PutsRecord,
            },
            Holder::TakesBack => {
                s.show();
                if s.mark == Mark::Revoked && self.0 != Some(Fault::TakesBackBlindly) {
                    Holder::PutsRecord
                } else {
                    s.mark = Mark::None;
                    Holder::Changes
                }
            }
            Holder::Changes if !s.has_fence => Holder::Drains,
            Holder::Changes => {
                // The swap of the word.
                s.show();
                s.is_wrong |= !s.has_name;
                if s.changes == 0 {
                    s.remove_name();
                    Holder::PutsRecord
                } else {
                    s.changes -= 1;
                    s.store(false);
                    Holder::Idle
                }
            }
            Holder::PutsRecord => Holder::Ended,
            Holder::Ended => return None,
        };
        Some(())
    }

    fn revoke(&self, s: &mut State, which: usize) -> Option<()> {
        // The record is put back, which a revoker sees.
        let is_current = s.holder != Holder::Ended;
        s.revokers[which] = match s.revokers[which] {
            Revoker::Begins if s.mark == Mark::Revoked => Revoker::Ended,
            Revoker::Begins => Revoker::Asks(s.mark),
            Revoker::Asks(before) => {
                let asked = s.mark == before;
                s.mark = if asked { self.question(which) } else { s.mark };
                Revoker::Barrier { asked }
            }
            Revoker::Barrier { asked } => {
                if self.0 != Some(Fault::NoBarrier) {
                    s.show();
                }
                Revoker::Looks { asked }
            }
            Revoker::Looks { asked } => {
                let is_changing = s.is_changing && self.0 != Some(Fault::NoLook);
                if !asked || !is_current || is_changing { Revoker::Undoes } else { Revoker::Takes }
            }
            Revoker::Undoes => {
                // With the fault, as it once was: the question stays.
                if s.mark == self.question(which) && self.0 != Some(Fault::AskedIsRevoked) {
                    s.mark = Mark::None;
                }
                Revoker::Ended
            }
            Revoker::Takes if s.mark == self.question(which) => {
                s.mark = Mark::Revoked;
                Revoker::RemovesName
            }
            Revoker::Takes => Revoker::Ended,
            Revoker::RemovesName => {
                s.remove_name();
                Revoker::Ended
            }
            Revoker::Ended => return None,
        };
        Some(())
    }
}

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            mark: Mark::None,
            is_changing: true,
            buffered: None,
            has_name: false,
            holder: Holder::WritesName,
            has_reader: true,
            has_fence: false,
            changes: 2,
            revokers: [Revoker::Begins; 2],
            is_wrong: false,
        }]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::Hold, Action::ReaderLeaves, Action::Show, Action::Revoke(0), Action::Revoke(1)]);
        let mortal = |which: &usize| !matches!(s.revokers[*which], Revoker::RemovesName | Revoker::Ended);
        actions.extend((0..2).filter(mortal).map(Action::Kill));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut s = state.clone();
        match action {
            Action::Hold => self.hold(&mut s)?,
            Action::ReaderLeaves => {
                s.has_reader.then_some(())?;
                s.has_reader = false;
            }
            Action::Show => {
                s.buffered?;
                s.show();
            }
            Action::Revoke(which) => self.revoke(&mut s, which)?,
            Action::Kill(which) => s.revokers[which] = Revoker::Ended,
        }
        Some(s)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no word is changed without the name", |_, s: &State| !s.is_wrong),
            Property::always("the name is gone in the end", |_, s: &State| !s.is_over() || !s.has_name),
            Property::sometimes("it is revoked", |_, s: &State| s.mark == Mark::Revoked && !s.has_name),
            Property::sometimes("a writer that waits is revoked", |_, s: &State| {
                s.mark == Mark::Revoked && !s.has_name && s.has_reader
            }),
            Property::sometimes("it is taken back", |_, s: &State| s.holder == Holder::TakesBack),
        ]
    }
}

fn search(fault: Option<Fault>) -> bool {
    let checker = Setup(fault).checker().spawn_bfs().join();
    println!("{fault:?}: {} states", checker.unique_state_count());
    let is_noticed = ["no word is changed without the name", "the name is gone in the end"]
        .iter()
        .any(|property| checker.discovery(property).is_some());
    !is_noticed
        && ["it is revoked", "a writer that waits is revoked", "it is taken back"]
            .iter()
            .all(|property| checker.discovery(property).is_some())
}

#[test]
fn revoking_search_complete_holds() {
    assert!(search(None));
}

#[test]
fn revoking_faults_each_noticed() {
    for fault in [
        Fault::AskedIsRevoked,
        Fault::TakesBackBlindly,
        Fault::NoBarrier,
        Fault::QuestionWithoutName,
        Fault::NoLook,
        Fault::EndsBeforeFence,
        Fault::DrainsUnasked,
        Fault::SleepsAsChange,
    ] {
        assert!(!search(Some(fault)), "{fault:?} is not noticed");
    }
}
