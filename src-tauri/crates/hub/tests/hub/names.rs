//! Names, revisions, settings and the choice of files, without a server.

use hub::{Hash, HubError, Listing, RemoteFile, RemoteName, RepoId, Settings, Weights, select};
use std::path::{Path, PathBuf};

fn listing(names: &[&str]) -> Listing {
    let file = |name: &&str| RemoteFile { name: RemoteName::parse(name).unwrap(), size: Some(10), hash: Some(Hash::Git("0".repeat(40))) };
    Listing {
        repo: RepoId::parse("tests/tiny").unwrap(),
        revision: "main".into(),
        commit: "0".repeat(40),
        files: names.iter().map(file).collect(),
        license: None,
    }
}

fn chosen(names: &[&str], weights: &Weights) -> Result<Vec<String>, HubError> {
    select(&listing(names), weights).map(|chosen| chosen.files.iter().map(|file| file.name.to_string()).collect())
}

#[test]
fn repositories_have_one_or_two_plain_parts() {
    for good in ["gpt2", "google/flan-t5-small", "HuggingFaceTB/SmolLM2-135M", " Qwen/Qwen2.5-0.5B "] {
        assert!(RepoId::parse(good).is_ok(), "{good}");
    }
    for bad in ["", "/", "a/", "/a", "a/b/c", "../x", "a/..", "a/.b", "a b/c", "a/b?c", "a--b/c", "a/\nb", "a/%2e", "https://x/y"] {
        assert!(matches!(RepoId::parse(bad), Err(HubError::InvalidRepo(_))), "{bad:?}");
    }
}

#[test]
fn a_safe_name_stays_inside_any_folder() {
    // Names made of everything that ever led out of a folder.
    let parts = ["..", ".", "", "a", " ", "/", "\\", "c:", "\0", "...", "a..b", "~", "%2e%2e", "\u{202e}", "CON", "-rf"];
    let mut tried = 0;
    for a in parts {
        for b in parts {
            for joint in ["/", "\\", "//"] {
                tried += 1;
                let name = format!("{a}{joint}{b}");
                if let Some(safe) = RemoteName::parse(&name) {
                    let path = Path::new("/root").join(safe.as_str());
                    assert!(path.starts_with("/root") && !safe.as_str().split('/').any(|part| part == ".." || part.is_empty()), "{name:?}");
                }
            }
        }
    }
    assert!(tried > 500);
    println!("{tried} names tried");
    assert!(RemoteName::parse("onnx/model.onnx").is_some());
    assert!(RemoteName::parse(&"a/".repeat(600)).is_none() && RemoteName::parse(&"a".repeat(300)).is_none());
}

#[test]
fn safetensors_come_before_gguf_and_pickle_never_comes() {
    let beside =
        ["config.json", "tokenizer.json", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "README.md", "onnx/model.onnx"];
    let with = |more: &[&'static str]| [&beside[..], more].concat();
    assert_eq!(
        chosen(&with(&["model.safetensors", "x-q8_0.gguf"]), &Weights::Any).unwrap(),
        ["config.json", "tokenizer.json", "model.safetensors"]
    );
    assert_eq!(
        chosen(&with(&["x-f16.gguf", "x-q8_0.gguf", "x-Q4_K_M.gguf"]), &Weights::Any).unwrap(),
        ["config.json", "tokenizer.json", "x-Q4_K_M.gguf"]
    );
    assert_eq!(chosen(&["odd.gguf"], &Weights::Any).unwrap(), ["odd.gguf"], "the only one");
    assert_eq!(chosen(&["a.gguf", "b.gguf"], &Weights::Gguf("b.gguf".into())).unwrap(), ["b.gguf"]);
    let error = chosen(&["a.gguf", "b.gguf"], &Weights::Any).unwrap_err();
    assert!(error.to_string().contains("a.gguf, b.gguf"), "the choice is named: {error}");
    assert!(matches!(chosen(&beside, &Weights::Any), Err(HubError::PickleOnly { .. })));
    assert!(matches!(chosen(&["model.safetensors"], &Weights::Gguf("model.safetensors".into())), Err(HubError::NoWeights { .. })));
}

#[test]
fn the_environment_is_read_as_the_hubs_programs_read_it() {
    let of = |pairs: &'static [(&'static str, &'static str)]| {
        Settings::from_variables(move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())).unwrap()
    };
    let plain = of(&[("HOME", "/home/p")]);
    assert_eq!(plain.cache, PathBuf::from("/home/p/.cache/huggingface/hub"));
    assert_eq!(plain.endpoint.as_str(), "https://huggingface.co/");
    assert_eq!(of(&[("HOME", "/home/p"), ("XDG_CACHE_HOME", "/c")]).cache, PathBuf::from("/c/huggingface/hub"));
    assert_eq!(of(&[("HOME", "/home/p"), ("HF_HOME", "~/hf")]).cache, PathBuf::from("/home/p/hf/hub"));
    let all = of(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/cache"), ("HF_TOKEN", " secret\n"), ("HF_ENDPOINT", "http://127.0.0.1:9/hub/")]);
    assert_eq!((all.cache, all.token.as_deref()), (PathBuf::from("/cache"), Some("secret")));
    assert_eq!(all.endpoint.as_str(), "http://127.0.0.1:9/hub");
}
