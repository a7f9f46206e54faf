//! Files and settings from strangers: an error that says what to do.

use crate::children::{Child, Folder};
use keylatch_shm::{LockRequest, SharedTable, ShmError, TableConfig};
use std::io::{Seek, SeekFrom, Write};

fn config() -> TableConfig {
    TableConfig::default().keys(64).members(4)
}

fn refused(folder: &Folder) -> String {
    let error = SharedTable::open(folder.file(), &config()).expect_err("refused");
    assert!(matches!(error, ShmError::WrongFile { .. } | ShmError::File { .. }), "{error:?}");
    error.to_string()
}

fn write_at(folder: &Folder, offset: u64, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().write(true).open(folder.file()).expect("the table's file");
    file.seek(SeekFrom::Start(offset)).expect("seek");
    file.write_all(bytes).expect("write");
}

#[test]
fn settings_impossible_refused() {
    for config in [
        TableConfig::default().keys(0),
        TableConfig::default().keys(u32::MAX),
        TableConfig::default().members(0),
        TableConfig::default().members(4_096),
        TableConfig::default().holds(0),
        TableConfig::default().mode(0o7777),
        TableConfig::default().recheck(std::time::Duration::ZERO),
    ] {
        let error = SharedTable::memfd("test", &config).expect_err("impossible");
        assert!(matches!(error, ShmError::InvalidConfig { .. }) && error.to_string().contains("choose"), "{error}");
    }
}

#[test]
fn file_foreign_refused() {
    let folder = Folder::new();
    std::fs::write(folder.file(), "hello").expect("a file");
    assert!(refused(&folder).contains("choose another name, and remove the file only if it is an old table"));
    std::fs::write(folder.file(), vec![7; 100_000]).expect("a file");
    let said = refused(&folder);
    assert!(said.contains("no table of this library; choose another name, and remove the file only if"), "{said}");
    std::fs::remove_file(folder.file()).expect("remove");
    std::fs::create_dir(folder.file()).expect("a folder in its place");
    refused(&folder);
}

#[test]
fn file_system_unknown_refused() {
    let error = SharedTable::attach("/proc/self/comm", &config()).expect_err("no file of a disk").to_string();
    assert!(error.contains("0x9fa0") && error.contains("choose a folder"), "{error}");
}

#[test]
fn file_of_another_user_refused() {
    // SAFETY: takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return;
    }
    let folder = Folder::new();
    drop(SharedTable::open(folder.file(), &config()).expect("a table"));
    std::os::unix::fs::chown(folder.file(), Some(65_534), None).expect("root may");
    assert!(refused(&folder).contains("another user"));
    // Who asks for a table that groups share trusts its group.
    SharedTable::open(folder.file(), &config().mode(0o660)).expect("asked for");
}

#[test]
fn path_relative_is_meant_once() {
    let folder = Folder::new();
    let child = Child::run(|| {
        std::env::set_current_dir(folder.path()).expect("a folder");
        let table = SharedTable::open("locks", &config()).expect("made by its bare name");
        SharedTable::attach("locks", &config()).expect("it is there");
        std::env::set_current_dir("/").expect("a folder");
        table.check().expect("the file is where it was");
        let empty = SharedTable::open("", &config()).expect_err("no path").to_string();
        assert!(empty.contains("choose a path"), "{empty}");
    });
    assert!(child.wait());
    assert!(folder.file().is_file());
}

#[test]
fn header_changed_refused() {
    // Offsets of version, byte order, architecture, members and boot-independent sizes in the header.
    for (offset, expected) in [(8, "version"), (16, "architecture"), (24, "damaged"), (40, "damaged"), (56, "damaged")]
    {
        let folder = Folder::new();
        drop(SharedTable::open(folder.file(), &config()).expect("a table"));
        write_at(&folder, offset, &[0x55]);
        let text = refused(&folder);
        assert!(text.contains(expected), "{offset}: {text}");
    }
    let folder = Folder::new();
    drop(SharedTable::open(folder.file(), &config()).expect("a table"));
    let mut start = std::fs::read(folder.file()).expect("read")[..16].to_vec();
    start[..8].reverse();
    start[12..16].reverse();
    write_at(&folder, 0, &start);
    assert!(refused(&folder).contains("byte order"));
}

#[test]
fn file_copied_refused() {
    let folder = Folder::new();
    drop(SharedTable::open(folder.file(), &config()).expect("a table"));
    let copy = folder.path().join("copy");
    std::fs::copy(folder.file(), &copy).expect("copy");
    let error = SharedTable::open(&copy, &config()).expect_err("a copy");
    assert!(error.to_string().contains("copy"), "{error}");
}

