//! A lock file beside the table: kept between holds, and given up to programs that open it.

use crate::children::{Child, Folder, Pipe};
use crate::locking::table;
use keylatch_shm::{Entered, LockFile, LockFileWatcher, LockRequest, SharedTable, TableConfig};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

fn path(folder: &Folder) -> PathBuf {
    folder.path().join("data.lock")
}

fn open(path: &Path, table: &SharedTable) -> LockFile {
    LockFile::open(path, None, table).expect("a file")
}

/// The number of the only hold of most tests.
const HOLD: u64 = 1;

fn enter(file: &LockFile) -> Entered {
    file.enter(HOLD).expect("the system allows it")
}

#[test]
fn kept_file_given_up_when_opened() {
    let (folder, table) = (Folder::new(), table(64));
    let watcher = LockFileWatcher::start().expect("a watcher");
    let file = Arc::new(open(&path(&folder), &table));
    watcher.watch(&file);
    // Another descriptor that was open before: nothing says that it is about to lock.
    let silent = File::options().write(true).open(path(&folder)).expect("it is there");
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut kept = false;
    // The opening above was noticed, and nothing is kept for a second.
    while !kept {
        assert!(Instant::now() < deadline, "it is never kept");
        assert_eq!(enter(&file), Entered::Yes);
        assert!(silent.try_lock().is_err(), "a holder is inside");
        file.leave(HOLD);
        kept = silent.try_lock().is_err();
        silent.unlock().expect("nothing in the way");
    }
    let asking = File::options().write(true).open(path(&folder)).expect("it is there");
    while asking.try_lock().is_err() {
        assert!(Instant::now() < deadline, "it is not given up");
        std::thread::yield_now();
    }
    assert_eq!(enter(&file), Entered::Busy);
    asking.unlock().expect("it was locked");
    assert_eq!(enter(&file), Entered::Yes);
    file.leave(HOLD);
}

#[test]
fn file_of_another_table_not_shared() {
    let (folder, ours, theirs) = (Folder::new(), table(64), table(64));
    let first = open(&path(&folder), &ours);
    assert!(first.is_shared() && open(&path(&folder), &ours).is_shared());
    let other = open(&path(&folder), &theirs);
    assert!(!other.is_shared());
    assert_eq!(enter(&first), Entered::Yes);
    assert_eq!(enter(&other), Entered::Busy);
    first.leave(HOLD);
    assert_eq!(enter(&other), Entered::Yes);
    assert_eq!(enter(&first), Entered::Busy);
    other.leave(HOLD);
    // The one that comes when the mark is gone may share it.
    drop((first, other));
    // A program that another test starts has the descriptors, and so the mark, until it runs.
    let deadline = Instant::now() + Duration::from_secs(60);
    while !open(&path(&folder), &theirs).is_shared() {
        assert!(Instant::now() < deadline, "the mark stays");
    }
}

#[test]
fn name_of_another_file_is_stale() {
    let (folder, table) = (Folder::new(), table(64));
    let file = open(&path(&folder), &table);
    assert_eq!(enter(&file), Entered::Yes);
    file.leave(HOLD);
    std::fs::remove_file(path(&folder)).expect("it is there");
    assert_eq!(enter(&file), Entered::Stale);
    let again = open(&path(&folder), &table);
    assert_ne!(again.id(), file.id());
    assert_eq!(enter(&again), Entered::Yes);
    again.leave(HOLD);
    assert!(LockFile::open(folder.path(), None, &table).is_err());
    assert!(SharedTable::open(path(&folder), &TableConfig::default()).is_err());
}

#[test]
fn kept_file_given_up_to_a_sleeper() {
    let (folder, table) = (Folder::new(), table(64));
    let watcher = LockFileWatcher::start().expect("a watcher");
    let file = Arc::new(open(&path(&folder), &table));
    watcher.watch(&file);
    // Opened before anything is kept, so nothing says that it comes.
    let sleeper = Arc::new(File::options().write(true).open(path(&folder)).expect("it is there"));
    for is_busy in [false, true] {
        let deadline = Instant::now() + Duration::from_secs(60);
        while sleeper.try_lock().is_ok() {
            sleeper.unlock().expect("it was locked");
            assert!(Instant::now() < deadline, "it is never kept");
            assert_eq!(enter(&file), Entered::Yes);
            file.leave(HOLD);
        }
        let ((wakes, woken), sleeps) = (channel(), Arc::clone(&sleeper));
        // Not joined before it has woken: if it never does the test still ends.
        std::thread::spawn(move || wakes.send(sleeps.lock().is_ok()));
        let pause = if is_busy { Duration::ZERO } else { Duration::from_secs(60) };
        let has_it = loop {
            if let Ok(has_it) = woken.recv_timeout(pause) {
                break has_it;
            }
            assert!(Instant::now() < deadline, "it is never given up");
            if enter(&file) == Entered::Yes {
                file.leave(HOLD);
            }
        };
        assert!(has_it, "the system allows it");
        sleeper.unlock().expect("it was locked");
    }
}

