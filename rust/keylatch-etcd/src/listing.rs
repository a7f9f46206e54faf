//! Who holds and who waits, over all processes; and taking locks away.

use crate::error::EtcdError;
use crate::layout::{Layout, Mark, read_entry_value, read_member_value};
use crate::space::Space;
use crate::wire::{Compare, KeyValue, RangeRequest, RequestOp, TxnRequest};
use keylatch::{KeyRef, Mode, ObjectKey};
use std::collections::HashMap;

/// Entries of a page, when all queues are listed.
const PAGE: i64 = 1_000;

/// A hold or a waiting request of any process.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntryInfo {
    /// The key; each part is cut after 256 bytes.
    pub key: ObjectKey,
    /// How it is held or asked for.
    pub mode: Mode,
    /// Whether it waits.
    pub waits: bool,
    /// The process: host, number and label.
    pub process: String,
    /// The owner that the request named.
    pub owner: String,
    /// When it joined its queue; a lower one is older.
    pub revision: i64,
    /// Whether it is of this process and handle.
    pub own: bool,
}

/// The entries of a queue in order, and which of them wait.
fn in_order<'k>(layout: &Layout, queue: Vec<&'k KeyValue>) -> Vec<(&'k KeyValue, Mode, bool)> {
    let name = |kv: &'k KeyValue| layout.parse(&kv.key).map(|name| (kv, name));
    let mut queue: Vec<_> = queue.into_iter().filter_map(name).collect();
    queue.sort_by_key(|(kv, name)| (!name.is_ahead, kv.create_revision));
    let mut has_writer = false;
    let mut is_first = true;
    let mut list = Vec::with_capacity(queue.len());
    // Then the mark that waited stays beside the one that says so.
    let upgraded = queue.iter().find(|(_, name)| name.mark == Some(Mark::Done)).map(|(_, name)| name.lease);
    for (kv, name) in queue {
        let mode = name.mode;
        if let Some(mark) = name.mark {
            if mark == Mark::Done || upgraded.is_none() {
                list.push((kv, mode, mark == Mark::Pending));
            }
            has_writer = true;
            continue;
        }
        let waits = match mode {
            Mode::Exclusive => !is_first,
            // Those beside an upgrade that is done wait for it, though the writer before them may be gone.
            _ => has_writer || upgraded.is_some_and(|lease| lease != name.lease),
        };
        has_writer |= mode == Mode::Exclusive;
        is_first = false;
        list.push((kv, mode, waits));
    }
    list
}

/// Lists the entries of one key, or of all.
pub(crate) async fn list(space: &Space, key: Option<KeyRef<'_>>) -> Result<Vec<EntryInfo>, EtcdError> {
    let members = read_all(space, RangeRequest::prefix(space.layout.members())).await?;
    let lease_of = |key: &[u8]| key.rsplit(|&b| b == b'/').next().map(<[u8]>::to_vec).unwrap_or_default();
    let processes: HashMap<Vec<u8>, String> =
        members.iter().map(|kv| (lease_of(&kv.key), read_member_value(&kv.value))).collect();
    let prefix = key.map_or_else(|| space.layout.queues(), |key| space.layout.queue(key).into_bytes());
    let entries = read_all(space, RangeRequest::prefix(prefix)).await?;
    let own = space.session_now().map(|session| session.lease);
    let mut queues: HashMap<&str, Vec<&KeyValue>> = HashMap::new();
    for kv in &entries {
        if let Some(name) = space.layout.parse(&kv.key) {
            queues.entry(name.queue).or_default().push(kv);
        }
    }
    let mut list = Vec::with_capacity(entries.len());
    for (kv, mode, waits) in queues.into_values().flat_map(|queue| in_order(&space.layout, queue)) {
        let Some((owner, key)) = read_entry_value(&kv.value) else { continue };
        let process = processes.get(format!("{:016x}", kv.lease).as_bytes()).cloned().unwrap_or_default();
        let own = own == Some(kv.lease);
        list.push(EntryInfo { key, mode, waits, process, owner, revision: kv.create_revision, own });
    }
    list.sort_by(|a, b| (&a.key, a.revision).cmp(&(&b.key, b.revision)));
    Ok(list)
}

/// All keys of a range, as they were at one revision.
async fn read_all(space: &Space, below: RangeRequest) -> Result<Vec<KeyValue>, EtcdError> {
    let mut request = RangeRequest { limit: PAGE, ..below };
    let mut all = Vec::new();
    loop {
        let page = space.client.range(request.clone()).await?;
        // The later pages are of the same moment. Their headers name the present one.
        if request.revision == 0 {
            request.revision = page.header.map_or(0, |header| header.revision);
        }
        let is_last = !page.more;
        all.extend(page.kvs);
        match all.last() {
            Some(last) if !is_last => {
                request.key.clone_from(&last.key);
                request.key.push(0);
            }
            _ => return Ok(all),
        }
    }
}

/// Whose holds are revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    All,
    Others,
}

/// An entry, and the marks of an upgrade that stand beside it if it is shared.
///
/// Without it they keep others out for no one.
fn with_marks<'k>(layout: &Layout, of: &'k KeyValue, queue: &'k [KeyValue]) -> Vec<&'k KeyValue> {
    let shared = layout.parse(&of.key).filter(|name| name.mode == Mode::Shared);
    let beside = queue.iter().filter(|kv| {
        let mark = layout.parse(&kv.key).filter(|name| name.mark.is_some());
        mark.is_some_and(|mark| shared.as_ref().is_some_and(|shared| shared.lease == mark.lease))
    });
    std::iter::once(of).chain(beside).collect()
}

/// Deletes the entries that hold a key, and returns how many.
pub(crate) async fn revoke(space: &Space, key: KeyRef<'_>, whose: Whose) -> Result<u32, EtcdError> {
    let own = space.session_now().map(|session| session.lease);
    let queue = space.layout.queue(key);
    // What entries say to people may be more than an answer may have.
    let names = RangeRequest { keys_only: true, ..RangeRequest::prefix(queue.into_bytes()) };
    let found = read_all(space, names).await?;
    let mut revoked = 0;
    for (kv, _, waits) in in_order(&space.layout, found.iter().collect()) {
        if waits || whose == Whose::Others && own == Some(kv.lease) {
            continue;
        }
        // The name may have been used again meanwhile.
        let request = TxnRequest {
            compare: vec![Compare::created_at(kv.key.clone(), kv.create_revision)],
            success: with_marks(&space.layout, kv, &found)
                .into_iter()
                .map(|kv| RequestOp::delete(kv.key.clone()))
                .collect(),
            failure: Vec::new(),
        };
        let is_deleted = space.client.txn(request).await?.body.succeeded;
        // A mark is part of the hold whose shared entry is beside it.
        let is_mark = space.layout.parse(&kv.key).is_some_and(|name| name.mark.is_some());
        revoked += u32::from(is_deleted && !is_mark);
    }
    Ok(revoked)
}
