//! `inkling serve`: the surface on a TCP port for a browser on this machine.

use crate::guard::{AllowedHosts, Guard};
use crate::router::build;
use crate::surface::InFlight;
use crate::token::Token;
use app::App;
use domain::{ApiError, ErrorCode};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// An address of this machine, or `localhost`.
    pub host: String,
    /// 0 takes any free port.
    pub port: u16,
    /// Also addresses that other machines can reach.
    pub allow_network: bool,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { host: "127.0.0.1".into(), port: 9009, allow_network: false }
    }
}

/// A server that runs until it is stopped or dropped with its runtime.
pub struct Bound {
    pub address: SocketAddr,
    pub token: Token,
    /// What the person should know about the address, if anything.
    pub warning: Option<String>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Bound {
    /// Where a browser on this machine finds it.
    pub fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        format!("http://{address}")
    }

    /// The address with its token behind `#`, which browsers keep to themselves.
    pub fn url_with_token(&self) -> String {
        format!("{}/#token={}", self.url(), self.token.as_str())
    }

    /// Takes no new requests, gives those under way a moment, then ends. Open streams end with it.
    pub async fn stop(self) {
        let Self { stop, mut task, .. } = self;
        let _ = stop.send(());
        if tokio::time::timeout(PATIENCE, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// How long requests under way may still take at the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// Binds the port and starts answering; the token is fresh.
///
/// # Errors
/// `InvalidInput` for a host that is not an address or needs `allow_network`, `Conflict` for a port in use.
pub async fn serve(app: Arc<App>, options: ServeOptions) -> Result<Bound, ApiError> {
    let ip = parse_host(&options.host)?;
    if !ip.is_loopback() && !options.allow_network {
        return Err(ApiError::field("host", format!("{ip} can be reached by other machines."))
            .hint("Use 127.0.0.1, or add --allow-network if that is what you want."));
    }
    let listener = TcpListener::bind((ip, options.port)).await.map_err(|error| cannot_bind(ip, options.port, &error))?;
    let address = listener.local_addr().map_err(ApiError::internal)?;
    let warning = (!ip.is_loopback()).then(|| {
        format!(
            "Other machines can reach {address}. Whoever has the token can read and change everything, and the connection is not encrypted."
        )
    });
    if let Some(warning) = &warning {
        tracing::warn!("{warning}");
    }
    let token = Token::fresh()?;
    let guard = Guard::Network { token: token.clone(), hosts: AllowedHosts::of(address) };
    let (stop, stopped) = oneshot::channel::<()>();
    let router = build(app, guard, InFlight::default());
    let task = tokio::spawn(async move {
        let signal = async move { drop(stopped.await) };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(signal).await {
            tracing::error!(%error, "the server ended");
        }
    });
    Ok(Bound { address, token, warning, stop, task })
}

fn parse_host(host: &str) -> Result<IpAddr, ApiError> {
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().map_err(|_| ApiError::field("host", format!("\"{host}\" is not an address of this machine.")).hint("Use 127.0.0.1."))
}

fn cannot_bind(ip: IpAddr, port: u16, error: &std::io::Error) -> ApiError {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => ApiError::new(ErrorCode::Conflict, format!("Port {port} is in use already."))
            .hint("Choose another with --port, or 0 for any free one."),
        _ => ApiError::field("host", format!("{ip} port {port} cannot be used: {error}.")).hint("Use 127.0.0.1 and a port above 1023."),
    }
}
