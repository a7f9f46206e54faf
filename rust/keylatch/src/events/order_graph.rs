//! In which order sessions take locks: a graph of keys, with an edge from each that was held to each that was then asked
//! for, and the search for circles in it.
//!
//! It is bounded: when there is no room for another order, the one that was seen first is forgotten, and counted.

use crate::key::ObjectKey;
use crate::listed::LockOrderLink;
use crate::mode::Mode;
use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Orders that are remembered, and bytes of keys in them.
const MOST_ORDERS: usize = 1 << 16;
const MOST_BYTES: usize = 16 << 20;
/// Keys that a search looks at before it gives up.
const MOST_LOOKS: usize = 10_000;

/// Who was seen to do it, and when.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) session: Arc<str>,
    pub(crate) source: &'static str,
    pub(crate) at: Duration,
}

/// A key and how it is held or wanted.
pub(crate) type Use<'k> = (&'k ObjectKey, Mode);

/// See the module.
#[derive(Debug)]
pub(crate) struct OrderGraph {
    numbers: HashMap<Arc<ObjectKey>, u64>,
    nodes: HashMap<u64, Node>,
    next_number: u64,
    /// Orders, the one that was seen first in front.
    by_age: VecDeque<(u64, u64)>,
    bytes: usize,
    forgotten: u64,
    most_orders: usize,
    most_bytes: usize,
}

#[derive(Debug)]
struct Node {
    key: Arc<ObjectKey>,
    /// A session asked to have it exclusively.
    written: bool,
    /// What was asked for while it was held.
    then: HashMap<u64, (Seen, Mode, Mode)>,
    /// Keys that were held when it was asked for.
    after: usize,
}

impl Default for OrderGraph {
    fn default() -> Self {
        Self::bounded(MOST_ORDERS, MOST_BYTES)
    }
}

impl OrderGraph {
    fn bounded(most_orders: usize, most_bytes: usize) -> Self {
        Self {
            numbers: HashMap::new(),
            nodes: HashMap::new(),
            next_number: 0,
            by_age: VecDeque::new(),
            bytes: 0,
            forgotten: 0,
            most_orders,
            most_bytes,
        }
    }

    /// Orders that are remembered.
    pub(crate) fn len(&self) -> usize {
        self.by_age.len()
    }

    /// Orders that had to be forgotten.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Notes a request for an exclusive hold; returns a circle that it completes.
    ///
    /// It completes a circle that was none as long as no session asked for this key exclusively.
    pub(crate) fn note_write(&mut self, key: &ObjectKey) -> Option<Vec<LockOrderLink>> {
        let number = *self.numbers.get(key)?;
        let node = self.nodes.get_mut(&number)?;
        if std::mem::replace(&mut node.written, true) {
            return None;
        }
        self.path(number, number).map(|path| self.in_words(&path))
    }

    /// A session that holds one key asks for another: returns a new circle, if any.
    ///
    /// Returns a circle that this order closes, if it is a new one.
    pub(crate) fn note_order(&mut self, held: Use<'_>, wanted: Use<'_>, seen: Seen) -> Option<Vec<LockOrderLink>> {
        let (from, to) = (self.number(held.0), self.number(wanted.0));
        let Slot::Vacant(slot) = self.nodes.get_mut(&from)?.then.entry(to) else { return None };
        slot.insert((seen, held.1, wanted.1));
        self.nodes.get_mut(&to)?.after += 1;
        self.by_age.push_back((from, to));
        for (number, mode) in [(from, held.1), (to, wanted.1)] {
            let node = self.nodes.get_mut(&number)?;
            node.written |= mode == Mode::Exclusive;
        }
        let circle = self.path(to, from).map(|mut path| {
            path.insert(0, from);
            self.in_words(&path)
        });
        while self.by_age.len() > self.most_orders || self.bytes > self.most_bytes {
            self.forget_oldest();
        }
        circle
    }

