//! One scenario, carried out step by step.

mod expected;
mod fields;

use expected::compare;
use fields::{Fields, Key, Outcome, key, mode, settings};
use keylatch::{
    BatchLockRequest, BatchMode, CompletionQueue, FastObjectLockManager, Grant, LockError, LockRequest, Mode,
    OwnedLockGuard, Submitted, Ticket,
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
const PATIENCE: Duration = Duration::from_secs(10);

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
}

/// Carries out a scenario; an error says which step went otherwise and how.
pub(crate) fn run(scenario: &Value, way: Way) -> Outcome<()> {
    let mut fields = Fields::new(scenario)?;
    fields.text("name")?.ok_or("there is no name")?;
    fields.take("needs");
    let (config, expected) = settings(&fields.take("manager").unwrap_or(Value::Null))?;
    let (steps, left) = (fields.take("steps"), fields.take("left"));
    fields.done()?;
    let Some(locks) = compare(&expected, FastObjectLockManager::with_config(config))? else { return Ok(()) };
    let queue = locks.completion_queue().map_err(|error| error.to_string())?;
    let (grants, waiting, owed) = (HashMap::new(), HashMap::new(), HashMap::new());
    let mut runner = Runner { locks, queue, way, grants, waiting, owed, fences: HashMap::new() };
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
                compare(&expected, self.with_guard(grant, |guard| guard.downgrade()))?;
            }
            "try_upgrade" => {
                let grant = self.grant(&mut fields)?;
                compare(&expected, self.with_guard(grant, OwnedLockGuard::try_upgrade).and_then(|upgraded| upgraded))?;
            }
            "upgrade" => {
                let (grant, timeout) = (self.grant(&mut fields)?, fields.timeout()?.flatten());
                let upgraded = self.with_guard(grant, |guard| guard.upgrade_blocking(timeout));
                compare(&expected, upgraded.and_then(|upgraded| upgraded))?;
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
            other => return Err(format!("{other} is no step")),
        }
        fields.done()
    }

    fn grant(&self, fields: &mut Fields) -> Outcome<Grant> {
        let name = fields.text("grant")?.ok_or("there is no grant")?;
        self.grants.get(&name).copied().ok_or_else(|| format!("nothing was granted as {name}"))
    }

    fn with_guard<T>(&self, grant: Grant, act: impl FnOnce(&mut OwnedLockGuard) -> T) -> Result<T, LockError> {
        let mut guard = self.locks.adopt(grant)?.into_owned();
        let done = act(&mut guard);
        let _ = guard.into_grant();
        Ok(done)
    }

    fn acquire(&mut self, fields: &mut Fields, expected: &Value, at_once: bool) -> Outcome<()> {
        let (name, took) = (fields.text("as")?, fields.take("took_ms"));
        let asked = Asked::read(fields)?;
        let began = Instant::now();
        let pending = self.locks.lock(asked.request());
        let came = if at_once { pending.try_now() } else { pending.blocking() };
        let granted = compare(expected, came.map(|guard| guard.into_grant()))?;
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
        let asked = Asked::read(fields)?;
        let (sender, ended) = mpsc::channel();
        let pending = self.locks.lock(asked.request());
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
        let timeout = fields.timeout()?.flatten();
        let before = self.locks.get_metrics().shard_metrics.waiters;
        let (sender, ended) = mpsc::channel();
        let mut guard = self.locks.adopt(grant).map_err(|error| error.to_string())?.into_owned();
        std::thread::spawn(move || {
            let upgraded = guard.upgrade_blocking(timeout);
            let grant = guard.into_grant();
            let _ = sender.send(upgraded.map(|()| grant));
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
        let Some(fence) = compare(expected, self.with_guard(grant, |guard| guard.fence()))? else { return Ok(()) };
        let known = |name: String| self.fences.get(&name).copied().ok_or_else(|| format!("no fence is named {name}"));
        if let Some(than) = greater.map(known).transpose()?
            && fence <= than
        {
            return Err(format!("{fence} is not greater than {than}"));
        }
        if let Some(other) = equal.map(known).transpose()?
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
        let held = self.with_guard(grant, |guard| (guard.mode(), guard.key())).map_err(|error| error.to_string())?;
        if let Some(name) = fields.text("mode")?
            && mode(&name)? != held.0
        {
            return Err(format!("it is held {}", held.0));
        }
        if let Some(expected) = fields.take("key")
            && key(&expected)?.borrowed() != held.1.as_ref()
        {
            return Err(format!("it holds {}", held.1));
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
        let owner = fields.text("owner")?.unwrap_or_default();
        let mut batch = BatchLockRequest::new(&owner);
        for (key, mode) in &keys {
            batch = batch.add(key.borrowed(), *mode);
        }
        if let Some(timeout) = fields.timeout()? {
            batch = batch.timeout(timeout.unwrap_or(Duration::MAX));
        }
        if let Some(priority) = fields.number("priority")? {
            batch = batch.priority(priority as u8);
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

/// What a step asks for, with everything that its request borrows.
struct Asked {
    key: Key,
    mode: Mode,
    owner: String,
    priority: u8,
    timeout: Option<Option<Duration>>,
}

impl Asked {
    fn read(fields: &mut Fields) -> Outcome<Self> {
        let priority = fields.number("priority")?.unwrap_or(0) as u8;
        let (key, mode, timeout) = (fields.key()?, fields.mode()?, fields.timeout()?);
        Ok(Self { key, mode, owner: fields.text("owner")?.unwrap_or_default(), priority, timeout })
    }

    fn request(&self) -> LockRequest<'_> {
        let request = LockRequest::new(self.key.borrowed(), self.mode).owner(&self.owner).priority(self.priority);
        match self.timeout {
            None => request,
            Some(None) => request.no_timeout(),
            Some(Some(timeout)) => request.timeout(timeout),
        }
    }
}

/// Whether a figure is in `[least, most]`.
fn in_range(bounds: &Value, figure: u64) -> Outcome<()> {
    match (bounds[0].as_u64(), bounds[1].as_u64()) {
        (Some(least), Some(most)) if (least..=most).contains(&figure) => Ok(()),
        _ => Err(format!("{figure} is not in {bounds}")),
    }
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
