//! Listings: who holds what, who waits for what.

use super::call::{Item, RequestKey};
use super::core::Machine;
use super::grant::Grant;
use super::session::{Presence, State};
use super::table::AtKey;
use keylatch::ObjectKey;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// Keys that one listing looks at before it answers; the next one goes on there.
const MOST_KEYS: usize = 20_000;

/// Which keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFilter {
    /// Of this bucket only.
    pub bucket: Option<String>,
    /// Whose object begins with this.
    pub prefix: Option<String>,
    /// Whose object is this.
    pub object: Option<String>,
}

impl KeyFilter {
    /// Returns whether a key passes.
    #[must_use]
    pub fn matches(&self, key: &ObjectKey) -> bool {
        self.bucket.as_ref().is_none_or(|bucket| key.bucket() == bucket.as_bytes())
            && self.prefix.as_ref().is_none_or(|prefix| key.object().starts_with(prefix.as_bytes()))
            && self.object.as_ref().is_none_or(|object| key.object() == object.as_bytes())
    }

    /// Where keys that pass begin.
    fn first(&self) -> Option<ObjectKey> {
        let bucket = self.bucket.as_ref()?;
        Some(ObjectKey::new(bucket, self.object.as_ref().or(self.prefix.as_ref()).map_or("", String::as_str)))
    }

    /// Returns whether no later key passes.
    fn is_past(&self, key: &ObjectKey) -> bool {
        let Some(bucket) = &self.bucket else { return false };
        let beyond = |begin: &String| key.object() > begin.as_bytes() && !key.object().starts_with(begin.as_bytes());
        let ends = self.object.as_ref().or(self.prefix.as_ref());
        key.bucket() > bucket.as_bytes() || (key.bucket() == bucket.as_bytes() && ends.is_some_and(beyond))
    }
}

/// Which holds or waiting requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockFilter {
    /// Of which keys.
    pub keys: KeyFilter,
    /// Of this owner only.
    pub owner: Option<String>,
    /// Of this session only.
    pub session: Option<u64>,
    /// Held, or waiting, for at least this long.
    pub older_than: Option<Duration>,
}

impl LockFilter {
    fn matches(&self, owner: &str, session: u64, age: Duration) -> bool {
        self.owner.as_ref().is_none_or(|wanted| wanted == owner)
            && self.session.is_none_or(|wanted| wanted == session)
            && self.older_than.is_none_or(|least| age >= least)
    }
}

/// A part of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// Rows in the order of keys.
    pub rows: Vec<T>,
    /// The key to go on after; `None` if this was all.
    pub next: Option<ObjectKey>,
}

/// A key that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLock {
    /// The key and how it is held.
    pub item: Item,
    /// By which request.
    pub request: RequestKey,
    /// Whose.
    pub owner: Arc<str>,
    /// The request's grant.
    pub grant: Grant,
    /// Since how long.
    pub held_for: Duration,
    /// How its client is connected.
    pub presence: Presence,
}

/// A request that waits for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedRequest {
    /// The key and how it is wanted.
    pub item: Item,
    /// Which request.
    pub request: RequestKey,
    /// Whose.
    pub owner: Arc<str>,
    /// 1 is next in line at this key.
    pub place: usize,
    /// Since how long.
    pub waited: Duration,
    /// How its client is connected; a cut one is passed over.
    pub presence: Presence,
}

