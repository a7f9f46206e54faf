//! A process of a history: this program again, with clocks of its own.

use crate::clock;
use crate::cluster::new_folder;
use crate::proxy::Proxy;
use crate::record::{Hold, Random, Record, work};
use keylatch::Mode;
use keylatch_etcd::{EtcdConfig, EtcdLocks};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ORDER: &str = "KEYLATCH_ETCD_CLOCKS";
/// Ten days, by which clocks of one kind are ahead.
const AHEAD: &str = "864000";
/// Fewer holds than this say little about a process.
const ENOUGH: usize = 5;
const LONGEST: Duration = Duration::from_secs(60);

/// What is unlike the system's about the clocks of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clocks {
    System,
    /// The wall clock is set every few milliseconds, to a time within a day.
    WallJumps,
    /// They count from ten days before the machine started: a time namespace.
    OtherStart,
    /// The machine sleeps for some seconds, again and again.
    Sleeps,
}

impl Clocks {
    const ALL: [Self; 4] = [Self::System, Self::WallJumps, Self::OtherStart, Self::Sleeps];

    /// Changes the clocks until the work is over.
    fn disturb(self, is_over: &AtomicBool) {
        let mut random = Random::new(self as u64 + 11);
        while !is_over.load(Ordering::Relaxed) {
            let time = Duration::from_secs(random.below(86_400));
            match self {
                Self::WallJumps if random.below(2) == 0 => clock::set_wall_ahead(time),
                Self::WallJumps => clock::set_wall_behind(time),
                // Some are shorter than the lease.
                Self::Sleeps if random.below(20) == 0 => {
                    clock::sleep_machine(Duration::from_millis(random.below(4_000)))
                }
                Self::System | Self::OtherStart | Self::Sleeps => {}
            }
            std::thread::sleep(Duration::from_millis(random.below(40)));
        }
    }
}

/// A record in a file that processes map.
pub(crate) struct SharedRecord {
    folder: PathBuf,
}

impl SharedRecord {
    pub(crate) fn create() -> Self {
        let folder = new_folder();
        let file = File::create(folder.join("record")).expect("a file");
        file.set_len(size_of::<Record>() as u64).expect("room for it");
        Self { folder }
    }

    fn map(path: &Path) -> &'static Record {
        let file = File::options().read(true).write(true).open(path).expect("the file");
        let (length, protection) = (size_of::<Record>(), libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: the file is as long as a record, which is of atomics alone, and the mapping is never undone.
        unsafe {
            let at = libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, file.as_raw_fd(), 0);
            assert_ne!(at, libc::MAP_FAILED, "no memory");
            &*at.cast::<Record>()
        }
    }
}

impl Drop for SharedRecord {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A process that holds keys at random, and says so at its end.
pub(crate) struct Worker(Child);

impl Worker {
    pub(crate) fn start(clocks: Clocks, proxy: &Proxy, record: &SharedRecord, seconds: u64) -> Self {
        let order =
            format!("{} {} {seconds} {}", clocks as u8, proxy.endpoint(), record.folder.join("record").display());
        let program = std::env::current_exe().expect("this program");
        let mut command = match clocks {
            Clocks::OtherStart if is_namespace_permitted() => {
                let mut command = Command::new("unshare");
                command.args(["--time", "--fork", "--kill-child", "--boottime", AHEAD, "--monotonic", AHEAD]);
                command.arg(program);
                command
            }
            _ => Command::new(program),
        };
        command.args(["--exact", "worker::process_works", "--nocapture", "--include-ignored"]);
        command.env(ORDER, order).stdin(Stdio::null()).stdout(Stdio::piped());
        Self(command.spawn().expect("another process"))
    }

    /// Waits for its end; its holds.
    pub(crate) fn finish(mut self) -> Vec<Hold> {
        let lines = BufReader::new(self.0.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let holds = lines.filter_map(|line| {
            let mut words = line.strip_prefix("hold ")?.split(' ').map(|word| word.parse::<u64>().expect("a number"));
            let mut next = || words.next().expect("five numbers");
            let (key, mode, from, to, revision) = (next(), next(), next(), next(), next());
            let mode = if mode == 0 { Mode::Shared } else { Mode::Exclusive };
            Some(Hold { key: key as usize, mode, from, to, revision: revision.cast_signed() })
        });
        let holds = holds.collect();
        assert!(self.0.wait().expect("our child").success(), "the process failed");
        holds
    }
}

fn is_namespace_permitted() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--time", "--boottime", AHEAD, "true"]).stderr(Stdio::null());
    let is_permitted = command.status().is_ok_and(|status| status.success());
    if !is_permitted {
        println!("SKIPPED: only root gets a time namespace");
    }
    is_permitted
}

#[test]
#[ignore = "a process of another test"]
fn process_works() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let words: Vec<&str> = order.splitn(4, ' ').collect();
    let [kind, endpoint, seconds, path] = words[..] else { panic!("{order}") };
    let clocks = Clocks::ALL[kind.parse::<usize>().expect("a kind")];
    let record = SharedRecord::map(Path::new(path));
    let config = EtcdConfig::new([endpoint]).namespace("clocks").ttl(Duration::from_secs(2));
    let locks = EtcdLocks::open(config.connect_timeout(Duration::from_secs(30))).expect("a handle");
    let (holds, is_over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let begun = Instant::now();
    let time = Duration::from_secs(seconds.parse().expect("a number"));
    // On a link that was never good, it goes on for longer.
    let is_enough = || holds.lock().expect("no panic").len() >= ENOUGH || begun.elapsed() > LONGEST;
    std::thread::scope(|scope| {
        scope.spawn(|| clocks.disturb(&is_over));
        let seed = clocks as u64 * 2 + 100;
        let working = [0, 1].map(|thread| {
            let (locks, holds, is_enough) = (&locks, &holds, &is_enough);
            scope.spawn(move || {
                for round in 0_u64.. {
                    work(locks, Instant::now() + time, seed + thread + 1_000 * round, record, holds);
                    if is_enough() {
                        return;
                    }
                }
            })
        });
        let ended = working.map(|thread| thread.join());
        is_over.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|end| end.expect("a valid holder is never refused"));
    });
    // The first line begins with what the test program says.
    println!();
    for Hold { key, mode, from, to, revision } in holds.into_inner().expect("no panic") {
        println!("hold {key} {} {from} {to} {revision}", u8::from(mode == Mode::Exclusive));
    }
}
