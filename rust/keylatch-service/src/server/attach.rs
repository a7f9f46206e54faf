//! `GET /v1/sessions/{session}/attach`: the stream whose end says that the client is gone.
//!
//! It carries `attached` first, then `granted` and `lost` of the session's own locks, `claim` with each new answer of its
//! claims, `resync` where some of those were
//! missed (the next renewal has them), `closing` before the server stops, and `gone` when the session has ended.

use super::asked::name_of;
use super::auth::{Identity, Verb};
use super::body::{EventSender, Gone, event_stream};
use super::claim_wire::ClaimedBody;
use super::outbox::{Last, Mail, Next, Outbox};
use super::problem::Problem;
use super::shared::Shared;
use super::wire::EventBody;
use crate::machine::{ClaimNote, EventKind, SessionName, Stream};
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// A comment is sent after this much silence.
///
/// So proxies keep the connection, and a dead one is noticed.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

#[derive(Serialize)]
struct Attached {
    epoch: u64,
    session: String,
    grace_ms: u64,
}

#[derive(Serialize)]
struct Empty {}

/// The attached stream, detached from its session when it is dropped.
struct Attachment {
    shared: Arc<Shared>,
    stream: Stream,
    outbox: Arc<Outbox>,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.shared.detach(self.stream, &self.outbox);
    }
}

pub(super) async fn attach(
    State(shared): State<Arc<Shared>>,
    Extension(identity): Extension<Identity>,
    Path(session): Path<String>,
) -> Result<Response, Problem> {
    identity.check_verb(Verb::Lock)?;
    let session = name_of(&session)?;
    let (stream, outbox) =
        shared.attach(session, &identity.principal).map_err(|refusal| Problem::of(&refusal, shared.epoch()))?;
    let attachment = Attachment { shared, stream, outbox };
    let (sender, response) = event_stream();
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            _ = attachment.run(session, &sender) => {}
        }
    });
    Ok(response)
}

impl Attachment {
    async fn run(&self, session: SessionName, sender: &EventSender) -> Result<(), Gone> {
        let mut is_serving = true;
        let grace_ms = self.shared.limits().grace.as_millis() as u64;
        let attached = Attached { epoch: session.epoch, session: session.to_string(), grace_ms };
        sender.send("attached", None, &attached).await?;
        loop {
            tokio::select! {
                next = self.outbox.next() => {
                    if self.pass_on(next, sender).await? {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep(HEARTBEAT) => sender.send_text(": \n\n".into()).await?,
                () = self.shared.draining(), if is_serving => {
                    is_serving = false;
                    sender.send("closing", None, &Empty {}).await?;
                }
                _ = self.shared.stopped() => return Ok(()),
            }
        }
    }

    /// Sends what comes next. Returns whether it was the last.
    async fn pass_on(&self, next: Next, sender: &EventSender) -> Result<bool, Gone> {
        let event = match next {
            Next::Event(Mail::Lock(event)) => event,
            Next::Event(Mail::Claim(note)) => {
                sender.send("claim", None, &self.claimed(&note)).await?;
                return Ok(false);
            }
            Next::Missed => {
                sender.send("resync", None, &Empty {}).await?;
                return Ok(false);
            }
            Next::End(last) => {
                let word = if last == Last::Gone { "gone" } else { "replaced" };
                sender.send(word, None, &Empty {}).await?;
                return Ok(true);
            }
        };
        let word = if matches!(event.kind, EventKind::Granted { .. }) { "granted" } else { "lost" };
        sender.send(word, None, &EventBody::new(&event, self.shared.epoch())).await?;
        Ok(false)
    }

    fn claimed(&self, note: &ClaimNote) -> ClaimedBody {
        // Without valid_ms: only what the client sent extends what it believes.
        ClaimedBody::new(self.shared.epoch(), note.request.session, note.request.number, &note.answer)
    }
}
