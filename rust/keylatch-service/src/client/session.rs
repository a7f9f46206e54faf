//! A session: one lease for any number of locks, renewed and reconnected in the background.

use super::belief::{Belief, Fate};
use super::clock::{boottime, sleep_until};
use super::http::Http;
use super::target::ClientError;
use crate::server::claim_wire::ClaimedBody;
use crate::server::wire::{EndBody, ItemBody, LockBody, OpenBody, OpenedBody, RenewBody, RenewedBody, RequestBody};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A call that waits for a lock says so for this long at a time.
pub(super) const POLL: Duration = Duration::from_secs(20);
/// The client gives up a call after this.
pub(super) const CALL_TIME: Duration = Duration::from_secs(30);
/// The first and the longest pause between attempts to reach a server.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Renewals are this far apart, unless the lease is shorter than three of it.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// What a session is opened with.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// A label for listings, events and errors.
    pub owner: String,
    /// The lease: how long the server keeps the locks of a silent client.
    ///
    /// That is a client that it hears nothing of, though the stream stands.
    pub ttl: Duration,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { owner: String::new(), ttl: Duration::from_secs(30) }
    }
}

/// A session on a server. Dropping it ends it.
#[derive(Debug)]
pub struct Session {
    pub(super) inner: Arc<Inner>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug)]
pub(super) struct Inner {
    http: Http,
    pub(super) name: String,
    pub(super) belief: Belief,
    /// The lease that it was opened with.
    ttl: Duration,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The keys; all are granted in one step.
    pub items: Vec<ItemBody>,
    /// For how long to wait; `None` for as long as it takes, zero to try.
    pub wait: Option<Duration>,
    /// Higher ones stand ahead.
    pub priority: u8,
}

impl Session {
    /// Opens a session and attaches its stream.
    ///
    /// # Errors
    /// What the server refuses, or that there is none.
    pub async fn open(http: Http, options: SessionOptions) -> Result<Self, ClientError> {
        let sent = boottime();
        let body = OpenBody { owner: options.owner, ttl_ms: options.ttl.as_millis() as u64, attach: true };
        let opened: OpenedBody = http.post("/v1/sessions", &body).await?;
        let valid = Duration::from_millis(opened.valid_ms);
        let inner = Arc::new(Inner { belief: Belief::new(sent + valid), ttl: options.ttl, name: opened.session, http });
        let (attached, is_attached) = watch::channel(false);
        let tasks = [
            tokio::spawn(Arc::clone(&inner).keep_attached(attached)),
            tokio::spawn(Arc::clone(&inner).keep_renewed(valid)),
        ];
        let session = Self { inner, tasks };
        // Before that the server grants nothing to it.
        let mut is_attached = is_attached;
        let until = *session.inner.belief.follow().borrow();
        tokio::select! {
            _ = is_attached.wait_for(|attached| *attached) => {}
            () = sleep_until(until) => return Err(ClientError::Io("the session's stream could not be attached".into())),
        }
        if session.inner.belief.is_over() { Err(ClientError::Lost) } else { Ok(session) }
    }

    /// Returns its name on the server.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Follows until when its locks are safe, by the clock of [`Guard::safe_for`].
    pub(crate) fn follow_belief(&self) -> watch::Receiver<Duration> {
        self.inner.belief.follow()
    }

    /// Waits for locks. Dropping the future gives up the place.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] when the time is over, [`ClientError::Lost`] when the session has ended, or what the
    /// server refuses. Nothing is held then.
    pub async fn lock(&self, wanted: Wanted) -> Result<Guard, ClientError> {
        let number = self.inner.belief.take_number();
        let request = OpenRequest { inner: Arc::clone(&self.inner), number: Some(number) };
        let granted = self.ask(number, &wanted).await?;
        self.await_belief().await?;
        let fate = self.inner.belief.hold(number);
        let wrong = || ClientError::Answer("a grant without a fence".into());
        let grant = granted.grant.ok_or_else(wrong)?;
        Ok(Guard { fence: granted.fence.ok_or_else(wrong)?, grant, fate, request })
    }

    /// Returns when the belief covers a grant, which is of no use without it.
    ///
    /// A renewal is on its way.
    pub(super) async fn await_belief(&self) -> Result<(), ClientError> {
        let mut until = self.inner.belief.follow();
        while !self.inner.belief.is_safe() {
            self.inner.belief.nudge.notify_one();
            tokio::select! {
                _ = until.changed() => {}
                () = self.inner.belief.ended() => return Err(ClientError::Lost),
            }
        }
        Ok(())
    }

