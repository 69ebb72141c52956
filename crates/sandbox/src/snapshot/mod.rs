//! A started program: a module that ran up to some point, written down as a module that goes on from there.
//!
//! A Python interpreter needs a second to start and a unit has milliseconds, so what is pinned and run is the state after
//! the start: [`take`] makes a command out of a *reactor*, a module that exports
//!
//! | export | type | meaning |
//! |---|---|---|
//! | `memory` | | everything that it knows |
//! | `_initialize` | `() -> ()` | called once, first |
//! | `host_alloc` | `(length) -> pointer` | room for a text in its memory, never given back |
//! | `turn` | `(pointer, length) -> status` | run the text; status 0 is success |
//!
//! The result has its memory and variables as they were after the last turn, and an export `_start` that runs one more
//! text and exits with its status. Nothing of the machine gets into it: the reactor sees the same host as a unit does,
//! and the bytes are the same wherever the snapshot is taken.
//!
//! Functions that are not wanted can be [cut](Recipe::cut) away first, which makes a large module quick to compile.

mod cut;
mod run;
mod write;

use std::ops::Range;
use std::sync::Arc;

use wasm_encoder::reencode;

use crate::engine::MachineError;
use crate::wasi::Files;

/// How a snapshot is made.
pub struct Recipe<'a> {
    /// Functions that are left out, by their index in the delivered module. Nothing that stays may call or name one of
    /// them; the places in tables where they were hold a function that traps.
    pub cut: &'a [Range<u32>],
    /// A function whose calls to functions left out are left out too: the one that calls all constructors.
    pub constructors: Option<u32>,
    /// Functions that take so many bytes more of the module's own stack while they run. C code that watches that stack to
    /// see how deep it is overlooks functions that keep all they have in locals.
    pub padded: &'a [(u32, u32)],
    /// Words of its memory that are changed after the last turn: settings that it offers no other way to.
    pub words: &'a [Word],
    /// What the reactor can read until the snapshot is taken. None of it may be open then.
    pub files: Arc<Files>,
    /// The texts that are run, in order.
    pub turns: &'a [&'a str],
    /// The text that `_start` runs.
    pub entry: &'a str,
}

/// A word of 32 bits in a reactor's memory that is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Where.
    pub address: u32,
    /// What it holds then; anything else means that the recipe is for another module.
    pub from: u32,
    /// What it shall hold.
    pub to: u32,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The module cannot be read.
    #[error("invalid module: {0}")]
    Invalid(String),
    /// The module is no reactor of the kind described, or does what a snapshot cannot hold.
    #[error("no snapshot can be taken of this module: {0}")]
    Unfit(String),
    /// Something that stays needs something that is cut.
    #[error("function {user} needs function {needed}, which the recipe cuts; cut both or none")]
    Needed {
        /// What stays, in the delivered module's numbering.
        user: u32,
        /// What would go.
        needed: u32,
    },
    /// A turn failed.
    #[error("turn {turn} failed: {reason}\n{log}")]
    Turn {
        /// Which, counted from 0; the number of turns stands for what comes after the last.
        turn: usize,
        /// How it ended.
        reason: String,
        /// What it wrote.
        log: String,
    },
    /// This machine cannot.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

impl From<wasmparser::BinaryReaderError> for SnapshotError {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<reencode::Error<SnapshotError>> for SnapshotError {
    fn from(error: reencode::Error<SnapshotError>) -> Self {
        match error {
            reencode::Error::UserError(error) => error,
            other => Self::Invalid(other.to_string()),
        }
    }
}

/// Run the reactor as the recipe says and write down the state after it.
///
/// # Errors
/// [`SnapshotError`] if the module is no such reactor, the recipe does not fit it, or a turn fails.
pub fn take(module: &[u8], recipe: &Recipe<'_>) -> Result<Vec<u8>, SnapshotError> {
    let reactor = cut::cut(module, recipe)?;
    let state = run::run(&reactor, recipe)?;
    write::write(&reactor, &state)
}

/// Name of the export under which a mutable global variable can be read.
fn global_export(index: u32) -> String {
    format!("noria-snapshot:{index}")
}
