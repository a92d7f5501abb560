//! One row: what was asked, and what is to be learned from it.

use crate::SkipReason;
use crate::chat::{Message, Role, answers, turns};
use serde_json::{Map, Value};

/// A row as training understands it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Line of the file, or place in its array, from 1.
    pub number: usize,
    pub format: RowFormat,
    /// What was said before the answer; empty for a plain text.
    pub prompt: Vec<Message>,
    pub target: Target,
    /// How much it counts against other rows, above 0.
    pub weight: f32,
}

/// What is to be learned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    Answer(String),
    /// One answer is better than another.
    Pair {
        chosen: String,
        rejected: String,
    },
    /// An answer with a thumb.
    Judged {
        answer: String,
        liked: bool,
    },
}

/// The fields by which a row was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowFormat {
    /// `messages`
    Messages,
    /// `conversations`
    ShareGpt,
    /// `prompt, chosen, rejected`
    Preference,
    /// `prompt, completion, label`
    Judged,
    /// `prompt, completion`
    Completion,
    /// `instruction, input, output`
    Instruction,
    /// `context, answer`, with or without `question`
    Context,
    /// `text, label`
    Label,
    /// `text`
    Text,
}

impl RowFormat {
    /// Its fields, as a person knows the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::ShareGpt => "conversations",
            Self::Preference => "prompt, chosen, rejected",
            Self::Judged => "prompt, completion, label",
            Self::Completion => "prompt, completion",
            Self::Instruction => "instruction, input, output",
            Self::Context => "context, answer",
            Self::Label => "text, label",
            Self::Text => "text",
        }
    }
}

impl Row {
    /// The prompt as one text, for a base that knows no turns: a single request stands as it is, a conversation with its
    /// speakers.
    pub fn prompt_text(&self) -> String {
        match self.prompt.as_slice() {
            [] => String::new(),
            [Message { role: Role::User, content }] => content.clone(),
            turns => {
                let lines = turns.iter().map(|turn| match turn.role {
                    Role::System => turn.content.clone(),
                    Role::User => format!("User: {}", turn.content),
                    Role::Assistant => format!("Assistant: {}", turn.content),
                });
                lines.collect::<Vec<_>>().join("\n")
            }
        }
    }
}

/// The rows in an object: one, or one for each answer of a conversation.
pub(crate) fn rows(number: usize, fields: &Map<String, Value>) -> Result<Vec<Row>, SkipReason> {
    let row = |format, prompt, target| Row { number, format, prompt, target, weight: 1.0 };
    let has = |name: &str| fields.get(name).is_some_and(|value| !value.is_null());
    let found = if has("messages") || has("conversations") {
        let (format, name) = if has("messages") { (RowFormat::Messages, "messages") } else { (RowFormat::ShareGpt, "conversations") };
        let answered = answers(&turns(&fields[name])?);
        if answered.is_empty() {
            return Err(SkipReason::NoAnswer);
        }
        answered.into_iter().map(|(before, answer)| row(format, before, Target::Answer(answer))).collect()
    } else if has("chosen") && has("rejected") {
        vec![preference(fields, row)?]
    } else if has("prompt") && has("completion") && has("label") {
        let target = Target::Judged { answer: answer(fields, "completion")?, liked: liked(&fields["label"])? };
        vec![row(RowFormat::Judged, prompt(fields, "prompt")?, target)]
    } else if has("prompt") && (has("completion") || has("response")) {
        let name = if has("completion") { "completion" } else { "response" };
        vec![row(RowFormat::Completion, prompt(fields, "prompt")?, Target::Answer(answer(fields, name)?))]
    } else if (has("instruction") || has("input")) && has("output") {
        let asked: Vec<String> = ["instruction", "input"].iter().filter_map(|name| optional(fields, name)).collect();
        if asked.is_empty() {
            return Err(SkipReason::EmptyField("instruction"));
        }
        vec![row(RowFormat::Instruction, vec![Message::user(asked.join("\n\n"))], Target::Answer(answer(fields, "output")?))]
    } else if has("context") && has("answer") {
        let context = text(fields, "context")?;
        let asked = optional(fields, "question").map_or(context.clone(), |question| format!("{context}\n\n{question}"));
        vec![row(RowFormat::Context, vec![Message::user(asked)], Target::Answer(answer(fields, "answer")?))]
    } else if has("text") && has("label") {
        let label = match &fields["label"] {
            Value::String(label) if !label.trim().is_empty() => label.trim().to_owned(),
            Value::Number(label) => label.to_string(),
            Value::Bool(label) => label.to_string(),
            _ => return Err(SkipReason::EmptyField("label")),
        };
        vec![row(RowFormat::Label, vec![Message::user(text(fields, "text")?)], Target::Answer(label))]
    } else if has("text") {
        vec![row(RowFormat::Text, Vec::new(), Target::Answer(text(fields, "text")?))]
    } else {
        let mut names: Vec<&str> = fields.keys().map(String::as_str).take(8).collect();
        names.sort_unstable();
        return Err(SkipReason::UnknownFields(names.join(", ")));
    };
    weighted(found, fields)
}

