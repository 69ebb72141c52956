//! Signed transactions: strict decoding, sender recovery, and their view for the EVM.

use std::sync::Arc;

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{EthereumTxEnvelope, Transaction as _, TxEip4844, Typed2718};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use rayon::prelude::*;
use revm::context::TxEnv;
use revm::context::either::Either;

use crate::errors::TransactionError;

/// Every transaction type of Ethereum up to Osaka, blobs without their sidecars.
pub type Envelope = EthereumTxEnvelope<TxEip4844>;

/// A decoded transaction with its recovered sender.
#[derive(Debug)]
pub struct SignedTransaction {
    /// The consensus object.
    pub envelope: Envelope,
    /// Who signed it.
    pub sender: Address,
    /// `keccak256(raw)`.
    pub hash: B256,
    /// Network encoding (EIP-2718).
    pub raw: Bytes,
}

impl SignedTransaction {
    /// Decode strictly one network-encoded transaction of a type that this chain accepts and recover its sender.
    pub fn decode(raw: &[u8]) -> Result<Self, TransactionError> {
        // The type byte is looked at first so that a blob transaction, sidecar or not, gets its own reason.
        match raw.first() {
            Some(0x03) => {
                return Err(TransactionError::new(
                    "blob-unsupported",
                    "blob transactions are not accepted on this chain; send the data as calldata",
                ));
            }
            Some(kind) if *kind < 0x80 && !matches!(kind, 0x01 | 0x02 | 0x04) => {
                return Err(TransactionError::new(
                    "type-unsupported",
                    format!("transaction type {kind} is not supported"),
                ));
            }
            _ => {}
        }
        Self::decode_any(raw)
    }

    /// Like [`Self::decode`], blob transactions included (official tests carry them).
    pub fn decode_any(raw: &[u8]) -> Result<Self, TransactionError> {
        let encoding =
            |what: String| TransactionError::new("encoding", format!("invalid transaction encoding: {what}"));
        let mut rest = raw;
        let envelope = Envelope::decode_2718(&mut rest).map_err(|error| encoding(error.to_string()))?;
        if !rest.is_empty() {
            return Err(encoding(format!("{} bytes after the end", rest.len())));
        }
        // One encoding per transaction: what does not encode back to itself would have two hashes.
        if envelope.encode_2718_len() != raw.len() || envelope.encoded_2718() != raw {
            return Err(encoding("not canonical".into()));
        }
        let sender = envelope
            .recover_signer()
            .map_err(|_| TransactionError::new("signature", "invalid transaction v, r, s values"))?;
        Ok(Self { envelope, sender, hash: keccak256(raw), raw: Bytes::copy_from_slice(raw) })
    }

    /// Restore a stored transaction whose sender is already known to be right.
    pub fn restore(raw: &[u8], sender: Address) -> Option<Self> {
        let envelope = Envelope::decode_2718(&mut &raw[..]).ok()?;
        Some(Self { envelope, sender, hash: keccak256(raw), raw: Bytes::copy_from_slice(raw) })
    }

    /// EIP-2718 type byte.
    pub fn kind(&self) -> u8 {
        self.envelope.ty()
    }

    /// `value + gas_limit · max_fee_per_gas` in wei, saturating.
    pub fn max_cost(&self) -> U256 {
        let gas = U256::from(self.envelope.gas_limit());
        gas.saturating_mul(U256::from(self.envelope.max_fee_per_gas())).saturating_add(self.envelope.value())
    }

    /// Fee cap of the tip; the gas price for types without one.
    pub fn tip_cap(&self) -> u128 {
        self.envelope.max_priority_fee_per_gas().unwrap_or_else(|| self.envelope.max_fee_per_gas())
    }

    /// The transaction as the EVM takes it.
    pub fn env(&self) -> TxEnv {
        env(&self.envelope, self.sender)
    }
}

/// The EVM's view of an envelope sent by `caller`.
fn env(tx: &Envelope, caller: Address) -> TxEnv {
    TxEnv {
        tx_type: tx.ty(),
        caller,
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        kind: tx.kind(),
        value: tx.value(),
        data: tx.input().clone(),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        blob_hashes: tx.blob_versioned_hashes().map(<[B256]>::to_vec).unwrap_or_default(),
        max_fee_per_blob_gas: tx.max_fee_per_blob_gas().unwrap_or_default(),
        authorization_list: tx
            .authorization_list()
            .map(|list| list.iter().cloned().map(Either::Left).collect())
            .unwrap_or_default(),
    }
}

/// Decode many on all cores; results stand in the order of the inputs.
pub fn decode_many(raws: &[&[u8]]) -> Vec<Result<Arc<SignedTransaction>, TransactionError>> {
    let one = |raw: &&[u8]| SignedTransaction::decode(raw).map(Arc::new);
    if raws.len() < 4 { raws.iter().map(one).collect() } else { raws.par_iter().map(one).collect() }
}
