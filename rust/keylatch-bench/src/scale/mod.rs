//! How keylatch's figures change with the number of held locks, threads and waiters, and with the length of keys.
//!
//! Every size runs in a process of its own, so that no size stands on what another left behind. The process is this program
//! again: `keylatch-bench child scale PART SIZE`.

mod held;
mod lengths;
mod setup;
mod threads;
mod waiters;

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::arguments::Options;
use crate::machine;
use crate::report::{json, table};
use crate::row::Row;

/// What grows, the sizes it is measured at, and what is shown of each.
struct Part {
    name: &'static str,
    says: &'static str,
    sizes: &'static [u64],
    measure: fn(u64) -> Row,
    /// Figures by name, and their headings.
    columns: &'static [(&'static str, &'static str)],
}

const PARTS: [Part; 4] = [
    Part {
        name: "held",
        says: "locks held, keys of 32 bytes: memory of each, and what other operations take beside them",
        sizes: &[1_000, 10_000, 100_000, 1_000_000, 8_000_000],
        measure: held::measure,
        columns: &[
            ("ns", "warm pair ns"),
            ("in_turn_ns", "10,000 keys in turn ns"),
            ("fill_ns", "acquire ns"),
            ("release_ns", "release ns"),
            ("bytes", "bytes a lock"),
            ("left_mib", "MiB left"),
            ("holders_us", "holders of a key us"),
            ("shared_holders_us", "of a shared key us"),
            ("waiters_us", "waiters of a key us"),
        ],
    },
    Part {
        name: "threads",
        says: "threads: pairs of all together, in millions a second",
        sizes: &[1, 2, 4, 16, 64, 256, 1_000],
        measure: threads::measure,
        columns: &[
            ("own_mops", "keys of their own"),
            ("exclusive_mops", "one key, exclusive"),
            ("shared_mops", "one key, shared"),
            ("bytes", "bytes a thread"),
        ],
    },
    Part {
        name: "waiters",
        says: "futures that wait for one key, exclusive: each step, and memory of each",
        sizes: &[1, 10, 100, 1_000, 10_000, 100_000, 1_000_000],
        measure: waiters::measure,
        columns: &[
            ("ns", "release to the next ns"),
            ("join_ns", "join ns"),
            ("cancel_ns", "drop the future ns"),
            ("bytes", "bytes a waiter"),
            ("left_mib", "MiB left"),
        ],
    },
    Part {
        name: "key_bytes",
        says: "bytes of a key",
        sizes: &[16, 32, 56, 57, 128, 200, 512, 1_000, 2_048, 4_096],
        measure: lengths::measure,
        columns: &[("ns", "warm pair ns"), ("shared_ns", "shared ns"), ("bytes", "bytes a held lock")],
    },
];

/// Measures every part, prints a table of each, and writes all rows as JSON.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let (machine, began) = (machine::describe(), Instant::now());
    println!("{}", table::heading(&machine));
    let mut rows = Vec::new();
    for part in &PARTS {
        let mut measured = Vec::new();
        for size in part.sizes {
            eprintln!("[{:>4} s] {} {size}", began.elapsed().as_secs(), part.name);
            measured.push(in_process(part, *size)?);
        }
        println!("{}", table::series(part.name, part.says, part.columns, &measured).trim_end());
        rows.append(&mut measured);
    }
    json::finish(options, "scale", &machine, &rows)
}

/// Measures one size in a process of its own.
fn in_process(part: &Part, size: u64) -> Result<Row, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program cannot find itself: {error}"))?;
    let output = Command::new(program)
        .args(["child", "scale", part.name, &size.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("the child process does not start: {error}"))?;
    let row = serde_json::from_slice(&output.stdout).ok().and_then(|value| Row::from_json(&value));
    row.ok_or_else(|| format!("the child process for {} {size} ended with {}", part.name, output.status))
}

/// Measures in this process. `None` if no part has this name.
pub(crate) fn in_child(part: &str, size: u64) -> Option<Row> {
    let part = PARTS.iter().find(|known| known.name == part)?;
    let mut row = (part.measure)(size);
    (row.subject, row.scenario) = (size.to_string(), part.name.to_owned());
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_the_figures_it_shows() {
        for part in &PARTS {
            let row = in_child(part.name, part.sizes[0]).expect("the part exists");
            for (name, _) in part.columns {
                assert!(row.figure(name).is_some_and(f64::is_finite), "{} of {}", name, part.name);
            }
            assert_eq!(row.subject, part.sizes[0].to_string());
        }
        assert!(in_child("nothing", 1).is_none());
    }
}
