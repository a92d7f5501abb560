//! Files that a person saves from the window.

use domain::{ApiError, ErrorCode};
use std::{io::ErrorKind, path::Path};

/// The last part of a suggested name, so that a name from elsewhere can never lead out of a folder.
pub fn plain_name(suggested: &str) -> String {
    let name: String = suggested.rsplit(['/', '\\']).next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    if name.is_empty() || name == "." || name == ".." { "inkling.txt".to_owned() } else { name }
}

/// Writes where the person chose to.
///
/// # Errors
/// `DiskFull` or `Storage`, with the path.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), ApiError> {
    std::fs::write(path, bytes).map_err(|error| {
        let shown = path.display();
        match error.kind() {
            ErrorKind::StorageFull => ApiError::new(ErrorCode::DiskFull, format!("There is no room left to save {shown}."))
                .hint("Free some space or choose another folder. The text is still in Inkling."),
            _ => ApiError::new(ErrorCode::Storage, format!("{shown} could not be saved: {error}."))
                .hint("Choose another folder. The text is still in Inkling."),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggested_name_never_leads_out_of_the_folder() {
        for (suggested, name) in [
            ("story.txt", "story.txt"),
            ("../../etc/passwd", "passwd"),
            ("C:\\windows\\x.md", "x.md"),
            ("..", "inkling.txt"),
            ("a/", "inkling.txt"),
            ("", "inkling.txt"),
            ("line\nbreak.txt", "linebreak.txt"),
        ] {
            assert_eq!(plain_name(suggested), name, "for {suggested:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_says_so_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = write(&folder.path().join("missing").join("story.txt"), b"text").unwrap_err();
        assert_eq!(error.code, ErrorCode::Storage);
        assert!(error.hint.is_some(), "a person can choose another folder");
    }
}
