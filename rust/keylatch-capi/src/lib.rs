//! keylatch for C: the functions of `include/keylatch.h`.
//!
//! The header is made from this crate by `make header`: a module's first paragraphs are the heading of its section there,
//! the comment of a function is what the header says of it, and both are written for people who write C. What all
//! functions have in common stands at the top of the header, in `header/preface.h`.
//!
//! | module | what it knows |
//! |---|---|
//! | `boundary` | how a call comes in and goes out: panics, failures, pointers |
//! | `handed` | what a request is answered with that may have to wait |
//! | `callbacks` | foreign code that is called, and what is still to be called |
//! | `handle` | handles that may be used after they were freed, and calls in progress |
//! | `status`, `refusal`, `last_error` | numbers, why a call fails, and what the last failure of a thread was about |
//! | `key`, `options` | what callers hand in |
//! | the others | a section of the header each |
//!
//! Every `extern "C"` function is written out: the header's generator does not see those that a macro makes.

// The names of types are the C names. What a caller must keep to is the header's first page, not a section of each function.
#![allow(non_camel_case_types, clippy::missing_safety_doc)]
// Fields and numbers that go together share a comment.
#![allow(missing_docs)]

mod annotate;
mod boundary;
mod callbacks;
mod handed;
mod handle;
mod last_error;
mod refusal;
mod section;

pub mod status;

pub mod key;

pub mod etcd;

pub mod library;

pub mod manager;

pub mod owner;

pub mod options;

pub mod acquire;

pub mod pins;

pub mod grants;

pub mod batch;

pub mod batch_later;

pub mod queue;

pub mod failure;

pub mod filter;

pub mod listed;
pub mod listing;

pub mod inspect;

pub mod revoke;

pub mod events;

pub mod figures;

pub mod shared;

pub mod claims;

pub mod claim_verbs;

pub mod claim_events;
