//! Units of work and what comes out of them (protocol 2).

use std::sync::Arc;

use noria_crypto::{B256, hash};

/// The name of a program: `H("noria/program/1" ‖ module bytes)`, of the module as delivered.
#[must_use]
pub fn program_id(module: &[u8]) -> B256 {
    tagged(b"noria/program/1", module)
}

/// The name of an input, an output or any other bytes: `H("noria/blob/1" ‖ bytes)`.
#[must_use]
pub fn blob_id(bytes: &[u8]) -> B256 {
    tagged(b"noria/blob/1", bytes)
}

/// The name of a unit: `K("noria/unit/1" ‖ program_id ‖ input_id ‖ fuel_limit)`, the limit in 64 bits, big-endian.
#[must_use]
pub fn unit_id(program_id: &B256, input_id: &B256, fuel_limit: u64) -> B256 {
    let parts = [&b"noria/unit/1"[..], &program_id.0, &input_id.0, &fuel_limit.to_be_bytes()];
    hash::keccak256(&parts.concat())
}

fn tagged(tag: &[u8], bytes: &[u8]) -> B256 {
    B256::new(*blake3::Hasher::new().update(tag).update(bytes).finalize().as_bytes())
}

/// A pure function call: a program, its input, and the most fuel it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The program.
    pub program_id: B256,
    /// What the program reads from stdin.
    pub input: Arc<[u8]>,
    /// The most fuel that the call may use.
    pub fuel_limit: u64,
}

impl Unit {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> B256 {
        unit_id(&self.program_id, &blob_id(&self.input), self.fuel_limit)
    }
}

/// How a unit ended, with the protocol's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The program returned, or exited with code 0.
    Ok = 0,
    /// The program exited with another code, or trapped.
    Failed = 1,
    /// The fuel counter is beyond the limit at the end, however the program ended.
    OutOfFuel = 2,
    /// The module's initial memory or table exceeds the limit; it did not run.
    TooLarge = 3,
    /// The stack counter passed its limit.
    StackLimit = 4,
    /// The program wrote more output than it may.
    OutputLimit = 5,
}

/// The result of a unit: the same on every machine. A failure of the machine is never one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// What it wrote to stdout; of a failed unit the log.
    pub output: Vec<u8>,
    /// What it wrote to stderr, cut at [`LOG_MAX`](crate::wasi::LOG_MAX) bytes.
    pub log: Vec<u8>,
    /// Fuel used; all of the limit with [`Status::OutOfFuel`].
    pub fuel: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use noria_crypto::hash::{blake3, keccak256};

    #[test]
    fn ids_are_hashes_of_tag_and_content() {
        assert_eq!(program_id(b"\0asm"), blake3(b"noria/program/1\0asm"));
        assert_eq!(blob_id(b""), blake3(b"noria/blob/1"));
        let unit = Unit { program_id: program_id(b"p"), input: Arc::from(&b"i"[..]), fuel_limit: 0x0102 };
        let mut preimage = b"noria/unit/1".to_vec();
        preimage.extend_from_slice(&blake3(b"noria/program/1p").0);
        preimage.extend_from_slice(&blake3(b"noria/blob/1i").0);
        preimage.extend_from_slice(&[0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(unit.id(), keccak256(&preimage));
    }
}
