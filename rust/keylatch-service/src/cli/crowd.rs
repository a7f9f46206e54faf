//! Many callers at the same time: a long line for one key, and a crowd that checks exclusion and fences.

use super::bench_rows::{Caller, Row, row};
use super::options::ClientOptions;
use crate::client::ClientError;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keys that the crowd asks for.
const KEYS: usize = 16;
/// A call waits for its turn for this long at a time.
const WAIT_MS: u64 = 30_000;

/// Measures hand-overs among this many callers in line for one key.
///
/// Each has a connection of its own. A hand-over lasts from the sending of the release to the next one's answer.
pub(super) async fn line(options: &ClientOptions, waiters: usize) -> Result<Row, ClientError> {
    let mut holder = Caller::open(options.http()?).await?;
    holder.lock("line", 0).await?;
    let released = Arc::new(Mutex::new(Instant::now()));
    let mut tasks = Vec::new();
    for _ in 0..waiters {
        let mut caller = Caller::open(options.http()?).await?;
        let released = Arc::clone(&released);
        tasks.push(tokio::spawn(async move {
            let number = caller.next_number();
            while caller.lock_as(number, "line", WAIT_MS).await?.state != "granted" {}
            let waited = released.lock().elapsed();
            *released.lock() = Instant::now();
            caller.unlock().await?;
            Ok::<_, ClientError>((waited, caller))
        }));
    }
    while holder.waiters().await? < waiters {
        tokio::time::sleep(Duration::from_millis(5)).await;
        holder.renew().await?;
    }
    let begun = Instant::now();
    *released.lock() = begun;
    holder.unlock().await?;
    let mut times = Vec::new();
    let mut callers = vec![holder];
    for task in tasks {
        let (waited, caller) = task.await.map_err(|error| ClientError::Answer(error.to_string()))??;
        times.push(waited);
        callers.push(caller);
    }
    let row = row("release to the next one's answer", times, begun.elapsed());
    for caller in callers {
        caller.end().await?;
    }
    Ok(row)
}

/// What the crowd knows of a key: the fence that is inside, and the highest one.
#[derive(Debug, Default)]
struct Inside {
    now: Option<u64>,
    highest: u64,
}

/// Has all callers lock a few keys; checks exclusion and that fences grow.
pub(super) async fn crowd(options: &ClientOptions, clients: usize, time: Duration) -> Result<Row, ClientError> {
    let keys: Arc<[Mutex<Inside>; KEYS]> = Arc::new(std::array::from_fn(|_| Mutex::default()));
    let mut tasks = Vec::new();
    let mut callers = Vec::new();
    for _ in 0..clients {
        callers.push(Caller::open(options.http()?).await?);
    }
    let begun = Instant::now();
    for (client, mut caller) in callers.into_iter().enumerate() {
        let keys = Arc::clone(&keys);
        tasks.push(tokio::spawn(async move {
            let mut times = Vec::new();
            let mut key = client;
            // Once at least, on a machine that is busy with other things.
            while times.is_empty() || begun.elapsed() < time {
                key = key.wrapping_mul(31).wrapping_add(7) % KEYS;
                let asked = Instant::now();
                let number = caller.next_number();
                let fence = loop {
                    let answer = caller.lock_as(number, &format!("crowd-{key}"), WAIT_MS).await?;
                    if let Some(fence) = answer.fence {
                        break fence;
                    }
                };
                times.push(asked.elapsed());
                enter(&mut keys[key].lock(), fence)?;
                // A round trip inside: a second holder would come meanwhile.
                caller.renew().await?;
                keys[key].lock().now = None;
                caller.unlock().await?;
            }
            caller.end().await?;
            Ok::<_, ClientError>(times)
        }));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.map_err(|error| ClientError::Answer(error.to_string()))??);
    }
    Ok(row("lock and unlock in a crowd", times, begun.elapsed()))
}

fn enter(inside: &mut Inside, fence: u64) -> Result<(), ClientError> {
    if let Some(other) = inside.now.replace(fence) {
        return Err(ClientError::Answer(format!("VIOLATION: fence {fence} was granted while {other} is inside")));
    }
    if fence <= inside.highest {
        let highest = inside.highest;
        return Err(ClientError::Answer(format!("VIOLATION: fence {fence} came after {highest} at the same key")));
    }
    inside.highest = fence;
    Ok(())
}
