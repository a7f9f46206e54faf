//! What a node reports, what the registry knows of it, and how a node is selected.

use crate::random::Random;
use std::borrow::Borrow;
use std::time::{Duration, Instant};

/// Languages that jobs ask for and nodes can serve.
pub(crate) const LANGUAGES: u64 = 8;
/// Look-ups that assign a node to a pool.
///
/// Three capabilities, the configuration of pools, three capabilities.
pub(crate) const LOOK_UPS: usize = 7;
/// Pools that nodes are assigned to.
pub(crate) const POOLS: u64 = 16;

/// A report of a node.
#[derive(Debug, Clone)]
pub(crate) struct Heartbeat {
    pub(crate) node: usize,
    pub(crate) cpu_percent: u8,
    pub(crate) current_jobs: u16,
    /// When it was due.
    pub(crate) due: Instant,
    /// How long the remote store will take to answer each look-up.
    ///
    /// The same before and after.
    pub(crate) look_up_times: [Duration; LOOK_UPS],
}

impl Heartbeat {
    pub(crate) fn new(node: usize, due: Instant, random: &mut Random) -> Self {
        Self {
            node,
            cpu_percent: random.below(100) as u8,
            current_jobs: random.below(8) as u16,
            due,
            look_up_times: std::array::from_fn(|_| random.look_up_time()),
        }
    }
}

/// What is known of a node.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) cpu_percent: u8,
    pub(crate) current_jobs: u16,
    /// A bit a language.
    pub(crate) languages: u8,
    pub(crate) pool: Option<u8>,
    pub(crate) last_heartbeat: Instant,
    /// What a registry carries along for each node: models, services, addresses.
    pub(crate) installed_models: Vec<String>,
}

impl Node {
    pub(crate) fn new(number: usize, random: &mut Random) -> Self {
        Self {
            name: format!("node-{number}"),
            cpu_percent: random.below(100) as u8,
            current_jobs: random.below(8) as u16,
            languages: (random.next() | (1 << (number as u64 % LANGUAGES))) as u8,
            pool: Some(random.below(POOLS) as u8),
            last_heartbeat: Instant::now(),
            installed_models: (0..4).map(|model| format!("model-{}-{model}", random.below(100))).collect(),
        }
    }

    pub(crate) fn take_in(&mut self, beat: &Heartbeat) {
        self.cpu_percent = beat.cpu_percent;
        self.current_jobs = beat.current_jobs;
        self.last_heartbeat = Instant::now();
    }
}

pub(crate) fn all_nodes(count: usize, seed: u64) -> Vec<Node> {
    let mut random = Random::new(seed);
    (0..count).map(|number| Node::new(number, &mut random)).collect()
}

/// Selects the node with the least load of those in a pool that serve a language.
pub(crate) fn select<N: Borrow<Node>>(nodes: &[N], language: u8) -> Option<usize> {
    let serves =
        |node: &Node| node.pool.is_some() && node.languages & (1 << language) != 0 && !node.installed_models.is_empty();
    let load = |node: &Node| u32::from(node.current_jobs) * 100 + u32::from(node.cpu_percent);
    let candidates = nodes.iter().map(Borrow::borrow).enumerate().filter(|(_, node)| serves(node));
    candidates.min_by_key(|(_, node)| load(node)).map(|(number, _)| number)
}

/// The pool of a node that has these capabilities: what the look-ups were for.
pub(crate) fn pool_of(name: &str, capabilities: &[bool]) -> u8 {
    let of_name = name.bytes().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let of_capabilities = capabilities.iter().fold(0, |bits, has| (bits << 1) | u64::from(*has));
    ((of_name ^ of_capabilities) % POOLS) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selection_takes_the_least_loaded_that_serves() {
        let mut nodes = all_nodes(20, 3);
        nodes.iter_mut().for_each(|node| (node.current_jobs, node.languages) = (5, 0b1));
        (nodes[7].current_jobs, nodes[7].languages) = (1, 0b10);
        nodes[9].current_jobs = 2;
        (nodes[3].current_jobs, nodes[3].pool) = (0, None);
        assert_eq!(select(&nodes, 0), Some(9));
        assert_eq!(select(&nodes, 1), Some(7));
        assert_eq!(select(&nodes, 2), None);
    }

    #[test]
    fn every_language_has_a_node() {
        let nodes = all_nodes(8, 1);
        assert!((0..LANGUAGES as u8).all(|language| select(&nodes, language).is_some()));
    }
}
