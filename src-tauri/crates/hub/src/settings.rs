//! Where the hub is, where its files go, who asks, and how patiently.

use crate::HubError;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use url::{Host, Url};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// What the environment says, as the hub's own programs read it.
#[derive(Clone)]
pub struct Settings {
    /// `HF_ENDPOINT`.
    pub endpoint: Url,
    /// `HF_HUB_CACHE`, else `hub` in `HF_HOME`.
    pub cache: PathBuf,
    /// `HF_TOKEN`, else the token file in `HF_HOME`. It is sent to the endpoint's own origin only.
    pub token: Option<String>,
}

impl Settings {
    /// # Errors
    /// `InvalidAddress` when `HF_ENDPOINT` is not an address of a server; `Unreachable` never.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// [`Settings::from_env`] with the variables given.
    ///
    /// # Errors
    /// As [`Settings::from_env`].
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let home = set("HOME").map(PathBuf::from).unwrap_or_default();
        let expanded = |value: String| match value.strip_prefix("~/") {
            Some(rest) => home.join(rest),
            None => PathBuf::from(value),
        };
        let general_cache = set("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), &expanded);
        let hub_home = set("HF_HOME").map_or_else(|| general_cache.join("huggingface"), &expanded);
        let cache = set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE")).map_or_else(|| hub_home.join("hub"), &expanded);
        let token_file = set("HF_TOKEN_PATH").map_or_else(|| hub_home.join("token"), &expanded);
        let token = set("HF_TOKEN").or_else(|| std::fs::read_to_string(token_file).ok());
        Ok(Self {
            endpoint: server_address(&set("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()))?,
            cache,
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
        })
    }
}

/// Without the token.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = if self.token.is_some() { "set" } else { "none" };
        f.debug_struct("Settings").field("endpoint", &self.endpoint.as_str()).field("cache", &self.cache).field("token", &token).finish()
    }
}

/// How long another machine is waited for.
#[derive(Debug, Clone)]
pub struct Pace {
    pub connect: Duration,
    /// The longest without a byte.
    pub silence: Duration,
    /// Tries without progress before giving up.
    pub retries: u32,
    /// Before the first retry; doubled for each one after, up to 30 s.
    pub backoff: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { connect: Duration::from_secs(15), silence: Duration::from_secs(30), retries: 5, backoff: Duration::from_millis(500) }
    }
}

/// The address of a server that the person entered: http or https, with a host, without a name or password in it.
pub(crate) fn server_address(text: &str) -> Result<Url, HubError> {
    let text = text.trim().trim_end_matches('/');
    let refuse = |why| HubError::InvalidAddress(text.chars().take(200).collect(), why);
    let url = Url::parse(text).map_err(|_| refuse("it is not a web address"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("it must start with http:// or https://"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(refuse("it names no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("it carries a name or a password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("it carries a query"));
    }
    Ok(url)
}

/// The host and, when it is an unusual one, the port.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether an address is on this machine or in a private network, as far as its text says.
pub(crate) fn is_inside(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            name == "localhost" || name.ends_with(".localhost") || name.ends_with(".local") || name.ends_with(".internal")
        }
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified() || ip.is_broadcast(),
        Some(Host::Ipv6(ip)) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback() || ip.is_private() || ip.is_link_local())
        }
        None => true,
    }
}
