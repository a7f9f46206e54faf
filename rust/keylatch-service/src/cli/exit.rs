//! Exit statuses.
//!
//! | status | meaning |
//! |---|---|
//! | 0 | done |
//! | 2 | the command line is wrong |
//! | 69 | the server cannot be reached |
//! | 70 | the lock or the work was lost while the command ran; the command was ended |
//! | 71 | the system refused something: a process, a file |
//! | 73 | `claim`: the work has failed for good, on another machine |
//! | 74 | `claim`: the command ended, and whether the server knows that is unknown |
//! | 75 | the lock or the work was not free in the time given |
//! | 76 | the server refused, or answered what this version does not understand |
//! | 77 | the token or certificate does not allow it |
//! | 126, 127 | `hold`, `claim`: the command could not be run, or was not found |
//! | other | `hold`, `claim`: the command's own status; 128 and the signal's number if a signal ended it |

use crate::client::ClientError;
use std::fmt::Arguments;
use std::io::Write as _;

pub(super) const USAGE: u8 = 2;
pub(super) const UNREACHABLE: u8 = 69;
pub(super) const LOST: u8 = 70;
pub(super) const SYSTEM: u8 = 71;
pub(super) const FAILED: u8 = 73;
pub(super) const UNKNOWN: u8 = 74;
pub(super) const NOT_FREE: u8 = 75;
pub(super) const REFUSED: u8 = 76;
pub(super) const NOT_ALLOWED: u8 = 77;

/// The statuses, for `--help` and the man page.
pub(super) const HELP: &str = "Exit status:
  0    done
  2    the command line is wrong
  69   the server cannot be reached
  70   the lock or the work was lost while the command ran; the command was ended
  71   the system refused something: a process, a file
  73   claim: the work has failed for good, on another machine
  74   claim: the command ended, and whether the server knows that is unknown
  75   the lock or the work was not free in the time given
  76   the server refused, or answered what this version does not understand
  77   the token or certificate does not allow it
  126  hold, claim: the command could not be run
  127  hold, claim: the command was not found
  hold and claim pass the command's own status through, or 128 and the number of the signal that ended it";

pub(super) fn of(error: &ClientError) -> u8 {
    match error {
        ClientError::Io(_) => UNREACHABLE,
        ClientError::Lost => LOST,
        ClientError::OutcomeUnknown => UNKNOWN,
        ClientError::Timeout => NOT_FREE,
        ClientError::Problem(problem) => match problem.status {
            401 | 403 => NOT_ALLOWED,
            423 => NOT_FREE,
            _ => REFUSED,
        },
        ClientError::Url(_) | ClientError::Tls(_) => USAGE,
        ClientError::Answer(_) => REFUSED,
    }
}

/// Returns the status in a word, for `--json`.
pub(super) fn word(status: u8) -> &'static str {
    match status {
        UNREACHABLE => "unreachable",
        LOST => "lost",
        FAILED => "failed",
        UNKNOWN => "unknown",
        NOT_FREE => "not_free",
        REFUSED => "refused",
        NOT_ALLOWED => "not_allowed",
        126 | 127 => "not_run",
        2 => "usage",
        _ => "system",
    }
}

/// Says something on standard error and returns the status.
pub(super) fn say(status: u8, message: Arguments<'_>) -> u8 {
    // With no one to read it there is nothing else to do.
    let _ = writeln!(std::io::stderr(), "keylatch: {message}");
    status
}

/// Prints to standard output; a reader that has gone ends the program quietly.
pub(super) fn print(text: &[u8]) -> u8 {
    match std::io::stdout().write_all(text) {
        Ok(()) => 0,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => say(SYSTEM, format_args!("standard output: {error}")),
    }
}
