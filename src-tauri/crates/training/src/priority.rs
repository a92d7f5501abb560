//! A thread pool for training that leaves the processor to everything a person is waiting for.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// `threads` workers (0: one per core) at low priority.
pub(crate) fn background_pool(threads: usize) -> Result<ThreadPool, ThreadPoolBuildError> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("training-{index}"))
        .start_handler(|_| lower_priority())
        .build()
}

/// `threads` workers (0: one per core) at the priority of the program: for measurements.
pub(crate) fn foreground_pool(threads: usize) -> Result<ThreadPool, ThreadPoolBuildError> {
    ThreadPoolBuilder::new().num_threads(threads).thread_name(|index| format!("bench-{index}")).build()
}

/// Niceness 10 for the calling thread only. Failing is harmless: training is then merely less polite.
#[cfg(target_os = "linux")]
fn lower_priority() {
    // On Linux, niceness belongs to the thread and `who = 0` means the calling one (setpriority(2), "C library/kernel
    // differences"). SAFETY: takes and returns plain integers, touches no memory of ours.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 10);
    }
}

/// Elsewhere priorities of threads work differently; yielding between layers has to do.
#[cfg(not(target_os = "linux"))]
fn lower_priority() {}
