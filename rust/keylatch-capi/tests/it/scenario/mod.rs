//! One scenario, carried out step by step.

mod asked;
mod expected;
mod fields;
mod happened;
mod listed;

use asked::{Asked, asks_as};
use expected::compare;
use fields::{Fields, Key, Outcome, key, mode, settings};
use keylatch::{
    BatchLockRequest, BatchMode, CompletionQueue, Events, FastObjectLockManager, Grant, LockConfig, LockError, Lost,
    Mode, OwnedLockGuard, Session, Submitted, Ticket,
};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How requests wait in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Queue,
    Callback,
}

/// How long the runner waits for what has to happen.
const PATIENCE: Duration = Duration::from_secs(60);

type Ended = Result<Grant, LockError>;

/// A request that waits in the background.
struct Waiting {
    ticket: Option<Ticket>,
    ended: mpsc::Receiver<Ended>,
}

struct Runner {
    locks: FastObjectLockManager,
    queue: CompletionQueue,
    way: Way,
    grants: HashMap<String, Grant>,
    waiting: HashMap<String, Waiting>,
    /// Where results from the queue go, by token.
    owed: HashMap<u64, mpsc::Sender<Ended>>,
    fences: HashMap<String, u64>,
    sessions: HashMap<String, Session>,
    events: Option<Events>,
    losses: HashMap<String, mpsc::Receiver<Lost>>,
}

/// Carries out a scenario with a manager that is made so.
///
/// An error says which step went otherwise and how.
pub(crate) fn run(
    scenario: &Value,
    way: Way,
    make: impl FnOnce(LockConfig) -> Result<FastObjectLockManager, LockError>,
) -> Outcome<()> {
    let mut fields = Fields::new(scenario)?;
    fields.text("name")?.ok_or("there is no name")?;
    fields.take("needs");
    let (config, expected) = settings(&fields.take("manager").unwrap_or(Value::Null))?;
    let (steps, left) = (fields.take("steps"), fields.take("left"));
    fields.done()?;
    let Some(locks) = compare(&expected, make(config))? else { return Ok(()) };
    let queue = locks.completion_queue().map_err(|error| error.to_string())?;
    let (grants, waiting, owed) = (HashMap::new(), HashMap::new(), HashMap::new());
    let (fences, sessions, losses) = (HashMap::new(), HashMap::new(), HashMap::new());
    let mut runner = Runner { locks, queue, way, grants, waiting, owed, fences, sessions, events: None, losses };
    for (number, step) in steps.as_ref().and_then(Value::as_array).ok_or("there are no steps")?.iter().enumerate() {
        runner.step(step).map_err(|problem| format!("step {} {step}: {problem}", number + 1))?;
    }
    let figures = runner.locks.get_metrics().shard_metrics;
    let left = left.unwrap_or(Value::Null);
    for (name, figure) in [("holders", figures.holders), ("waiters", figures.waiters)] {
        if left[name].as_u64().unwrap_or(0) != figure {
            return Err(format!("{figure} {name} are left"));
        }
    }
    for grant in runner.grants.into_values() {
        let _ = runner.locks.release(grant);
    }
    Ok(())
}

