//! Reads fields of a scenario, and makes sure that none is left unread.

use keylatch::{Fairness, Filter, KeyRef, LockConfig, Mode, Reentrancy, Victim};
use serde_json::{Map, Value};
use std::time::Duration;

/// The fields of a step that have not been read yet.
pub(crate) struct Fields(Map<String, Value>);

pub(crate) type Outcome<T> = Result<T, String>;

impl Fields {
    pub(crate) fn new(value: &Value) -> Outcome<Self> {
        value.as_object().cloned().map(Self).ok_or_else(|| format!("{value} is not an object"))
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    pub(crate) fn text(&mut self, name: &str) -> Outcome<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(format!("{name} is {other}, not a text")),
        }
    }

    pub(crate) fn number(&mut self, name: &str) -> Outcome<Option<u64>> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| format!("{name} is {value}, not a number")),
        }
    }

    pub(crate) fn needed<T>(&self, name: &str, value: Option<T>) -> Outcome<T> {
        value.ok_or_else(|| format!("there is no {name}"))
    }

    pub(crate) fn key(&mut self) -> Outcome<Key> {
        let value = self.take("key");
        key(&self.needed("key", value)?)
    }

    pub(crate) fn mode(&mut self) -> Outcome<Mode> {
        let name = self.text("mode")?;
        mode(&self.needed("mode", name)?)
    }

    /// `Some(None)` is for as long as it takes, `None` is the default.
    pub(crate) fn timeout(&mut self) -> Outcome<Option<Option<Duration>>> {
        match self.take("timeout_ms") {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(value) => {
                let timeout = value.as_u64().ok_or_else(|| format!("timeout_ms is {value}"))?;
                Ok(Some(Some(Duration::from_millis(timeout))))
            }
        }
    }

    /// Fails if a field was not understood.
    pub(crate) fn done(self) -> Outcome<()> {
        if self.0.is_empty() { Ok(()) } else { Err(format!("not understood: {}", Value::Object(self.0))) }
    }
}

/// A key with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(Vec<Vec<u8>>);

impl Key {
    pub(crate) fn borrowed(&self) -> KeyRef<'_> {
        let key = KeyRef::new(&self.0[0], &self.0[1]);
        self.0.get(2).map_or(key, |version| key.with_version(version))
    }
}

pub(crate) fn key(value: &Value) -> Outcome<Key> {
    let parts = value.as_array().ok_or_else(|| format!("{value} is not a key"))?;
    if !(2..=3).contains(&parts.len()) {
        return Err(format!("{value} has not two or three parts"));
    }
    parts.iter().map(part).collect::<Outcome<_>>().map(Key)
}

fn part(value: &Value) -> Outcome<Vec<u8>> {
    if let Some(text) = value.as_str() {
        return Ok(text.as_bytes().to_vec());
    }
    let mut fields = Fields::new(value)?;
    let bytes = if let Some(hex) = fields.text("hex")? {
        let digits: Vec<_> = hex.chars().collect();
        let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
        digits.chunks(2).map(byte).collect::<Result<_, _>>().map_err(|error| format!("{hex}: {error}"))?
    } else {
        let (unit, times) = (fields.text("repeat")?, fields.number("times")?);
        fields.needed("repeat", unit)?.repeat(fields.needed("times", times)? as usize).into_bytes()
    };
    fields.done()?;
    Ok(bytes)
}

pub(crate) fn mode(name: &str) -> Outcome<Mode> {
    match name {
        "shared" => Ok(Mode::Shared),
        "exclusive" => Ok(Mode::Exclusive),
        other => Err(format!("{other} is no mode")),
    }
}

/// The settings, and what making a manager with them comes to.
pub(crate) fn settings(value: &Value) -> Outcome<(LockConfig, Value)> {
    let mut config = LockConfig::default();
    let mut fields = if value.is_null() { Fields(Map::new()) } else { Fields::new(value)? };
    let expected = fields.take("expect").unwrap_or_else(|| "ok".into());
    let after = fields.number("fairness_after_us")?.map(Duration::from_micros);
    if let Some(name) = fields.text("fairness")? {
        config.fairness = match name.as_str() {
            "eventual" => after.map_or_else(Fairness::default, |after| Fairness::Eventual { after }),
            "fifo" => Fairness::Fifo,
            "writer_first" => Fairness::WriterFirst,
            "reader_first" => Fairness::ReaderFirst,
            other => return Err(format!("{other} is no fairness")),
        };
    }
    config.default_timeout = fields.number("default_timeout_ms")?.map(Duration::from_millis);
    for (name, setting) in [
        ("shards", &mut config.shards),
        ("max_locks", &mut config.max_locks),
        ("max_waiters", &mut config.max_waiters),
        ("overtake_limit", &mut config.overtake_limit),
    ] {
        if let Some(number) = fields.number(name)? {
            *setting = u32::try_from(number).map_err(|error| format!("{name}: {error}"))?;
        }
    }
    if let Some(bytes) = fields.number("max_key_bytes")? {
        config.max_key_bytes = bytes as usize;
    }
    if let Some(name) = fields.text("reentrancy")? {
        config.reentrancy = match name.as_str() {
            "deny" => Reentrancy::Deny,
            "count" => Reentrancy::Count,
            other => return Err(format!("{other} is no reentrancy")),
        };
    }
    if let Some(name) = fields.text("victim")? {
        config.victim = match name.as_str() {
            "asker" => Victim::Asker,
            "youngest" => Victim::Youngest,
            "lowest_priority" => Victim::LowestPriority,
            other => return Err(format!("{other} is no victim")),
        };
    }
    match fields.take("deadlock_delay_ms") {
        None => {}
        Some(Value::Null) => config.deadlock_delay = None,
        Some(value) => {
            let delay = value.as_u64().ok_or_else(|| format!("deadlock_delay_ms is {value}"))?;
            config.deadlock_delay = Some(Duration::from_millis(delay));
        }
    }
    if let Some(delay) = fields.number("lock_delay_ms")? {
        config.lock_delay = Duration::from_millis(delay);
    }
    fields.done()?;
    Ok((config, expected))
}

/// Which holds or waits are meant; all of them when nothing is said.
pub(crate) fn filter(value: Option<Value>) -> Outcome<Filter> {
    let Some(value) = value else { return Ok(Filter::new()) };
    let mut fields = Fields::new(&value)?;
    let mut filter = Filter::new();
    if let Some(bucket) = fields.take("bucket") {
        filter = filter.bucket(part(&bucket)?);
    }
    if let Some(wanted) = fields.take("key") {
        filter = filter.key(key(&wanted)?.borrowed());
    }
    if let Some(prefix) = fields.take("prefix") {
        filter = filter.prefix(part(&prefix)?);
    }
    if let Some(owner) = fields.text("owner")? {
        filter = filter.owner(owner);
    }
    if let Some(session) = fields.text("session")? {
        filter = filter.session(session);
    }
    if let Some(source) = fields.text("source")? {
        filter = filter.source(source);
    }
    if let Some(name) = fields.text("mode")? {
        filter = filter.mode(mode(&name)?);
    }
    if let Some(age) = fields.number("older_than_ms")? {
        filter = filter.older_than(Duration::from_millis(age));
    }
    if fields.take("all").is_some() {
        filter = Filter::all();
    }
    fields.done()?;
    Ok(filter)
}
