//! The lease of the process: granted, renewed at a third, counted on our own clock, and replaced after a loss.

use crate::client::{CallError, Client};
use crate::clock::{boottime, nanos, sleep_until};
use crate::config::EtcdConfig;
use crate::error::EtcdError;
use crate::layout::{self, Layout};
use crate::slots::Slots;
use crate::wire::{Compare, RangeRequest, RequestOp, TxnRequest};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// One lease, from its grant to its end. What is created under it ends with it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) lease: i64,
    pub(crate) number: u64,
    pub(crate) slots: Slots,
    /// Boot time in nanoseconds from which on the lease may be over.
    ///
    /// Only the renewing task writes it.
    deadline: AtomicU64,
    ended: AtomicBool,
    end: watch::Sender<bool>,
}

impl Session {
    fn new(lease: i64, number: u64, deadline: u64) -> Self {
        Self {
            lease,
            number,
            slots: Slots::default(),
            deadline: AtomicU64::new(deadline),
            ended: AtomicBool::new(false),
            end: watch::Sender::new(false),
        }
    }

    /// Whether the lease lasts, by our own clock.
    pub(crate) fn is_valid(&self) -> bool {
        // Pairs with: the store in `end`. A reader that sees an old deadline is only more careful.
        !self.ended.load(Ordering::Acquire) && boottime() < self.deadline.load(Ordering::Relaxed)
    }

    /// The same; ends the session if not.
    ///
    /// After the machine was asleep, others hear of it before the renewing task wakes up.
    pub(crate) fn is_live(&self) -> bool {
        let is_valid = self.is_valid();
        if !is_valid && !self.ended.load(Ordering::Relaxed) {
            self.end();
        }
        is_valid
    }

    /// Ends the session: nothing is believed of it any more.
    pub(crate) fn end(&self) {
        // Pairs with: the load in `is_valid`.
        self.ended.store(true, Ordering::Release);
        self.end.send_replace(true);
    }

    /// Returns when the session has ended.
    pub(crate) async fn ended(&self) {
        let mut end = self.end.subscribe();
        // The sender lives as long as the session.
        let _ = end.wait_for(|ended| *ended).await;
    }

    /// Returns when the lease may be over by our own clock.
    async fn expired(&self) {
        while self.is_valid() {
            sleep_until(self.deadline.load(Ordering::Relaxed)).await;
        }
    }

    fn renewed(&self, deadline: u64) {
        self.deadline.fetch_max(deadline, Ordering::Relaxed);
    }

    /// For how long the lease lasts, by our own clock.
    pub(crate) fn remaining(&self) -> Duration {
        Duration::from_nanos(self.deadline.load(Ordering::Relaxed).saturating_sub(boottime()))
    }
}

/// The session in use, as those who wait for one see it.
#[derive(Debug, Clone)]
pub(crate) enum Present {
    /// The lease is there.
    Live(Arc<Session>),
    /// The last lease is over, and a new one is not there yet.
    ///
    /// With what the server refuses, if it does.
    Between(Option<EtcdError>),
    /// The handle was closed.
    Closed,
}

/// The first pause after a lease that was refused, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The pause before another lease is asked for.
const AGAIN: Duration = Duration::from_millis(100);

/// Grants, renews and replaces leases.
#[derive(Debug)]
pub(crate) struct Keeper {
    client: Arc<Client>,
    layout: Layout,
    ttl: i64,
    label: String,
    present: watch::Sender<Present>,
}

impl Keeper {
    pub(crate) fn new(client: Arc<Client>, layout: Layout, config: &EtcdConfig) -> (Self, watch::Receiver<Present>) {
        let (present, receiver) = watch::channel(Present::Between(None));
        let label = config.label.clone();
        (Self { client, layout, ttl: config.ttl_seconds(), label, present }, receiver)
    }

    /// The first session, with all that is checked once.
    pub(crate) async fn begin(&self) -> Result<Arc<Session>, EtcdError> {
        self.check_prefix().await?;
        let session = self.grant(1).await?;
        self.present.send_replace(Present::Live(Arc::clone(&session)));
        Ok(session)
    }

    /// Keeps a session, and all that follow, until it is dropped or closed.
    pub(crate) async fn keep(&self, mut session: Arc<Session>, mut closed: watch::Receiver<bool>) {
        loop {
            let is_closed = tokio::select! {
                () = self.renew(&session) => false,
                _ = closed.wait_for(|closed| *closed) => true,
            };
            session.end();
            if is_closed {
                self.present.send_replace(Present::Closed);
                // Once the lease is over there is nothing left to revoke.
                let _ = tokio::time::timeout(session.remaining(), self.client.revoke_lease(session.lease)).await;
                return;
            }
            self.present.send_replace(Present::Between(None));
            let replacing = self.replace((session.lease, session.number));
            tokio::pin!(replacing);
            let next = tokio::select! {
                next = &mut replacing => Some(next),
                // Those who wait for a session end here: in an outage there may never be one.
                _ = closed.wait_for(|closed| *closed) => None,
            };
            let Some(next) = next else {
                self.present.send_replace(Present::Closed);
                // What is left of the old lease, and a new one that the server may have granted, would last for a TTL.
                let revoked = async { self.client.revoke_lease(replacing.await.lease).await };
                let _ = tokio::time::timeout(self.lasts(), revoked).await;
                return;
            };
            session = next;
            self.present.send_replace(Present::Live(Arc::clone(&session)));
        }
    }

