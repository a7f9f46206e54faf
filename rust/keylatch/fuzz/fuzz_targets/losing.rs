//! Any bytes as a program of leases, force and sessions, whose every answer is compared with the model's.

#![no_main]

#[path = "../../tests/it/losing.rs"]
mod losing;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| losing::run(&losing::from_bytes(bytes)));
