//! `keylatch events`.

use super::list::fail;
use super::options::{ClientOptions, FilterOptions, safe, shown};
use super::{exit, print};
use crate::client::{ClientError, Http, ServerEvent};
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
    let path = format!("/v1/events?{}", filter.query(&[]));
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
    /// Follows one stream. Returns whether everything that was asked for has been shown.
    async fn follow(&mut self, http: &Http, path: &str) -> Result<bool, ClientError> {
        let mut stream = http.stream(path, self.last.as_deref()).await?;
        while self.args.count.is_none_or(|count| self.shown < count) {
            let event = stream.next().await;
            // An id may come without an event.
            self.last = stream.last_id().map(str::to_owned).or(self.last.take());
            let Some(event) = event? else { return Ok(false) };
            self.shown += 1;
            let text = if self.args.client.json { as_json(&event)? } else { as_text(&event)? };
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

fn as_text(event: &ServerEvent) -> Result<String, ClientError> {
    let id = event.id.as_deref().unwrap_or("-");
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
