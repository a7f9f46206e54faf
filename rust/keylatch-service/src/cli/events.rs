//! `keylatch events`.

use super::exit;
use super::exit::print;
use super::list::{claim_line, fail};
use super::options::{ClientOptions, FilterOptions, KeyArgument, safe, shown};
use crate::client::{ClientError, Http, ServerEvent};
use crate::server::claim_rows::{ClaimEventBody, ClaimResetBody};
use crate::server::wire::{EventBody, ResetBody};
use clap::Args;
use serde_json::{Value, json};
use std::time::Duration;

/// Follows what happens; goes on after cuts where it was.
#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    #[command(flatten)]
    client: ClientOptions,
    /// Of this bucket only
    #[arg(long)]
    bucket: Option<String>,
    /// Whose object begins with this
    #[arg(long)]
    prefix: Option<String>,
    /// Whose object is this
    #[arg(long)]
    object: Option<String>,
    /// The claims of this resource, in place of locks
    #[arg(long, value_name = "RESOURCE", conflicts_with_all = ["bucket", "prefix", "object"])]
    resource: Option<KeyArgument>,
    /// Goes on after this id
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Ends after this many events
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
}

/// Runs `events`. Returns the exit status.
pub(super) async fn run(args: EventsArgs) -> u8 {
    let http = match args.client.http() {
        Ok(http) => http,
        Err(error) => return fail(&error),
    };
    let filter = FilterOptions {
        bucket: args.bucket.clone(),
        prefix: args.prefix.clone(),
        object: args.object.clone(),
        ..FilterOptions::default()
    };
    let resource = args.resource.as_ref().map(|key| {
        let mut parts = vec![&key.0.bucket, &key.0.object];
        parts.extend(&key.0.version);
        json!(parts).to_string()
    });
    let path = format!("/v1/events?{}", filter.query(&[("resource", resource)]));
    let mut follower = Follower { args, last: None, shown: 0 };
    follower.last.clone_from(&follower.args.after);
    let mut pause = Duration::from_millis(100);
    loop {
        let before = follower.shown;
        match follower.follow(&http, &path).await {
            Ok(true) => return 0,
            Ok(false) | Err(ClientError::Io(_)) if follower.last.is_some() => {}
            Ok(false) => return exit::say(exit::UNREACHABLE, format_args!("the server ended the stream")),
            Err(error) => return fail(&error),
        }
        // The server had something to say since: it is there.
        pause =
            if follower.shown > before { Duration::from_millis(100) } else { (pause * 2).min(Duration::from_secs(1)) };
        tokio::time::sleep(pause).await;
    }
}

struct Follower {
    args: EventsArgs,
    last: Option<String>,
    shown: u64,
}

impl Follower {
    /// Follows one stream; returns whether all that was asked for has been shown.
    async fn follow(&mut self, http: &Http, path: &str) -> Result<bool, ClientError> {
        let mut stream = http.stream(path, self.last.as_deref()).await?;
        while self.args.count.is_none_or(|count| self.shown < count) {
            let event = stream.next().await;
            // An id may come without an event.
            self.last = stream.last_id().map(str::to_owned).or(self.last.take());
            let Some(event) = event? else { return Ok(false) };
            self.shown += 1;
            let text =
                if self.args.client.json { as_json(&event)? } else { as_text(&event, self.args.resource.is_some())? };
            if print(text.as_bytes()) != 0 {
                return Ok(true);
            }
        }
        Ok(true)
    }
}

fn as_json(event: &ServerEvent) -> Result<String, ClientError> {
    let line = json!({"id": event.id, "event": event.event, "data": event.json::<Value>()?});
    Ok(format!("{line}\n"))
}

fn as_text(event: &ServerEvent, of_claims: bool) -> Result<String, ClientError> {
    let id = event.id.as_deref().unwrap_or("-");
    if of_claims {
        return claim_text(id, event);
    }
    if event.event == "reset" {
        let state: ResetBody = event.json()?;
        return Ok(format!("{id:<12} {:<9} {} held, {} waiting\n", "reset", state.locks.len(), state.waiters.len()));
    }
    let body: EventBody = event.json()?;
    let keys: Vec<String> = body.items.iter().map(shown).collect();
    let why = body.reason.map_or(String::new(), |reason| format!(" ({reason})"));
    let fence = body.fence.map_or(String::new(), |fence| format!(" fence {fence}"));
    Ok(format!("{id:<12} {:<9} {} {}{fence}{why}\n", body.event, keys.join(" "), safe(&body.owner)))
}

fn claim_text(id: &str, event: &ServerEvent) -> Result<String, ClientError> {
    if event.event == "reset" {
        let state: ClaimResetBody = event.json()?;
        return Ok(format!("{id:<12} {:<9} {}\n", "reset", claim_line(&state.claim)));
    }
    let body: ClaimEventBody = event.json()?;
    let mut words = Vec::new();
    words.extend(body.owner.as_deref().map(safe));
    words.extend(body.attempt.map(|attempt| format!("attempt {attempt}")));
    words.extend(body.reason.map(String::from));
    words.extend(body.error.as_deref().map(safe));
    words.extend(body.next.map(|next| format!("next {}", next.session)));
    words.extend(body.outcome.map(|outcome| safe(&outcome.note.or(outcome.error).unwrap_or_default())));
    words.extend(body.progress.map(|progress| format!("{} of {}", progress.done, progress.total)));
    words.extend(body.fence.map(|fence| format!("fence {fence}")));
    Ok(format!("{id:<12} {:<9} {}\n", body.event, words.join(" ")))
}
