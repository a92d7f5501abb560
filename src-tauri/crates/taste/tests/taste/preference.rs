//! The preference model: what it learns, how sure it is, and when it admits to know nothing.

use crate::simulation::{FEATURE_USERS, OTHER_USERS, User, judged, thumbs};
use crate::stories::{Random, STORIES};
use domain::TasteTraining;
use taste::*;

fn fit(data: &TasteData) -> TasteModel {
    TasteModel::fit(data, &TasteTraining::default())
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean held-out AUC of each user over the seeds, and the share of fits that were confident.
fn learned(users: &[User], n: usize, seeds: u64) -> Vec<(f64, f64)> {
    let user = |user: &User| {
        let runs: Vec<(f64, bool)> = (0..seeds).map(|seed| judged(user, n, seed)).collect();
        let reached = (mean(runs.iter().map(|run| run.0)), mean(runs.iter().map(|run| f64::from(run.1))));
        println!("{n:4} thumbs, {:20} AUC {:.3}, confident {:.2}", user.name, reached.0, reached.1);
        reached
    };
    users.iter().map(user).collect()
}

#[test]
fn tastes_that_features_express_are_learned_from_few_thumbs() {
    // The floors stand a little below what 5 seeds reached; LEARNING.md asks 0.70 / 0.78 / 0.85 of the mean.
    for (n, floor) in [(25, 0.78), (50, 0.86), (100, 0.89)] {
        let reached = mean(learned(&FEATURE_USERS, n, 5).into_iter().map(|user| user.0));
        println!("{n:4} thumbs, mean of users with features: {reached:.3}");
        assert!(reached >= floor, "{n} thumbs reached {reached:.3}");
    }
}

#[test]
fn tastes_without_a_feature_of_their_own_are_learned_too() {
    for (n, floor) in [(25, 0.65), (50, 0.83), (100, 0.89)] {
        let reached = mean(learned(&OTHER_USERS, n, 5).into_iter().map(|user| user.0));
        println!("{n:4} thumbs, mean of users without: {reached:.3}");
        assert!(reached >= floor, "{n} thumbs reached {reached:.3}");
    }
}

#[test]
fn a_hundred_thumbs_for_dialogue_are_believed_and_said_in_words() {
    let (data, _) = thumbs(&FEATURE_USERS[0].likes(), 100, 0.1, 3);
    let card = fit(&data).card();
    assert!(card.summary.confident, "{}", card.sentence);
    println!("{card:#?}");
    assert!(card.likes.contains(&"dialogue".to_owned()), "{}", card.sentence);
    assert!(card.sentence.starts_with("Likes ") && card.sentence.contains("dialogue"), "{}", card.sentence);
    assert_eq!(card.liked_texts + card.disliked_texts, 100);
}

#[test]
fn random_thumbs_are_not_believed_however_often_one_looks() {
    let (mut looks, mut believed) = (0, 0);
    let mut aucs = Vec::new();
    for seed in 0..40 {
        let mut random = Random::new(1000 + seed);
        let coins: Vec<bool> = STORIES.iter().map(|_| random.chance(0.5)).collect();
        for n in (10..=100).step_by(10) {
            let model = fit(&thumbs(&coins, n, 0.0, seed).0);
            looks += 1;
            believed += u32::from(model.confident);
            aucs.extend(model.auc);
            assert!((0.0..=1.0).contains(&model.chance));
            if !model.confident {
                assert!(model.card().sentence.starts_with("No taste found yet"), "it says so");
            }
        }
    }
    let cross_validated = mean(aucs.into_iter());
    println!("random thumbs believed in {believed} of {looks} looks; mean cross-validated AUC {cross_validated:.3}");
    assert!(believed * 100 <= 2 * looks, "a look in a hundred, and as much for luck: {believed} of {looks}");
    assert!((0.42..=0.58).contains(&cross_validated), "the estimate itself is honest, {cross_validated:.3}");
}

#[test]
fn a_plain_taste_is_believed_from_fifty_thumbs_on() {
    // Share of five seeds, a little below what was reached; under a fixed bar on the evidence it was 0.51.
    let share = mean(learned(&FEATURE_USERS, 50, 5).into_iter().map(|user| user.1));
    assert!(share >= 0.6, "believed in {share:.2} of the fits");
}

#[test]
fn probabilities_are_calibrated() {
    // Reliability in fifths of the predictions, over users and seeds; LEARNING.md allows an error of 0.10.
    let mut pairs: Vec<(f64, bool)> = Vec::new();
    for user in FEATURE_USERS.iter().chain(&OTHER_USERS) {
        for seed in 0..3 {
            let likes = user.likes();
            let (data, heldout) = thumbs(&likes, 60, 0.1, seed);
            let model = fit(&data);
            let mut slips = Random::new(seed);
            // Held-out thumbs slip as often as the others: it is verdicts that are predicted.
            pairs.extend(heldout.iter().map(|at| (model.predict(&STORIES[*at].text).probability, likes[*at] != slips.chance(0.1))));
        }
    }
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let error = mean(pairs.chunks(pairs.len().div_ceil(10)).map(|tenth| {
        let predicted = mean(tenth.iter().map(|pair| pair.0));
        let liked = mean(tenth.iter().map(|pair| f64::from(pair.1)));
        println!("predicted {predicted:.3}, liked {liked:.3}");
        (predicted - liked).abs()
    }));
    println!("expected calibration error {error:.3}");
    assert!(error <= 0.06, "reached {error:.3}");
}

#[test]
fn contradictory_thumbs_find_no_taste() {
    let both = |(at, story): (usize, &crate::stories::Story)| {
        [true, false].map(|liked| Thumb { generation: at.to_string(), text: story.text.clone(), liked })
    };
    let data = TasteData { thumbs: STORIES.iter().take(40).enumerate().flat_map(both).collect(), comparisons: Vec::new() };
    let model = fit(&data);
    assert!(!model.confident);
    assert!(model.style.iter().all(|term| term.weight.abs() < 1e-6), "for and against cancel out");
    let card = model.card();
    assert!(card.sentence.starts_with("No taste found yet") && card.sentence.contains("chance"), "{}", card.sentence);
    assert!(card.likes.is_empty() && card.dislikes.is_empty());
}

#[test]
fn few_or_one_sided_thumbs_say_what_is_missing() {
    let thumb = |at: usize, liked| Thumb { generation: at.to_string(), text: STORIES[at].text.clone(), liked };
    let sentence = |thumbs: Vec<Thumb>| fit(&TasteData { thumbs, comparisons: Vec::new() }).card().sentence;
    assert_eq!(sentence(Vec::new()), "No taste found yet: thumb at least 8 texts, some up and some down.");
    assert_eq!(sentence(vec![thumb(0, true)]), "No taste found yet: 1 thumb so far; 7 more will do for a first try.");
    let praise = sentence((0..20).map(|at| thumb(at, true)).collect());
    assert!(praise.contains("a few down"), "{praise}");
    let nothing = fit(&TasteData::default()).predict("Any text.");
    assert_eq!((nothing.probability, nothing.logit), (0.5, 0.0), "without thumbs every text is an even chance");
    assert!(nothing.sd > 0.5, "and nothing is sure");
}

#[test]
fn thumbs_make_it_surer() {
    let likes = FEATURE_USERS[0].likes();
    let sd = |n| {
        let model = fit(&thumbs(&likes, n, 0.1, 5).0);
        mean(STORIES.iter().map(|story| model.predict(&story.text).sd))
    };
    let (few, many) = (sd(10), sd(200));
    assert!(many < 0.8 * few, "{few:.3} with 10, {many:.3} with 200");
}

#[test]
fn a_model_read_back_predicts_exactly_the_same() {
    let model = fit(&thumbs(&FEATURE_USERS[1].likes(), 120, 0.1, 2).0);
    let json = serde_json::to_string_pretty(&model).expect("the model is plain data");
    let back: TasteModel = serde_json::from_str(&json).expect("it reads its own file");
    assert_eq!(back, model);
    for story in STORIES.iter() {
        assert_eq!(back.predict(&story.text), model.predict(&story.text));
    }
    assert!(json.contains("\"name\": \"dialogue\""), "weights are named");
    assert_eq!(fit(&thumbs(&FEATURE_USERS[1].likes(), 120, 0.1, 2).0), model, "the same thumbs give the same model");
}

#[test]
fn a_model_of_an_older_program_can_be_read_but_is_to_be_fitted_anew() {
    let model = fit(&thumbs(&FEATURE_USERS[0].likes(), 60, 0.1, 1).0);
    assert!(model.is_current());
    // The first layout knew neither details nor kin, nor that a taste can change.
    let mut old = serde_json::to_value(&model).expect("plain data");
    old["format"] = 1.into();
    old.as_object_mut().expect("an object").remove("since");
    for newer in ["detail", "kin"] {
        old["priors"].as_object_mut().expect("an object").remove(newer);
    }
    old["priors"]["together"] = 0.0.into();
    let old: TasteModel = serde_json::from_value(old).expect("it is still readable");
    assert!(!old.is_current());
    assert!(old.predict(&STORIES[0].text).probability.is_finite());
}

#[test]
fn a_taste_that_turns_round_is_followed() {
    let likes = FEATURE_USERS[0].likes();
    let turned: Vec<bool> = likes.iter().map(|liked| !liked).collect();
    let (mut data, _) = thumbs(&likes, 50, 0.1, 6);
    let (after, heldout) = thumbs(&turned, 90, 0.1, 6);
    data.thumbs.extend(after.thumbs.into_iter().skip(50));
    let model = fit(&data);
    assert!(model.since >= 40, "the old thumbs count for little from {} on", model.since);
    let scores: Vec<f64> = heldout.iter().map(|at| model.predict(&STORIES[*at].text).logit).collect();
    let liked: Vec<bool> = heldout.iter().map(|at| turned[*at]).collect();
    assert!(auc(&scores, &liked).expect("both verdicts") > 0.6, "40 thumbs after the turn");
    let (steady, _) = thumbs(&likes, 90, 0.1, 6);
    assert_eq!(fit(&steady).since, 0, "a steady taste has not changed");
}

#[test]
fn edits_teach_which_way_to_go() {
    // Somebody who shortens every sentence, never thumbing anything.
    let edit = |(at, story): (usize, &crate::stories::Story)| Comparison {
        generation: at.to_string(),
        better: story.text.replace(", and ", ". And ").replace(", ", ". "),
        worse: story.text.clone(),
    };
    let data = TasteData { thumbs: Vec::new(), comparisons: STORIES.iter().take(40).enumerate().map(edit).collect() };
    let model = fit(&data);
    // Splitting at commas says both at once, and that fewer sentences go on with "and"; which it is cannot be known, so each
    // is believed a little.
    let term = |name: &str| model.style.iter().find(|term| term.name == name).expect("a named term");
    let less = |name: &str| term(name).weight < -1.5 * term(name).sd;
    assert!(less("sentence_length") || less("commas"), "shorter is better: {:?} {:?}", term("sentence_length"), term("commas"));
    assert!(term("sentence_length").weight < 0.0);
    let long = "The wind that came down from the hills in the evening carried the smell of the old orchard over the wall.";
    assert!(model.predict("The wind came down. It was evening. It smelled of apples.").logit > model.predict(long).logit);
}

#[test]
fn texts_of_one_generation_are_compared() {
    // All are of one prompt's kind; only what differs inside each generation can tell. Pairs alone must learn it.
    let likes = FEATURE_USERS[0].likes();
    let (data, heldout) = thumbs(&likes, 100, 0.0, 9);
    let only_pairs = Priors { bias: 1e-3, ..Priors::default() };
    let with = TasteModel::fit_with(&data, &TasteTraining::default(), &only_pairs);
    let without = TasteModel::fit_with(&data, &TasteTraining::default(), &Priors { pair_weight: 0.0, ..only_pairs });
    let sd = |model: &TasteModel| model.style.iter().find(|term| term.name == "dialogue").expect("a named term").sd;
    assert!(sd(&with) < sd(&without), "pairs add knowledge");
    let scores: Vec<f64> = heldout.iter().map(|at| with.predict(&STORIES[*at].text).logit).collect();
    let liked: Vec<bool> = heldout.iter().map(|at| likes[*at]).collect();
    assert!(auc(&scores, &liked).expect("both verdicts") > 0.8);
}

#[test]
fn the_most_informative_pair_is_the_one_it_cannot_call() {
    let model = fit(&thumbs(&FEATURE_USERS[0].likes(), 60, 0.0, 4).0);
    let texts: Vec<&str> = STORIES.iter().take(6).map(|story| story.text.as_str()).collect();
    assert!(model.most_informative_pair(&texts).is_some_and(|(a, b)| a < b && b < 6));
    assert_eq!(model.most_informative_pair(&[texts[0], texts[0]]), None, "a text and its twin teach nothing");
    assert_eq!(model.most_informative_pair(&texts[..1]), None);
    // By predictions alone: two unsure texts before two sure ones, and before a sure winner.
    let of = |logit, sd| Prediction::new(logit, sd);
    assert_eq!(most_informative_pair(&[of(0.0, 0.1), of(0.0, 2.0), of(5.0, 0.1), of(0.1, 2.0)]), Some((1, 3)));
}

#[test]
fn unsure_predictions_stay_near_one_half() {
    // σ(2 / √(1 + π · 4 / 8)) by hand.
    let unsure = Prediction::new(2.0, 2.0);
    assert!((unsure.probability - 1.0 / (1.0 + (-2.0f64 / (1.0 + std::f64::consts::FRAC_PI_2).sqrt()).exp())).abs() < 1e-12);
    assert!(Prediction::new(2.0, 0.0).probability > unsure.probability && unsure.probability > 0.5);
}
