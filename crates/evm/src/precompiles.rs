//! Ethereum's precompiles plus this chain's own two: BLAKE3 and BLS signature verification.

use alloy_primitives::{Address, Bytes, address};
use revm::context::Cfg;
use revm::context_interface::ContextTr;
use revm::handler::{EthPrecompiles, PrecompileProvider, precompile_output_to_interpreter_result};
use revm::interpreter::{CallInputs, InterpreterResult};
use revm::precompile::{PrecompileHalt, PrecompileOutput};
use revm::primitives::AddressSet;
use revm::primitives::hardfork::SpecId;

/// BLAKE3-256 of the input.
pub const BLAKE3_ADDRESS: Address = address!("4e6f726961000000000000000000000000000101");
/// BLS12-381 signature verification.
pub const BLS_VERIFY_ADDRESS: Address = address!("4e6f726961000000000000000000000000000102");

const BLAKE3_GAS: u64 = 60;
const BLS_VERIFY_GAS: u64 = 120_000;
const WORD_GAS: u64 = 6;
const PUBLIC_KEY_BYTES: usize = 48;
const SIGNATURE_BYTES: usize = 96;

fn words(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(32)
}

fn finish(gas: u64, limit: u64, reservoir: u64, output: impl FnOnce() -> Bytes) -> PrecompileOutput {
    if gas > limit {
        return PrecompileOutput::halt(PrecompileHalt::OutOfGas, reservoir);
    }
    PrecompileOutput::new(gas, output(), reservoir)
}

/// `input -> 32 bytes`, 60 + 6 gas per word.
fn blake3(input: &[u8], gas_limit: u64, reservoir: u64) -> PrecompileOutput {
    finish(BLAKE3_GAS + WORD_GAS * words(input.len()), gas_limit, reservoir, || {
        Bytes::copy_from_slice(noria_crypto::hash::blake3(input).as_slice())
    })
}

/// `public key (48) ‖ signature (96) ‖ message -> 32-byte 1 or 0`, 120,000 + 6 gas per message word.
fn bls_verify(input: &[u8], gas_limit: u64, reservoir: u64) -> PrecompileOutput {
    let Some((key, rest)) = input.split_at_checked(PUBLIC_KEY_BYTES) else {
        return PrecompileOutput::halt(PrecompileHalt::other("BLS verify: input shorter than 144 bytes"), reservoir);
    };
    let Some((signature, message)) = rest.split_at_checked(SIGNATURE_BYTES) else {
        return PrecompileOutput::halt(PrecompileHalt::other("BLS verify: input shorter than 144 bytes"), reservoir);
    };
    finish(BLS_VERIFY_GAS + WORD_GAS * words(message.len()), gas_limit, reservoir, || {
        let mut word = [0u8; 32];
        word[31] = u8::from(noria_crypto::bls::verify(key, message, signature).is_ok());
        Bytes::copy_from_slice(&word)
    })
}

/// The precompiles of a chain.
#[derive(Debug, Clone)]
pub struct Precompiles {
    ethereum: EthPrecompiles,
    noria: bool,
    warm: AddressSet,
}

impl Precompiles {
    /// Ethereum's of this hardfork; with `noria` this chain's own too.
    pub fn new(rules: SpecId, noria: bool) -> Self {
        let ethereum = EthPrecompiles::new(rules);
        let mut warm = AddressSet::default();
        warm.clone_from(ethereum.warm_addresses());
        if noria {
            warm.insert(BLAKE3_ADDRESS);
            warm.insert(BLS_VERIFY_ADDRESS);
        }
        Self { ethereum, noria, warm }
    }
}

impl<C: ContextTr<Cfg: Cfg<Spec = SpecId>>> PrecompileProvider<C> for Precompiles {
    type Output = InterpreterResult;

    fn set_spec(&mut self, spec: SpecId) -> bool {
        let changed = <EthPrecompiles as PrecompileProvider<C>>::set_spec(&mut self.ethereum, spec);
        if changed {
            *self = Self::new(spec, self.noria);
        }
        changed
    }

    fn run(&mut self, context: &mut C, inputs: &CallInputs) -> Result<Option<InterpreterResult>, String> {
        if self.noria {
            let run = match inputs.bytecode_address {
                BLAKE3_ADDRESS => Some(blake3 as fn(&[u8], u64, u64) -> PrecompileOutput),
                BLS_VERIFY_ADDRESS => Some(bls_verify as fn(&[u8], u64, u64) -> PrecompileOutput),
                _ => None,
            };
            if let Some(run) = run {
                let output = run(&inputs.input.as_bytes(context), inputs.gas_limit, inputs.reservoir);
                return Ok(Some(precompile_output_to_interpreter_result(output, inputs.gas_limit)));
            }
        }
        self.ethereum.run(context, inputs)
    }

    fn warm_addresses(&self) -> &AddressSet {
        &self.warm
    }
}
