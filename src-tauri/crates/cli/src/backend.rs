//! Where a command runs: in this process when it owns the data folder, else in the owner, over its socket.

use crate::interrupt::Interrupt;
use crate::output::Printer;
use app::calls::Call;
use app::{App, OpenOptions, Opened};
use domain::{ApiError, ErrorCode, Event, WriteEvent, WriteRequest, WriteResult};
use http::{Client, EventStream, ServedSocket, serve_socket};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, Runtime};

/// One of the two places; both offer the same calls.
pub struct Backend {
    place: Place,
    interrupt: OnceLock<Interrupt>,
    // Last, so that what runs on it is dropped before.
    runtime: Runtime,
}

enum Place {
    Local {
        app: Arc<App>,
        socket: Option<ServedSocket>,
    },
    /// The stream is not read: while it is open, the owner does not end by itself.
    Remote {
        client: Client,
        pid: u32,
        _joined: EventStream,
    },
}

/// How long an owner may take to answer: it may be starting, or ending.
const PATIENCE: Duration = Duration::from_secs(4);

impl Backend {
    /// Opens the data folder here, or reaches the process that holds it.
    ///
    /// # Errors
    /// What opening reports, and `Busy` with the holder's pid when it does not answer.
    pub fn open(data_dir: Option<PathBuf>) -> Result<Self, ApiError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(ApiError::internal)?;
        let started = Instant::now();
        loop {
            match App::open(OpenOptions { data_dir: data_dir.clone(), assets_dir: None, defer_jobs: true, hub: None })? {
                Opened::Owner(app) => {
                    let socket = runtime.block_on(serve_socket(app.clone(), &app.socket_path()));
                    // Without it this command still works; only others cannot hand theirs over.
                    let socket = socket.inspect_err(|error| tracing::warn!(message = error.message, "no socket")).ok();
                    return Ok(Self { place: Place::Local { app, socket }, interrupt: OnceLock::new(), runtime });
                }
                Opened::HeldBy(holder) => {
                    let client = Client::new(&holder.socket);
                    match runtime.block_on(client.join()) {
                        Ok(joined) => {
                            let place = Place::Remote { client, pid: holder.pid, _joined: joined };
                            return Ok(Self { place, interrupt: OnceLock::new(), runtime });
                        }
                        Err(_) if started.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(100)),
                        Err(error) => return Err(held(holder.pid, &error)),
                    }
                }
            }
        }
    }

    /// The process that runs the calls, when it is another one.
    pub fn owner(&self) -> Option<u32> {
        match &self.place {
            Place::Local { .. } => None,
            Place::Remote { pid, .. } => Some(*pid),
        }
    }

    pub fn local(&self) -> Option<&Arc<App>> {
        match &self.place {
            Place::Local { app, .. } => Some(app),
            Place::Remote { .. } => None,
        }
    }

    pub fn runtime(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Ctrl-C, which from now on is a wish that the command answers.
    pub fn interrupt(&self) -> &Interrupt {
        self.interrupt.get_or_init(|| Interrupt::watch(self.runtime()))
    }

    pub fn call<C: Call>(&self, input: C::Input) -> Result<C::Output, ApiError> {
        match &self.place {
            Place::Local { app, .. } => C::run(app, input),
            Place::Remote { client, .. } => self.runtime.block_on(client.call::<C>(input)),
        }
    }

    pub fn write_streaming(&self, request: WriteRequest, on_event: &mut dyn FnMut(WriteEvent)) -> Result<WriteResult, ApiError> {
        match &self.place {
            Place::Local { app, .. } => app.write_streaming(request, on_event),
            Place::Remote { client, .. } => self.runtime.block_on(client.write_streaming(&request, on_event)),
        }
    }

    /// Changes from now on. The receiver is cut off when the owner ends.
    pub fn subscribe(&self) -> Result<Receiver<Event>, ApiError> {
        match &self.place {
            Place::Local { app, .. } => Ok(app.subscribe()),
            Place::Remote { client, .. } => {
                let mut stream = self.runtime.block_on(client.events(None))?;
                let (sender, receiver) = sync_channel(4096);
                self.runtime.spawn(async move {
                    // A full channel loses events, as in the owner: whoever listens catches up by calls.
                    while let Ok(Some(event)) = stream.next().await {
                        if let Err(std::sync::mpsc::TrySendError::Disconnected(_)) = sender.try_send(event) {
                            return;
                        }
                    }
                });
                Ok(receiver)
            }
        }
    }

    /// Ends this process's part. Commands of others that run here are let finish first, unless Ctrl-C is pressed.
    pub fn close(self, printer: &Printer) {
        self.wait_for_others(printer);
        let Self { place, runtime, .. } = self;
        if let Place::Local { app, socket } = place {
            if let Some(socket) = socket {
                runtime.block_on(socket.finish());
            }
            app.shutdown();
        }
        runtime.shutdown_timeout(Duration::from_millis(200));
    }

    fn wait_for_others(&self, printer: &Printer) {
        let Place::Local { socket: Some(socket), .. } = &self.place else { return };
        let started = Instant::now();
        let mut said = false;
        while socket.in_flight() > 0 && !self.interrupt().asked() {
            if !said && started.elapsed() > Duration::from_secs(1) {
                printer.remark("Another inkling command runs in this one; waiting for it. Ctrl-C stops both.");
                said = true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn held(pid: u32, error: &ApiError) -> ApiError {
    ApiError::new(ErrorCode::Busy, format!("Another Inkling (process {pid}) holds your data folder and does not answer."))
        .hint(format!("Close it, or end process {pid}, then try again. {}", error.message))
}
