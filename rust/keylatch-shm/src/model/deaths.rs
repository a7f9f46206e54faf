//! How a death that was not reported finds the key's next holder while the key changes its entry.
//!
//! A reporter has the death of key 1, which stands in entry 0 or in none. An evictor gives entry 0 to another key. Two
//! holders acquire key 1 one after the other, and bring it into entry 1 if they do not find it. Each access is a step, and a
//! process may die before each of its steps in an entry: then the name is removed, and the entry says that a writer died.

use stateright::{Checker, Model, Property};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
struct Entry {
    has_key: bool,
    has_writer: bool,
    died: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Reporter {
    Notes,
    Finds,
    Marks(usize),
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Evictor {
    Claims,
    Notes { died: bool },
    Blanks,
    Drains,
    Leaves,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Holder {
    Begins,
    Finds,
    Enters(usize),
    Claims,
    WritesKey,
    LooksAtGate,
    Marks,
    Forgets,
    Drains(usize),
    Compares { at: usize, died: bool },
    GivesBack { at: usize, died: bool },
    Leaves(usize),
    Done,
}

#[derive(Clone, PartialEq, Eq, Debug, Hash)]
struct State {
    entries: [Entry; 2],
    is_noted: bool,
    reporter: Reporter,
    evictor: Evictor,
    holder: Holder,
    holders: u8,
    /// The present holder began after the report had returned.
    is_due: bool,
    is_reported: bool,
    is_missed: bool,
    crashes: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// The gate gets a note only when the key is found nowhere.
    NotesLate,
    /// The reporter takes its note back when the key stands where it marked.
    TakesNoteBack,
    /// The inserter looks at the gate before it writes the key.
    LooksBeforeKey,
    /// The evictor notes nothing.
    EvictsSilently,
}

/// Where key 1 and the death are at first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Start {
    InEntry,
    Absent,
    /// Its writer was killed, and recovered: no reporter is needed.
    Killed,
}

const STARTS: [Start; 3] = [Start::InEntry, Start::Absent, Start::Killed];

#[derive(Clone, Debug)]
struct Setup {
    start: Start,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Action {
    Report,
    Evict,
    Hold,
    /// The holder's process dies while it is named.
    Crash,
}

impl Setup {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn report(&self, s: &mut State) -> Option<()> {
        s.reporter = match s.reporter {
            Reporter::Notes => {
                s.is_noted |= !self.has(Fault::NotesLate);
                Reporter::Finds
            }
            Reporter::Finds => match s.entries.iter().position(|entry| entry.has_key) {
                Some(at) => Reporter::Marks(at),
                None => {
                    s.is_noted = true;
                    Reporter::Done
                }
            },
            Reporter::Marks(at) => {
                s.entries[at].died = true;
                s.is_noted &= !(self.has(Fault::TakesNoteBack) && s.entries[at].has_key);
                Reporter::Done
            }
            Reporter::Done => return None,
        };
        Some(())
    }

    fn evict(&self, s: &mut State) -> Option<()> {
        s.evictor = match s.evictor {
            Evictor::Claims if s.entries[0].has_writer => return None,
            Evictor::Claims => {
                s.entries[0].has_writer = true;
                Evictor::Notes { died: s.entries[0].died }
            }
            Evictor::Notes { died } => {
                s.is_noted |= died && s.entries[0].has_key && !self.has(Fault::EvictsSilently);
                Evictor::Blanks
            }
            Evictor::Blanks => {
                s.entries[0].has_key = false;
                Evictor::Drains
            }
            Evictor::Drains => {
                s.entries[0].died = false;
                Evictor::Leaves
            }
            Evictor::Leaves => {
                s.entries[0].has_writer = false;
                Evictor::Done
            }
            Evictor::Done => return None,
        };
        Some(())
    }

    fn hold(&self, s: &mut State) -> Option<()> {
        s.holder = match s.holder {
            Holder::Begins => {
                s.is_due = s.reporter == Reporter::Done && !s.is_reported;
                Holder::Finds
            }
            Holder::Finds => s.entries.iter().position(|entry| entry.has_key).map_or(Holder::Claims, Holder::Enters),
            Holder::Enters(at) if s.entries[at].has_writer => return None,
            Holder::Enters(at) => {
                s.entries[at].has_writer = true;
                Holder::Drains(at)
            }
            Holder::Claims if s.entries[1].has_writer => return None,
            Holder::Claims => {
                s.entries[1].has_writer = true;
                if self.has(Fault::LooksBeforeKey) { Holder::LooksAtGate } else { Holder::WritesKey }
            }
            Holder::WritesKey => {
                s.entries[1].has_key = true;
                if self.has(Fault::LooksBeforeKey) { Holder::Drains(1) } else { Holder::LooksAtGate }
            }
            Holder::LooksAtGate if s.is_noted => Holder::Marks,
            Holder::LooksAtGate if self.has(Fault::LooksBeforeKey) => Holder::WritesKey,
            Holder::LooksAtGate => Holder::Drains(1),
            Holder::Marks => {
                s.entries[1].died = true;
                Holder::Forgets
            }
            Holder::Forgets => {
                s.is_noted = false;
                if self.has(Fault::LooksBeforeKey) { Holder::WritesKey } else { Holder::Drains(1) }
            }
            Holder::Drains(at) => {
                let died = std::mem::take(&mut s.entries[at].died);
                Holder::Compares { at, died }
            }
            Holder::Compares { at, died } if s.entries[at].has_key => {
                s.is_missed |= s.is_due && !died;
                s.is_reported |= died;
                Holder::Leaves(at)
            }
            Holder::Compares { at, died } => Holder::GivesBack { at, died },
            Holder::GivesBack { at, died } => {
                s.entries[at].died |= died;
                s.entries[at].has_writer = false;
                Holder::Finds
            }
            Holder::Leaves(at) => {
                s.entries[at].has_writer = false;
                s.holders -= 1;
                if s.holders == 0 { Holder::Done } else { Holder::Begins }
            }
            Holder::Done => return None,
        };
        Some(())
    }

    fn crash(&self, s: &mut State) -> Option<()> {
        let at = match s.holder {
            Holder::WritesKey | Holder::LooksAtGate | Holder::Marks | Holder::Forgets => 1,
            Holder::Drains(at) | Holder::Compares { at, .. } | Holder::GivesBack { at, .. } => at,
            _ => return None,
        };
        s.crashes = s.crashes.checked_sub(1)?;
        s.entries[at] = Entry { has_writer: false, died: true, ..s.entries[at] };
        // The next one begins after the recovery.
        s.holders -= 1;
        s.holder = if s.holders == 0 { Holder::Done } else { Holder::Begins };
        Some(())
    }
}

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let is_killed = self.start == Start::Killed;
        vec![State {
            entries: [
                Entry { has_key: self.start != Start::Absent, has_writer: false, died: is_killed },
                Entry::default(),
            ],
            is_noted: false,
            reporter: if is_killed { Reporter::Done } else { Reporter::Notes },
            evictor: Evictor::Claims,
            holder: Holder::Begins,
            holders: 3,
            is_due: false,
            is_reported: false,
            is_missed: false,
            crashes: 1,
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::Report, Action::Evict, Action::Hold, Action::Crash]);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut s = state.clone();
        match action {
            Action::Report => self.report(&mut s)?,
            Action::Evict => self.evict(&mut s)?,
            Action::Hold => self.hold(&mut s)?,
            Action::Crash => self.crash(&mut s)?,
        }
        Some(s)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no holder misses a death", |_, s: &State| !s.is_missed),
            Property::sometimes("it is reported", |_, s: &State| s.is_reported && s.is_due),
            Property::sometimes("nothing is left of it", |_, s: &State| {
                let is_left = s.is_noted || s.entries.iter().any(|entry| entry.died);
                s.reporter == Reporter::Done && s.is_reported && !is_left
            }),
        ]
    }
}

fn search(start: Start, fault: Option<Fault>) -> bool {
    let checker = Setup { start, fault }.checker().spawn_bfs().join();
    println!("{fault:?}, {start:?}: {} states", checker.unique_state_count());
    checker.discovery("no holder misses a death").is_none()
        && ["it is reported", "nothing is left of it"].iter().all(|property| checker.discovery(property).is_some())
}

#[test]
fn deaths_search_complete_holds() {
    assert!(STARTS.into_iter().all(|start| search(start, None)));
}

#[test]
fn deaths_faults_each_noticed() {
    for fault in [Fault::NotesLate, Fault::TakesNoteBack, Fault::LooksBeforeKey, Fault::EvictsSilently] {
        assert!(!STARTS.into_iter().all(|start| search(start, Some(fault))), "{fault:?} is not noticed");
    }
}
