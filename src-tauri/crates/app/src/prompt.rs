//! What a base is given to read: the story format, a conversation, or plain words, cut so that it fits.

use crate::base::LoadedBase;
use domain::{ApiError, BaseKind, ErrorCode, GenreMix, Notice, NoticeCode, Settings, Style, WriteRequest};
use hub::ChatRequest;
use model::{ChatMessage, ChatRole, Guidance, StoryFormat, TextModel};

/// Between two paragraphs, as the story model was trained.
pub(crate) const PARAGRAPH: &str = "\n\n";

/// Tokens that are left for the story even when the prompt would fill the context.
const ROOM_FOR_STORY: usize = 64;

/// Tokens by which the known families end a text.
const ENDS: [&str; 7] = ["</s>", "<|endoftext|>", "<|im_end|>", "<|end|>", "<|eot_id|>", "<|end_of_text|>", "<end_of_turn>"];

const WRITER: &str = "You are a writer of short stories. You answer with the story itself: no title, no remarks, no explanation.";

/// The tokens before the text, and how the text ends.
pub(crate) struct Layout {
    pub tokens: Vec<u32>,
    /// How many of them, at the end, are text that goes on.
    pub written: usize,
    pub guidance: Guidance,
    pub max_tokens: usize,
    pub stop: Vec<u32>,
}

/// Builds the prompt tokens so that they, the continued text and some room for the story fit the context, and says what
/// was cut: the end of a long prompt, the beginning of a long text that is continued.
///
/// # Errors
/// `TooLarge` when nothing is left for the story.
pub(crate) fn lay_out(
    base: &LoadedBase,
    settings: &Settings,
    request: &WriteRequest,
    continued: &str,
    room: usize,
    max_tokens: usize,
    notices: &mut Vec<Notice>,
) -> Result<Layout, ApiError> {
    let tokenizer = base.tokenizer();
    // What answers apart reads a text that it continues as a part of its prompt, and its answer has room of its own.
    let apart = base.answers_apart();
    let before = |prompt: &str| base.asked(&request.genres, request.style, prompt);
    let frame = before("")?.len();
    let reserve = if apart { 0 } else { ROOM_FOR_STORY.min(max_tokens) };
    let mut prompt = StoryFormat::plain(&request.prompt);
    let most = room.saturating_sub(frame + reserve);
    let ids = tokenizer.encode(&prompt);
    if ids.len() > most {
        let kept = tokenizer.decode(&ids[..most]).trim_end_matches('\u{fffd}').trim_end().to_owned();
        let cut: String = prompt.get(kept.len().min(prompt.len())..).unwrap_or_default().trim().to_owned();
        notices.push(Notice {
            code: NoticeCode::PromptCut,
            message: format!(
                "Your prompt is longer than this base can read. Its last {} words were cut, from \"{}\" on.",
                cut.split_whitespace().count(),
                crate::write::opening(&cut, 60)
            ),
        });
        prompt = kept;
    }
    let mut story = StoryFormat::plain(continued);
    if continued.ends_with(PARAGRAPH) {
        story.push_str(PARAGRAPH);
    }
    let story = if story.is_empty() { Vec::new() } else { tokenizer.encode(&story) };
    let mut tokens = if apart && !story.is_empty() { before(&going_on(&prompt, ""))? } else { before(&prompt)? };
    let space = room.saturating_sub(tokens.len() + reserve);
    if story.len() > space {
        let lost = story.len() - space;
        notices.push(Notice {
            code: NoticeCode::ContinuationCut,
            message: format!(
                "The text is longer than this base can read at once; its first {lost} tokens were not read. They stay in the text."
            ),
        });
    }
    let story = &story[story.len().saturating_sub(space)..];
    if !apart {
        tokens.extend_from_slice(story);
    } else if !story.is_empty() {
        tokens = before(&going_on(&prompt, &tokenizer.decode(story)))?;
        tokens.truncate(room);
    }
    let left = if apart { room } else { room.saturating_sub(tokens.len()) };
    if left == 0 {
        return Err(ApiError::new(ErrorCode::TooLarge, "The prompt leaves no room for a story.").hint("Shorten the prompt."));
    }
    if left < max_tokens {
        notices.push(Notice {
            code: NoticeCode::LengthCut,
            message: format!("Only {left} tokens are left for the story after your prompt; {max_tokens} were asked for."),
        });
    }
    let written = if apart { 0 } else { story.len() };
    let guidance = base.guidance((&request.genres, request.style, &prompt), &tokens[tokens.len() - written..], settings);
    Ok(Layout { tokens, written, guidance, max_tokens: left.min(max_tokens), stop: base.stop() })
}

/// A prompt with the text that is to go on.
fn going_on(prompt: &str, story: &str) -> String {
    format!("{prompt}{GO_ON}{story}")
}

const GO_ON: &str = "\n\nGo on from here, without repeating it:\n\n";

/// The tokens by which a base ends a text.
pub(crate) fn stop(base: &TextModel, kind: BaseKind) -> Vec<u32> {
    let tokenizer = base.tokenizer();
    match kind {
        BaseKind::Story => StoryFormat::stop(tokenizer),
        BaseKind::Instruct | BaseKind::Plain => {
            let known = ENDS.iter().filter_map(|end| tokenizer.special(end));
            base.end_tokens().into_iter().chain(known).collect()
        }
    }
}

