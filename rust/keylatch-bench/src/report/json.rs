//! Writes a run as JSON: `{"machine": {...}, "rows": [{subject, scenario, ns, ratio, ops, allocs, ...}]}`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::arguments::Options;
use crate::row::Row;

/// `target/bench/NAME.json`, under the directory that cargo builds into.
pub(crate) fn usual_place(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    target.join("bench").join(format!("{name}.json"))
}

/// Writes the run to `path`, making the directories that are missing.
pub(crate) fn write(path: &Path, machine: &Value, rows: &[Row]) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let rows: Vec<Value> = rows.iter().map(Row::to_json).collect();
    let run = json!({ "machine": machine, "rows": rows });
    fs::write(path, format!("{run:#}\n"))
}

/// Writes the JSON and says where it is.
pub(crate) fn finish(options: &Options, name: &str, machine: &Value, rows: &[Row]) -> Result<(), String> {
    let path = options.json.clone().unwrap_or_else(|| usual_place(name));
    write(&path, machine, rows).map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    eprintln!("written: {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let path = std::env::temp_dir().join(format!("keylatch-bench-{}", std::process::id())).join("run.json");
        let row = Row::new("keylatch", "handoff").with("p99_ns", 17.0);
        write(&path, &json!({ "cores": 2 }), std::slice::from_ref(&row)).expect("a temporary file can be written");
        let text = fs::read_to_string(&path).expect("it was just written");
        let run: Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(run["machine"]["cores"], 2);
        assert_eq!(Row::from_json(&run["rows"][0]), Some(row));
        fs::remove_dir_all(path.parent().expect("it has one")).expect("it is ours");
    }
}
