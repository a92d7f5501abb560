//! Writing: n candidates from one prompt, streamed, scored, voted on and stored.

use crate::base::LoadedBase;
use crate::ensemble::Member;
use crate::member::Asked;
use crate::prompt::{self, Layout};
use crate::{App, Home, lock};
use domain::{
    Adapter, AdapterState, ApiError, Candidate, CandidateId, Done, ErrorCode, FieldFault, GenerationId, GenerationRef, Nothing, Notice,
    NoticeCode, Retried, Scores, Settings, WriteEvent, WriteRequest, WriteResult,
};
use hub::ChatServer;
use model::{Adapters, Completion, Generate, MemberSpec, Sampler, StoryFormat};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use store::StoredCandidate;
use training::ForegroundGate;

/// Generations that may wait for their turn; one more is refused, so that a flood cannot pile up.
const MOST_WAITING: u32 = 32;

/// One generation of so many offers a comparison, once taste has something to learn from.
const EXPLORE_EVERY: u64 = 4;

/// Generations under way, with their stop flags.
#[derive(Default)]
pub(crate) struct Writing {
    flags: Mutex<HashMap<GenerationId, Arc<AtomicBool>>>,
    waiting: AtomicU32,
    /// Training waits at this gate while somebody waits for text.
    pub gate: ForegroundGate,
    /// One generation computes at a time; its batch already uses all cores.
    pub turn: Mutex<()>,
}

/// A request with every default filled in, ready to compute.
pub(crate) struct Plan {
    pub request: WriteRequest,
    pub base: Arc<LoadedBase>,
    members: Vec<Member>,
    layout: Layout,
    /// The server that writes one more, on another machine.
    server: Option<ChatServer>,
    /// The text that is continued; empty for a new one.
    continued: String,
    seed: u32,
    notices: Vec<Notice>,
}

impl Plan {
    /// The texts of the members here, one each, without the second try and without the server.
    pub fn write(&self, settings: &Settings, flag: &AtomicBool, on_event: &mut dyn FnMut(WriteEvent)) -> Result<Vec<Completion>, ApiError> {
        generate(settings, self, &self.members, 0, flag, on_event)
    }

    /// Who writes those texts, and whether they leave the machine for it.
    pub fn writers(&self) -> Vec<(String, bool)> {
        self.members.iter().map(|member| (member.name.clone(), false)).collect()
    }
}

impl App {
    pub fn write(&self, request: WriteRequest) -> Result<WriteResult, ApiError> {
        self.write_streaming(request, &mut |_| {})
    }

    /// Writes, reporting as text grows. The request is on disk before the first event: from then on it cannot be lost.
    ///
    /// # Errors
    /// `InvalidInput` with every fault of the request, `ModelMissing`, `ModelDamaged`, `NotFound`, `Overloaded`, and
    /// what the store reports.
    pub fn write_streaming(&self, request: WriteRequest, on_event: &mut dyn FnMut(WriteEvent)) -> Result<WriteResult, ApiError> {
        let home = self.home();
        let settings = home.store.settings()?;
        let _place = self.place()?;
        let plan = self.plan_writing(&home, &settings, request)?;
        let id = GenerationId::fresh();
        home.store.begin_generation(&id, &plan.request)?;
        let flag = Arc::new(AtomicBool::new(false));
        lock(&self.writing.flags).insert(id.clone(), flag.clone());
        let n = (plan.members.len() + usize::from(plan.server.is_some())) as u32;
        on_event(WriteEvent::Started { generation_id: id.clone(), n, seed: plan.seed, notices: plan.notices.clone() });
        let result = self.compute(&home, &settings, &id, plan, &flag, on_event);
        lock(&self.writing.flags).remove(&id);
        result
    }

    /// Asks a generation to stop; what it has written is kept and stored as usual.
    pub fn cancel_write(&self, which: GenerationRef) -> Result<Done, ApiError> {
        match lock(&self.writing.flags).get(&which.generation_id) {
            Some(flag) => {
                flag.store(true, Ordering::Relaxed);
                Ok(Done::OK)
            }
            // Already finished: stopping it is done, unless it never was.
            None => self.home().store.generation(&which.generation_id).map(|_| Done::OK).map_err(ApiError::from),
        }
    }