/// The tokens before the story: a conversation where the base has a format for one, else text.
pub(crate) fn tokens_before(
    base: &TextModel,
    kind: BaseKind,
    genres: &GenreMix,
    style: Option<Style>,
    prompt: &str,
) -> Result<Vec<u32>, ApiError> {
    let tokenizer = base.tokenizer();
    if base.answers_apart() {
        // Trained on instructions or on nothing that writes: it is told what to write, in few words.
        return Ok(base.plain_prompt(&instruction(genres, style, &tokenizer.without_special(prompt))));
    }
    if kind == BaseKind::Instruct && base.chats() {
        let (system, user) = (ChatMessage::new(ChatRole::System, WRITER), instruction(genres, style, prompt));
        let conversation = base.chat_prompt(&[system, ChatMessage::new(ChatRole::User, user.clone())]);
        // Some formats know no system; then it is said at the start.
        let alone = || base.chat_prompt(&[ChatMessage::new(ChatRole::User, format!("{WRITER}\n\n{user}"))]);
        return Ok(conversation.or_else(|_| alone())?);
    }
    if kind == BaseKind::Story {
        // The format starts with a token of its own.
        return Ok(tokenizer.encode(&text_before(kind, genres, style, prompt)));
    }
    let prompt = tokenizer.without_special(prompt);
    Ok(base.plain_prompt(&text_before(kind, genres, style, &prompt)))
}

/// The text before the story, as a base of this kind was taught to read it.
fn text_before(kind: BaseKind, genres: &GenreMix, style: Option<Style>, prompt: &str) -> String {
    match kind {
        BaseKind::Story => StoryFormat::prompt_text(genres, style, prompt),
        BaseKind::Instruct => format!("{WRITER}\n\n{}\n\nStory:\n\n", instruction(genres, style, prompt)),
        BaseKind::Plain => {
            let about = if prompt.is_empty() { String::new() } else { format!("About: {prompt}\n\n") };
            format!("{}\n\n{about}", capital(&story_of(genres, style)))
        }
    }
}

/// The request for a server on another machine.
pub(crate) fn chat_request(request: &WriteRequest, continued: &str, settings: &Settings, max_tokens: usize, seed: u32) -> ChatRequest {
    let mut user = instruction(&request.genres, request.style, &StoryFormat::plain(&request.prompt));
    if !continued.is_empty() {
        user.push_str(&format!("{GO_ON}{continued}"));
    }
    ChatRequest {
        system: WRITER.to_owned(),
        user,
        max_tokens: u32::try_from(max_tokens).unwrap_or(u32::MAX),
        temperature: request.temperature.unwrap_or(settings.temperature),
        top_p: settings.top_p,
        seed: u64::from(seed),
    }
}

/// "Write a short story, mostly fantasy and a little mystery, with a twist. It is about: …"
fn instruction(genres: &GenreMix, style: Option<Style>, prompt: &str) -> String {
    let about = if prompt.is_empty() { String::new() } else { format!(" It is about: {prompt}") };
    format!("Write {}.{about}", story_of(genres, style))
}

fn story_of(genres: &GenreMix, style: Option<Style>) -> String {
    let style = style.map(|style| format!(", in the style \"{}\"", style.name().replace('_', " "))).unwrap_or_default();
    format!("a short story{}{style}", mix_in_words(genres))
}

/// The genres by weight: "mostly" for the first, "a little" for those under a fifth of all.
fn mix_in_words(genres: &GenreMix) -> String {
    let mut weights: Vec<(&str, f64)> =
        genres.0.iter().filter(|(_, weight)| weight.is_finite() && **weight > 0.0).map(|(genre, weight)| (genre.name(), *weight)).collect();
    let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
    weights.sort_by(|a, b| b.1.total_cmp(&a.1));
    let words: Vec<String> = weights
        .iter()
        .enumerate()
        .map(|(place, (name, weight))| {
            let name = name.replace('_', " ");
            match (place, weight / sum) {
                (0, _) if weights.len() == 1 => name,
                (0, share) if share > 0.5 => format!("mostly {name}"),
                (_, share) if share < 0.2 => format!("a little {name}"),
                _ => name,
            }
        })
        .collect();
    match words.split_last() {
        None => String::new(),
        Some((only, [])) => format!(", {only}"),
        Some((last, rest)) => format!(", {} and {last}", rest.join(", ")),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Genre;

    #[test]
    fn a_mix_is_said_in_words() {
        let mix = |weights: &[(Genre, f64)]| mix_in_words(&GenreMix(weights.iter().copied().collect()));
        assert_eq!(mix(&[]), "");
        assert_eq!(mix(&[(Genre::Fantasy, 1.0)]), ", fantasy");
        assert_eq!(mix(&[(Genre::Fantasy, 0.7), (Genre::Mystery, 0.3)]), ", mostly fantasy and mystery");
        assert_eq!(mix(&[(Genre::Horror, 1.0), (Genre::Romance, 1.0)]), ", horror and romance");
        assert_eq!(
            mix(&[(Genre::Fantasy, 6.0), (Genre::SciFi, 3.0), (Genre::Horror, 1.0)]),
            ", mostly fantasy, sci fi and a little horror"
        );
    }

    #[test]
    fn an_instruction_holds_everything_that_was_chosen() {
        let genres = GenreMix([(Genre::Mystery, 1.0)].into());
        assert_eq!(
            instruction(&genres, Some(Style::Twist), "a mill"),
            "Write a short story, mystery, in the style \"twist\". It is about: a mill"
        );
        assert_eq!(instruction(&GenreMix::default(), None, ""), "Write a short story.");
        assert_eq!(text_before(BaseKind::Plain, &GenreMix::default(), None, "a mill"), "A short story\n\nAbout: a mill\n\n");
    }
}
