//! The remote store that knows what nodes are capable of.

use crate::redis::Connections;
use std::time::Duration;

/// The capabilities that are asked for.
///
/// The middle one is the configuration of pools.
pub(crate) const FIELDS: [&str; 7] = ["asr", "nmt", "tts", "pools", "asr-large", "nmt-large", "tts-large"];

/// Where look-ups go.
#[derive(Debug)]
pub(crate) enum Remote {
    /// Nowhere: an answer after some time.
    Simulated,
    /// A real server, as far away as the simulated one.
    ///
    /// The time of the network is simulated.
    Redis(Connections),
}

impl Remote {
    /// Asks whether a node has a capability; the answer is on its way for so long.
    pub(crate) async fn look_up(&self, node: usize, field: usize, on_its_way: Duration) -> bool {
        tokio::time::sleep(on_its_way).await;
        match self {
            Self::Simulated => !(node + field).is_multiple_of(3),
            Self::Redis(connections) => connections.has(&key(node, field)).await,
        }
    }
}

pub(crate) fn key(node: usize, field: usize) -> String {
    format!("node:{node}:{}", FIELDS[field])
}