    /// How long a lease lasts without a renewal.
    fn lasts(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.ttl).unwrap_or(1))
    }

    /// The session after one that has ended.
    ///
    /// Those who wait for one hear of refusals, and have their own time otherwise.
    async fn replace(&self, (lease, number): (i64, u64)) -> Arc<Session> {
        // The old lease is revoked before a new one is used: what was created under it, or still comes, must not be taken
        // for something of the new one.
        while let Some(error) = self.client.revoke_lease(lease).await.err().and_then(CallError::problem) {
            self.refused(error);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.client.forget_cluster();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.grant(number + 1).await {
                Ok(session) => return session,
                Err(error) => self.refused(error),
            }
            // A lease may stay behind each time, for a TTL.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Says that the server refuses a session, and for what reason.
    fn refused(&self, error: EtcdError) {
        let is_refusal = !matches!(error, EtcdError::Unreachable { .. });
        self.present.send_replace(Present::Between(Some(error).filter(|_| is_refusal)));
    }

    /// Returns when the lease is lost.
    async fn renew(&self, session: &Session) {
        let third = self.lasts() / 3;
        let mut pause = third;
        loop {
            tokio::select! {
                () = sleep_until(boottime().saturating_add(nanos(pause))) => {}
                () = session.expired() => return,
                // The server said in another answer that the lease does not exist.
                () = session.ended() => return,
            }
            // The time counts from here: the server counts from a later moment.
            let sent = boottime();
            let answer = tokio::select! {
                answer = self.client.keep_alive(session.lease) => answer,
                () = session.expired() => return,
            };
            match answer {
                Some(0) => return,
                // An answer after the deadline revives nothing: waits and holds have seen the session as over.
                Some(_) if !session.is_valid() => return,
                Some(seconds) if seconds > 0 => {
                    session.renewed(end_of_lease(sent, seconds));
                    pause = third;
                }
                _ => pause = Duration::from_millis(50),
            }
        }
    }

    /// A session with what each has from its beginning.
    async fn grant(&self, number: u64) -> Result<Arc<Session>, EtcdError> {
        loop {
            let session = self.ask_for_lease(number).await?;
            let entered = self.enter(&session).await;
            if let Ok(true) = entered {
                return Ok(Arc::new(session));
            }
            // It would last for a TTL, and the next attempt asks for another.
            let _ = tokio::time::timeout(session.remaining(), self.client.revoke_lease(session.lease)).await;
            entered?;
            // On a bad link a lease can be over before anything is put under it. That is no refusal: another may do.
            self.client.forget_cluster();
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn ask_for_lease(&self, number: u64) -> Result<Session, EtcdError> {
        let (sent, granted) = loop {
            let sent = boottime();
            match self.client.grant_lease(self.ttl).await? {
                Some(granted) => break (sent, granted),
                // A lease whose answer was lost ends by itself; nothing was created under it.
                None => tokio::time::sleep(AGAIN).await,
            }
        };
        if granted.ttl > self.ttl {
            let _ = self.client.revoke_lease(granted.id).await;
            let seconds = |ttl: i64| Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
            return Err(EtcdError::TtlTooShort { asked: seconds(self.ttl), floor: seconds(granted.ttl) });
        }
        Ok(Session::new(granted.id, number, end_of_lease(sent, granted.ttl)))
    }

    /// Puts what a session has from its beginning; whether its lease lasts.
    async fn enter(&self, session: &Session) -> Result<bool, EtcdError> {
        let put = |key, value| RequestOp::put(key, value, session.lease);
        let member = put(self.layout.member(session.lease), layout::member_value(&self.label));
        let floor = put(self.layout.floor(session.lease), Layout::floor_value(0));
        match self.client.txn(TxnRequest { success: vec![member, floor], ..TxnRequest::default() }).await {
            Ok(_) => Ok(session.is_valid()),
            Err(CallError::NoLease) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses a prefix below which others write.
    async fn check_prefix(&self) -> Result<(), EtcdError> {
        let success = self.layout.foreign().into_iter().map(RequestOp::range).collect();
        let answer = self.client.txn(TxnRequest { success, ..TxnRequest::default() }).await?.body;
        match answer.responses.iter().find_map(|found| found.kvs().first()) {
            Some(kv) => Err(EtcdError::PrefixInUse { key: String::from_utf8_lossy(&kv.key).into_owned() }),
            None => Ok(()),
        }
    }
}

/// Boot time at which a lease may be over that was asked for at `sent`.
fn end_of_lease(sent: u64, seconds: i64) -> u64 {
    let ttl = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    // The clocks of two machines may go at different speeds; a hundredth is fifty times what they are allowed.
    sent.saturating_add(nanos(ttl - ttl / 100))
}

/// Reads the epoch, which an operator writes as a number in decimal.
pub(crate) async fn read_epoch(client: &Client, layout: &Layout) -> Result<Option<Vec<u8>>, EtcdError> {
    let found = client.range(RangeRequest::key(layout.epoch())).await?;
    Ok(found.kvs.into_iter().next().map(|kv| kv.value))
}

/// The comparison that holds while the epoch is the one that was read.
pub(crate) fn same_epoch(layout: &Layout, epoch: Option<&[u8]>) -> Compare {
    match epoch {
        Some(value) => Compare::value(layout.epoch(), value.to_vec()),
        None => Compare::created_at(layout.epoch(), 0),
    }
}
