//! Deaths of writers that no holder was informed of, on their way to the key's next one.
//!
//! A death is in the word of the key's entry. Where the entry gets another key, or the key has none, its gate remembers it,
//! until the key comes into the table again. Neither way may a death be missed by a holder that acquires after
//! [`report`] has returned: the model is `model/deaths.rs`.
//!
//! The reporter notes the death with the gate and then looks for the key; the inserter writes the key and then looks at the
//! gate. One of them sees the other. An evictor names itself in the word, and notes a death that it finds there before the
//! key is gone. One that is marked later goes with the key, so the reporter's note stays: the key's next insertion reports
//! the death once more, which is once too often if a holder has heard of it.

use crate::lookup::{Fingerprint, find, read_print};
use crate::mutex::lock;
use crate::protocol::{load, swap};
use crate::region::Region;
use crate::word::Word;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// The keys of holds that were informed of a death, by record and use.
///
/// One that is revoked is the last to know its key: the entry may have another by then.
#[derive(Default)]
pub(crate) struct Informed(Mutex<BTreeMap<u32, (u32, Fingerprint)>>);

impl Informed {
    /// Caller holds: the key with this record.
    pub(crate) fn note(&self, region: &Region, record: u32, print: Fingerprint) {
        lock(&self.0).insert(record, (region.record(record).hold.load(Ordering::Relaxed), print));
    }

    /// The key of a hold that was informed.
    pub(crate) fn key_of(&self, region: &Region, record: u32) -> Option<Fingerprint> {
        let hold = region.record(record).hold.load(Ordering::Relaxed);
        lock(&self.0).get(&record).filter(|(of, _)| *of == hold).map(|(_, print)| *print)
    }
}

/// Marks the first place of a gate as a set of classes of keys.
///
/// It is one when more deaths were lost than the gate has places.
///
/// The keys of a class that is set report a death whenever they come into the table, from then on. No bit is ever cleared:
/// which keys' deaths it stands for is not known, so the last of them cannot be seen to have been reported.
const CLASSES: u64 = 1 << 63;

/// What a place remembers of a key alone: it is no word of classes, and not zero.
fn of_key(print: Fingerprint) -> u64 {
    (print.0[0] & !CLASSES).max(1)
}

/// The bit of the class of a key that a place remembers.
fn class(key: u64) -> u64 {
    CLASSES | 1 << (key % 63)
}

/// Whether a place says that the key's writer died.
fn covers(place: u64, key: u64) -> bool {
    place == key || place & class(key) == class(key)
}

/// Has the key's next writer informed of a death.
pub(crate) fn report(region: &Region, print: Fingerprint) {
    note(region, print);
    // Pairs with: the fence in `take_lost`.
    fence(Ordering::SeqCst);
    if let Some(slot) = find(region, print) {
        mark(region, slot);
    }
}

/// Marks a death in the word, until a writer reports it.
pub(crate) fn mark(region: &Region, slot: u32) {
    loop {
        let seen = load(region, slot);
        if seen.died() || swap(region, slot, seen, seen.with_died()) {
            return;
        }
    }
}

