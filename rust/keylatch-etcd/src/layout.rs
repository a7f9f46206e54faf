//! What the keys in etcd are called, and what their values say to people.
//!
//! ```text
//! keylatch/1/<namespace>/epoch                      raised by the operator after a restore
//! keylatch/1/<namespace>/m/<lease>                  a process; attached to its lease, like all below
//! keylatch/1/<namespace>/q/<hash>/r<lease><slot>    a shared entry
//! keylatch/1/<namespace>/q/<hash>/w<lease><slot>    an exclusive entry
//! keylatch/1/<namespace>/q/<hash>/0r<lease><slot>   a shared entry that was exclusive; ahead of all that wait
//! keylatch/1/<namespace>/q/<hash>/wp<lease><number> an upgrade that waits, beside the shared entry of the process
//! keylatch/1/<namespace>/q/<hash>/wu<lease><number> an upgrade that is done, beside both
//! keylatch/1/<namespace>/x/<lease>                  acquisitions of the lease up to this number create nothing any more
//! ```

use crate::wire::RangeRequest;
use keylatch::{KeyRef, Mode, ObjectKey};
use ring::digest::{SHA256, digest};
use std::fmt::Write;

/// The names of one namespace.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    prefix: String,
}

/// What a key below the prefix of a queue says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryName<'a> {
    /// The hash, as it stands in the key.
    pub(crate) queue: &'a str,
    pub(crate) mode: Mode,
    pub(crate) lease: i64,
    /// Whether it is ahead of all that wait, whatever its revision is.
    pub(crate) is_ahead: bool,
    /// Whether it is a mark of an upgrade.
    ///
    /// The shared entry of the same process is beside it.
    pub(crate) mark: Option<Mark>,
}

/// The marks of an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It waits: readers that come later wait for it.
    Pending,
    /// It is done: all readers that wait wait for it.
    Done,
}

impl Layout {
    pub(crate) fn new(namespace: &str) -> Self {
        Self { prefix: format!("keylatch/1/{namespace}/") }
    }

    pub(crate) fn epoch(&self) -> Vec<u8> {
        format!("{}epoch", self.prefix).into_bytes()
    }

    pub(crate) fn member(&self, lease: i64) -> Vec<u8> {
        format!("{}m/{lease:016x}", self.prefix).into_bytes()
    }

    pub(crate) fn members(&self) -> Vec<u8> {
        format!("{}m/", self.prefix).into_bytes()
    }

    pub(crate) fn floor(&self, lease: i64) -> Vec<u8> {
        format!("{}x/{lease:016x}", self.prefix).into_bytes()
    }

    /// The value of a floor: in the order of the numbers, as etcd compares bytes.
    pub(crate) fn floor_value(number: u64) -> Vec<u8> {
        format!("{number:016x}").into_bytes()
    }

    /// Where the entries of a key begin, with a `/` at the end.
    pub(crate) fn queue(&self, key: KeyRef<'_>) -> String {
        format!("{}q/{}/", self.prefix, hash(key))
    }

    pub(crate) fn queues(&self) -> Vec<u8> {
        format!("{}q/", self.prefix).into_bytes()
    }

    /// The key of an entry.
    pub(crate) fn entry(queue: &str, mode: Mode, lease: i64, slot: u64) -> Vec<u8> {
        let letter = if mode == Mode::Exclusive { 'w' } else { 'r' };
        format!("{queue}{letter}{lease:016x}{slot:016x}").into_bytes()
    }

    /// The keys of the entries that an entry of this mode has to wait for.
    pub(crate) fn conflicting(queue: &str, mode: Mode) -> Vec<u8> {
        let letter = if mode == Mode::Exclusive { "" } else { "w" };
        format!("{queue}{letter}").into_bytes()
    }

    /// Where entries stand that one of this mode waits for whatever their revision is.
    ///
    /// For exclusive ones those are the downgraded entries, for shared ones the marks of upgrades that are done.
    pub(crate) fn ahead(queue: &str, mode: Mode) -> Vec<u8> {
        match mode {
            Mode::Exclusive => format!("{queue}0r").into_bytes(),
            _ => Self::marks(queue.as_bytes(), Mark::Done),
        }
    }

