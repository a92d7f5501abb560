//! `inkling serve`

use crate::args::Serve;
use crate::backend::Backend;
use crate::output::Printer;
use app::calls::call;
use domain::{ApiError, ErrorCode, Nothing};
use http::ServeOptions;
use serde::Serialize;
use std::time::Duration;

/// The first line of `inkling serve --json`.
#[derive(Serialize)]
struct Served<'a> {
    address: String,
    token: &'a str,
}

/// Serves until Ctrl-C.
///
/// # Errors
/// `Busy` when another process owns the data folder: the server must run where the work is done.
pub fn run(options: Serve, backend: &Backend, printer: &Printer) -> Result<(), ApiError> {
    let Some(app) = backend.local() else {
        let pid = backend.owner().unwrap_or_default();
        return Err(ApiError::new(ErrorCode::Busy, format!("Another Inkling (process {pid}) holds your data folder already."))
            .hint("Close it first: it may be the window, or another `inkling serve`. Other commands work beside it."));
    };
    let port = match options.port {
        Some(port) => port,
        // The range of the setting is that of a port.
        None => u16::try_from(backend.call::<call::Settings>(Nothing {})?.server_port).map_err(ApiError::internal)?,
    };
    let interrupt = backend.interrupt();
    let options = ServeOptions { host: options.host, port, allow_network: options.allow_network };
    let bound = backend.runtime().block_on(http::serve(app.clone(), options))?;
    if let Some(warning) = &bound.warning {
        printer.remark(&format!("warning: {warning}"));
    }
    app.take_up_jobs();
    app.warm_up();
    printer.result(&Served { address: bound.url(), token: bound.token.as_str() }, || bound.url_with_token());
    printer.remark("Open this address in a browser on this machine. Ctrl-C stops.");
    while !interrupt.asked() {
        std::thread::sleep(Duration::from_millis(50));
    }
    backend.runtime().block_on(bound.stop());
    printer.remark("Stopped.");
    Ok(())
}
