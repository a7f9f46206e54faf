//! Owners: the names of callers, as small numbers.
//!
//! An owner is a label for people: errors, listings and logs show it. The engine concludes nothing from it, and two
//! requests with the same label contend as any others do (a [`Session`](crate::Session) is more than that). Names are
//! interned. A name from [`FastObjectLockManager::owner`](crate::FastObjectLockManager::owner) stays for good. A name that
//! came with a request is forgotten when the table of names is full and no holder or waiter has it any more.

use crate::config::MAX_NAME_BYTES;
use crate::sync::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Names that a manager keeps before it looks for some to forget.
const MAX_NAMES: usize = if cfg!(test) { 64 } else { 1 << 16 };
/// If a look for names to forget frees fewer than these, the next one comes later.
const WORTH_A_LOOK: usize = MAX_NAMES / 8;
/// The number of requests without a name, and of names that found no room.
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
    /// Names to refuse before the next look for some to forget.
    turn_away: usize,
}

impl Owners {
    pub(crate) fn new() -> Self {
        let names = Names { by_number: vec![Some(Label::default())], ..Names::default() };
        Self { names: Mutex::new(names) }
    }

    /// Returns the number of a name, which is kept for good.
    pub(crate) fn keep(&self, name: &str, in_use: impl FnOnce() -> HashSet<u32>) -> u32 {
        let mut names = self.names.lock();
        let number = names.number(name, in_use);
        if number != UNNAMED {
            names.kept.insert(number);
        }
        number
    }

    /// Returns the number of a name from a source, which is kept for good.
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

    /// Returns the number of a name.
    ///
    /// `in_use` returns the numbers of holders, waiters and threads. `chosen` is called with the number before another
    /// thread can ask which are in use.
    pub(crate) fn number(&self, name: &str, in_use: impl FnOnce() -> HashSet<u32>, chosen: impl FnOnce(u32)) -> u32 {
        let mut names = self.names.lock();
        let number = names.number(name, in_use);
        chosen(number);
        number
    }

    /// Returns the label of a number; empty for `UNNAMED`.
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

    /// Returns a number without a name; `None` when all are taken.
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

/// Cuts a name to the length that is kept.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME_BYTES)]
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn names_out_of_use_are_forgotten() {
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
    fn full_table_leaves_requests_unnamed() {
        let owners = Owners::new();
        for i in 0..MAX_NAMES {
            assert_ne!(owners.keep(&format!("o{i}"), HashSet::new), UNNAMED);
        }
        assert_eq!(owners.keep("one more", HashSet::new), UNNAMED);
        assert_eq!(&*owners.label(UNNAMED).name, "");
    }

    /// A look for names to forget visits every holder and waiter.
    #[test]
    fn full_table_is_rarely_searched() {
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
