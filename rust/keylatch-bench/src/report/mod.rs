//! What is done with the rows: a table for people, JSON for programs.

pub(crate) mod json;
pub(crate) mod table;
