//! LoRA and DoRA at forward time: the same as weights that the adapter was merged into, and nobody else's business.

use crate::bases::{fresh, numbers, odd_config, soft_prompt, story, story_dir, story_prompt};
use kernels::isa::Isa;
use model::{
    Adapters, DenseWeights, Generate, Guidance, LanguageModel, LlamaConfig, LoadOptions, Lora, LoraPart, LoraShape, MemberSpec, ModelError,
    Precision, Projection, Sampler, SoftPrompt, StoryFormat, Tokenizer, WeightedLora,
};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub fn lora(config: &LlamaConfig, seed: u64, dora: bool, targets: &[Projection]) -> Lora {
    let shape = LoraShape { rank: 3, alpha: 6.0, rank_stabilised: seed % 2 == 1, dora, targets: targets.to_vec() };
    let part = |layer: usize, target: Projection| {
        let (outputs, inputs) = target.size(config);
        let seed = seed * 1000 + layer as u64 * 10 + target as u64;
        let small = |seed, count, size: f32| numbers(seed, count).into_iter().map(|x| size * x).collect::<Vec<f32>>();
        LoraPart {
            a: small(3 * seed, shape.rank * inputs, 0.05),
            b: small(3 * seed + 1, outputs * shape.rank, 0.05),
            magnitude: dora.then(|| numbers(3 * seed + 2, outputs).into_iter().map(|x| 1.0 + 0.1 * x).collect()),
        }
    };
    let layers = (0..config.layers).map(|layer| targets.iter().map(|target| part(layer, *target)).collect()).collect();
    Lora { layers, shape }
}

/// The formulas of the papers, on whole matrices: W + s B A, and with DoRA its rows brought to the trained lengths.
pub fn merge(weights: &mut DenseWeights, lora: &Lora, strength: f64) {
    let scale = f64::from(lora.shape.scale());
    for (layer, parts) in weights.layers.iter_mut().zip(&lora.layers) {
        for (target, part) in lora.shape.targets.iter().zip(parts) {
            let matrix = match target {
                Projection::Q => &mut layer.q,
                Projection::K => &mut layer.k,
                Projection::V => &mut layer.v,
                Projection::O => &mut layer.o,
                Projection::Gate => &mut layer.gate,
                Projection::Up => &mut layer.up,
                Projection::Down => &mut layer.down,
            };
            let rank = lora.shape.rank;
            let inputs = part.a.len() / rank;
            for (row, weights) in matrix.chunks_exact_mut(inputs).enumerate() {
                let low =
                    |col: usize| (0..rank).map(|k| f64::from(part.b[row * rank + k]) * f64::from(part.a[k * inputs + col])).sum::<f64>();
                let mut tuned: Vec<f64> = weights.iter().enumerate().map(|(col, w)| f64::from(*w) + scale * low(col)).collect();
                if let Some(magnitude) = &part.magnitude {
                    let norm = tuned.iter().map(|w| w * w).sum::<f64>().sqrt();
                    tuned.iter_mut().for_each(|w| *w *= f64::from(magnitude[row]) / norm);
                }
                weights.iter_mut().zip(tuned).for_each(|(w, tuned)| *w = (f64::from(*w) + strength * (tuned - f64::from(*w))) as f32);
            }
        }
    }
}

fn weighted(lora: &Arc<Lora>, strength: f32) -> Option<WeightedLora> {
    Some(WeightedLora { lora: lora.clone(), strength })
}

pub fn with(lora: &Arc<Lora>, strength: f32) -> Adapters {
    Adapters { lora: weighted(lora, strength), ..Adapters::default() }
}

fn member(seed: u64, lora: Option<WeightedLora>) -> MemberSpec {
    MemberSpec { lora, ..MemberSpec::plain(Sampler { seed, ..Sampler::default() }) }
}

fn write(base: &LanguageModel, members: Vec<MemberSpec>, max_tokens: usize) -> Vec<model::Completion> {
    let stop = StoryFormat::stop(story().tokenizer());
    let request = Generate {
        prompt: story_prompt("two sisters and a dragon"),
        written: 0,
        members,
        max_tokens,
        stop,
        stop_texts: Vec::new(),
        guidance: Guidance::default(),
    };
    base.generate(&request, &AtomicBool::new(false), &mut |_| {}).unwrap()
}

