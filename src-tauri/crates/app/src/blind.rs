//! The blind test: five pairs of texts, one by the trained adapter and one by what would write without it; the person does not
//! know which is which and says which is better.

use crate::dataset::{FrozenDataset, JudgedText};
use crate::{App, Home, evaluate, folder, worker};
use domain::{
    Adapter, ApiError, BlindAnswer, BlindChoice, BlindPair, BlindRequest, BlindResult, BlindTest, Preference, PreferenceId,
    PreferenceSource, Run, RunId, Timestamp,
};
use model::Adapters;
use std::collections::HashSet;
use store::StoredBlindPair;

/// Pairs of a test: enough to form an opinion, few enough to answer at one go.
const PAIRS: usize = 5;

/// Seeds of the first test; apart from those of the verdict, whose texts taste has judged already.
const SEED: usize = 50_000;

impl App {
    /// The blind test of a run's adapter: the one under way, or the last one, or a new one, which takes some seconds to write.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while the run has no adapter.
    pub fn blind_test(&self, request: BlindRequest) -> Result<BlindTest, ApiError> {
        let home = self.home();
        let run = home.store.run(&request.run_id)?;
        let mut pairs = home.store.blind_pairs(&run.run_id)?;
        if pairs.is_empty() || request.again {
            let round = usize::from(request.again) * (1 + home.store.preferences()?.len());
            pairs = self.write_blind_pairs(&home, &run, round)?;
            home.store.save_blind_pairs(&run.run_id, &pairs)?;
        }
        Ok(shown(run.run_id, pairs))
    }

    /// Takes an answer. Every one that prefers a text is stored as a preference, from which taste and trainings learn; the last
    /// one completes the verdict of the run and of its adapter.
    ///
    /// # Errors
    /// `NotFound` for an unknown run or pair; `Conflict` for a pair that was answered.
    pub fn answer_blind(&self, answer: BlindAnswer) -> Result<BlindTest, ApiError> {
        let home = self.home();
        let mut run = home.store.run(&answer.run_id)?;
        let mut pairs = home.store.blind_pairs(&run.run_id)?;
        let pair = pairs.iter_mut().find(|pair| pair.number == answer.number).ok_or_else(|| ApiError::not_found("pair", answer.number))?;
        if pair.choice.is_some() {
            // What was which may have been told since: an answer now would not be blind.
            return Err(ApiError::new(domain::ErrorCode::Conflict, format!("Pair {} is answered already.", pair.number))
                .hint("Ask for other pairs to judge again."));
        }
        pair.choice = Some(answer.choice);
        let preference = match answer.choice {
            BlindChoice::Neither => None,
            BlindChoice::First => Some((pair.first.clone(), pair.second.clone())),
            BlindChoice::Second => Some((pair.second.clone(), pair.first.clone())),
        };
        let preference = preference.map(|(better, worse)| Preference {
            id: PreferenceId::fresh(),
            source: PreferenceSource::Blind,
            generation_id: None,
            prompt: pair.prompt.clone(),
            genres: pair.genres.clone(),
            style: pair.style,
            better,
            worse,
            created_at: Timestamp::now(),
        });
        let found = result(&pairs);
        if let (Some(verdict), Some(found)) = (&mut run.verdict, found) {
            verdict.blind = Some(found);
        }
        home.store.answer_blind_pair(&run, answer.number, answer.choice, preference.as_ref())?;
        if let (Some(id), Some(_)) = (&run.adapter_id, found) {
            let adapter = home.store.adapter(id)?;
            home.store.update_adapter(&Adapter { verdict: run.verdict.clone(), ..adapter })?;
        }
        if preference.is_some() {
            self.learn_after_preference()?;
        }
        Ok(shown(run.run_id, pairs))
    }

    fn write_blind_pairs(&self, home: &Home, run: &Run, round: usize) -> Result<Vec<StoredBlindPair>, ApiError> {
        let id = run.adapter_id.as_ref().ok_or_else(|| worker::not_now(run, "compared").hint("Wait until it has finished."))?;
        let adapter = home.store.adapter(id)?;
        let trained = self.adapter_weights(home, &adapter)?;
        let mut before = Adapters::default();
        for other in home.store.active_adapters(&adapter.base)?.into_iter().filter(|other| other.id != adapter.id) {
            self.adapter_weights(home, &other)?.join(&mut before, other.strength);
        }
        let mut after = before.clone();
        trained.join(&mut after, adapter.strength);
        let base = self.base(&adapter.base)?;
        let probes = blind_prompts(evaluate::probes(&FrozenDataset::load(&home.folder.runs().join(run.run_id.as_str()))?)?, round);
        let _waiting_for_text = self.writing.gate.enter();
        let mut pairs = Vec::new();
        for (at, probe) in probes.into_iter().enumerate() {
            let number = at as u32 + 1;
            let written = evaluate::write_pairs(&base, &probe, SEED + 1000 * round + 10 * at, &after, &before, &|| false)?;
            let Some((new, old)) = written.and_then(|(new, old)| new.into_iter().next().zip(old.into_iter().next())) else { continue };
            let trained_first = trained_first(&run.run_id, round, number);
            let (first, second) = if trained_first { (new, old) } else { (old, new) };
            pairs.push(StoredBlindPair {
                number,
                prompt: probe.prompt,
                genres: probe.genres,
                style: probe.style,
                first,
                second,
                trained_first,
                choice: None,
            });
        }
        Ok(pairs)
    }
}

/// Five different prompts, other ones in every round; the person's own held-out prompts come first.
fn blind_prompts(probes: Vec<JudgedText>, round: usize) -> Vec<JudgedText> {
    let mut seen = HashSet::new();
    let mut probes: Vec<JudgedText> = probes.into_iter().filter(|probe| seen.insert(probe.prompt.clone())).collect();
    let turn = (round * PAIRS) % probes.len().max(1);
    probes.rotate_left(turn);
    probes.truncate(PAIRS);
    probes
}

/// Drawn by the run's id, so that nobody can tell from the order and a repeated test repeats in this too.
fn trained_first(run: &RunId, round: usize, number: u32) -> bool {
    folder::sha256_hex(format!("{run} {round} {number}").as_bytes()).ends_with(['0', '2', '4', '6', '8', 'a', 'c', 'e'])
}

fn result(pairs: &[StoredBlindPair]) -> Option<BlindResult> {
    let mut found = BlindResult::default();
    for pair in pairs {
        match (pair.choice?, pair.trained_first) {
            (BlindChoice::Neither, _) => found.neither += 1,
            (BlindChoice::First, true) | (BlindChoice::Second, false) => found.trained += 1,
            _ => found.before += 1,
        }
    }
    (!pairs.is_empty()).then_some(found)
}

/// The test as the person may see it: which side is which only at the end.
fn shown(run_id: RunId, pairs: Vec<StoredBlindPair>) -> BlindTest {
    let result = result(&pairs);
    let left = pairs.iter().filter(|pair| pair.choice.is_none()).count();
    let sentence = match result {
        Some(found) => found.sentence(),
        None if left == 1 => "One pair is left.".to_owned(),
        None => format!("{left} pairs are left."),
    };
    let side = |pair: &StoredBlindPair| if pair.trained_first { BlindChoice::First } else { BlindChoice::Second };
    let pairs = pairs.into_iter().map(|pair| BlindPair {
        trained: result.map(|_| side(&pair)),
        number: pair.number,
        prompt: pair.prompt,
        genres: pair.genres,
        first: pair.first,
        second: pair.second,
        choice: pair.choice,
    });
    BlindTest { run_id, pairs: pairs.collect(), result, sentence }
}
