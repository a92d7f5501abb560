//! Settings: each is declared once, below, with its range, group and sentence. The struct, its defaults, the checks,
//! the merge of a partial update and the description that the Settings view draws all derive from that declaration.

use crate::{ApiError, FieldFault};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use specta::Type;

/// What a value may be; drawn as a switch, a number field, a choice or a text field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SettingKind {
    Switch,
    Integer {
        min: u32,
        max: u32,
    },
    Number {
        min: f64,
        max: f64,
    },
    Choice {
        options: Vec<String>,
    },
    /// A folder on this machine; empty means none.
    Folder,
    /// A line of text; empty means none.
    Text,
    /// One of the bases that are here, by its id.
    Base,
}

/// A setting as the Settings view draws it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct SettingDescription {
    pub key: String,
    pub group: String,
    pub label: String,
    pub sentence: String,
    pub kind: SettingKind,
    /// The default, as JSON text.
    pub default_json: String,
}

/// How a Rust type appears as a setting.
trait Setting: Serialize {
    type Range;
    fn kind(range: &Self::Range) -> SettingKind;
    /// What is wrong with the value, if anything.
    fn fault(&self, label: &str, range: &Self::Range) -> Option<String>;
}

impl Setting for bool {
    type Range = ();
    fn kind(_: &()) -> SettingKind {
        SettingKind::Switch
    }
    fn fault(&self, _: &str, _: &()) -> Option<String> {
        None
    }
}

impl Setting for u32 {
    type Range = std::ops::RangeInclusive<u32>;
    fn kind(range: &Self::Range) -> SettingKind {
        SettingKind::Integer { min: *range.start(), max: *range.end() }
    }
    fn fault(&self, label: &str, range: &Self::Range) -> Option<String> {
        (!range.contains(self)).then(|| format!("{label} is {self}; it must be {} to {}.", range.start(), range.end()))
    }
}

impl Setting for f64 {
    type Range = std::ops::RangeInclusive<f64>;
    fn kind(range: &Self::Range) -> SettingKind {
        SettingKind::Number { min: *range.start(), max: *range.end() }
    }
    fn fault(&self, label: &str, range: &Self::Range) -> Option<String> {
        (!range.contains(self)).then(|| format!("{label} is {self}; it must be {} to {}.", range.start(), range.end()))
    }
}

/// What a text means; whether what it names is there is checked by the use case, which may do IO.
#[derive(Clone, Copy)]
enum Meaning {
    Folder,
    Text,
    Base,
}

const LONGEST_TEXT: usize = 2000;

impl Setting for String {
    type Range = Meaning;
    fn kind(meaning: &Meaning) -> SettingKind {
        match meaning {
            Meaning::Folder => SettingKind::Folder,
            Meaning::Text => SettingKind::Text,
            Meaning::Base => SettingKind::Base,
        }
    }
    fn fault(&self, label: &str, _: &Meaning) -> Option<String> {
        let fine = self.len() <= LONGEST_TEXT && !self.contains(char::is_control);
        (!fine).then(|| format!("{label} must be one line of at most {LONGEST_TEXT} characters."))
    }
}

/// Light, dark, or as the desktop says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    System,
    Light,
    Dark,
}

impl Setting for Theme {
    type Range = ();
    fn kind(_: &()) -> SettingKind {
        SettingKind::Choice { options: ["system", "light", "dark"].map(str::to_owned).to_vec() }
    }
    fn fault(&self, _: &str, _: &()) -> Option<String> {
        None
    }
}

