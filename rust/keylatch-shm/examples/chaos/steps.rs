//! SIGKILL after every n-th instruction of short scripts, by ptrace.
//!
//! A child opens the table, stops itself, and runs one script under single-stepping. After n instructions it is killed.
//! A checker in another process then has to get every key of the script, exclusively and soon.

use crate::options::Options;
use crate::table_config;
use keylatch::Mode;
use keylatch_shm::{LockRequest, SharedTable};
use std::path::Path;
use std::time::Duration;

/// What the traced child does, and what other processes hold or want meanwhile.
#[derive(Clone, Copy, Debug)]
enum Script {
    Exclusive,
    Shared,
    /// The key is not in the table, and another has to go for it.
    Insert,
    /// Two other processes share the key.
    OverflowReader,
    /// Another process waits for what the child holds.
    ReleaseToWaiter,
    /// A process died that held the key; the child recovers it.
    Recover,
    /// Another process holds the key; the child revokes the hold.
    Revoke,
    /// The child shares the key, and becomes its writer.
    Upgrade,
    /// The same while another process shares the key, until the child gives up.
    LateUpgrade,
}

const SCRIPTS: [Script; 9] = [
    Script::Exclusive,
    Script::Shared,
    Script::Insert,
    Script::OverflowReader,
    Script::ReleaseToWaiter,
    Script::Recover,
    Script::Revoke,
    Script::Upgrade,
    Script::LateUpgrade,
];
/// Most scripts end before; longer ones are cut here.
const MOST: u64 = 40_000;

fn fork(work: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the parent has one thread, so the child may do anything.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "no process could be started");
    if pid == 0 {
        work();
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    pid
}

fn open(path: &Path) -> SharedTable {
    SharedTable::open(path, &table_config()).expect("the table is as good as ever")
}

fn key_of(script: Script, n: u64) -> String {
    // Insertion needs a new key each time.
    match script {
        Script::Insert => format!("inserted-{n}"),
        _ => format!("{script:?}"),
    }
}

/// A process that holds the key until it is killed.
///
/// It has the lock when this returns.
fn holder(path: &Path, name: &str, mode: Mode) -> libc::pid_t {
    let mut ends = [0; 2];
    // SAFETY: the array is a local.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    let pid = fork(|| {
        let table = open(path);
        let request = LockRequest::new(("steps", name), mode).timeout(Duration::from_secs(5));
        let _guard = table.lock(request).blocking().expect("a holder gets the key");
        // SAFETY: the byte is a local.
        unsafe { libc::write(ends[1], [1_u8].as_ptr().cast(), 1) };
        loop {
            std::thread::park();
        }
    });
    let mut byte = [0_u8];
    // SAFETY: the byte is a local, and both ends are this function's own.
    unsafe {
        libc::close(ends[1]);
        let got = libc::read(ends[0], byte.as_mut_ptr().cast(), 1);
        libc::close(ends[0]);
        assert_eq!(got, 1, "the holder ended before it held");
    }
    pid
}

/// A process that holds the key, and looks at its hold when it is let go.
struct Looker {
    pid: libc::pid_t,
    go: libc::c_int,
}

impl Looker {
    fn new(path: &Path, name: &str) -> Self {
        let (mut ready, mut go) = ([0; 2], [0; 2]);
        // SAFETY: the arrays are locals.
        assert_eq!(unsafe { libc::pipe(ready.as_mut_ptr()) | libc::pipe(go.as_mut_ptr()) }, 0);
        let read = |end: libc::c_int| {
            let mut byte = [0_u8];
            // SAFETY: the byte is a local.
            unsafe { libc::read(end, byte.as_mut_ptr().cast(), 1) }
        };
        let pid = fork(|| {
            let table = open(path);
            let request = LockRequest::write(("steps", name)).timeout(Duration::from_secs(3));
            let held = table.lock(request).blocking().expect("a holder gets the key");
            // SAFETY: the byte is a local, and the end the parent's.
            unsafe {
                libc::write(ready[1], [1_u8].as_ptr().cast(), 1);
                libc::close(go[1]);
            }
            read(go[0]);
            // A hold that was revoked is free for the next thread; the guard's end touches no other.
            let is_good = held.is_valid()
                || table.lock(request).blocking().is_ok_and(|next| {
                    drop(held);
                    next.is_valid()
                });
            // SAFETY: ends the process, after its guards.
            unsafe { libc::_exit(i32::from(!is_good)) };
        });
        assert_eq!(read(ready[0]), 1, "the holder ended before it held");
        // SAFETY: the ends are this function's own.
        unsafe { ready.into_iter().chain([go[0]]).for_each(|end| _ = libc::close(end)) };
        Self { pid, go: go[1] }
    }

    /// Whether its hold is as it should be.
    fn ends_well(self) -> bool {
        let mut status = 0;
        // SAFETY: the process is a child of this one; the status is a local, and the end this value's own.
        unsafe {
            libc::close(self.go);
            libc::waitpid(self.pid, &raw mut status, 0);
        }
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
    }
}

