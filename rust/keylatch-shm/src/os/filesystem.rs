//! On which file systems one kernel alone sees to the memory and the locks of a file.

use std::os::fd::RawFd;

/// Those of one machine, by the number that `statfs` gives.
const LOCAL: [(u32, &str); 14] = [
    (0x0102_1994, "tmpfs"),
    (0xEF53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683E, "btrfs"),
    (0x794C_7630, "overlayfs"),
    (0x2FC1_2FC1, "zfs"),
    (0xF2F5_2010, "f2fs"),
    (0xCA45_1A4E, "bcachefs"),
    (0x8584_58F6, "ramfs"),
    (0x3153_464A, "jfs"),
    (0x5265_4973, "reiserfs"),
    (0x3434, "nilfs2"),
    (0x4D44, "vfat"),
    (0x2011_BAB0, "exfat"),
];

/// Names of some that other machines, or programs, serve.
const SERVED: [(u32, &str); 9] = [
    (0x6969, "nfs"),
    (0xFF53_4D42, "cifs"),
    (0xFE53_4D42, "smb2"),
    (0x517B, "smb"),
    (0x00C3_6400, "ceph"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "fuse"),
    (0x0BD0_0BD0, "lustre"),
    (0x5346_414F, "afs"),
];

/// The name of the file system, if it is not known to be this machine's alone.
pub(crate) fn not_local(fd: RawFd) -> Option<String> {
    // SAFETY: a structure of numbers.
    let mut about: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is a local.
    if unsafe { libc::fstatfs(fd, &raw mut about) } != 0 {
        return Some("of an unknown kind".into());
    }
    name_unless_local(about.f_type as u32)
}

fn name_unless_local(kind: u32) -> Option<String> {
    let is = |known: &&(u32, &str)| known.0 == kind;
    if LOCAL.iter().any(|known| is(&known)) {
        return None;
    }
    Some(SERVED.iter().find(is).map_or_else(|| format!("number {kind:#x}"), |known| known.1.to_owned()))
}

#[test]
fn unknown_file_systems_named() {
    assert_eq!(name_unless_local(0xEF53), None);
    assert_eq!(name_unless_local(0x6969).as_deref(), Some("nfs"));
    assert_eq!(name_unless_local(0x1234_5678).as_deref(), Some("number 0x12345678"));
}