macro_rules! settings {
    ($($group:literal { $($field:ident: $kind:ty = $default:expr, $key:literal, $range:expr, $label:literal, $sentence:literal;)* })*) => {
        /// Every setting. Stored and sent as one flat JSON object in camelCase.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
        pub struct Settings {
            $($(#[doc = $sentence] #[serde(rename = $key)] pub $field: $kind,)*)*
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($($field: $default,)*)* }
            }
        }

        impl Settings {
            /// Every setting with its group, words, range and default.
            pub fn descriptions() -> Vec<SettingDescription> {
                vec![$($(SettingDescription {
                    key: $key.to_owned(),
                    group: $group.to_owned(),
                    label: $label.to_owned(),
                    sentence: $sentence.to_owned(),
                    kind: <$kind as Setting>::kind(&$range),
                    default_json: serde_json::json!($default as $kind).to_string(),
                },)*)*]
            }

            /// Applies a partial update, or lists everything that is wrong with it and applies nothing.
            ///
            /// # Errors
            /// `InvalidInput` with every unknown key, wrong type and value out of range.
            pub fn merged(&self, update: &Map<String, Value>) -> Result<Self, ApiError> {
                let mut next = self.clone();
                let mut faults = Vec::new();
                for (key, value) in update {
                    match key.as_str() {
                        $($($key => match serde_json::from_value::<$kind>(value.clone()) {
                            Ok(value) => match value.fault($label, &$range) {
                                None => next.$field = value,
                                Some(message) => faults.push(FieldFault { field: key.clone(), message }),
                            },
                            Err(_) => faults.push(FieldFault {
                                field: key.clone(),
                                message: format!("{} cannot be {value}.", $label),
                            }),
                        },)*)*
                        _ => faults.push(FieldFault { field: key.clone(), message: format!("There is no setting named {key}.") }),
                    }
                }
                if faults.is_empty() { Ok(next) } else { Err(ApiError::fields(faults)) }
            }

            /// The keys whose values differ.
            pub fn changed_keys(&self, other: &Self) -> Vec<String> {
                let mut keys = Vec::new();
                $($(if self.$field != other.$field { keys.push($key.to_owned()); })*)*
                keys
            }
        }
    };
}

