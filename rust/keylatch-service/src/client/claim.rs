//! Claims from the client's side: work that is ours to do, or the outcome that another reached.

use super::belief::Fate;
use super::clock::{boottime, sleep_until};
use super::session::{CALL_TIME, OpenRequest, POLL, Pause, Session, is_passing, says_gone};
use super::target::ClientError;
use crate::server::claim_wire::{
    ClaimBody, ClaimedBody, CompleteBody, OutcomeBody, ProgressBody, ProgressedBody, ResourceBody,
};
use keylatch::claim::{ClaimLine, ClaimPolicy, ClaimWhenTaken};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What is claimed, and by which rules.
#[derive(Debug, Clone)]
pub struct ClaimWanted {
    /// The resource.
    pub resource: ResourceBody,
    /// For how long to wait; `None` for as long as it takes.
    pub wait: Option<Duration>,
    /// The rules of this request.
    pub policy: ClaimPolicy,
}

/// What a claim came to.
#[derive(Debug)]
pub enum Claimed {
    /// The work is ours to do.
    Yours(ClaimGuard),
    /// The work has an outcome; there is nothing to do.
    Done(OutcomeBody),
    /// The work is another's, and the request was not to wait.
    Skipped {
        /// The owner's label, if the server knows one.
        owner: Option<String>,
    },
    /// A later request took the places of all that waited.
    Superseded,
}

impl Session {
    /// Claims the work of a resource: waits until it is ours, or done.
    ///
    /// Dropping the future gives up the place.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] when the time is over, [`ClientError::Lost`] when the session has ended, or what the
    /// server refuses. Nothing is owned then.
    pub async fn claim(&self, wanted: ClaimWanted) -> Result<Claimed, ClientError> {
        let number = self.inner.belief.take_number();
        let request = OpenRequest { inner: Arc::clone(&self.inner), number: Some(number) };
        let (sent, answer) = self.ask_for_work(number, &wanted).await?;
        let wrong = || ClientError::Answer("an answer without what belongs to it".into());
        match &*answer.state {
            "yours" => {}
            "done" => return request.settled(Claimed::Done(answer.outcome.ok_or_else(wrong)?)),
            "skipped" => return request.settled(Claimed::Skipped { owner: answer.owner }),
            "superseded" => return request.settled(Claimed::Superseded),
            other => return Err(ClientError::Answer(format!("a claim that is {other}"))),
        }
        self.await_belief().await?;
        let fate = self.inner.belief.hold(number);
        let valid = Duration::from_millis(answer.valid_ms.ok_or_else(wrong)?);
        let lease = wanted.policy.lease.map_or(Duration::MAX, |_| sent + valid);
        Ok(Claimed::Yours(ClaimGuard {
            fence: answer.fence.ok_or_else(wrong)?,
            attempt: answer.attempt.ok_or_else(wrong)?,
            first_in_epoch: answer.first_in_epoch.unwrap_or(true),
            grant: answer.grant.ok_or_else(wrong)?,
            lease: watch::Sender::new(lease),
            fate,
            request,
        }))
    }

    /// Asks until there is an answer.
    ///
    /// Returns it with the moment at which the call was sent.
    async fn ask_for_work(&self, number: u64, wanted: &ClaimWanted) -> Result<(Duration, ClaimedBody), ClientError> {
        let deadline = wanted.wait.map(|wait| boottime() + wait);
        let mut pause = Pause::default();
        loop {
            let sent = boottime();
            let left = deadline.map_or(POLL, |deadline| deadline.saturating_sub(sent).min(POLL));
            let body = ClaimBody {
                wait_ms: left.as_millis() as u64,
                client_timeout_ms: Some(CALL_TIME.as_millis() as u64),
                settled_below: self.inner.belief.standing().settled_below,
                ..body(self.name(), number, wanted)
            };
            let error = match self.inner.call::<ClaimedBody>("/v1/claim", &body).await {
                Ok(answer) if answer.state != "waiting" => return Ok((sent, answer)),
                Ok(_) => ClientError::Timeout,
                Err(error) => error,
            };
            let is_late = deadline.is_some_and(|deadline| boottime() >= deadline);
            match &error {
                _ if self.inner.belief.is_over() => return Err(ClientError::Lost),
                ClientError::Timeout if !is_late => {}
                passing if is_passing(passing) && !is_late => pause.rest().await,
                _ => return Err(error),
            }
        }
    }
}

fn body(session: &str, number: u64, wanted: &ClaimWanted) -> ClaimBody {
    let policy = &wanted.policy;
    ClaimBody {
        session: Some(session.to_owned()),
        request_id: number,
        resource: wanted.resource.clone(),
        wait_ms: 0,
        client_timeout_ms: None,
        max_attempts: policy.max_attempts,
        retry_after_ms: policy.retry_after.as_millis() as u64,
        skip_if_claimed: policy.when_taken == ClaimWhenTaken::Skip,
        latest_only: policy.line == ClaimLine::LatestOnly,
        max_waiting: policy.max_waiting,
        lease_ms: policy.lease.map(|lease| lease.as_millis() as u64),
        owner: None,
        ttl_ms: None,
        settled_below: 0,
    }
}

/// Work that is ours to do.
///
/// Dropping it gives the work up, which counts as a failure.
#[derive(Debug)]
pub struct ClaimGuard {
    fence: u64,
    grant: String,
    attempt: u32,
    first_in_epoch: bool,
    /// Until when the grant's own lease lasts, by [`boottime`].
    lease: watch::Sender<Duration>,
    fate: watch::Receiver<Fate>,
    request: OpenRequest,
}

