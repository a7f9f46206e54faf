//! Creating a table's file, and attaching to one.
//!
//! A new file gets its name only when it is complete: it is made without a name, filled, and then linked. Of several
//! creators one links first, and the others attach to its file. The whole file is reserved before it is mapped, so that
//! a full file system is an error here and not a signal later.

use crate::config::TableConfig;
use crate::error::ShmError;
use crate::layout::{ARCHITECTURE, BYTE_ORDER, HEADER_BYTES, Header, Layout, MAGIC, Sizes, VERSION};
use crate::os::{clock, filesystem, robust::OWNER_DIED};
use crate::region::Region;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A table's file, open and mapped.
pub(crate) struct TableFile {
    pub(crate) file: File,
    /// Empty for a file without a name.
    pub(crate) path: PathBuf,
    pub(crate) region: Region,
    /// Locked while this process uses the table; see [`Presence`].
    pub(crate) presence: Presence,
}

/// How often a file that vanishes between creating and attaching is tried again.
const TRIES: usize = 16;

/// Creates the file, or attaches to it.
pub(crate) fn open(path: &Path, config: &TableConfig) -> Result<TableFile, ShmError> {
    config.check()?;
    let path = &absolute(path)?;
    for _ in 0..TRIES {
        match attach(path, config) {
            Err(ShmError::File { errno: libc::ENOENT, .. }) if path.parent().is_some_and(Path::exists) => {}
            done => return done,
        }
        match create(path, config) {
            Err(ShmError::File { errno: libc::EEXIST, .. }) => {}
            done => return done,
        }
    }
    Err(ShmError::File {
        path: path.to_owned(),
        problem: "another process removes the file again and again; stop it".into(),
        errno: libc::ENOENT,
    })
}

/// Attaches to a file that exists.
pub(crate) fn attach(path: &Path, config: &TableConfig) -> Result<TableFile, ShmError> {
    let path = &absolute(path)?;
    let name = c_path(path)?;
    let flags = libc::O_RDWR | libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    // SAFETY: the path is a C string.
    let fd = unsafe { libc::open(name.as_ptr(), flags) };
    if fd < 0 {
        return Err(ShmError::last_os(path, "the table could not be opened"));
    }
    // SAFETY: the descriptor was opened above and is owned by nothing else.
    let file = unsafe { File::from_raw_fd(fd) };
    refuse_strangers(&file, path, config)?;
    attach_file(file, path.to_owned(), config)
}

/// Attaches to an open file.
pub(crate) fn attach_file(file: File, path: PathBuf, config: &TableConfig) -> Result<TableFile, ShmError> {
    config.check()?;
    let wrong = |problem: &str| Err(ShmError::WrongFile { path: path.clone(), problem: problem.to_owned() });
    let metadata =
        file.metadata().map_err(|error| ShmError::os(&path, "the table's size could not be read", &error))?;
    if !metadata.is_file() || (metadata.len() as usize) < HEADER_BYTES {
        return wrong(
            "the file is no table, or was truncated; choose another name, and remove the file only if it is an old \
             table of keylatch",
        );
    }
    let bytes = metadata.len() as usize;
    let header = map(&file, &path, HEADER_BYTES)?;
    // SAFETY: the first page was just mapped, and a header consists of numbers.
    let seen = unsafe { std::ptr::read_volatile(header.as_ptr().cast::<Header>().cast_const()) };
    // SAFETY: the mapping was made above and no reference into it is left.
    unsafe { libc::munmap(header.as_ptr().cast(), HEADER_BYTES) };
    if seen.magic != MAGIC {
        return if seen.magic == MAGIC.swap_bytes() || seen.byte_order == BYTE_ORDER.swap_bytes() {
            wrong("the table was made on a machine with another byte order; remove the file and make it here")
        } else {
            wrong(
                "the file is no table of this library; choose another name, and remove the file only if it is an old \
                 table of keylatch",
            )
        };
    }
    if seen.version != VERSION {
        return Err(ShmError::WrongFile {
            path,
            problem: format!(
                "the table has version {} and this library knows version {VERSION}; use the same release in all \
                 processes, or end them and remove the file",
                seen.version
            ),
        });
    }
    if (seen.byte_order, seen.architecture, seen.pointer_bits) != (BYTE_ORDER, ARCHITECTURE, usize::BITS) {
        return wrong("the table was made on another processor architecture; remove the file and make it here");
    }
    if seen.checksum != checksum(&seen) {
        return wrong("the table's header is damaged; end all processes that use it and remove the file");
    }
    let Some(layout) = Layout::for_sizes(seen.sizes).filter(|layout| layout.total as u64 == seen.total_bytes) else {
        return wrong("the table's header has impossible sizes; end all processes that use it and remove the file");
    };
    if bytes != layout.total {
        return wrong("the table was truncated or extended; end all processes that use it and remove the file");
    }
    if seen.inode != 0 && seen.inode != metadata.ino() {
        return wrong("the file is a copy of a table; remove it, and open the original or make a new one");
    }
    let (keys, members) = config.least();
    if layout.sizes.keys < keys || layout.sizes.members < u32::from(members) {
        return Err(ShmError::WrongFile {
            path,
            problem: format!(
                "the table was made for {} keys and {} members, fewer than asked for ({keys} and {members}); ask for \
                 less, or end all processes that use it and remove the file",
                layout.sizes.keys, layout.sizes.members
            ),
        });
    }
    let base = map(&file, &path, layout.total)?;
    // SAFETY: the whole file was mapped, and its size is the layout's.
    let region = unsafe { Region::from_mapping(base, layout) };
    let presence = Presence::new(&file, &path, &region)?;
    Ok(TableFile { file, path, region, presence })
}

