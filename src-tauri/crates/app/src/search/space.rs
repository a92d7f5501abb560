//! What a search may vary, and between which values.

use crate::hyperparameters::{ALL_LINEAR, usual_rate};
use domain::{HyperparameterChoice, Hyperparameters, Objective, Recipe, SearchAxis, Settings, TrainRequest};

const PROMPT_LENGTHS: [u32; 5] = [4, 8, 16, 32, 64];
const RANKS: [u32; 5] = [4, 8, 16, 32, 64];
const DROPOUTS: [f64; 3] = [0.0, 0.05, 0.1];
/// Of the usual rate of the method. Rates count most, so they are tried most finely.
const RATES: [f64; 7] = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0];
/// All, those that LoRA's paper recommends, attention, and the feed-forward layer.
const TARGETS: [&[&str]; 4] =
    [&[], &["q_proj", "v_proj"], &["q_proj", "k_proj", "v_proj", "o_proj"], &["gate_proj", "up_proj", "down_proj"]];

/// All, or the last half or quarter of them.
const LAYER_SHARES: [u32; 3] = [1, 2, 4];

/// What may vary: what the person did not set. Numbers of one method keep a search to that method.
pub(crate) fn free_axes(request: &TrainRequest, objective: Objective, only_soft_prompts: bool, keep_recipe: bool) -> Vec<SearchAxis> {
    let HyperparameterChoice { virtual_tokens, rank, alpha, dropout, target_modules, layers, rank_stabilised, learning_rate, .. } =
        &request.hyperparameters;
    let soft = request.recipe == Recipe::SoftPrompt;
    let of_a_method = virtual_tokens.is_some()
        || rank.is_some()
        || alpha.is_some()
        || dropout.is_some()
        || target_modules.is_some()
        || layers.is_some()
        || rank_stabilised.is_some()
        || learning_rate.is_some();
    let any_recipe = !keep_recipe && !of_a_method && !only_soft_prompts;
    let soft_too = soft || (any_recipe && objective == Objective::Sft);
    let low_rank_too = !soft || any_recipe;
    let free = [
        (SearchAxis::Recipe, any_recipe),
        (SearchAxis::VirtualTokens, soft_too && virtual_tokens.is_none()),
        (SearchAxis::Rank, low_rank_too && rank.is_none()),
        (SearchAxis::TargetModules, low_rank_too && target_modules.is_none()),
        (SearchAxis::Layers, low_rank_too && layers.is_none()),
        (SearchAxis::Dropout, low_rank_too && dropout.is_none()),
        (SearchAxis::LearningRate, learning_rate.is_none()),
    ];
    free.into_iter().filter(|(_, free)| *free).map(|(axis, _)| axis).collect()
}

/// The recipes that are worth a trial with this objective.
fn recipes(objective: Objective) -> &'static [Recipe] {
    if objective == Objective::Sft { &[Recipe::SoftPrompt, Recipe::Lora, Recipe::Dora] } else { &[Recipe::Lora, Recipe::Dora] }
}

/// `count` configurations at most, the default first, each another one that is `possible` on the base.
pub(crate) fn draw(
    axes: &[SearchAxis],
    recipe: Recipe,
    default: &Hyperparameters,
    settings: &Settings,
    base_layers: u32,
    possible: &dyn Fn(Recipe, &Hyperparameters) -> bool,
    count: usize,
) -> Vec<(Recipe, Hyperparameters)> {
    let choices: Vec<usize> = axes
        .iter()
        .map(|axis| match axis {
            SearchAxis::Recipe => recipes(default.objective).len(),
            SearchAxis::VirtualTokens => PROMPT_LENGTHS.len(),
            SearchAxis::Rank => RANKS.len(),
            SearchAxis::TargetModules => TARGETS.len(),
            SearchAxis::Layers => LAYER_SHARES.len(),
            SearchAxis::Dropout => DROPOUTS.len(),
            SearchAxis::LearningRate => RATES.len(),
        })
        .collect();
    let mut drawn = vec![(recipe, default.clone())];
    // Twice as many as needed: some are alike once what a method does not use is left out.
    for configuration in training::draw_configurations(&choices, 2 * count, u64::from(default.seed)) {
        let one = configured(axes, &configuration, recipe, default, settings, base_layers);
        if drawn.len() < count && possible(one.0, &one.1) && !drawn.contains(&one) {
            drawn.push(one);
        }
    }
    drawn
}

fn configured(
    axes: &[SearchAxis],
    configuration: &[usize],
    asked: Recipe,
    default: &Hyperparameters,
    settings: &Settings,
    base_layers: u32,
) -> (Recipe, Hyperparameters) {
    let chosen = |axis: SearchAxis| axes.iter().zip(configuration).find(|(one, _)| **one == axis).map(|(_, choice)| *choice);
    let recipe = chosen(SearchAxis::Recipe).map_or(asked, |choice| recipes(default.objective)[choice]);
    let mut numbers = default.clone();
    if recipe == Recipe::SoftPrompt {
        numbers.virtual_tokens = chosen(SearchAxis::VirtualTokens).map_or(numbers.virtual_tokens, |choice| PROMPT_LENGTHS[choice]);
    } else {
        if let Some(choice) = chosen(SearchAxis::Rank) {
            // The same scale: a larger rank shall not also be a larger rate.
            numbers.alpha *= f64::from(RANKS[choice]) / f64::from(numbers.rank.max(1));
            numbers.rank = RANKS[choice];
        }
        if let Some(choice) = chosen(SearchAxis::TargetModules) {
            numbers.target_modules = TARGETS[choice].iter().map(|name| (*name).to_owned()).collect();
        }
        if let Some(choice) = chosen(SearchAxis::Layers) {
            // 0 stands for all.
            numbers.layers = if LAYER_SHARES[choice] == 1 { 0 } else { (base_layers / LAYER_SHARES[choice]).max(1) };
        }
        numbers.dropout = chosen(SearchAxis::Dropout).map_or(numbers.dropout, |choice| DROPOUTS[choice]);
    }
    if let Some(choice) = chosen(SearchAxis::LearningRate) {
        // The default knows whose texts these are; of another kind of method it says nothing.
        let alike = (recipe == Recipe::SoftPrompt) == (asked == Recipe::SoftPrompt);
        let usual = if alike { default.learning_rate } else { usual_rate(settings, recipe, default.objective) };
        numbers.learning_rate = (RATES[choice] * usual).min(1.0);
    }
    (recipe, numbers)
}

