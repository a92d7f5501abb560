//! Training data as JSON lines that TRL reads (its prompt–completion, unpaired preference and preference formats).

use crate::dataset::JudgedText;
use crate::{App, folder};
use domain::{ApiError, ErrorCode, ExportKind, ExportedFile, TrainingExport, TrainingExported};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The kinds of which `All` is made.
const KINDS: [ExportKind; 3] = [ExportKind::Sft, ExportKind::Kto, ExportKind::Dpo];

#[derive(Serialize)]
struct SftRow<'a> {
    prompt: &'a str,
    completion: &'a str,
}

#[derive(Serialize)]
struct KtoRow<'a> {
    prompt: &'a str,
    completion: &'a str,
    label: bool,
}

#[derive(Serialize)]
struct DpoRow<'a> {
    prompt: &'a str,
    chosen: &'a str,
    rejected: &'a str,
}

impl App {
    /// Writes what trainings learn from as JSON lines, each file whole or not at all. Prompts are the person's own words, without
    /// the built-in base's format, so that the data fits any base. Kinds without rows give no file.
    ///
    /// # Errors
    /// `NotReady` when there is nothing of what was asked for, `InvalidInput` without a path, `Storage` or `DiskFull`.
    pub fn export_training(&self, export: TrainingExport) -> Result<TrainingExported, ApiError> {
        if export.out_path.trim().is_empty() {
            return Err(
                ApiError::field("out_path", "No place was named to export to.").hint("Name a folder, or a file that ends in .jsonl.")
            );
        }
        let home = self.home();
        let judged: Vec<JudgedText> = home.store.feedback_for_taste()?.into_iter().map(JudgedText::from).collect();
        let pairs = self.pairs_to_learn(&home.store.settings()?, &judged)?;
        let wanted = if export.kind == ExportKind::All { KINDS.to_vec() } else { vec![export.kind] };
        let mut files = Vec::new();
        for kind in wanted {
            let lines: Vec<String> = match kind {
                ExportKind::Sft => {
                    let liked = judged.iter().filter(|text| text.liked);
                    lines(liked.map(|text| SftRow { prompt: &text.prompt, completion: &text.text }))?
                }
                ExportKind::Kto => {
                    lines(judged.iter().map(|text| KtoRow { prompt: &text.prompt, completion: &text.text, label: text.liked }))?
                }
                ExportKind::Dpo | ExportKind::All => {
                    lines(pairs.iter().map(|pair| DpoRow { prompt: &pair.prompt, chosen: &pair.better, rejected: &pair.worse }))?
                }
            };
            if lines.is_empty() {
                continue;
            }
            let path = place(Path::new(export.out_path.trim()), kind, export.kind == ExportKind::All);
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                std::fs::create_dir_all(parent).map_err(|error| folder::storage(parent, &error))?;
            }
            folder::write_whole(&path, format!("{}\n", lines.join("\n")).as_bytes())?;
            files.push(ExportedFile { kind, path: path.display().to_string(), rows: lines.len() as u32 });
        }
        if files.is_empty() {
            let what = match export.kind {
                ExportKind::Sft => "no text has a thumb up",
                ExportKind::Dpo => "there are no pairs",
                _ => "no text has a thumb",
            };
            return Err(ApiError::new(ErrorCode::NotReady, format!("There is nothing to export yet: {what}."))
                .hint("Give a few texts a thumb up or down first."));
        }
        Ok(TrainingExported { ok: true, files })
    }
}

fn lines<T: Serialize>(rows: impl Iterator<Item = T>) -> Result<Vec<String>, ApiError> {
    rows.map(|row| serde_json::to_string(&row).map_err(ApiError::internal)).collect()
}

/// `out` itself for one kind and a file; `out-sft.jsonl` beside it for several; `out/sft.jsonl` for a folder.
fn place(out: &Path, kind: ExportKind, several: bool) -> PathBuf {
    let name = match kind {
        ExportKind::Sft => "sft",
        ExportKind::Kto => "kto",
        ExportKind::Dpo | ExportKind::All => "dpo",
    };
    let is_file = out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"));
    match (is_file, several) {
        (true, false) => out.to_owned(),
        (true, true) => {
            let stem = out.file_stem().unwrap_or_default().to_string_lossy();
            out.with_file_name(format!("{stem}-{name}.jsonl"))
        }
        (false, _) => out.join(format!("{name}.jsonl")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_as_it_is_and_becomes_a_stem_for_several_kinds() {
        for (out, several, wanted) in [
            ("mine.jsonl", false, "mine.jsonl"),
            ("to/mine.jsonl", true, "to/mine-kto.jsonl"),
            ("folder", false, "folder/kto.jsonl"),
            ("folder", true, "folder/kto.jsonl"),
        ] {
            assert_eq!(place(Path::new(out), ExportKind::Kto, several), Path::new(wanted), "{out}");
        }
    }
}
