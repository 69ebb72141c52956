//! The execution engine: revm over our own state, payload blocks, read-only calls and traces.

pub mod block;
pub mod block_codec;
pub mod call;
pub mod engine;
pub mod errors;
pub mod evm;
pub mod history;
pub mod json;
pub mod machine;
pub mod overlay;
pub mod precompiles;
pub mod snapshot;
pub mod spec;
pub mod statetest;
pub mod trace;
pub mod transaction;
