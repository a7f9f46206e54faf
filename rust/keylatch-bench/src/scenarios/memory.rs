//! Scenarios of memory, each in a process of its own, so that no subject stands on what another left behind.
//!
//! The process is this program again: `keylatch-bench child memory SUBJECT PAGES`. It does all three things in one
//! go (create, hold a million, release) and prints a row for each; the parent keeps the row it wants. What
//! the holder needs to remember (keys and handles) is touched before anything is measured, so it is not in any figure.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::allocations;
use crate::keys::KeySet;
use crate::machine::{refuse_huge_pages, resident_bytes, trim_allocator};
use crate::row::Row;
use crate::slices::{Lane, Pace, in_turn};
use crate::subject::{Holding, Subject};
use crate::subjects::{Contender, every_keyed};
use crate::unit::BareWord;

const LOCKS: usize = 1_000_000;
const KEY_BYTES: usize = 48;

/// Creating is so short that the best of several fresh processes is taken.
const CREATIONS: usize = 5;

/// Pages as the system gives them, or only small ones.
///
/// Huge ones make memory quicker and coarser.
#[derive(Clone, Copy, PartialEq)]
enum Pages {
    Default,
    Small,
}

/// How much of the three things a child does.
#[derive(Clone, Copy, PartialEq)]
enum Extent {
    Create,
    All,
}

/// What a child does for one subject.
type Child = fn(bool) -> Vec<Row>;

/// The rows for a subject, in a child process; `None` if there is no such subject.
pub(crate) fn in_child(subject: &str, everything: bool, small_pages: bool) -> Option<Vec<Row>> {
    let children: Vec<Contender<Child>> = every_keyed!(three_rows as Child);
    let child = children.iter().find(|child| child.name == subject)?;
    if small_pages {
        refuse_huge_pages();
    }
    Some((child.function)(everything))
}

fn timed_row<S: Subject>(scenario: &str, unit: f64, took: Duration, ops: u64, allocations: u64) -> Row {
    let mut row = Row::new(S::NAME, scenario).with("unit_ns", unit);
    row.ns = took.as_nanos() as f64 / ops as f64;
    row.ratio = row.ns / unit;
    row.ops = ops;
    row.allocs = allocations as f64 / ops as f64;
    row
}

/// Room for `count` values whose memory is there before anything is measured.
fn touched<T>(count: usize) -> Vec<T> {
    let mut room = Vec::with_capacity(count);
    for slot in room.spare_capacity_mut() {
        *slot = MaybeUninit::zeroed();
    }
    black_box(room.as_mut_ptr());
    room
}

fn three_rows<S: Holding>(everything: bool) -> Vec<Row> {
    let word = BareWord::new();
    let shortly = Pace { subject: Duration::from_millis(20), ..Pace::QUICK };
    let [unit] = in_turn(&shortly, [Lane::new(|count| word.pairs(count))]);
    let keys = KeySet::with_length(if everything { LOCKS } else { 0 }, KEY_BYTES);
    // The first look at /proc needs memory of its own.
    resident_bytes();

    let before = resident_bytes();
    let (allocations, began) = (allocations::of_this_thread(), Instant::now());
    let subject = black_box(S::create());
    let (took, allocations) = (began.elapsed(), allocations::of_this_thread() - allocations);
    let fresh = resident_bytes();
    let kib = fresh.saturating_sub(before) as f64 / 1024.0;
    let create = timed_row::<S>("create", unit.best, took, 1, allocations).with("kib", kib);

    let mut rows = vec![create];
    if everything {
        rows.extend(hold_and_release(&subject, &keys, unit.best));
    }
    rows
}

