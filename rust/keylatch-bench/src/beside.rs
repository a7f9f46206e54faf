//! Rust's figures for another language's bench, slice by slice in turns with its own.
//!
//! It asks with a line, `batch SIZE TIMES` or `pair 1 TIMES`, and is answered with a line: the nanoseconds that this took.
//! Between its questions this process sleeps.

use std::hint::black_box;
use std::io::{BufRead as _, Write as _};
use std::time::Instant;

use keylatch::{BatchLockRequest, FastObjectLockManager};

const BUCKET: &str = "photos";

/// Answers until there are no more questions.
pub(crate) fn answer() -> Result<(), String> {
    let locks = FastObjectLockManager::new();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let words: Vec<&str> = line.split(' ').collect();
        let [what, size, times] = words[..] else { return Err(format!("{line:?} is no question")) };
        let number = |word: &str| word.parse::<u64>().map_err(|error| format!("{line:?}: {error}"));
        let (size, times) = (number(size)?, number(times)?);
        // Those that the Go bench has.
        let objects: Vec<String> =
            (0..size).map(|number| format!("2026/11/cat-{}.jpg", 1_000_000 + 7 * number)).collect();
        let began = Instant::now();
        match what {
            "batch" => (0..times).for_each(|_| batch(&locks, &objects)),
            "pair" => (0..times).for_each(|_| objects.iter().for_each(|object| pair(&locks, object))),
            _ => return Err(format!("{what:?} is not measured here")),
        }
        let took = began.elapsed().as_nanos();
        writeln!(out, "{took}").and_then(|()| out.flush()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn batch(locks: &FastObjectLockManager, objects: &[String]) {
    let request =
        objects.iter().fold(BatchLockRequest::new(""), |request, object| request.add_write_lock(BUCKET, object));
    let _guards = black_box(locks).acquire_locks_batch_blocking(black_box(request)).expect("free keys are granted");
}

fn pair(locks: &FastObjectLockManager, object: &str) {
    let _guard =
        black_box(locks).acquire_write_lock_blocking(BUCKET, black_box(object), "").expect("a free key is granted");
}