settings! {
    "Appearance" {
        theme: Theme = Theme::System, "theme", (), "Colours", "Light, dark, or as your desktop says.";
        text_scale: f64 = 1.0, "textScale", 0.8..=2.0, "Text size", "1 is normal, 2 is twice as large.";
    }
    "Generation" {
        default_base: String = "story".to_owned(), "defaultBase", Meaning::Base, "Base", "The base that texts are written with unless you choose another one.";
        candidates: u32 = 4, "candidates", 1..=16, "Candidates", "How many texts are written for each prompt; the best one is opened.";
        max_tokens: u32 = 260, "maxTokens", 16..=900, "Length", "The longest text, in tokens; a token is about three quarters of a word.";
        temperature: f64 = 0.8, "temperature", 0.0..=2.0, "Creativity", "Low is predictable, high is surprising.";
        guidance: f64 = 2.5, "guidance", 1.0..=4.0, "Guidance", "Above 1, the built-in model keeps closer to your prompt and to what you taught it; each word then takes longer.";
        genre_guidance: f64 = 3.0, "genreGuidance", 0.0..=5.0, "Pull of the genres", "Above 0, the genre sliders pull the built-in model's words beyond what the prompt says; each word then takes longer.";
        top_p: f64 = 0.95, "topP", 0.05..=1.0, "Top-p", "Keeps the likeliest words that together reach this probability.";
        top_k: u32 = 0, "topK", 0..=1000, "Top-k", "Keeps this many of the likeliest words; 0 keeps all.";
        min_p: f64 = 0.0, "minP", 0.0..=0.9, "Min-p", "Drops words less likely than this share of the likeliest one.";
        repetition_penalty: f64 = 1.15, "repetitionPenalty", 1.0..=2.0, "Repetition penalty", "Above 1, words that the text has used become less likely.";
        genre_prompts: bool = false, "genrePrompts", (), "Genres in weights", "The genre sliders also blend soft prompts that the built-in base brings. Measured, a slider is then followed a little more surely; whether you like the texts as well was not measured.";
        explore: bool = true, "explore", (), "Ask for comparisons", "Now and then offers the pair of texts that your taste would learn most from.";
    }
    "Voting" {
        weight_taste: f64 = 3.0, "weightTaste", 0.0..=10.0, "Weight of your taste", "How much your own thumbs count when the best text is chosen.";
        weight_quality: f64 = 1.0, "weightQuality", 0.0..=10.0, "Weight of quality", "How much the quality rules count.";
        weight_on_prompt: f64 = 1.0, "weightOnPrompt", 0.0..=10.0, "Weight of the prompt", "How much staying with the prompt counts.";
        weight_fluency: f64 = 1.0, "weightFluency", 0.0..=10.0, "Weight of fluency", "How much natural language counts.";
        weight_genre: f64 = 0.5, "weightGenre", 0.0..=10.0, "Weight of genre", "How much matching the genre sliders counts.";
        retry_below: f64 = 4.0, "retryBelow", 0.0..=10.0, "Try again below", "When the best text stands below this, the strongest other member writes once more; 0 never does.";
        member_variety: bool = true, "memberVariety", (), "Vary the members", "One text of four is written more calmly, so that the vote has something to choose from.";
    }
    "Learning" {
        taste_every_thumbs: u32 = 1, "tasteEveryThumbs", 1..=100, "Relearn taste after", "Your taste is learned anew after this many thumbs.";
        activate_when_better: bool = true, "activateWhenBetter", (), "Use a better model at once", "A training that passes the check is used from the next text on; you can undo it.";
    }
    "Auto-train" {
        auto_train_every: u32 = 50, "autoTrainEvery", 50..=100, "Train again after", "New auto-train examples until your personal adapter is trained again; the first training is offered at 50.";
        auto_train_automatic: bool = false, "autoTrainAutomatic", (), "Train by itself", "When there are enough new examples, the training of your personal adapter starts without a click.";
    }
    "Training" {
        taste_pairs: u32 = 120, "tastePairs", 0..=1000, "Pairs chosen by taste", "So many pairs at most join yours in a training from pairs: once your taste is known, texts are written for your prompts, the best against the worst. 0 for none.";
        virtual_tokens: u32 = 16, "virtualTokens", 1..=128, "Soft prompt length", "How many learned prompt vectors stand before your prompt.";
        lora_rank: u32 = 16, "loraRank", 1..=256, "LoRA rank", "How large a change LoRA and DoRA may make; more learns more and needs more memory.";
        lora_alpha: f64 = 32.0, "loraAlpha", 1.0..=1024.0, "LoRA alpha", "The change is scaled by alpha over rank.";
        lora_learning_rate: f64 = 0.001, "loraLearningRate", 0.000001..=1.0, "LoRA learning rate", "How large each learning step of LoRA and DoRA is.";
        training_search: bool = false, "trainingSearch", (), "Search before training", "Tries other methods and numbers first and trains with what does best on texts kept back; a training then takes as much longer as you allow.";
        training_search_minutes: u32 = 10, "trainingSearchMinutes", 1..=1440, "Minutes for a search", "The longest time that a search may take before the training itself.";
        training_epochs: u32 = 8, "trainingEpochs", 1..=200, "Passes", "How often each liked text is seen.";
        training_learning_rate: f64 = 0.01, "trainingLearningRate", 0.000001..=1.0, "Soft prompt learning rate", "How large each learning step of a soft prompt is.";
        training_batch_size: u32 = 4, "trainingBatchSize", 1..=64, "Batch size", "Texts per learning step.";
        training_min_steps: u32 = 120, "trainingMinSteps", 1..=100000, "Fewest steps", "With few texts, passes are added until this many steps are reached.";
        training_checkpoint_steps: u32 = 25, "trainingCheckpointSteps", 1..=10000, "Checkpoint every", "Steps between two saved states that a training can resume from.";
        training_checkpoints_kept: u32 = 2, "trainingCheckpointsKept", 1..=20, "Checkpoints kept", "Older saved states are removed.";
        training_threads: u32 = 0, "trainingThreads", 0..=64, "Threads", "Processor threads for training; 0 uses all but keeps writing first.";
        memory_budget_mb: u32 = 0, "memoryBudgetMb", 0..=1000000, "Memory budget", "Most memory a training may use, in MB; 0 allows three quarters of what is free.";
    }
    "Soft prompts" {
        soft_prompt_enabled: bool = false, "softPromptEnabled", (), "Soft-prompt fallback", "For answers from documents, which this version cannot give yet; kept for programs that set it.";
        soft_prompt_model_dir: String = String::new(), "softPromptModelDir", Meaning::Folder, "Soft-prompt folder", "A folder with a trained soft prompt; it must exist when the fallback is on.";
        soft_prompt_confidence_threshold: f64 = 0.85, "softPromptConfidenceThreshold", 0.0..=1.0, "Confidence threshold", "Answers below this confidence get the soft prompt's suggestion.";
    }
    "Member over the network" {
        member_url: String = String::new(), "memberUrl", Meaning::Text, "Server", "A server that speaks OpenAI's API writes one more candidate. Your prompts are sent to it; leave this empty and nothing leaves this machine.";
        member_model: String = String::new(), "memberModel", Meaning::Text, "Model of that server", "The name by which the server knows the model.";
    }
    "API server" {
        server_port: u32 = 9009, "serverPort", 1024..=65535, "Port", "Where `inkling serve` listens on this machine.";
    }
}

/// Settings with what a view needs to draw them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct SettingsView {
    pub settings: Settings,
    pub descriptions: Vec<SettingDescription>,
    pub data_dir: String,
}
