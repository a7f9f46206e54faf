//! What clients and servers of the model say to each other. There is one resource.

/// A request: client, epoch of its session, number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) client: usize,
    pub(crate) epoch: u64,
    pub(crate) number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Grant {
    pub(crate) epoch: u64,
    pub(crate) fence: u64,
}

/// How an owner says that its work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Work {
    Done,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Verb {
    Claim,
    Complete(Grant, Work),
    Cancel,
    /// `number` of the key is the next number that the client will use.
    Renew {
        open: Option<u64>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ask {
    pub(crate) key: Key,
    pub(crate) settled_below: u64,
    pub(crate) verb: Verb,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Answer {
    /// The poll ended while the request was in line.
    Waiting,
    Yours(Grant),
    Done,
    Ended(Work),
    Lost,
    Cancelled,
    Renewed,
    EpochChanged(u64),
    SessionGone,
    Stale,
    NotYours,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Event {
    Granted(Key, Grant),
    Failed,
}

/// One thing that leaves a server, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Output {
    /// The answer to a call, or to the parked poll of a claim.
    ///
    /// `Renewed` answers carry the next number as theirs.
    Reply(Key, Answer),
    Event(Event),
}

/// What the invariants see of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) owner: Option<(Key, Grant)>,
    pub(crate) present: Vec<Key>,
    pub(crate) dormant: Vec<Key>,
}

impl View {
    pub(crate) fn holds(&self, key: Key) -> bool {
        self.owner.is_some_and(|(owner, _)| owner == key) || self.present.contains(&key) || self.dormant.contains(&key)
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = Key> {
        self.owner.iter().map(|(key, _)| *key).chain(self.present.iter().copied()).chain(self.dormant.iter().copied())
    }
}

/// A server under test.
pub(crate) trait Server: Clone + Eq + std::hash::Hash + std::fmt::Debug + Send + Sync + 'static {
    /// With one session for each client.
    fn start(clients: usize, fault: Option<crate::fault::Fault>) -> Self;
    fn handle(&mut self, ask: &Ask) -> Vec<Output>;
    /// Returns the second half of a verb that a faulty server does not do in one step.
    fn go_on(&mut self) -> Option<Vec<Output>>;
    fn is_parked(&self, key: Key) -> bool;
    fn end_poll(&mut self, key: Key) -> Vec<Output>;
    fn cut(&mut self, client: usize) -> Vec<Output>;
    fn attach(&mut self, client: usize) -> Vec<Output>;
    fn is_live(&self, client: usize) -> bool;
    fn expire(&mut self, client: usize) -> Vec<Output>;
    fn forget_outcome(&mut self) -> Vec<Output>;
    fn restart(&mut self);
    fn epoch(&self) -> u64;
    fn view(&self) -> View;
}
