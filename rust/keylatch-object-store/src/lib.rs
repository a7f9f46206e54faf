//! Locked, fenced access to any store of the `object_store` crate.
//!
//! [`LockedStore`] is an [`ObjectStore`](object_store::ObjectStore) around another one. Reads share an object with other
//! reads. Writes, commits of uploads in parts, copies, renames and deletions have their objects alone, and several objects
//! are locked together, in an order in which no two calls wait for each other.
//!
//! ```
//! use keylatch_object_store::{Fencing, LockedStore, Options};
//! use object_store::{ObjectStoreExt, memory::InMemory, path::Path};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> object_store::Result<()> {
//! let options = Options {
//!     owner: "node-7".into(),
//!     timeout: Some(Duration::from_secs(5)), // an error says who holds the object
//!     lease: Some(Duration::from_secs(30)),  // a write that hangs blocks others no longer than this
//!     fencing: Fencing::Conditional,         // and writes nothing when it goes on
//!     ..Options::default()
//! };
//! let store = LockedStore::open(InMemory::new(), options).await?;
//! let (cat, dog) = (Path::from("photos/cat.jpg"), Path::from("photos/dog.jpg"));
//! store.put(&cat, "meow".into()).await?;
//! store.put(&dog, "woof".into()).await?;
//! assert_eq!(store.get(&cat).await?.bytes().await?, "meow");
//!
//! // Both, or neither while another has one of them.
//! store.rename_all(&[(cat, Path::from("old/cat.jpg")), (dog, Path::from("old/dog.jpg"))]).await?;
//! store.delete_all(&[Path::from("old/cat.jpg"), Path::from("old/dog.jpg")]).await?;
//! # Ok(()) }
//! ```
//!
//! # What is promised
//!
//! * Within one process, calls through stores with the same manager and name exclude each other as said above.
//! * With [`Fencing::Conditional`], no put of a writer that lost its lock, or whose process was replaced, goes through.
//!   With [`Fencing::Files`], and for what is no put, such a writer is refused if it is late before the store is called.
//! * Listings are not locked: they show what the store shows. Files of fences, under `.keylatch`, are left out.
//! * A call that is dropped leaves no lock behind. What the store does with a call that is dropped, is the store's affair.
//!
//! A fence costs a write three to four more calls of the store. Its file stays when the object is deleted.

#![forbid(unsafe_code)]

mod body;
mod error;
mod fence;
mod hold;
mod options;
mod store;
mod upload;

pub use error::Partly;
pub use fence::{Fence, Fenced};
pub use options::{Fencing, Options, ReadHold};
pub use store::LockedStore;
