//! How far the loading of a program is, for whoever waits for it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing: not started, or done.
    Idle,
    /// Validating and instrumenting.
    Instrumenting,
    /// Compiling functions.
    Compiling,
    /// Waiting for another process that compiles the same program.
    Waiting,
    /// Writing, reading and checking compiled code.
    Loading,
}

impl Stage {
    const ALL: [Self; 5] = [Self::Idle, Self::Instrumenting, Self::Compiling, Self::Waiting, Self::Loading];

    /// The stage's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Instrumenting => "instrumenting",
            Self::Compiling => "compiling",
            Self::Waiting => "waiting",
            Self::Loading => "loading",
        }
    }
}

/// Written by the thread that loads and its helpers, read by any other at any time.
#[derive(Debug, Default)]
pub struct Progress {
    stage: AtomicU8,
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// The stage, and how many of how many functions are compiled.
    #[must_use]
    pub fn get(&self) -> (Stage, u64, u64) {
        let stage = Stage::ALL[usize::from(self.stage.load(Ordering::Relaxed))];
        let total = self.total.load(Ordering::Relaxed);
        // Trampolines are compiled too, but nobody knows beforehand how many there are.
        (stage, self.done.load(Ordering::Relaxed).min(total), total)
    }

    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    pub(crate) fn expect(&self, functions: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(functions, Ordering::Relaxed);
    }

    pub(crate) fn compiled_one(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_never_passes_its_total() {
        let progress = Progress::default();
        assert_eq!(progress.get(), (Stage::Idle, 0, 0));
        for stage in Stage::ALL {
            progress.enter(stage);
            assert_eq!(progress.get().0, stage);
        }
        progress.expect(2);
        for _ in 0..5 {
            progress.compiled_one();
        }
        assert_eq!(progress.get(), (Stage::Loading, 2, 2));
    }
}
