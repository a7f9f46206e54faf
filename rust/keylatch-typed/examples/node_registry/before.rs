//! The registry as its service had it: read-write locks around everything, and remote look-ups while one is held.
//!
//! A heartbeat takes the management lock for writing, for microseconds. Then it takes it for reading four times: once for
//! the snapshot, and three times to assign the node to a pool, twice of these with three remote look-ups under the lock.
//! tokio's lock is fair: a writer waits for all readers before it, and every later reader waits behind that writer. So
//! one look-up that takes its time holds up every heartbeat and every selection.

use crate::measures::Measures;
use crate::node::{self, Heartbeat, Node};
use crate::registry::{Registry, Selector};
use crate::remote::Remote;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::RwLock;

/// See the module.
#[derive(Debug)]
pub(crate) struct Before {
    management: RwLock<Vec<Node>>,
    snapshot: RwLock<Vec<Node>>,
    core_cache: RwLock<HashMap<usize, Node>>,
    pool_configuration: RwLock<Option<bool>>,
    node_pools: RwLock<HashMap<usize, u8>>,
    language_index: RwLock<Vec<u8>>,
    remote: Remote,
    measures: Arc<Measures>,
}

impl Before {
    pub(crate) fn new(nodes: Vec<Node>, remote: Remote, measures: Arc<Measures>) -> Self {
        Self {
            language_index: RwLock::new(nodes.iter().map(|node| node.languages).collect()),
            snapshot: RwLock::new(nodes.clone()),
            management: RwLock::new(nodes),
            core_cache: RwLock::default(),
            pool_configuration: RwLock::default(),
            node_pools: RwLock::default(),
            remote,
            measures,
        }
    }

    async fn update_node(&self, beat: &Heartbeat) {
        let mut management = self.measures.waited(self.management.write()).await;
        management[beat.node].take_in(beat);
    }

    /// Brings the snapshot up to date: holds one lock while it waits for the other.
    async fn update_node_snapshot(&self, number: usize) {
        let management = self.measures.waited(self.management.read()).await;
        let mut snapshot = self.measures.waited(self.snapshot.write()).await;
        snapshot[number] = management[number].clone();
    }

    async fn update_core_cache(&self, number: usize) {
        let node = self.snapshot.read().await[number].clone();
        self.measures.waited(self.core_cache.write()).await.insert(number, node);
    }

    /// Assigns the node to a pool.
    ///
    /// Seven look-ups, six of them under the management lock.
    async fn assign_pool(&self, beat: &Heartbeat) {
        let number = beat.node;
        let look_up = |field: usize| self.remote.look_up(number, field, beat.look_up_times[field]);
        let mut capabilities = Vec::new();
        {
            let management = self.measures.waited(self.management.read()).await;
            for field in 0..3 {
                capabilities.push(look_up(field).await && management[number].languages != 0);
            }
        }
        let configured = look_up(3).await;
        if self.measures.waited(self.pool_configuration.read()).await.is_none() {
            *self.measures.waited(self.pool_configuration.write()).await = Some(configured);
        }
        {
            let management = self.measures.waited(self.management.read()).await;
            for field in 4..7 {
                capabilities.push(look_up(field).await && management[number].languages != 0);
            }
        }
        let languages = self.measures.waited(self.language_index.read()).await[number];
        let management = self.measures.waited(self.management.read()).await;
        let pool = node::pool_of(&management[number].name, &capabilities) ^ (languages & 1);
        self.measures.waited(self.node_pools.write()).await.insert(number, pool);
    }
}

impl Registry for Before {
    type Selector = Arc<Before>;

    fn selector(self: &Arc<Self>) -> Arc<Before> {
        Arc::clone(self)
    }

    async fn heartbeat(self: Arc<Self>, beat: Heartbeat) {
        self.update_node(&beat).await;
        let stale = self.measures.staleness.since(Instant::now());
        self.update_node_snapshot(beat.node).await;
        drop(stale);
        self.update_core_cache(beat.node).await;
        self.assign_pool(&beat).await;
    }
}

impl Selector for Arc<Before> {
    fn another(&mut self) -> Self {
        Arc::clone(self)
    }

    /// Takes the management lock and then the snapshot's, twice as the service did.
    async fn select(self, language: u8) -> Option<usize> {
        drop(self.measures.waited(self.management.read()).await);
        drop(self.measures.waited(self.snapshot.read()).await);
        drop(self.measures.waited(self.management.read()).await);
        let snapshot = self.measures.waited(self.snapshot.read()).await;
        let selected = node::select(&snapshot, language);
        self.measures.selected.fetch_add(u64::from(selected.is_some()), Ordering::Relaxed);
        selected
    }
}