/// A configuration in a few words.
pub(crate) fn in_words(recipe: Recipe, numbers: &Hyperparameters) -> String {
    let rate = numbers.learning_rate;
    match recipe {
        Recipe::SoftPrompt => format!("soft prompt of {} vectors, learning rate {rate}", numbers.virtual_tokens),
        Recipe::Lora | Recipe::Dora => {
            let targets = if numbers.target_modules.is_empty() { ALL_LINEAR.to_owned() } else { numbers.target_modules.join(", ") };
            let dropout = if numbers.dropout > 0.0 { format!(", dropout {}", numbers.dropout) } else { String::new() };
            let layers = if numbers.layers > 0 { format!(" of the last {} layers", numbers.layers) } else { String::new() };
            format!("{} of rank {} on {targets}{layers}{dropout}, learning rate {rate}", recipe.label(), numbers.rank)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hyperparameters::resolved;

    fn default(recipe: Recipe, objective: Objective) -> Hyperparameters {
        resolved(&Settings::default(), &TrainRequest::of(recipe), objective).expect("the settings' own numbers")
    }

    #[test]
    fn what_the_person_set_stays_and_keeps_the_search_to_its_method() {
        let asked = |choice| TrainRequest { hyperparameters: choice, ..TrainRequest::of(Recipe::Lora) };
        let free = |request: &TrainRequest| free_axes(request, Objective::Sft, false, false);
        assert_eq!(free(&asked(HyperparameterChoice::default())).len(), 7, "everything");
        let ranked = free(&asked(HyperparameterChoice { rank: Some(8), ..HyperparameterChoice::default() }));
        assert_eq!(ranked, [SearchAxis::TargetModules, SearchAxis::Layers, SearchAxis::Dropout, SearchAxis::LearningRate]);
        let judged = free_axes(&asked(HyperparameterChoice::default()), Objective::Kto, false, false);
        assert!(
            !judged.contains(&SearchAxis::VirtualTokens),
            "soft prompts learned less from verdicts (E3), so a search does not spend its time on them"
        );
        let t5 = free_axes(&TrainRequest::of(Recipe::SoftPrompt), Objective::Sft, true, false);
        assert_eq!(t5, [SearchAxis::VirtualTokens, SearchAxis::LearningRate]);
    }

    #[test]
    fn configurations_are_all_different_and_the_default_stands_first() {
        let axes = free_axes(&TrainRequest::of(Recipe::Lora), Objective::Sft, false, false);
        let numbers = default(Recipe::Lora, Objective::Sft);
        let drawn = draw(&axes, Recipe::Lora, &numbers, &Settings::default(), 6, &|_, _| true, 18);
        assert_eq!(drawn.len(), 18);
        assert_eq!(drawn[0], (Recipe::Lora, numbers.clone()));
        assert_eq!(drawn, draw(&axes, Recipe::Lora, &numbers, &Settings::default(), 6, &|_, _| true, 18), "the same at the same seed");
        for (index, one) in drawn.iter().enumerate() {
            assert!(!drawn[..index].contains(one), "{one:?} comes twice");
            assert_eq!(one.1.alpha / f64::from(one.1.rank), numbers.alpha / f64::from(numbers.rank), "the scale is kept");
        }
        let around = |recipe, usual: f64| {
            let mut rates = drawn.iter().filter(|(one, _)| *one == recipe).map(|(_, one)| one.learning_rate);
            assert!(rates.all(|rate| RATES.iter().any(|share| (share * usual - rate).abs() < 1e-12)), "{recipe:?} around {usual}");
        };
        // The person's own liked texts, of which LoRA learns at a tenth of the settings' rate.
        assert_eq!(numbers.learning_rate, Settings::default().lora_learning_rate * 0.1);
        around(Recipe::Lora, numbers.learning_rate);
        around(Recipe::Dora, numbers.learning_rate);
        around(Recipe::SoftPrompt, Settings::default().training_learning_rate);
        for recipe in [Recipe::SoftPrompt, Recipe::Lora, Recipe::Dora] {
            assert!(drawn.iter().filter(|(one, _)| *one == recipe).count() >= 4, "{recipe:?} is tried");
        }
        let whole = draw(&axes, Recipe::Lora, &numbers, &Settings::default(), 6, &|_, one| one.target_modules.len() != 2, 18);
        assert!(whole.iter().all(|(_, one)| one.target_modules.len() != 2), "what a base cannot do is not tried");
        let few = draw(&[SearchAxis::Dropout], Recipe::Lora, &numbers, &Settings::default(), 6, &|_, _| true, 18);
        assert_eq!(few.len(), DROPOUTS.len(), "no more than there are");
    }
}