impl Runner {
    fn step(&mut self, step: &Value) -> Outcome<()> {
        let mut fields = Fields::new(step)?;
        let verb = fields.text("do")?.ok_or("there is no do")?;
        let expected = fields.take("expect").unwrap_or_else(|| "ok".into());
        match verb.as_str() {
            "try" | "acquire" => self.acquire(&mut fields, &expected, verb == "try")?,
            "start" => self.start(&mut fields, &expected)?,
            "finish" => self.finish(&mut fields, &expected)?,
            "waits" => self.waits(&mut fields)?,
            "cancel" => self.cancel(&mut fields, &expected)?,
            "release" => {
                let grant = self.grant(&mut fields)?;
                compare(&expected, self.locks.release(grant))?;
            }
            "downgrade" => {
                let grant = self.grant(&mut fields)?;
                compare(&expected, self.locks.downgrade(grant))?;
            }
            "try_upgrade" => {
                let grant = self.grant(&mut fields)?;
                compare(&expected, self.locks.try_upgrade(grant))?;
            }
            "upgrade" => {
                let (grant, timeout) = (self.grant(&mut fields)?, self.timeout(&mut fields)?);
                compare(&expected, self.locks.upgrade_blocking(grant, timeout))?;
            }
            "start_upgrade" => self.start_upgrade(&mut fields)?,
            "fence" => self.fence(&mut fields, &expected)?,
            "holds" => self.holds(&mut fields)?,
            "batch" => self.batch(&mut fields, &expected)?,
            "fill" => self.fill(&mut fields, &expected)?,
            "metrics" => self.metrics(&expected)?,
            "health" => {
                let health = self.locks.health();
                if expected != health.healthy {
                    return Err(format!("{health:?}"));
                }
            }
            "openmetrics" => self.openmetrics(&mut fields)?,
            "sleep" => {
                let time = fields.number("ms")?;
                std::thread::sleep(Duration::from_millis(fields.needed("ms", time)?));
            }
            "close" => self.locks.close(),
            "renew" => {
                let (grant, ttl) = (self.grant(&mut fields)?, fields.number("ttl_ms")?);
                let ttl = Duration::from_millis(fields.needed("ttl_ms", ttl)?);
                compare(&expected, self.locks.renew(grant, ttl))?;
            }
            "remaining" => self.remaining(&mut fields, &expected)?,
            "is_valid" => {
                let grant = self.grant(&mut fields)?;
                same(&expected, self.locks.is_valid(grant))?;
            }
            "is_current" => {
                let (key, fence) =
                    (fields.key()?, self.known_fence(fields.text("fence")?.ok_or("there is no fence")?)?);
                let current = self.locks.is_current(key.borrowed(), fence).map_err(|error| error.to_string())?;
                same(&expected, current)?;
            }
            "session" => {
                let (name, called) = (fields.text("as")?, fields.text("name")?.ok_or("there is no name")?);
                let source = fields.text("source")?.unwrap_or_default();
                let session = self.locks.session_with_source(&called, source.leak());
                self.sessions.insert(name.ok_or("there is no as")?, session);
            }
            "release_all" => {
                let released = self.session(&mut fields)?.release_all();
                same(&expected, released)?;
            }
            "end_session" => {
                let name = fields.text("session")?.ok_or("there is no session")?;
                self.sessions.remove(&name).ok_or_else(|| format!("no session is named {name}"))?;
            }
            "same_grant" => {
                let grant = self.grant(&mut fields)?;
                let other = fields.text("as_grant")?.ok_or("there is no as_grant")?;
                if self.grants.get(&other) != Some(&grant) {
                    return Err("they are not the same".into());
                }
            }
            "holders" | "waiters" | "force_release" | "expire" | "blocking_chain" | "top" => {
                listed::step(&self.locks, &self.fences, &verb, &mut fields, &expected)?;
            }
            "subscribe" => self.subscribe(&mut fields)?,
            "events" => self.happened(&expected)?,
            "on_lost" => self.on_lost(&mut fields)?,
            "lost" => self.lost(&mut fields, &expected)?,
            "forked" => self.forked(&mut fields)?,
            other => return Err(format!("{other} is no step")),
        }
        fields.done()
    }

    fn grant(&self, fields: &mut Fields) -> Outcome<Grant> {
        let name = fields.text("grant")?.ok_or("there is no grant")?;
        self.grants.get(&name).copied().ok_or_else(|| format!("nothing was granted as {name}"))
    }

    fn session(&self, fields: &mut Fields) -> Outcome<&Session> {
        let name = fields.text("session")?.ok_or("there is no session")?;
        self.sessions.get(&name).ok_or_else(|| format!("no session is named {name}"))
    }

    fn known_fence(&self, name: String) -> Outcome<u64> {
        self.fences.get(&name).copied().ok_or_else(|| format!("no fence is named {name}"))
    }

