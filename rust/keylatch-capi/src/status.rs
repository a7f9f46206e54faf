//! STATUS
//!
//! Every function that can fail returns one of these. The numbers never change, and a number is the same in every
//! language. New ones may be added: treat a negative number that you do not know as a failure.

use std::ffi::{CStr, c_char};

/// Success.
pub const KEYLATCH_OK: i32 = 0;
/// The time given was over before the lock was free.
pub const KEYLATCH_ETIMEOUT: i32 = -1;
/// The lock is held, and the request was not to wait.
///
/// Also: nothing lies in the queue.
pub const KEYLATCH_EWOULDBLOCK: i32 = -2;
/// Sessions wait for each other, and this request is the victim.
pub const KEYLATCH_EDEADLOCK: i32 = -3;
/// The request was cancelled while it waited.
pub const KEYLATCH_ECANCELLED: i32 = -4;
/// The manager was closed.
pub const KEYLATCH_ECLOSED: i32 = -5;
/// The grant is not held: released, revoked, made up, or another manager's.
pub const KEYLATCH_ENOTHELD: i32 = -6;
/// The grant's lease ran out and the lock was revoked.
pub const KEYLATCH_ELEASELOST: i32 = -7;
/// As many locks are in the table as it may hold.
pub const KEYLATCH_ETABLEFULL: i32 = -8;
/// The key is longer than keys may be.
pub const KEYLATCH_EKEY: i32 = -9;
/// A setting has a value that it cannot have.
pub const KEYLATCH_ECONFIG: i32 = -10;
/// The process is a fork of the one that made the manager.
pub const KEYLATCH_EFORKED: i32 = -11;
/// Another holder already waits to upgrade: each would wait for the other.
pub const KEYLATCH_EUPGRADE: i32 = -12;
/// The manager has max_waiters waiting requests already.
pub const KEYLATCH_EWAITERS: i32 = -13;
/// What the manager shares its keys through has failed.
///
/// Such as a file of shared memory. keylatch_last_error() says how.
pub const KEYLATCH_ETIER: i32 = -14;
/// The claimant has ended or run out; make a new one.
pub const KEYLATCH_ESESSION: i32 = -20;
/// The claims were started anew since the number was given out.
pub const KEYLATCH_EEPOCH: i32 = -21;
/// The request's number is settled; use a new one.
pub const KEYLATCH_ESTALE: i32 = -22;
/// The request's number is in use for another resource.
pub const KEYLATCH_ENUMBER: i32 = -23;
/// The claimant has as many open requests as it may have; settle some.
pub const KEYLATCH_EOPEN: i32 = -24;
/// There are max_claimants claimants already.
pub const KEYLATCH_ESESSIONS: i32 = -25;
/// A shared table has no room for another hold or waiting request.
pub const KEYLATCH_ELOGFULL: i32 = -40;
/// As many processes use a shared table as it was made for.
pub const KEYLATCH_EMEMBERS: i32 = -41;
/// The file of a shared table, or its folder, could not be used.
pub const KEYLATCH_EFILE: i32 = -42;
/// The file is no shared table of this version and machine, or a smaller one.
pub const KEYLATCH_EWRONGFILE: i32 = -43;
/// The file of a shared table was truncated, removed, replaced or damaged.
pub const KEYLATCH_EDAMAGED: i32 = -44;
/// The system lacks something that shared tables need.
pub const KEYLATCH_EUNSUPPORTED: i32 = -45;

/// A pointer that must point to something is NULL.
pub const KEYLATCH_ENULL: i32 = -100;
/// An argument has a value that means nothing.
///
/// For instance an unknown mode or flag, a length beyond all memory, a NULL with a length.
pub const KEYLATCH_EINVALID: i32 = -101;
/// struct_size is too small, or the struct has something set that is not known.
///
/// Too small is smaller than the struct ever was; not known is what this library does not know.
pub const KEYLATCH_ESTRUCT: i32 = -102;
/// The handle is not one, or of another kind, or freed, or of another manager.
pub const KEYLATCH_EHANDLE: i32 = -103;
/// The library has failed inside: a bug in it.
///
/// The call did not do what it was asked to.
pub const KEYLATCH_EPANIC: i32 = -104;
/// The operating system refused what was needed, such as a file descriptor.
pub const KEYLATCH_ESYSTEM: i32 = -105;
/// The caller's buffer is too small.
pub const KEYLATCH_EBUFFER: i32 = -106;
/// The handle cannot be freed by a callback that runs inside a call on it.
pub const KEYLATCH_EBUSY: i32 = -107;
/// There is nothing more.
pub const KEYLATCH_EEND: i32 = -108;

