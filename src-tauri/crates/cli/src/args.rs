//! The command line, declared once: parsing, help, completions and the man page derive from it.

mod bench;
mod train;

pub use bench::{Bench, BenchOptions, BenchStartup, BenchTrain};
use clap::{Args as Arguments, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;
pub use train::{Adapter, Decay, Held, Mode, Numbers, Peft, SoftPrompt, Train};

/// Write stories and answers offline, and teach the writer with your thumbs.
///
/// Without a command, the window opens.
#[derive(Debug, Parser)]
#[command(name = "inkling", version, propagate_version = true, max_term_width = 100)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Clone, Arguments)]
pub struct Global {
    /// Print JSON: one object, or one a line while training
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results only
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Keep everything in this folder instead of your own data folder
    #[arg(long, global = true, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write candidates for a prompt and show the one that wins the vote
    Write(Write),
    /// Rate a text: by thumb, tags, words, or with your own version of it
    Feedback(Feedback),
    /// Teach the model, or your taste, from what you liked
    #[command(subcommand)]
    Train(Train),
    /// Let the app write examples for itself, to learn from
    AutoTrain(AutoTrain),
    /// Past trainings
    Runs {
        #[command(subcommand)]
        action: Option<Runs>,
    },
    /// The queue
    Jobs {
        #[command(subcommand)]
        action: Option<Jobs>,
    },
    /// Trained adapters
    Adapters {
        #[command(subcommand)]
        action: Option<Adapters>,
    },
    /// Bases: what is here, what could be, downloads and imports
    Models {
        #[command(subcommand)]
        action: Option<Models>,
    },
    /// Say which of two texts of one generation is better
    Prefer { better: String, worse: String },
    /// What your thumbs have taught so far
    Taste {
        #[command(subcommand)]
        action: Option<TasteAction>,
    },
    /// Write what trainings learn from as JSON lines that TRL reads
    Export {
        #[arg(value_enum, default_value_t = ExportChoice::All)]
        kind: ExportChoice,
        /// A folder, or for one kind a file that ends in .jsonl
        #[arg(long, value_name = "PATH", default_value = ".")]
        out: PathBuf,
    },
    /// Look at settings, or change them
    Settings {
        #[command(subcommand)]
        action: Option<SettingsAction>,
    },
    /// Serve the pages and the API to a browser on this machine
    Serve(Serve),
    /// Check this installation
    Doctor,
    /// How fast this machine is at one thing
    #[command(subcommand)]
    Bench(Bench),
    /// Put a backup in the place of a damaged database; the damaged files are kept
    Restore {
        /// A file of the data folder's backups, such as backups/after-change-0000000123.db
        backup: PathBuf,
    },
    /// Print completions for a shell
    Completions { shell: Shell },
    /// Print the manual page
    Man,
}

#[derive(Debug, Arguments)]
pub struct Write {
    /// What to write about; - reads it from standard input
    pub prompt: Option<String>,
    /// A genre and its weight, such as fantasy=70; repeat for a mix
    #[arg(long, short, value_name = "GENRE[=WEIGHT]")]
    pub genre: Vec<String>,
    /// A manner of telling, such as twist
    #[arg(long)]
    pub style: Option<String>,
    /// How many candidates, 1 to 16
    #[arg(short)]
    pub n: Option<u32>,
    /// Longest text in tokens
    #[arg(long)]
    pub max_tokens: Option<u32>,
    /// 0 is predictable, 2 is wild
    #[arg(long)]
    pub temperature: Option<f64>,
    /// The same seed and settings give the same text
    #[arg(long)]
    pub seed: Option<u32>,
    /// The base to write with
    #[arg(long)]
    pub base: Option<String>,
    /// An adapter, or none for the plain base; left out, the active one
    #[arg(long, value_name = "none|ID[=STRENGTH]")]
    pub adapter: Vec<String>,
    /// Go on from this candidate
    #[arg(long = "continue", value_name = "CANDIDATE")]
    pub continue_from: Option<String>,
}

#[derive(Debug, Arguments)]
pub struct Feedback {
    /// The text to rate, as `write` printed it
    pub candidate_id: String,
    /// What you think of it
    #[arg(conflicts_with = "comment_option")]
    pub comment: Option<String>,
    /// Thumb up
    #[arg(long, conflicts_with = "down")]
    pub up: bool,
    /// Thumb down
    #[arg(long)]
    pub down: bool,
    /// Your own version of the text, preferred from now on; - reads it from standard input
    #[arg(long, value_name = "FILE")]
    pub edit: Option<PathBuf>,
    /// Words for it, such as vivid,slow; pos and neg are verdicts
    #[arg(long, value_delimiter = ',')]
    pub tags: Vec<String>,
    /// What you think of it
    #[arg(long = "comment", id = "comment_option", value_name = "COMMENT")]
    pub comment_option: Option<String>,
}

#[derive(Debug, Arguments)]
pub struct AutoTrain {
    /// How many to try, 1 to 500; those of quality 7.0 and better are kept
    #[arg(long, default_value_t = 50)]
    pub num_examples: u32,
    /// Genres, such as fantasy,sci_fi [default: all]
    #[arg(long, value_delimiter = ',')]
    pub genres: Vec<String>,
    /// Manners of telling, such as twist,hopeful [default: all]
    #[arg(long, value_delimiter = ',')]
    pub styles: Vec<String>,
    /// Also mark them for retrieval
    #[arg(long)]
    pub store_in_memory: bool,
    /// Whose personal adapter they are for [default: me]
    #[arg(long)]
    pub user: Option<String>,
    /// How many candidates each is voted from, 1 to 16 [default: the setting]
    #[arg(short)]
    pub n: Option<u32>,
    /// Longest text in tokens [default: the setting]
    #[arg(long)]
    pub max_tokens: Option<u32>,
    /// The same seed and settings give the same examples
    #[arg(long)]
    pub seed: Option<u32>,
    /// Go on with a session that was paused or interrupted
    #[arg(long, value_name = "SESSION", conflicts_with_all = ["genres", "styles", "store_in_memory", "user", "n", "max_tokens", "seed"])]
    pub resume: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum TasteAction {
    /// Versions that are kept, newest first
    Versions,
    /// Go back to a version; it stays until `inkling train preference`
    Restore {
        #[arg(id = "taste_version", value_name = "VERSION")]
        version: u32,
    },
    /// How likely you are to like a text; - reads it from standard input
    Score { text: String },
}

/// What `export` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportChoice {
    /// Liked texts: prompt, completion
    Sft,
    /// Judged texts: prompt, completion, label
    Kto,
    /// Pairs: prompt, chosen, rejected
    Dpo,
    /// A file of each
    All,
}

#[derive(Debug, Subcommand)]
pub enum Runs {
    /// Newest first
    List {
        #[arg(long)]
        limit: Option<u32>,
    },
    /// One run with all its figures
    Show { id: String },
    /// What its search tried before the training, and what each came to
    Trials { id: String },
    /// Its loss as a picture
    Chart {
        id: String,
        #[arg(long, value_enum, default_value_t = Picture::Svg)]
        format: Picture,
        /// Where to; - is standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Go on from the last checkpoint
    Resume { id: String },
    /// Keep what it learned, leave it on trial, or undo it
    Decide {
        id: String,
        #[arg(value_enum)]
        decision: Choice,
    },
    /// Judge five pairs of texts, not knowing which its adapter wrote
    Blind {
        id: String,
        /// An answer, such as 1=first, 2=second or 3=neither; repeat for more
        #[arg(long, value_name = "NUMBER=CHOICE")]
        answer: Vec<String>,
        /// Other pairs than last time
        #[arg(long)]
        again: bool,
    },
    /// Remove the run, its checkpoints and chart; its adapter stays
    Delete { id: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Picture {
    Svg,
    Png,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    Keep,
    NotNow,
    Undo,
}

#[derive(Debug, Subcommand)]
pub enum Jobs {
    /// Newest first
    List {
        #[arg(long)]
        limit: Option<u32>,
    },
    /// Stop at a checkpoint
    Pause { id: String },
    /// Queue it again
    Resume { id: String },
    /// End it for good
    Cancel { id: String },
}

#[derive(Debug, Subcommand)]
pub enum Adapters {
    List,
    /// Write with it from now on
    Activate {
        id: String,
        /// 0 to 2; 1 is as trained
        #[arg(long)]
        strength: Option<f64>,
    },
    /// Stop writing with it
    Deactivate {
        id: String,
    },
    /// Copy its files to a folder
    Export {
        id: String,
        #[arg(long, value_enum, default_value_t = Layout::Peft)]
        format: Layout,
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
    /// Take an adapter from a folder in PEFT's layout
    Import {
        folder: PathBuf,
        #[arg(long)]
        name: Option<String>,
    },
    /// Remove it and its files
    Delete {
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Models {
    /// What is here, and the catalogue
    List,
    /// Download a base: a name of the catalogue, or organisation/model of the hub
    Pull {
        model: String,
        /// A branch, a tag or a commit; left out, the newest
        #[arg(long)]
        revision: Option<String>,
        /// One GGUF file of the repository
        #[arg(long, value_name = "FILE")]
        gguf: Option<String>,
    },
    /// Take a base from a folder with safetensors, or from a .gguf file
    Import {
        path: PathBuf,
        #[arg(long)]
        name: Option<String>,
        /// Use the files where they are instead of copying them
        #[arg(long)]
        in_place: bool,
    },
    /// Remove a base and the files that came with it
    Remove {
        id: String,
        /// Also when adapters were trained on it; they stay
        #[arg(long)]
        anyway: bool,
    },
    /// Write with this base from now on
    Default { id: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// The folder that PEFT reads
    Peft,
    /// A LoRA file for llama.cpp
    Gguf,
    /// A base of its own, with the adapter in its weights
    Merged,
}

#[derive(Debug, Subcommand)]
pub enum SettingsAction {
    /// All of them, or one
    Get { key: Option<String> },
    /// Change some; all are checked before any is changed
    Set {
        #[arg(required = true, value_name = "KEY=VALUE")]
        changes: Vec<String>,
    },
}

#[derive(Debug, Arguments)]
pub struct Serve {
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,
    /// Left out, the port from the settings; 0 takes any free one
    #[arg(long)]
    pub port: Option<u16>,
    /// Allow an address that other machines can reach
    #[arg(long)]
    pub allow_network: bool,
}
