//! Events for `tracing`: one each, with what it says as fields.

use super::event::Event;
use crate::wait::without_panic;
use tracing::{error, warn};

/// Emits an event.
///
/// Runs the program's subscriber, so no internal mutex may be held.
pub(super) fn hand_on(event: &Event) {
    // One that panics is the program's bug; the announcing thread is in the middle of a release, or has others to tell.
    without_panic(|| emit(event));
}

fn emit(event: &Event) {
    match event {
        Event::SlowWait { key, mode, owner, source, waited, granted } => {
            warn!(target: "keylatch", %key, %mode, %owner, source, ?waited, granted, "slow wait");
        }
        Event::SlowHold { key, mode, owner, source, held_for } => {
            warn!(target: "keylatch", %key, %mode, %owner, source, ?held_for, "slow hold");
        }
        Event::Timeout { key, mode, owner, source, waited, holders } => {
            warn!(target: "keylatch", %key, %mode, %owner, source, ?waited, %holders, "timeout");
        }
        Event::Deadlock { key, .. } => error!(target: "keylatch", %key, "{event}"),
        Event::LockOrder(report) => {
            let key = report.links.first().map(|link| tracing::field::display(&link.wanted));
            warn!(target: "keylatch", key, "{event}");
        }
        Event::Expired(hold) => {
            warn!(target: "keylatch", key = %hold.key, mode = %hold.mode, owner = %hold.owner, source = hold.source,
                held_for = ?hold.held_for, fence = hold.fence, "expired");
        }
        Event::Forced(hold) => {
            warn!(target: "keylatch", key = %hold.key, mode = %hold.mode, owner = %hold.owner, source = hold.source,
                held_for = ?hold.held_for, fence = hold.fence, "released by force");
        }
    }
}
