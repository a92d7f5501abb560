//! The desktop shell: one window over [`app::App`]. It knows Tauri and nothing of writing, training or storing;
//! everything that the window asks for goes through the table of calls in `app::calls`.

#![cfg_attr(not(debug_assertions), windows_subsystem = "windows")]

#[macro_use]
mod command_list;
mod batch;
mod commands;
mod files;
mod shell;
mod window;

use shell::Shell;
use std::{process::ExitCode, sync::Arc, time::Instant};
use tauri::{AppHandle, Manager, RunEvent};

fn main() -> ExitCode {
    let started = Instant::now();
    choose_dependable_rendering();
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).with_writer(std::io::stderr).init();
    if !has_display() {
        eprintln!("There is no display here. Use `inkling serve` and a browser, or the `inkling` command, instead.");
        return ExitCode::FAILURE;
    }
    match run(started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("The window could not be opened: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(started: Instant) -> tauri::Result<()> {
    macro_rules! handler {
        ($($name:ident),* $(,)?) => { tauri::generate_handler![$(commands::$name),*] };
    }
    let desktop = tauri::Builder::default()
        // First, so that a second start ends before it has opened anything.
        .plugin(single_instance())
        .plugin(tauri_plugin_window_state::Builder::new().with_state_flags(window::remembered()).build())
        .plugin(tauri_plugin_dialog::init())
        .invoke_handler(for_each_command!(handler))
        .setup(move |desktop| {
            let shell = Arc::new(Shell::new(started));
            desktop.manage(Arc::clone(&shell));
            // The data folder opens while the web view starts; the first call waits for it.
            std::thread::spawn(move || match shell.app() {
                Ok(app) => app.warm_up(),
                Err(reason) => tracing::error!(code = ?reason.code, "{reason}"),
            });
            end_when_told(desktop.handle());
            window::open(desktop.handle(), started)?;
            Ok(())
        })
        .build(tauri::generate_context!())?;
    desktop.run(|desktop, event| {
        // The last window is gone. A training gets to its next checkpoint off the event loop, then the process ends.
        if let RunEvent::ExitRequested { code: None, api, .. } = event {
            api.prevent_exit();
            end(desktop.clone());
        }
    });
    Ok(())
}

/// Gets a training to its next checkpoint, releases the data folder, ends the process.
fn end(desktop: AppHandle) {
    std::thread::spawn(move || {
        desktop.state::<Arc<Shell>>().close();
        desktop.exit(0);
    });
}

/// The end of the person's session arrives as a signal, not as a closed window.
#[cfg(unix)]
fn end_when_told(desktop: &AppHandle) {
    use tokio::signal::unix::{SignalKind, signal};
    let desktop = desktop.clone();
    tauri::async_runtime::spawn(async move {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                terminate.recv().await;
                end(desktop);
            }
            Err(error) => tracing::warn!(%error, "the end of the session will not be noticed"),
        }
    });
}

#[cfg(not(unix))]
fn end_when_told(_desktop: &AppHandle) {}

/// Brings the window that is already there to the front. Without a session bus every start is a first one, and the
/// lock of the data folder decides.
fn single_instance() -> tauri::plugin::TauriPlugin<tauri::Wry> {
    let mut plugin = tauri_plugin_single_instance::Builder::new().callback(|desktop, _arguments, _folder| window::focus(desktop));
    // Another data folder is another Inkling.
    if let Some(home) = std::env::var_os("INKLING_HOME") {
        let mut name = String::from("org.inkling.Inkling.Home");
        name.extend(home.as_encoded_bytes().iter().map(|byte| format!("{byte:02x}")));
        // A bus name holds at most 255 characters, of which the plugin needs some.
        name.truncate(220);
        plugin = plugin.dbus_id(name);
    }
    plugin.build()
}

/// Some Linux graphics drivers show a blank window with WebKit's DMABUF renderer.
fn choose_dependable_rendering() {
    const SWITCH: &str = "WEBKIT_DISABLE_DMABUF_RENDERER";
    if cfg!(target_os = "linux") && std::env::var_os(SWITCH).is_none() {
        // SAFETY: this is the first thing that the process does; there is no other thread yet.
        unsafe { std::env::set_var(SWITCH, "1") };
    }
}

fn has_display() -> bool {
    !cfg!(target_os = "linux")
        || ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}
