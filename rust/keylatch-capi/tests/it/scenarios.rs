//! Carries out `tests/scenarios/*.json` in Rust. The page beside those files says what they mean.

use crate::scenario::{Way, run};
use crate::tier_hub::{Hub, Weather};
use keylatch::{FastObjectLockManager, LockConfig, LockError};
use serde_json::Value;
use std::path::Path;

/// What Rust can do beyond the verbs that every language has.
const FEATURES: &[&str] = &["sessions", "leases", "listing", "request_ids", "lock_delay", "events", "on_lost", "fork"];

#[test]
fn every_scenario_by_queue() {
    all_by(Way::Queue, FastObjectLockManager::with_config);
}

#[test]
fn every_scenario_by_callback() {
    all_by(Way::Callback, FastObjectLockManager::with_config);
}

/// The keys are shared through a tier, which no other process reaches.
#[test]
fn every_scenario_through_a_calm_tier() {
    through_a_tier(Weather::calm());
}

/// Here each message to and from the tier takes its time.
#[test]
fn every_scenario_through_a_rough_tier() {
    through_a_tier(Weather::rough(3));
}

/// How names begin of those that state figures and answers without a wait.
///
/// A wait for the tier's answer is a wait.
const COUNT_WAITS: &[&str] = &["an_idle_manager_is_healthy", "figures_count", "granted_", "openmetrics_text"];

fn through_a_tier(weather: Weather) {
    // One hub each: what one scenario leaves is not the next one's.
    let make = |config| FastObjectLockManager::with_tier(config, Hub::new(weather).process());
    all_but(COUNT_WAITS, Way::Queue, make);
}

fn all_by(way: Way, make: impl Fn(LockConfig) -> Result<FastObjectLockManager, LockError>) {
    all_but(&[], way, make);
}

fn all_but(left_out: &[&str], way: Way, make: impl Fn(LockConfig) -> Result<FastObjectLockManager, LockError>) {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(&place)
        .expect("the scenarios are there")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    let (mut passed, mut failed) = (0, Vec::new());
    for path in files {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if left_out.iter().any(|begin| name.starts_with(begin)) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("the file can be read");
        let scenario: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let lacking = scenario["needs"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let lacking: Vec<_> = lacking.filter(|feature| !FEATURES.contains(feature)).collect();
        if !lacking.is_empty() {
            eprintln!("skipped {name}: needs {}", lacking.join(", "));
            continue;
        }
        match run(&scenario, way, &make) {
            Ok(()) => passed += 1,
            Err(problem) => failed.push(format!("{name}: {problem}")),
        }
    }
    assert!(failed.is_empty(), "{passed} passed, {} failed:\n{}", failed.len(), failed.join("\n"));
    assert!(passed >= 40, "only {passed} scenarios were carried out");
}
