//! `keylatch list`.

use super::exit;
use super::exit::print;
use super::options::{ClientOptions, FilterOptions, safe, shown};
use crate::client::{ClientError, Http};
use crate::server::claim_rows::{ClaimOwnerRow, ClaimRow};
use crate::server::claim_wire::ResourceBody;
use crate::server::wire::{ListBody, LockRow, ModeWord, WaiterRow};
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Lists held locks, waiting requests or claimed resources.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    client: ClientOptions,
    #[command(flatten)]
    filter: FilterOptions,
    /// Lists waiting requests in place of held locks
    #[arg(long)]
    waiters: bool,
    /// Lists claimed resources in place of held locks
    #[arg(long, conflicts_with = "waiters")]
    claims: bool,
}

/// Runs `list`. Returns the exit status.
pub(super) async fn run(args: ListArgs) -> u8 {
    let listed = async {
        let http = args.client.http()?;
        let (filter, json) = (&args.filter, args.client.json);
        Ok(match (args.waiters, args.claims) {
            (true, _) => show(&every::<WaiterRow>(&http, "/v1/waiters", filter).await?, json, waiter_line),
            (_, true) => show(&every::<ClaimRow>(&http, "/v1/claims", filter).await?, json, claim_line),
            _ => show(&every::<LockRow>(&http, "/v1/locks", filter).await?, json, lock_line),
        })
    };
    match listed.await {
        Ok(text) => print(text.as_bytes()),
        Err(error) => fail(&error),
    }
}

pub(super) fn fail(error: &ClientError) -> u8 {
    exit::say(exit::of(error), format_args!("{error}"))
}

/// Every row, page by page.
pub(super) async fn every<T: DeserializeOwned>(
    http: &Http,
    path: &str,
    filter: &FilterOptions,
) -> Result<Vec<T>, ClientError> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let query = filter.query(&[
            ("owner", filter.owner.clone()),
            ("session", filter.session.clone()),
            ("older_than_ms", filter.older_than_ms().map(|age| age.to_string())),
            ("after", after.take()),
        ]);
        let page: ListBody<T> = http.get(&format!("{path}?{query}")).await?;
        rows.extend(page.rows);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(rows),
        }
    }
}

fn show<T: Serialize>(rows: &[T], json: bool, line: impl Fn(&T) -> String) -> String {
    if json {
        return serde_json::to_string_pretty(rows).unwrap_or_default() + "\n";
    }
    if rows.is_empty() {
        return "none\n".to_owned();
    }
    rows.iter().map(|row| line(row) + "\n").collect()
}

pub(super) fn mode(mode: ModeWord) -> &'static str {
    match mode {
        ModeWord::Shared => "shared",
        ModeWord::Exclusive => "exclusive",
    }
}

/// Returns a time for people.
pub(super) fn age(millis: u64) -> String {
    let time = Duration::from_millis(millis);
    match time.as_secs() {
        0..=9 => format!("{:.1}s", time.as_secs_f64()),
        seconds @ 10..=119 => format!("{seconds}s"),
        seconds @ 120..=7199 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3600),
    }
}

pub(super) fn lock_line(row: &LockRow) -> String {
    format!(
        "{:<40} {:<9} {:>6} {:<24} fence {} ({})",
        shown(&row.item),
        mode(row.item.mode),
        age(row.held_ms),
        safe(&row.owner),
        row.fence,
        row.presence
    )
}

pub(super) fn waiter_line(row: &WaiterRow) -> String {
    format!(
        "{:<40} {:<9} {:>6} {:<24} place {} ({})",
        shown(&row.item),
        mode(row.item.mode),
        age(row.waited_ms),
        safe(&row.owner),
        row.place,
        row.presence
    )
}

pub(super) fn claim_line(row: &ClaimRow) -> String {
    let since = age(claim_since(row));
    let who = [claim_owner(row), claim_text(row)].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
    let (resource, who) = (resource_shown(&row.resource), who.join(" "));
    format!("{resource:<40} {:<9} {since:>6} {who} ({} waiting)", row.state, row.waiting)
}

/// For how long a claim has been in its state.
pub(super) fn claim_since(row: &ClaimRow) -> u64 {
    row.owned_by.as_ref().map_or(row.outcome_ms.unwrap_or(0), |owner| owner.owned_ms)
}

/// Returns who does the work, or did it.
pub(super) fn claim_owner(row: &ClaimRow) -> String {
    let owner = row.owned_by.as_ref().map(|owner| &owner.owner);
    safe(owner.or(row.outcome.as_ref().map(|outcome| &outcome.owner)).map_or("", String::as_str))
}

/// Returns how far the work is, or what came of it.
pub(super) fn claim_text(row: &ClaimRow) -> String {
    match (&row.owned_by, &row.outcome) {
        (Some(owner), _) => format!("attempt {}{}", owner.attempt, share(owner)),
        (None, Some(outcome)) => safe(outcome.note.as_ref().or(outcome.error.as_ref()).map_or("", String::as_str)),
        (None, None) => "between attempts".to_owned(),
    }
}

/// Returns how far an owner is, for people; empty if it does not say.
fn share(owner: &ClaimOwnerRow) -> String {
    let progress = &owner.progress;
    match (progress.done, progress.total) {
        (0, 0) => String::new(),
        (done, 0) => format!(", {done} done"),
        (done, total) => format!(", {}%", u128::from(done) * 100 / u128::from(total)),
    }
}

pub(super) fn resource_shown(resource: &ResourceBody) -> String {
    let version = resource.version.as_ref().map_or(String::new(), |version| format!("@{version}"));
    safe(&format!("{}/{}{version}", resource.bucket, resource.object))
}
