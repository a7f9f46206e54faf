//! SHARED TABLES
//!
//! Locks between the processes of one Linux machine, in a file that they map. A process may be killed at any moment:
//! what it held is free as soon as another process notices, at most about 20 milliseconds later, and the next exclusive
//! holder can ask whether its predecessor died (keylatch_shared_hold). There is nothing to clean up by hand.
//!
//! A grant of a shared table belongs to the process, from any thread, until it is released. It is a number that is never
//! 0, and no grant of a manager. In a forked child the parent's table is KEYLATCH_EFORKED: open it again there.

use crate::annotate;
use crate::boundary::{Out, SizedOut, Versioned, call, flag, nanoseconds, read, text};
use crate::handle::{self, Kind, Mark};
use crate::key::{self, keylatch_key, number_of};
use crate::manager::handed_out;
use crate::options::{KEYLATCH_WAIT_DEFAULT, KEYLATCH_WAIT_FOREVER, keylatch_request_options};
use crate::refusal::{Failure, invalid, null};
use crate::status::{KEYLATCH_ECANCELLED, KEYLATCH_ECLOSED, KEYLATCH_ENOTHELD};
use keylatch_shm::{HoldId, HolderInfo, LockRequest, OwnedSharedLockGuard, SharedTable, ShmError, TableConfig};
use std::collections::HashMap;
use std::ffi::{CStr, OsStr, c_char, c_void};
use std::hash::{BuildHasherDefault, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A table of locks that processes share.
///
/// Made by keylatch_shared_open(), freed by keylatch_shared_free().
#[derive(Debug)]
pub struct keylatch_shared_table {
    table: SharedTable,
    default_timeout: Option<Duration>,
    holds: Holds,
    closing: AtomicBool,
}

impl Kind for keylatch_shared_table {
    const MARK: &'static Mark = {
        static MARK: Mark = Mark::new();
        &MARK
    };
    const NAME: &'static str = "keylatch_shared_table";
}

/// The guards of this process by their grants.
#[derive(Debug)]
struct Holds([Mutex<Guards>; SHARDS]);

type Guards = HashMap<u64, OwnedSharedLockGuard, BuildHasherDefault<GrantHasher>>;

/// Spreads grants.
///
/// They are numbers of the library's own, so that no caller chooses which of them meet.
#[derive(Debug, Default)]
struct GrantHasher(u64);

impl Hasher for GrantHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, grant: u64) {
        let mixed = (grant ^ grant >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ mixed >> 32;
    }
}

const SHARDS: usize = 32;

impl Holds {
    fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }

    fn of(&self, grant: u64) -> MutexGuard<'_, Guards> {
        // The upper half is the number of a record, which one thread uses again and again.
        self.0[(grant >> 32) as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, guard: OwnedSharedLockGuard) -> u64 {
        let (_, grant) = guard.id().to_raw();
        self.of(grant).insert(grant, guard);
        grant
    }

    fn take(&self, grant: u64) -> Result<OwnedSharedLockGuard, Failure> {
        self.of(grant).remove(&grant).ok_or_else(|| not_held(grant))
    }

    fn look<T>(&self, grant: u64, look: impl FnOnce(&mut OwnedSharedLockGuard) -> T) -> Result<T, Failure> {
        self.of(grant).get_mut(&grant).map(look).ok_or_else(|| not_held(grant))
    }
}

#[cold]
fn not_held(grant: u64) -> Failure {
    Failure::owned(
        KEYLATCH_ENOTHELD,
        format!("grant {grant:#x} is not held: it was released before, or is another table's"),
    )
}

impl From<ShmError> for Failure {
    #[cold]
    fn from(error: ShmError) -> Self {
        Self::owned(error.code(), error.to_string())
    }
}

/// The settings of a shared table. Everything that is 0 is the default.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_shared_options {
    /// sizeof(keylatch_shared_options)
    pub struct_size: usize,
    /// What listings call this process, beside its name; the first 31 bytes are kept.
    pub label: *const c_char,
    pub label_len: usize,
    /// How long requests with KEYLATCH_WAIT_DEFAULT wait. 0 for as long as it takes.
    pub default_timeout_ns: u64,
    /// Keys that may be held at the same time.
    ///
    /// 0 for 65,536 in a new table, and what there is in one that exists; a
    /// smaller one is refused otherwise.
    pub keys: u32,
    /// Processes that may use the table at the same time, at most 4,095.
    ///
    /// 0 for 256 in a new table, and as above.
    pub members: u32,
    /// Holds and waiting requests of all processes together.
    ///
    /// 0 for as many as keys, and 126 a process.
    pub holds: u32,
    /// Permissions of a new file, such as 0660. 0 for 0600. The umask is not applied.
    pub mode: u32,
}

