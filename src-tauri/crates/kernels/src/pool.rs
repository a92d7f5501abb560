//! Threads that wait close by: chunks are handed out as threads become free, so fast and slow cores both stay busy.
//!
//! Each thread begins with a share of its own, in order, so that what it reads lies side by side; then it helps the others.
//! The calling thread works too, and a call ends when all chunks are done, not when all threads have come: a thread that the
//! system keeps off its core delays nothing. Idle threads spin for a moment, then yield, then sleep.

use std::any::Any;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Rounds of waiting before a thread yields, and yields before it sleeps: about 50 µs, then about a millisecond.
const SPINS: u32 = 4_000;
const YIELDS: u32 = 1_000;

/// Below this many numbers, [`Pool::rows`] does not wake anybody.
const SERIAL_NUMBERS: usize = 8_192;

/// A fixed set of worker threads for short parallel loops.
pub struct Pool {
    shared: Arc<Shared>,
    /// One loop at a time.
    turn: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of `threads` threads, the caller counted in; at least one. Fewer, when the system refuses to start them.
    pub fn new(threads: usize) -> Self {
        let shares = (0..threads.max(1)).map(|_| Share::default()).collect();
        let shared = Arc::new(Shared { shares, ..Shared::default() });
        let start = |index: usize| {
            let shared = shared.clone();
            std::thread::Builder::new().name(format!("inkling-kernel-{index}")).spawn(move || shared.work(index)).ok()
        };
        let workers = (1..threads).map_while(start).collect();
        Self { shared, turn: Mutex::new(()), workers }
    }

    /// Number of threads, the caller counted in.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body` with ranges of at most `chunk` that together cover `0..tasks`, each index once, in any order.
    ///
    /// Do not call it from within `body`: it would wait for itself. A panic in `body` continues here, after all threads have
    /// left it.
    pub fn run(&self, tasks: usize, chunk: usize, body: &(dyn Fn(Range<usize>) + Sync)) {
        let chunk = chunk.max(1);
        if self.workers.is_empty() || tasks <= chunk {
            return (0..tasks).step_by(chunk).for_each(|start| body(start..tasks.min(start + chunk)));
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.open(Job { body, tasks, chunk });
        // Closed by a guard, so that `body` outlives every thread's use of it even when it panics here.
        let closing = Closing(&self.shared);
        self.shared.take_chunks(0, body, tasks, chunk);
        drop(closing);
        let panic = self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Calls `body` once for each item, in parallel.
    pub fn each<T: Send>(&self, items: &mut [T], body: &(dyn Fn(usize, &mut T) + Sync)) {
        let all = Disjoint::new(items);
        self.run(all.len, 1, &|range| {
            for index in range {
                // SAFETY: `run` hands out each index once, so no two of these one-item slices overlap.
                let item = unsafe { all.slice(index, 1) };
                body(index, &mut item[0]);
            }
        });
    }

    /// Calls `body` for each row of `width` items; in parallel when there is enough of it. A shorter rest is left out.
    pub fn rows<T: Send>(&self, data: &mut [T], width: usize, body: &(dyn Fn(usize, &mut [T]) + Sync)) {
        if data.len() < SERIAL_NUMBERS || width == 0 {
            return data.chunks_exact_mut(width.max(1)).enumerate().for_each(|(index, row)| body(index, row));
        }
        let all = Disjoint::new(data);
        let rows = all.len / width;
        self.run(rows, rows.div_ceil(4 * self.threads()), &|range| {
            for index in range {
                // SAFETY: rows do not overlap, and `run` hands out each index once.
                body(index, unsafe { all.slice(index * width, width) });
            }
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its work, so there is nothing to report.
            let _ = worker.join();
        }
    }
}

/// A mutable slice that several threads may take disjoint parts of.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    pub len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: it hands out parts only through the unsafe `slice`, whose callers promise that the parts are disjoint.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}
unsafe impl<T: Send> Send for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), owner: PhantomData }
    }

    /// # Safety
    /// No other live part may overlap `begin..begin + count`.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, begin: usize, count: usize) -> &mut [T] {
        assert!(begin <= self.len && count <= self.len - begin);
        // SAFETY: inside the slice, by the line above; not shared, by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(begin), count) }
    }

    /// The start of the slice, for kernels that write scattered parts of it.
    pub fn pointer(&self) -> *mut T {
        self.start
    }
}

/// A loop that is being run. The references in it are good as long as the job is open or somebody is in it.
#[derive(Clone, Copy)]
struct Job<'a> {
    body: &'a (dyn Fn(Range<usize>) + Sync),
    tasks: usize,
    chunk: usize,
}

