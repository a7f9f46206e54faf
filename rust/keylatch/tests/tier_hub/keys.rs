//! What the hub knows of each key: permits and asks, in order.

use super::stronger;
use keylatch::tier::{Answer, Effort, Fences, PermitId, Term, TierEvents};
use keylatch::{Mode, ObjectKey};
use std::collections::HashMap;

/// An ask as it travels.
pub(crate) struct Wish {
    pub(crate) id: PermitId,
    pub(crate) key: ObjectKey,
    pub(crate) mode: Mode,
    pub(crate) term: Term,
    pub(crate) replaces: Option<PermitId>,
}

/// What the hub says to a process.
#[derive(Debug)]
pub(crate) enum Event {
    Answered(PermitId, Answer),
    Withdrawn(PermitId),
    Recalled(PermitId, Mode),
    Lost(PermitId),
    AllLost(Term),
    Renewed(Term),
}

impl Event {
    pub(crate) fn deliver(self, events: &dyn TierEvents) {
        match self {
            Self::Answered(id, answer) => events.answered(id, answer),
            Self::Withdrawn(id) => events.withdrawn(id),
            Self::Recalled(id, wanted) => events.recalled(id, wanted),
            Self::Lost(id) => events.lost(id),
            Self::AllLost(term) => events.all_lost(term),
            Self::Renewed(term) => events.renewed(term),
        }
    }
}

type Events = Vec<(usize, Event)>;

/// An ask, or the permit that it became.
struct Place {
    process: usize,
    id: PermitId,
    mode: Mode,
    granted: bool,
    upgrades: bool,
    /// What the process was informed that others want.
    recalled: Option<Mode>,
}

impl Place {
    /// Numbers are each process's own.
    fn name(&self) -> (usize, PermitId) {
        (self.process, self.id)
    }
}

#[derive(Default)]
struct Key {
    line: Vec<Place>,
    /// The last number given out.
    fence: u64,
    /// A process died, which the next grant says.
    died: bool,
}

impl Key {
    fn fences(&mut self, count: u32) -> Answer {
        let first = self.fence + 1;
        self.fence += u64::from(count);
        Answer::Granted { fences: Fences { first, count }, previous_died: std::mem::take(&mut self.died) }
    }

    fn place(&mut self, process: usize, id: PermitId) -> Option<&mut Place> {
        self.line.iter_mut().find(|place| place.process == process && place.id == id)
    }

    fn granted(&self) -> impl Iterator<Item = &Place> {
        self.line.iter().filter(|place| place.granted)
    }

    fn is_free_for(&self, mode: Mode) -> bool {
        self.granted().all(|place| place.mode.goes_with(mode)) && !self.line.iter().any(|place| place.upgrades)
    }

    /// Grants what can be granted and recalls what is in the way.
    ///
    /// Returns the answer to `own` instead of an event.
    fn settle(&mut self, count: u32, own: Option<(usize, PermitId)>, events: &mut Events) -> Option<Answer> {
        let mut answer = None;
        loop {
            let upgrade = self.line.iter().position(|place| place.upgrades);
            let (at, mode) = match upgrade {
                Some(at) if self.granted().count() == 1 => (at, Mode::Exclusive),
                Some(_) => break,
                None => match self.line.iter().position(|place| !place.granted) {
                    Some(at) if self.is_free_for(self.line[at].mode) => (at, self.line[at].mode),
                    _ => break,
                },
            };
            let granted = self.fences(count);
            let place = &mut self.line[at];
            (place.granted, place.upgrades, place.mode, place.recalled) = (true, false, mode, None);
            if own == Some((place.process, place.id)) {
                answer = Some(granted);
            } else {
                events.push((place.process, Event::Answered(place.id, granted)));
            }
        }
        let upgrade = self.line.iter().find(|place| place.upgrades).map(|place| (place.name(), Mode::Exclusive));
        let wanted =
            upgrade.or_else(|| self.line.iter().find(|place| !place.granted).map(|place| (place.name(), place.mode)));
        if let Some((id, wanted)) = wanted {
            for place in self.line.iter_mut().filter(|place| place.granted && place.name() != id) {
                let wanted = stronger(place.recalled, wanted);
                if !place.mode.goes_with(wanted) && place.recalled != Some(wanted) {
                    place.recalled = Some(wanted);
                    events.push((place.process, Event::Recalled(place.id, wanted)));
                }
            }
        }
        answer
    }
}

/// All keys.
#[derive(Default)]
pub(crate) struct Keys {
    keys: HashMap<ObjectKey, Key>,
    /// Where each number's place is.
    at: HashMap<(usize, PermitId), ObjectKey>,
    /// The key of each number, also of those that are over.
    asked: HashMap<(usize, PermitId), ObjectKey>,
}

