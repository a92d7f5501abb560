//! Moving the data folder while the app is open.

use crate::folder::{self, DataFolder, FolderLock, Taken};
use crate::{App, Home};
use domain::{ApiError, ErrorCode};
use std::path::Path;
use std::sync::Arc;
use store::Store;

/// Copies everything to `to`, opens it there, and swaps: calls under way finish on the old folder.
pub(crate) fn relocate(app: &App, to: &Path) -> Result<(), ApiError> {
    let old = app.home();
    check_target(&old, to)?;
    if app.downloads.busy() {
        return Err(ApiError::new(ErrorCode::Conflict, "A base is being downloaded; its files cannot be moved now.")
            .hint("Pause it under Activity, or wait until it ends."));
    }
    if app.worker.busy() {
        return Err(ApiError::new(ErrorCode::Conflict, "A training is running; its files cannot be moved now.")
            .hint("Pause it under Activity, or wait until it ends."));
    }
    let target = DataFolder::at(to.to_owned());
    target.create()?;
    let Taken::Ours(lock) = FolderLock::take(&target, &app.socket)? else {
        return Err(ApiError::new(ErrorCode::Busy, "Another Inkling uses that folder.").hint("Choose another folder."));
    };
    copy(&old.folder.runs(), &target.runs())?;
    copy(&old.folder.adapters(), &target.adapters())?;
    copy(&old.folder.bases(), &target.bases())?;
    if let Some(key) = crate::member::key(&old.folder)? {
        crate::member::keep_key(&target, &key)?;
    }
    old.store.backup_to(&target.root().join("inkling.db"))?;
    let (store, _) = Store::open(target.root())?;
    app.events.forward(store.subscribe());
    folder::remember_data_folder(target.root())?;
    let home = Arc::new(Home { folder: target, store, _lock: lock });
    *app.home.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = home;
    Ok(())
}

fn check_target(old: &Home, to: &Path) -> Result<(), ApiError> {
    let refuse = |message: &str| Err(ApiError::field("path", message.to_owned()).hint("Choose an empty folder elsewhere."));
    if !to.is_absolute() {
        return refuse("The path must be absolute, from the root on.");
    }
    if to.starts_with(old.folder.root()) || old.folder.root().starts_with(to) {
        return refuse("The new folder may not lie inside the old one, or the old one inside it.");
    }
    match std::fs::read_dir(to) {
        Ok(mut entries) => match entries.next() {
            Some(_) => refuse("That folder is not empty."),
            None => Ok(()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(folder::storage(to, &error)),
    }
}

/// Copies a folder with its folders and links; links stay links.
fn copy(from: &Path, to: &Path) -> Result<(), ApiError> {
    std::fs::create_dir_all(to).map_err(|error| folder::storage(to, &error))?;
    for entry in std::fs::read_dir(from).map_err(|error| folder::storage(from, &error))? {
        let entry = entry.map_err(|error| folder::storage(from, &error))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(|error| folder::storage(&source, &error))?;
        if kind.is_dir() {
            copy(&source, &target)?;
        } else if kind.is_symlink() {
            #[cfg(unix)]
            std::fs::read_link(&source)
                .and_then(|leads_to| std::os::unix::fs::symlink(leads_to, &target))
                .map_err(|error| folder::storage(&target, &error))?;
        } else {
            std::fs::copy(&source, &target).map_err(|error| folder::storage(&target, &error))?;
        }
    }
    Ok(())
}
