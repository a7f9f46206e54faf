//! Gives the shared library the name that programs look for when they start, and has it stay once it is loaded.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let of = |name: &str| std::env::var(name).unwrap_or_default();
    if of("CARGO_CFG_TARGET_OS") != "linux" {
        return;
    }
    // Until 1.0 every minor version may break programs, afterwards every major one.
    let (major, minor) = (of("CARGO_PKG_VERSION_MAJOR"), of("CARGO_PKG_VERSION_MINOR"));
    let soname = if major == "0" { format!("libkeylatch.so.0.{minor}") } else { format!("libkeylatch.so.{major}") };
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{soname}");
    // The thread that calls callbacks would go on in memory that dlclose() has taken away.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