    /// The key of a mark of an upgrade.
    ///
    /// It is among the exclusive entries, and apart from them.
    pub(crate) fn mark(queue: &[u8], mark: Mark, lease: i64, number: u64) -> Vec<u8> {
        [Self::marks(queue, mark).as_slice(), format!("{lease:016x}{number:016x}").as_bytes()].concat()
    }

    /// Where such marks of upgrades stand.
    pub(crate) fn marks(queue: &[u8], mark: Mark) -> Vec<u8> {
        let letters = match mark {
            Mark::Pending => b"wp",
            Mark::Done => b"wu",
        };
        [queue, letters].concat()
    }

    /// Bytes of the name of an entry in its queue: a letter, lease and slot.
    pub(crate) const ENTRY_NAME: usize = 33;

    /// Reads the key of an entry.
    pub(crate) fn parse<'k>(&self, key: &'k [u8]) -> Option<EntryName<'k>> {
        let rest = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?.strip_prefix("q/")?;
        let (queue, name) = rest.split_once('/')?;
        let (is_ahead, name) = name.strip_prefix('0').map_or((false, name), |name| (true, name));
        let marked = [("wp", Mark::Pending), ("wu", Mark::Done)].into_iter();
        let mut marked = marked.filter_map(|(letters, mark)| Some((mark, name.strip_prefix(letters)?)));
        let (mark, name) = marked.next().map_or((None, name), |(mark, rest)| (Some(mark), rest));
        let letters = usize::from(mark.is_none());
        let mode = match name.as_bytes().first()? {
            _ if mark.is_some() => Mode::Exclusive,
            b'w' => Mode::Exclusive,
            b'r' => Mode::Shared,
            _ => return None,
        };
        let numbers = name.get(letters..)?;
        let lease = i64::from_str_radix(numbers.get(..16)?, 16).ok()?;
        let is_whole = numbers.len() + 1 == Self::ENTRY_NAME;
        is_whole.then_some(EntryName { queue, mode, lease, is_ahead, mark })
    }

    /// Ranges below the prefix in which keylatch writes nothing.
    pub(crate) fn foreign(&self) -> Vec<RangeRequest> {
        let own = ["epoch", "m/", "q/", "x/"].map(|name| format!("{}{name}", self.prefix));
        let ends = ["epoch\0", "m0", "q0", "x0"].map(|name| format!("{}{name}", self.prefix));
        let from = std::iter::once(self.prefix.clone()).chain(ends);
        let mut end = self.prefix.clone();
        end.pop();
        end.push('0');
        let to = own.into_iter().chain([end]);
        let range = |(key, range_end): (String, String)| RangeRequest {
            key: key.into_bytes(),
            range_end: range_end.into_bytes(),
            limit: 1,
            keys_only: true,
            ..RangeRequest::default()
        };
        from.zip(to).map(range).collect()
    }
}

