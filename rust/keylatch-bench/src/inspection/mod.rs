//! Counts that do not depend on how busy the machine is: instructions and locked read-modify-writes a pair.
//!
//! The program runs itself under valgrind's callgrind twice, with different numbers of pairs. The difference of the two
//! counts, over the difference of the two numbers, is what one pair executes: start-up and warm-up fall out. What
//! the loop around the pair needs (a handful of instructions) is included.

mod callgrind;
mod disassembly;

use std::collections::{BTreeSet, HashMap};

use crate::arguments::Options;
use crate::keys::KeySet;
use crate::machine;
use crate::report::{json, table};
use crate::row::Row;
use crate::scenarios::pairs::{awaited_pair, batch_of_pairs, exclusive_pair, shared_pair};
use crate::subject::{BATCH, Batch, Exclusive, ExclusiveAsync, Shared};
use crate::subjects::{Contender, contenders, every_async, every_batch, every_exclusive, every_shared};
use crate::unit::BareWord;

/// Multiples of [`BATCH`].
const FEWER: u64 = 1_600;
const MORE: u64 = 11_200;

/// What a child runs: that many pairs on a warm key.
type Pairs = fn(u64);

fn exclusive<S: Exclusive>(count: u64) {
    let (subject, keys) = (S::create(), KeySet::common(1));
    let _entered = subject.enter();
    (0..count).for_each(|_| exclusive_pair(&subject, keys.get(0)));
}

fn shared<S: Shared>(count: u64) {
    let (subject, keys) = (S::create(), KeySet::common(1));
    let _entered = subject.enter();
    (0..count).for_each(|_| shared_pair(&subject, keys.get(0)));
}

fn awaited<S: ExclusiveAsync>(count: u64) {
    let (subject, keys) = (S::create(), KeySet::common(1));
    let _entered = subject.enter();
    (0..count).for_each(|_| awaited_pair(&subject, keys.get(0)));
}

/// A batch counts as one pair for each of its keys.
fn batch<S: Batch>(count: u64) {
    let (subject, keys) = (S::create(), KeySet::common(BATCH));
    let _entered = subject.enter();
    (0..count / BATCH as u64).for_each(|_| batch_of_pairs(&subject, &keys, 0));
}

/// The unit itself, which locks twice: shows what the loop and the tools add.
const UNIT: &str = "unit";

fn contenders(mode: &str) -> Vec<Contender<Pairs>> {
    let mut all = match mode {
        "exclusive" => every_exclusive!(exclusive as Pairs),
        "shared" => every_shared!(shared as Pairs),
        "awaited" => every_async!(awaited as Pairs),
        "batch" => every_batch!(batch as Pairs),
        _ => return Vec::new(),
    };
    #[cfg(feature = "keylatch")]
    all.extend(kept_keys(mode));
    all.push(Contender { name: UNIT, function: |count| BareWord::new().pairs(count) });
    all
}

/// What the other scenarios leave out, because it always locks the same keys.
#[cfg(feature = "keylatch")]
fn kept_keys(mode: &str) -> Vec<Contender<Pairs>> {
    use crate::subjects::keylatch::{Pinned, PinnedBatch, Prepared};
    match mode {
        "awaited" => contenders!(awaited as Pairs: Pinned, Prepared),
        "batch" => contenders!(batch as Pairs: PinnedBatch),
        _ => Vec::new(),
    }
}

/// Runs in a child process, under valgrind.
pub(crate) fn in_child(subject: &str, mode: &str, count: &str) -> Result<(), String> {
    let count: u64 = count.parse().map_err(|_| format!("{count:?} is no number of pairs"))?;
    let contender = contenders(mode).into_iter().find(|contender| contender.name == subject);
    let contender = contender.ok_or_else(|| format!("there is no subject {subject:?} that locks {mode}"))?;
    (contender.function)(count);
    Ok(())
}

/// Counts with `count` for every subject and mode, prints and writes the results.
fn count_all(
    options: &Options,
    name: &str,
    what: &str,
    columns: &[(&str, &str)],
    mut count: impl FnMut(&str, &str) -> Result<Row, String>,
) -> Result<(), String> {
    let machine = machine::describe();
    let mut rows = Vec::new();
    for mode in ["exclusive", "shared", "awaited", "batch"] {
        let scenario = format!("{name}_{mode}");
        let how = match mode {
            "awaited" => " from a future, polled by hand",
            "batch" => ", for each of a batch of 16",
            _ => "",
        };
        let says = format!("{what} to acquire and release one warm key{how}");
        let mut measured = Vec::new();
        for contender in contenders(mode) {
            if contender.name == UNIT || options.wants_subject(contender.name) {
                eprintln!("{scenario} {}", contender.name);
                let mut row = count(contender.name, mode)?;
                row.scenario.clone_from(&scenario);
                row.ops = MORE - FEWER;
                measured.push(row);
            }
        }
        println!("{}", table::counts(&scenario, &says, columns, &measured).trim_end());
        rows.extend(measured);
    }
    println!("{}", table::verdict(&rows));
    json::finish(options, name, &machine, &rows)
}

/// `keylatch-bench instructions`.
pub(crate) fn instructions(options: &Options) -> Result<(), String> {
    callgrind::must_be_there()?;
    let columns = [("instructions", "instructions a pair")];
    count_all(options, "instructions", "instructions", &columns, |subject, mode| {
        let fewer = callgrind::run(subject, mode, FEWER)?.instructions;
        let more = callgrind::run(subject, mode, MORE)?.instructions;
        let pair = (more as f64 - fewer as f64) / (MORE - FEWER) as f64;
        Ok(Row::new(subject, "").with("instructions", pair))
    })
}

/// `keylatch-bench atomics`.
pub(crate) fn atomics(options: &Options) -> Result<(), String> {
    callgrind::must_be_there()?;
    disassembly::must_be_there()?;
    // Disassembling takes seconds and every run executes the same files.
    let mut known: HashMap<String, BTreeSet<u64>> = HashMap::new();
    let mut locked = |profile: &callgrind::Profile| -> Result<u64, String> {
        let mut sum = 0;
        for (object, executed) in &profile.objects {
            if !known.contains_key(object) {
                known.insert(object.clone(), disassembly::locked_instructions(object)?);
            }
            let addresses = &known[object];
            sum +=
                executed.iter().filter(|(address, _)| addresses.contains(address)).map(|(_, times)| times).sum::<u64>();
        }
        Ok(sum)
    };
    let columns = [("locked", "locked a pair"), ("instructions", "instructions a pair")];
    count_all(options, "atomics", "locked read-modify-writes executed", &columns, |subject, mode| {
        let (fewer, more) = (callgrind::run(subject, mode, FEWER)?, callgrind::run(subject, mode, MORE)?);
        let pairs = (MORE - FEWER) as f64;
        let locked = (locked(&more)? as f64 - locked(&fewer)? as f64) / pairs;
        let instructions = (more.instructions as f64 - fewer.instructions as f64) / pairs;
        Ok(Row::new(subject, "").with("locked", locked).with("instructions", instructions))
    })
}
