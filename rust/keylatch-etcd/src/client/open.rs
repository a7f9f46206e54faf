//! The first contact: which members answer, and whether their version will do.

use super::calls::{CallError, Client};
use super::reason;
use crate::error::EtcdError;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

/// The least time that a member has to answer in, however many there are.
const SHORTEST_TRY: Duration = Duration::from_millis(300);

/// The oldest patch level of each minor version.
///
/// Older ones refuse a watch with an old login without saying why. Newer minor versions are all accepted.
const OLDEST: [(u32, u32); 2] = [(4, 22), (5, 6)];

impl Client {
    /// Tries the members in turn until one answers, and chooses it.
    ///
    /// A refusal, such as a wrong password, ends it; silence only when the time is over. The members share the time, so that
    /// silent ones leave some for those after them.
    pub(crate) async fn find_member(&self, within: Duration) -> Result<(), EtcdError> {
        let begun = Instant::now();
        let share = within / u32::try_from(self.names().len()).unwrap_or(u32::MAX).max(1);
        let share = share.max(SHORTEST_TRY);
        loop {
            let mut problems = Vec::new();
            let mut certificate = None;
            for (member, name) in self.names().iter().enumerate() {
                if member > 0 && begun.elapsed() >= within {
                    problems.push((name.clone(), "not tried, the time was over".into()));
                    continue;
                }
                self.channels.choose(member);
                let silent = |_| Err(Status::deadline_exceeded("no answer"));
                let status = tokio::time::timeout(share, self.status(&self.channels.current())).await;
                match status.unwrap_or_else(silent) {
                    Ok(status) => return check_version(&status.version),
                    Err(status) if is_silence(&status) => {
                        let problem = reason::text(&status);
                        if reason::is_certificate(&problem) {
                            certificate = Some((name.clone(), problem.clone()));
                        }
                        problems.push((name.clone(), problem));
                    }
                    Err(status) => return Err(CallError::into(self.explain(&status))),
                }
            }
            // A certificate does not become right by waiting.
            if let Some((endpoint, problem)) = certificate {
                return Err(EtcdError::Certificate { endpoint, problem });
            }
            if begun.elapsed() >= within {
                return Err(EtcdError::Unreachable { endpoints: problems });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn is_silence(status: &Status) -> bool {
    reason::is_transient(status) || status.code() == tonic::Code::Unknown
}

/// Refuses versions with faults that locks cannot live with.
fn check_version(version: &str) -> Result<(), EtcdError> {
    let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor, patch) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let newest = OLDEST[OLDEST.len() - 1].0;
    let fits = major > 3
        || major == 3 && (minor > newest || OLDEST.iter().any(|&(known, oldest)| minor == known && patch >= oldest));
    if fits { Ok(()) } else { Err(EtcdError::TooOld { version: version.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::check_version;

    #[test]
    fn versions_old_refused() {
        for version in ["3.4.22", "3.4.23", "3.5.6", "3.5.21", "3.6.0", "3.6.0-rc.1", "3.7.0", "4.0.0"] {
            assert!(check_version(version).is_ok(), "{version}");
        }
        for version in ["3.4.21", "3.5.5", "3.3.27", "2.3.8", "", "3"] {
            assert!(check_version(version).is_err(), "{version}");
        }
    }
}
