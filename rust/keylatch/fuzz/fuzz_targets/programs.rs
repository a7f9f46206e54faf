//! Any bytes as a program of one thread, whose every answer is compared with the model's.

#![no_main]

#[path = "../../tests/it/program.rs"]
mod program;
#[path = "../../tests/it/steps/mod.rs"]
mod steps;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (program, fairness) = program::from_bytes(bytes);
    program::run(&program, fairness);
});
