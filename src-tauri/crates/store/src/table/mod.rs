//! One file per table: its schema, its rows as domain types, its queries and writes.

pub(crate) mod adapter;
pub(crate) mod auto_train;
pub(crate) mod base;
pub(crate) mod blind_pair;
pub(crate) mod candidate;
pub(crate) mod change_log;
pub(crate) mod draft;
pub(crate) mod example;
pub(crate) mod feedback;
pub(crate) mod generation;
pub(crate) mod job;
pub(crate) mod metric;
pub(crate) mod preference;
pub(crate) mod pull;
pub(crate) mod run;
pub(crate) mod search;
pub(crate) mod setting;
pub(crate) mod taste;
