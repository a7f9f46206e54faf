//! What the rows of `bench` are made with: a caller with a session, and the sum of its times.

use crate::client::{ClientError, Http};
use crate::server::wire::{
    EndBody, HealthBody, ItemBody, LockBody, ModeWord, OpenBody, OpenedBody, RenewBody, RenewedBody, RequestBody,
};
use serde::Serialize;
use std::time::{Duration, Instant};

/// A row: times in microseconds.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) calls: usize,
}

pub(super) fn row(what: &'static str, mut times: Vec<Duration>, elapsed: Duration) -> Row {
    times.sort_unstable();
    let at = |share: f64| {
        let position = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
        times.get(position).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    Row {
        what,
        per_second: times.len() as f64 / elapsed.as_secs_f64(),
        p50_us: at(0.5),
        p99_us: at(0.99),
        calls: times.len(),
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Work {
    /// `GET /healthz`.
    Empty,
    /// The lock call of a pair.
    Lock,
    /// Lock and unlock.
    Pair,
}

/// A caller with a session of its own.
pub(super) struct Caller {
    pub(super) http: Http,
    pub(super) session: String,
    pub(super) number: u64,
}

impl Caller {
    pub(super) async fn open(http: Http) -> Result<Self, ClientError> {
        let body = OpenBody { owner: "keylatch bench".into(), ttl_ms: 60_000, attach: false };
        let opened: OpenedBody = http.post("/v1/sessions", &body).await?;
        Ok(Self { http, session: opened.session, number: 0 })
    }

    /// Counts a request. What came before has settled.
    pub(super) fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    pub(super) async fn lock(&mut self, object: &str, wait_ms: u64) -> Result<RequestBody, ClientError> {
        let number = self.next_number();
        self.lock_as(number, object, wait_ms).await
    }

    /// Asks under a number that may have been used for the same question before.
    pub(super) async fn lock_as(
        &mut self,
        number: u64,
        object: &str,
        wait_ms: u64,
    ) -> Result<RequestBody, ClientError> {
        let item = ItemBody {
            bucket: "keylatch-bench".into(),
            object: object.into(),
            version: None,
            mode: ModeWord::Exclusive,
        };
        let body = LockBody {
            session: Some(self.session.clone()),
            request_id: number,
            items: vec![item],
            wait_ms,
            client_timeout_ms: None,
            priority: 0,
            owner: None,
            ttl_ms: None,
            settled_below: number,
        };
        self.http.post("/v1/lock", &body).await
    }

    pub(super) async fn unlock(&self) -> Result<RequestBody, ClientError> {
        let body =
            EndBody { session: self.session.clone(), request_id: self.number, grant: None, settled_below: self.number };
        self.http.post("/v1/unlock", &body).await
    }

    pub(super) async fn renew(&self) -> Result<RenewedBody, ClientError> {
        self.http.post("/v1/renew", &RenewBody { session: Some(self.session.clone()), ..RenewBody::default() }).await
    }

    /// Requests that wait at the server.
    pub(super) async fn waiters(&self) -> Result<usize, ClientError> {
        Ok(self.http.get::<HealthBody>("/healthz").await?.waiters)
    }

    pub(super) async fn end(&self) -> Result<(), ClientError> {
        self.http.end_session(&self.session).await
    }

    /// Does the work once. Returns how long the part that counts took.
    pub(super) async fn work(&mut self, work: Work, object: &str) -> Result<Duration, ClientError> {
        let begun = Instant::now();
        if work == Work::Empty {
            self.http.get::<HealthBody>("/healthz").await?;
            return Ok(begun.elapsed());
        }
        self.lock(object, 0).await?;
        let locked = begun.elapsed();
        self.unlock().await?;
        Ok(if work == Work::Lock { locked } else { begun.elapsed() })
    }
}
