//! What the machine wants of the tier, done there: one task for each request that asks or holds.

use super::shared::Shared;
use super::space::Space;
use crate::machine::{RequestKey, TierAsk, TierNote, Wait};
use ahash::AHashMap;
use keylatch_etcd::EtcdError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

/// The pause after an error of the tier, before a request that waits asks again.
const PAUSE: Duration = Duration::from_secs(1);

/// Carries out what the machine wants, until the server stops.
pub(super) async fn run(shared: Arc<Shared>, space: Space, mut notes: mpsc::UnboundedReceiver<TierNote>) {
    // Ends its tasks with itself, and a task that ends gives back what it holds.
    let mut tasks = JoinSet::new();
    // With each task, what ends after the task has given back what it had.
    let mut of_request: AHashMap<RequestKey, (AbortHandle, watch::Receiver<()>)> = AHashMap::new();
    loop {
        tokio::select! {
            note = notes.recv() => match note {
                Some(TierNote::Ask(ask)) => {
                    let request = ask.request;
                    let (ends, over) = watch::channel(());
                    let task = tasks.spawn(hold(ends, Arc::clone(&shared), space.clone(), ask));
                    of_request.insert(request, (task, over));
                }
                Some(TierNote::Over(request)) => {
                    if let Some((task, mut over)) = of_request.remove(&request) {
                        task.abort();
                        // A try that is asked for next waits for what is given back, so that has to have begun.
                        let _ = over.changed().await;
                    }
                }
                None => break,
            },
            Some(_) = tasks.join_next() => {}
            () = shared.stopped() => break,
        }
    }
    // The keys go to others only when the clients know that they have lost them.
    tokio::time::sleep(shared.step(|machine, now| machine.end_tier(now))).await;
    tasks.shutdown().await;
    let _ = tokio::task::spawn_blocking(move || space.close()).await;
}

/// Asks for one request, and holds for it until the machine or the tier ends that.
///
/// `_ends` is dropped last, after what is held.
async fn hold(_ends: watch::Sender<()>, shared: Arc<Shared>, space: Space, ask: TierAsk) {
    loop {
        let guard = match space.acquire(&ask).await {
            Ok(Some(guard)) => guard,
            Ok(None) => return shared.step(|machine, now| machine.tier_refused(now, ask.request)),
            Err(error) => {
                tracing::error!(%error, "the tier does not grant");
                // It would be refused again, however long it waits.
                if matches!(
                    error,
                    EtcdError::RequestTooLarge | EtcdError::TooManyOperations | EtcdError::BatchTooLarge { .. }
                ) {
                    return shared.step(|machine, now| machine.tier_too_large(now, ask.request));
                }
                if ask.wait == Wait::Try {
                    return shared.step(|machine, now| machine.tier_refused(now, ask.request));
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Under the mutex: the machine has just looked at the lease.
        let is_held =
            shared.step(|machine, now| guard.is_valid().then(|| machine.tier_granted(now, ask.request, guard.fence())));
        match is_held {
            Some(true) => {
                guard.lost().await;
                return shared.step(|machine, now| machine.tier_lost(now, ask.request));
            }
            // The request has ended.
            Some(false) => return,
            // The lease ended when the answer came.
            None => {}
        }
    }
}
