//! SQLite: open, migrate, back up, change log; one file per table
