//! What a training is given: thumbs as examples, judgements and pairs, and what taste makes of texts that nobody judged.

use crate::pool::{self, asked, sampler};
use crate::{EvalError, Pool, Prompt, Random};
use model::{LanguageModel, MemberSpec, StoryFormat};
use taste::{TasteData, TasteModel};
use training::{Dataset, Example, Judgement, Judgements};

/// Taste must find the better text this much likelier to be liked, in log-odds, as in the app.
const CLEARLY_BETTER: f64 = 1.1;

/// Texts that taste chooses the best and the worst of.
const WRITTEN: usize = 8;

/// One learning prompt of so many only tells training when to stop.
const MEASURED_EVERY: usize = 5;

/// Texts of learning prompts only.
pub struct Lessons {
    pub examples: Dataset,
    pub singles: Judgements,
    pub pairs: Judgements,
    /// Prompts of all of them.
    pub prompts: Vec<String>,
    /// Pairs that taste made.
    pub by_taste: usize,
}

/// Turns thumbs into what SFT, KTO and DPO learn from. Once taste has shown on real thumbs that it predicts them, the best against
/// the worst of `written` generations on the person's own prompts join them, as in the app.
///
/// # Errors
/// What the base reports.
pub fn lessons(pool: &Pool, data: &TasteData, writer: &LanguageModel, written: usize) -> Result<Lessons, EvalError> {
    let mut lessons = Lessons {
        examples: Dataset::default(),
        singles: Judgements::default(),
        pairs: Judgements::default(),
        prompts: Vec::new(),
        by_taste: 0,
    };
    for thumb in &data.thumbs {
        let number = entry_of(&thumb.generation);
        let prompt = &pool.entries[number].prompt;
        lessons.prompts.push(prompt.text.clone());
        let measured = is_measured(number);
        let text = example(writer, prompt, &thumb.text);
        if thumb.liked {
            let rivals = data.thumbs.iter().filter(|other| !other.liked && other.generation == thumb.generation);
            for rival in rivals {
                let pair = Judgement::Pair { chosen: text.clone(), rejected: example(writer, prompt, &rival.text) };
                side(&mut lessons.pairs, measured).push(pair);
            }
            if measured { lessons.examples.heldout.push(text.clone()) } else { lessons.examples.train.push(text.clone()) }
        }
        side(&mut lessons.singles, measured).push(Judgement::Single { text, liked: thumb.liked });
    }
    let taste = crate::thumbs::fit(data);
    if taste.confident {
        add_taste(&mut lessons, pool, data, writer, &taste, written)?;
    }
    Ok(lessons)
}

/// Writes anew for the prompts of the thumbs, in turns; the best and the worst by taste are a pair, and each of them a judged text.
fn add_taste(
    lessons: &mut Lessons,
    pool: &Pool,
    data: &TasteData,
    writer: &LanguageModel,
    taste: &TasteModel,
    written: usize,
) -> Result<(), EvalError> {
    let mut own: Vec<usize> = data.thumbs.iter().map(|thumb| entry_of(&thumb.generation)).collect();
    own.dedup();
    for (round, entry) in own.iter().cycle().take(written).enumerate() {
        let prompt = &pool.entries[*entry].prompt;
        let mut random = Random::for_purpose("taste pairs", round as u64);
        let texts = write(writer, prompt, &mut random)?;
        let mut scored: Vec<(f64, String)> = texts.into_iter().map(|text| (taste.predict(&text).logit, text)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (Some((best, better)), Some((worst, worse))) = (scored.first(), scored.last()) else { continue };
        if best - worst < CLEARLY_BETTER {
            continue;
        }
        let measured = is_measured(*entry);
        let (chosen, rejected) = (example(writer, prompt, better), example(writer, prompt, worse));
        if measured {
            lessons.examples.heldout.push(chosen.clone())
        } else {
            lessons.examples.train.push(chosen.clone())
        }
        side(&mut lessons.singles, measured)
            .extend([Judgement::Single { text: chosen.clone(), liked: true }, Judgement::Single { text: rejected.clone(), liked: false }]);
        side(&mut lessons.pairs, measured).push(Judgement::Pair { chosen, rejected });
        lessons.by_taste += 1;
    }
    Ok(())
}

fn side(judgements: &mut Judgements, measured: bool) -> &mut Vec<Judgement> {
    if measured { &mut judgements.heldout } else { &mut judgements.train }
}

fn write(writer: &LanguageModel, prompt: &Prompt, random: &mut Random) -> Result<Vec<String>, EvalError> {
    pool::texts(writer, prompt, (0..WRITTEN).map(|_| MemberSpec::plain(sampler(random.draw()))).collect())
}

fn example(writer: &LanguageModel, prompt: &Prompt, text: &str) -> Example {
    let tokenizer = writer.tokenizer();
    let mut answer = tokenizer.encode(&StoryFormat::plain(text));
    // A text that was cut off at the length limit must not teach to stop there.
    if text.ends_with(['.', '!', '?', '"', '”'])
        && let Some(end) = tokenizer.special(StoryFormat::END)
    {
        answer.push(end);
    }
    Example { prompt: asked(writer, prompt), answer, weight: 1.0 }
}

fn is_measured(entry: usize) -> bool {
    entry.is_multiple_of(MEASURED_EVERY)
}

/// The prompt of a generation's name.
fn entry_of(generation: &str) -> usize {
    generation.split('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
