//! `inkling-eval`: the experiments from the terminal.
//!
//! `inkling-eval run [--only e1,e3,…] [--report DIR] [--seeds N] [--users NAME,…] [--methods N] [--steps N] [--updates N]`
//! writes `report.md` and figures; `inkling-eval pool` writes the candidate pool anew.

use eval::oracle::{OTHERS, USERS, User};
use eval::taste_runs::UserResult;
use eval::tuned::{Bases, Method};
use eval::{EvalError, Pool, figure, gate, report, taste_runs, tuned};
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
        Some("run") => run(&Options::read(&arguments[1..])?),
        _ => Err(EvalError::Usage("usage: inkling-eval run [--only e1,e2] [--report DIR] [--seeds N] | inkling-eval pool".to_owned())),
    }
}

struct Options {
    only: Vec<String>,
    report: PathBuf,
    seeds: u64,
    users: Vec<String>,
    methods: usize,
    steps: u32,
    updates: usize,
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
        Ok(Self {
            only: list("only"),
            report: given.get("report").map_or_else(|| PathBuf::from("."), PathBuf::from),
            seeds: number("seeds", 5)?,
            users: list("users"),
            methods: number("methods", Method::ALL.len() as u64)? as usize,
            steps: number("steps", 60)? as u32,
            updates: number("updates", 20)? as usize,
        })
    }

    fn wants(&self, experiments: &[&str]) -> bool {
        self.only.is_empty() || self.only.iter().any(|one| experiments.contains(&one.as_str()))
    }

    fn chosen(&self, users: &[User]) -> Vec<User> {
        users.iter().filter(|user| self.users.is_empty() || self.users.iter().any(|name| name == user.name)).copied().collect()
    }
}

fn run(options: &Options) -> Result<(), EvalError> {
    std::fs::create_dir_all(&options.report).map_err(EvalError::file(&options.report))?;
    let mut text =
        String::from("# What the experiments found\n\nMade by `inkling-eval run`; LEARNING.md says what each experiment is.\n\n");
    if options.wants(&["e1", "e2", "e6", "e8"]) {
        for (title, users, file) in [("The users taste was developed against", &USERS[..], "users"), ("Other users", &OTHERS[..], "others")]
        {
            let results: Vec<UserResult> = taste_runs::run(&options.chosen(users), options.seeds)?;
            text.push_str(&report::taste(title, &results, options.seeds));
            figure::learning_curves(&results, &options.report.join(format!("{file}.svg")))?;
            text.push_str(&format!("![Held-out AUC over thumbs; red: the targets]({file}.svg)\n\n"));
        }
    }
    let pool = Pool::frozen()?;
    if options.wants(&["e3", "e4", "e5"]) {
        let bases = Bases::load(Path::new(BASE))?;
        let mut results = Vec::new();
        for user in options.chosen(&USERS).iter().filter(|user| user.learnable()) {
            for method in Method::ALL.into_iter().take(options.methods) {
                let result = tuned::run(&bases, &pool, user, method, options.steps, 0)?;
                println!("{}", report::tuned_row(&result));
                results.push(result);
            }
        }
        text.push_str(&report::tuned(&results));
    }
    if options.wants(&["e7"]) {
        let user = options.chosen(&USERS)[0];
        let results = gate::run(&user, &pool, options.updates, &mut |result| println!("{}", report::gate_row(result)))?;
        text.push_str(&report::gate(&results));
    }
    let path = options.report.join("report.md");
    std::fs::write(&path, &text).map_err(EvalError::file(&path))?;
    println!("{}", path.display());
    Ok(())
}