    /// How long an upgrade waits.
    fn timeout(&self, fields: &mut Fields) -> Outcome<Option<Duration>> {
        Ok(fields.timeout()?.unwrap_or(self.locks.config().default_timeout))
    }

    fn remaining(&self, fields: &mut Fields, expected: &Value) -> Outcome<()> {
        let remaining = self.locks.remaining(self.grant(fields)?);
        if expected.is_object() {
            return compare(expected, remaining).map(drop);
        }
        match remaining.map_err(|error| error.to_string())? {
            None if expected.is_null() => Ok(()),
            Some(left) if expected.is_array() => in_range(expected, left.as_millis() as u64),
            other => Err(format!("{other:?} remains")),
        }
    }

    fn acquire(&mut self, fields: &mut Fields, expected: &Value, now: bool) -> Outcome<()> {
        let (name, took) = (fields.text("as")?, fields.take("took_ms"));
        let asked = Asked::read(fields, &self.locks)?;
        let request = asked.request(&self.sessions)?;
        let began = Instant::now();
        let pending = self.locks.lock(request);
        let granted = compare(expected, if now { pending.grant_now() } else { pending.grant_blocking() })?;
        if let Some(took) = took {
            in_range(&took, began.elapsed().as_millis() as u64)?;
        }
        if let (Some(name), Some(grant)) = (name, granted) {
            self.grants.insert(name, grant);
        }
        Ok(())
    }

    fn start(&mut self, fields: &mut Fields, expected: &Value) -> Outcome<()> {
        let name = fields.text("as")?;
        let asked = Asked::read(fields, &self.locks)?;
        let (sender, ended) = mpsc::channel();
        let pending = self.locks.lock(asked.request(&self.sessions)?);
        let submitted = match self.way {
            Way::Queue => {
                let token = self.owed.len() as u64;
                self.owed.insert(token, sender);
                pending.with_queue(&self.queue, token)
            }
            Way::Callback => pending.with_callback(move |result| {
                let _ = sender.send(result.map(OwnedLockGuard::into_grant));
            }),
        };
        match (submitted, expected.as_str()) {
            (Ok(Submitted::Granted(guard)), Some("granted")) => {
                self.grants.insert(name.ok_or("there is no as")?, guard.into_grant());
            }
            (Ok(Submitted::Waiting(ticket)), Some("ok")) => {
                self.waiting.insert(name.ok_or("there is no as")?, Waiting { ticket: Some(ticket), ended });
            }
            (Err(error), _) => {
                compare::<()>(expected, Err(error))?;
            }
            (Ok(other), _) => return Err(format!("it came to {other:?}")),
        }
        Ok(())
    }

    fn start_upgrade(&mut self, fields: &mut Fields) -> Outcome<()> {
        let (name, grant) = (fields.text("as")?, self.grant(fields)?);
        let timeout = self.timeout(fields)?;
        let before = self.locks.get_metrics().shard_metrics.waiters;
        let (sender, ended) = mpsc::channel();
        let locks = self.locks.clone();
        std::thread::spawn(move || {
            let _ = sender.send(locks.upgrade_blocking(grant, timeout).map(|()| grant));
        });
        self.waiting.insert(name.ok_or("there is no as")?, Waiting { ticket: None, ended });
        until(|| self.locks.get_metrics().shard_metrics.waiters > before)
    }

    /// Hands results from the queue to those who wait for them.
    fn sort_mail(&mut self) {
        while let Some(completion) = self.queue.try_next() {
            if let Some(sender) = self.owed.get(&completion.token) {
                let _ = sender.send(completion.result.map(OwnedLockGuard::into_grant));
            }
        }
    }

    fn ended(&mut self, name: &str, patience: Duration) -> Outcome<Option<Ended>> {
        let began = Instant::now();
        loop {
            self.sort_mail();
            let waiting = self.waiting.get(name).ok_or_else(|| format!("nothing waits as {name}"))?;
            match waiting.ended.recv_timeout(Duration::from_millis(1)) {
                Ok(ended) => return Ok(Some(ended)),
                Err(_) if began.elapsed() < patience => {}
                Err(_) => return Ok(None),
            }
        }
    }

