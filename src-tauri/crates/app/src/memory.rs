//! How much memory this machine and this process have, from the kernel's own figures.

/// MB that programs could still take without swapping (`MemAvailable`).
pub fn available_mb() -> f64 {
    meminfo("MemAvailable:")
}

/// MB in the machine.
pub(crate) fn total_mb() -> f64 {
    meminfo("MemTotal:")
}

/// Resident set of this process in MB.
pub fn process_mb() -> f64 {
    status("VmRSS:")
}

/// The largest the resident set has been, in MB.
pub fn peak_process_mb() -> f64 {
    status("VmHWM:")
}

fn meminfo(key: &str) -> f64 {
    kilobytes("/proc/meminfo", key)
}

fn status(key: &str) -> f64 {
    kilobytes("/proc/self/status", key)
}

/// A `Key:  1234 kB` line as MB; 0 where the system has no such file.
fn kilobytes(file: &str, key: &str) -> f64 {
    std::fs::read_to_string(file)
        .ok()
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse::<f64>().ok()))
        .map_or(0.0, |kilobytes| kilobytes / 1024.0)
}

/// Starts a new measurement of the peak (Linux resets `VmHWM` when 5 is written to `clear_refs`).
pub(crate) fn reset_peak() {
    // Where the kernel does not allow it, the figure is the peak since start: larger, never smaller than the truth.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
