//! A few clients of a machine, each with its own belief about what it holds, and the checks that hold after every step.

use keylatch::{Mode, ObjectKey};
use keylatch_service::machine::{
    Answer, Ask, AttachPlan, Call, CancelAnswer, EventKind, Grant, HeldLock, Item, Limits, LockFilter, Machine, Open,
    Reason, Refusal, Replay, SessionName, Start, Stream, Wait,
};
use std::collections::HashMap;
use std::time::Duration;

pub(crate) const GRACE: Duration = Duration::from_secs(2);
pub(crate) const TTL: Duration = Duration::from_secs(10);

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn item(object: &str, mode: Mode) -> Item {
    Item { key: ObjectKey::new("b", object), mode }
}

pub(crate) fn write(objects: &[&str]) -> Ask {
    Ask::new(objects.iter().map(|object| item(object, Mode::Exclusive)).collect(), 0, Wait::Queue)
}

pub(crate) fn read(object: &str) -> Ask {
    Ask::new(vec![item(object, Mode::Shared)], 0, Wait::Queue)
}

pub(crate) fn limits() -> Limits {
    Limits { grace: GRACE, events: 1 << 20, ..Limits::default() }
}

pub(crate) fn start() -> Start {
    Start { epoch: 7, fences: 1..1_000_000, quiet: Duration::ZERO }
}

/// A client as it sees itself: what it sent when, and until when it believes.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) session: SessionName,
    pub(crate) stream: Option<Stream>,
    /// Until when its locks are safe, by its own clock.
    pub(crate) believes_until: Duration,
    /// Grants that it learned of and has not given back.
    pub(crate) grants: HashMap<u64, Grant>,
}