    fn finish(&mut self, fields: &mut Fields, expected: &Value) -> Outcome<()> {
        let name = fields.text("wait")?.ok_or("there is no wait")?;
        let ended = self.ended(&name, PATIENCE)?.ok_or("it has not ended")?;
        if let Some(grant) = compare(expected, ended)? {
            self.grants.insert(name, grant);
        }
        Ok(())
    }

    fn waits(&mut self, fields: &mut Fields) -> Outcome<()> {
        let name = fields.text("wait")?.ok_or("there is no wait")?;
        match self.ended(&name, Duration::from_millis(20))? {
            None => Ok(()),
            Some(ended) => Err(format!("it has ended: {ended:?}")),
        }
    }

    fn cancel(&mut self, fields: &mut Fields, expected: &Value) -> Outcome<()> {
        let name = fields.text("wait")?.ok_or("there is no wait")?;
        let waiting = self.waiting.get(&name).ok_or_else(|| format!("nothing waits as {name}"))?;
        let cancelled = self.locks.cancel(waiting.ticket.ok_or("it cannot be cancelled")?);
        if *expected == cancelled { Ok(()) } else { Err(format!("it came to {cancelled}")) }
    }

    fn fence(&mut self, fields: &mut Fields, expected: &Value) -> Outcome<()> {
        let (grant, name) = (self.grant(fields)?, fields.text("as")?);
        let (greater, equal) = (fields.text("greater_than")?, fields.text("equal_to")?);
        let Some(fence) = compare(expected, self.locks.fence(grant))? else { return Ok(()) };
        if let Some(than) = greater.map(|name| self.known_fence(name)).transpose()?
            && fence <= than
        {
            return Err(format!("{fence} is not greater than {than}"));
        }
        if let Some(other) = equal.map(|name| self.known_fence(name)).transpose()?
            && fence != other
        {
            return Err(format!("{fence} is not {other}"));
        }
        if let Some(name) = name {
            self.fences.insert(name, fence);
        }
        Ok(())
    }

    fn holds(&self, fields: &mut Fields) -> Outcome<()> {
        let grant = self.grant(fields)?;
        let (held, held_mode) = self.locks.key_and_mode(grant).map_err(|error| error.to_string())?;
        if let Some(name) = fields.text("mode")?
            && mode(&name)? != held_mode
        {
            return Err(format!("it is held {held_mode}"));
        }
        if let Some(expected) = fields.take("key")
            && key(&expected)?.borrowed() != held.as_ref()
        {
            return Err(format!("it holds {held}"));
        }
        Ok(())
    }

