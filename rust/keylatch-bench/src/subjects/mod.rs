//! Who is measured, and which verbs each has.
//!
//! A list macro takes the name of a generic function and its pointer type, and answers one pointer per subject with
//! the subject's name: the only place where a subject is chosen at run time, far outside the measured loops.

pub(crate) mod bare;
pub(crate) mod dash_maps;
pub(crate) mod hash_map;
pub(crate) mod keyed_crates;
#[cfg(feature = "keylatch")]
pub(crate) mod keylatch;
/// `rustfs-lock`, the published lock manager of an object store.
#[cfg(feature = "rustfs")]
pub(crate) mod rustfs {
    const NAME: &str = "rustfs_lock";
    include!("rustfs_face.rs");
}
/// The crate of ours that stands in for it.
#[cfg(feature = "rustfs")]
pub(crate) mod drop_in {
    use keylatch_rustfs as rustfs_lock;
    const NAME: &str = "keylatch_rustfs";
    include!("rustfs_face.rs");
}

/// The subject whose goals are judged.
pub(crate) const OURS: &str = "keylatch";

/// What `--quick` measures besides ours: the control, and the most likely peers.
pub(crate) const QUICK: [&str; 9] = [
    "keylatch",
    "keylatch_fifo",
    "keylatch_pinned",
    "keylatch_prepared",
    "std",
    "parking_lot",
    "dashmap_parking_lot_cleaned",
    "lockmap",
    "rustfs_lock",
];

/// Returns whether a subject is keylatch in one of its settings.
pub(crate) fn is_ours(name: &str) -> bool {
    name.starts_with(OURS)
}

/// A function made for one subject.
pub(crate) struct Contender<F> {
    pub(crate) name: &'static str,
    pub(crate) function: F,
}

macro_rules! contenders {
    ($function:ident as $pointer:ty: $($(#[$condition:meta])* $subject:ty),+ $(,)?) => {{
        let list: Vec<$crate::subjects::Contender<$pointer>> = Vec::from([$(
            $(#[$condition])*
            $crate::subjects::Contender {
                name: <$subject as $crate::subject::Subject>::NAME,
                function: $function::<$subject> as $pointer,
            }
        ),+]);
        list
    }};
}

macro_rules! every_exclusive {
    ($function:ident as $pointer:ty) => {
        $crate::subjects::contenders!($function as $pointer:
            #[cfg(feature = "keylatch")] $crate::subjects::keylatch::Keylatch<false>,
            #[cfg(feature = "keylatch")] $crate::subjects::keylatch::Pinned,
            #[cfg(feature = "keylatch")] $crate::subjects::keylatch::Prepared,
            $crate::subjects::bare::Std,
            $crate::subjects::bare::ParkingLot,
            $crate::subjects::bare::Tokio,
            $crate::subjects::bare::Pthread,
            $crate::subjects::bare::Saa,
            #[cfg(feature = "rustfs")] $crate::subjects::rustfs::Rustfs,
            #[cfg(feature = "rustfs")] $crate::subjects::drop_in::Rustfs,
            $crate::subjects::keyed_crates::LockMapSubject,
            $crate::subjects::keyed_crates::LockableSubject,
            $crate::subjects::keyed_crates::KeyedLockSubject,
            $crate::subjects::dash_maps::DashParkingLot<false>,
            $crate::subjects::dash_maps::DashParkingLot<true>,
            $crate::subjects::dash_maps::DashTokio<false>,
            $crate::subjects::dash_maps::DashTokio<true>,
            $crate::subjects::hash_map::MutexedHashMap,
        )
    };
}

macro_rules! every_shared {
    ($function:ident as $pointer:ty) => {
        $crate::subjects::contenders!($function as $pointer:
            #[cfg(feature = "keylatch")] $crate::subjects::keylatch::Keylatch<false>,
            #[cfg(feature = "keylatch")] $crate::subjects::keylatch::Pinned,
            #[cfg(feature = "keylatch")] $crate::subjects::keylatch::Prepared,
            $crate::subjects::bare::Std,
            $crate::subjects::bare::ParkingLot,
            $crate::subjects::bare::Tokio,
            $crate::subjects::bare::Pthread,
            $crate::subjects::bare::Saa,
            #[cfg(feature = "rustfs")] $crate::subjects::rustfs::Rustfs,
            #[cfg(feature = "rustfs")] $crate::subjects::drop_in::Rustfs,
            $crate::subjects::dash_maps::DashParkingLot<false>,
            $crate::subjects::dash_maps::DashParkingLot<true>,
            $crate::subjects::dash_maps::DashTokio<false>,
            $crate::subjects::dash_maps::DashTokio<true>,
            $crate::subjects::hash_map::MutexedHashMap,
        )
    };
}

macro_rules! every_keyed {
    ($function:ident as $pointer:ty) => {
        $crate::subjects::contenders!($function as $pointer:
            #[cfg(feature = "keylatch")] $crate::subjects::keylatch::Keylatch<false>,
            #[cfg(feature = "rustfs")] $crate::subjects::rustfs::Rustfs,
            #[cfg(feature = "rustfs")] $crate::subjects::drop_in::Rustfs,
            $crate::subjects::keyed_crates::LockMapSubject,
            $crate::subjects::keyed_crates::LockableSubject,
            $crate::subjects::keyed_crates::KeyedLockSubject,
            $crate::subjects::dash_maps::DashParkingLot<false>,
            $crate::subjects::dash_maps::DashParkingLot<true>,
            $crate::subjects::dash_maps::DashTokio<false>,
            $crate::subjects::dash_maps::DashTokio<true>,
            $crate::subjects::hash_map::MutexedHashMap,
        )
    };
}

macro_rules! every_async {
    ($function:ident as $pointer:ty) => {
        $crate::subjects::contenders!($function as $pointer:
            #[cfg(feature = "keylatch")] $crate::subjects::keylatch::Keylatch<false>,
            $crate::subjects::bare::Tokio,
            $crate::subjects::bare::Saa,
            #[cfg(feature = "rustfs")] $crate::subjects::rustfs::Rustfs,
            #[cfg(feature = "rustfs")] $crate::subjects::drop_in::Rustfs,
            $crate::subjects::keyed_crates::LockableSubject,
            $crate::subjects::keyed_crates::KeyedLockAsyncSubject,
            $crate::subjects::dash_maps::DashTokio<false>,
            $crate::subjects::dash_maps::DashTokio<true>,
        )
    };
}

macro_rules! every_batch {
    ($function:ident as $pointer:ty) => {
        $crate::subjects::contenders!($function as $pointer:
            #[cfg(feature = "keylatch")] $crate::subjects::keylatch::Keylatch<false>,
            #[cfg(feature = "rustfs")] $crate::subjects::rustfs::Rustfs,
            #[cfg(feature = "rustfs")] $crate::subjects::drop_in::Rustfs,
            $crate::subjects::keyed_crates::LockMapSubject,
        )
    };
}

/// Ours alone, for what the others have not.
macro_rules! ours {
    ($function:ident as $pointer:ty) => {
        $crate::subjects::contenders!($function as $pointer:
            #[cfg(feature = "keylatch")] $crate::subjects::keylatch::Keylatch<false>,
        )
    };
}

/// Ours with strict fairness, for the rows where fairness shows.
macro_rules! fifo {
    ($function:ident as $pointer:ty) => {
        $crate::subjects::contenders!($function as $pointer:
            #[cfg(feature = "keylatch")] $crate::subjects::keylatch::Keylatch<true>,
        )
    };
}

pub(crate) use {contenders, every_async, every_batch, every_exclusive, every_keyed, every_shared, fifo, ours};