#[test]
fn table_smaller_than_asked_refused() {
    let folder = Folder::new();
    let _table = SharedTable::open(folder.file(), &config()).expect("a table");
    let error = SharedTable::open(folder.file(), &config().keys(65)).expect_err("too small");
    assert!(error.to_string().contains("64 keys"), "{error}");
}

#[test]
fn file_truncated_in_use_is_error() {
    let folder = Folder::new();
    let table = SharedTable::open(folder.file(), &config()).expect("a table");
    let guard = table.acquire_write_lock_blocking("a", "b", "").expect("free");
    let file = std::fs::OpenOptions::new().write(true).open(folder.file()).expect("open");
    file.set_len(4096).expect("truncate");
    let error = table.lock(LockRequest::read(("c", "d"))).blocking().expect_err("the file is gone");
    assert!(matches!(error, ShmError::Damaged { .. }) && error.to_string().contains("truncated"), "{error}");
    assert!(!guard.is_valid());
    drop(guard);
    drop(table);
    assert!(refused(&folder).contains("truncated"));
}

#[test]
fn file_removed_or_replaced_noticed() {
    let folder = Folder::new();
    let table = SharedTable::open(folder.file(), &config()).expect("a table");
    std::fs::remove_file(folder.file()).expect("remove");
    assert!(table.check().expect_err("removed").to_string().contains("removed"));
    let other = SharedTable::open(folder.file(), &config()).expect("a new table");
    std::fs::rename(folder.file(), folder.path().join("away")).expect("rename");
    std::fs::write(folder.file(), "something else").expect("replace");
    assert!(other.check().expect_err("replaced").to_string().contains("another file"));
}

#[test]
fn word_corrupted_is_error_not_hang() {
    let folder = Folder::new();
    let table = SharedTable::open(folder.file(), &config()).expect("a table");
    drop(table.acquire_write_lock_blocking("a", "b", "").expect("free"));
    let length = std::fs::metadata(folder.file()).expect("metadata").len();
    // All of the table behind the members is overwritten, with several patterns.
    let begin = 4096 + 4 * 320;
    for pattern in [0xFF_u8, 0x55, 0x01] {
        write_at(&folder, begin, &vec![pattern; (length - begin) as usize]);
        let request = LockRequest::write(("a", "b")).timeout(std::time::Duration::from_secs(20));
        let result = table.lock(request).blocking().map(drop);
        assert!(!matches!(result, Err(ShmError::Timeout { .. })), "{pattern:x}: {result:?}");
    }
}

#[test]
fn key_too_long_refused() {
    let table = crate::locking::table(8);
    let long = vec![b'x'; 65_536];
    let error = table.lock(LockRequest::write(("b", &long))).now().expect_err("too long");
    assert!(matches!(error, ShmError::InvalidKey { bytes: 65_537, limit: 65_535 }), "{error}");
    let longest = vec![b'x'; 65_534];
    drop(table.lock(LockRequest::write(("b", &longest))).now().expect("as long as may be"));
}

#[test]
fn folder_missing_says_so() {
    let folder = Folder::new();
    let path = folder.path().join("not").join("there");
    let error = SharedTable::open(path, &config()).expect_err("no folder");
    assert!(error.to_string().contains("create the folder"), "{error}");
}

/// Has the kernel refuse a system call, to this thread and those that it starts.
fn refuse_call(number: libc::c_long) {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut steps = [
        // The number of the call is the first word.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the program is a local, which the kernel copies.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

#[test]
fn barrier_refused_is_error() {
    let folder = Folder::new();
    let child = Child::run(|| {
        refuse_call(libc::SYS_membarrier);
        let error = SharedTable::open(folder.file(), &config()).expect_err("others cannot see that it ends");
        assert!(matches!(error, ShmError::Unsupported { .. }) && error.to_string().contains("allow"), "{error}");
    });
    assert!(child.wait());
}

#[test]
fn file_system_full_is_error() {
    // More than any memory file system has here.
    let config = TableConfig::default().keys(1 << 27).members(4_095);
    let folder = Folder::new();
    let error = SharedTable::open(folder.file(), &config).expect_err("no room");
    assert!(matches!(error, ShmError::File { .. } | ShmError::InvalidConfig { .. }), "{error}");
    assert!(!folder.file().exists());
}
