//! A member of the ensemble on another machine: a server that speaks OpenAI's API and that the person entered.
//!
//! Its key is kept in a file of its own with the mode 0600: not in the database, so not in backups, exports or logs.

use crate::folder::{self, DataFolder};
use crate::{App, lock};
use domain::{ApiError, FieldFault, MemberKey, MemberView, Nothing, Settings};
use hub::{ChatRequest, ChatServer, ChatText, HubError};
use serde_json::{Map, Value};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

const LONGEST_KEY: usize = 4096;

/// How long the vote waits for the server once the local texts are there.
const PATIENCE: Duration = Duration::from_secs(60);

impl App {
    /// Where a candidate is asked for beside the local ones, if anywhere.
    pub fn member(&self, _: Nothing) -> Result<MemberView, ApiError> {
        let home = self.home();
        let settings = home.store.settings()?;
        let key_set = key(&home.folder)?.is_some();
        let server = self.chat_server(&settings)?;
        Ok(MemberView {
            host: server.as_ref().map(ChatServer::host),
            model: settings.member_model,
            key_set,
            inside: server.is_some_and(|server| server.is_inside()),
        })
    }

    /// Keeps the key of that server, or forgets it.
    ///
    /// # Errors
    /// `InvalidInput` for what cannot be a key.
    pub fn set_member_key(&self, key: MemberKey) -> Result<MemberView, ApiError> {
        let key = key.key.trim();
        if key.len() > LONGEST_KEY || !key.chars().all(|letter| letter.is_ascii_graphic()) {
            return Err(ApiError::field("key", "This cannot be a key: it must be letters, digits and signs on one line."));
        }
        let _one_at_a_time = lock(&self.settings);
        keep_key(&self.home().folder, key)?;
        self.member(Nothing {})
    }

    /// The server, if one is entered.
    pub(crate) fn chat_server(&self, settings: &Settings) -> Result<Option<ChatServer>, ApiError> {
        if settings.member_url.trim().is_empty() {
            return Ok(None);
        }
        let key = key(&self.home().folder)?;
        Ok(Some(ChatServer::new(&settings.member_url, &settings.member_model, key.as_deref())?))
    }
}

/// What is wrong with the settings of the server in an update.
pub(crate) fn faults(update: &Map<String, Value>) -> Vec<FieldFault> {
    let address = update.get("memberUrl").and_then(Value::as_str).filter(|address| !address.trim().is_empty());
    let fault = address.and_then(|address| ChatServer::new(address, "", None).err());
    fault.map(|error| FieldFault { field: "memberUrl".to_owned(), message: error.to_string() }).into_iter().collect()
}

pub(crate) fn key(folder: &DataFolder) -> Result<Option<String>, ApiError> {
    let path = folder.member_key();
    match std::fs::read_to_string(&path) {
        Ok(key) => Ok(Some(key.trim().to_owned()).filter(|key| !key.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(folder::storage(&path, &error)),
    }
}

/// Writes the key whole or not at all, readable by this person only from its first byte on; an empty one removes the file.
pub(crate) fn keep_key(folder: &DataFolder, key: &str) -> Result<(), ApiError> {
    let path = folder.member_key();
    if key.is_empty() {
        return match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(folder::storage(&path, &error)),
            _ => Ok(()),
        };
    }
    let temporary = path.with_extension("key-partial");
    let _ = std::fs::remove_file(&temporary);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&temporary).and_then(|mut file| {
        file.write_all(key.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)
    });
    written.map_err(|error| folder::storage(&path, &error))
}

/// A text that is being written elsewhere while the local ones are written here.
pub(crate) struct Asked<'scope> {
    stop: Arc<AtomicBool>,
    pieces: Receiver<String>,
    answer: ScopedJoinHandle<'scope, Result<ChatText, HubError>>,
}

impl<'scope> Asked<'scope> {
    pub fn start<'env>(scope: &'scope Scope<'scope, 'env>, server: &'env ChatServer, request: ChatRequest) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, pieces) = channel();
        let wish = stop.clone();
        let answer = scope.spawn(move || {
            // Nobody listens any more only when the writing is over.
            server.complete(&request, &wish, &mut |piece| drop(sender.send(piece.to_owned())))
        });
        Self { stop, pieces, answer }
    }

    /// Hands over what has come meanwhile, and the wish to stop.
    pub fn pass_on(&self, flag: &AtomicBool, on_text: &mut dyn FnMut(String)) {
        if flag.load(Ordering::Relaxed) {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.pieces.try_iter().for_each(on_text);
    }

    /// Waits for the end of the text.
    pub fn finish(self, flag: &AtomicBool, on_text: &mut dyn FnMut(String)) -> Result<ChatText, HubError> {
        let until = Instant::now() + PATIENCE;
        while !self.answer.is_finished() {
            self.pass_on(flag, on_text);
            if Instant::now() > until {
                self.stop.store(true, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.pass_on(flag, on_text);
        let broken = |_| HubError::Unreachable { host: "The server".to_owned(), reason: "asking it failed".to_owned() };
        self.answer.join().unwrap_or_else(|panicked| Err(broken(panicked)))
    }
}
