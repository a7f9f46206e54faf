//! `keylatch list`.

use super::options::{ClientOptions, FilterOptions, safe, shown};
use super::{exit, print};
use crate::client::{ClientError, Http};
use crate::server::wire::{ListBody, LockRow, ModeWord, WaiterRow};
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Lists held locks or waiting requests.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    client: ClientOptions,
    #[command(flatten)]
    filter: FilterOptions,
    /// Lists waiting requests in place of held locks
    #[arg(long)]
    waiters: bool,
}

/// Runs `list`. Returns the exit status.
pub(super) async fn run(args: ListArgs) -> u8 {
    let listed = async {
        let http = args.client.http()?;
        match args.waiters {
            false => Ok(show(&every::<LockRow>(&http, "/v1/locks", &args.filter).await?, args.client.json, lock_line)),
            true => {
                Ok(show(&every::<WaiterRow>(&http, "/v1/waiters", &args.filter).await?, args.client.json, waiter_line))
            }
        }
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

/// A time for people.
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
