//! What a step asks for.

use super::fields::{Fields, Key, Outcome};
use keylatch::{FastObjectLockManager, LockRequest, Mode, Owner, OwnerRef, Session};
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;

/// Who asks.
pub(crate) enum AsksAs {
    Name(String),
    Owner(Owner),
    Session(String),
}

pub(crate) fn asks_as(fields: &mut Fields, locks: &FastObjectLockManager) -> Outcome<AsksAs> {
    match (fields.text("session")?, fields.take("owner")) {
        (Some(_), Some(_)) => Err("there are an owner and a session".into()),
        (Some(session), None) => Ok(AsksAs::Session(session)),
        (None, None) => Ok(AsksAs::Name(String::new())),
        (None, Some(Value::String(name))) => Ok(AsksAs::Name(name)),
        (None, Some(owner)) => {
            let mut owner = Fields::new(&owner)?;
            let name = owner.text("name")?.ok_or("the owner has no name")?;
            let source = owner.text("source")?.ok_or("the owner has no source")?;
            owner.done()?;
            Ok(AsksAs::Owner(locks.owner_with_source(&name, source.leak())))
        }
    }
}

impl AsksAs {
    pub(crate) fn as_owner<'a>(&'a self, sessions: &'a HashMap<String, Session>) -> Outcome<OwnerRef<'a>> {
        Ok(match self {
            Self::Name(name) => name.into(),
            Self::Owner(owner) => (*owner).into(),
            Self::Session(name) => sessions.get(name).ok_or_else(|| format!("no session is named {name}"))?.into(),
        })
    }
}

/// A request, with everything that it borrows.
pub(crate) struct Asked {
    key: Key,
    mode: Mode,
    owner: AsksAs,
    priority: u8,
    timeout: Option<Option<Duration>>,
    ttl: Option<u64>,
    request_id: Option<u64>,
}

impl Asked {
    pub(crate) fn read(fields: &mut Fields, locks: &FastObjectLockManager) -> Outcome<Self> {
        let priority = fields.number("priority")?.unwrap_or(0) as u8;
        let (key, mode, timeout) = (fields.key()?, fields.mode()?, fields.timeout()?);
        let (ttl, request_id) = (fields.number("ttl_ms")?, fields.number("request_id")?);
        Ok(Self { key, mode, owner: asks_as(fields, locks)?, priority, timeout, ttl, request_id })
    }

    pub(crate) fn request<'a>(&'a self, sessions: &'a HashMap<String, Session>) -> Outcome<LockRequest<'a>> {
        let owner = self.owner.as_owner(sessions)?;
        let mut request = LockRequest::new(self.key.borrowed(), self.mode).owner(owner).priority(self.priority);
        if let Some(ttl) = self.ttl {
            request = request.ttl(Duration::from_millis(ttl));
        }
        if let Some(request_id) = self.request_id {
            request = request.request_id(request_id);
        }
        Ok(match self.timeout {
            None => request,
            Some(None) => request.no_timeout(),
            Some(Some(timeout)) => request.timeout(timeout),
        })
    }
}
