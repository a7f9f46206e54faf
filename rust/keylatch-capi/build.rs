//! Gives the shared library the name that programs look for when they start, and has it stay once it is loaded.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/library.rs");
    if std::env::var("CARGO_CFG_TARGET_OS")? != "linux" {
        return Ok(());
    }
    // Programs go on working for as long as this number stays the same, whatever the version is.
    let source = std::fs::read_to_string("src/library.rs")?;
    let declared = source.lines().find_map(|line| line.strip_prefix("pub const KEYLATCH_ABI_VERSION: u32 = "));
    let abi: u32 = declared.and_then(|rest| rest.strip_suffix(';')).ok_or("no KEYLATCH_ABI_VERSION")?.parse()?;
    // Of the two libraries that are made of this crate, a program gets the one that it was linked with.
    let name = if std::env::var_os("CARGO_FEATURE_ETCD").is_some() { "libkeylatch_etcd" } else { "libkeylatch" };
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{name}.so.{abi}");
    // The thread that calls callbacks would go on in memory that dlclose() has taken away.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    Ok(())
}
