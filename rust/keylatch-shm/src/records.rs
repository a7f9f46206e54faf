//! Free log records of this process: a list of the process, and a few in each thread.

use crate::change::{has_name_left, is_revocation, open_use};
use crate::core::Core;
use crate::layout::{RECORDS, Record};
use crate::log::{self, Kind};
use crate::mutex::lock;
use crate::protocol::leave::leave_shared;
use crate::word::Place;
use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Records that one thread keeps.
const CACHED: usize = 16;

/// The calling thread's records of the table that it used last.
struct Cache {
    table: Cell<u64>,
    count: Cell<usize>,
    records: [Cell<u32>; CACHED],
    core: RefCell<Weak<Core>>,
}

thread_local! {
    static CACHE: Cache = const {
        Cache {
            table: Cell::new(0),
            count: Cell::new(0),
            records: [const { Cell::new(0) }; CACHED],
            core: RefCell::new(Weak::new()),
        }
    };
}

impl Cache {
    /// Gives the thread's records back to their table, if that is still open.
    fn empty(&self) {
        if let Some(core) = self.core.borrow().upgrade()
            && !core.is_forked()
        {
            lock(&core.records.free).extend(self.records[..self.count.get()].iter().map(Cell::get));
        }
        self.count.set(0);
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.empty();
    }
}

/// A record of the calling thread, if it has one of this table.
#[inline(always)]
pub(crate) fn take_fast(core: &Core) -> Option<u32> {
    CACHE
        .try_with(|cache| {
            let left = cache.count.get().checked_sub(1)?;
            if cache.table.get() != core.id {
                return None;
            }
            cache.count.set(left);
            Some(cache.records[left % CACHED].get())
        })
        .ok()
        .flatten()
}

/// Whether the calling thread has a record of this table.
pub(crate) fn has_fast(core: &Core) -> bool {
    CACHE.try_with(|cache| cache.count.get() > 0 && cache.table.get() == core.id).unwrap_or(false)
}

/// A record from the thread, the process or the table.
///
/// `None` when the table has no more.
#[inline]
pub(crate) fn take(core: &Arc<Core>) -> Option<u32> {
    take_fast(core).or_else(|| take_slow(core))
}

#[cold]
#[inline(never)]
fn take_slow(core: &Arc<Core>) -> Option<u32> {
    let mut free = lock(&core.records.free);
    if free.is_empty() {
        let chunk = log::take_chunk(&core.region, core.me)?;
        free.extend((chunk * RECORDS..(chunk + 1) * RECORDS).rev());
    }
    let mine = free.pop();
    let keep = free.len().saturating_sub(CACHED / 2);
    let kept: Vec<u32> = free.split_off(keep);
    drop(free);
    let unused = CACHE.try_with(|cache| {
        if cache.table.get() != core.id {
            cache.empty();
            *cache.core.borrow_mut() = Arc::downgrade(core);
            cache.table.set(core.id);
        }
        for record in &kept {
            let at = cache.count.get();
            if at == CACHED {
                return;
            }
            cache.records[at].set(*record);
            cache.count.set(at + 1);
        }
    });
    if unused.is_err() {
        lock(&core.records.free).extend(kept);
    }
    mine
}

/// Clears the record and keeps it for the next use.
#[inline(always)]
pub(crate) fn put(core: &Core, index: u32) {
    // Pairs with: a recoverer's acquire load. All duties of the hold come before.
    core.region.record(index).head.store(0, Ordering::Release);
    let kept = CACHE.try_with(|cache| {
        let at = cache.count.get();
        let fits = cache.table.get() == core.id && at < CACHED;
        if fits {
            cache.records[at].set(index);
            cache.count.set(at + 1);
        }
        fits
    });
    if kept != Ok(true) {
        put_slow(core, index);
    }
}

/// Clears the record of a revoked hold once its name is out of the word.
///
/// If the revoker was killed before that, the record stays: the name without one would count as damage, and a recoverer of
/// this process finds it.
#[cold]
#[inline(never)]
pub(crate) fn put_revoked(core: &Core, index: u32) {
    lock(&core.records.left).push(index);
    sweep(core);
}

/// Clears the records of revoked holds whose names are out of the word by now.
pub(crate) fn sweep(core: &Core) {
    let mark = |index: u32| core.region.record(index).revoked.load(Ordering::SeqCst);
    let mut left = lock(&core.records.left);
    // Pairs with: the revoker's swap behind its last access to the word.
    let done: Vec<u32> = left.extract_if(.., |index| !has_name_left(mark(*index))).collect();
    // The mutex is held until they are cleared: the next look finds them so.
    for index in done {
        let record = core.region.record(index);
        if !is_revocation(mark(index), record.hold.load(Ordering::Relaxed))
            && let Some((slot, Kind::Shared)) = log::unpack(record.head.load(Ordering::Relaxed))
        {
            // The revoker has taken it back after this process had released it: another thread had joined the name.
            core.lines.with(slot, |line| leave_shared(&core.region, slot, core.me, Place::Word, &mut line.sharers));
        }
        put(core, index);
    }
}

#[cold]
#[inline(never)]
fn put_slow(core: &Core, index: u32) {
    lock(&core.records.free).push(index);
}

/// Writes what the request is about to touch. Comes before the first trace.
#[inline(always)]
pub(crate) fn begin(core: &Core, index: u32, slot: u32, kind: Kind, owner: &str) {
    let record = core.region.record(index);
    let hold = record.hold.load(Ordering::Relaxed).wrapping_add(1);
    open_use(record, hold);
    record.since_ms.store(core.now_ms(), Ordering::Relaxed);
    write_owner(record, owner);
    // Pairs with: a revoker's and a listing's load, which see the use's number then; the swap that follows shows it to a
    // recoverer.
    record.head.store(log::pack(slot, kind), Ordering::Release);
}

/// Names another slot or kind in a record that is in use.
pub(crate) fn rename(core: &Core, index: u32, slot: u32, kind: Kind) {
    core.region.record(index).head.store(log::pack(slot, kind), Ordering::Release);
}

#[inline(always)]
fn write_owner(record: &Record, owner: &str) {
    if owner.is_empty() {
        record.owner_bytes.store(0, Ordering::Relaxed);
        return;
    }
    let kept = owner.len().min(32);
    let mut bytes = [0_u8; 32];
    bytes[..kept].copy_from_slice(&owner.as_bytes()[..kept]);
    for (word, bytes) in record.owner.iter().zip(bytes.chunks_exact(8)) {
        word.store(u64::from_le_bytes(bytes.try_into().expect("eight bytes")), Ordering::Relaxed);
    }
    record.owner_bytes.store(kept as u32, Ordering::Relaxed);
}

pub(crate) fn read_owner(record: &Record) -> String {
    let bytes: Vec<u8> = record.owner.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
    let kept = (record.owner_bytes.load(Ordering::Relaxed) as usize).min(32);
    String::from_utf8_lossy(&bytes[..kept]).into_owned()
}
