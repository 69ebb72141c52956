//! Hashes, RLP and signatures: the primitives that every other room agrees on.
//!
//! Each module is a thin, typed face of one maintained implementation. What this crate adds is strictness
//! towards bytes from outside (canonical encodings only, bounded depth, no allocation that a length prefix
//! could inflate) and errors that name what was wrong.
//!
//! - [`hash`]: Keccak-256 and BLAKE3.
//! - [`tree`]: BLAKE3 piece by piece, to check a long input while it arrives.
//! - [`rlp`]: Ethereum's recursive length prefix, decoded strictly.
//! - [`ecdsa`]: secp256k1 signatures with recovery, the accounts' signatures.
//! - [`bls`]: BLS12-381 signatures with keys in G1, the consensus signatures.

#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod bls;
pub mod ecdsa;
pub mod hash;
pub mod rlp;
pub mod tree;

pub use alloy_primitives::{Address, B256};
