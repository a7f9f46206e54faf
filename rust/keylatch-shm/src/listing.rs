//! Who holds what, read beside the locks without stopping anything.

use crate::change::{is_changing, is_revocation};
use crate::core::Core;
use crate::listed::{HoldId, HolderInfo, TableFigures};
use crate::log::{self, Kind};
use crate::lookup::read_text;
use crate::os::robust::is_alive;
use crate::protocol::load;
use crate::region::{Bitmap, Region};
use crate::slot_state::life;
use crate::word::MemberId;
use crate::{member, records};
use keylatch::Mode;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Whether the slot names the member as a holder in this mode.
fn holds(region: &Region, slot: u32, id: MemberId, kind: Kind) -> bool {
    let word = load(region, slot);
    match kind {
        Kind::Exclusive | Kind::Rekey => word.writer() == Some(id),
        Kind::Shared => word.is_reader(id) || word.has_overflow() && region.has_bit(slot, Bitmap::Readers, id),
    }
}

pub(crate) fn is_held(region: &Region, slot: u32) -> bool {
    let word = load(region, slot);
    word.writer().is_some()
        || word.has_named_readers()
        || word.has_overflow() && !region.is_empty(slot, Bitmap::Readers)
}

/// The holds of one member, of one slot or of all entries.
///
/// A dead one has none, recovered or not.
fn of_member(core: &Core, id: MemberId, only: Option<u32>, found: &mut Vec<HolderInfo>) {
    let region = &core.region;
    if !is_alive(life(region, id)) {
        return;
    }
    let now = crate::os::clock::monotonic().as_millis() as u64;
    for index in log::records_of(region, id) {
        let record = region.record(index);
        // Pairs with: the releases that clear and rename records.
        let Some((slot, kind)) = log::unpack(record.head.load(Ordering::Acquire)) else { continue };
        let is_asked = only.is_none_or(|only| only == slot);
        if !is_asked || slot >= region.layout().entry_count() || kind == Kind::Rekey || !holds(region, slot, id, kind) {
            continue;
        }
        let hold = record.hold.load(Ordering::Acquire);
        if is_changing(record, hold) || is_revocation(record.revoked.load(Ordering::Acquire), hold) {
            // It may be a request that waits, or was revoked, and the name another thread's.
            continue;
        }
        let (program, label) = member::read_name(region, id);
        found.push(HolderInfo {
            key: read_text(region.entry(slot)),
            mode: if kind == Kind::Shared { Mode::Shared } else { Mode::Exclusive },
            pid: region.member(id).pid.load(Ordering::Relaxed),
            program,
            label,
            owner: records::read_owner(record),
            age: Duration::from_millis(now.saturating_sub(record.since_ms.load(Ordering::Relaxed))),
            hold: HoldId { member: id.number(), record: index, hold },
        });
    }
}

pub(crate) fn all(core: &Core) -> Vec<HolderInfo> {
    let mut found = Vec::new();
    for id in core.region.members() {
        of_member(core, id, None, &mut found);
    }
    found
}

pub(crate) fn of_slot(core: &Core, slot: u32) -> Vec<HolderInfo> {
    let word = load(&core.region, slot);
    let named = word.writer().into_iter().chain(word.readers().into_iter().flatten());
    let overflow = core.region.bits(slot, Bitmap::Readers).filter(|_| word.has_overflow());
    let mut found = Vec::new();
    for id in named.chain(overflow).filter(|id| core.region.has_member(*id)) {
        of_member(core, id, Some(slot), &mut found);
    }
    found
}

pub(crate) fn figures(core: &Core) -> TableFigures {
    let region = &core.region;
    let sizes = region.layout().sizes;
    TableFigures {
        keys: sizes.keys,
        members: sizes.members as u16,
        live_members: region.members().filter(|id| is_alive(life(region, *id))).count() as u16,
        recoveries: region.header().recoveries.load(Ordering::Relaxed),
        bytes: region.layout().total as u64,
        rechecks: core.rechecks.load(Ordering::Relaxed),
        late_signals: core.late_signals.load(Ordering::Relaxed),
    }
}