/// 128 bits over the parts, each with its length before it, in hexadecimal.
fn hash(key: KeyRef<'_>) -> String {
    let mut bytes = Vec::with_capacity(key.byte_len() + 32);
    for part in [Some(key.bucket()), Some(key.object()), key.version()].into_iter().flatten() {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    digest(&SHA256, &bytes).as_ref()[..16].iter().fold(String::with_capacity(32), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes of each part that a value keeps.
const KEPT: usize = 256;

/// What an entry says to people: owner, bucket, object and, perhaps, version.
pub(crate) fn entry_value(owner: &str, key: KeyRef<'_>) -> Vec<u8> {
    let parts = [Some(owner.as_bytes()), Some(key.bucket()), Some(key.object()), key.version()];
    let words: Vec<String> = parts.into_iter().flatten().map(|part| escaped(&part[..part.len().min(KEPT)])).collect();
    words.join(" ").into_bytes()
}

/// Owner and key of an entry; parts beyond 256 bytes are cut.
pub(crate) fn read_entry_value(value: &[u8]) -> Option<(String, ObjectKey)> {
    let text = std::str::from_utf8(value).ok()?;
    let words: Option<Vec<Vec<u8>>> = text.split(' ').map(unescaped).collect();
    let words = words?;
    let (owner, key) = match words.as_slice() {
        [owner, bucket, object] => (owner, ObjectKey::new(bucket, object)),
        [owner, bucket, object, version] => (owner, ObjectKey::new(bucket, object).with_version(version)),
        _ => return None,
    };
    Some((String::from_utf8_lossy(owner).into_owned(), key))
}

/// A process, as people recognise it: host, number, start of the machine, label.
pub(crate) fn member_value(label: &str) -> Vec<u8> {
    let read = |path: &str| std::fs::read(path).map(|text| text.trim_ascii().to_vec()).unwrap_or_default();
    let host = read("/proc/sys/kernel/hostname");
    let boot = read("/proc/sys/kernel/random/boot_id");
    let pid = std::process::id().to_string().into_bytes();
    let version = env!("CARGO_PKG_VERSION").as_bytes().to_vec();
    [host, pid, boot, version, label.as_bytes().to_vec()].map(|word| escaped(&word)).join(" ").into_bytes()
}

/// Host, number and label of a process, for listings.
pub(crate) fn read_member_value(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let mut words =
        text.split(' ').map(|word| String::from_utf8_lossy(&unescaped(word).unwrap_or_default()).into_owned());
    let (host, pid) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let label = words.nth(2).unwrap_or_default();
    if label.is_empty() { format!("{host} process {pid}") } else { format!("{host} process {pid} ({label})") }
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_graphic() && byte != b'%' {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02x}");
        }
    }
    text
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_any_bytes_come_back() {
        let odd: Vec<u8> = (0..=255).collect();
        for (owner, key) in [
            ("", ObjectKey::new("", "")),
            ("a b%c", ObjectKey::new(&odd[..200], "x")),
            ("ß", ObjectKey::new("b", "o").with_version("")),
        ] {
            let value = entry_value(owner, key.as_ref());
            assert_eq!(read_entry_value(&value), Some((owner.to_owned(), key)));
        }
    }

    #[test]
    fn keys_parts_are_not_joined() {
        let layout = Layout::new("n");
        let queue = |key: (&str, &str)| layout.queue(KeyRef::new(key.0, key.1));
        assert_ne!(queue(("a/b", "c")), queue(("a", "b/c")));
        assert_ne!(layout.queue(KeyRef::new("a", "b").with_version("")), queue(("a", "b")));
        assert_eq!(queue(("a", "b")), queue(("a", "b")));
    }

    #[test]
    fn entry_names_come_back() {
        let layout = Layout::new("n");
        let queue = layout.queue(KeyRef::new("a", "b"));
        let key = Layout::entry(&queue, Mode::Shared, 0x7fff_ffff_ffff_ffff, u64::MAX);
        let name = layout.parse(&key).expect("an entry");
        assert_eq!((name.mode, name.lease), (Mode::Shared, i64::MAX));
        assert!(queue.contains(name.queue));
        for kind in [Mark::Pending, Mark::Done] {
            let mark = Layout::mark(queue.as_bytes(), kind, i64::MAX, 7);
            let name = layout.parse(&mark).expect("a mark");
            assert_eq!((name.mode, name.lease, name.mark), (Mode::Exclusive, i64::MAX, Some(kind)));
            assert!(
                mark.starts_with(&Layout::conflicting(&queue, Mode::Shared)),
                "readers that come later wait for it"
            );
        }
        assert!(layout.parse(b"keylatch/1/n/q/0/zz").is_none());
        assert!(layout.parse(&key[..key.len() - 1]).is_none());
    }

    #[test]
    fn foreign_ranges_leave_out_own_keys() {
        let layout = Layout::new("n");
        let queue = layout.queue(KeyRef::new("a", "b"));
        let own = [layout.epoch(), layout.member(1), layout.floor(1), Layout::entry(&queue, Mode::Shared, 1, 1)];
        let inside =
            |key: &[u8]| layout.foreign().iter().any(|r| r.key.as_slice() <= key && key < r.range_end.as_slice());
        assert!(own.iter().all(|key| !inside(key)));
        for foreign in ["", "a", "epochs", "m", "n/x", "r/1", "z"] {
            assert!(inside(format!("keylatch/1/n/{foreign}").as_bytes()), "{foreign}");
        }
        assert!(!inside(b"keylatch/1/nn/a"));
    }
}
