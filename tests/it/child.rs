//! A real Inkling in a process of its own, to be killed.

use app::calls::call;
use domain::*;
use http::Client;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// `inkling serve` on a data folder, talked to over its socket.
pub struct Inkling {
    process: Child,
    pub client: Client,
}

impl Inkling {
    /// Starts it and waits until it answers.
    pub async fn start(home: &Path) -> Self {
        let process = Command::new(executable())
            .args(["serve", "--port", "0", "--json"])
            .env("INKLING_HOME", home)
            .env("XDG_CONFIG_HOME", home.join("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("inkling starts");
        let mut inkling = Self { process, client: Client::new(&home.join("inkling.sock")) };
        let started = Instant::now();
        while inkling.client.call::<call::Draft>(Nothing {}).await.is_err() {
            assert!(started.elapsed() < Duration::from_secs(30), "inkling serve did not answer within 30 s");
            if let Ok(Some(status)) = inkling.process.try_wait() {
                panic!("inkling serve ended with {status}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        inkling
    }

    /// `kill -9`: no handler runs, nothing is flushed.
    pub fn kill(mut self) {
        self.process.kill().expect("a running process can be killed");
        self.process.wait().expect("a killed process ends");
    }
}

impl Drop for Inkling {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The `inkling` that was built beside this test.
pub fn executable() -> PathBuf {
    let deps = std::env::current_exe().expect("a test knows its own path");
    let target = deps.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let path = target.join("inkling");
    assert!(path.is_file(), "build the command first: cargo build -p inkling-cli");
    path
}

pub fn short(prompt: &str, seed: u32, tokens: u32) -> WriteRequest {
    WriteRequest { prompt: prompt.to_owned(), n: Some(2), max_tokens: Some(tokens), seed: Some(seed), ..WriteRequest::default() }
}

/// A small generator for moments and choices (SplitMix64, Steele et al. 2014); its seed is printed, so that a failure repeats.
pub struct Chance(pub u64);

impl Chance {
    pub fn fresh() -> Self {
        let seed = std::env::var("INKLING_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64)
        });
        println!("INKLING_TEST_SEED={seed}");
        Self(seed)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// How often a promise is tried: a few times in CI, as often as TRUST.md says with `INKLING_SOAK=1`.
pub fn times(short: u32, long: u32) -> u32 {
    if std::env::var_os("INKLING_SOAK").is_some() { long } else { short }
}
