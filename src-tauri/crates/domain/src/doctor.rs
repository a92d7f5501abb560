//! What `inkling doctor` and the status line say about this installation.

use crate::{ApiError, Base, TasteSummary};
use serde::{Deserialize, Serialize};
use specta::Type;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct DoctorReport {
    pub version: String,
    pub sqlite: String,
    /// The SIMD tier in use.
    pub isa: String,
    pub threads: u32,
    pub memory: MemoryReport,
    pub data_dir: String,
    pub models: Vec<Base>,
    /// Addresses the app may contact; empty unless the person entered some.
    pub network_allowed: Vec<String>,
    pub problems: Vec<ApiError>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct MemoryReport {
    pub total_mb: f64,
    pub available_mb: f64,
    /// Resident set of this process.
    pub process_mb: f64,
}

/// What a surface needs at start, in one call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct Status {
    pub version: String,
    pub data_dir: String,
    pub base: Base,
    pub taste: TasteSummary,
    pub active_adapters: Vec<crate::Adapter>,
    pub running_job: Option<crate::Job>,
    pub queued_jobs: u32,
    /// Things found at start that the person should see (an interrupted run, a missing model).
    pub problems: Vec<ApiError>,
}