/// Holds all keys together, then releases them all.
fn hold_and_release<S: Holding>(subject: &S, keys: &KeySet, unit: f64) -> [Row; 2] {
    let _entered = subject.enter();
    let mut held: Vec<S::Held<'_>> = touched(keys.len());
    let count = keys.len() as u64;

    let fresh = resident_bytes();
    let (allocations, began) = (allocations::of_this_thread(), Instant::now());
    held.extend(keys.iter().map(|key| subject.hold(key)));
    let (took, allocations) = (began.elapsed(), allocations::of_this_thread() - allocations);
    let full = resident_bytes();
    let holding = timed_row::<S>("bytes_held", unit, took, count, allocations)
        .with("bytes", full.saturating_sub(fresh) as f64 / count as f64)
        .with("handle_bytes", size_of::<S::Held<'_>>() as f64);

    let (allocations, began) = (allocations::of_this_thread(), Instant::now());
    held.drain(..).for_each(|held| subject.give_back(held));
    let (took, allocations) = (began.elapsed(), allocations::of_this_thread() - allocations);
    let mib_above_fresh = || resident_bytes().saturating_sub(fresh) as f64 / f64::from(1 << 20);
    let left = mib_above_fresh();
    trim_allocator();
    let leaving = timed_row::<S>("bytes_left", unit, took, count, allocations)
        .with("mib", left)
        .with("mib_trimmed", mib_above_fresh());
    drop(held);
    [holding, leaving]
}

/// Rows of the children that did everything, so that two scenarios need one child.
static KNOWN: Mutex<Vec<(Row, Pages)>> = Mutex::new(Vec::new());

/// Returns the row for `scenario` of a child process for one subject.
fn child(subject: &str, scenario: &str, extent: Extent, pages: Pages) -> Result<Row, String> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let is_it = |row: &Row| row.subject == subject && row.scenario == scenario;
    if extent == Extent::All
        && let Some((row, _)) = known.iter().find(|(row, of)| is_it(row) && *of == pages)
    {
        return Ok(row.clone());
    }
    let rows = start_child(subject, extent, pages)?;
    let wanted = rows.iter().find(|row| is_it(row)).cloned();
    if extent == Extent::All {
        known.extend(rows.into_iter().map(|row| (row, pages)));
    }
    wanted.ok_or_else(|| format!("the child process printed no row for {scenario}"))
}

/// Runs this program again for one subject.
fn start_child(subject: &str, extent: Extent, pages: Pages) -> Result<Vec<Row>, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program cannot find itself: {error}"))?;
    let output = Command::new(program)
        .args(["child", "memory", subject])
        .arg(if extent == Extent::All { "all" } else { "create" })
        .arg(if pages == Pages::Small { "small" } else { "default" })
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("the child process does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("the child process ended with {}", output.status));
    }
    let rows = String::from_utf8_lossy(&output.stdout);
    Ok(rows.lines().filter_map(|line| Row::from_json(&serde_json::from_str(line).ok()?)).collect())
}

/// Returns the row of a child, and `name` of a second one as `NAME_small_pages`.
///
/// The second one is on small pages only.
fn from_children<S: Subject>(pace: &Pace, scenario: &str, name: &str, extent: Extent) -> Row {
    let measure = || {
        let mut row = child(S::NAME, scenario, extent, Pages::Default)?;
        if !pace.quick {
            let figure = child(S::NAME, scenario, extent, Pages::Small)?.figure(name);
            row = row.with(&format!("{name}_small_pages"), figure.unwrap_or(f64::NAN));
        }
        Ok::<_, String>(row)
    };
    measure().unwrap_or_else(|problem| {
        let mut row = Row::new(S::NAME, scenario);
        row.remark(&format!("NOT MEASURED: {problem}"));
        row
    })
}

pub(super) fn bytes_held<S: Holding>(pace: &Pace) -> Row {
    from_children::<S>(pace, "bytes_held", "bytes", Extent::All)
}

pub(super) fn bytes_left<S: Holding>(pace: &Pace) -> Row {
    from_children::<S>(pace, "bytes_left", "mib", Extent::All)
}

/// Returns the quickest of several fresh processes.
pub(super) fn create<S: Holding>(pace: &Pace) -> Row {
    (0..CREATIONS)
        .map(|_| from_children::<S>(pace, "create", "kib", Extent::Create))
        .min_by(|one, other| one.ns.total_cmp(&other.ns))
        .expect("there is at least one")
}
