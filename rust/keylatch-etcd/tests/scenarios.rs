//! Carries out `tests/scenarios/*.json` through managers whose keys are on an etcd cluster.
//!
//! The page beside those files says what they mean.

#[allow(dead_code)]
#[path = "it/cluster.rs"]
mod cluster;
#[allow(dead_code)]
#[path = "../../keylatch-capi/tests/it/scenario/mod.rs"]
mod scenario;
#[path = "../../keylatch-capi/tests/it/scenario/under_tier.rs"]
mod under_tier;

use cluster::Cluster;
use keylatch::{FastObjectLockManager, LockConfig};
use keylatch_etcd::EtcdConfig;
use keylatch_etcd::tier::EtcdTier;
use scenario::Way;
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
    let Some(cluster) = Cluster::shared() else { return };
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let make = |config: LockConfig| {
        // A namespace each: what one scenario leaves is not the next one's.
        let namespace = format!("scenario-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let tier = EtcdTier::open(EtcdConfig::new(cluster.endpoints()).namespace(namespace)).expect("a tier");
        FastObjectLockManager::with_tier(config, Arc::new(tier))
    };
    under_tier::run_all(way, make);
}
