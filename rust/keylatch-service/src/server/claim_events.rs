//! `GET /v1/events?resource=`: what happens to one claimed resource, numbered within that resource.
//!
//! Ids and resets are as in [`events`](super::events): the next event, or one `reset` with the whole state. The numbers of
//! a resource have no gap within an epoch.

use super::attach::HEARTBEAT;
use super::auth::{Identity, Verb};
use super::body::{EventSender, Gone, event_stream};
use super::claim_rows::{ClaimEventBody, ClaimResetBody, ClaimRow};
use super::problem::Problem;
use super::shared::Shared;
use axum::response::Response;
use keylatch::ObjectKey;
use keylatch::claim::{ClaimEventId, ClaimFeed};
use std::sync::Arc;
use tokio::sync::watch;

/// Reads the name of a resource: `bucket/object`, or a JSON array of its parts.
pub(super) fn resource_of(text: &str) -> Result<ObjectKey, Problem> {
    let wrong = || {
        Problem::invalid(
            "resource is bucket/object, or a JSON array: [\"bucket\",\"object\"] with a version or without",
        )
    };
    let parts: Vec<String> = match text.split_once('/') {
        _ if text.starts_with('[') => serde_json::from_str(text).map_err(|_| wrong())?,
        Some((bucket, object)) => vec![bucket.to_owned(), object.to_owned()],
        None => return Err(wrong()),
    };
    match &parts[..] {
        [bucket, object] => Ok(ObjectKey::new(bucket, object)),
        [bucket, object, version] => Ok(ObjectKey::new(bucket, object).with_version(version)),
        _ => Err(wrong()),
    }
}

/// A resource that is followed; dropping it ends that.
struct Followed {
    shared: Arc<Shared>,
    resource: ObjectKey,
    changes: watch::Receiver<u64>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.shared.unfollow_claim(&self.resource);
    }
}

pub(super) fn claim_events(
    shared: Arc<Shared>,
    identity: &Identity,
    resource: ObjectKey,
    seen: Option<&str>,
) -> Result<Response, Problem> {
    super::asked::check_key(shared.limits().key_bytes, &resource)?;
    identity.check(Verb::List, &resource)?;
    let changes = shared.follow_claim(&resource).map_err(|refusal| Problem::of(&refusal, shared.epoch()))?;
    let followed = Followed { shared, resource, changes };
    let seen = seen.and_then(|id| id.parse().ok());
    let (sender, response) = event_stream();
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            _ = followed.run(seen, &sender) => {}
        }
    });
    Ok(response)
}

impl Followed {
    async fn run(mut self, mut seen: Option<ClaimEventId>, sender: &EventSender) -> Result<(), Gone> {
        let shared = Arc::clone(&self.shared);
        sender.send_text("retry: 1000\n\n".into()).await?;
        loop {
            self.changes.borrow_and_update();
            seen = Some(self.catch_up(seen, sender).await?);
            tokio::select! {
                _ = self.changes.changed() => {}
                () = tokio::time::sleep(HEARTBEAT) => sender.send_text(": \n\n".into()).await?,
                () = shared.stopped() => return Ok(()),
            }
        }
    }

    /// Sends what follows an event. Returns the latest event that the client has now.
    async fn catch_up(&self, seen: Option<ClaimEventId>, sender: &EventSender) -> Result<ClaimEventId, Gone> {
        let (feed, now) = self.shared.step(|machine, now| (machine.claim_feed(&self.resource, seen), now));
        let (events, seen) = match (feed, seen) {
            (ClaimFeed::Events(events), Some(seen)) => (events, seen),
            (ClaimFeed::Reset { id, snapshot }, _) => {
                let body = ClaimResetBody { epoch: id.epoch, claim: ClaimRow::new(&snapshot, now) };
                sender.send("reset", Some(id.to_string()), &body).await?;
                return Ok(id);
            }
            (ClaimFeed::Events(_), None) => unreachable!("without an id there is a reset"),
        };
        let mut last = seen;
        for event in events {
            let body = ClaimEventBody::from(&event.change);
            sender.send(&body.event.clone(), Some(event.id.to_string()), &body).await?;
            last = event.id;
        }
        Ok(last)
    }
}
