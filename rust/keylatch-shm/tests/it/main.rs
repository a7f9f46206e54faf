//! Tests of the crate's public face, with real processes.

mod bad_input;
mod children;
mod lock_file;
mod locking;
mod prepared;
mod processes;
#[allow(dead_code)]
#[path = "../../../keylatch-capi/tests/it/scenario/mod.rs"]
mod scenario;
mod scenarios;
mod tier;
#[path = "../../../keylatch/tests/tier_events/mod.rs"]
mod tier_events;
#[path = "../../../keylatch-capi/tests/it/scenario/under_tier.rs"]
mod under_tier;
mod upgrades;