    fn number(&mut self, key: &ObjectKey) -> u64 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let (number, key) = (self.next_number, Arc::new(key.clone()));
        self.next_number += 1;
        self.bytes += key.as_ref().as_ref().byte_len();
        self.numbers.insert(Arc::clone(&key), number);
        self.nodes.insert(number, Node { key, written: false, then: HashMap::new(), after: 0 });
        number
    }

    fn forget_oldest(&mut self) {
        let Some((from, to)) = self.by_age.pop_front() else { return };
        self.forgotten += 1;
        if let Some(node) = self.nodes.get_mut(&from) {
            node.then.remove(&to);
        }
        if let Some(node) = self.nodes.get_mut(&to) {
            node.after -= 1;
        }
        for number in [from, to] {
            let is_alone = |node: &&mut Node| node.after == 0 && node.then.is_empty();
            if self.nodes.get_mut(&number).filter(is_alone).is_some()
                && let Some(node) = self.nodes.remove(&number)
            {
                self.bytes -= node.key.as_ref().as_ref().byte_len();
                self.numbers.remove(&node.key);
            }
        }
    }

    /// The keys of a shortest way from one to another, or from one back to itself.
    ///
    /// Every key on it is asked for exclusively by a session.
    fn path(&self, from: u64, to: u64) -> Option<Vec<u64>> {
        let is_written = |number: &u64| self.nodes.get(number).is_some_and(|node| node.written);
        if !is_written(&from) || !is_written(&to) {
            return None;
        }
        let (mut came_from, mut next) = (HashMap::new(), VecDeque::from([from]));
        while let Some(number) = next.pop_front() {
            for then in self.nodes.get(&number)?.then.keys().filter(|then| is_written(then)) {
                if *then == to {
                    let back = |number: &u64| came_from.get(number).copied();
                    let mut path: Vec<u64> = std::iter::successors(Some(number), back).collect();
                    path.reverse();
                    path.push(to);
                    return Some(path);
                }
                if *then != from
                    && came_from.len() < MOST_LOOKS
                    && let Slot::Vacant(slot) = came_from.entry(*then)
                {
                    slot.insert(number);
                    next.push_back(*then);
                }
            }
        }
        None
    }

    /// Returns the orders between the keys of a circle, beginning with the latest one.
    fn in_words(&self, path: &[u64]) -> Vec<LockOrderLink> {
        let link = |pair: &[u64]| {
            let (held, wanted) = (self.nodes.get(&pair[0])?, self.nodes.get(&pair[1])?);
            let (seen, held_mode, wanted_mode) = held.then.get(&pair[1])?;
            Some(LockOrderLink {
                session: Arc::clone(&seen.session),
                source: seen.source,
                held: held.key.as_ref().clone(),
                held_mode: *held_mode,
                wanted: wanted.key.as_ref().clone(),
                wanted_mode: *wanted_mode,
                at: seen.at,
            })
        };
        let mut links: Vec<LockOrderLink> = path.windows(2).filter_map(link).collect();
        let latest = (0..links.len()).rev().max_by_key(|position| links[*position].at).unwrap_or(0);
        links.rotate_left(latest);
        links
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn key(number: usize) -> ObjectKey {
        ObjectKey::new("b", number.to_string())
    }

    fn seen() -> Seen {
        Seen { session: "s".into(), source: "", at: Duration::ZERO }
    }

    fn note(graph: &mut OrderGraph, held: usize, wanted: usize) -> Option<Vec<LockOrderLink>> {
        graph.note_order((&key(held), Mode::Exclusive), (&key(wanted), Mode::Exclusive), seen())
    }

    #[test]
    fn oldest_orders_are_forgotten_with_keys() {
        let mut graph = OrderGraph::bounded(100, 1 << 20);
        for number in 0..10_000 {
            assert!(note(&mut graph, number, number + 1).is_none());
            assert!(graph.len() <= 100 && graph.nodes.len() <= 101 && graph.numbers.len() == graph.nodes.len());
        }
        assert_eq!((graph.len(), graph.forgotten()), (100, 9900));
        let bytes: usize = graph.nodes.values().map(|node| node.key.as_ref().as_ref().byte_len()).sum();
        assert_eq!(graph.bytes, bytes);
        assert!(note(&mut graph, 1, 0).is_none(), "what was forgotten is no order any more");
        assert_eq!(note(&mut graph, 10_000, 9_950).unwrap().len(), 51);
    }

    #[test]
    fn keys_are_bounded_in_bytes_too() {
        let mut graph = OrderGraph::bounded(1000, 10_000);
        for number in 0..100 {
            let long = |number: usize| ObjectKey::new([0; 1000], number.to_string());
            graph.note_order((&long(number), Mode::Shared), (&long(number + 1), Mode::Shared), seen());
            assert!(graph.bytes <= 10_000);
        }
        assert!(graph.forgotten() > 90);
    }

    #[test]
    fn a_search_ends_in_a_crowd() {
        let mut graph = OrderGraph::bounded(1 << 20, 1 << 30);
        (0..3 * MOST_LOOKS).for_each(|number| assert!(note(&mut graph, number, number + 1).is_none()));
        assert!(note(&mut graph, 3 * MOST_LOOKS, 0).is_none(), "too far to be seen");
        assert!(note(&mut graph, 5000, 0).is_some());
    }
}
