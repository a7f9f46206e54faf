//! Random programs of claims and locks in one machine, with what has to hold after every step.

use crate::small_world::{GRACE, TTL, limits, seconds, start};
use keylatch::claim::{ClaimAnswer, ClaimPolicy};
use keylatch::{Mode, ObjectKey};
use keylatch_service::machine::{
    Ask, AttachPlan, Call, Grant, Item, Limits, LockFilter, Machine, Open, Refusal, SessionName, Stream, Wait,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// A client as it sees itself.
struct Client {
    session: SessionName,
    stream: Option<Stream>,
    believes_until: Duration,
    next: u64,
    /// Its numbers: which resource, and the grant that it learned of.
    claims: BTreeMap<u64, (ObjectKey, Option<Grant>)>,
}

struct World {
    machine: Machine,
    now: Duration,
    clients: Vec<Client>,
    random: u64,
    highest_fence: u64,
}

fn resource(number: u64) -> ObjectKey {
    ObjectKey::new("layers", format!("l{number}"))
}

impl World {
    fn new(seed: u64) -> Self {
        let machine = Machine::new(Limits { claim_retention: seconds(3), ..limits() }, start());
        Self { machine, now: Duration::ZERO, clients: Vec::new(), random: seed | 1, highest_fence: 0 }
    }

    /// Returns a number below a bound.
    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    fn open(&mut self) {
        let attach = if self.draw(2) == 0 { AttachPlan::Attaches } else { AttachPlan::RenewsOnly };
        let open = Open { owner: "c".into(), principal: "".into(), ttl: TTL, attach };
        let opened = self.machine.open(self.now, open).unwrap();
        let mut client = Client {
            session: opened.session,
            stream: None,
            believes_until: self.now + opened.valid,
            next: 1,
            claims: BTreeMap::new(),
        };
        if attach == AttachPlan::Attaches {
            client.stream = self.machine.attach(call(self.now, &client, 0)).ok();
        }
        self.clients.push(client);
    }

    fn step(&mut self) {
        if self.clients.len() < 4 {
            self.open();
        }
        let at = self.draw(self.clients.len() as u64) as usize;
        match self.draw(12) {
            0..=3 => self.claim(at),
            4..=5 => self.complete(at),
            6 => self.cancel(at),
            7 => self.toggle_stream(at),
            8 => self.renew(at),
            9 => self.lock(at),
            10 => self.settle(at),
            _ => {
                let pause = Duration::from_millis(self.draw(2_500));
                self.now += pause;
            }
        }
        self.machine.tick(self.now);
        self.check();
    }

    fn claim(&mut self, at: usize) {
        let again = self.draw(3) == 0;
        let key = resource(self.draw(3));
        let client = &mut self.clients[at];
        let (number, key) = match client.claims.first_key_value() {
            Some((number, (key, _))) if again => (*number, key.clone()),
            _ => (client.next, key),
        };
        client.next = client.next.max(number + 1);
        let answer = self.machine.claim(call(self.now, client, 0), number, &key, &ClaimPolicy::default());
        let known = client.claims.entry(number).or_insert((key, None));
        match answer {
            Ok(ClaimAnswer::Yours(owned)) => {
                let grant = Grant { epoch: owned.grant.epoch, fence: owned.grant.fence };
                assert!(known.1.is_none_or(|before| before == grant), "a request has one grant");
                known.1 = Some(grant);
            }
            Ok(ClaimAnswer::Lost(_)) => panic!("only a session that is gone loses here"),
            Ok(_) => {}
            Err(Refusal::SessionGone) => self.leave(at),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn complete(&mut self, at: usize) {
        let succeeds = self.draw(8) == 0;
        let client = &mut self.clients[at];
        let Some((number, grant)) = client.claims.iter().find_map(|(number, (_, grant))| Some((*number, (*grant)?)))
        else {
            return;
        };
        let result = if succeeds { Ok("n".into()) } else { Err("e".into()) };
        match self.machine.complete(call(self.now, client, 0), number, grant, result) {
            Ok(ClaimAnswer::Ended(_) | ClaimAnswer::Cancelled { .. }) => drop(client.claims.remove(&number)),
            Err(Refusal::SessionGone) => self.leave(at),
            other => panic!("{other:?}"),
        }
    }

    fn cancel(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Some(number) = client.claims.pop_last().map(|(number, _)| number) else { return };
        if self.machine.cancel(call(self.now, client, 0), number) == Err(Refusal::SessionGone) {
            self.leave(at);
        }
    }

    fn toggle_stream(&mut self, at: usize) {
        let client = &mut self.clients[at];
        match client.stream.take() {
            Some(stream) => self.machine.detach(self.now, stream),
            None => match self.machine.attach(call(self.now, client, 0)) {
                Ok(stream) => client.stream = Some(stream),
                Err(_) => self.leave(at),
            },
        }
    }

    fn renew(&mut self, at: usize) {
        let lists = self.draw(2) == 0;
        let client = &mut self.clients[at];
        let open: Vec<u64> = client.claims.keys().copied().collect();
        let next = lists.then_some(client.next);
        match self.machine.renew(call(self.now, client, 0), next, &open) {
            Ok(renewed) => client.believes_until = client.believes_until.max(self.now + renewed.valid),
            Err(_) => self.leave(at),
        }
    }

    fn lock(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let number = client.next;
        client.next += 1;
        let item = Item { key: resource(0), mode: Mode::Exclusive };
        let ask = Ask::new(vec![item], 0, Wait::Try);
        if self.machine.lock(call(self.now, client, 0), number, ask) == Err(Refusal::SessionGone) {
            self.leave(at);
            return;
        }
        let _ = self.machine.cancel(call(self.now, &self.clients[at], 0), number);
    }

    fn settle(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Some(below) = client.claims.keys().nth(1).copied() else { return };
        client.claims = client.claims.split_off(&below);
        if self.machine.renew(call(self.now, client, below), None, &[]) == Err(Refusal::SessionGone) {
            self.leave(at);
        }
    }

    /// The session is gone: its client believes in nothing by then.
    fn leave(&mut self, at: usize) {
        let client = self.clients.remove(at);
        assert!(self.now >= client.believes_until, "freed while the client believes");
    }

    fn check(&mut self) {
        let page = self.machine.claims(self.now, &LockFilter::default(), None, 100);
        for row in &page.rows {
            if row.owner.is_none() && row.outcome.is_none() {
                assert!(row.waiting.iter().all(|place| place.dormant), "a present waiter and no owner: {row:?}");
            }
            if let Some(owner) = &row.owner {
                self.highest_fence = self.highest_fence.max(owner.owned.grant.fence);
            }
        }
        // What a client learned of and believes in is its own.
        for client in &self.clients {
            for (number, (key, grant)) in &client.claims {
                let Some(grant) = grant.filter(|_| self.now < client.believes_until) else { continue };
                let row = page.rows.iter().find(|row| row.resource == *key);
                let owner = row.and_then(|row| row.owner.as_ref()).expect("a believer owns");
                assert_eq!((owner.request.number, owner.owned.grant.fence), (*number, grant.fence));
            }
        }
        let published = self.machine.take_published();
        assert!(published.iter().all(|key| key.bucket() == b"layers"));
        let _ = (self.machine.take_settled(), self.machine.take_ended(), self.machine.take_claim_notes());
    }
}

fn call(now: Duration, client: &Client, settled_below: u64) -> Call<'static> {
    Call { now, session: client.session, principal: "", settled_below }
}

#[test]
fn random_claims_keep_owners_and_places() {
    for seed in 0..200 {
        let mut world = World::new(seed * 7_919 + 1);
        for _ in 0..400 {
            world.step();
        }
        assert!(world.highest_fence > 5, "seed {seed} does something");
        // Everything ends by itself.
        world.now += TTL + GRACE + seconds(700);
        world.machine.tick(world.now);
        let figures = world.machine.claim_figures();
        assert_eq!((figures.sessions, figures.owned, figures.waiting), (0, 0, 0), "seed {seed}");
    }
}