fn waiter(path: &Path, name: &str) -> libc::pid_t {
    fork(|| {
        let table = open(path);
        let request = LockRequest::write(("steps", name)).timeout(Duration::from_secs(5));
        drop(table.lock(request).blocking());
    })
}

fn kill(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: the process is a child of this one; the status is a local.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, &raw mut status, 0);
    }
}

fn wait_stopped(pid: libc::pid_t) -> bool {
    let mut status = 0;
    // SAFETY: the status is a local.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    libc::WIFSTOPPED(status)
}

/// What became of a script.
struct Outcome {
    /// It was over before.
    ended: bool,
    is_good: bool,
}

/// Runs the script for `n` instructions.
fn step(path: &Path, script: Script, n: u64) -> Outcome {
    let name = key_of(script, n);
    let mut others = Vec::new();
    match script {
        Script::OverflowReader => others.extend((0..2).map(|_| holder(path, &name, Mode::Shared))),
        Script::LateUpgrade => others.push(holder(path, &name, Mode::Shared)),
        Script::Recover => kill(holder(path, &name, Mode::Exclusive)),
        _ => {}
    }
    let looker = matches!(script, Script::Revoke).then(|| Looker::new(path, &name));
    let child = fork(|| {
        // Closing the table is no part of the script.
        let table = std::mem::ManuallyDrop::new(open(path));
        let upgrades = matches!(script, Script::Upgrade | Script::LateUpgrade);
        let shares = upgrades || matches!(script, Script::Shared | Script::OverflowReader);
        let mode = if shares { Mode::Shared } else { Mode::Exclusive };
        let request = LockRequest::new(("steps", &name), mode).timeout(Duration::from_secs(5));
        let holds = upgrades || matches!(script, Script::ReleaseToWaiter);
        let held = holds.then(|| table.lock(request).blocking().expect("free"));
        let revokes = looker.is_some().then(|| {
            let found = table.holders(Some(("steps", name.as_str()).into())).expect("sound");
            found.first().expect("it is held").hold
        });
        // SAFETY: asks the parent to trace this thread, and stops.
        unsafe {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            libc::raise(libc::SIGSTOP);
        }
        match (held, revokes) {
            (Some(mut held), _) => {
                if upgrades {
                    let _ = held.upgrade_blocking(Some(Duration::from_millis(1)));
                }
                drop(held);
            }
            (None, Some(hold)) => drop(table.revoke(hold)),
            (None, None) => drop(table.lock(request).blocking()),
        }
    });
    let mut stopped = wait_stopped(child);
    if matches!(script, Script::ReleaseToWaiter) {
        others.push(waiter(path, &name));
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut steps = 0;
    while stopped && steps < n {
        // SAFETY: the child is stopped and traced by this thread.
        unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, child, 0, 0) };
        stopped = wait_stopped(child);
        steps += 1;
    }
    if stopped {
        kill(child);
    }
    others.into_iter().for_each(kill);
    Outcome { ended: !stopped, is_good: looker.is_none_or(Looker::ends_well) }
}

/// Says whether a point was bad.
pub(crate) fn run(path: &Path, options: &Options) -> bool {
    drop(open(path));
    let begun = std::time::Instant::now();
    let scripts: Vec<_> = SCRIPTS.into_iter().filter(|script| format!("{script:?}").contains(&options.only)).collect();
    let each = options.time / scripts.len().max(1) as u32;
    let (mut points, mut bad) = (0_u64, 0_u64);
    for script in scripts {
        let since = std::time::Instant::now();
        let (mut n, mut covered, mut ended) = (0, 0, false);
        // An odd stride that depends on the seed: many runs together come to every instruction.
        let stride = if options.kills < 1_000_000 { options.kills.max(1) } else { 1 };
        n += options.seed % stride;
        while n < MOST && since.elapsed() < each {
            let outcome = step(path, script, n);
            ended = outcome.ended;
            covered += 1;
            let name = key_of(script, n);
            let checker = fork(|| {
                let table = open(path);
                let request = LockRequest::write(("steps", &name)).timeout(Duration::from_secs(3));
                let is_free = table.lock(request).blocking().is_ok();
                // SAFETY: ends the process.
                unsafe { libc::_exit(i32::from(!is_free)) };
            });
            let mut status = 0;
            // SAFETY: the status is a local.
            unsafe { libc::waitpid(checker, &raw mut status, 0) };
            if libc::WEXITSTATUS(status) != 0 || !outcome.is_good {
                bad += 1;
                eprintln!("bad: {script:?} killed after {n} instructions");
            }
            if ended {
                break;
            }
            n += stride;
        }
        points += covered;
        println!("{script:?}: {covered} points up to instruction {n}{}", if ended { ", complete" } else { "" });
    }
    println!("{points} points in {:.1} s, {bad} bad", begun.elapsed().as_secs_f64());
    bad > 0
}
