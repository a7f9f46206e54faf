//! The environment decides once a process, so that each case is a process.

use rustfs_lock::{LockManager, ObjectKey, get_global_lock_manager, get_initialized_global_lock_manager};
use std::process::Command;

const CHILD: &str = "environment::child_says_what_it_has";

/// Returns what the manager of a process is that has these variables.
fn child(variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().expect("a test knows its program"));
    command.args([CHILD, "--exact", "--ignored", "--nocapture"]);
    command.env_remove("RUSTFS_LOCK_ENABLED").env_remove("RUSTFS_ENABLE_LOCKS");
    let output = command.envs(variables.iter().copied()).output().expect("a test starts itself");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.split_once("has: ")).expect("the child says what it has");
    line.1.to_owned()
}

#[tokio::test]
#[ignore = "started by the other tests, as a process of its own"]
async fn child_says_what_it_has() {
    assert!(get_initialized_global_lock_manager().is_none());
    let locks = get_global_lock_manager();
    let _one = locks.acquire_write_lock(ObjectKey::new("b", "o"), "a").await.unwrap();
    assert!(get_initialized_global_lock_manager().is_some_and(|again| std::sync::Arc::ptr_eq(&again, &locks)));
    #[allow(deprecated, reason = "it is part of the face")]
    let legacy = std::panic::catch_unwind(rustfs_lock::get_global_fast_lock_manager).is_ok();
    #[allow(clippy::print_stdout, reason = "it is how a process answers")]
    {
        println!("has: disabled {} legacy {legacy} held {}", locks.is_disabled(), locks.total_lock_count());
    }
}

#[test]
fn process_without_variables_locks() {
    assert_eq!(child(&[]), "disabled false legacy true held 1");
}

#[test]
fn process_with_the_switch_locks_nothing() {
    assert_eq!(child(&[("RUSTFS_LOCK_ENABLED", "false")]), "disabled true legacy false held 0");
    assert_eq!(child(&[("RUSTFS_ENABLE_LOCKS", "off")]), "disabled true legacy false held 0");
}
