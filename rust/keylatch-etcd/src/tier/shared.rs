//! What the permits of a tier share: the manager's side, who is where, and whether the term lasts.

use super::command::Command;
use crate::session::Session;
use crate::space::Space;
use keylatch::ObjectKey;
use keylatch::tier::{PermitId, Term, TierEvents};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, watch};

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) space: Arc<Space>,
    events: RwLock<Option<Arc<dyn TierEvents>>>,
    permits: Mutex<Permits>,
    /// Set while the term lasts, as far as a timer has noticed.
    is_current: AtomicBool,
}

#[derive(Debug, Default)]
struct Permits {
    commands: HashMap<PermitId, mpsc::UnboundedSender<Command>>,
    /// The permits of each key, the latest last, and when each is over.
    ///
    /// A try that fails leaves the permit that it would have replaced: the next ask has to wait for that one.
    of_key: HashMap<ObjectKey, Vec<(PermitId, watch::Receiver<()>)>>,
}

impl Shared {
    pub(super) fn new(space: Arc<Space>) -> Self {
        let is_current = AtomicBool::new(false);
        Self { space, events: RwLock::new(None), permits: Mutex::default(), is_current }
    }

    pub(super) fn attach(&self, events: Arc<dyn TierEvents>) -> Term {
        *self.events.write() = Some(events);
        // Without a session now, the first one that comes begins the next term.
        let session = self.space.session_now();
        self.is_current.store(session.is_some(), Ordering::Release);
        Term(session.map_or(0, |session| session.number))
    }

    /// Says that the term is over before it is.
    pub(super) fn lose(&self) {
        self.is_current.store(false, Ordering::Release);
        if let Some(session) = self.space.session_now() {
            self.event(|events| events.all_lost(Term(session.number)));
        }
    }

    pub(super) fn detach(&self) {
        self.is_current.store(false, Ordering::Release);
        *self.events.write() = None;
    }

    pub(super) fn is_current(&self) -> bool {
        // Pairs with: the stores of `watch_terms`.
        self.is_current.load(Ordering::Acquire)
    }

    /// Calls the manager, unless the tier was detached.
    pub(super) fn event(&self, call: impl FnOnce(&dyn TierEvents)) {
        let events = self.events.read().clone();
        if let Some(events) = events {
            call(&*events);
        }
    }

    /// Passes a command on; `false` if no permit has this number.
    pub(super) fn command(&self, id: PermitId, command: Command) -> bool {
        let permits = self.permits.lock();
        permits.commands.get(&id).is_some_and(|commands| commands.send(command).is_ok())
    }

    /// Enters a permit; returns when the one before it on this key is over.
    pub(super) fn enter(
        &self,
        id: PermitId,
        key: &ObjectKey,
        over: watch::Receiver<()>,
    ) -> (mpsc::UnboundedReceiver<Command>, Option<watch::Receiver<()>>) {
        let (commands, received) = mpsc::unbounded_channel();
        let mut permits = self.permits.lock();
        permits.commands.insert(id, commands);
        let of_key = permits.of_key.entry(key.clone()).or_default();
        let before = of_key.last().map(|(_, over)| over.clone());
        of_key.push((id, over));
        (received, before)
    }

    pub(super) fn leave(&self, id: PermitId, key: &ObjectKey) {
        let mut permits = self.permits.lock();
        permits.commands.remove(&id);
        if let Some(of_key) = permits.of_key.get_mut(key) {
            of_key.retain(|(other, _)| *other != id);
            if of_key.is_empty() {
                permits.of_key.remove(key);
            }
        }
    }

    /// The session of a term, if it is the present one.
    pub(super) fn session(&self, term: Term) -> Option<Arc<Session>> {
        self.space.session_now().filter(|session| session.number == term.0)
    }
}

/// Says when terms end and begin; returns when the tier is closed.
pub(super) async fn watch_terms(shared: Arc<Shared>, first: Term) {
    let mut term = first;
    loop {
        if let Some(session) = shared.session(term) {
            session.ended().await;
        }
        // Pairs with: the load in `is_current`.
        shared.is_current.store(false, Ordering::Release);
        shared.event(|events| events.all_lost(term));
        let Ok(session) = shared.space.session().await else { return };
        term = Term(session.number);
        shared.is_current.store(true, Ordering::Release);
        shared.event(|events| events.renewed(term));
    }
}
