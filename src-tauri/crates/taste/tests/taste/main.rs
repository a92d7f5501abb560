//! What taste must reach, measured on stories that none of its word statistics were learned from.

mod extremes;
mod labels;
mod preference;
mod quality;
mod scores;
mod simulation;
mod stories;
mod vote;
