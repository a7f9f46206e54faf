//! One connection a member; another member when one does not answer.

use crate::config::EtcdConfig;
use crate::error::EtcdError;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::sync::watch;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// The connections, and which of them is in use.
#[derive(Debug)]
pub(crate) struct Channels {
    endpoints: Vec<Endpoint>,
    names: Vec<String>,
    current: Mutex<Current>,
    /// Counts the changes; streams on an older connection have to begin again.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Current {
    member: usize,
    channel: Channel,
    number: u64,
}

/// A connection, and the number of the change that made it.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    pub(crate) number: u64,
}

impl Channels {
    /// Needs a runtime around it, and connects to nothing yet.
    pub(crate) fn new(config: &EtcdConfig, attempt: Duration) -> Result<Self, EtcdError> {
        let endpoints =
            config.endpoints.iter().map(|name| endpoint(config, name, attempt)).collect::<Result<Vec<_>, _>>()?;
        let channel = endpoints[0].connect_lazy();
        let current = Mutex::new(Current { member: 0, channel, number: 0 });
        Ok(Self { endpoints, names: config.endpoints.clone(), current, changes: watch::Sender::new(0) })
    }

    pub(crate) fn current(&self) -> Connection {
        let current = self.current.lock();
        Connection { channel: current.channel.clone(), number: current.number }
    }

    /// Goes to the next member, unless that was done since the connection was taken.
    ///
    /// With one member this makes a fresh connection: a half-open one would never say that it is dead.
    pub(crate) fn move_on(&self, from: &Connection) {
        let mut current = self.current.lock();
        if current.number == from.number {
            let next = (current.member + 1) % self.endpoints.len();
            self.change(&mut current, next);
        }
    }

    /// Uses this member from now on.
    pub(crate) fn choose(&self, member: usize) {
        self.change(&mut self.current.lock(), member);
    }

    fn change(&self, current: &mut Current, member: usize) {
        current.member = member;
        current.channel = self.endpoints[member].connect_lazy();
        current.number += 1;
        self.changes.send_replace(current.number);
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }
}

/// A connection that has been silent for this long is asked whether it is alive.
///
/// A server takes pings more often than every five seconds for an attack, as long as its operator sets nothing else.
const PING_AFTER: Duration = Duration::from_secs(10);

fn endpoint(config: &EtcdConfig, name: &str, attempt: Duration) -> Result<Endpoint, EtcdError> {
    let invalid = |setting, error: tonic::transport::Error| EtcdError::InvalidConfig {
        setting,
        problem: format!("{name}: {}", super::reason::deepest(&error)),
    };
    let endpoint = Endpoint::from_shared(name.to_owned())
        .map_err(|error| invalid("endpoints", error))?
        .connect_timeout(attempt)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(Duration::from_secs(10)))
        .http2_keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(attempt)
        // Requests have a time limit of their own, so only a stream of watches needs this. Without a stream, etcd takes
        // pings for an attack, and ends the connection.
        .keep_alive_while_idle(false);
    if !name.starts_with("https://") {
        return Ok(endpoint);
    }
    let mut tls = ClientTlsConfig::new().timeout(attempt);
    if let Some(ca) = &config.ca {
        tls = tls.ca_certificate(Certificate::from_pem(ca));
    }
    if let Some((certificate, key)) = &config.identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    if let Some(name) = &config.server_name {
        tls = tls.domain_name(name);
    }
    endpoint.tls_config(tls).map_err(|error| invalid("ca_pem or identity_pem", error))
}
