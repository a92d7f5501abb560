//! What the page may ask the shell for. Listed in `command_list.rs`, allowed in `capabilities/main.json`.

use crate::{batch, files, shell::Shell};
use base64::Engine;
use domain::{ApiError, ErrorCode, Event, WriteEvent, WriteRequest, WriteResult};
use serde_json::Value;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tauri::{AppHandle, State, ipc::Channel};
use tauri_plugin_dialog::DialogExt;

/// One message per token would cost more than the tokens; at this pace the eye sees a steady flow.
const WRITE_PACE: Duration = Duration::from_millis(40);
/// Charts and lists redraw at most ten times a second.
const EVENT_PACE: Duration = Duration::from_millis(100);

type Shared<'a> = State<'a, Arc<Shell>>;

/// Runs any call of the table by its name.
#[tauri::command]
pub async fn call(shell: Shared<'_>, name: String, input: Option<Value>) -> Result<Value, ApiError> {
    let shell = Arc::clone(&shell);
    off_the_window(move || app::calls::run_by_name(&*shell.app()?, &name, input.unwrap_or_default())).await
}

/// Writes, with the text as it grows in `channel`; cancelled through the call `cancel_write`.
#[tauri::command]
pub async fn write_stream(shell: Shared<'_>, request: WriteRequest, channel: Channel<Vec<WriteEvent>>) -> Result<WriteResult, ApiError> {
    let shell = Arc::clone(&shell);
    off_the_window(move || {
        let app = shell.app()?;
        // A page that is gone cannot be told; the text is stored all the same.
        let mut batches = batch::Tokens::new(WRITE_PACE, |events| drop(channel.send(events)));
        let result = app.write_streaming(request, &mut |event| batches.push(event));
        batches.flush();
        result
    })
    .await
}

/// Sends what changed after `after`, then every change as it happens, in batches.
#[tauri::command]
pub async fn subscribe(shell: Shared<'_>, channel: Channel<Vec<Event>>, after: Option<u32>) -> Result<(), ApiError> {
    let shell = Arc::clone(&shell);
    off_the_window(move || {
        let app = shell.app()?;
        // The receiver first: a change between the two would be lost the other way round. It may come twice instead.
        let receiver = app.subscribe();
        if let Some(after) = after {
            let missed = app.changes_after(after)?;
            if !missed.is_empty() {
                drop(channel.send(missed));
            }
        }
        let number = shell.next_subscription();
        std::thread::spawn(move || {
            batch::forward(&receiver, EVENT_PACE, || shell.is_current(number), |events| channel.send(events).is_ok())
        });
        Ok(())
    })
    .await
}

/// Asks where to save a text. `None` when the person changed their mind.
#[tauri::command]
pub async fn save_text(desktop: AppHandle, file_name: String, text: String) -> Result<Option<String>, ApiError> {
    save(desktop, file_name, text.into_bytes()).await
}

/// Asks where to save a file that is not text, such as a chart. `None` when the person changed their mind.
#[tauri::command]
pub async fn save_bytes(desktop: AppHandle, file_name: String, base64: String) -> Result<Option<String>, ApiError> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(base64)
        .map_err(|error| ApiError::field("base64", format!("This is not base64: {error}.")))?;
    save(desktop, file_name, bytes).await
}

/// Asks for a folder. `None` when the person changed their mind.
#[tauri::command]
pub async fn open_folder_dialog(desktop: AppHandle) -> Result<Option<String>, ApiError> {
    off_the_window(move || {
        let chosen = desktop.dialog().file().blocking_pick_folder();
        Ok(chosen.and_then(|folder| folder.into_path().ok()).map(|folder| saved(&folder)))
    })
    .await
}

/// The page can be used from now on.
#[tauri::command]
pub fn page_ready(shell: Shared<'_>) {
    crate::window::trace("page ready", shell.started);
}

async fn save(desktop: AppHandle, file_name: String, bytes: Vec<u8>) -> Result<Option<String>, ApiError> {
    off_the_window(move || {
        let name = files::plain_name(&file_name);
        let chosen = match std::env::var_os("INKLING_SAVE_DIR") {
            // Tests cannot click in the system's dialog.
            Some(folder) => Some(PathBuf::from(folder).join(name)),
            None => desktop.dialog().file().set_file_name(name).blocking_save_file().and_then(|path| path.into_path().ok()),
        };
        chosen.map(|path| files::write(&path, &bytes).map(|()| saved(&path))).transpose()
    })
    .await
}

fn saved(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Use cases block; the window must not. A panic in one becomes an error of that call only.
async fn off_the_window<T: Send + 'static>(work: impl FnOnce() -> Result<T, ApiError> + Send + 'static) -> Result<T, ApiError> {
    tauri::async_runtime::spawn_blocking(work)
        .await
        .unwrap_or_else(|_panic| Err(ApiError::new(ErrorCode::Internal, "This could not be finished. What you wrote is safe.")))
}
