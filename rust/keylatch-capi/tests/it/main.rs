//! The C functions as a program calls them, and the scenarios that all languages share.

mod abi;
mod claim_scenarios;
mod ending_threads;
mod inspecting;
mod lost_within;
mod scenario;
mod scenarios;
#[path = "../../../keylatch/tests/tier_hub/mod.rs"]
mod tier_hub;
