//! `GET /v1/events`: what happens, as numbered server-sent events that a client can resume.
//!
//! An event's id is `epoch-number`; numbers have no gap. A client that reconnects sends the last id it saw
//! (`Last-Event-ID`) and gets what followed. Where the server no longer has that, after a restart, and where no id came,
//! the client gets one `reset` with everything that its filter passes, as of that event's id.
//!
//! Invariant: an id is sent with or after every event up to it that the filter passes, never before. Comments that keep
//! the connection alive carry no id.

use super::attach::HEARTBEAT;
use super::auth::{Identity, Verb};
use super::body::{EventSender, Gone, Params, event_stream};
use super::claim_events::{claim_events, resource_of};
use super::problem::Problem;
use super::shared::Shared;
use super::wire::{EventBody, LockRow, ResetBody, WaiterRow};
use crate::machine::{Event, KeyFilter, LockFilter, Replay};
use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use std::sync::Arc;

/// Events that one step reads.
const BATCH: usize = 256;
/// How many events a filter may hold back before the client gets their number.
///
/// It gets the number without an event, so that it can resume.
const HELD_BACK: u64 = 1024;

/// The query string of `GET /v1/events`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    bucket: Option<String>,
    prefix: Option<String>,
    object: Option<String>,
    /// Follows the claims of this resource, and no locks.
    resource: Option<String>,
    /// Also sends `claims`, without a number, when some claim has changed.
    #[serde(default)]
    claims: bool,
    /// In place of the header, for clients that cannot set it.
    last_event_id: Option<String>,
}

pub(super) async fn events(
    State(shared): State<Arc<Shared>>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    Params(query): Params<EventsQuery>,
) -> Result<Response, Problem> {
    identity.check_verb(Verb::List)?;
    let header = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let seen = header.or(query.last_event_id.as_deref());
    if let Some(resource) = &query.resource {
        if query.bucket.is_some() || query.prefix.is_some() || query.object.is_some() {
            return Err(Problem::invalid(
                "resource follows the claims of one key; leave out bucket, prefix and object",
            ));
        }
        return claim_events(shared, &identity, resource_of(resource)?, seen);
    }
    let seen = seen.and_then(|id| parse_id(id, shared.epoch()));
    let keys = KeyFilter { bucket: query.bucket, prefix: query.prefix, object: query.object };
    let subscriber = Subscriber { shared, identity, keys, seen, named: seen.unwrap_or(0), hints: query.claims };
    let (sender, response) = event_stream();
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            _ = subscriber.run(&sender) => {}
        }
    });
    Ok(response)
}

/// Returns the number in an id, if it is of this epoch.
fn parse_id(id: &str, epoch: u64) -> Option<u64> {
    let (of_epoch, number) = id.split_once('-')?;
    (of_epoch.parse() == Ok(epoch)).then(|| number.parse().ok())?
}

struct Subscriber {
    shared: Arc<Shared>,
    identity: Identity,
    keys: KeyFilter,
    /// The latest event that was looked at; `None` before the first `reset`.
    seen: Option<u64>,
    /// The latest id that was sent.
    named: u64,
    /// Whether it wants to hear that claims changed.
    hints: bool,
}

impl Subscriber {
    async fn run(mut self, sender: &EventSender) -> Result<(), Gone> {
        let shared = Arc::clone(&self.shared);
        let (mut head, mut claims) = (shared.follow_head(), shared.follow_claims());
        // Headers leave with the first part of the body: the client learns that it is connected.
        sender.send_text("retry: 1000\n\n".into()).await?;
        loop {
            head.borrow_and_update();
            while self.catch_up(sender).await? {}
            tokio::select! {
                _ = head.changed() => {}
                _ = claims.changed(), if self.hints => {
                    claims.borrow_and_update();
                    // No number: what a client resumes with is not touched.
                    sender.send_text("event: claims\ndata: {}\n\n".into()).await?;
                }
                () = tokio::time::sleep(HEARTBEAT) => sender.send_text(": \n\n".into()).await?,
                () = shared.stopped() => return Ok(()),
            }
        }
    }

    /// Sends what the ring has after the last event; returns whether more may come.
    async fn catch_up(&mut self, sender: &EventSender) -> Result<bool, Gone> {
        let replay = match self.seen {
            None => Replay::Overrun,
            Some(seen) => self.shared.step(|machine, _| machine.events_after(seen, BATCH)),
        };
        let Replay::Events { first, events } = replay else {
            self.reset(sender).await?;
            return Ok(true);
        };
        for (number, event) in (first..).zip(&events) {
            self.seen = Some(number);
            if self.passes(event) {
                self.named = number;
                let body = EventBody::new(event, self.shared.epoch());
                sender.send(&body.event.clone(), Some(self.id(number)), &body).await?;
            } else if number - self.named >= HELD_BACK {
                self.named = number;
                sender.send_text(format!("id: {}\n\n", self.id(number))).await?;
            }
        }
        Ok(!events.is_empty())
    }

    /// Returns whether one of the keys of an event passes.
    fn passes(&self, event: &Event) -> bool {
        event.items.iter().any(|item| self.keys.matches(&item.key) && self.identity.may(Verb::List, &item.key))
    }

    /// Sends everything that the filter passes, with the number of the latest event.
    ///
    /// That is the latest that it contains.
    async fn reset(&mut self, sender: &EventSender) -> Result<(), Gone> {
        let filter = LockFilter { keys: self.keys.clone(), ..LockFilter::default() };
        let (head, locks, waiters) = self.shared.step(|machine, now| {
            let locks = machine.every_lock(now, &filter);
            (machine.head(), locks, machine.every_waiter(now, &filter))
        });
        let may_list = |key| self.identity.may(Verb::List, key);
        let epoch = self.shared.epoch();
        let visible_waiters = waiters.iter().filter(|wait| may_list(&wait.item.key));
        let body = ResetBody {
            epoch,
            locks: locks.iter().filter(|hold| may_list(&hold.item.key)).map(LockRow::new).collect(),
            waiters: visible_waiters.map(|wait| WaiterRow::new(wait, epoch)).collect(),
        };
        (self.seen, self.named) = (Some(head), head);
        sender.send("reset", Some(self.id(head)), &body).await
    }

    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.shared.epoch())
    }
}