    fn batch(&mut self, fields: &mut Fields, expected: &Value) -> Outcome<()> {
        let (names, wanted) = (fields.take("as"), fields.take("keys"));
        let mut keys: Vec<(Key, Mode)> = Vec::new();
        for item in wanted.as_ref().and_then(Value::as_array).ok_or("there are no keys")? {
            let mut item = Fields::new(item)?;
            keys.push((item.key()?, item.mode()?));
            item.done()?;
        }
        let owner = asks_as(fields, &self.locks)?;
        let mut batch = BatchLockRequest::new(owner.as_owner(&self.sessions)?);
        for (key, mode) in &keys {
            batch = batch.add(key.borrowed(), *mode);
        }
        if let Some(timeout) = fields.timeout()? {
            batch = batch.timeout(timeout.unwrap_or(Duration::MAX));
        }
        if let Some(priority) = fields.number("priority")? {
            batch = batch.priority(priority as u8);
        }
        if let Some(ttl) = fields.number("ttl_ms")? {
            batch = batch.ttl(Duration::from_millis(ttl));
        }
        if fields.take("best_effort") == Some(Value::Bool(true)) {
            batch = batch.mode(BatchMode::BestEffort);
        }
        let missing = expected["missing"].as_array().cloned();
        let ok = Value::from("ok");
        let came = self.locks.acquire_locks_batch_blocking(batch);
        let Some(held) = compare(if missing.is_some() { &ok } else { expected }, came)? else { return Ok(()) };
        let missed: Vec<_> = held.missing().iter().map(|(key, _)| key.clone()).collect();
        let expected_missing = missing.unwrap_or_default().iter().map(key).collect::<Outcome<Vec<_>>>()?;
        if expected_missing.len() != missed.len()
            || !expected_missing.iter().all(|expected| missed.iter().any(|key| key.as_ref() == expected.borrowed()))
        {
            return Err(format!("{missed:?} are missing"));
        }
        let names: Vec<_> = names.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
        if names.len() != keys.len() {
            return Err("as names not every key".into());
        }
        for guard in held.into_guards() {
            let held_key = guard.key();
            let position = keys.iter().position(|(key, _)| key.borrowed() == held_key.as_ref());
            let name = &names[position.ok_or_else(|| format!("{held_key} was not asked for"))?];
            self.grants.insert(name.as_str().ok_or("a name is not a text")?.to_owned(), guard.into_grant());
        }
        Ok(())
    }

    fn fill(&self, fields: &mut Fields, expected: &Value) -> Outcome<()> {
        let (bucket, count) = (fields.text("bucket")?.ok_or("there is no bucket")?, fields.take("count"));
        let mut held = Vec::new();
        let error = loop {
            match self.locks.try_acquire_write_lock(&bucket, &held.len().to_string(), "") {
                Ok(guard) => held.push(guard),
                Err(error) => break error,
            }
        };
        compare::<()>(expected, Err(error))?;
        in_range(&count.ok_or("there is no count")?, held.len() as u64)
    }

    fn metrics(&self, expected: &Value) -> Outcome<()> {
        let figures = self.locks.get_metrics().shard_metrics;
        for (name, expected) in expected.as_object().ok_or("no figures are expected")? {
            let figure = match name.as_str() {
                "holders" => figures.holders,
                "waiters" => figures.waiters,
                "acquisitions" => figures.acquisitions(),
                "releases" => figures.releases,
                "waits" => figures.waits,
                "timeouts" => figures.timeouts,
                "cancelled" => figures.cancelled,
                "refused" => figures.refused,
                other => return Err(format!("{other} is no figure")),
            };
            if *expected != figure {
                return Err(format!("{name} is {figure}"));
            }
        }
        Ok(())
    }

    fn openmetrics(&self, fields: &mut Fields) -> Outcome<()> {
        let text = self.locks.get_metrics().to_openmetrics();
        if !text.ends_with("\n# EOF\n") {
            return Err("it does not end with # EOF".into());
        }
        for line in fields.take("contains").as_ref().and_then(Value::as_array).into_iter().flatten() {
            let line = line.as_str().ok_or("a line is not a text")?;
            if !text.lines().any(|found| found == line) {
                return Err(format!("there is no line {line:?} in:\n{text}"));
            }
        }
        Ok(())
    }
}

/// Whether a figure is in `[least, most]`.
fn in_range(bounds: &Value, figure: u64) -> Outcome<()> {
    match (bounds[0].as_u64(), bounds[1].as_u64()) {
        (Some(least), Some(most)) if (least..=most).contains(&figure) => Ok(()),
        _ => Err(format!("{figure} is not in {bounds}")),
    }
}

/// Whether it is what was expected: a number, or true or false.
fn same<T: std::fmt::Display>(expected: &Value, came: T) -> Outcome<()>
where
    Value: PartialEq<T>,
{
    if *expected == came { Ok(()) } else { Err(format!("it came to {came}")) }
}

fn until(mut done: impl FnMut() -> bool) -> Outcome<()> {
    let began = Instant::now();
    while !done() {
        if began.elapsed() > PATIENCE {
            return Err("it did not come to wait".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