pub fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn an_adapter_gives_the_logits_and_texts_of_weights_that_it_was_merged_into() {
    let dense = DenseWeights::load(&story_dir()).unwrap();
    let options = LoadOptions { precision: Precision::F32, ..LoadOptions::new(2) };
    let tokens = [story_prompt("a small door"), story().tokenizer().encode("The door was open.")].concat();
    let base = fresh(2, Precision::F32);
    let plain = base.logits(None, &tokens).unwrap();
    let some = [Projection::K, Projection::O, Projection::Up];
    for (seed, dora, targets, strength) in
        [(1, false, &Projection::ALL[..], 1.0), (2, true, &Projection::ALL, 1.0), (3, false, &some, 0.5), (4, true, &some, 0.5)]
    {
        let lora = Arc::new(lora(base.config(), seed, dora, targets));
        let mut merged = dense.clone();
        merge(&mut merged, &lora, f64::from(strength));
        let merged = LanguageModel::from_weights(merged, Tokenizer::load(&story_dir()).unwrap(), &options).unwrap();
        let (expected, found) = (merged.logits(None, &tokens).unwrap(), base.logits_with(&with(&lora, strength), &tokens).unwrap());
        let (error, effect) = (furthest(&expected, &found), furthest(&plain, &found));
        println!("seed {seed}, DoRA {dora}: error {error:.2e} of an effect of {effect:.2}");
        // f16 keys and values round either way.
        assert!(error < 0.02 && effect > 50.0 * error, "seed {seed}: {error} of {effect}");
        let greedy = |lora| MemberSpec { lora, ..MemberSpec::plain(Sampler::greedy()) };
        let text = |base, lora| write(base, vec![greedy(lora)], 12).remove(0).token_ids;
        assert_eq!(text(&base, weighted(&lora, strength)), text(&merged, None), "seed {seed}: the same greedy text");
    }
}

#[test]
fn guidance_leads_away_from_what_the_bare_base_writes() {
    let base = fresh(2, Precision::F32);
    let lora = Arc::new(lora(base.config(), 1, false, &Projection::ALL));
    let encode = |text: &str| story().tokenizer().encode(&StoryFormat::prompt_text(&Default::default(), None, text));
    let (prompt, unasked, scale) = (encode("a small door"), encode(""), 2.0);
    for away_from in [unasked, prompt.clone()] {
        let request = Generate {
            prompt: prompt.clone(),
            written: 0,
            members: vec![MemberSpec { lora: weighted(&lora, 1.0), ..MemberSpec::plain(Sampler::greedy()) }],
            max_tokens: 12,
            stop: Vec::new(),
            stop_texts: Vec::new(),
            guidance: Guidance::away_from(away_from.clone(), scale),
        };
        let found = base.generate(&request, &AtomicBool::new(false), &mut |_| {}).unwrap().remove(0).token_ids;
        let vocab = base.config().vocab;
        // What follows each token of the text.
        let log_softmax = |logits: Vec<f32>, prompt: &[u32]| -> Vec<Vec<f32>> {
            let row = |logits: &[f32]| {
                let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
                logits.iter().map(|logit| logit - sum.ln()).collect()
            };
            logits.chunks(vocab).skip(prompt.len() - 1).map(row).collect()
        };
        let asked = log_softmax(base.logits_with(&with(&lora, 1.0), &[prompt.as_slice(), &found].concat()).unwrap(), &prompt);
        let bare = log_softmax(base.logits(None, &[away_from.as_slice(), &found].concat()).unwrap(), &away_from);
        for (at, (asked, bare)) in asked.iter().zip(&bare).take(found.len()).enumerate() {
            let guided: Vec<f32> = asked.iter().zip(bare).map(|(asked, bare)| bare + scale * (asked - bare)).collect();
            let most = guided.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert!(most - guided[found[at] as usize] < 1e-2, "token {at}: {} is likeliest by {most}", guided[found[at] as usize]);
        }
    }
}

#[test]
fn on_int8_weights_an_adapter_does_nearly_what_it_does_on_f32_ones() {
    let tokens = story_prompt("a small door");
    for dora in [false, true] {
        let lora = Arc::new(lora(story().config(), 5, dora, &Projection::ALL));
        let change = |base: &LanguageModel| {
            let (with, without) = (base.logits_with(&with(&lora, 1.0), &tokens).unwrap(), base.logits(None, &tokens).unwrap());
            with.iter().zip(without).map(|(a, b)| f64::from(a - b)).collect::<Vec<f64>>()
        };
        let (int8, dense) = (change(story()), change(&fresh(2, Precision::F32)));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cosine = dot(&int8, &dense) / (dot(&int8, &int8) * dot(&dense, &dense)).sqrt();
        println!("DoRA {dora}: the changes of all logits have a cosine of {cosine:.5}");
        // The rounding of int8 itself, with and without the adapter, is a part of both changes.
        assert!(cosine > 0.85, "DoRA {dora}: {cosine}");
    }
}

