//! `inkling-eval`: the experiments from the terminal.
//!
//! `inkling-eval run [--only e1,e3,…] [--report DIR] [--seeds N] [--users NAME,…] [--sets NAME,…] [--methods NAME,…] [--steps N]
//! [--rate SHARE] [--batch N] [--beta X] [--smoothing X] [--anchor X] [--written N] [--samples N] [--updates N]` runs experiments;
//! those on adapters take hours, add their results to `tuned.jsonl` and `gate.jsonl` of the folder, and leave out what stands there
//! already.
//! `inkling-eval report` makes `REPORT.md` anew from `notes.md`, E1, E2, E6 and E8 run afresh, and those files.
//! `inkling-eval belief [--seeds N] [--users NAME,…]` prints every look at whether taste is believed, a line of JSON each.
//! `inkling-eval pool` writes the candidate pool anew.
//! `inkling-eval model [FOLDER…] [--prompts N] [--samples N] [--repetition-penalty X] [--guidance X]
//! [--genre-guidance X] [--temperature X] [--top-p X] [--json FILE]` measures story models on held-out prompts, side by side.

use domain::Settings;
use eval::gate::GateResult;
use eval::lessons::Lessons;
use eval::oracle::{DRAWN, FRESH, Kind, OTHERS, USERS, User};
use eval::taste_runs::UserResult;
use eval::thumbs::Judge;
use eval::tuned::{Bases, Method, Setting, THUMBS, TunedResult};
use eval::{EvalError, Pool, belief, figure, gate, lessons, records, report, report_weights, story_model, taste_runs, tuned};
use model::{LanguageModel, LoadOptions};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../assets/models/story");

