//! Owners: whose request this is, as a small number.
//!
//! An owner is a label for people: errors, listings and logs show it, nothing is concluded from it, and two requests
//! with one label contend like strangers. Names are interned. One that was asked for with
//! [`FastObjectLockManager::owner`](crate::FastObjectLockManager::owner) stays for good; one that came along with a
//! request is forgotten when the table of names is full and neither a holder nor a waiter bears it any more.

use crate::sync::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A label for requests, made once with [`FastObjectLockManager::owner`](crate::FastObjectLockManager::owner).
///
/// It means something to the manager that made it; another one shows it as whatever name has that number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(pub(crate) u32);

/// An owner as calls take it: one made before, or a name, which is looked up on the way.
#[derive(Debug, Clone, Copy)]
pub enum OwnerRef<'a> {
    /// Made before.
    Known(Owner),
    /// By name.
    Named(&'a str),
}

impl From<Owner> for OwnerRef<'_> {
    #[inline(always)]
    fn from(owner: Owner) -> Self {
        Self::Known(owner)
    }
}

impl<'a> From<&'a str> for OwnerRef<'a> {
    #[inline(always)]
    fn from(name: &'a str) -> Self {
        Self::Named(name)
    }
}

impl<'a> From<&'a String> for OwnerRef<'a> {
    #[inline(always)]
    fn from(name: &'a String) -> Self {
        Self::Named(name)
    }
}

/// Names that a manager remembers before it looks which it can forget.
const MAX_NAMES: usize = if cfg!(test) { 64 } else { 1 << 16 };
/// Names that a look at all holders and waiters has to make room for, to be made again soon.
const WORTH_A_LOOK: usize = MAX_NAMES / 8;
/// Bytes of a name that are kept.
const MAX_NAME_BYTES: usize = 256;
/// The number of nobody in particular, and of names that found no room.
pub(crate) const UNNAMED: u32 = 0;

/// All names of a manager.
#[derive(Debug)]
pub(crate) struct Owners {
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    by_name: HashMap<Arc<str>, u32, ahash::RandomState>,
    by_number: Vec<Option<Arc<str>>>,
    free: Vec<u32>,
    kept: HashSet<u32, ahash::RandomState>,
    /// Names to turn away before looking again for some to forget: the last look found few.
    turn_away: usize,
}

impl Owners {
    pub(crate) fn new() -> Self {
        let names = Names { by_number: vec![Some("".into())], ..Names::default() };
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

    /// The number of a name. `in_use` tells the numbers that holders, waiters and threads bear; `chosen` is called with
    /// the number before another thread can ask for what is in use.
    pub(crate) fn number(&self, name: &str, in_use: impl FnOnce() -> HashSet<u32>, chosen: impl FnOnce(u32)) -> u32 {
        let mut names = self.names.lock();
        let number = names.number(name, in_use);
        chosen(number);
        number
    }

    /// The name of a number; empty for nobody in particular.
    pub(crate) fn name(&self, number: u32) -> Arc<str> {
        let names = self.names.lock();
        let name = names.by_number.get(number as usize).cloned().flatten();
        name.unwrap_or_else(|| "".into())
    }
}

impl Names {
    fn number(&mut self, name: &str, in_use: impl FnOnce() -> HashSet<u32>) -> u32 {
        let name = &name[..name.floor_char_boundary(MAX_NAME_BYTES)];
        if name.is_empty() {
            return UNNAMED;
        }
        if let Some(number) = self.by_name.get(name) {
            return *number;
        }
        if self.free.is_empty() && self.by_number.len() > MAX_NAMES {
            if self.turn_away > 0 {
                self.turn_away -= 1;
                return UNNAMED;
            }
            self.forget(&in_use());
            if self.free.len() < WORTH_A_LOOK {
                self.turn_away = WORTH_A_LOOK;
            }
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.by_number.len() > MAX_NAMES => return UNNAMED,
            None => {
                self.by_number.push(None);
                (self.by_number.len() - 1) as u32
            }
        };
        let name: Arc<str> = name.into();
        self.by_number[number as usize] = Some(name.clone());
        self.by_name.insert(name, number);
        number
    }

    fn forget(&mut self, in_use: &HashSet<u32>) {
        for number in 1..self.by_number.len() as u32 {
            if in_use.contains(&number) || self.kept.contains(&number) {
                continue;
            }
            if let Some(name) = self.by_number[number as usize].take() {
                self.by_name.remove(&name);
                self.free.push(number);
            }
        }
    }
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
            assert_eq!(&*owners.name(number), name);
        }
        assert_eq!(&*owners.name(kept), "kept");
        assert_eq!(&*owners.name(held), "held");
        assert!(owners.names.lock().by_number.len() <= MAX_NAMES + 1);
    }

    #[test]
    fn when_nothing_can_be_forgotten_a_request_goes_on_without_its_name() {
        let owners = Owners::new();
        for i in 0..MAX_NAMES {
            assert_ne!(owners.keep(&format!("o{i}"), HashSet::new), UNNAMED);
        }
        assert_eq!(owners.keep("one too many", HashSet::new), UNNAMED);
        assert_eq!(&*owners.name(UNNAMED), "");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let owners = Owners::new();
        let number = owners.keep(&"ü".repeat(300), HashSet::new);
        assert_eq!(owners.name(number).len(), 256);
    }
}
