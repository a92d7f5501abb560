//! The HTTP surface: routes, streams, guards, the served UI
