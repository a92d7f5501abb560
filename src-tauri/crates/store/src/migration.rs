//! The schema, version by version. A version that was ever shipped is never edited; a new one is appended.

use crate::table::{
    adapter, auto_train, base, blind_pair, candidate, change_log, draft, example, feedback, generation, job, metric, preference, pull, run,
    search, setting, taste,
};
use crate::{Result, StoreError};
use rusqlite::{Connection, TransactionBehavior};

/// The statements that lead from one version of the schema to the next.
pub struct Migration {
    /// The version reached by it, kept in `PRAGMA user_version`.
    pub version: u32,
    /// Run in order, in one transaction.
    pub statements: &'static [&'static str],
}

pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        statements: &[
            change_log::V1,
            setting::V1,
            draft::V1,
            generation::V1,
            candidate::V1,
            feedback::V1,
            taste::V1,
            run::V1,
            metric::V1,
            job::V1,
            adapter::V1,
        ],
    },
    Migration { version: 2, statements: &[auto_train::V2, example::V2] },
    Migration { version: 3, statements: &[base::V3, pull::V3, candidate::V3] },
    Migration { version: 4, statements: &[preference::V4, blind_pair::V4, generation::V4] },
    Migration { version: 5, statements: &[search::V5] },
];

/// The newest version that this program knows.
pub const SCHEMA_VERSION: u32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

pub(crate) fn newest(migrations: &[Migration]) -> u32 {
    migrations.last().map_or(0, |migration| migration.version)
}

/// The version of the schema in an open database; 0 is an empty one.
///
/// # Errors
/// `Damaged` when it is 0 though there are tables, or negative.
pub(crate) fn version(connection: &Connection) -> Result<u32> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match u32::try_from(version) {
        Ok(0) if tables > 0 => Err(StoreError::damaged("it has tables but no version")),
        Ok(version) => Ok(version),
        Err(_) => Err(StoreError::damaged("its version is negative")),
    }
}

/// Brings the schema up to date; each version reaches the disk whole or not at all.
pub(crate) fn migrate(connection: &mut Connection, migrations: &[Migration]) -> Result<()> {
    let found = version(connection)?;
    for migration in migrations.iter().filter(|migration| migration.version > found) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for statements in migration.statements {
            transaction.execute_batch(statements)?;
        }
        transaction.pragma_update(None, "user_version", migration.version)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Compares the tables of an existing database with those that its version should have: a damaged name would otherwise come up
/// much later, as a query that fails.
///
/// # Errors
/// `Damaged` when they differ.
pub(crate) fn check_schema(connection: &Connection, migrations: &'static [Migration]) -> Result<()> {
    let found = version(connection)?;
    let model = Connection::open_in_memory()?;
    for migration in migrations.iter().filter(|migration| migration.version <= found) {
        for statements in migration.statements {
            model.execute_batch(statements)?;
        }
    }
    if schema(connection)? == schema(&model)? { Ok(()) } else { Err(StoreError::damaged("its tables are not those of its version")) }
}

fn schema(connection: &Connection) -> Result<Vec<(String, String, Option<String>)>> {
    let sql = "SELECT name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let mut query = connection.prepare(sql)?;
    Ok(query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<rusqlite::Result<_>>()?)
}
