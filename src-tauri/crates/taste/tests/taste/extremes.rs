//! Nothing that a person or a model writes makes a score panic or leave its range.

use crate::stories::STORIES;
use domain::{FinishReason, Genre, GenreMix, Style, TasteTraining};
use proptest::prelude::*;
use std::collections::BTreeMap;
use taste::*;

fn check(prompt: &str, text: &str, model: &TasteModel) {
    let genres = GenreMix(BTreeMap::from([(Genre::Horror, 70.0), (Genre::Romance, 30.0)]));
    let share = |value: f64| (0.0..=1.0).contains(&value);
    assert!(style(text).iter().all(|z| z.abs() <= 3.0), "features are held within three deviations");
    let prediction = model.predict(text);
    assert!(share(prediction.probability) && prediction.sd >= 0.0 && prediction.logit.is_finite());
    assert!(
        share(on_prompt(prompt, text, None))
            && share(genre_fit(&genres, text))
            && share(repetition(text))
            && share(distinct_2(&[text, prompt]))
    );
    for mean_logprob in [None, Some(-2.0), Some(f64::NAN), Some(f64::NEG_INFINITY)] {
        let others = [prompt, text];
        let input = QualityInput {
            prompt,
            text,
            finish: FinishReason::Length,
            mean_logprob,
            genres: &genres,
            style: Some(Style::Dialogue),
            others: &others,
        };
        let quality = quality(&input);
        assert!((0.0..=10.0).contains(&quality.score) && quality.parts.iter().all(|part| part.points.is_finite()));
        assert!(share(fluency(mean_logprob.unwrap_or(0.0), repetition(text))));
    }
    verdict_in_words([prompt, text]);
}

fn some_model() -> TasteModel {
    let thumb = |(at, story): (usize, &crate::stories::Story)| Thumb {
        generation: at.to_string(),
        text: story.text.clone(),
        liked: story.text.contains('"'),
    };
    let data = TasteData { thumbs: STORIES.iter().take(30).enumerate().map(thumb).collect(), comparisons: Vec::new() };
    TasteModel::fit(&data, &TasteTraining::default())
}

#[test]
fn extreme_texts_are_scored_like_any_other() {
    let model = some_model();
    let long = STORIES.iter().map(|story| story.text.as_str()).cycle().take(170).collect::<Vec<_>>().join("\n\n");
    assert!(long.len() > 100_000);
    let word = "a".repeat(100_000);
    let texts = [
        "",
        " \n\n\t ",
        ".",
        "\"",
        "'''",
        "\u{200b}\u{200d}\u{feff}",
        "👩‍👩‍👧 🙂 e\u{301}\u{301} ﷽",
        "İstanbul ǅ ß Ω Ж 中文。",
        "\0\u{fffd}",
        &word,
        &long,
    ];
    for text in texts {
        for prompt in ["", "a dragon", &word, text] {
            check(prompt, text, &model);
        }
    }
}

#[test]
fn a_model_of_extreme_texts_can_be_fitted() {
    let texts = ["", "\u{200b}", "🙂🙂🙂", "...", "word word word word word", "A \" B", "\n\n\n", "I am. I was! Am I?"];
    let thumbs = texts.iter().enumerate().map(|(at, text)| Thumb { generation: "g".into(), text: (*text).into(), liked: at % 2 == 0 });
    let comparison = Comparison { generation: "g".into(), better: String::new(), worse: String::new() };
    let data = TasteData { thumbs: thumbs.collect(), comparisons: vec![comparison] };
    for max_vocab in [0, 1, u32::MAX] {
        for epochs in [0, 1, u32::MAX] {
            let model = TasteModel::fit(&data, &TasteTraining { epochs, max_vocab, lr: f64::NAN });
            assert!(!model.confident, "there is nothing to be found in these");
            check("prompt", "A text.", &model);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_is_scored(prompt in "\\PC{0,60}", text in "(\\PC|[\\n\"'.!?\u{200b}]){0,300}") {
        static MODEL: std::sync::LazyLock<TasteModel> = std::sync::LazyLock::new(some_model);
        check(&prompt, &text, &MODEL);
    }
}