/// A machine and its clients.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) machine: Machine,
    pub(crate) now: Duration,
    pub(crate) clients: Vec<Client>,
    seen: u64,
    last_fence: u64,
    grant_of: HashMap<(u64, u64), Grant>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(limits(), start())
    }

    pub(crate) fn with(limits: Limits, start: Start) -> Self {
        Self {
            machine: Machine::new(limits, start),
            now: Duration::ZERO,
            clients: Vec::new(),
            seen: 0,
            last_fence: 0,
            grant_of: HashMap::new(),
        }
    }

    pub(crate) fn open(&mut self, attach: AttachPlan) -> usize {
        let open =
            Open { owner: format!("client-{}", self.clients.len()).into(), principal: "".into(), ttl: TTL, attach };
        let opened = self.machine.open(self.now, open).expect("there is room");
        self.clients.push(Client {
            session: opened.session,
            stream: None,
            believes_until: self.now + opened.valid,
            grants: HashMap::new(),
        });
        let client = self.clients.len() - 1;
        if attach == AttachPlan::Attaches {
            self.attach(client).expect("it was opened now");
        }
        self.check();
        client
    }

    /// As many attached clients as asked for.
    pub(crate) fn attached<const N: usize>(&mut self) -> [usize; N] {
        std::array::from_fn(|_| self.open(AttachPlan::Attaches))
    }

    pub(crate) fn call(&self, client: usize) -> Call<'static> {
        Call { now: self.now, session: self.clients[client].session, principal: "", settled_below: 0 }
    }

    pub(crate) fn attach(&mut self, client: usize) -> Result<(), Refusal> {
        let stream = self.machine.attach(self.call(client))?;
        self.clients[client].stream = Some(stream);
        self.check();
        Ok(())
    }

    pub(crate) fn cut(&mut self, client: usize) {
        if let Some(stream) = self.clients[client].stream.take() {
            self.machine.detach(self.now, stream);
        }
        self.check();
    }

    pub(crate) fn lock(&mut self, client: usize, number: u64, ask: Ask) -> Result<Answer, Refusal> {
        let answer = self.machine.lock(self.call(client), number, ask);
        self.learn(client, number, &answer);
        self.check();
        answer
    }

    pub(crate) fn unlock(&mut self, client: usize, number: u64) -> Result<Answer, Refusal> {
        self.clients[client].grants.remove(&number);
        let answer = self.machine.unlock(self.call(client), number, None);
        self.check();
        answer
    }

    pub(crate) fn cancel(&mut self, client: usize, number: u64) -> Result<Answer, Refusal> {
        self.clients[client].grants.remove(&number);
        let answer = self.machine.cancel(self.call(client), number).map(|answer| match answer {
            CancelAnswer::Lock(answer) => answer,
            CancelAnswer::Claim(answer) => panic!("no claim has this number: {answer:?}"),
        });
        self.check();
        answer
    }

    /// A renewal whose answer arrives: belief counts from the moment it was sent.
    pub(crate) fn renew(&mut self, client: usize) -> Result<Duration, Refusal> {
        let renewed = self.machine.renew(self.call(client), None, &[]);
        if let Ok(renewed) = &renewed {
            let believes_until = self.now + renewed.valid;
            let client = &mut self.clients[client];
            client.believes_until = client.believes_until.max(believes_until);
        }
        self.check();
        renewed.map(|renewed| renewed.valid)
    }

    pub(crate) fn end(&mut self, client: usize) -> Result<(), Refusal> {
        self.clients[client].grants.clear();
        let ended = self.machine.end(self.call(client));
        self.check();
        ended
    }

    pub(crate) fn force(&mut self, filter: &LockFilter) -> Vec<HeldLock> {
        let released = self.machine.force_release(self.now, filter, &|_| true);
        for hold in &released {
            for client in &mut self.clients {
                client.grants.retain(|_, grant| *grant != hold.grant);
            }
        }
        self.check();
        released
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.machine.tick(self.now);
        self.check();
    }

    fn learn(&mut self, client: usize, number: u64, answer: &Result<Answer, Refusal>) {
        if let Ok(Answer::Granted { grant }) = answer {
            self.clients[client].grants.insert(number, *grant);
        }
    }

    /// Every hold, as the listing has it.
    pub(crate) fn holds(&self) -> Vec<HeldLock> {
        self.machine.locks(self.now, &LockFilter::default(), None, usize::MAX).rows
    }

    /// Returns who holds an object, by client.
    pub(crate) fn holders(&self, object: &str) -> Vec<usize> {
        let key = ObjectKey::new("b", object);
        let holds = self.holds().into_iter().filter(|hold| hold.item.key == key);
        holds.map(|hold| self.clients.iter().position(|c| c.session.number == hold.request.session).unwrap()).collect()
    }

    fn check(&mut self) {
        self.check_events();
        let holds = self.holds();
        self.check_exclusion(&holds);
        self.check_belief(&holds);
        self.check_progress(&holds);
    }

    /// Checks fences, grants and losses.
    ///
    /// Fences grow in the order of grants, a number has one grant, and what is lost before its promise was forced.
    fn check_events(&mut self) {
        let Replay::Events { events, .. } = self.machine.events_after(self.seen, usize::MAX) else {
            panic!("the ring is large enough")
        };
        for event in events {
            self.seen += 1;
            let EventKind::Granted { grant } = event.kind else { continue };
            assert!(grant.fence > self.last_fence, "fence {} after {}", grant.fence, self.last_fence);
            self.last_fence = grant.fence;
            let before = self.grant_of.insert((event.request.session, event.request.number), grant);
            assert_eq!(before, None, "{:?} was granted twice", event.request);
        }
    }

    fn check_exclusion(&self, holds: &[HeldLock]) {
        for pair in holds.windows(2).filter(|pair| pair[0].item.key == pair[1].item.key) {
            assert!(
                pair[0].item.mode == Mode::Shared && pair[1].item.mode == Mode::Shared,
                "two holders of one key: {pair:?}"
            );
        }
    }

    /// A client that believes in a grant by its own clock has it.
    fn check_belief(&self, holds: &[HeldLock]) {
        for client in self.clients.iter().filter(|client| self.now < client.believes_until) {
            for grant in client.grants.values() {
                assert!(holds.iter().any(|hold| hold.grant == *grant), "{client:?} believes in what it does not have");
            }
        }
    }

    /// The first present request of all waits for holders only.
    fn check_progress(&self, holds: &[HeldLock]) {
        let waits = self.machine.waiters(self.now, &LockFilter::default(), None, usize::MAX).rows;
        let present: Vec<_> = waits.iter().filter(|wait| wait.presence.as_str() != "cut" && wait.place >= 1).collect();
        for first in &present {
            let mine: Vec<_> = present.iter().filter(|wait| wait.request == first.request).collect();
            let leads = |wait: &&&keylatch_service::machine::QueuedRequest| {
                present.iter().all(|other| other.item.key != wait.item.key || other.place >= wait.place)
            };
            let is_blocked = mine.iter().any(|wait| {
                holds.iter().any(|hold| {
                    hold.item.key == wait.item.key
                        && (hold.item.mode == Mode::Exclusive || wait.item.mode == Mode::Exclusive)
                })
            });
            assert!(is_blocked || !mine.iter().all(leads), "{first:?} could be granted");
        }
    }
}

/// Returns whether an answer says that a hold was lost for a reason.
pub(crate) fn is_lost(answer: &Result<Answer, Refusal>, why: Reason) -> bool {
    matches!(answer, Ok(Answer::Lost { reason, .. }) if *reason == why)
}