    async fn ask(&self, number: u64, wanted: &Wanted) -> Result<RequestBody, ClientError> {
        let deadline = wanted.wait.map(|wait| boottime() + wait);
        let is_try = wanted.wait == Some(Duration::ZERO);
        let mut pause = Pause::default();
        loop {
            let left = deadline.map_or(POLL, |deadline| deadline.saturating_sub(boottime()).min(POLL));
            let body = LockBody {
                session: Some(self.inner.name.clone()),
                request_id: number,
                items: wanted.items.clone(),
                // A number that waits is not to be refused because the time is nearly over.
                wait_ms: if is_try { 0 } else { (left.as_millis() as u64).max(1) },
                client_timeout_ms: Some(CALL_TIME.as_millis() as u64),
                priority: wanted.priority,
                owner: None,
                ttl_ms: None,
                settled_below: self.inner.belief.standing().settled_below,
            };
            let error = match self.inner.call::<RequestBody>("/v1/lock", &body).await {
                Ok(answer) if answer.state == "granted" => return Ok(answer),
                Ok(_) => ClientError::Timeout,
                Err(error) => error,
            };
            let is_late = deadline.is_some_and(|deadline| boottime() >= deadline);
            match &error {
                _ if self.inner.belief.is_over() => return Err(ClientError::Lost),
                ClientError::Timeout if is_late => return Err(error),
                ClientError::Timeout => {}
                error_ if is_passing(error_) && !is_try && !is_late => pause.rest().await,
                _ => return Err(error),
            }
        }
    }

    /// Ends the session, and with it what it holds.
    pub async fn end(self) {
        self.inner.belief.end();
        let _ = tokio::time::timeout(PAUSES.1, self.inner.http.end_session(&self.inner.name)).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.inner.belief.end();
        // The stream's end is what tells the server, if the call does not reach it.
        self.tasks.iter().for_each(JoinHandle::abort);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let inner = Arc::clone(&self.inner);
            runtime.spawn(async move { inner.http.end_session(&inner.name).await });
        }
    }
}

/// Returns whether the same call may succeed when it is made again.
pub(super) fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Io(_) => true,
        ClientError::Problem(problem) => problem.status == 503 || problem.name() == "session_cut",
        _ => false,
    }
}

/// Pauses between attempts, doubled each time, with a part that differs by client.
#[derive(Debug, Default)]
pub(super) struct Pause(u32);

impl Pause {
    pub(super) async fn rest(&mut self) {
        let pause = PAUSES.0.saturating_mul(1 << self.0.min(6)).min(PAUSES.1);
        self.0 += 1;
        let jitter = u64::from(boottime().subsec_nanos()) % (pause.as_micros() as u64 / 2).max(1);
        tokio::time::sleep(pause - Duration::from_micros(jitter)).await;
    }
}

/// Returns the pause before the next renewal.
///
/// A server that has lost its own lease promises nothing. It is not asked more often for that.
fn renewed_after(promise: Duration, ttl: Duration) -> Duration {
    (promise / 3).max((ttl / 3).min(SHORTEST_INTERVAL))
}

impl Inner {
    pub(super) async fn call<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, ClientError> {
        let answered = tokio::time::timeout(CALL_TIME, self.http.post(path, body)).await;
        let result = answered.unwrap_or_else(|_| Err(ClientError::Io("no answer in time".into())));
        if result.as_ref().is_err_and(says_gone) {
            self.belief.end();
        }
        result
    }

    async fn keep_attached(self: Arc<Self>, attached: watch::Sender<bool>) {
        let path = format!("/v1/sessions/{}/attach", self.name);
        let mut pause = Pause::default();
        loop {
            match self.http.stream(&path, None).await {
                Ok(mut stream) => {
                    while let Ok(Some(event)) = stream.next().await {
                        pause = Pause::default();
                        match event.event.as_str() {
                            "attached" => drop(attached.send_replace(true)),
                            "lost" => {
                                if let Ok(Value::Number(number)) =
                                    event.json().map(|lost: Value| lost["request_id"].clone())
                                {
                                    number.as_u64().into_iter().for_each(|number| self.belief.lose(number));
                                }
                            }
                            "claim" => {
                                if let Ok(claimed) = event.json::<ClaimedBody>()
                                    && claimed.state == "lost"
                                {
                                    self.belief.lose(claimed.request_id);
                                }
                            }
                            "resync" => self.belief.nudge.notify_one(),
                            "gone" => self.belief.end(),
                            _ => {}
                        }
                    }
                }
                Err(error) if says_gone(&error) => self.belief.end(),
                Err(_) => {}
            }
            if self.belief.is_over() {
                attached.send_replace(true);
                return;
            }
            pause.rest().await;
        }
    }

    /// Renews at a third of the promise that the last renewal brought.
    async fn keep_renewed(self: Arc<Self>, mut promise: Duration) {
        let mut pause = Pause::default();
        loop {
            tokio::select! {
                () = tokio::time::sleep(renewed_after(promise, self.ttl)) => {}
                () = self.belief.nudge.notified() => {}
                () = self.belief.ended() => return,
            }
            promise = loop {
                match self.renew(renewed_after(promise, self.ttl)).await {
                    Ok(promise) => break promise,
                    Err(_) if self.belief.is_over() => return,
                    Err(error) => tracing::warn!(session = self.name, %error, "not renewed"),
                }
                pause.rest().await;
            };
            pause = Pause::default();
        }
    }

