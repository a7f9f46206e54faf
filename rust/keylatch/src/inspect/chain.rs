//! Who waits for whom, down to the one who runs.

use super::Filter;
use crate::engine::Core;
use crate::hold::{Owner, OwnerRef};
use crate::key::{KeyRef, ObjectKey};
use crate::listed::{HolderInfo, WaiterInfo};
use std::collections::{HashSet, VecDeque};
use std::fmt;

/// Links that a chain has at most: a crowd has more than anyone would read.
const MOST_LINKS: usize = 1000;
/// Holders that a link names when it is printed.
const PRINTED: usize = 8;

/// Where a chain begins: with a key, or with what an owner waits for.
///
/// Keys and owners turn into it.
#[derive(Debug, Clone, Copy)]
pub enum ChainStart<'a> {
    /// What is in the way of requests for this key.
    Key(KeyRef<'a>),
    /// What is in the way of this owner.
    Owner(OwnerRef<'a>),
}

impl<'a> From<KeyRef<'a>> for ChainStart<'a> {
    fn from(key: KeyRef<'a>) -> Self {
        Self::Key(key)
    }
}

impl<'a> From<&'a ObjectKey> for ChainStart<'a> {
    fn from(key: &'a ObjectKey) -> Self {
        Self::Key(key.as_ref())
    }
}

impl<'a, B, O> From<(&'a B, &'a O)> for ChainStart<'a>
where
    B: AsRef<[u8]> + ?Sized,
    O: AsRef<[u8]> + ?Sized,
{
    fn from(key: (&'a B, &'a O)) -> Self {
        Self::Key(key.into())
    }
}

impl<'a, B, O, V> From<(&'a B, &'a O, &'a V)> for ChainStart<'a>
where
    B: AsRef<[u8]> + ?Sized,
    O: AsRef<[u8]> + ?Sized,
    V: AsRef<[u8]> + ?Sized,
{
    fn from(key: (&'a B, &'a O, &'a V)) -> Self {
        Self::Key(key.into())
    }
}

impl<'a> From<&'a str> for ChainStart<'a> {
    fn from(owner: &'a str) -> Self {
        Self::Owner(owner.into())
    }
}

impl<'a> From<&'a String> for ChainStart<'a> {
    fn from(owner: &'a String) -> Self {
        Self::Owner(owner.into())
    }
}

impl From<Owner> for ChainStart<'_> {
    fn from(owner: Owner) -> Self {
        Self::Owner(owner.into())
    }
}

impl<'a> From<OwnerRef<'a>> for ChainStart<'a> {
    fn from(owner: OwnerRef<'a>) -> Self {
        Self::Owner(owner)
    }
}

/// One key with a waiter, and who has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChainLink {
    /// The key.
    pub key: ObjectKey,
    /// Who waits for it; `None` for the key that was asked about.
    pub waiter: Option<WaiterInfo>,
    /// Who holds it; empty if it is free or changes hands in this moment.
    pub holders: Vec<HolderInfo>,
    /// The link whose holder is the waiter here; `None` where a chain begins.
    pub after: Option<usize>,
}

/// Who waits for whom; made by [`blocking_chain`].
///
/// [`blocking_chain`]: crate::FastObjectLockManager::blocking_chain
///
/// It prints itself for people, a line for each link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BlockingChain {
    /// The links, each after the one that it follows from.
    pub links: Vec<ChainLink>,
    /// Those at its end, who wait for nothing as far as is known.
    ///
    /// They are the ones to look at.
    pub running: Vec<HolderInfo>,
    /// Whether it goes round: sessions of it wait for each other.
    ///
    /// (It is looked at bit by bit: if nothing comes of it, it may never have been a circle at any one moment.)
    pub circle: bool,
}

impl BlockingChain {
    /// Returns whether there are no waiters and no holders.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }
}

impl fmt::Display for BlockingChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.links.is_empty() {
            return write!(f, "no waiters");
        }
        for (position, link) in self.links.iter().enumerate() {
            let depth = std::iter::successors(Some(link), |link| link.after.map(|after| &self.links[after])).count();
            write!(f, "{}{:indent$}", if position == 0 { "" } else { "\n" }, "", indent = 2 * (depth - 1))?;
            match &link.waiter {
                Some(waiter) => write!(f, "{waiter}")?,
                None => write!(f, "{:#}", link.key)?,
            }
            match link.holders.as_slice() {
                [] => write!(f, ", whose holder is gone")?,
                holders => write!(f, ", held by {}", Several(holders))?,
            }
        }
        if self.circle {
            write!(f, "\nit goes round: a deadlock")?;
        }
        match self.running.as_slice() {
            [] => Ok(()),
            running => write!(f, "\nrunning: {}", Several(running)),
        }
    }
}