impl Machine {
    /// Keys that pass a filter, after a key.
    fn keys_matching<'a>(
        &'a self,
        keys: &'a KeyFilter,
        after: Option<&'a ObjectKey>,
    ) -> impl Iterator<Item = &'a ObjectKey> {
        let first = keys.first();
        let from = match (after, &first) {
            (Some(after), Some(first)) if after < first => Bound::Included(first.clone()),
            (Some(after), _) => Bound::Excluded(after.clone()),
            (None, Some(first)) => Bound::Included(first.clone()),
            (None, None) => Bound::Unbounded,
        };
        self.table.keys_from(from).take_while(|key| !keys.is_past(key))
    }

    /// Holds that pass a filter, about `most` of them at most.
    #[must_use]
    pub fn locks(&self, now: Duration, filter: &LockFilter, after: Option<&ObjectKey>, most: usize) -> Page<HeldLock> {
        self.page(filter, (after, most), |key, rows| rows.extend(self.holds_at(now, key, filter)))
    }

    /// Waiting requests that pass a filter, about `most` of them at most.
    #[must_use]
    pub fn waiters(
        &self,
        now: Duration,
        filter: &LockFilter,
        after: Option<&ObjectKey>,
        most: usize,
    ) -> Page<QueuedRequest> {
        self.page(filter, (after, most), |key, rows| rows.extend(self.waits_at(now, key, filter)))
    }

    /// Every hold that passes a filter.
    #[must_use]
    pub fn every_lock(&self, now: Duration, filter: &LockFilter) -> Vec<HeldLock> {
        self.matching_holds(now, filter).collect()
    }

    /// Every waiting request that passes a filter.
    #[must_use]
    pub fn every_waiter(&self, now: Duration, filter: &LockFilter) -> Vec<QueuedRequest> {
        let keys = self.keys_matching(&filter.keys, None).filter(|key| filter.keys.matches(key));
        keys.flat_map(|key| self.waits_at(now, key, filter)).collect()
    }

    fn page<T>(
        &self,
        filter: &LockFilter,
        (after, most): (Option<&ObjectKey>, usize),
        mut add: impl FnMut(&ObjectKey, &mut Vec<T>),
    ) -> Page<T> {
        let mut rows = Vec::new();
        let mut last = None;
        for (looked_at, key) in self.keys_matching(&filter.keys, after).enumerate() {
            if looked_at == MOST_KEYS || rows.len() >= most {
                return Page { rows, next: last };
            }
            last = Some(key.clone());
            if filter.keys.matches(key) {
                add(key, &mut rows);
            }
        }
        Page { rows, next: None }
    }

    /// Every hold that passes a filter.
    pub(super) fn matching_holds<'a>(
        &'a self,
        now: Duration,
        filter: &'a LockFilter,
    ) -> impl Iterator<Item = HeldLock> + 'a {
        let keys = self.keys_matching(&filter.keys, None).filter(|key| filter.keys.matches(key));
        keys.flat_map(move |key| self.holds_at(now, key, filter))
    }

    /// Every key that a request holds.
    pub(super) fn holds_of(&self, now: Duration, request: RequestKey) -> Vec<HeldLock> {
        let Some(asked) = self.request(request) else { return Vec::new() };
        let everything = LockFilter::default();
        let holds = asked.items.iter().flat_map(|item| self.holds_at(now, &item.key, &everything));
        holds.filter(|hold| hold.request == request).collect()
    }

    fn holds_at<'a>(
        &'a self,
        now: Duration,
        key: &'a ObjectKey,
        filter: &'a LockFilter,
    ) -> impl Iterator<Item = HeldLock> + 'a {
        self.table.holders(key).filter_map(move |holder| {
            let session = self.sessions.get(&holder.request.session)?;
            let request = session.requests.get(&holder.request.number)?;
            let State::Held(grant) = request.state else { return None };
            let held_for = now.saturating_sub(request.since);
            filter.matches(&session.owner, holder.request.session, held_for).then(|| HeldLock {
                item: Item { key: key.clone(), mode: holder.mode },
                request: holder.request,
                owner: Arc::clone(&session.owner),
                grant,
                held_for,
                presence: session.presence,
            })
        })
    }

    /// Returns the requests that keep a key while the tier is asked.
    pub(super) fn reserved<'a>(&'a self, key: &'a ObjectKey) -> impl Iterator<Item = AtKey> + 'a {
        let is_reserved = |at: &AtKey| self.request(at.request).is_some_and(|asked| asked.state == State::Reserved);
        // Without a tier, all that the table calls holders are.
        self.tier.iter().flat_map(|_| self.table.holders(key)).filter(is_reserved)
    }

    fn waits_at<'a>(
        &'a self,
        now: Duration,
        key: &'a ObjectKey,
        filter: &'a LockFilter,
    ) -> impl Iterator<Item = QueuedRequest> + 'a {
        // What waits for the tier is ahead of those that wait here.
        self.reserved(key).chain(self.table.waiters(key)).enumerate().filter_map(move |(position, waiter)| {
            let session = self.sessions.get(&waiter.request.session)?;
            let waited = now.saturating_sub(session.requests.get(&waiter.request.number)?.since);
            filter.matches(&session.owner, waiter.request.session, waited).then(|| QueuedRequest {
                item: Item { key: key.clone(), mode: waiter.mode },
                request: waiter.request,
                owner: Arc::clone(&session.owner),
                place: position + 1,
                waited,
                presence: session.presence,
            })
        })
    }
}