// SAFETY: integers and pointers without padding.
unsafe impl Versioned for keylatch_shared_options {
    const FIRST_SIZE: usize = 48;
    const NAME: &'static str = "keylatch_shared_options";
}

const _: () = assert!(size_of::<keylatch_shared_options>() == 48);

/// What there is to know of a hold of this process.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_shared_hold {
    /// sizeof(keylatch_shared_hold)
    pub struct_size: usize,
    /// Greater than that of every exclusive hold of the key before.
    ///
    /// Of a shared hold, that of the latest
    /// exclusive one.
    pub fence: u64,
    /// KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE.
    pub mode: i32,
    /// 1 if the last process that held the key exclusively died with it.
    ///
    /// What the lock protects may be half-written then. It may be 1 once too often, never once too seldom.
    pub previous_holder_died: u32,
    /// 1 while the lock is held; 0 once it was revoked, or the file was damaged.
    pub is_valid: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: integers without padding.
unsafe impl Versioned for keylatch_shared_hold {
    const FIRST_SIZE: usize = 32;
    const NAME: &'static str = "keylatch_shared_hold";
}

const _: () = assert!(size_of::<keylatch_shared_hold>() == 32);

/// One hold of one process, as a listing shows it. Its texts are not terminated.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_shared_holder {
    /// sizeof(keylatch_shared_holder)
    pub struct_size: usize,
    /// What is held; of a long key the first 80 bytes.
    pub key: keylatch_key,
    /// The owner_name of the request, the first 32 bytes.
    pub owner: *const c_char,
    pub owner_len: usize,
    /// The name of the holder's program.
    pub program: *const c_char,
    pub program_len: usize,
    /// What the process called itself when it opened the table.
    pub label: *const c_char,
    pub label_len: usize,
    /// For how long it has been held, to about 20 milliseconds.
    pub held_ns: u64,
    /// Names the hold, with member, for keylatch_shared_revoke().
    pub hold: u64,
    pub member: u32,
    /// The process id, as the holder itself sees it.
    pub pid: u32,
    /// KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE.
    pub mode: i32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: integers and pointers without padding.
unsafe impl Versioned for keylatch_shared_holder {
    const FIRST_SIZE: usize = 136;
    const NAME: &'static str = "keylatch_shared_holder";
}

const _: () = assert!(size_of::<keylatch_shared_holder>() == 136);

/// Called for each holder of a listing. What is not 0 ends the listing.
///
/// The holder and its texts are the library's, and
/// gone when the function returns. It may call everything but keylatch_shared_free() of the table.
pub type keylatch_shared_holder_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, holder: *const keylatch_shared_holder) -> i32>;

/// Opens a table, or makes it. Any number of processes may do so at the same time.
///
/// path is the file's, such as "/dev/shm/my-engine", with a terminating NUL. options may be NULL. Writes *table on
/// success. Errors: KEYLATCH_EFILE if the file cannot be made or opened, KEYLATCH_EWRONGFILE if it is no table of this version and machine, or a
/// smaller one; KEYLATCH_EMEMBERS if as many processes use it as may; KEYLATCH_ECONFIG, KEYLATCH_EUNSUPPORTED,
/// KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_shared_open(
    path: *const c_char,
    options: *const keylatch_shared_options,
    table: *mut *mut keylatch_shared_table,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(table) }?;
        if path.is_null() {
            return Err(null("the path"));
        }
        // SAFETY: promised, and not NULL.
        let path = OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes());
        let (mut config, mut default_timeout) = (TableConfig::default(), None);
        if let Some(options) = NonNull::new(options.cast_mut()) {
            // SAFETY: the header says what the caller promises.
            let options = unsafe { read(options) }?;
            // SAFETY: the header says what the caller promises.
            let label = unsafe { text(options.label.cast::<c_void>(), options.label_len, "label") }?;
            config = config.label(label);
            if options.keys != 0 {
                config = config.keys(options.keys);
            }
            if options.members != 0 {
                config = config.members(u16::try_from(options.members).unwrap_or(u16::MAX));
            }
            if options.holds != 0 {
                config = config.holds(options.holds);
            }
            if options.mode != 0 {
                config = config.mode(options.mode);
            }
            default_timeout = (options.default_timeout_ns != 0)
                .then(|| Duration::from_nanos(options.default_timeout_ns))
                .filter(|timeout| *timeout < Duration::from_nanos(KEYLATCH_WAIT_DEFAULT));
        }
        let opened = SharedTable::open(path, &config)?;
        let body = keylatch_shared_table {
            table: opened,
            default_timeout,
            holds: Holds::new(),
            closing: AtomicBool::new(false),
        };
        out.write(handed_out(handle::create(body)?));
        Ok(())
    })
}