fn main() {
    if let Err(error) = work(&std::env::args().skip(1).collect::<Vec<_>>()) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn work(arguments: &[String]) -> Result<(), EvalError> {
    match arguments.first().map(String::as_str) {
        Some("pool") => {
            let base = LanguageModel::load(Path::new(BASE), &LoadOptions::new(2))?;
            let path = eval::pool::write(&base, &Path::new(env!("CARGO_MANIFEST_DIR")).join("pool"))?;
            println!("{}", path.display());
            Ok(())
        }
        Some("model") => measure(&arguments[1..]),
        Some("run") => run(&Options::read(&arguments[1..])?),
        Some("belief") => believe(&Options::read(&arguments[1..])?),
        Some("report") => whole_report(&Options::read(&arguments[1..])?),
        _ => Err(EvalError::Usage(
            "usage: inkling-eval run [--only e1,e2] [--report DIR] [--seeds N] | report [--seeds N] | belief [--seeds N] | pool | model [FOLDER…]".to_owned(),
        )),
    }
}

/// The measures of one or several story models; the built-in one when none is named.
fn measure(arguments: &[String]) -> Result<(), EvalError> {
    let named = arguments.iter().take_while(|one| !one.starts_with("--")).count();
    let options = Options::read(&arguments[named..])?;
    let folders: Vec<PathBuf> = if named == 0 { vec![PathBuf::from(BASE)] } else { arguments[..named].iter().map(PathBuf::from).collect() };
    let stories = story_model::of_stories()?;
    let of = |folder: &PathBuf| story_model::of_model(folder, options.prompts, options.samples, &options.writing);
    let models = folders.iter().map(of).collect::<Result<Vec<_>, _>>()?;
    print!("{}", story_model::table(&stories, &models));
    if let Some(path) = &options.json {
        let report = serde_json::json!({ "stories": stories, "models": models });
        std::fs::write(path, format!("{report:#}\n")).map_err(EvalError::file(path))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Every look at whether taste is believed, as lines of JSON.
fn believe(options: &Options) -> Result<(), EvalError> {
    let everybody: Vec<User> = [&USERS[..], &OTHERS[..], &DRAWN[..]].concat();
    let random: Vec<usize> = belief::LOOKS.step_by(belief::EVERY).collect();
    let users: Vec<User> = options.chosen(&everybody).into_iter().filter(User::learnable).collect();
    let mut looks = belief::looks(&users, 0..options.seeds, &taste_runs::AFTER)?;
    if let Some(user) = belief::random() {
        looks.extend(belief::looks(&[user], 0..25 * options.seeds, &random)?);
    }
    for look in looks {
        println!("{}", serde_json::to_string(&look).map_err(|error| EvalError::Pool(error.to_string()))?);
    }
    Ok(())
}

struct Options {
    only: Vec<String>,
    report: PathBuf,
    seeds: u64,
    users: Vec<String>,
    /// Of `users`, `others`, `drawn`, `fresh`; all of them where none is named.
    sets: Vec<String>,
    methods: Vec<String>,
    steps: u32,
    batch: usize,
    /// Share of SFT's rate; each method's usual one where none is asked for.
    rate: Option<f64>,
    beta: f64,
    smoothing: f64,
    anchor: f64,
    written: usize,
    updates: usize,
    prompts: usize,
    samples: usize,
    /// As the app's are, but for what was asked for.
    writing: Settings,
    json: Option<PathBuf>,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self, EvalError> {
        let mut given: HashMap<&str, &str> = HashMap::new();
        for pair in arguments.chunks(2) {
            match pair {
                [key, value] if key.starts_with("--") => given.insert(key.trim_start_matches("--"), value),
                _ => return Err(EvalError::Usage(format!("{} needs a value", pair.join(" ")))),
            };
        }
        let list = |key: &str| -> Vec<String> {
            given.get(key).map_or(Vec::new(), |value| value.split(',').map(|part| part.trim().to_lowercase()).collect())
        };
        let number = |key: &str, default: u64| match given.get(key) {
            None => Ok(default),
            Some(value) => value.parse::<u64>().map_err(|_| EvalError::Usage(format!("--{key} {value} is no number"))),
        };
        let real = |key: &str| {
            let value =
                given.get(key).map(|value| value.parse::<f64>().map_err(|_| EvalError::Usage(format!("--{key} {value} is no number"))));
            value.transpose()
        };
        let usual = Settings::default();
        Ok(Self {
            only: list("only"),
            report: given.get("report").map_or_else(|| PathBuf::from("."), PathBuf::from),
            seeds: number("seeds", 5)?,
            users: list("users"),
            sets: list("sets"),
            methods: list("methods"),
            steps: number("steps", 120)? as u32,
            batch: number("batch", 4)? as usize,
            rate: real("rate")?,
            beta: real("beta")?.unwrap_or(0.1),
            smoothing: real("smoothing")?.unwrap_or(0.0),
            anchor: real("anchor")?.unwrap_or(0.0),
            written: number("written", 0)? as usize,
            updates: number("updates", 20)? as usize,
            prompts: number("prompts", 80)? as usize,
            samples: number("samples", 3)?.clamp(1, 64) as usize,
            writing: Settings {
                repetition_penalty: real("repetition-penalty")?.unwrap_or(usual.repetition_penalty),
                temperature: real("temperature")?.unwrap_or(usual.temperature),
                top_p: real("top-p")?.unwrap_or(usual.top_p),
                genre_guidance: real("genre-guidance")?.unwrap_or(usual.genre_guidance),
                guidance: real("guidance")?.unwrap_or(usual.guidance),
                ..usual
            },
            json: given.get("json").map(PathBuf::from),
        })
    }

    fn wants(&self, experiments: &[&str]) -> bool {
        self.only.is_empty() || self.only.iter().any(|one| experiments.contains(&one.as_str()))
    }

    fn setting(&self, method: Method) -> Setting {
        let Self { steps, batch, beta, smoothing, anchor, written, .. } = *self;
        Setting { steps, rate: self.rate.unwrap_or(method.usual_rate()), batch, beta, smoothing, anchor, written, seed: 0 }
    }

    fn chosen(&self, users: &[User]) -> Vec<User> {
        users.iter().filter(|user| self.users.is_empty() || self.users.iter().any(|name| name == user.name)).copied().collect()
    }
}

/// People who throw coins, each looked at after every few thumbs.
const RANDOM_PEOPLE: u64 = 100;

/// Where the committed report lies.
const REPORT: &str = env!("CARGO_MANIFEST_DIR");

fn run(options: &Options) -> Result<(), EvalError> {
    let folder = &options.report;
    std::fs::create_dir_all(folder).map_err(EvalError::file(folder))?;
    let mut text =
        String::from("# What the experiments found\n\nMade by `inkling-eval run`; LEARNING.md says what each experiment is.\n\n");
    if options.wants(&["e1", "e2", "e6", "e8"]) {
        text.push_str(&taste_report(options, folder, "")?);
    }
    let pool = Pool::frozen()?;
    let everybody: Vec<User> = [&USERS[..], &OTHERS[..], &DRAWN[..]].concat();
    if options.wants(&["e3", "e4", "e5"]) {
        let bases = Bases::load(Path::new(BASE))?;
        // Thumbs are on what the present base writes, as a person's are.
        let pool = eval::pool::written_by(&bases.writer)?;
        let chosen = if options.users.is_empty() { USERS.to_vec() } else { options.chosen(&everybody) };
        for user in chosen.iter().filter(|user| user.learnable()) {
            let wanted = |method: &Method| options.methods.is_empty() || options.methods.iter().any(|name| name == method.key());
            let judge = Judge::new(user, &pool);
            let mut prepared: Option<Lessons> = None;
            for method in Method::ALL.into_iter().filter(wanted) {
                let setting = options.setting(method);
                let kept = folder.join("tuned.jsonl");
                if records::load::<TunedResult>(&kept)?.iter().any(|one| one.is(&bases, user, method, setting)) {
                    continue;
                }
                if prepared.is_none() {
                    let thumbs = judge.thumbs(THUMBS, usize::MAX, setting.seed);
                    prepared = Some(lessons::lessons(&pool, &thumbs, &bases.writer, setting.written)?);
                }
                let Some(lessons) = &prepared else { continue };
                let result = tuned::run(&bases, &judge, lessons, method, setting, options.samples)?;
                println!("{}", report_weights::tuned_row(&result));
                records::keep(&kept, &result)?;
            }
        }
    }
    if options.wants(&["e7"]) {
        // Somebody with a taste, and somebody without (E6).
        let chosen = if options.users.is_empty() {
            everybody.iter().filter(|user| matches!(user.name, "dialogue" | "random")).copied().collect()
        } else {
            options.chosen(&everybody)
        };
        for user in chosen {
            let updates = if user.kind == Kind::Random { options.updates.div_ceil(2) } else { options.updates };
            let path = folder.join("gate.jsonl");
            let known = records::load::<GateResult>(&path)?.iter().filter(|one| one.user == user.name).count();
            let mut kept = Ok(());
            gate::run(&user, &pool, updates, known, &mut |result| {
                println!("{}", report_weights::gate_row(result));
                if kept.is_ok() {
                    kept = records::keep(&path, result);
                }
            })?;
            kept?;
        }
    }
    text.push_str(&weights_report(folder)?);
    let path = folder.join("report.md");
    std::fs::write(&path, &text).map_err(EvalError::file(&path))?;
    println!("{}", path.display());
    Ok(())
}

/// E3 to E5 and E7 as they are kept in a folder.
fn weights_report(folder: &Path) -> Result<String, EvalError> {
    let tuned = records::load::<TunedResult>(&folder.join("tuned.jsonl"))?;
    let gate = records::load::<GateResult>(&folder.join("gate.jsonl"))?;
    Ok(report_weights::tuned(&tuned) + &report_weights::gate(&gate))
}

/// E1, E2, E6 and E8 of all sets of users, and when a random one is believed; figures go to `folder`, and are named from `within`.
fn taste_report(options: &Options, folder: &Path, within: &str) -> Result<String, EvalError> {
    let mut text = String::new();
    let sets = [
        ("The users taste was developed against", &USERS[..], "users"),
        ("Other users, looked at while it was developed", &OTHERS[..], "others"),
        ("Users drawn by chance, looked at while it was developed", &DRAWN[..], "drawn"),
        ("Users drawn anew, looked at once, at the end", &FRESH[..], "fresh"),
    ];
    for (title, users, file) in sets.into_iter().filter(|(.., file)| options.sets.is_empty() || options.sets.iter().any(|set| set == file))
    {
        let chosen = options.chosen(users);
        if chosen.is_empty() {
            continue;
        }
        let results: Vec<UserResult> = taste_runs::run(&chosen, options.seeds)?;
        text.push_str(&report::taste(title, &results, options.seeds));
        figure::learning_curves(&results, &folder.join(format!("{file}.svg")))?;
        text.push_str(&format!("![Held-out AUC over thumbs; red: the targets]({within}{file}.svg)\n\n"));
    }
    if let Some(user) = belief::random().filter(|_| options.users.is_empty()) {
        let looks: Vec<usize> = belief::LOOKS.step_by(belief::EVERY).collect();
        text.push_str(&report::belief(&belief::looks(&[user], 0..RANDOM_PEOPLE, &looks)?));
    }
    Ok(text)
}

/// `REPORT.md` of this crate.
fn whole_report(options: &Options) -> Result<(), EvalError> {
    let folder = Path::new(REPORT).join("report");
    let notes = folder.join("notes.md");
    let mut text = std::fs::read_to_string(&notes).map_err(EvalError::file(&notes))?;
    text.push_str(&taste_report(options, &folder, "report/")?);
    text.push_str(&weights_report(&folder)?);
    let path = Path::new(REPORT).join("REPORT.md");
    std::fs::write(&path, text.trim_end().to_owned() + "\n").map_err(EvalError::file(&path))?;
    println!("{}", path.display());
    Ok(())
}
