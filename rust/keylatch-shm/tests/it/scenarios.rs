//! Carries out `tests/scenarios/*.json` through managers whose keys are in a table of shared memory.
//!
//! The page beside those files says what they mean.

use crate::children::Folder;
use crate::scenario::Way;
use crate::under_tier;
use keylatch::{FastObjectLockManager, LockConfig};
use keylatch_shm::TableConfig;
use keylatch_shm::tier::SharedMemoryTier;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

#[test]
fn every_scenario_by_queue() {
    all_by(Way::Queue);
}

#[test]
fn every_scenario_by_callback() {
    all_by(Way::Callback);
}

fn all_by(way: Way) {
    let folder = Folder::new();
    let number = AtomicU32::new(0);
    let make = |config: LockConfig| {
        // A table each: what one scenario leaves is not the next one's.
        let path = folder.path().join(format!("scenario-{}", number.fetch_add(1, Ordering::Relaxed)));
        let tier = SharedMemoryTier::open(path, &TableConfig::default().keys(4_096).members(4)).expect("a tier");
        FastObjectLockManager::with_tier(config, Arc::new(tier))
    };
    under_tier::run_all(way, make);
}