    /// Renews once; the promise that it brought.
    async fn renew(&self, interval: Duration) -> Result<Duration, ClientError> {
        let holding = self.belief.holding();
        let standing = self.belief.standing();
        let sent = boottime();
        let body = RenewBody {
            session: Some(self.name.clone()),
            next: Some(standing.next),
            open: standing.open,
            settled_below: standing.settled_below,
        };
        // An answer that is late is worth nothing; the next attempt is.
        let call = self.call::<RenewedBody>("/v1/renew", &body);
        let Ok(renewed) = tokio::time::timeout(interval.max(PAUSES.1), call).await else {
            return Err(ClientError::Io("no answer in time".into()));
        };
        let renewed = renewed?;
        let promise = Duration::from_millis(renewed.valid_ms);
        self.belief.extend(sent, promise);
        let is_granted = |number: &u64| {
            renewed.requests.iter().any(|request| request.request_id == *number && request.state == "granted")
                || renewed.claims.iter().any(|claim| claim.request_id == *number && claim.state == "yours")
        };
        holding.iter().filter(|number| !is_granted(number)).for_each(|number| self.belief.lose(*number));
        Ok(promise)
    }

    async fn finish(&self, path: &str, number: u64) -> Result<RequestBody, ClientError> {
        let body = EndBody {
            session: self.name.clone(),
            request_id: number,
            grant: None,
            settled_below: self.belief.standing().settled_below,
        };
        let mut pause = Pause::default();
        loop {
            match self.call::<RequestBody>(path, &body).await {
                Err(error) if is_passing(&error) && self.belief.is_safe() => pause.rest().await,
                answer => {
                    self.belief.settle(number);
                    return answer;
                }
            }
        }
    }
}

pub(super) fn says_gone(error: &ClientError) -> bool {
    ["epoch_changed", "session_gone", "unknown_session"].iter().any(|name| error.is_problem(name))
}

/// A number that is open. Dropping it cancels it on the server.
#[derive(Debug)]
pub(super) struct OpenRequest {
    pub(super) inner: Arc<Inner>,
    pub(super) number: Option<u64>,
}

impl OpenRequest {
    /// Notes that the number has its last answer, and passes what that comes to on.
    pub(super) fn settled<T>(mut self, outcome: T) -> Result<T, ClientError> {
        if let Some(number) = self.number.take() {
            self.inner.belief.settle(number);
        }
        Ok(outcome)
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let (Some(number), Ok(runtime)) = (self.number.take(), tokio::runtime::Handle::try_current()) else { return };
        let inner = Arc::clone(&self.inner);
        runtime.spawn(async move { inner.finish("/v1/cancel", number).await });
    }
}

/// Locks that are held. Dropping it releases them in the background.
#[derive(Debug)]
pub struct Guard {
    fence: u64,
    grant: String,
    fate: watch::Receiver<Fate>,
    request: OpenRequest,
}

impl Guard {
    /// Greater than that of every grant before.
    ///
    /// A store that remembers the highest refuses late writers.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Returns the grant's name on the server.
    #[must_use]
    pub fn grant(&self) -> &str {
        &self.grant
    }

    /// For how long the locks are safe from now on, by this client's own clock.
    ///
    /// Zero once they are lost.
    #[must_use]
    pub fn safe_for(&self) -> Duration {
        let belief = &self.request.inner.belief;
        if *self.fate.borrow() == Fate::Lost || !belief.is_safe() {
            return Duration::ZERO;
        }
        belief.follow().borrow().saturating_sub(boottime())
    }

    /// Returns whether the locks are safe at this moment.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.safe_for().is_zero()
    }

    /// Returns when the locks are lost: revoked, or over by this client's own clock.
    pub async fn lost(&self) {
        let belief = &self.request.inner.belief;
        let mut fate = self.fate.clone();
        let mut until = belief.follow();
        loop {
            let at = *until.borrow_and_update();
            tokio::select! {
                _ = fate.wait_for(|fate| *fate == Fate::Lost) => return,
                () = sleep_until(at) => {
                    belief.lose(self.request.number.unwrap_or_default());
                    return;
                }
                _ = until.changed() => {}
            }
        }
    }

    /// Releases the locks.
    ///
    /// # Errors
    /// [`ClientError::Lost`] if they were lost before; what the server says otherwise.
    pub async fn release(mut self) -> Result<(), ClientError> {
        let number = self.request.number.take().unwrap_or_default();
        let was_lost = !self.is_valid();
        match self.request.inner.finish("/v1/unlock", number).await {
            _ if was_lost => Err(ClientError::Lost),
            Ok(_) => Ok(()),
            Err(error) if says_gone(&error) || error.is_problem("lease_lost") => Err(ClientError::Lost),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewals_without_promise_are_apart() {
        let ms = Duration::from_millis;
        assert_eq!(renewed_after(ms(30_000), ms(30_000)), ms(10_000));
        assert_eq!(renewed_after(ms(3_000), ms(30_000)), ms(1_000), "the server's own lease is shorter");
        assert_eq!(renewed_after(Duration::ZERO, ms(30_000)), ms(100));
        assert_eq!(renewed_after(ms(60), ms(60)), ms(20), "a short lease is renewed in time");
    }
}
