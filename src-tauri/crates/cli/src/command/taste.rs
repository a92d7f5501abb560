//! `inkling taste` and `inkling train preference`

use crate::backend::Backend;
use crate::output::Printer;
use app::calls::call;
use domain::{ApiError, Nothing, TasteCard, TasteTraining};

pub fn show(backend: &Backend, printer: &Printer) -> Result<(), ApiError> {
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
