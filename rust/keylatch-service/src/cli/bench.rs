//! `keylatch bench`: a server's speed, beside an empty request to the same server.

use super::bench_rows::{Caller, Row, Work, row};
use super::crowd;
use super::exit::print;
use super::list::fail;
use super::options::ClientOptions;
use crate::client::ClientError;
use crate::server::wire::HealthBody;
use clap::Args;
use std::time::{Duration, Instant};

/// Measures a server, beside an empty request to the same server.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    client: ClientOptions,
    /// Seconds of each row
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Connections that ask at the same time
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Measures hand-overs in a line of this many waiters instead
    #[arg(long, value_name = "NUMBER", conflicts_with = "crowd")]
    waiters: Option<usize>,
    /// Has all clients compete for sixteen keys, checking exclusion and fences
    #[arg(long)]
    crowd: bool,
}

/// Runs `bench`. Returns the exit status.
pub(super) async fn run(args: BenchArgs) -> u8 {
    match rows(&args).await {
        Ok(rows) if args.client.json => {
            print((serde_json::to_string_pretty(&rows).unwrap_or_default() + "\n").as_bytes())
        }
        Ok(rows) => print(table(&rows).as_bytes()),
        Err(error) => fail(&error),
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = format!("{:<32} {:>12} {:>10} {:>10}\n", "", "a second", "p50 us", "p99 us");
    for row in rows {
        text += &format!("{:<32} {:>12.0} {:>10.1} {:>10.1}\n", row.what, row.per_second, row.p50_us, row.p99_us);
    }
    text
}

async fn rows(args: &BenchArgs) -> Result<Vec<Row>, ClientError> {
    let time = Duration::try_from_secs_f64(args.seconds).unwrap_or(Duration::from_secs(2));
    let clients = args.clients.clamp(1, 10_000);
    if let Some(waiters) = args.waiters {
        return Ok(vec![crowd::line(&args.client, waiters).await?]);
    }
    if args.crowd {
        return Ok(vec![crowd::crowd(&args.client, clients, time).await?]);
    }
    let mut rows = free(args, (clients, time)).await?;
    rows.push(hand_off(args, time).await?);
    Ok(rows)
}

/// Calls of one kind before those of the next.
///
/// The kinds take turns on the same connection, so a thread that the scheduler puts elsewhere moves all of them.
const TURN: usize = 50;

/// The rows of a free lock, each client with a connection and a key of its own.
async fn free(args: &BenchArgs, (clients, time): (usize, Duration)) -> Result<Vec<Row>, ClientError> {
    const KINDS: [Work; 3] = [Work::Empty, Work::Lock, Work::Pair];
    let begun = Instant::now();
    let time = time.saturating_mul(KINDS.len() as u32);
    let mut tasks = Vec::new();
    for client in 0..clients {
        let mut caller = Caller::open(args.client.http()?).await?;
        tasks.push(tokio::spawn(async move {
            let object = format!("free-{client}");
            let mut times = [const { Vec::new() }; KINDS.len()];
            let mut renewed = Instant::now();
            // Once at least, on a machine that is busy with other things.
            while times[0].is_empty() || begun.elapsed() < time {
                for (kind, times) in KINDS.into_iter().zip(&mut times) {
                    for _ in 0..TURN {
                        times.push(caller.work(kind, &object).await?);
                    }
                }
                if renewed.elapsed() > Duration::from_secs(10) {
                    caller.renew().await?;
                    renewed = Instant::now();
                }
            }
            caller.http.end_session(&caller.session).await?;
            Ok::<_, ClientError>(times)
        }));
    }
    let mut all = [const { Vec::new() }; KINDS.len()];
    for task in tasks {
        let times = task.await.map_err(|error| ClientError::Answer(error.to_string()))??;
        for (all, times) in all.iter_mut().zip(times) {
            all.extend(times);
        }
    }
    let row_of = |(kind, times): (Work, Vec<Duration>)| {
        let what = match kind {
            Work::Empty => "empty request (/healthz)",
            Work::Lock => "lock, free (of a pair)",
            Work::Pair => "lock and unlock, free",
        };
        // What each client would do in this time, if it did nothing else.
        let elapsed = times.iter().sum::<Duration>() / u32::try_from(clients).unwrap_or(u32::MAX);
        row(what, times, elapsed)
    };
    Ok(KINDS.into_iter().zip(all).map(row_of).collect())
}

/// From the sending of a release to the waiter's answer, between two callers.
///
/// The lock goes back and forth.
async fn hand_off(args: &BenchArgs, time: Duration) -> Result<Row, ClientError> {
    let mut holder = Caller::open(args.client.http()?).await?;
    let mut waiter = Caller::open(args.client.http()?).await?;
    let watcher = args.client.http()?;
    let begun = Instant::now();
    let mut times = Vec::new();
    holder.lock("hand-off", 0).await?;
    while times.is_empty() || begun.elapsed() < time {
        let waits = async {
            let granted = waiter.lock("hand-off", 20_000).await;
            (granted, Instant::now())
        };
        let releases = async {
            // The waiter is in line: what follows is the hand-over alone.
            while watcher.get::<HealthBody>("/healthz").await?.waiters == 0 {}
            let released = Instant::now();
            holder.unlock().await?;
            Ok::<_, ClientError>(released)
        };
        let ((granted, answered), released) = tokio::join!(waits, releases);
        granted?;
        times.push(answered.saturating_duration_since(released?));
        std::mem::swap(&mut holder, &mut waiter);
    }
    let elapsed = begun.elapsed();
    for caller in [holder, waiter] {
        caller.http.end_session(&caller.session).await?;
    }
    Ok(row("release to the waiter's answer", times, elapsed))
}
