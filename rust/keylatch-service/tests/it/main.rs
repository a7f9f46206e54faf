//! Integration tests of the lock service.

mod machine_exhaustive;
mod machine_locks;
mod machine_sessions;
mod small_world;