#[test]
fn strength_0_is_the_plain_base_bit_for_bit() {
    let tokens = story_prompt("a fox");
    for dora in [false, true] {
        let lora = Arc::new(lora(story().config(), 6, dora, &Projection::ALL));
        assert!(story().logits_with(&with(&lora, 0.0), &tokens).unwrap() == story().logits(None, &tokens).unwrap());
        let texts = write(story(), vec![member(3, weighted(&lora, 0.0)), member(3, None)], 20);
        assert_eq!(texts[0], texts[1]);
        let tiny = story().logits_with(&with(&lora, 1e-7), &tokens).unwrap();
        assert!(furthest(&tiny, &story().logits(None, &tokens).unwrap()) < 0.2, "nearly 0 is nearly the plain base");
    }
}

#[test]
fn a_batch_of_base_and_adapters_gives_each_the_text_it_gets_alone() {
    let config = story().config();
    let one = Arc::new(lora(config, 7, false, &Projection::ALL));
    let two = Arc::new(lora(config, 8, true, &Projection::ALL));
    let three = Arc::new(lora(config, 9, false, &[Projection::Q, Projection::V]));
    let members = || {
        let prompted = MemberSpec { soft_prompt: Some(Arc::new(soft_prompt(1, 8))), ..member(6, weighted(&one, 1.0)) };
        let mut members: Vec<MemberSpec> =
            [None, weighted(&one, 1.0), weighted(&two, 1.0), None, weighted(&one, 0.5), weighted(&two, 1.0), weighted(&three, 1.0)]
                .into_iter()
                .zip(1..)
                .map(|(lora, seed)| member(seed, lora))
                .collect();
        members.push(prompted);
        members
    };
    let together = write(story(), members(), 30);
    for (index, alone) in members().into_iter().enumerate() {
        let one = write(&fresh(1, Precision::Int8), vec![alone], 30);
        assert_eq!(one[0], together[index], "candidate {index}, alone on a fresh base with one thread");
    }
    assert_eq!(write(story(), members(), 30), together, "again, with prompts and adapters that are remembered");
    let same_seed = |lora| write(story(), vec![member(1, lora)], 30).remove(0).text;
    assert_ne!(same_seed(weighted(&one, 1.0)), same_seed(None), "adapters change what is written");
    for isa in Isa::available() {
        let base = LanguageModel::load(&story_dir(), &LoadOptions { isa, ..LoadOptions::new(2) }).unwrap();
        assert_eq!(write(&base, members(), 8), write(story(), members(), 8), "{}", isa.name());
    }
}

#[test]
fn an_adapter_comes_back_from_its_folder_as_it_was() {
    for dora in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let lora = lora(&odd_config(), 1, dora, &[Projection::Q, Projection::V, Projection::Down]);
        lora.save(dir.path(), &odd_config(), "a base").unwrap();
        assert_eq!(Lora::load(dir.path(), &odd_config()).unwrap(), lora);
        let json: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join("adapter_config.json")).unwrap()).unwrap();
        assert_eq!(json["target_modules"], serde_json::json!(["q_proj", "v_proj", "down_proj"]));
        assert_eq!((&json["peft_type"], &json["use_dora"]), (&"LORA".into(), &dora.into()));
    }
}

#[test]
fn a_folder_whose_settings_peft_wrote_is_read() {
    // As PEFT 0.21.2 wrote them (get_peft_model, save_pretrained), but for rank and alpha.
    let settings = r#"{"alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null, "auto_mapping": null,
        "base_model_name_or_path": "a base", "bias": "none", "corda_config": null, "ensure_weight_tying": false,
        "eva_config": null, "exclude_modules": null, "fan_in_fan_out": false, "inference_mode": true,
        "init_lora_weights": true, "kasa_config": null, "layer_replication": null, "layers_pattern": null,
        "layers_to_transform": null, "loftq_config": {}, "lora_alpha": 6, "lora_bias": false, "lora_dropout": 0.0,
        "lora_ga_config": null, "megatron_config": null, "megatron_core": "megatron.core", "modules_to_save": null,
        "monteclora_config": null, "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 3,
        "rank_pattern": {}, "revision": null, "target_modules": ["gate_proj", "q_proj", "v_proj", "o_proj", "up_proj",
        "down_proj", "k_proj"], "target_parameters": null, "task_type": "CAUSAL_LM", "trainable_token_indices": null,
        "use_bdlora": null, "use_dora": true, "use_qalora": false, "use_rslora": false, "velora_config": null}"#;
    let dir = tempfile::tempdir().unwrap();
    let lora = lora(&odd_config(), 2, true, &Projection::ALL);
    lora.save(dir.path(), &odd_config(), "a base").unwrap();
    fs::write(dir.path().join("adapter_config.json"), settings).unwrap();
    assert_eq!(Lora::load(dir.path(), &odd_config()).unwrap(), lora, "targets in any order");
}

