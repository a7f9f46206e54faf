//! Steps about what happens to locks: events, holds that are lost, and forked children.

use super::fields::{Fields, Outcome, key};
use super::{PATIENCE, Runner};
use keylatch::{Event, EventOptions, Lost, ObjectKey};
use serde_json::Value;
use std::sync::mpsc;
use std::time::Duration;

impl Runner {
    pub(super) fn subscribe(&mut self, fields: &mut Fields) -> Outcome<()> {
        let wait_above = fields.number("wait_above_ms")?.map(Duration::from_millis);
        self.events = Some(self.locks.subscribe(EventOptions { wait_above, ..EventOptions::default() }));
        Ok(())
    }

    pub(super) fn happened(&self, expected: &Value) -> Outcome<()> {
        let events = self.events.as_ref().ok_or("there is no subscription")?;
        for expected in expected.as_array().ok_or("no events are expected")? {
            let event = events.next(Some(PATIENCE)).ok_or_else(|| format!("{expected} has not happened"))?;
            let mut fields = Fields::new(expected)?;
            let (kind, about, owner) = described(&event);
            if fields.text("kind")?.is_some_and(|expected| expected != kind)
                || fields.text("owner")?.is_some_and(|expected| expected != owner)
            {
                return Err(format!("{expected} was expected, and there is: {event}"));
            }
            if let Some(expected) = fields.take("key")
                && about.is_none_or(|about| key(&expected).is_ok_and(|key| key.borrowed() != about.as_ref()))
            {
                return Err(format!("the key is not {expected}: {event}"));
            }
            fields.done()?;
        }
        events.try_next().map_or(Ok(()), |more| Err(format!("there is more: {more}")))
    }

    pub(super) fn on_lost(&mut self, fields: &mut Fields) -> Outcome<()> {
        let (grant, name) = (self.grant(fields)?, fields.text("as")?.ok_or("there is no as")?);
        let (sender, losses) = mpsc::channel();
        let listen = move |why| {
            let _ = sender.send(why);
        };
        self.locks.on_lost(grant, listen).map_err(|error| error.to_string())?;
        self.losses.insert(name, losses);
        Ok(())
    }

    pub(super) fn lost(&self, fields: &mut Fields, expected: &Value) -> Outcome<()> {
        let name = fields.text("of")?.ok_or("there is no of")?;
        let losses = self.losses.get(&name).ok_or_else(|| format!("nothing listens as {name}"))?;
        let why = match losses.recv_timeout(PATIENCE).map_err(|_| "it is not lost")? {
            Lost::Expired => "expired",
            Lost::Forced => "forced",
            _ => "another way",
        };
        if expected == why { Ok(()) } else { Err(format!("it was lost: {why}")) }
    }

    /// Carries out steps in a forked child.
    pub(super) fn forked(&mut self, fields: &mut Fields) -> Outcome<()> {
        let steps = fields.take("steps");
        let steps = steps.as_ref().and_then(Value::as_array).ok_or("there are no steps")?;
        // SAFETY: the child carries out the steps, which take nothing of the parent's, and exits.
        match unsafe { libc::fork() } {
            -1 => Err(std::io::Error::last_os_error().to_string()),
            0 => {
                let outcome = steps.iter().try_for_each(|step| {
                    self.step(step).inspect_err(|problem| eprintln!("in the child, {step}: {problem}"))
                });
                // SAFETY: it ends this process, and nothing of it is cleaned up.
                unsafe { libc::_exit(i32::from(outcome.is_err())) }
            }
            child => {
                let mut status = 0;
                // SAFETY: the place is ours.
                let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
                if waited == child && status == 0 { Ok(()) } else { Err(format!("the child ended with {status:#x}")) }
            }
        }
    }
}

/// The kind of an event, the key and the owner that it is about.
fn described(event: &Event) -> (&'static str, Option<&ObjectKey>, &str) {
    match event {
        Event::SlowWait { key, owner, .. } => ("slow_wait", Some(key), owner),
        Event::SlowHold { key, owner, .. } => ("slow_hold", Some(key), owner),
        Event::Timeout { key, owner, .. } => ("timeout", Some(key), owner),
        Event::Deadlock { key, cycle, .. } => ("deadlock", Some(key), cycle.first().map_or("", |link| &*link.session)),
        Event::Expired(hold) => ("expired", Some(&hold.key), &*hold.owner),
        Event::Forced(hold) => ("forced", Some(&hold.key), &*hold.owner),
        _ => ("other", None, ""),
    }
}