/// Frees a table handle, and releases what it holds.
///
/// Waits until calls on it have returned; those that wait for a lock fail with KEYLATCH_ECLOSED. NULL is fine and does nothing.
///
/// The file stays, for the other processes and the next time. Errors: KEYLATCH_EBUSY from a callback of a listing of the
/// table; KEYLATCH_EFORKED, KEYLATCH_EHANDLE. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_shared_free(table: *mut keylatch_shared_table) -> i32 {
    call(|| {
        if table.is_null() {
            return Ok(());
        }
        drop(handle::end::<keylatch_shared_table>(table.cast(), |table| table.closing.store(true, Ordering::SeqCst))?);
        Ok(())
    })
}

/// What a request to a shared table can say: who asks, by name.
///
/// # Safety
/// As the header says of keylatch_request_options.
unsafe fn owner_of<'a>(options: *const keylatch_request_options) -> Result<std::borrow::Cow<'a, str>, Failure> {
    let Some(options) = NonNull::new(options.cast_mut()) else { return Ok("".into()) };
    // SAFETY: promised.
    let options = unsafe { read(options) }?;
    let others = options.ttl_ns | options.request_id | u64::from(options.priority) | u64::from(options.flags);
    if others != 0 || !options.owner.is_null() {
        return Err(invalid("a request to a shared table has an owner_name, and no other option".into()));
    }
    // SAFETY: promised.
    unsafe { text(options.owner_name.cast::<c_void>(), options.owner_name_len, "owner_name") }
}

/// Takes a lock of a shared table if it is free. Never waits for a holder.
///
/// options may be NULL, and may say owner_name. Writes *grant on success. Errors: KEYLATCH_EWOULDBLOCK, and
/// keylatch_last_error() names the holders; KEYLATCH_ETABLEFULL, KEYLATCH_ELOGFULL, KEYLATCH_EDAMAGED, KEYLATCH_EKEY,
/// KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_shared_try(
    table: *mut keylatch_shared_table,
    key: *const keylatch_key,
    mode: i32,
    options: *const keylatch_request_options,
    grant: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(grant) }?;
        let table = handle::enter_here::<keylatch_shared_table>(table.cast())?;
        // SAFETY: the header says what the caller promises.
        let (key, owner) = unsafe { (key::read(key)?, owner_of(options)?) };
        let request = LockRequest::new(key, key::mode(mode)?).owner(&owner);
        out.write(table.holds.keep(table.table.lock(request).now()?.into_owned()));
        Ok(())
    })
}

/// Waits for a lock of a shared table in the calling thread.
///
/// At most for timeout_ns nanoseconds: 0 is once and no more, KEYLATCH_WAIT_FOREVER for as long as it takes, KEYLATCH_WAIT_DEFAULT as the table is set.
///
/// options may be NULL, and may say owner_name. Writes *grant on success. Errors: KEYLATCH_ETIMEOUT, and
/// keylatch_last_error() names the holders; KEYLATCH_ECLOSED if the handle is freed meanwhile; KEYLATCH_ETABLEFULL,
/// KEYLATCH_ELOGFULL, KEYLATCH_EDAMAGED, KEYLATCH_EKEY, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE.
/// Threads: any. Signals do not end the wait.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_shared_acquire(
    table: *mut keylatch_shared_table,
    key: *const keylatch_key,
    mode: i32,
    timeout_ns: u64,
    options: *const keylatch_request_options,
    grant: *mut u64,
) -> i32 {
    // SAFETY: the header says what the caller promises.
    unsafe { keylatch_shared_acquire_cancellable(table, key, mode, timeout_ns, options, std::ptr::null(), grant) }
}

