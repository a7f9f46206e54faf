//! Runs this program under `valgrind --tool=callgrind` and reads how often each instruction was executed.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

/// What one run executed.
pub(super) struct Profile {
    /// All instructions together.
    pub(super) instructions: u64,
    /// By program or library file: how often the instruction at each address ran.
    pub(super) objects: BTreeMap<String, BTreeMap<u64, u64>>,
}

/// Returns whether valgrind can be started; otherwise what to do.
pub(super) fn must_be_there() -> Result<(), String> {
    match Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err("valgrind is not here. Install it (Debian and Ubuntu: apt-get install valgrind; Fedora: dnf install \
                  valgrind; Arch: pacman -S valgrind) and run this again"
            .into()),
    }
}

/// Runs `count` pairs of `subject` under callgrind.
pub(super) fn run(subject: &str, mode: &str, count: u64) -> Result<Profile, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program cannot find itself: {error}"))?;
    let place = std::env::temp_dir().join(format!("keylatch-bench-{}.callgrind", std::process::id()));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--dump-instr=yes", "--compress-pos=no", "--compress-strings=no"])
        .arg(format!("--callgrind-out-file={}", place.display()))
        .arg(program)
        .args(["child", "pairs", subject, mode, &count.to_string()])
        .output()
        .map_err(|error| format!("valgrind does not start: {error}"))?;
    let text = fs::read_to_string(&place);
    // A run that failed may have left none.
    let _ = fs::remove_file(&place);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last: Vec<_> = said.lines().rev().take(5).collect();
        return Err(format!("{subject} under valgrind ended with {}: {}", output.status, last.join(" | ")));
    }
    read(&text.map_err(|error| format!("callgrind left no profile: {error}"))?)
}

/// Reads a profile without compressed names and positions. The lines that matter:
///
/// ```text
/// ob=/path/of/the/file            the file that the following costs belong to
/// 0x1234 17 42                    address, source line, times executed
/// calls=3 0x5678 20               the next line is the cost inside the callee, which stands there too
/// totals: 1234
/// ```
fn read(text: &str) -> Result<Profile, String> {
    let mut profile = Profile { instructions: 0, objects: BTreeMap::new() };
    let mut object = String::new();
    let mut in_callee = false;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("ob=") {
            name.clone_into(&mut object);
        } else if line.starts_with("calls=") {
            in_callee = true;
        } else if let Some(total) = line.strip_prefix("totals:") {
            profile.instructions = total.trim().parse().map_err(|_| format!("callgrind's total is {total:?}"))?;
        } else if line.starts_with("0x") {
            if std::mem::take(&mut in_callee) {
                continue;
            }
            let mut words = line.split_whitespace();
            let address = words.next().and_then(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
            let times = words.nth(1).and_then(|word| word.parse::<u64>().ok());
            let (Some(address), Some(times)) = (address, times) else {
                return Err(format!("callgrind wrote a line that is not understood: {line:?}"));
            };
            *profile.objects.entry(object.clone()).or_default().entry(address).or_default() += times;
        }
    }
    if profile.instructions == 0 { Err("callgrind's profile has no total".into()) } else { Ok(profile) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_of_callees_count_once() {
        let text = "positions: instr line\nevents: Ir\n\nob=/bin/one\nfl=a.rs\nfn=main\n0x10 1 5\n0x14 1 5\n\
                    cob=/lib/two\ncfn=inner\ncalls=5 0x99 7\n0x18 2 500\n0x10 1 2\n\nob=/lib/two\nfn=inner\n0x99 7 100\n\
                    totals: 112\n";
        let profile = read(text).expect("the text is a profile");
        assert_eq!(profile.instructions, 112);
        assert_eq!(profile.objects["/bin/one"], BTreeMap::from([(0x10, 7), (0x14, 5)]));
        assert_eq!(profile.objects["/lib/two"], BTreeMap::from([(0x99, 100)]));
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        assert!(read("").is_err());
        assert!(read("0x10 nothing\ntotals: 1\n").is_err());
    }
}