/// Makes a file that has no name and is sealed against shrinking.
pub(crate) fn memfd(name: &str, config: &TableConfig) -> Result<TableFile, ShmError> {
    config.check()?;
    let path = PathBuf::new();
    let name = c_path(Path::new(name))?;
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_ALLOW_SEALING | libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(ShmError::last_os(&path, "a file without a name could not be made"));
    }
    // SAFETY: the descriptor was made above and is owned by nothing else.
    let file = unsafe { File::from_raw_fd(fd) };
    let region = fill(&file, &path, config, 0)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: takes numbers.
    if unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) } != 0 {
        return Err(ShmError::last_os(&path, "the file could not be sealed"));
    }
    let presence = Presence::new(&file, &path, &region)?;
    Ok(TableFile { file, path, region, presence })
}

fn create(path: &Path, config: &TableConfig) -> Result<TableFile, ShmError> {
    let folder = path.parent().unwrap_or(path);
    let name = c_path(path)?;
    let folder_name = c_path(folder)?;
    // SAFETY: the path is a C string.
    let fd = unsafe { libc::open(folder_name.as_ptr(), libc::O_TMPFILE | libc::O_RDWR | libc::O_CLOEXEC, 0o600) };
    if fd < 0 {
        return Err(ShmError::last_os(folder, "a table could not be made in this folder"));
    }
    // SAFETY: the descriptor was made above and is owned by nothing else.
    let file = unsafe { File::from_raw_fd(fd) };
    // SAFETY: takes numbers.
    if unsafe { libc::fchmod(fd, config.mode) } != 0 {
        return Err(ShmError::last_os(path, "the table's permissions could not be set"));
    }
    let inode = file.metadata().map_err(|error| ShmError::os(path, "the new table could not be read", &error))?.ino();
    let region = fill(&file, path, config, inode)?;
    let presence = Presence::new(&file, path, &region)?;
    let unnamed = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("no zero byte");
    // SAFETY: both paths are C strings.
    let linked = unsafe {
        libc::linkat(libc::AT_FDCWD, unnamed.as_ptr(), libc::AT_FDCWD, name.as_ptr(), libc::AT_SYMLINK_FOLLOW)
    };
    if linked != 0 {
        return Err(ShmError::last_os(path, "the new table could not be given its name"));
    }
    Ok(TableFile { file, path: path.to_owned(), region, presence })
}

