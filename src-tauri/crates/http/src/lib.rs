//! The HTTP surface: the table of calls as routes, two event streams, the kept endpoints of earlier programs, the UI for a
//! browser on this machine, and the client that another process of the same person hands its requests over with.
//!
//! **Invariants**
//! - No use case is decided here: a handler reads its input, calls [`app::App`] on a blocking thread and writes the answer.
//! - Every route but `/healthz` and the UI's static files asks for the token; every request is checked for its Host and
//!   Origin first. There are no CORS headers: no other site has business here.
//! - Every refusal and every failure is an [`domain::ApiError`] as JSON.
//! - Everything that waits is bounded: slots, queues, streams, bodies.

#![forbid(unsafe_code)]

mod admin;
mod answer;
mod auto_training;
mod body;
mod charts;
mod client;
mod events;
mod guard;
mod kept;
mod openapi;
mod queue;
mod refusal;
mod router;
mod serve;
mod socket;
pub mod sse;
mod surface;
mod token;
mod ui;
mod writing;

pub use client::{Client, EventStream};
pub use guard::{AllowedHosts, Guard};
pub use router::{RouteInfo, router, routes};
pub use serve::{Bound, ServeOptions, serve};
pub use socket::{ServedSocket, serve_socket};
pub use token::Token;