impl Keys {
    pub(crate) fn ask(
        &mut self,
        process: usize,
        wishes: &[Wish],
        effort: Effort,
        count: u32,
        events: &mut Events,
    ) -> Vec<(PermitId, Answer)> {
        let is_free = |keys: &HashMap<ObjectKey, Key>, wish: &Wish| {
            keys.get(&wish.key)
                .is_none_or(|key| key.line.iter().all(|place| place.granted && place.mode.goes_with(wish.mode)))
        };
        if effort == Effort::AllOrNone && !wishes.iter().all(|wish| is_free(&self.keys, wish)) {
            return wishes.iter().map(|wish| (wish.id, Answer::Busy)).collect();
        }
        let mut answers = Vec::new();
        for wish in wishes {
            let key = self.keys.entry(wish.key.clone()).or_default();
            if let Some(old) = wish.replaces {
                self.at.remove(&(process, old));
                key.line.retain(|place| (place.process, place.id) != (process, old));
            }
            let others = key.line.iter().any(|place| place.process == process);
            assert!(!others, "process {process} has {} twice", wish.key);
            self.at.insert((process, wish.id), wish.key.clone());
            self.asked.insert((process, wish.id), wish.key.clone());
            let (id, mode) = (wish.id, wish.mode);
            key.line.push(Place { process, id, mode, granted: false, upgrades: false, recalled: None });
            answers.push((id, key.settle(count, Some((process, id)), events).unwrap_or(Answer::Pending)));
        }
        answers
    }

    fn with(&mut self, process: usize, id: PermitId, act: impl FnOnce(&mut Key)) -> bool {
        let Some(key) = self.at.get(&(process, id)).and_then(|name| self.keys.get_mut(name)) else { return false };
        act(key);
        true
    }

    fn remove(&mut self, process: usize, id: PermitId, count: u32, events: &mut Events) {
        let Some(name) = self.at.remove(&(process, id)) else { return };
        let Some(key) = self.keys.get_mut(&name) else { return };
        key.line.retain(|place| (place.process, place.id) != (process, id));
        key.settle(count, None, events);
    }

    pub(crate) fn give_back(&mut self, process: usize, id: PermitId, count: u32, events: &mut Events) {
        self.remove(process, id, count, events);
    }

    pub(crate) fn withdraw(&mut self, process: usize, id: PermitId, count: u32, events: &mut Events) {
        let mut gone = true;
        let mut says = true;
        self.with(process, id, |key| {
            if let Some(place) = key.place(process, id) {
                gone = !place.granted;
                // A grant that came first has been sent.
                says = gone || place.upgrades;
                place.upgrades = false;
            }
            key.settle(count, None, events);
        });
        if gone {
            self.remove(process, id, count, events);
        }
        if says {
            events.push((process, Event::Withdrawn(id)));
        }
    }

    pub(crate) fn downgrade(&mut self, process: usize, id: PermitId, count: u32, events: &mut Events) {
        self.with(process, id, |key| {
            if let Some(place) = key.place(process, id) {
                (place.mode, place.recalled) = (Mode::Shared, None);
            }
            key.settle(count, None, events);
        });
    }

    pub(crate) fn upgrade(
        &mut self,
        process: usize,
        id: PermitId,
        effort: Effort,
        count: u32,
        events: &mut Events,
    ) -> Answer {
        let mut answer = Answer::Failed(keylatch::tier::TierError::term_over());
        self.with(process, id, |key| {
            if key.line.iter().any(|place| place.upgrades) {
                answer = Answer::UpgradeConflict;
                return;
            }
            let alone = key.granted().count() == 1;
            if effort == Effort::AllOrNone && !alone {
                answer = Answer::Busy;
                return;
            }
            if let Some(place) = key.place(process, id) {
                place.upgrades = true;
            }
            answer = key.settle(count, Some((process, id)), events).unwrap_or(Answer::Pending);
        });
        answer
    }

    pub(crate) fn revoke(&mut self, process: usize, name: &ObjectKey, count: u32, events: &mut Events) -> u32 {
        let Some(key) = self.keys.get_mut(name) else { return 0 };
        let mut revoked = 0;
        key.line.retain(|place| {
            let stays = !place.granted || place.process == process;
            if !stays {
                self.at.remove(&(place.process, place.id));
                events.push((place.process, Event::Lost(place.id)));
                revoked += 1;
            }
            stays
        });
        key.settle(count, None, events);
        revoked
    }

    pub(crate) fn lose_all(&mut self, process: usize, count: u32, events: &mut Events) {
        self.at.retain(|(owner, _), _| *owner != process);
        for key in self.keys.values_mut() {
            key.line.retain(|place| place.process != process);
            key.settle(count, None, events);
        }
    }

    /// Has the next grant of a key say that a process died.
    pub(crate) fn note_death(&mut self, key: ObjectKey) {
        self.keys.entry(key).or_default().died = true;
    }

    pub(crate) fn has_death_to_report(&self, key: &ObjectKey) -> bool {
        self.keys.get(key).is_some_and(|key| key.died)
    }

    pub(crate) fn death_unreported(&mut self, process: usize, id: PermitId) {
        if let Some(key) = self.asked.get(&(process, id)) {
            self.note_death(key.clone());
        }
    }

    pub(crate) fn in_use(&self) -> (usize, usize) {
        let places = || self.keys.values().flat_map(|key| &key.line);
        (places().filter(|place| place.granted).count(), places().filter(|place| !place.granted).count())
    }
}