const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;
const EPOCH: u64 = 1 << 32;

#[derive(Default)]
struct Shared {
    /// `epoch << 32 | open << 31 | threads inside`. A thread enters by adding one while the job is open, and only then reads
    /// `job`; the caller closes, waits until nobody is inside, and only then writes the next job.
    state: AtomicU64,
    shares: Box<[Share]>,
    job: JobCell,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    door: Mutex<()>,
    bell: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// The first index of a thread's share that nobody has taken. In a cache line of its own, as its thread changes it often.
#[derive(Default)]
#[repr(align(128))]
struct Share(AtomicUsize);

#[derive(Default)]
struct JobCell(std::cell::UnsafeCell<Option<Job<'static>>>);

// SAFETY: written only while the job is closed and nobody is inside; read only from inside. `Shared::state` orders the two.
unsafe impl Sync for JobCell {}
unsafe impl Send for JobCell {}

impl Shared {
    fn open(&self, job: Job<'_>) {
        // SAFETY: only the lifetime changes; `Closing` ends every use before the borrow ends.
        let job = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(job) };
        // SAFETY: the caller has the turn, the last job was closed and everybody has left it.
        unsafe { *self.job.0.get() = Some(job) };
        for (index, share) in self.shares.iter().enumerate() {
            share.0.store(self.share(index, job.tasks).start, Ordering::Relaxed);
        }
        let epoch = (self.state.load(Ordering::Relaxed) & !(EPOCH - 1)).wrapping_add(EPOCH);
        self.state.store(epoch | OPEN, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
    }

    fn wake(&self) {
        drop(self.door.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_all();
    }

    /// The indices that a thread begins with.
    fn share(&self, thread: usize, tasks: usize) -> Range<usize> {
        let count = self.shares.len();
        tasks * thread / count..tasks * (thread + 1) / count
    }

    fn take_chunks(&self, thread: usize, body: &(dyn Fn(Range<usize>) + Sync), tasks: usize, chunk: usize) {
        let count = self.shares.len();
        for index in (thread..count).chain(0..thread) {
            let end = self.share(index, tasks).end;
            let next = &self.shares[index].0;
            // Looked at first: a share that is used up stays where it is, in the cache of its thread.
            while next.load(Ordering::Relaxed) < end {
                let start = next.fetch_add(chunk, Ordering::Relaxed);
                if start >= end {
                    break;
                }
                body(start..end.min(start + chunk));
            }
        }
    }

    /// A worker's life.
    fn work(&self, thread: usize) {
        let mut last = 0;
        while let Some(epoch) = self.enter(last) {
            // SAFETY: this thread is inside, so the job is there and stays until `leave`.
            let job = unsafe { *self.job.0.get() };
            if let Some(Job { body, tasks, chunk }) = job
                && let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.take_chunks(thread, body, tasks, chunk)))
            {
                // Nobody needs the rest of a loop that failed.
                self.shares.iter().for_each(|share| share.0.store(tasks, Ordering::Relaxed));
                *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
            last = epoch;
            self.state.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for an open job newer than `last` and enters it; `None` when the pool ends.
    fn enter(&self, last: u64) -> Option<u64> {
        let mut waited = 0;
        loop {
            let state = self.state.load(Ordering::Acquire);
            let epoch = state & !(EPOCH - 1);
            if state & OPEN != 0 && epoch != last {
                if self.state.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    return Some(epoch);
                }
                continue;
            }
            if self.stop.load(Ordering::Acquire) {
                return None;
            }
            waited += 1;
            if waited < SPINS {
                std::hint::spin_loop();
            } else if waited < SPINS + YIELDS {
                std::thread::yield_now();
            } else {
                self.sleep(last);
            }
        }
    }

    fn sleep(&self, last: u64) {
        let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        // Announced before the last look at the state, which the caller changes before it looks for sleepers: one of the two
        // sees the other.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let state = self.state.load(Ordering::SeqCst);
        let nothing_to_do = state & OPEN == 0 || state & !(EPOCH - 1) == last;
        if nothing_to_do && !self.stop.load(Ordering::SeqCst) {
            drop(self.bell.wait(door).unwrap_or_else(PoisonError::into_inner));
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Closes the job when dropped and waits until every thread has left it.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut waited = 0;
        while self.0.state.load(Ordering::Acquire) & INSIDE != 0 {
            waited += 1;
            if waited < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}
