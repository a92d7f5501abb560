//! Conversations: OpenAI `messages` and ShareGPT `conversations`.

use crate::SkipReason;
use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "system" | "developer" => Some(Self::System),
            "user" | "human" | "prompter" => Some(Self::User),
            "assistant" | "gpt" | "bot" | "chatgpt" | "model" => Some(Self::Assistant),
            _ => None,
        }
    }

    /// As templates of chat models name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

impl Message {
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Role::User, content: content.into() }
    }
}

/// The turns of a list of messages, each with a text; empty turns are left out.
pub(crate) fn turns(value: &Value) -> Result<Vec<Message>, SkipReason> {
    let list = value.as_array().ok_or(SkipReason::UnreadableTurn)?;
    let mut turns = Vec::with_capacity(list.len());
    for turn in list {
        let role = text_at(turn, &["role", "from"]).and_then(Role::parse).ok_or(SkipReason::UnreadableTurn)?;
        let content = turn.get("content").or_else(|| turn.get("value")).ok_or(SkipReason::UnreadableTurn)?;
        let content = words(content).ok_or(SkipReason::UnreadableTurn)?;
        if !content.trim().is_empty() {
            turns.push(Message { role, content });
        }
    }
    Ok(turns)
}

/// A text, or the text parts of a list of parts; pictures and calls of tools cannot be learned from.
fn words(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let texts: Option<Vec<&str>> = parts.iter().map(|part| part.get("text").and_then(Value::as_str)).collect();
            texts.map(|texts| texts.concat())
        }
        _ => None,
    }
}

fn text_at<'a>(turn: &'a Value, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| turn.get(name)).and_then(Value::as_str)
}

/// Every answer of the assistant with what was said before it.
pub(crate) fn answers(turns: &[Message]) -> Vec<(Vec<Message>, String)> {
    let answered = turns.iter().enumerate().filter(|(index, turn)| turn.role == Role::Assistant && *index > 0);
    answered.map(|(index, turn)| (turns[..index].to_vec(), turn.content.clone())).collect()
}