/// Reserves, maps and initialises a new file.
fn fill(file: &File, path: &Path, config: &TableConfig, inode: u64) -> Result<Region, ShmError> {
    let (keys, members) = config.sizes();
    let Some(layout) = Layout::for_config(keys, members, config.holds) else {
        return Err(ShmError::InvalidConfig {
            setting: "keys",
            problem: "the table would be too large; ask for less".into(),
        });
    };
    refuse_not_local(file, path)?;
    let bytes = libc::off_t::try_from(layout.total).unwrap_or(libc::off_t::MAX);
    // SAFETY: takes numbers.
    let errno = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes) };
    if errno != 0 {
        let step = format!("{} bytes for the table could not be reserved", layout.total);
        return Err(ShmError::os(path, &step, &std::io::Error::from_raw_os_error(errno)));
    }
    let base = map(file, path, layout.total)?;
    let mut secret = [0_u64; 4];
    // SAFETY: the buffer is a local of that size.
    let got = unsafe { libc::getrandom(secret.as_mut_ptr().cast(), size_of_val(&secret), 0) };
    if got != size_of_val(&secret) as isize {
        return Err(ShmError::last_os(path, "there is no randomness to be had"));
    }
    let mut header = Header {
        magic: MAGIC,
        version: VERSION,
        byte_order: BYTE_ORDER,
        architecture: ARCHITECTURE,
        pointer_bits: usize::BITS,
        sizes: layout.sizes,
        total_bytes: layout.total as u64,
        inode,
        secret,
        checksum: 0,
        boot: clock::boot_id().map(Into::into),
        // Fences go on growing when the file is lost and made anew, as long as the clock does not go back.
        fence_floor: clock::unix_nanos().into(),
        chunk_hint: 0.into(),
        recoveries: 0.into(),
        claims: 0.into(),
    };
    header.checksum = checksum(&header);
    // SAFETY: the file is new, so this process alone has it mapped; the header fits the first page.
    unsafe { base.as_ptr().cast::<Header>().write(header) };
    // SAFETY: the mapping was made above, of the layout's size.
    Ok(unsafe { Region::from_mapping(base, layout) })
}

fn map(file: &File, path: &Path, bytes: usize) -> Result<NonNull<u8>, ShmError> {
    // SAFETY: a new mapping at an address that the kernel chooses.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    match NonNull::new(base.cast()) {
        Some(base) if base.as_ptr() as isize != -1 => Ok(base),
        _ => Err(ShmError::last_os(path, "the table could not be mapped")),
    }
}

/// A lock on the file, for as long as the table is used.
///
/// No process takes the member for one of an earlier start then. Some containers of one machine have different numbers for
/// its start.
pub(crate) struct Presence {
    _file: File,
}

/// How long an opener waits for another one to mark the dead.
const OPENERS: Duration = Duration::from_secs(1);