    fn place(&self) -> Result<Place<'_>, ApiError> {
        let place = Place(&self.writing.waiting);
        if self.writing.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            return Err(ApiError::new(ErrorCode::Overloaded, format!("{MOST_WAITING} texts are being written already."))
                .hint("Wait a few seconds, then try again."));
        }
        Ok(place)
    }

    pub(crate) fn plan_writing(&self, home: &Home, settings: &Settings, mut request: WriteRequest) -> Result<Plan, ApiError> {
        let mut faults = Vec::new();
        let mut hint = None;
        let mut fault = |field: &str, message: String| faults.push(FieldFault { field: field.to_owned(), message });
        if StoryFormat::plain(&request.prompt).is_empty() && request.continue_from.is_none() {
            fault("prompt", "The prompt is empty.".to_owned());
            hint = Some("Type what the story should be about, in a few words.".to_owned());
        }
        if let Err(error) = request.genres.checked() {
            error.detail.into_iter().for_each(|one| fault(&one.field, one.message));
            hint = hint.or(error.hint);
        }
        let n = request.n.unwrap_or(settings.candidates);
        if !(1..=16).contains(&n) {
            fault("n", format!("{n} candidates were asked for; it must be 1 to 16."));
        }
        let max_tokens = request.max_tokens.unwrap_or(settings.max_tokens);
        if !(1..=900).contains(&max_tokens) {
            fault("max_tokens", format!("The length is {max_tokens} tokens; it must be 1 to 900."));
        }
        let temperature = request.temperature.unwrap_or(settings.temperature);
        if !(0.0..=2.0).contains(&temperature) {
            fault("temperature", format!("Creativity is {temperature}; it must be 0 to 2."));
        }
        let choices = request.adapters.as_deref().unwrap_or_default();
        if choices.len() > 2 {
            fault("adapters", "At most one soft prompt and one LoRA or DoRA can be used at a time.".to_owned());
        }
        for choice in choices.iter().filter(|choice| !(0.0..=2.0).contains(&choice.strength)) {
            fault("adapters", format!("The strength of {} is {}; it must be 0 to 2.", choice.id, choice.strength));
        }
        if !faults.is_empty() {
            let error = ApiError::fields(faults);
            return Err(match hint {
                Some(hint) => error.hint(hint),
                None => error.hint("Change the values named, then write again."),
            });
        }
        let base_id = self.writing_base(request.base.as_ref(), &settings.default_base)?;
        let base = self.base(&base_id)?;
        let mut notices = Vec::new();
        let continued = match request.continue_from.clone() {
            Some(id) => self.text_to_continue(home, &id, &mut request)?,
            None => String::new(),
        };
        let members = self.members(home, settings, &base_id, &request, n as usize, &mut notices)?;
        check_strengths(&base, &members)?;
        let seed = request.seed.unwrap_or_else(fresh_seed);
        request.n = Some(n);
        request.max_tokens = Some(max_tokens);
        request.temperature = Some(temperature);
        request.seed = Some(seed);
        let room = base.context().saturating_sub(
            members.iter().filter_map(|member| member.adapters.soft_prompt.as_ref()).map(|one| one.tokens).max().unwrap_or(0),
        );
        let layout = prompt::lay_out(&base, settings, &request, &continued, room, max_tokens as usize, &mut notices)?;
        let server = self.chat_server(settings)?;
        if let Some(server) = &server {
            notices.push(Notice {
                code: NoticeCode::LeavesMachine,
                message: format!("One text is asked of {} at {}: your prompt is sent there.", server.model(), server.host()),
            });
        }
        Ok(Plan { request, base, members, layout, server, continued, seed, notices })
    }

    fn text_to_continue(&self, home: &Home, id: &CandidateId, request: &mut WriteRequest) -> Result<String, ApiError> {
        let StoredCandidate { candidate, request: original, .. } = home.store.candidate(id)?;
        if StoryFormat::plain(&request.prompt).is_empty() {
            request.prompt = original.prompt;
        }
        if request.genres.0.is_empty() {
            request.genres = original.genres;
        }
        request.style = request.style.or(original.style);
        let mut text = candidate.feedback.and_then(|feedback| feedback.edited_text).unwrap_or(candidate.text);
        text.truncate(text.trim_end().len());
        // A finished text goes on in a new paragraph: right after its last sentence the base would only end it again.
        if text.ends_with(['.', '!', '?', '"', '”', '…']) {
            text.push_str(prompt::PARAGRAPH);
        }
        Ok(text)
    }

    fn compute(
        &self,
        home: &Home,
        settings: &Settings,
        id: &GenerationId,
        plan: Plan,
        flag: &AtomicBool,
        on_event: &mut dyn FnMut(WriteEvent),
    ) -> Result<WriteResult, ApiError> {
        let started = Instant::now();
        let waiting_for_text = self.writing.gate.enter();
        let turn = lock(&self.writing.turn);
        let mut first_token = None;
        let mut watch = |event: WriteEvent| {
            if matches!(event, WriteEvent::Token { .. }) {
                first_token.get_or_insert_with(|| started.elapsed());
            }
            on_event(event);
        };
        let index = plan.members.len() as u32;
        let (completions, elsewhere) = std::thread::scope(|scope| {
            let asked = plan.server.as_ref().map(|server| {
                let request = prompt::chat_request(&plan.request, &plan.continued, settings, plan.layout.max_tokens, plan.seed);
                Asked::start(scope, server, request)
            });
            let completions = generate(settings, &plan, &plan.members, 0, flag, &mut |event| {
                watch(event);
                if let Some(asked) = &asked {
                    asked.pass_on(flag, &mut |text| watch(WriteEvent::Token { index, text }));
                }
            });
            drop((turn, waiting_for_text));
            let elsewhere = asked.map(|asked| asked.finish(flag, &mut |text| watch(WriteEvent::Token { index, text })));
            (completions, elsewhere)
        });
        // Until the vote is over the person waits; for another machine's text nobody here has to stand still.
        let _waiting_for_the_vote = self.writing.gate.enter();
        let mut completions = completions?;
        let mut notices = plan.notices.clone();
        let mut writers = plan.writers();
        match elsewhere {
            Some(Ok(text)) if !text.text.trim().is_empty() => {
                writers.extend(plan.server.as_ref().map(|server| (format!("{} at {}", server.model(), server.host()), true)));
                completions.push(self.as_completion(&plan, text));
            }
            Some(Err(error)) if completions.iter().any(|one| !one.text.is_empty()) => {
                notices.push(Notice { code: NoticeCode::MemberSkipped, message: format!("{error} The others wrote without it.") });
            }
            Some(Err(error)) if !flag.load(Ordering::Relaxed) => return Err(error.into()),
            _ => {}
        }
        let mut candidates = self.judge(settings, &plan, &writers, &completions);
        let mut retried = None;
        if let Some(member) = self.second_try(home, settings, &plan, &candidates, flag)? {
            let n = plan.members.len().div_ceil(2);
            let before = best_standing(settings, &candidates);
            let name = member.name.clone();
            watch(WriteEvent::Retrying { member: name.clone(), n: n as u32 });
            let first = plan.members.len() + usize::from(plan.server.is_some());
            let _turn = lock(&self.writing.turn);
            completions.extend(generate(settings, &plan, &vec![member; n], first, flag, &mut watch)?);
            writers.extend(std::iter::repeat_n((name.clone(), false), n));
            candidates = self.judge(settings, &plan, &writers, &completions);
            let after = best_standing(settings, &candidates);
            let message =
                format!("The best text stood at {before:.1} of 10, so {name} wrote {n} more; the best one stands at {after:.1} now.");
            notices.push(Notice { code: NoticeCode::Retried, message });
            retried = Some(Retried { member: name, candidates: n as u32, before, after });
        }
        let seconds = started.elapsed().as_secs_f64();
        let tokens: usize = completions.iter().map(|one| one.token_ids.len()).sum();
        let mut result = WriteResult {
            generation_id: id.clone(),
            chosen: CandidateId::fresh(),
            candidates: Vec::new(),
            seed: plan.seed,
            seconds,
            first_token_seconds: first_token.map_or(seconds, |elapsed| elapsed.as_secs_f64()),
            tokens_per_second: tokens as f64 / seconds.max(1e-6),
            notices,
            explore_pair: None,
            retried,
        };
        for (index, candidate) in candidates.iter().enumerate() {
            on_event(WriteEvent::Candidate { index: index as u32, candidate: Box::new(candidate.clone()) });
        }
        result.explore_pair = self.explore(settings, &plan, &candidates);
        result.candidates = candidates;
        result.candidates.sort_by_key(|candidate| candidate.rank);
        if let Some(winner) = result.candidates.first() {
            result.chosen = winner.id.clone();
        }
        home.store.finish_generation(&result)?;
        on_event(WriteEvent::Chosen { result: Box::new(result.clone()) });
        Ok(result)
    }

    /// A text of another machine with the log-probabilities that the local base gives it, so that it is judged like the others.
    fn as_completion(&self, plan: &Plan, text: hub::ChatText) -> Completion {
        let tokenizer = plan.base.tokenizer();
        let trimmed = text.text.trim_start().to_owned();
        let mut token_ids = tokenizer.encode(&trimmed);
        token_ids.truncate(plan.base.context().saturating_sub(plan.layout.tokens.len()));
        let logprobs = plan.base.score_with(&Adapters::default(), &plan.layout.tokens, &token_ids).unwrap_or_default();
        Completion { text: trimmed, token_ids, logprobs, finish: text.finish }
    }

    /// Who is asked once more, if the best text is not good enough by the setting: the other member here whose text stood highest.
    fn second_try(
        &self,
        home: &Home,
        settings: &Settings,
        plan: &Plan,
        candidates: &[Candidate],
        flag: &AtomicBool,
    ) -> Result<Option<Member>, ApiError> {
        if flag.load(Ordering::Relaxed) || best_standing(settings, candidates) >= settings.retry_below {
            return Ok(None);
        }
        let Some(winner) = candidates.iter().find(|candidate| candidate.rank == 1) else { return Ok(None) };
        let others = candidates.iter().zip(&plan.members).filter(|(_, member)| member.name != winner.member);
        match (others.min_by_key(|(candidate, _)| candidate.rank), plan.members.first()) {
            (Some((_, member)), _) => Ok(Some(member.clone())),
            // All that wrote were alike.
            (None, Some(member)) => self.another_member(home, settings, &plan.request, member).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Scores every text, takes the vote, and returns the candidates in the order of writing with their ranks.
    pub(crate) fn judge(&self, settings: &Settings, plan: &Plan, writers: &[(String, bool)], completions: &[Completion]) -> Vec<Candidate> {
        let taste = self.confident_taste();
        let texts: Vec<String> = completions.iter().map(|one| format!("{}{}", plan.continued, one.text)).collect();
        let nearness = self.nearness(&plan.request.prompt, &texts);
        let mut scores: Vec<Scores> = completions
            .iter()
            .enumerate()
            .map(|(index, one)| {
                let others: Vec<&str> =
                    texts.iter().enumerate().filter(|(other, _)| *other < index).map(|(_, text)| text.as_str()).collect();
                let mean_logprob = mean(&one.logprobs);
                let quality = taste::quality(&taste::QualityInput {
                    prompt: &plan.request.prompt,
                    text: &texts[index],
                    finish: one.finish,
                    mean_logprob,
                    genres: &plan.request.genres,
                    style: plan.request.style,
                    others: &others,
                });
                Scores {
                    taste: taste.as_ref().map(|taste| taste.predict(&texts[index]).probability),
                    quality: quality.score,
                    on_prompt: taste::on_prompt(&plan.request.prompt, &texts[index], nearness.get(index).copied()),
                    fluency: taste::fluency(mean_logprob.unwrap_or(-10.0), taste::repetition(&texts[index])),
                    genre: taste::genre_fit(&plan.request.genres, &texts[index]),
                    total: 0.0,
                    quality_parts: quality.parts,
                }
            })
            .collect();
        let order = taste::vote(&mut scores, &taste::VoteWeights::from(settings));
        let mut rank = vec![0; scores.len()];
        for (place, index) in order.iter().enumerate() {
            rank[*index] = place as u32 + 1;
        }
        let continued_chars = plan.continued.chars().count() as u32;
        completions
            .iter()
            .zip(texts)
            .zip(scores)
            .enumerate()
            .map(|(index, ((one, text), scores))| Candidate {
                id: CandidateId::fresh(),
                text,
                continued_chars,
                member: writers[index].0.clone(),
                left_machine: writers[index].1,
                finish_reason: one.finish,
                tokens: one.token_ids.len() as u32,
                rank: rank[index],
                scores,
                feedback: None,
            })
            .collect()
    }

    /// How near each text is to the prompt in meaning; nothing without an embedder.
    fn nearness(&self, prompt: &str, texts: &[String]) -> Vec<f64> {
        let Some(embedder) = self.embedder() else { return Vec::new() };
        let all: Vec<&str> = std::iter::once(prompt).chain(texts.iter().map(String::as_str)).collect();
        let embeddings = embedder.embed(&all);
        let Some((prompt, texts)) = embeddings.split_first() else { return Vec::new() };
        texts.iter().map(|text| model::cosine(prompt, text)).collect()
    }

    /// Now and then, the two candidates whose comparison taste would learn most from.
    fn explore(&self, settings: &Settings, plan: &Plan, candidates: &[Candidate]) -> Option<(CandidateId, CandidateId)> {
        let wanted = match plan.request.explore {
            Some(asked) => asked,
            // Decided by the seed, so that a repeated generation repeats in this too.
            None => settings.explore && candidate_seed(plan.seed, u32::MAX as usize).is_multiple_of(EXPLORE_EVERY),
        };
        let taste = self.any_taste().filter(|_| wanted)?;
        let texts: Vec<&str> = candidates.iter().map(|one| one.text.as_str()).collect();
        let (a, b) = taste.most_informative_pair(&texts)?;
        Some((candidates[a].id.clone(), candidates[b].id.clone()))
    }

    /// The active adapters of the built-in base, for the status line.
    pub(crate) fn active(&self) -> Result<Vec<Adapter>, ApiError> {
        Ok(self.adapters(Nothing {})?.into_iter().filter(|adapter| adapter.state == AdapterState::Active).collect())
    }
}

/// The encoder of a T5 reads a soft prompt like words: it is there or not.
fn check_strengths(base: &LoadedBase, members: &[Member]) -> Result<(), ApiError> {
    let between = |member: &Member| member.adapters.soft_prompt.is_some() && ![0.0, 1.0].contains(&member.adapters.strength);
    if !base.answers_apart() || !members.iter().any(between) {
        return Ok(());
    }
    Err(ApiError::field("adapters", "The soft prompt of a T5 is used as it was trained, or not at all.")
        .hint("Set its strength to 1 or to 0."))
}

/// Gives a waiting generation's place back, however it ends.
struct Place<'a>(&'a AtomicU32);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Writes a candidate for each of `members`, in one batch; `first` is the index of the first among all candidates.
fn generate(
    settings: &Settings,
    plan: &Plan,
    members: &[Member],
    first: usize,
    flag: &AtomicBool,
    on_event: &mut dyn FnMut(WriteEvent),
) -> Result<Vec<Completion>, ApiError> {
    let temperature = plan.request.temperature.unwrap_or(settings.temperature);
    let specs = members.iter().enumerate().map(|(index, member)| {
        let usual = Sampler::of(settings, candidate_seed(plan.seed, first + index));
        let sampler = Sampler { temperature: (temperature * member.warmth) as f32, ..usual };
        MemberSpec::with(sampler, member.adapters.clone())
    });
    let generate = Generate {
        prompt: plan.layout.tokens.clone(),
        written: plan.layout.written,
        members: specs.collect(),
        max_tokens: plan.layout.max_tokens,
        stop: plan.layout.stop.clone(),
        stop_texts: Vec::new(),
        guidance: plan.layout.guidance.clone(),
    };
    let written = plan.base.generate(&generate, flag, &mut |token| {
        if !token.text.is_empty() {
            on_event(WriteEvent::Token { index: (first + token.candidate) as u32, text: token.text.to_owned() });
        }
    });
    Ok(written?)
}

/// How good the winner of the vote is by itself, 0–10.
fn best_standing(settings: &Settings, candidates: &[Candidate]) -> f64 {
    let winner = candidates.iter().find(|candidate| candidate.rank == 1);
    winner.map_or(0.0, |winner| taste::standing(&winner.scores, &taste::VoteWeights::from(settings)))
}

/// The first characters of a text, on one line.
pub(crate) fn opening(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
}

pub(crate) fn mean(values: &[f32]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64)
}

/// A seed of its own for each candidate (SplitMix64's finaliser, Steele et al. 2014), so that neighbours do not correlate.
pub(crate) fn candidate_seed(seed: u32, index: usize) -> u64 {
    let mut mixed = (u64::from(seed) << 32 | index as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A seed nobody asked for: reported, so that the text can be repeated.
pub(crate) fn fresh_seed() -> u32 {
    let id = GenerationId::fresh();
    let hash = crate::folder::sha256_hex(id.as_str().as_bytes());
    u32::from_str_radix(&hash[..8], 16).unwrap_or(1) & 0x7fff_ffff
}
