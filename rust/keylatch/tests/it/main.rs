//! The library through its public interface. What needs a process of its own stands beside this folder.

mod adaptive;
mod backends;
mod batches;
mod callbacks;
mod cancelling;
mod chains;
mod claims;
mod closing;
mod completion_queues;
mod converting;
mod data_race;
mod deadlock_oracle;
mod deadlocks;
mod events;
mod exclusion;
mod fairness;
mod figures;
mod forcing;
mod foreign_panics;
mod grants;
mod health;
mod histories;
mod leases;
mod limits;
mod listing;
mod lock_order;
mod losing;
mod model;
mod no_false_alarm;
mod pins;
mod program;
mod sessions;
mod sizes;
mod steps;
mod stress;
mod thread_ends;
mod tier_deaths;
#[path = "../tier_hub/mod.rs"]
mod tier_hub;
mod tiers;
#[cfg(feature = "tokio")]
mod tokio_runtime;
mod tracing;
mod waiting;
#[cfg(feature = "serde")]
mod written;
