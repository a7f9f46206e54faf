//! Owners: whose request this is, as a small number.
//!
//! An owner is a label for people: errors, listings and logs show it, nothing is concluded from it, and two requests
//! with one label contend like strangers (a [`Session`](crate::Session) is more than that). Names are interned. One that was asked for with
//! [`FastObjectLockManager::owner`](crate::FastObjectLockManager::owner) stays for good; one that came along with a
//! request is forgotten when the table of names is full and neither a holder nor a waiter bears it any more.

use crate::config::MAX_NAME_BYTES;
use crate::sync::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Names that a manager remembers before it looks which it can forget.
const MAX_NAMES: usize = if cfg!(test) { 64 } else { 1 << 16 };
/// Names that a look at all holders and waiters has to make room for, to be made again soon.
const WORTH_A_LOOK: usize = MAX_NAMES / 8;
/// The number of nobody in particular, and of names that found no room.
pub(crate) const UNNAMED: u32 = 0;

/// All names of a manager.
#[derive(Debug)]
pub(crate) struct Owners {
    names: Mutex<Names>,
}

/// A name and where it comes from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Label {
    pub(crate) name: Arc<str>,
    pub(crate) source: &'static str,
}

#[derive(Debug, Default)]
struct Names {
    by_name: HashMap<Arc<str>, u32, ahash::RandomState>,
    /// Those with a source, which are kept.
    by_name_and_source: HashMap<(Arc<str>, &'static str), u32, ahash::RandomState>,
    by_number: Vec<Option<Label>>,
    free: Vec<u32>,
    kept: HashSet<u32, ahash::RandomState>,
    /// Names to turn away before looking again for some to forget: the last look found few.
    turn_away: usize,
}

impl Owners {
    pub(crate) fn new() -> Self {
        let names = Names { by_number: vec![Some(Label::default())], ..Names::default() };
        Self { names: Mutex::new(names) }
    }

    /// The number of a name, made for good.
    pub(crate) fn keep(&self, name: &str, in_use: impl FnOnce() -> HashSet<u32>) -> u32 {
        let mut names = self.names.lock();
        let number = names.number(name, in_use);
        if number != UNNAMED {
            names.kept.insert(number);
        }
        number
    }

    /// The number of a name from a source, made for good.
    pub(crate) fn keep_with_source(
        &self,
        name: &str,
        source: &'static str,
        in_use: impl FnOnce() -> HashSet<u32>,
    ) -> u32 {
        let name: Arc<str> = cut(name).into();
        let mut names = self.names.lock();
        if let Some(number) = names.by_name_and_source.get(&(Arc::clone(&name), source)) {
            return *number;
        }
        let Some(number) = names.free_number(in_use) else { return UNNAMED };
        names.by_number[number as usize] = Some(Label { name: Arc::clone(&name), source });
        names.by_name_and_source.insert((name, source), number);
        names.kept.insert(number);
        number
    }

    /// The number of a name. `in_use` tells the numbers that holders, waiters and threads bear; `chosen` is called with
    /// the number before another thread can ask for what is in use.
    pub(crate) fn number(&self, name: &str, in_use: impl FnOnce() -> HashSet<u32>, chosen: impl FnOnce(u32)) -> u32 {
        let mut names = self.names.lock();
        let number = names.number(name, in_use);
        chosen(number);
        number
    }

    /// The label of a number; empty for nobody in particular.
    pub(crate) fn label(&self, number: u32) -> Label {
        let names = self.names.lock();
        names.by_number.get(number as usize).cloned().flatten().unwrap_or_default()
    }
}

impl Names {
    fn number(&mut self, name: &str, in_use: impl FnOnce() -> HashSet<u32>) -> u32 {
        let name = cut(name);
        if name.is_empty() {
            return UNNAMED;
        }
        if let Some(number) = self.by_name.get(name) {
            return *number;
        }
        let Some(number) = self.free_number(in_use) else { return UNNAMED };
        let name: Arc<str> = name.into();
        self.by_number[number as usize] = Some(Label { name: Arc::clone(&name), source: "" });
        self.by_name.insert(name, number);
        number
    }

    /// A number that names nobody; `None` when all are taken.
    fn free_number(&mut self, in_use: impl FnOnce() -> HashSet<u32>) -> Option<u32> {
        if self.free.is_empty() && self.by_number.len() > MAX_NAMES {
            if self.turn_away > 0 {
                self.turn_away -= 1;
                return None;
            }
            self.forget(&in_use());
            if self.free.len() < WORTH_A_LOOK {
                self.turn_away = WORTH_A_LOOK;
            }
        }
        match self.free.pop() {
            None if self.by_number.len() > MAX_NAMES => None,
            None => {
                self.by_number.push(None);
                Some((self.by_number.len() - 1) as u32)
            }
            number => number,
        }
    }

    fn forget(&mut self, in_use: &HashSet<u32>) {
        for number in 1..self.by_number.len() as u32 {
            if in_use.contains(&number) || self.kept.contains(&number) {
                continue;
            }
            if let Some(label) = self.by_number[number as usize].take() {
                self.by_name.remove(&label.name);
                self.free.push(number);
            }
        }
    }
}

/// As much of a name as is kept.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME_BYTES)]
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn names_in_use_and_kept_ones_stay_and_the_rest_makes_room() {
        let owners = Owners::new();
        let kept = owners.keep("kept", HashSet::new);
        let held = owners.number("held", HashSet::new, |_| ());
        for i in 0..10 * MAX_NAMES {
            let name = format!("request-{i}");
            let number = owners.number(&name, || HashSet::from([held]), |_| ());
            assert_eq!(&*owners.label(number).name, name);
        }
        assert_eq!(&*owners.label(kept).name, "kept");
        assert_eq!(&*owners.label(held).name, "held");
        assert!(owners.names.lock().by_number.len() <= MAX_NAMES + 1);
    }

    #[test]
    fn when_nothing_can_be_forgotten_a_request_goes_on_without_its_name() {
        let owners = Owners::new();
        for i in 0..MAX_NAMES {
            assert_ne!(owners.keep(&format!("o{i}"), HashSet::new), UNNAMED);
        }
        assert_eq!(owners.keep("one too many", HashSet::new), UNNAMED);
        assert_eq!(&*owners.label(UNNAMED).name, "");
    }

    /// To look for names to forget is to look at every holder and waiter: not once a request.
    #[test]
    fn when_nothing_can_be_forgotten_few_requests_look_for_something_that_can() {
        let owners = Owners::new();
        for i in 0..MAX_NAMES {
            assert_ne!(owners.keep(&format!("o{i}"), HashSet::new), UNNAMED);
        }
        let (mut looks, requests) = (0, 10 * MAX_NAMES);
        for i in 0..requests {
            let look = || {
                looks += 1;
                HashSet::new()
            };
            assert_eq!(owners.number(&format!("request-{i}"), look, |_| ()), UNNAMED);
        }
        assert!(looks <= 1 + requests / WORTH_A_LOOK, "{looks} looks for {requests} requests");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let owners = Owners::new();
        let number = owners.keep(&"ü".repeat(300), HashSet::new);
        assert_eq!(owners.label(number).name.len(), 256);
    }
}