/// Number, name and meaning.
const ALL: &[(i32, &CStr, &CStr)] = &[
    (KEYLATCH_OK, c"KEYLATCH_OK", c"success"),
    (KEYLATCH_ETIMEOUT, c"KEYLATCH_ETIMEOUT", c"the time was over before the lock was free"),
    (KEYLATCH_EWOULDBLOCK, c"KEYLATCH_EWOULDBLOCK", c"the lock is held"),
    (KEYLATCH_EDEADLOCK, c"KEYLATCH_EDEADLOCK", c"sessions wait for each other in a circle"),
    (KEYLATCH_ECANCELLED, c"KEYLATCH_ECANCELLED", c"the request was cancelled"),
    (KEYLATCH_ECLOSED, c"KEYLATCH_ECLOSED", c"the lock manager is closed"),
    (KEYLATCH_ENOTHELD, c"KEYLATCH_ENOTHELD", c"the grant is not held"),
    (KEYLATCH_ELEASELOST, c"KEYLATCH_ELEASELOST", c"the lease ran out and the lock was revoked"),
    (KEYLATCH_ETABLEFULL, c"KEYLATCH_ETABLEFULL", c"the table holds as many locks as it may"),
    (KEYLATCH_EKEY, c"KEYLATCH_EKEY", c"the key is too long"),
    (KEYLATCH_ECONFIG, c"KEYLATCH_ECONFIG", c"a setting has a value that it cannot have"),
    (KEYLATCH_EFORKED, c"KEYLATCH_EFORKED", c"the process is a fork of the one that made the lock manager"),
    (KEYLATCH_EUPGRADE, c"KEYLATCH_EUPGRADE", c"another holder already waits to upgrade the lock"),
    (KEYLATCH_EWAITERS, c"KEYLATCH_EWAITERS", c"as many requests wait as may"),
    (KEYLATCH_ETIER, c"KEYLATCH_ETIER", c"what the manager shares its keys through has failed"),
    (KEYLATCH_ESESSION, c"KEYLATCH_ESESSION", c"the claimant has ended"),
    (KEYLATCH_EEPOCH, c"KEYLATCH_EEPOCH", c"the claims were started anew"),
    (KEYLATCH_ESTALE, c"KEYLATCH_ESTALE", c"the request's number is settled"),
    (KEYLATCH_ENUMBER, c"KEYLATCH_ENUMBER", c"the request's number is in use for another resource"),
    (KEYLATCH_EOPEN, c"KEYLATCH_EOPEN", c"the claimant has as many open requests as it may have"),
    (KEYLATCH_ESESSIONS, c"KEYLATCH_ESESSIONS", c"as many claimants are there as may be"),
    (KEYLATCH_ELOGFULL, c"KEYLATCH_ELOGFULL", c"the shared table holds as many holds and requests as it may"),
    (KEYLATCH_EMEMBERS, c"KEYLATCH_EMEMBERS", c"as many processes use the shared table as may"),
    (KEYLATCH_EFILE, c"KEYLATCH_EFILE", c"the file of the shared table could not be used"),
    (KEYLATCH_EWRONGFILE, c"KEYLATCH_EWRONGFILE", c"the file is no shared table that fits"),
    (KEYLATCH_EDAMAGED, c"KEYLATCH_EDAMAGED", c"the file of the shared table was damaged"),
    (KEYLATCH_EUNSUPPORTED, c"KEYLATCH_EUNSUPPORTED", c"the system lacks something that shared tables need"),
    (KEYLATCH_ENULL, c"KEYLATCH_ENULL", c"a pointer is NULL that must not be"),
    (KEYLATCH_EINVALID, c"KEYLATCH_EINVALID", c"an argument has a value that means nothing"),
    (KEYLATCH_ESTRUCT, c"KEYLATCH_ESTRUCT", c"struct_size or something in the struct is not known to this library"),
    (KEYLATCH_EHANDLE, c"KEYLATCH_EHANDLE", c"the handle is none, was freed, or is of another kind or manager"),
    (KEYLATCH_EPANIC, c"KEYLATCH_EPANIC", c"the library has failed inside"),
    (KEYLATCH_ESYSTEM, c"KEYLATCH_ESYSTEM", c"the operating system refused what was needed"),
    (KEYLATCH_EBUFFER, c"KEYLATCH_EBUFFER", c"the buffer is too small"),
    (KEYLATCH_EBUSY, c"KEYLATCH_EBUSY", c"this thread is inside a call on the handle"),
    (KEYLATCH_EEND, c"KEYLATCH_EEND", c"there is nothing more"),
];

fn entry(status: i32) -> (&'static CStr, &'static CStr) {
    let known = ALL.iter().find(|(number, ..)| *number == status);
    known.map_or((c"unknown", c"a status that this version of the library does not know"), |(_, name, text)| {
        (name, text)
    })
}

/// The name of a status, such as "KEYLATCH_ETIMEOUT"; "unknown" for other numbers.
///
/// Never NULL.
///
/// Memory: the text is static. Errors: none. Threads: any, at any time, also in a forked child.
#[unsafe(no_mangle)]
pub extern "C" fn keylatch_status_name(status: i32) -> *const c_char {
    entry(status).0.as_ptr()
}

/// What a status means, a phrase in English.
///
/// Never NULL. What a particular failure was about, keylatch_last_error() says.
///
/// Memory: the text is static. Errors: none. Threads: any, at any time, also in a forked child.
#[unsafe(no_mangle)]
pub extern "C" fn keylatch_status_text(status: i32) -> *const c_char {
    entry(status).1.as_ptr()
}

/// 1 if the same call may succeed later, as after KEYLATCH_ETIMEOUT; 0 if not.
///
/// Errors: none. Threads: any, at any time, also in a forked child.
#[unsafe(no_mangle)]
pub extern "C" fn keylatch_status_is_transient(status: i32) -> i32 {
    let transient = [
        KEYLATCH_ETIMEOUT,
        KEYLATCH_EWOULDBLOCK,
        KEYLATCH_EDEADLOCK,
        KEYLATCH_ETABLEFULL,
        KEYLATCH_EUPGRADE,
        KEYLATCH_EWAITERS,
        KEYLATCH_EOPEN,
        KEYLATCH_ESESSIONS,
        KEYLATCH_ELOGFULL,
        KEYLATCH_EMEMBERS,
    ];
    i32::from(transient.contains(&status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_status_has_its_own_number_and_name() {
        let numbers: HashSet<_> = ALL.iter().map(|(number, ..)| number).collect();
        let names: HashSet<_> = ALL.iter().map(|(_, name, _)| name).collect();
        assert!(numbers.len() == ALL.len() && names.len() == ALL.len());
    }
}
