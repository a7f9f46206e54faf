//! A second process: this test program again, which holds a lock and says what it sees.

use keylatch_etcd::{EtcdConfig, EtcdLocks, LockRequest};
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

const ENDPOINTS: &str = "KEYLATCH_ETCD_CHILD";

/// A process that holds `photos/cat.jpg` in the namespace `child`.
#[derive(Debug)]
pub(crate) struct Holder {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Holder {
    /// Starts it, and returns when it holds the lock.
    pub(crate) fn start(endpoints: &[String]) -> Self {
        Self::start_by(Command::new(std::env::current_exe().expect("this program")), endpoints)
    }

    /// The same by a command that gets the program's arguments.
    pub(crate) fn start_by(mut command: Command, endpoints: &[String]) -> Self {
        let mut process = command
            .args(["--exact", "child::child_holds", "--nocapture", "--include-ignored"])
            .env(ENDPOINTS, endpoints.join(","))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a second process");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let mut holder = Self { process, lines };
        holder.wait_for("held");
        holder
    }

    /// Returns when the process has printed a line that ends with this.
    pub(crate) fn wait_for(&mut self, word: &str) {
        let found = self.lines.by_ref().map_while(Result::ok).any(|line| line.ends_with(word));
        assert!(found, "the process ended without {word:?}");
    }

    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: the process is our child and was not waited for, so its number is its own.
        unsafe { libc::kill(self.process.id().try_into().expect("a process number"), signal) };
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
#[ignore = "the second process of other tests"]
fn child_holds() {
    let Ok(endpoints) = std::env::var(ENDPOINTS) else { return };
    let config = EtcdConfig::new(endpoints.split(',')).namespace("child").ttl(Duration::from_secs(2));
    let locks = EtcdLocks::open(config).expect("a handle");
    let guard = locks.lock(LockRequest::write(("photos", "cat.jpg")).owner("child")).blocking().expect("the lock");
    // Standard output of a test that is captured would not arrive.
    println!("held");
    while guard.is_valid() {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("lost");
}
