//! The registry on keylatch-typed: jobs select from a snapshot and wait for no lock, each node has a lock of its own,
//! and nothing is awaited under one.
//!
//! A heartbeat takes its node's lock once, copies what the rest needs, defers the update of the snapshot and is
//! answered. A task of its own asks the remote store and assigns the pool. Deferred updates are applied together, with
//! one copy of the list of nodes every [`GAP`] at most.

use crate::measures::Measures;
use crate::node::{self, Heartbeat, LOOK_UPS, Node};
use crate::registry::{Registry, Selector};
use crate::remote::Remote;
use keylatch_typed::{AsyncMutex, Snapshot, SnapshotReader};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// The time between two copies of the registry: 20 copies a second.
const GAP: Duration = Duration::from_millis(50);
/// A snapshot that is older than this is worth a wait for a newer one.
const MAX_AGE: Duration = Duration::from_secs(2);
/// The longest wait for a newer snapshot; then the last one serves.
const PATIENCE: Duration = Duration::from_micros(500);
/// The longest wait for a node's lock; then the last snapshot serves.
const NODE_TIMEOUT: Duration = Duration::from_millis(50);

/// What selections see.
#[derive(Debug)]
struct View {
    nodes: Vec<Arc<Node>>,
    /// When the nodes were updated whose update came with this copy.
    ///
    /// For the measurement of staleness.
    updated: Vec<Instant>,
    measures: Arc<Measures>,
}

impl Clone for View {
    /// Copies the list, not the nodes.
    fn clone(&self) -> Self {
        Measures::count(&self.measures.copies);
        Self { nodes: self.nodes.clone(), updated: Vec::new(), measures: Arc::clone(&self.measures) }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct After {
    nodes: Vec<AsyncMutex<Node>>,
    snapshot: Snapshot<View>,
    remote: Remote,
    measures: Arc<Measures>,
}

impl After {
    /// Makes the registry and starts the task that applies updates; needs a runtime.
    pub(crate) fn new(nodes: Vec<Node>, remote: Remote, measures: Arc<Measures>) -> Self {
        let view = View {
            nodes: nodes.iter().cloned().map(Arc::new).collect(),
            updated: Vec::new(),
            measures: Arc::clone(&measures),
        };
        let snapshot = Snapshot::new(view);
        tokio::spawn(snapshot.coalescer(GAP));
        tokio::spawn(watch_staleness(snapshot.reader(), Arc::clone(&measures)));
        let nodes = nodes.into_iter().map(|node| AsyncMutex::new(node, NODE_TIMEOUT)).collect();
        Self { nodes, snapshot, remote, measures }
    }

    /// Changes a node under its lock, and later in the snapshot.
    ///
    /// Returns the node, or the last snapshot's when its lock was not to be had in time.
    async fn change(&self, number: usize, change: impl FnOnce(&mut Node)) -> Arc<Node> {
        let Ok(mut node) = self.measures.waited(self.nodes[number].lock_with_timeout()).await else {
            Measures::count(&self.measures.fallbacks);
            return Arc::clone(&self.snapshot.load().nodes[number]);
        };
        change(&mut node);
        let changed = Arc::new(node.clone());
        // Deferred before the lock is released: updates of one node are applied in the order in which they were made.
        let (seen, updated) = (Arc::clone(&changed), Instant::now());
        self.snapshot.defer(move |view| {
            view.nodes[number] = seen;
            view.updated.push(updated);
        });
        changed
    }

    /// Assigns the node to a pool.
    ///
    /// Seven look-ups without any lock, one lock for the answer.
    async fn assign_pool(&self, node: Arc<Node>, beat: Heartbeat) {
        let mut capabilities = Vec::with_capacity(LOOK_UPS);
        for (field, on_its_way) in beat.look_up_times.into_iter().enumerate() {
            capabilities.push(self.remote.look_up(beat.node, field, on_its_way).await);
        }
        let configured = capabilities.remove(3);
        let pool = configured.then(|| node::pool_of(&node.name, &capabilities) ^ (node.languages & 1));
        if pool.is_some() && pool != node.pool {
            self.change(beat.node, |node| node.pool = pool).await;
        }
    }
}

/// Records, for each update, how long it took until a reader saw it.
async fn watch_staleness(mut reader: SnapshotReader<View>, measures: Arc<Measures>) {
    while reader.changed().await.is_ok() {
        let seen = Instant::now();
        reader.load().updated.iter().for_each(|updated| measures.staleness.record(seen - *updated));
    }
}

impl Registry for After {
    type Selector = FromSnapshot;

    fn selector(self: &Arc<Self>) -> FromSnapshot {
        FromSnapshot { reader: self.snapshot.reader(), measures: Arc::clone(&self.measures) }
    }

    async fn heartbeat(self: Arc<Self>, beat: Heartbeat) {
        let node = self.change(beat.node, |node| node.take_in(&beat)).await;
        tokio::spawn(async move { self.assign_pool(node, beat).await });
    }
}

/// Selects from the snapshot.
#[derive(Debug, Clone)]
pub(crate) struct FromSnapshot {
    reader: SnapshotReader<View>,
    measures: Arc<Measures>,
}

impl Selector for FromSnapshot {
    fn another(&mut self) -> Self {
        self.reader.load();
        self.clone()
    }

    async fn select(mut self, language: u8) -> Option<usize> {
        self.reader.load();
        if self.reader.age() > MAX_AGE && timeout(PATIENCE, self.reader.load_no_older_than(MAX_AGE)).await.is_err() {
            Measures::count(&self.measures.fallbacks);
        }
        let selected = node::select(&self.reader.loaded().nodes, language);
        self.measures.selected.fetch_add(u64::from(selected.is_some()), Ordering::Relaxed);
        selected
    }
}
