//! Carries out `tests/scenarios/*.json` through managers whose keys are in a table of shared memory.
//!
//! The page beside those files says what they mean.

#![allow(clippy::print_stdout, reason = "it says what was left out")]

#[allow(dead_code)]
#[path = "it/children.rs"]
mod children;
#[allow(dead_code)]
#[path = "../../keylatch-capi/tests/scenario/mod.rs"]
mod scenario;

use children::Folder;
use keylatch::{FastObjectLockManager, LockConfig};
use keylatch_shm::TableConfig;
use keylatch_shm::tier::SharedMemoryTier;
use scenario::{Way, run};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What the Rust front can do beyond the verbs that every front has.
const FEATURES: &[&str] = &["sessions", "leases", "listing", "request_ids", "lock_delay", "events", "on_lost"];

/// How names begin of those that state figures and answers without a wait.
///
/// A wait for the tier's answer is a wait.
const COUNT_WAITS: &[&str] =
    &["an_idle_manager_is_healthy", "event_of_a_slow_wait", "figures_count", "granted_", "openmetrics_text"];

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
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scenarios");
    let files = std::fs::read_dir(&place).expect("the scenarios are there");
    let mut files: Vec<_> = files.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let (mut passed, mut failed) = (0, Vec::new());
    for path in files {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("the file can be read");
        let scenario: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut needs = scenario["needs"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let lacks = needs.any(|feature| !FEATURES.contains(&feature));
        if lacks || COUNT_WAITS.iter().any(|begin| name.starts_with(begin)) {
            println!("left out: {name}");
            continue;
        }
        match run(&scenario, way, make) {
            Ok(()) => passed += 1,
            Err(problem) => failed.push(format!("{name}: {problem}")),
        }
    }
    assert!(failed.is_empty(), "{passed} passed, {} failed:\n{}", failed.len(), failed.join("\n"));
    assert!(passed >= 40, "only {passed} scenarios were carried out");
    println!("{passed} scenarios passed");
}
