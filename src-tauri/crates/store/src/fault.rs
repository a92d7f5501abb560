//! Failures on demand, for tests of what the layers above do when a disk fails.

use crate::{Result, StoreError};
use std::io;
use std::sync::Mutex;

/// How an armed write fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    DiskFull,
    ReadOnly,
    Io,
}

#[derive(Default)]
pub(crate) struct Faults {
    armed: Mutex<Option<(u32, Fault)>>,
}

impl Faults {
    pub(crate) fn arm(&self, nth: u32, fault: Fault) {
        *crate::lock(&self.armed) = Some((nth, fault));
    }

    /// Called before each commit; the armed one fails and rolls back, once.
    pub(crate) fn check(&self) -> Result<()> {
        let mut armed = crate::lock(&self.armed);
        match *armed {
            None => Ok(()),
            Some((nth, fault)) if nth > 1 => {
                *armed = Some((nth - 1, fault));
                Ok(())
            }
            Some((_, fault)) => {
                *armed = None;
                Err(match fault {
                    Fault::DiskFull => StoreError::DiskFull,
                    Fault::ReadOnly => StoreError::ReadOnly,
                    Fault::Io => StoreError::Io(io::Error::other("injected by a test")),
                })
            }
        }
    }
}