/// Some holders, for people.
struct Several<'a>(&'a [HolderInfo]);

impl fmt::Display for Several<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, hold) in self.0.iter().take(PRINTED).enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{} ({}, for at least {:?})", hold.named(), hold.mode, hold.held_for)?;
        }
        match self.0.len().saturating_sub(PRINTED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A wait to follow: after which link, and whose.
struct Next {
    after: Option<usize>,
    waiter: Option<(u32, WaiterInfo)>,
    key: ObjectKey,
}

impl Next {
    fn waits(after: Option<usize>, waits: Vec<(u32, WaiterInfo)>) -> impl Iterator<Item = Self> {
        waits.into_iter().map(move |(number, wait)| Self { after, key: wait.key.clone(), waiter: Some((number, wait)) })
    }
}

impl Core {
    pub(crate) fn blocking_chain(&self, start: ChainStart<'_>) -> BlockingChain {
        let mut chain = BlockingChain::default();
        if self.is_forked() {
            return chain;
        }
        let mut next: VecDeque<Next> = match start {
            ChainStart::Key(key) => [Next { after: None, waiter: None, key: key.to_owned() }].into(),
            ChainStart::Owner(owner) => Next::waits(None, self.waits_of(owner)).collect(),
        };
        // Sessions whose waits are in the chain, and the one that waits in each link.
        let mut followed: HashSet<u32> = next.iter().filter_map(|next| Some(next.waiter.as_ref()?.0)).collect();
        let mut waiting: Vec<Option<u32>> = Vec::new();
        while let Some(Next { after, waiter, key }) = next.pop_front() {
            if chain.links.len() == MOST_LINKS {
                break;
            }
            let position = chain.links.len();
            let (waiter_number, waiter) = waiter.unzip();
            let numbered = self.holders_at(&key.as_ref(), &Filter::new());
            if waiter.is_none() && numbered.is_empty() {
                continue;
            }
            let upgrades = waiter.as_ref().is_some_and(|waiter: &WaiterInfo| waiter.upgrade);
            waiting.push(waiter_number);
            let holders = numbered.iter().map(|(_, hold)| hold.clone()).collect();
            chain.links.push(ChainLink { key, waiter, holders, after });
            for (number, hold) in numbered {
                if upgrades && waiter_number == Some(number) {
                    // It waits for the others to go, not for itself.
                    continue;
                }
                let waits = self.waits_of_holder(number);
                if waits.is_empty() {
                    if !chain.running.iter().any(|known| known.grant == hold.grant) {
                        chain.running.push(hold);
                    }
                } else if followed.insert(number) {
                    next.extend(Next::waits(Some(position), waits));
                } else {
                    let above = std::iter::successors(Some(position), |link| chain.links[*link].after);
                    chain.circle |= above.into_iter().any(|link| waiting[link] == Some(number));
                }
            }
        }
        chain
    }

    /// Returns what an owner waits for.
    fn waits_of(&self, owner: OwnerRef<'_>) -> Vec<(u32, WaiterInfo)> {
        match owner {
            OwnerRef::Known(Owner(number)) => self.waits_where(&Filter::new(), |waiting| waiting == number),
            OwnerRef::Named(name) => self.waits_where(&Filter::new().owner(name), |_| true),
            OwnerRef::Session(session) if session.manager == self.identity() => self.waits_of_holder(session.number),
            OwnerRef::Session(_) => Vec::new(),
        }
    }

    /// Returns what a holder waits for, as far as is known.
    ///
    /// Of a label nothing is concluded: another of the many who bear it may be the one that waits.
    fn waits_of_holder(&self, number: u32) -> Vec<(u32, WaiterInfo)> {
        let waits = self.sessions.get(number).map(|session| session.waits()).unwrap_or_default();
        waits.into_iter().filter_map(|waiter| Some((number, self.wait_of(waiter, number)?))).collect()
    }
}
