//! `inkling write …`

use crate::args::Write;
use crate::backend::Backend;
use crate::interrupt::Interrupt;
use crate::output::{Printer, table};
use app::calls::call;
use domain::{
    AdapterChoice, AdapterId, ApiError, BaseId, Candidate, CandidateId, ErrorCode, FieldFault, GenerationId, GenerationRef, Genre,
    GenreMix, Style, WriteEvent, WriteRequest, WriteResult,
};
use std::io::Read;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Writes; Ctrl-C stops the generation, which keeps what it has.
pub fn run(write: Write, backend: &Backend, printer: &Printer) -> Result<ExitCode, ApiError> {
    let request = request(write)?;
    let interrupt = backend.interrupt();
    let generation: Mutex<Option<GenerationId>> = Mutex::new(None);
    let ended = AtomicBool::new(false);
    let mut screen = Screen { printer, written: false };
    let result = std::thread::scope(|scope| {
        scope.spawn(|| stop_when_asked(backend, interrupt, &generation, &ended));
        let result = backend.write_streaming(request, &mut |event| {
            if let WriteEvent::Started { generation_id, .. } = &event {
                *generation.lock().unwrap_or_else(PoisonError::into_inner) = Some(generation_id.clone());
            }
            screen.show(&event);
        });
        ended.store(true, Ordering::Release);
        result
    });
    screen.finish();
    let result = result?;
    if printer.json {
        printer.json_line(&result);
    } else {
        tell(&result, &screen);
    }
    Ok(if interrupt.asked() { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn stop_when_asked(backend: &Backend, interrupt: &Interrupt, generation: &Mutex<Option<GenerationId>>, ended: &AtomicBool) {
    while !ended.load(Ordering::Acquire) {
        if interrupt.asked()
            && let Some(generation_id) = generation.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            if let Err(error) = backend.call::<call::CancelWrite>(GenerationRef { generation_id }) {
                tracing::warn!(message = error.message, "the generation was not stopped");
            }
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The first candidate as it grows, for somebody who watches.
struct Screen<'a> {
    printer: &'a Printer,
    written: bool,
}

/// The candidate whose text is shown while it grows.
const LEADING: u32 = 0;

impl Screen<'_> {
    fn show(&mut self, event: &WriteEvent) {
        match event {
            WriteEvent::Started { notices, .. } => {
                notices.iter().for_each(|notice| self.printer.remark(&format!("note: {}", notice.message)))
            }
            WriteEvent::Retrying { member, n } => {
                self.printer.remark(&format!("\nThe best text has a low score; {member} writes {n} more."));
            }
            WriteEvent::Token { index: LEADING, text } if self.printer.watched() => {
                self.printer.piece(text);
                self.written = true;
            }
            _ => {}
        }
    }

    fn finish(&self) {
        if self.written {
            self.printer.piece("\n\n");
        }
    }
}

/// The winner's text, unless it was the one that grew on the screen, and how the vote went.
fn tell(result: &WriteResult, screen: &Screen<'_>) {
    let printer = screen.printer;
    let chosen = result.candidates.iter().find(|candidate| candidate.id == result.chosen);
    match chosen {
        Some(winner) if screen.written && result.candidates.len() > 1 => {
            printer.text(&format!("The vote chose {}:\n\n{}\n", winner.id, winner.text));
        }
        Some(_) if screen.written => {}
        Some(winner) => printer.text(&winner.text),
        None => {}
    }
    let mut rows =
        vec![["", "candidate", "total", "taste", "quality", "on prompt", "fluency", "genre", "member"].map(str::to_owned).to_vec()];
    rows.extend(result.candidates.iter().map(|candidate| row(candidate, &result.chosen)));
    printer.remark(&format!(
        "\n{}\n\n{:.1} s, {:.0} tokens/s, seed {}. `inkling feedback {} --up` (or --down) teaches Inkling your taste.",
        table(&rows),
        result.seconds,
        result.tokens_per_second,
        result.seed,
        result.chosen,
    ));
}

fn row(candidate: &Candidate, chosen: &CandidateId) -> Vec<String> {
    let scores = &candidate.scores;
    let mark = if candidate.id == *chosen { "*" } else { "" };
    let taste = scores.taste.map_or("–".to_owned(), |taste| format!("{taste:.2}"));
    vec![
        mark.to_owned(),
        candidate.id.to_string(),
        format!("{:.1}", scores.total),
        taste,
        format!("{:.1}", scores.quality),
        format!("{:.2}", scores.on_prompt),
        format!("{:.2}", scores.fluency),
        format!("{:.2}", scores.genre),
        candidate.member.clone(),
    ]
}

fn request(write: Write) -> Result<WriteRequest, ApiError> {
    let mut faults = Faults::default();
    let mut genres = GenreMix::default();
    for one in &write.genre {
        let (name, weight) = one.split_once('=').unwrap_or((one, "100"));
        if let (Some(genre), Some(weight)) = (faults.keep(name.parse::<Genre>()), faults.keep(number("genres", weight))) {
            genres.0.insert(genre, weight);
        }
    }
    let style = write.style.as_deref().and_then(|name| faults.keep(name.parse::<Style>()));
    let adapters = if write.adapter.is_empty() {
        None
    } else {
        Some(write.adapter.iter().filter_map(|one| faults.keep(adapter(one)).flatten()).collect())
    };
    faults.check()?;
    Ok(WriteRequest {
        prompt: prompt(write.prompt)?,
        genres,
        style,
        n: write.n,
        max_tokens: write.max_tokens,
        temperature: write.temperature,
        seed: write.seed,
        base: write.base.map(BaseId),
        adapters,
        explore: None,
        continue_from: write.continue_from.map(CandidateId),
    })
}

/// `none` adds no adapter, and so asks for the plain base.
fn adapter(text: &str) -> Result<Option<AdapterChoice>, ApiError> {
    if text == "none" {
        return Ok(None);
    }
    let (id, strength) = text.split_once('=').unwrap_or((text, "1"));
    Ok(Some(AdapterChoice { id: AdapterId(id.to_owned()), strength: number("adapters", strength)? }))
}

fn number(field: &str, text: &str) -> Result<f64, ApiError> {
    text.trim().parse().map_err(|_| ApiError::field(field, format!("\"{text}\" is not a number.")))
}

fn prompt(given: Option<String>) -> Result<String, ApiError> {
    match given.as_deref() {
        Some("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|error| {
                ApiError::new(ErrorCode::InvalidInput, format!("The prompt cannot be read from standard input: {error}."))
            })?;
            Ok(text)
        }
        // Left out, for --continue; anything else is refused as empty where prompts are checked.
        given => Ok(given.unwrap_or_default().to_owned()),
    }
}

/// Collects what is wrong, so that all of it is said at once.
#[derive(Default)]
struct Faults {
    all: Vec<FieldFault>,
    hint: Option<String>,
}

impl Faults {
    fn keep<T>(&mut self, read: Result<T, ApiError>) -> Option<T> {
        read.map_err(|error| {
            self.all.extend(error.detail);
            self.hint = self.hint.take().or(error.hint);
        })
        .ok()
    }

    fn check(self) -> Result<(), ApiError> {
        if self.all.is_empty() {
            return Ok(());
        }
        let error = ApiError::fields(self.all);
        Err(match self.hint {
            Some(hint) => error.hint(hint),
            None => error.hint("Write, for example, --genre fantasy=70 --genre mystery=30."),
        })
    }
}