fn weighted(mut rows: Vec<Row>, fields: &Map<String, Value>) -> Result<Vec<Row>, SkipReason> {
    let weight = match fields.get("weight") {
        None | Some(Value::Null) => return Ok(rows),
        Some(Value::Number(weight)) => weight.as_f64(),
        Some(Value::String(weight)) if weight.trim().is_empty() => return Ok(rows),
        Some(Value::String(weight)) => weight.trim().parse().ok(),
        Some(_) => None,
    };
    let weight = weight.map(|weight| weight as f32).filter(|weight| weight.is_finite() && *weight > 0.0);
    let weight = weight.ok_or(SkipReason::UnclearWeight)?;
    rows.iter_mut().for_each(|row| row.weight = weight);
    Ok(rows)
}

fn preference(fields: &Map<String, Value>, row: impl Fn(RowFormat, Vec<Message>, Target) -> Row) -> Result<Row, SkipReason> {
    let (before, chosen, rejected) = if fields.get("prompt").is_some_and(|value| !value.is_null()) {
        (prompt(fields, "prompt")?, answer(fields, "chosen")?, answer(fields, "rejected")?)
    } else {
        // Whole conversations that differ in their last turn.
        let last = |name| answers(&turns(&fields[name])?).pop().ok_or(SkipReason::NoAnswer);
        let ((before, chosen), (_, rejected)) = (last("chosen")?, last("rejected")?);
        (before, chosen, rejected)
    };
    if chosen.trim() == rejected.trim() {
        return Err(SkipReason::SameAnswers);
    }
    Ok(row(RowFormat::Preference, before, Target::Pair { chosen, rejected }))
}

/// What was said before: a text, or turns.
fn prompt(fields: &Map<String, Value>, name: &'static str) -> Result<Vec<Message>, SkipReason> {
    match &fields[name] {
        Value::Array(_) => {
            let turns = turns(&fields[name])?;
            if turns.is_empty() { Err(SkipReason::EmptyField(name)) } else { Ok(turns) }
        }
        _ => Ok(vec![Message::user(text(fields, name)?)]),
    }
}

/// An answer: a text, or turns of which the last is the assistant's.
fn answer(fields: &Map<String, Value>, name: &'static str) -> Result<String, SkipReason> {
    match &fields[name] {
        Value::Array(_) => match turns(&fields[name])?.pop() {
            Some(Message { role: Role::Assistant, content }) => Ok(content),
            _ => Err(SkipReason::NoAnswer),
        },
        _ => text(fields, name),
    }
}

fn text(fields: &Map<String, Value>, name: &'static str) -> Result<String, SkipReason> {
    match fields.get(name) {
        Some(Value::String(text)) if text.trim().is_empty() => Err(SkipReason::EmptyField(name)),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => Err(SkipReason::NotAText(name)),
    }
}

fn optional(fields: &Map<String, Value>, name: &'static str) -> Option<String> {
    text(fields, name).ok()
}

fn liked(label: &Value) -> Result<bool, SkipReason> {
    match label {
        Value::Bool(liked) => Ok(*liked),
        Value::Number(number) => match number.as_f64() {
            Some(1.0) => Ok(true),
            Some(0.0 | -1.0) => Ok(false),
            _ => Err(SkipReason::UnclearLabel),
        },
        Value::String(word) => match word.trim().to_lowercase().as_str() {
            "true" | "1" | "yes" => Ok(true),
            "false" | "0" | "-1" | "no" => Ok(false),
            _ => Err(SkipReason::UnclearLabel),
        },
        _ => Err(SkipReason::UnclearLabel),
    }
}
