//! Carries out `tests/scenarios/*.json` through the Rust front. The page beside those files says what they mean.

mod scenario;

use scenario::{Way, run};
use serde_json::Value;
use std::path::Path;

/// What the Rust front can do beyond the verbs that every front has.
const FEATURES: &[&str] = &["sessions", "leases", "listing", "request_ids", "lock_delay", "events", "on_lost", "fork"];

#[test]
fn every_scenario_by_queue() {
    all_by(Way::Queue);
}

#[test]
fn every_scenario_by_callback() {
    all_by(Way::Callback);
}

fn all_by(way: Way) {
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
        let text = std::fs::read_to_string(&path).expect("the file can be read");
        let scenario: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let lacking = scenario["needs"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let lacking: Vec<_> = lacking.filter(|feature| !FEATURES.contains(feature)).collect();
        if !lacking.is_empty() {
            eprintln!("skipped {name}: needs {}", lacking.join(", "));
            continue;
        }
        match run(&scenario, way) {
            Ok(()) => passed += 1,
            Err(problem) => failed.push(format!("{name}: {problem}")),
        }
    }
    assert!(failed.is_empty(), "{passed} passed, {} failed:\n{}", failed.len(), failed.join("\n"));
    assert!(passed >= 40, "only {passed} scenarios were carried out");
}