/// Has the key's gate remember a death.
fn note(region: &Region, print: Fingerprint) {
    let (lost, key) = (lost(region, print), of_key(print));
    // Pairs with: `take_lost`.
    let holds = |place: &AtomicU64| covers(place.load(Ordering::SeqCst), key);
    for place in lost {
        // A key may stand there twice: the one that takes it out takes both.
        let noted = place.compare_exchange(0, key, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if noted || holds(place) {
            return;
        }
    }
    // The key that stood there joins its class. Pairs with: `take_lost`.
    let _ = lost[0].fetch_update(Ordering::SeqCst, Ordering::SeqCst, |seen| Some(classes_of(seen) | class(key)));
}

/// The place as a word of classes.
fn classes_of(place: u64) -> u64 {
    match place {
        0 => CLASSES,
        seen if seen & CLASSES != 0 => seen,
        key => class(key),
    }
}

/// Has the gate of a key that is evicted remember the death that its word has.
///
/// Caller holds: the entry as its named writer. `before` is the word that it was claimed from.
pub(crate) fn note_evicted(region: &Region, slot: u32, before: Word) {
    let print = read_print(region.entry(slot));
    if before.died() && print.0[0] != 0 {
        note(region, print);
    }
}

/// Marks a remembered death in the word of a key that has just been inserted.
///
/// Caller holds: the entry as its named writer, and the key's gate.
pub(crate) fn take_lost(region: &Region, print: Fingerprint, slot: u32) {
    // Pairs with: the fence in `report`. The key was written before.
    fence(Ordering::SeqCst);
    let (mut is_noted, key) = (false, of_key(print));
    for place in lost(region, print) {
        if !covers(place.load(Ordering::SeqCst), key) {
            continue;
        }
        if !std::mem::replace(&mut is_noted, true) {
            mark(region, slot);
        }
        // Whatever becomes of this process: its recoverer says that a writer died. Pairs with: `note`.
        let _ = place.compare_exchange(key, 0, Ordering::SeqCst, Ordering::Relaxed);
    }
}

fn lost(region: &Region, print: Fingerprint) -> &[AtomicU64; 3] {
    &region.gate(print.first_bucket(region)).lost_deaths
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{LockRequest, SharedTable, TableConfig};

    /// A table of two buckets, whose sixteen entries `fill` gives to other keys.
    fn table() -> SharedTable {
        SharedTable::memfd("deaths", &TableConfig::default().keys(8).members(1)).expect("a table")
    }

    fn fill(table: &SharedTable, round: u32) {
        let names: Vec<String> = (0..16).map(|key| format!("{round}-{key}")).collect();
        let held: Vec<_> =
            names.iter().map(|name| table.lock(LockRequest::read(("photos", name))).now().expect("free")).collect();
        drop(held);
    }

    fn is_informed(table: &SharedTable) -> bool {
        table.lock(LockRequest::write(("photos", "cat.jpg"))).now().expect("free").previous_holder_died()
    }

    #[test]
    fn death_of_absent_key_reported_once() {
        let table = table();
        let region = &table.core().region;
        let print = table.fingerprint(("photos", "cat.jpg").into()).expect("a key");
        report(region, print);
        fill(&table, 1);
        assert!(is_informed(&table));
        fill(&table, 2);
        assert!(!is_informed(&table), "it was reported");
    }

    #[test]
    fn death_of_evicted_key_reported_once() {
        let table = table();
        let region = &table.core().region;
        let print = table.fingerprint(("photos", "cat.jpg").into()).expect("a key");
        assert!(!is_informed(&table));
        report(region, print);
        fill(&table, 1);
        assert!(find(region, print).is_none(), "its entry has another key");
        assert!(is_informed(&table));
        fill(&table, 2);
        assert!(!is_informed(&table), "it was reported");
    }

    #[test]
    fn deaths_of_several_absent_keys_are_their_own() {
        let table = table();
        let region = &table.core().region;
        let print = |name: &str| table.fingerprint(("photos", name).into()).expect("a key");
        let names = (0..).map(|number| format!("absent-{number}"));
        let names: Vec<_> = names.filter(|name| print(name).first_bucket(region) == 0).take(104).collect();
        let (names, others) = names.split_at(4);
        let is_informed =
            |name: &str| table.lock(LockRequest::write(("photos", name))).now().expect("free").previous_holder_died();
        names[..3].iter().for_each(|name| report(region, print(name)));
        assert!(!is_informed(&names[3]), "another's death");
        for round in 0..2 {
            let informed = names[..3].iter().filter(|name| is_informed(name)).count();
            assert_eq!(informed, if round == 0 { 3 } else { 0 });
            fill(&table, round);
        }
        // There is no place for more than three.
        names.iter().for_each(|name| report(region, print(name)));
        assert!(names.iter().all(|name| is_informed(name)));
        // Those of 4 of 63 classes.
        let informed = others.iter().filter(|name| is_informed(name)).count();
        assert!(informed < 50, "{informed} of {} keys report a death that none of them had", others.len());
    }

    #[test]
    fn death_given_back_finds_its_key() {
        let table = table();
        let region = &table.core().region;
        let print = table.fingerprint(("photos", "cat.jpg").into()).expect("a key");
        report(region, print);
        let informed = table.lock(LockRequest::write(("photos", "cat.jpg"))).now().expect("free");
        assert!(informed.previous_holder_died());
        assert_eq!(table.revoke(informed.id()).ok(), Some(true));
        fill(&table, 1);
        assert!(find(region, print).is_none(), "its entry has another key");
        informed.give_back();
        let died = (0..16).filter(|slot| load(region, *slot).died()).count();
        assert_eq!(died, 0, "the death is another key's");
        assert!(is_informed(&table));
    }

    #[test]
    fn death_marked_beside_an_evictor_is_kept() {
        let table = table();
        let (core, region) = (table.core(), &table.core().region);
        let print = table.fingerprint(("photos", "cat.jpg").into()).expect("a key");
        assert!(!is_informed(&table));
        let slot = find(region, print).expect("it was used");
        // An evictor that has named itself, and has not taken the key out yet.
        let before = crate::lookup::claim(region, slot, core.me).expect("it is free");
        report(region, print);
        note_evicted(region, slot, before);
        crate::lookup::take_key_out(region, slot);
        let _ = crate::protocol::enter::drain(region, slot);
        crate::protocol::leave::leave_exclusive(region, slot, core.me);
        assert!(is_informed(&table));
    }
}
