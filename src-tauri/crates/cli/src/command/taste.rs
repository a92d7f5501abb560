//! `inkling taste` and `inkling train preference`

use crate::args::TasteAction;
use crate::backend::Backend;
use crate::output::{Printer, table};
use app::calls::call;
use domain::{ApiError, ErrorCode, Nothing, TasteCard, TasteQuestion, TasteTraining, TasteVersionRef};

pub fn run(action: Option<TasteAction>, backend: &Backend, printer: &Printer) -> Result<(), ApiError> {
    match action {
        None => show(backend, printer),
        Some(TasteAction::Versions) => versions(backend, printer),
        Some(TasteAction::Restore { version }) => {
            let card = backend.call::<call::RestoreTaste>(TasteVersionRef { version })?;
            printer.result(&card, || format!("Back at version {version}. {}", in_words(&card)));
            Ok(())
        }
        Some(TasteAction::Score { text }) => score(text, backend, printer),
    }
}

fn versions(backend: &Backend, printer: &Printer) -> Result<(), ApiError> {
    let versions = backend.call::<call::TasteVersions>(Nothing {})?;
    printer.result(&versions, || {
        let mut rows = vec![["", "version", "made", "verdicts", "AUC", "votes"].map(str::to_owned).to_vec()];
        rows.extend(versions.iter().map(|one| {
            let yes = |yes: bool, word: &str| if yes { word.to_owned() } else { String::new() };
            let auc = one.summary.auc.map_or("–".to_owned(), |auc| format!("{auc:.2}"));
            let made = one.created_at.0.clone();
            vec![
                yes(one.current, "*"),
                one.version.to_string(),
                made,
                one.summary.thumbs.to_string(),
                auc,
                yes(one.summary.confident, "yes"),
            ]
        }));
        table(&rows)
    });
    Ok(())
}

fn score(text: String, backend: &Backend, printer: &Printer) -> Result<(), ApiError> {
    let completion = if text == "-" {
        std::io::read_to_string(std::io::stdin())
            .map_err(|error| ApiError::new(ErrorCode::InvalidInput, format!("Standard input cannot be read: {error}.")))?
    } else {
        text
    };
    let score = backend.call::<call::ScoreTaste>(TasteQuestion { prompt: String::new(), completion })?;
    printer.result(&score, || {
        let doubt = if score.confident { "" } else { "; no taste is found yet, so this says little" };
        format!("You would like it with probability {:.2}{doubt}.", score.score)
    });
    Ok(())
}

fn show(backend: &Backend, printer: &Printer) -> Result<(), ApiError> {
    let card = backend.call::<call::Taste>(Nothing {})?;
    printer.result(&card, || in_words(&card));
    Ok(())
}

pub fn train(epochs: u32, max_vocab: u32, lr: f64, backend: &Backend, printer: &Printer) -> Result<(), ApiError> {
    let trained = backend.call::<call::TrainTaste>(TasteTraining { epochs, max_vocab, lr })?;
    printer.result(&trained, || {
        let auc = trained.auc.map_or("too few to measure".to_owned(), |auc| format!("AUC {auc:.2} on verdicts not seen"));
        format!("Learned from {} verdicts: {auc}. The model is in {}.", trained.examples, trained.model_path)
    });
    Ok(())
}

fn in_words(card: &TasteCard) -> String {
    let mut lines = vec![card.sentence.clone()];
    for (name, words) in [("Likes", &card.likes), ("Dislikes", &card.dislikes), ("Not sure", &card.unsure)] {
        if !words.is_empty() {
            lines.push(format!("{name}: {}", words.join(", ")));
        }
    }
    lines.push(format!("From {} verdicts: {} texts liked, {} disliked.", card.summary.thumbs, card.liked_texts, card.disliked_texts));
    lines.join("\n")
}