/// Waits for a lock of a shared table, until another thread cancels that.
///
/// As keylatch_shared_acquire(), and the wait ends at most about 20 milliseconds after *cancelled is not 0 any more. Store
/// to it atomically. It is read until the function returns, and never written; it may be NULL. A request keeps its place
/// in line for as long as it waits, so do not wait in slices instead.
///
/// Errors: KEYLATCH_ECANCELLED; KEYLATCH_ETIMEOUT, and keylatch_last_error() names the holders; KEYLATCH_ECLOSED if the
/// handle is freed meanwhile; KEYLATCH_ETABLEFULL, KEYLATCH_ELOGFULL, KEYLATCH_EDAMAGED, KEYLATCH_EKEY, KEYLATCH_EFORKED,
/// KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any. Signals do not end the wait.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_shared_acquire_cancellable(
    table: *mut keylatch_shared_table,
    key: *const keylatch_key,
    mode: i32,
    timeout_ns: u64,
    options: *const keylatch_request_options,
    cancelled: *const u32,
    grant: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(grant) }?;
        let table = handle::enter_here::<keylatch_shared_table>(table.cast())?;
        // SAFETY: the header says what the caller promises.
        let (key, owner) = unsafe { (key::read(key)?, owner_of(options)?) };
        let mode = key::mode(mode)?;
        if !cancelled.is_aligned() {
            return Err(invalid("the word that cancels is not aligned; its address is a multiple of 4".into()));
        }
        // SAFETY: the header says what the caller promises: other threads store to it atomically only.
        let cancelled = unsafe { cancelled.cast::<AtomicU32>().as_ref() };
        let is_cancelled = || cancelled.is_some_and(|word| word.load(Ordering::Relaxed) != 0);
        let request = LockRequest::new(key, mode).owner(&owner);
        if let Some(guard) = table.table.lock(request).try_now()? {
            out.write(table.holds.keep(guard.into_owned()));
            return Ok(());
        }
        let begun = Instant::now();
        let timeout = match timeout_ns {
            KEYLATCH_WAIT_DEFAULT => table.default_timeout,
            KEYLATCH_WAIT_FOREVER => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        };
        let deadline = timeout.and_then(|timeout| begun.checked_add(timeout));
        let prepared = table.table.prepare_owned(key)?;
        let is_open = || !table.closing.load(Ordering::SeqCst);
        match prepared.acquire_while(mode, &owner, deadline, &mut || is_open() && !is_cancelled())? {
            Some(guard) => {
                out.write(table.holds.keep(guard));
                Ok(())
            }
            None if !is_open() => Err(Failure::new(KEYLATCH_ECLOSED, "the table handle was freed meanwhile")),
            None if is_cancelled() => Err(Failure::new(KEYLATCH_ECANCELLED, "the wait for the lock was cancelled")),
            None => {
                let holders = table.table.holders(Some(key)).unwrap_or_default();
                Err(ShmError::Timeout { key: key.to_owned(), waited: begun.elapsed(), holders }.into())
            }
        }
    })
}

/// Releases a lock of a shared table. Never waits.
///
/// Errors: KEYLATCH_ENOTHELD if it was released before, revoked, or is another table's; KEYLATCH_EDAMAGED if the table was
/// damaged meanwhile, and the grant is gone; KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_shared_release(table: *mut keylatch_shared_table, grant: u64) -> i32 {
    call(|| {
        let table = handle::enter_here::<keylatch_shared_table>(table.cast())?;
        let guard = table.holds.take(grant)?;
        Ok(guard.try_release()?)
    })
}

/// Shares a lock from now on that was held exclusively.
///
/// There is no moment in between in which another could have it
/// exclusively. Does nothing to a shared hold.
///
/// Errors: KEYLATCH_ENOTHELD, KEYLATCH_EDAMAGED, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_shared_downgrade(table: *mut keylatch_shared_table, grant: u64) -> i32 {
    call(|| {
        let table = handle::enter_here::<keylatch_shared_table>(table.cast())?;
        Ok(table.holds.look(grant, OwnedSharedLockGuard::downgrade)??)
    })
}

/// Holds a lock exclusively that was shared, if no other holds it or waits.
///
/// Does nothing to an exclusive hold.
///
/// Errors: KEYLATCH_EUPGRADE if another is in the way, or another thread of the process has shared the lock in the meantime,
/// and the lock is still shared; KEYLATCH_ENOTHELD, KEYLATCH_EDAMAGED,
/// KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_shared_try_upgrade(table: *mut keylatch_shared_table, grant: u64) -> i32 {
    call(|| {
        let table = handle::enter_here::<keylatch_shared_table>(table.cast())?;
        Ok(table.holds.look(grant, OwnedSharedLockGuard::try_upgrade)??)
    })
}

