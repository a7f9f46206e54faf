//! What a registry of nodes can do, whichever way it is built.

use crate::node::Heartbeat;
use std::sync::Arc;

/// A registry that heartbeats update and jobs select from.
pub(crate) trait Registry: Send + Sync + 'static {
    /// What selects; each selection has one of its own.
    type Selector: Selector;

    /// Returns a selector of the registry as it is now.
    fn selector(self: &Arc<Self>) -> Self::Selector;

    /// Handles a report; ends with the answer to the node.
    fn heartbeat(self: Arc<Self>, beat: Heartbeat) -> impl Future<Output = ()> + Send;
}

/// Selects nodes for jobs.
pub(crate) trait Selector: Send + 'static {
    /// Another one, for one selection.
    fn another(&mut self) -> Self;

    /// Selects a node for a language.
    fn select(self, language: u8) -> impl Future<Output = Option<usize>> + Send;
}