#[test]
fn revoked_hold_leaves_its_own_place_alone() {
    let (folder, table) = (Folder::new(), table(64));
    let file = open(&path(&folder), &table);
    let other = File::options().write(true).open(path(&folder)).expect("it is there");
    assert_eq!(enter(&file), Entered::Yes);
    // Its key was revoked, and the next hold of the same process has it.
    assert_eq!(file.enter(HOLD + 1).expect("the system allows it"), Entered::Yes);
    file.leave(HOLD);
    assert!(other.try_lock().is_err(), "the next hold is inside");
    file.leave(HOLD + 1);
    other.try_lock().expect("no hold is inside");
}

/// Holds the file again and again, each time for a while.
fn busy(folder: &Folder, ready: &Pipe, start: &Pipe) -> Child {
    let (file, locks) = (path(folder), folder.file());
    Child::run(move || {
        let table = SharedTable::open(locks, &TableConfig::default().keys(64).members(4)).expect("a table");
        let watcher = LockFileWatcher::start().expect("a watcher");
        let file = Arc::new(open(&file, &table));
        watcher.watch(&file);
        ready.say();
        start.hear();
        loop {
            let guard = table.lock(LockRequest::write(("files", "data.lock"))).blocking().expect("no end");
            if file.enter(guard.fence()).expect("the system allows it") == Entered::Yes {
                // Longer than it takes a program to wake up.
                let until = Instant::now() + Duration::from_millis(2);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                file.leave(guard.fence());
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    })
}

#[test]
fn flock_beside_two_busy_processes_gets_file() {
    let (folder, ready, starts) = (Folder::new(), Pipe::new(), [Pipe::new(), Pipe::new()]);
    drop(SharedTable::open(folder.file(), &TableConfig::default().keys(64).members(4)).expect("a table"));
    let children = starts.each_ref().map(|start| busy(&folder, &ready, start));
    children.iter().for_each(|_| ready.hear());
    // After the forks: a child would have its lock, too.
    let sleeper = File::options().write(true).open(path(&folder)).expect("it is there");
    let (inode, deadline) = (sleeper.metadata().expect("it is open").ino(), Instant::now() + Duration::from_secs(60));
    let is_lock = |line: &&str| line.contains(" FLOCK ") && line.contains(&format!(":{inode} "));
    for (before, start) in starts.iter().enumerate() {
        if before > 0 {
            // Each begins to keep the file at a moment of its own.
            std::thread::sleep(Duration::from_millis(300));
        }
        start.say();
        // All keep the file: each has locked it, and one at most is inside.
        let all = before + 1;
        let mut seen = 0;
        while seen < 1000 {
            let locks = std::fs::read_to_string("/proc/locks").expect("it is there");
            seen = if locks.lines().filter(is_lock).count() < all { 0 } else { seen + 1 };
            assert!(Instant::now() < deadline, "it is never kept");
        }
    }
    // This one was open before: nothing says that it comes.
    let (wakes, woken) = channel();
    std::thread::spawn(move || wakes.send(sleeper.lock().is_ok()));
    let silent = woken.recv_timeout(Duration::from_secs(60));
    // This one opens the file, and then sleeps.
    let flock = Command::new("flock").arg("-w").arg("60").arg(path(&folder)).arg("true").status().expect("util-linux");
    children.into_iter().for_each(Child::kill);
    assert!(flock.success(), "flock(1) starved");
    assert_eq!(silent, Ok(true), "a program that sleeps for the file starved");
}

/// Whether this process watches the file.
fn is_watched(inode: u64) -> bool {
    let about = std::fs::read_dir("/proc/self/fdinfo").expect("it is there");
    let texts = about.filter_map(|entry| std::fs::read_to_string(entry.expect("readable").path()).ok());
    texts.into_iter().any(|text| text.contains("inotify wd:") && text.contains(&format!("ino:{inode:x} ")))
}

#[test]
fn dropped_file_not_watched() {
    let (folder, table) = (Folder::new(), table(64));
    let watcher = LockFileWatcher::start().expect("a watcher");
    let (first, second) = (Arc::new(open(&path(&folder), &table)), Arc::new(open(&path(&folder), &table)));
    let inode = path(&folder).metadata().expect("it is there").ino();
    [&first, &second, &second].into_iter().for_each(|file| watcher.watch(file));
    drop(first);
    assert!(is_watched(inode), "the other is open");
    drop(second);
    let deadline = Instant::now() + Duration::from_secs(60);
    // The watcher may be about to look at one of them.
    while is_watched(inode) {
        assert!(Instant::now() < deadline, "it is watched for ever");
        std::thread::yield_now();
    }
}
