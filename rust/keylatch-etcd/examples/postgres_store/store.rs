//! A table whose rows are written by holders of locks, and refuse those that are late.

use keylatch_etcd::fenced::{FencedStore, Written};
use postgres::{Client, Config, Error, NoTls};
use std::sync::{Mutex, PoisonError};

/// A row has its fence.
///
/// A `bigint` would be too small for the epochs from 128 on.
const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS objects (name text PRIMARY KEY, fence numeric(20) NOT NULL, content bytea NOT NULL)";

/// Compares and writes in one step.
///
/// A writer that meets another at the row waits, and compares with what that one has left.
const WRITE: &str = "
    INSERT INTO objects AS stored (name, fence, content) VALUES ($1, $2::text::numeric, $3)
    ON CONFLICT (name) DO UPDATE SET fence = excluded.fence, content = excluded.content
    WHERE stored.fence <= excluded.fence";

const READ: &str = "SELECT content FROM objects WHERE name = $1";

/// A store in a table of PostgreSQL.
///
/// Threads that use it at a time have a connection each.
pub(crate) struct PostgresStore {
    config: Config,
    idle: Mutex<Vec<Client>>,
}

impl PostgresStore {
    /// Connects, and makes the table if it does not exist.
    pub(crate) fn open(database: &str) -> Result<Self, Error> {
        let store = Self { config: database.parse()?, idle: Mutex::default() };
        store.with(|client| client.batch_execute(TABLE))?;
        Ok(store)
    }

    /// A connection that fails is not used again.
    fn with<T>(&self, work: impl FnOnce(&mut Client) -> Result<T, Error>) -> Result<T, Error> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let free = idle().pop();
        let mut client = match free {
            Some(client) => client,
            None => self.config.connect(NoTls)?,
        };
        let done = work(&mut client)?;
        idle().push(client);
        Ok(done)
    }
}

impl FencedStore for PostgresStore {
    type Error = Error;

    fn write(&self, name: &str, fence: u64, content: &[u8]) -> Result<Written, Error> {
        let rows = self.with(|client| client.execute(WRITE, &[&name, &fence.to_string(), &content]))?;
        Ok(if rows == 0 { Written::Refused } else { Written::Taken })
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let row = self.with(|client| client.query_opt(READ, &[&name]))?;
        Ok(row.map(|row| row.get(0)))
    }
}
