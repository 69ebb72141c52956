//! Blocks, transactions, receipts and logs in geth's RPC shape.

use alloy_consensus::transaction::{Recovered, TransactionInfo};
use alloy_consensus::{Header, ReceiptEnvelope, ReceiptWithBloom, Transaction as _};
use alloy_primitives::{B256, U256};
use alloy_rpc_types_eth::{Block, BlockTransactions, Header as RpcHeader, Log, Transaction, TransactionReceipt};

use crate::block::Outcome;
use crate::transaction::{Envelope, SignedTransaction};

/// Where in the chain an object stands.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The block's header.
    pub header: &'a Header,
    /// Its hash.
    pub hash: B256,
}

/// A transaction in a block; the RPC object.
pub fn transaction(tx: &SignedTransaction, place: Place<'_>, index: u64) -> Transaction<Envelope> {
    let recovered = Recovered::new_unchecked(tx.envelope.clone(), tx.sender);
    Transaction::from_transaction(
        recovered,
        TransactionInfo {
            hash: Some(tx.hash),
            index: Some(index),
            block_hash: Some(place.hash),
            block_number: Some(place.header.number),
            base_fee: place.header.base_fee_per_gas,
            block_timestamp: Some(place.header.timestamp),
        },
    )
}

/// A transaction that waits in a pool.
pub fn pending_transaction(tx: &SignedTransaction) -> Transaction<Envelope> {
    let recovered = Recovered::new_unchecked(tx.envelope.clone(), tx.sender);
    Transaction::from_transaction(recovered, TransactionInfo { hash: Some(tx.hash), ..TransactionInfo::default() })
}

/// A header as `newHeads` gives it.
pub fn header(place: Place<'_>, size: Option<usize>) -> RpcHeader {
    RpcHeader { hash: place.hash, inner: place.header.clone(), total_difficulty: None, size: size.map(U256::from) }
}

/// A block with hashes or whole transactions.
pub fn block(
    place: Place<'_>,
    size: usize,
    transactions: BlockTransactions<Transaction<Envelope>>,
) -> Block<Transaction<Envelope>> {
    Block { header: header(place, Some(size)), uncles: Vec::new(), transactions, withdrawals: Some(Vec::new().into()) }
}

/// A transaction's position in its block, for logs.
#[derive(Debug, Clone, Copy)]
pub struct Position {
    /// Its hash.
    pub hash: B256,
    /// Its index.
    pub index: u64,
    /// Index in the block of its first log.
    pub first_log: u64,
}

/// The logs of one transaction.
pub fn logs<'a>(outcome: &'a Outcome, place: Place<'a>, position: Position) -> impl Iterator<Item = Log> + 'a {
    outcome.logs.iter().zip(position.first_log..).map(move |(inner, log_index)| Log {
        inner: inner.clone(),
        block_hash: Some(place.hash),
        block_number: Some(place.header.number),
        block_timestamp: Some(place.header.timestamp),
        transaction_hash: Some(position.hash),
        transaction_index: Some(position.index),
        log_index: Some(log_index),
        removed: false,
    })
}

/// A receipt; `gas_before` is the block's gas used before this transaction.
pub fn receipt(
    tx: &SignedTransaction,
    outcome: &Outcome,
    place: Place<'_>,
    position: Position,
    gas_before: u64,
) -> TransactionReceipt<ReceiptEnvelope<Log>> {
    let rpc_logs = logs(outcome, place, position).collect();
    let consensus = outcome.receipt();
    let inner = ReceiptEnvelope::from_typed(
        consensus.tx_type(),
        ReceiptWithBloom {
            logs_bloom: *consensus.logs_bloom(),
            receipt: alloy_consensus::Receipt {
                status: outcome.success.into(),
                cumulative_gas_used: outcome.cumulative_gas_used,
                logs: rpc_logs,
            },
        },
    );
    let created = tx.envelope.is_create().then(|| tx.sender.create(tx.envelope.nonce()));
    TransactionReceipt {
        inner,
        transaction_hash: tx.hash,
        transaction_index: Some(position.index),
        block_hash: Some(place.hash),
        block_number: Some(place.header.number),
        gas_used: outcome.cumulative_gas_used - gas_before,
        effective_gas_price: tx.envelope.effective_gas_price(place.header.base_fee_per_gas),
        blob_gas_used: None,
        blob_gas_price: None,
        from: tx.sender,
        to: tx.envelope.to(),
        contract_address: created,
    }
}
