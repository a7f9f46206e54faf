//! Finds the locked read-modify-writes of a program file with `objdump`.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

/// Returns whether locked instructions can be found here; otherwise what to do.
pub(super) fn must_be_there() -> Result<(), String> {
    if !cfg!(target_arch = "x86_64") {
        return Err("`atomics` knows the locked instructions of x86-64 only".into());
    }
    match Command::new("objdump").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        _ => {
            Err("objdump is not here. Install it (it comes with binutils: apt-get install binutils) and run this again"
                .into())
        }
    }
}

/// Addresses of all locked instructions in `object`; none for what is no file.
///
/// The kernel's own page is an example.
pub(super) fn locked_instructions(object: &str) -> Result<BTreeSet<u64>, String> {
    if !std::path::Path::new(object).is_file() {
        return Ok(BTreeSet::new());
    }
    let output = Command::new("objdump")
        .args(["--disassemble", "--no-show-raw-insn", object])
        .output()
        .map_err(|error| format!("objdump does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("objdump cannot read {object}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(locked).collect())
}

/// Returns the address of a line of `objdump`, if its instruction locks.
///
/// It does if it says so, or exchanges with memory, which locks unasked.
fn locked(line: &str) -> Option<u64> {
    let (address, instruction) = line.split_once(":\t")?;
    let mut words = instruction.split_whitespace();
    let locks = match words.next()? {
        "lock" => true,
        name if name.starts_with("xchg") => words.next()?.contains('('),
        _ => false,
    };
    if locks { u64::from_str_radix(address.trim(), 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::locked;

    #[test]
    fn locked_instructions_are_recognised() {
        assert_eq!(locked("  4f3a:\tlock cmpxchg %rcx,(%rdx)"), Some(0x4f3a));
        assert_eq!(locked("  10:\txchg   %al,0x10(%rbx)"), Some(0x10));
        assert_eq!(locked("  10:\txchg   %rbx,%rcx"), None);
        assert_eq!(locked("  10:\txchg   %ax,%ax"), None);
        assert_eq!(locked("  10:\tmov    (%rdx),%rax"), None);
        assert_eq!(locked("0000000000004f00 <lock>:"), None);
    }
}
