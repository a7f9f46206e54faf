//! Carries out all scenarios that a manager under a tier can.

#![allow(clippy::print_stdout, reason = "it says what was left out")]

use crate::scenario::{Way, run};
use keylatch::{FastObjectLockManager, LockConfig, LockError};
use serde_json::Value;
use std::path::Path;

/// What the Rust front can do beyond the verbs that every front has.
const FEATURES: &[&str] = &["sessions", "leases", "listing", "request_ids", "lock_delay", "events", "on_lost"];

/// How names begin of those that state figures and answers without a wait.
///
/// A wait for the tier's answer is a wait.
const COUNT_WAITS: &[&str] =
    &["an_idle_manager_is_healthy", "event_of_a_slow_wait", "figures_count", "granted_", "openmetrics_text"];

/// Carries out each scenario with a manager that `make` makes.
pub(crate) fn run_all(way: Way, make: impl Fn(LockConfig) -> Result<FastObjectLockManager, LockError>) {
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
        match run(&scenario, way, &make) {
            Ok(()) => passed += 1,
            Err(problem) => failed.push(format!("{name}: {problem}")),
        }
    }
    assert!(failed.is_empty(), "{passed} passed, {} failed:\n{}", failed.len(), failed.join("\n"));
    assert!(passed >= 40, "only {passed} scenarios were carried out");
    println!("{passed} scenarios passed");
}
