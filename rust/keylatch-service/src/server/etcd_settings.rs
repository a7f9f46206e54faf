//! How the cluster is reached whose locks servers share.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How the cluster is reached, and what the locks are called there.
#[derive(Clone)]
pub struct EtcdSettings {
    /// The client address of each member, such as `http://10.0.0.1:2379`.
    pub endpoints: Vec<String>,
    /// Servers with the same one share their locks.
    pub namespace: String,
    /// After how long without contact the server's locks are free for the others.
    pub ttl: Duration,
    /// User and password.
    pub user: Option<(String, String)>,
    /// File with the authority of the members' certificates, in PEM.
    pub ca: Option<PathBuf>,
    /// Files with the server's own certificate and key, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl fmt::Debug for EtcdSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the password.
        let user = self.user.as_ref().map(|(name, _)| name);
        f.debug_struct("EtcdSettings").field("endpoints", &self.endpoints).field("user", &user).finish_non_exhaustive()
    }
}
