//! LOCKS BETWEEN MACHINES
//!
//! A manager with keylatch_manager_options.etcd shares its keys with the managers of all machines that use the same etcd
//! cluster and namespace. All calls are the same. A process that dies or loses contact loses its locks when its lease
//! ends; what it writes after that is for fences to refuse (keylatch_fence()). It needs a library that was built with
//! etcd: libkeylatch_etcd, which is libkeylatch with that in it.

use crate::boundary::{Versioned, read};
use crate::refusal::Failure;
use keylatch::{FastObjectLockManager, LockConfig, LockError};
use std::ffi::c_char;
use std::ptr::NonNull;

/// How a cluster is reached, and what the locks are called there.
///
/// Everything that is 0 or NULL is the default. Texts end with a NUL.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_etcd_options {
    /// sizeof(keylatch_etcd_options)
    pub struct_size: usize,
    /// Managers with the same one exclude each other.
    ///
    /// 1 to 64 letters, digits, '-', '_' and '.'. Default "default".
    pub namespace_name: *const c_char,
    /// After how long without contact all locks of the process end.
    ///
    /// Whole seconds, of at least the server's floor, which is usually 2. Default 10 seconds.
    pub ttl_ns: u64,
    /// How long keylatch_manager_new() tries to reach the cluster.
    ///
    /// Default 5 seconds.
    pub connect_timeout_ns: u64,
    /// A file with the authority of the members' certificates, in PEM.
    ///
    /// With it, addresses without a scheme are https://.
    pub ca_file: *const c_char,
    /// Files with the process's own certificate and its key, in PEM.
    pub certificate_file: *const c_char,
    pub key_file: *const c_char,
    /// The name that the members' certificates are for.
    ///
    /// Default: the host of the address.
    pub server_name: *const c_char,
    /// For clusters with authentication: both, or neither.
    pub user: *const c_char,
    pub password: *const c_char,
    /// What listings call the process, beside its host and number.
    pub label: *const c_char,
}

// SAFETY: integers and pointers without padding.
unsafe impl Versioned for keylatch_etcd_options {
    const FIRST_SIZE: usize = 88;
    const NAME: &'static str = "keylatch_etcd_options";
}

const _: () = assert!(size_of::<keylatch_etcd_options>() == 88);

/// The tier of a manager, which ends before the manager does.
#[derive(Debug)]
pub(crate) struct Remote(#[cfg(feature = "etcd")] keylatch_etcd::tier::EtcdTier);

impl Remote {
    /// Gives everything back; when this returns, other machines may have it.
    pub(crate) fn close(&self) {
        #[cfg(feature = "etcd")]
        self.0.close();
    }
}

fn invalid(setting: &'static str, problem: impl Into<String>) -> Failure {
    Failure::Core(LockError::InvalidConfig { setting, problem: problem.into() })
}

/// A manager whose keys are those of a namespace on a cluster; blocks.
///
/// # Safety
/// `etcd` is a text of C. `options` is NULL or has as many bytes as it says, and texts of C.
pub(crate) unsafe fn manager(
    config: LockConfig,
    etcd: *const c_char,
    options: *const keylatch_etcd_options,
) -> Result<(FastObjectLockManager, Remote), Failure> {
    // SAFETY: all zeros is a value of these structs.
    let mut given: keylatch_etcd_options = unsafe { std::mem::zeroed() };
    if let Some(options) = NonNull::new(options.cast_mut()) {
        // SAFETY: promised.
        given = unsafe { read(options) }?;
    }
    // SAFETY: promised.
    unsafe { made(config, etcd, &given) }
}

/// # Safety
/// As [`manager`].
#[cfg(feature = "etcd")]
unsafe fn made(
    config: LockConfig,
    etcd: *const c_char,
    given: &keylatch_etcd_options,
) -> Result<(FastObjectLockManager, Remote), Failure> {
    use std::ffi::{CStr, OsStr};
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;
    use std::time::Duration;
    // SAFETY: promised; none of them outlives the call.
    let bytes = |text: *const c_char| (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes());
    let text = |setting, text| {
        let text = std::str::from_utf8(bytes(text).unwrap_or_default());
        text.map_err(|_| invalid(setting, "it is not UTF-8"))
    };
    let file = |text| bytes(text).filter(|path| !path.is_empty()).map(|path| Path::new(OsStr::from_bytes(path)));
    let settings = keylatch_etcd::PlainSettings {
        endpoints: text("etcd", etcd)?,
        namespace: text("namespace_name", given.namespace_name)?,
        ttl: Duration::from_nanos(given.ttl_ns),
        connect_timeout: Duration::from_nanos(given.connect_timeout_ns),
        ca_file: file(given.ca_file),
        certificate_file: file(given.certificate_file),
        key_file: file(given.key_file),
        server_name: text("server_name", given.server_name)?,
        user: text("user", given.user)?,
        password: text("password", given.password)?,
        label: text("label", given.label)?,
    };
    Ok(settings.manager(config).map(|(locks, tier)| (locks, Remote(tier)))?)
}

/// # Safety
/// None.
#[cfg(not(feature = "etcd"))]
unsafe fn made(
    _: LockConfig,
    _: *const c_char,
    _: &keylatch_etcd_options,
) -> Result<(FastObjectLockManager, Remote), Failure> {
    Err(invalid("etcd", "this library was built without etcd; link with libkeylatch_etcd, which has it"))
}
