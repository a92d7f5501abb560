//! `inkling` alone: opens the window, or says what to do without one.

use domain::{ApiError, ErrorCode};
use std::env;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// The window's own program.
const PROGRAM: &str = "inkling-desktop";

/// Becomes the window's program.
///
/// # Errors
/// `NotReady` without a display or without that program, with what works instead.
pub fn open() -> Result<ExitCode, ApiError> {
    let display = ["WAYLAND_DISPLAY", "DISPLAY"].iter().any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()));
    if !display {
        return Err(instead("There is no display to open a window on."));
    }
    let program = find().ok_or_else(|| instead(&format!("The window's program, {PROGRAM}, is not installed beside this one.")))?;
    // Returns only when it fails.
    let error = Command::new(&program).exec();
    Err(instead(&format!("{} could not be started: {error}.", program.display())))
}

fn find() -> Option<PathBuf> {
    let beside = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
    let paths = env::var_os("PATH").unwrap_or_default();
    beside.into_iter().chain(env::split_paths(&paths)).map(|folder| folder.join(PROGRAM)).find(|path| path.is_file())
}

fn instead(message: &str) -> ApiError {
    ApiError::new(ErrorCode::NotReady, message)
        .hint("`inkling serve` opens Inkling in a browser; `inkling write \"…\"` writes right here; `inkling --help` lists the rest.")
}