/// Gets the fence of a hold, whether its predecessor died, and if it is valid.
///
/// Set hold->struct_size first; the rest is written on success. Errors: KEYLATCH_ENOTHELD, KEYLATCH_EFORKED,
/// KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_shared_hold_info(
    table: *mut keylatch_shared_table,
    grant: u64,
    hold: *mut keylatch_shared_hold,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { SizedOut::new(hold) }?;
        let table = handle::enter_here::<keylatch_shared_table>(table.cast())?;
        let info = table.holds.look(grant, |guard| keylatch_shared_hold {
            struct_size: 0,
            fence: guard.fence(),
            mode: number_of(guard.mode()),
            previous_holder_died: flag(guard.previous_holder_died(), 1),
            is_valid: flag(guard.is_valid(), 1),
            reserved: 0,
        })?;
        out.write(&info);
        Ok(())
    })
}

/// Calls back for each hold of all processes, or of one key; stops nothing.
///
/// key is NULL for all. Errors: KEYLATCH_EDAMAGED, KEYLATCH_EKEY, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID,
/// KEYLATCH_EHANDLE. Threads: any; holder runs in the calling thread, inside no lock of the library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_shared_holders(
    table: *mut keylatch_shared_table,
    key: *const keylatch_key,
    holder: keylatch_shared_holder_fn,
    user_data: *mut c_void,
) -> i32 {
    call(|| {
        let holder = holder.ok_or_else(|| null("the function to call"))?;
        let table = handle::enter_here::<keylatch_shared_table>(table.cast())?;
        // SAFETY: the header says what the caller promises.
        let key = if key.is_null() { None } else { Some(unsafe { key::read(key) }?) };
        for info in table.table.holders(key)? {
            let shown = shown(&info);
            let mut ends = 0;
            // SAFETY: the header says what the function must keep to.
            annotate::outside(|| ends = unsafe { holder(user_data, &raw const shown) });
            if ends != 0 {
                break;
            }
        }
        Ok(())
    })
}

/// Counts the processes that wait for a key at this moment.
///
/// Each counts once, whatever number of its requests waits. Writes *count on success. Errors: KEYLATCH_EDAMAGED,
/// KEYLATCH_EKEY, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_EHANDLE. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_shared_waiting(
    table: *mut keylatch_shared_table,
    key: *const keylatch_key,
    count: *mut usize,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(count) }?;
        let table = handle::enter_here::<keylatch_shared_table>(table.cast())?;
        // SAFETY: the header says what the caller promises.
        out.write(table.table.waiting(unsafe { key::read(key) }?)?);
        Ok(())
    })
}

fn part(text: &str) -> (*const c_char, usize) {
    (text.as_ptr().cast(), text.len())
}

fn shown(info: &HolderInfo) -> keylatch_shared_holder {
    let (owner, owner_len) = part(&info.owner);
    let (program, program_len) = part(&info.program);
    let (label, label_len) = part(&info.label);
    let (member, hold) = info.hold.to_raw();
    keylatch_shared_holder {
        struct_size: size_of::<keylatch_shared_holder>(),
        key: keylatch_key::of(info.key.as_ref()),
        owner,
        owner_len,
        program,
        program_len,
        label,
        label_len,
        held_ns: nanoseconds(info.age),
        hold,
        member: member.into(),
        pid: info.pid,
        mode: number_of(info.mode),
        reserved: 0,
    }
}

/// Takes a hold away from a process, by the hold and member of a listing.
///
/// The process may run or be stopped. It is not interrupted, and finds out when it asks; what it still writes has a lower fence than its successor.
///
/// Errors: KEYLATCH_ENOTHELD if it was released or revoked before; KEYLATCH_EUPGRADE if several threads of the process share the hold,
/// which cannot be taken apart; KEYLATCH_EDAMAGED, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_shared_revoke(table: *mut keylatch_shared_table, hold: u64, member: u32) -> i32 {
    call(|| {
        let table = handle::enter_here::<keylatch_shared_table>(table.cast())?;
        let id = u16::try_from(member).ok().and_then(|member| HoldId::from_raw(member, hold));
        let revoked = id.map_or(Ok(false), |id| table.table.revoke(id))?;
        if revoked { Ok(()) } else { Err(Failure::new(KEYLATCH_ENOTHELD, "it was released or revoked before")) }
    })
}
