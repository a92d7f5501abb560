//! `inkling`: the terminal surface. It knows only `app`, `domain` and `http`, and needs no web view.
//!
//! A command runs in this process when it owns the data folder, and in the owner otherwise (see [`backend`]). Every
//! command prints for people, or exactly one JSON object (`train`: JSON lines) with `--json`. Exit codes: 0 done,
//! 1 not done, 2 input that cannot be used.

#![forbid(unsafe_code)]

mod args;
mod backend;
mod command;
mod interrupt;
mod output;

use args::Args;
use clap::Parser;
use clap::error::ErrorKind;
use domain::{ApiError, ErrorCode};
use output::Printer;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("INKLING_LOG").unwrap_or_else(|_| "error".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let words = with_alias(std::env::args_os().collect());
    // Known before the rest is parsed, so that a mistake in the rest is answered in the wanted form too.
    let json = words.iter().any(|word| word == "--json");
    let args = match Args::try_parse_from(words) {
        Ok(args) => args,
        Err(error) => return unusable(&error, json),
    };
    let printer = Printer::new(args.global.json, args.global.quiet);
    match command::run(args, &printer) {
        Ok(code) => code,
        Err(error) => {
            printer.error(&error);
            ExitCode::from(error.code.exit_code())
        }
    }
}

/// The program under its old names: `train_soft_prompt …` is `inkling train soft-prompt …`, `train_adapter …` is
/// `inkling train adapter …`.
fn with_alias(mut words: Vec<OsString>) -> Vec<OsString> {
    let name = words.first().and_then(|first| Path::new(first).file_stem()).map(OsString::from);
    let second = words.get(1).cloned();
    for (alias, command) in [("train_soft_prompt", "soft-prompt"), ("train_adapter", "adapter")] {
        if name.as_ref().is_some_and(|name| name == alias) {
            words.splice(1..1, ["train".into(), command.into()]);
            break;
        }
        if second.as_ref().is_some_and(|second| second == alias) {
            words.splice(1..2, ["train".into(), command.into()]);
            break;
        }
    }
    words
}

/// What the command line itself does not allow.
fn unusable(error: &clap::Error, json: bool) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) || !json {
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    let text = error.render().to_string();
    let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let error = ApiError::new(ErrorCode::InvalidInput, message).hint("`inkling --help` lists the commands and their options.");
    Printer::new(true, false).error(&error);
    ExitCode::from(2)
}
