//! Claims: one does the work, the others wait for its outcome.
//!
//! A claim asks for the work of a resource. The answer is `Yours`, with a grant to complete, or `Done`, with the outcome
//! that another reached. A failure makes the first in line the owner before it is published.
//!
//! [`ClaimBoard`] holds the rules, as a state machine that a host drives. `claim/README.md` tells the races.

mod answer;
mod board;
mod claims;
mod error;
mod event;
mod hub;
mod id;
#[cfg(all(test, loom))]
mod models;
mod parse;
mod pending;
mod policy;
mod queue;
mod resource;
mod session;
mod signal;
mod timers;
mod watch;

pub use answer::{ClaimAnswer, ClaimFailure, ClaimLoss, ClaimOutcome, ClaimOwned, ClaimProgress, ClaimResult};
pub use board::{
    ClaimBoard, ClaimCall, ClaimEffect, ClaimFigures, ClaimOpened, ClaimRenewal, ClaimSessionInfo, ClaimStart,
    ClaimStream,
};
pub use claims::{ClaimOwner, Claims};
pub use error::ClaimError;
pub use event::{ClaimChange, ClaimEvent, ClaimFeed, ClaimOwnerInfo, ClaimPlaceInfo, ClaimSnapshot};
pub use id::{ClaimEventId, ClaimGrant, ClaimRequestId, ClaimSessionId};
pub use pending::{ClaimFuture, PendingClaim};
pub use policy::{ClaimConfig, ClaimLine, ClaimPolicy, ClaimWhenTaken};
pub use queue::{ClaimCompletion, ClaimQueue};
pub use session::{ClaimPresence, ClaimSessionOptions};
pub use watch::{ClaimNotice, ClaimWatch, NextClaimNotice};