impl ClaimGuard {
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

    /// 1 for the first attempt, one more after each failure.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns whether the server knows of no earlier attempt since its start.
    ///
    /// Look at the artefact first then: an owner of before may have finished it.
    #[must_use]
    pub fn is_first_in_epoch(&self) -> bool {
        self.first_in_epoch
    }

    /// For how long the work is ours from now on, by this client's own clock.
    ///
    /// Zero once it is lost.
    #[must_use]
    pub fn safe_for(&self) -> Duration {
        let belief = &self.request.inner.belief;
        if *self.fate.borrow() == Fate::Lost || !belief.is_safe() {
            return Duration::ZERO;
        }
        (*belief.follow().borrow()).min(*self.lease.borrow()).saturating_sub(boottime())
    }

    /// Returns whether the work is ours at this moment.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.safe_for().is_zero()
    }

    /// Returns when the work is lost: taken away, or over by this client's own clock.
    pub async fn lost(&self) {
        let belief = &self.request.inner.belief;
        let (mut fate, mut until, mut lease) = (self.fate.clone(), belief.follow(), self.lease.subscribe());
        loop {
            let at = (*until.borrow_and_update()).min(*lease.borrow_and_update());
            tokio::select! {
                _ = fate.wait_for(|fate| *fate == Fate::Lost) => return,
                () = sleep_until(at) => {
                    belief.lose(self.request.number.unwrap_or_default());
                    return;
                }
                _ = until.changed() => {}
                _ = lease.changed() => {}
            }
        }
    }

    /// Reports how far the work is; those who wait see it.
    ///
    /// # Errors
    /// [`ClientError::Lost`] if the work is no longer ours; what the server says otherwise.
    pub async fn progress(&self, done: u64, total: u64, address: &str) -> Result<(), ClientError> {
        self.report(ProgressBody { done: Some(done), total, address: address.to_owned(), ..self.silent() }).await
    }

    /// Lets the grant's own lease begin again with a new length.
    ///
    /// # Errors
    /// As [`progress`](Self::progress).
    pub async fn renew(&self, lease: Duration) -> Result<(), ClientError> {
        self.report(ProgressBody { lease_ms: Some(lease.as_millis() as u64), ..self.silent() }).await
    }

    fn silent(&self) -> ProgressBody {
        ProgressBody {
            session: self.request.inner.name.clone(),
            request_id: self.request.number.unwrap_or_default(),
            grant: self.grant.clone(),
            done: None,
            total: 0,
            address: String::new(),
            lease_ms: None,
            settled_below: self.request.inner.belief.standing().settled_below,
        }
    }

    async fn report(&self, body: ProgressBody) -> Result<(), ClientError> {
        if !self.is_valid() {
            return Err(ClientError::Lost);
        }
        let renews = body.lease_ms.is_some();
        let sent = boottime();
        match self.request.inner.call::<ProgressedBody>("/v1/progress", &body).await {
            Ok(progressed) if renews => {
                self.lease.send_replace(sent + Duration::from_millis(progressed.valid_ms));
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) if says_gone(&error) || error.is_problem("claim_lost") => Err(ClientError::Lost),
            Err(error) => Err(error),
        }
    }

    /// Ends the work with a success, which answers all who wait.
    ///
    /// Later callers get the same answer for a while.
    ///
    /// # Errors
    /// [`ClientError::Lost`] if the work was no longer ours; [`ClientError::OutcomeUnknown`] if the server may have
    /// noted it but was not heard again.
    pub async fn complete(self, note: &str) -> Result<(), ClientError> {
        self.finish(Some(note.to_owned()), None).await
    }

    /// Ends the work with a failure: the next in line owns it.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub async fn fail(self, reason: &str) -> Result<(), ClientError> {
        self.finish(None, Some(reason.to_owned())).await
    }

    async fn finish(mut self, note: Option<String>, error: Option<String>) -> Result<(), ClientError> {
        if !self.is_valid() {
            return Err(ClientError::Lost);
        }
        let inner = Arc::clone(&self.request.inner);
        let body = CompleteBody {
            session: inner.name.clone(),
            request_id: self.request.number.unwrap_or_default(),
            grant: self.grant.clone(),
            note,
            error,
            settled_below: inner.belief.standing().settled_below,
        };
        let mut pause = Pause::default();
        // Set once a call was sent that may have been applied without an answer.
        let mut may_be_applied = false;
        loop {
            let answer = inner.call::<ClaimedBody>("/v1/complete", &body).await;
            match answer {
                Err(error) if is_passing(&error) => {
                    may_be_applied |= matches!(error, ClientError::Io(_));
                    if inner.belief.is_safe() {
                        pause.rest().await;
                        continue;
                    }
                    return Err(if may_be_applied { ClientError::OutcomeUnknown } else { ClientError::Lost });
                }
                Err(error) if says_gone(&error) => {
                    return Err(if may_be_applied { ClientError::OutcomeUnknown } else { ClientError::Lost });
                }
                answer => {
                    if let Some(number) = self.request.number.take() {
                        inner.belief.settle(number);
                    }
                    return match answer {
                        Ok(_) => Ok(()),
                        Err(error) if error.is_problem("claim_lost") => Err(ClientError::Lost),
                        Err(error) => Err(error),
                    };
                }
            }
        }
    }
}
