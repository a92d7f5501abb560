//! History: what was written, kept until the person removes it.

use crate::App;
use domain::{ApiError, CandidateExport, Done, ExportedText, GenerationDetail, GenerationPage, GenerationQuery, GenerationRef, TextFormat};
use store::StoredCandidate;

impl App {
    pub fn generations(&self, query: GenerationQuery) -> Result<GenerationPage, ApiError> {
        let limit = query.limit.unwrap_or(50);
        if !(1..=200).contains(&limit) {
            return Err(ApiError::field("limit", format!("limit is {limit}; it must be 1 to 200.")));
        }
        let search = query.search.as_deref().map(str::trim).filter(|words| !words.is_empty());
        Ok(self.home().store.generations(limit, query.before.as_ref(), search)?)
    }

    pub fn generation(&self, which: GenerationRef) -> Result<GenerationDetail, ApiError> {
        Ok(self.home().store.generation(&which.generation_id)?)
    }

    /// Takes a generation out of the history; it can be restored for 30 days.
    pub fn remove_generation(&self, which: GenerationRef) -> Result<Done, ApiError> {
        self.home().store.remove_generation(&which.generation_id)?;
        Ok(Done::OK)
    }

    pub fn restore_generation(&self, which: GenerationRef) -> Result<Done, ApiError> {
        self.home().store.restore_generation(&which.generation_id)?;
        Ok(Done::OK)
    }

    /// A text as the person last left it (an edit wins over the original), ready to be saved as a file.
    pub fn export_candidate(&self, export: CandidateExport) -> Result<ExportedText, ApiError> {
        let StoredCandidate { candidate, request, .. } = self.home().store.candidate(&export.candidate_id)?;
        let edited = candidate.feedback.as_ref().and_then(|feedback| feedback.edited_text.clone());
        let text = edited.unwrap_or(candidate.text);
        let name: String = request.prompt.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).take(48).collect();
        let name = name.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-").to_lowercase();
        let name = if name.is_empty() { "story".to_owned() } else { name };
        Ok(match export.format {
            TextFormat::Txt => ExportedText { file_name: format!("{name}.txt"), text: format!("{}\n", text.trim_end()) },
            TextFormat::Md => {
                let title = request.prompt.lines().next().unwrap_or_default().trim();
                ExportedText { file_name: format!("{name}.md"), text: format!("# {title}\n\n{}\n", text.trim_end()) }
            }
        })
    }
}