impl Presence {
    /// Shares the file's lock with the other members.
    ///
    /// Makes the table valid for this start of the machine: marks the members of an earlier one as dead.
    fn new(file: &File, path: &Path, region: &Region) -> Result<Self, ShmError> {
        let problem = "the table could not be locked for this start of the machine";
        // An open file of its own, also where the table's file was inherited: locks belong to open files.
        let opened = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()));
        // The lock of an open file that another process uses, too, is only ever shared: it may be that one's.
        let may_be_alone = opened.is_ok();
        let own = opened.or_else(|_| file.try_clone()).map_err(|error| ShmError::os(path, problem, &error))?;
        let now = clock::boot_id();
        let boot = &region.header().boot;
        // Pairs with: the stores below, made by another opener.
        let is_same = || boot.iter().zip(now).all(|(seen, now)| seen.load(Ordering::Acquire) == now);
        let end = clock::monotonic() + OPENERS;
        loop {
            let same = is_same();
            let wanted = if same { libc::LOCK_SH } else { libc::LOCK_EX };
            // SAFETY: takes numbers.
            let lock = |how| unsafe { libc::flock(own.as_raw_fd(), how | libc::LOCK_NB) } == 0;
            if !same && !may_be_alone {
                let problem = "the table is of another start of the machine, and /proc/self/fd does not open it; open it by \
                               its path, in a process that has /proc";
                return Err(ShmError::WrongFile { path: path.to_owned(), problem: problem.into() });
            }
            if lock(wanted) {
                if same && is_same() {
                    return Ok(Self { _file: own });
                }
                if !same && !is_same() {
                    forget_last_start(region, now);
                }
                // The next turn shares the lock, for a change from alone to shared may let others in between.
                if may_be_alone {
                    lock(libc::LOCK_UN);
                }
            } else if std::io::Error::last_os_error().raw_os_error() != Some(libc::EWOULDBLOCK) {
                return Err(ShmError::last_os(path, problem));
            }
            if clock::monotonic() >= end {
                let problem = if same {
                    "a process has locked the file for itself with flock; end it"
                } else if now == [0, 0] {
                    "processes use the table that have a /proc/sys/kernel/random/boot_id, and this one cannot read it; \
                     mount /proc"
                } else {
                    "processes use the table whose /proc/sys/kernel/random/boot_id is another; give all containers \
                     that share it the machine's, or end those processes"
                };
                return Err(ShmError::WrongFile { path: path.to_owned(), problem: problem.into() });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Marks the members of an earlier start of the machine as dead.
///
/// Caller holds: the file's lock alone.
fn forget_last_start(region: &Region, now: [u64; 2]) {
    for id in region.members() {
        let life = &region.member(id).life;
        if life.load(Ordering::Relaxed) != 0 {
            life.store(OWNER_DIED, Ordering::Relaxed);
        }
    }
    for (word, now) in region.header().boot.iter().zip(now) {
        // Pairs with: the loads of openers.
        word.store(now, Ordering::Release);
    }
}

/// Refuses a file of another user, or with wider permissions than asked for.
fn refuse_strangers(file: &File, path: &Path, config: &TableConfig) -> Result<(), ShmError> {
    let metadata = file.metadata().map_err(|error| ShmError::os(path, "the table could not be read", &error))?;
    // SAFETY: takes nothing and cannot fail.
    let me = unsafe { libc::geteuid() };
    let shared_with_all = metadata.mode() & 0o002 != 0 && config.mode & 0o002 == 0;
    let shared_with_group = config.mode & 0o020 != 0 || config.mode & 0o002 != 0;
    if metadata.is_file() && (shared_with_all || metadata.uid() != me && metadata.uid() != 0 && !shared_with_group) {
        return Err(ShmError::WrongFile {
            path: path.to_owned(),
            problem:
                "the file belongs to another user, or all users may write to it; remove it, or give the `mode` that \
                      says so"
                    .into(),
        });
    }
    refuse_not_local(file, path)
}

fn refuse_not_local(file: &File, path: &Path) -> Result<(), ShmError> {
    let Some(name) = filesystem::not_local(file.as_raw_fd()) else { return Ok(()) };
    Err(ShmError::WrongFile {
        path: path.to_owned(),
        problem: format!(
            "the file is on a file system ({name}) that is not known to be this machine's alone, and machines do not \
             share memory; choose a folder on tmpfs, ext4, xfs or btrfs, such as /dev/shm"
        ),
    })
}

fn checksum(header: &Header) -> u64 {
    let Sizes { members, keys, buckets, chunks } = header.sizes;
    let fields = [
        header.magic,
        u64::from(header.version) << 32 | u64::from(header.byte_order),
        u64::from(header.architecture) << 32 | u64::from(header.pointer_bits),
        u64::from(members) << 32 | u64::from(keys),
        u64::from(buckets) << 32 | u64::from(chunks),
        header.total_bytes,
        header.inode,
    ];
    fields
        .into_iter()
        .chain(header.secret)
        .fold(0x9E37_79B9_7F4A_7C15, |sum, field| (sum ^ field).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(29))
}

/// Returns the absolute path, because the process may change its folder.
fn absolute(path: &Path) -> Result<PathBuf, ShmError> {
    std::path::absolute(path).map_err(|_| ShmError::InvalidConfig {
        setting: "path",
        problem: "is empty, or the working folder is gone; choose a path that begins with a slash".into(),
    })
}

fn c_path(path: &Path) -> Result<CString, ShmError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| ShmError::InvalidConfig {
        setting: "path",
        problem: "contains a zero byte; choose another name".into(),
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{LockRequest, SharedTable};

    #[test]
    fn member_of_another_boot_id_is_no_dead_one() {
        let path = std::env::temp_dir().join(format!("keylatch-boot-{}", std::process::id()));
        let open = || SharedTable::open(&path, &TableConfig::default().keys(8).members(2));
        let table = open().expect("a table");
        let held = table.lock(LockRequest::write(("photos", "cat.jpg"))).now().expect("free");
        let boot = &table.core().region.header().boot;
        let ours = boot[0].fetch_add(1, Ordering::SeqCst);
        assert!(matches!(open(), Err(ShmError::WrongFile { .. })));
        assert!(held.is_valid() && table.is_locked(("photos", "cat.jpg")).expect("sound"));
        drop(held);
        drop(table);
        let next = open().expect("none uses it");
        assert_eq!(next.core().region.header().boot[0].load(Ordering::SeqCst), ours);
        drop(next);
        std::fs::remove_file(&path).expect("it is there");
    }
}
