//! Embeds the built UI (`ui/dist`) as a table of bytes. Without a built UI the table is empty and the crate still compiles.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let variable = |name| env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other(format!("cargo sets {name}")));
    let dist = variable("CARGO_MANIFEST_DIR")?.join("../../../ui/dist");
    // Made when it is missing: cargo would otherwise run this at every build, since a missing file counts as changed.
    fs::create_dir_all(&dist)?;
    println!("cargo::rerun-if-changed={}", dist.display());
    let mut table = String::from("pub(crate) const FILES: &[(&str, &[u8])] = &[\n");
    list(&fs::canonicalize(&dist)?, "", &mut table)?;
    table.push_str("];\n");
    fs::write(variable("OUT_DIR")?.join("ui_files.rs"), table)
}

/// Adds every file below `folder` as `(path from the root, include_bytes!(…))`, in order of name so that builds repeat.
fn list(folder: &Path, prefix: &str, table: &mut String) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{prefix}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &name, table)?;
        } else {
            let _ = writeln!(table, "    ({name:?}, include_bytes!({:?})),", entry.path());
        }
    }
    Ok(())
}
