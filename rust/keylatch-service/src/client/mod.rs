//! The client of the service: sessions that renew themselves, guards that know whether they are safe.

mod belief;
mod claim;
pub(crate) mod clock;
mod http;
mod session;
mod target;

pub use claim::{ClaimGuard, ClaimWanted, Claimed};
pub use http::{EventStream, Http, ServerEvent};
pub use session::{Guard, Session, SessionOptions, Wanted};
pub use target::{ClientError, Target, TlsClientFiles};
