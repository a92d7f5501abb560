//! How well a score tells a story's own prompt from another's, on the probe stories.

use model::Embedder;
use std::path::Path;

struct Story {
    prompt: String,
    text: String,
}

fn stories() -> Vec<Story> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../assets/probes/stories.jsonl");
    let text = std::fs::read_to_string(path).expect("shipped");
    let story = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        Story { prompt: line["prompt"].as_str().expect("a prompt").to_owned(), text: line["text"].as_str().expect("a text").to_owned() }
    };
    text.lines().map(story).collect()
}

#[test]
fn nearness_in_meaning_tells_a_storys_own_prompt_from_another_better_than_words_alone() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../assets/models/embedder");
    let embedder = Embedder::load(&folder, 2).expect("shipped");
    let stories = stories();
    let embed = |texts: Vec<&str>| embedder.embed(&texts);
    let prompts = embed(stories.iter().map(|story| story.prompt.as_str()).collect());
    let texts = embed(stories.iter().map(|story| story.text.as_str()).collect());
    let (mut words, mut meaning, mut both, mut own) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (at, story) in stories.iter().enumerate() {
        for (other, prompt) in stories.iter().enumerate() {
            let near = model::cosine(&prompts[other], &texts[at]);
            words.push(taste::on_prompt(&prompt.prompt, &story.text, None));
            both.push(taste::on_prompt(&prompt.prompt, &story.text, Some(near)));
            meaning.push(near);
            own.push(at == other);
        }
    }
    let auc = |scores: &[f64]| taste::auc(scores, &own).expect("both kinds are there");
    let (words, meaning, both) = (auc(&words), auc(&meaning), auc(&both));
    println!("own against another prompt, {} stories: AUC of words {words:.4}, of meaning {meaning:.4}, of both {both:.4}", stories.len());
    assert!(both > words + 0.03 && both >= 0.95, "reached {both:.4} with meaning, {words:.4} without");
}