#[test]
fn an_adapter_of_another_base_or_with_settings_unknown_here_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let lora = lora(&odd_config(), 2, false, &Projection::ALL);
    lora.save(dir.path(), &odd_config(), "a base").unwrap();
    let other = LlamaConfig { intermediate: 88, ..odd_config() };
    assert!(matches!(Lora::load(dir.path(), &other), Err(ModelError::Damaged { .. })), "tensors of another size");
    let deeper = LlamaConfig { layers: 3, ..odd_config() };
    assert!(matches!(Lora::load(dir.path(), &deeper), Err(ModelError::Damaged { .. })), "too few layers");
    let path = dir.path().join("adapter_config.json");
    let written = fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("\"bias\": \"none\"", "\"bias\": \"all\""),
        ("\"bias\"", "\"rank_pattern\": {\"q_proj\": 2}, \"bias\""),
        ("\"bias\"", "\"init_lora_weights\": \"pissa\", \"bias\""),
        ("\"bias\"", "\"modules_to_save\": [\"lm_head\"], \"bias\""),
        ("\"q_proj\"", "\"qkv_proj\""),
        ("\"LORA\"", "\"LOHA\""),
    ] {
        assert!(written.contains(from), "{from}");
        fs::write(&path, written.replace(from, to)).unwrap();
        assert!(matches!(Lora::load(dir.path(), &odd_config()), Err(ModelError::Unsupported { .. })), "{to}");
    }
    for (from, to) in [("\"r\": 3", "\"r\": 0"), ("\"r\": 3", "\"r\": 4"), ("\"r\": 3", "\"r\": 100000000")] {
        fs::write(&path, written.replace(from, to)).unwrap();
        assert!(matches!(Lora::load(dir.path(), &odd_config()), Err(ModelError::Damaged { .. })), "{to}");
    }
}

#[test]
fn a_request_with_an_adapter_that_does_not_fit_is_refused() {
    let ask = |lora: Lora, strength| {
        let members = vec![member(1, weighted(&Arc::new(lora), strength))];
        let request = Generate {
            prompt: story_prompt("a fox"),
            written: 0,
            members,
            max_tokens: 2,
            stop: Vec::new(),
            stop_texts: Vec::new(),
            guidance: Guidance::default(),
        };
        story().generate(&request, &AtomicBool::new(false), &mut |_| {}).unwrap_err()
    };
    let good = || lora(story().config(), 1, false, &[Projection::Q]);
    assert!(matches!(ask(lora(&odd_config(), 1, false, &[Projection::Q]), 1.0), ModelError::AdapterShape { .. }));
    let mut short = good();
    short.layers[0][0].b.pop();
    assert!(matches!(ask(short, 1.0), ModelError::AdapterShape { .. }));
    let mut infinite = good();
    infinite.layers[0][0].a[0] = f32::INFINITY;
    assert!(matches!(ask(infinite, 1.0), ModelError::InvalidRequest { .. }));
    assert!(matches!(ask(good(), -1.0), ModelError::InvalidRequest { .. }), "a strength below 0");
    assert!(matches!(ask(good(), f32::NAN), ModelError::InvalidRequest { .. }));
}

#[test]
fn soft_prompts_blend_by_their_proportions_and_keep_their_values_in_f16() {
    let prompt = |values: [f32; 4]| SoftPrompt { tokens: 2, hidden: 2, vectors: values.to_vec() };
    let (a, b) = (prompt([0.0, 1.0, 2.0, -4.0]), prompt([4.0, 1.0, 0.0, 0.5]));
    let half = SoftPrompt::blend(&[(&a, 50.0), (&b, 150.0)]).expect("a blend");
    assert_eq!(half.vectors, [3.0, 1.0, 0.5, -0.625], "a quarter of one and three quarters of the other");
    assert_eq!(SoftPrompt::blend(&[(&a, 30.0), (&b, 0.0)]), Some(a.clone()), "a slider at zero adds nothing");
    assert_eq!(SoftPrompt::blend(&[(&a, 0.0)]), None);
    assert_eq!(SoftPrompt::blend(&[]), None);
    let longer = SoftPrompt { tokens: 1, hidden: 2, vectors: vec![0.0; 2] };
    assert_eq!(SoftPrompt::blend(&[(&a, 1.0), (&longer, 1.0)]), None, "prompts of two lengths cannot be blended");
}
