//! Rewrites a module so that its execution is countable (protocol 2, "Determinism profile" and "Fuel").
//!
//! What the host of an instrumented module must know:
//! - [`COUNTER_EXPORT`], a mutable `i64`: the fuel that is left and the stack units in use, to be read with [`fuel_of`] and
//!   [`stack_of`]. It begins without fuel, less what the first memory costs. The host adds the unit's limit before the first
//!   call, which it omits if the sum is below zero, and reads it at the end: fuel below zero means that the limit was passed
//!   (status 2), however the program ended; after a trap, more stack units than [`STACK_MAX`](crate::STACK_MAX) mean
//!   status 4. At every call of an import the fuel is exact and not negative: the host takes its own price off with
//!   [`set_fuel`] before it acts, and traps if the rest is below zero (after writing it back).
//! - [`START_EXPORT`]: the module's start function, if it had one. The host calls it first, under the same rules.

mod counter;
mod emit;
mod flow;
mod function;
mod joined;
mod module;
mod nan;
mod plan;
mod webs;
mod wrappers;

pub use counter::{fuel_of, set_fuel, stack_of, with_fuel};

use crate::info::ModuleInfo;
use crate::profile::ProfileError;

/// Version of what is injected and of the fuel table; part of the chain's rules and of every cache key.
pub const INSTRUMENTER_VERSION: u32 = 6;
/// Names with this prefix belong to the instrumenter.
pub const RESERVED_PREFIX: &str = "__noria_";
/// Exported mutable `i64` global: fuel left and stack units in use.
pub const COUNTER_EXPORT: &str = "__noria_counter";
/// Exported function without parameters and results: the delivered module's start function.
pub const START_EXPORT: &str = "__noria_start";

/// Who makes NaN bit patterns independent of the processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NanRule {
    /// The engine canonicalises the result of every float instruction; nothing is injected.
    #[default]
    Engine,
    /// Injected code does, for engines that cannot: to the same bits as [`NanRule::Engine`].
    Injected,
}

/// Where the counter is kept while a function runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counter {
    /// In a local, given to functions that are called and back, and written to the exported global whenever anybody could
    /// look at it.
    #[default]
    Local,
    /// In the exported global all the time: simple and slow. Same fuel, to measure and test against.
    Global,
    /// Nowhere: only to measure what counting costs.
    Off,
}

/// What is injected. The default is what the chain's rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How fuel is counted.
    pub fuel: Counter,
    /// Enforce the stack rule, which needs the counter. Off only to measure what it costs.
    pub stack: bool,
    /// Who applies the NaN rule.
    pub nan: NanRule,
}

impl Default for Options {
    fn default() -> Self {
        Self { fuel: Counter::Local, stack: true, nan: NanRule::Engine }
    }
}

/// A module ready for an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instrumented {
    /// The rewritten module.
    pub bytes: Vec<u8>,
    /// What validation found out about the delivered one.
    pub info: ModuleInfo,
}

/// Validates a module as delivered and rewrites it under the chain's rules.
pub fn instrument(module: &[u8]) -> Result<Instrumented, ProfileError> {
    instrument_with(module, Options::default())
}

/// As [`instrument`], with chosen parts: for measurements, and for engines without a NaN rule of their own.
pub fn instrument_with(module: &[u8], options: Options) -> Result<Instrumented, ProfileError> {
    module::rewrite(module, options)
}
