//! What the machine keeps of a session and of its requests.

use super::call::{AttachPlan, Item, Open, Reason, Wait};
use super::grant::Grant;
use super::table::Place;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A stream that was attached to a session; a later one takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// The session's number.
    pub session: u64,
    pub(super) number: u64,
}

/// How a session's client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It never attached a stream, and renews.
    Detached,
    /// Its stream is open.
    Attached,
    /// Its stream ended, or has not attached yet: its places are kept and passed over.
    Cut,
}

impl Presence {
    /// Returns the word for it in listings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Detached => "detached",
            Self::Attached => "attached",
            Self::Cut => "cut",
        }
    }
}

/// How a session came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Its client opened it.
    Opened,
    /// A lock request without a session made it; it ends with that request.
    Implicit,
}

#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) owner: Arc<str>,
    pub(super) principal: Arc<str>,
    pub(super) ttl: Duration,
    pub(super) origin: Origin,
    pub(super) presence: Presence,
    /// Counts attached streams; the last one is the session's.
    pub(super) streams: u64,
    pub(super) deadline: Duration,
    /// No lock is freed before this, except by force.
    ///
    /// Invariant: `promised_until <= deadline`.
    pub(super) promised_until: Duration,
    pub(super) settled_below: u64,
    /// Boxed: the map makes room for eleven, and most sessions make one at a time.
    pub(super) requests: BTreeMap<u64, Box<Request>>,
    /// Whether the claim board has this session too.
    pub(super) has_claims: bool,
}

/// A numbered request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) items: Arc<[Item]>,
    pub(super) place: Place,
    pub(super) wait: Wait,
    pub(super) state: State,
    /// When it got into its state.
    pub(super) since: Duration,
}

/// See the table of states in the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Queued,
    /// It is its turn here, and the tier is asked.
    Reserved,
    Held(Grant),
    Refused,
    /// The tier cannot take all its keys in one step.
    TooLarge,
    Ended(Grant),
    Cancelled(Option<Grant>),
    Lost(Grant, Reason),
}

impl Session {
    /// Makes a session that was opened at a time.
    pub(super) fn new(now: Duration, open: Open, origin: Origin, grace: Duration) -> Self {
        let presence = match open.attach {
            AttachPlan::Attaches => Presence::Cut,
            AttachPlan::RenewsOnly => Presence::Detached,
        };
        let mut session = Self {
            owner: open.owner,
            principal: open.principal,
            ttl: open.ttl,
            origin,
            presence,
            streams: 0,
            deadline: now,
            promised_until: now,
            settled_below: 0,
            requests: BTreeMap::new(),
            has_claims: false,
        };
        session.deadline = session.renew(now, grace);
        session
    }

    /// Returns whether a grant would reach the client.
    pub(super) fn is_present(&self) -> bool {
        self.presence != Presence::Cut
    }

    /// For how long a renewal makes the locks safe.
    pub(super) fn validity(&self, grace: Duration) -> Duration {
        match self.presence {
            Presence::Detached => self.ttl,
            Presence::Attached | Presence::Cut => self.ttl.min(grace),
        }
    }

    /// Makes the promise of a renewal. Returns the deadline that follows.
    pub(super) fn renew(&mut self, now: Duration, grace: Duration) -> Duration {
        self.promised_until = self.promised_until.max(now + self.validity(grace));
        let extended = match self.presence {
            Presence::Detached | Presence::Attached => now + self.ttl,
            Presence::Cut => now + grace,
        };
        self.deadline.max(extended).max(self.promised_until)
    }

    /// Notes that the stream ended. Returns the deadline that follows.
    pub(super) fn cut(&mut self, now: Duration, grace: Duration) -> Duration {
        self.presence = Presence::Cut;
        self.deadline.min((now + grace).max(self.promised_until))
    }

    /// Returns the deadline after a grant: an implicit session's lease begins with it.
    pub(super) fn deadline_after_grant(&mut self, now: Duration) -> Duration {
        if self.origin == Origin::Implicit {
            self.promised_until = self.promised_until.max(now + self.ttl);
        }
        self.deadline.max(self.promised_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(2);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn session(attach: AttachPlan) -> Session {
        let open = Open { owner: "o".into(), principal: "p".into(), ttl: seconds(30), attach };
        Session::new(seconds(100), open, Origin::Opened, GRACE)
    }

    #[test]
    fn late_attach_cut_keeps_first_promise() {
        let mut session = session(AttachPlan::RenewsOnly);
        assert_eq!(session.promised_until, seconds(130));
        session.presence = Presence::Attached;
        assert_eq!(session.cut(seconds(101), GRACE), seconds(130), "the client may believe until then");
    }

    #[test]
    fn attached_cut_leaves_the_grace() {
        let mut session = session(AttachPlan::Attaches);
        assert_eq!((session.promised_until, session.deadline), (seconds(102), seconds(102)));
        session.presence = Presence::Attached;
        session.deadline = session.renew(seconds(101), GRACE);
        assert_eq!((session.promised_until, session.deadline), (seconds(103), seconds(131)));
        session.deadline = session.cut(seconds(110), GRACE);
        assert_eq!(session.deadline, seconds(112));
        assert_eq!(session.renew(seconds(111), GRACE), seconds(113), "a renewal in grace extends by the grace");
    }

    #[test]
    fn grace_longer_than_ttl_promises_ttl() {
        let mut session = session(AttachPlan::Attaches);
        session.ttl = seconds(1);
        assert_eq!(session.validity(GRACE), seconds(1));
        session.presence = Presence::Attached;
        session.deadline = session.renew(seconds(110), GRACE);
        assert_eq!(session.deadline, seconds(111));
        assert_eq!(session.cut(seconds(110), GRACE), seconds(111), "a cut never extends");
    }
}
