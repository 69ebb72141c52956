//! Reading stored blocks: transactions, receipts, logs and fees, most of them as the RPC's JSON.

use alloy_consensus::Transaction as _;
use alloy_primitives::{Address, B256};
use alloy_rlp::Decodable;
use alloy_rpc_types_eth::BlockTransactions;
use noria_state::{Reader, StoreError, TransactionLocation};

use crate::block::Outcome;
use crate::block_codec::encode_block;
use crate::engine::{Engine, Sealed, sealed, to_json, transaction, transactions};
use crate::errors::RequestError;
use crate::json::{self, Position};
use crate::transaction::SignedTransaction;

/// Which logs are asked for.
#[derive(Debug, Default)]
pub struct LogFilter {
    /// Any of these; empty means all.
    pub addresses: Vec<Address>,
    /// Per position any of these; `None` or an empty list means all.
    pub topics: Vec<Option<Vec<B256>>>,
}

impl LogFilter {
    fn may_match(&self, bloom: &alloy_primitives::Bloom) -> bool {
        let has = |bytes: &[u8]| bloom.contains_input(alloy_primitives::BloomInput::Raw(bytes));
        (self.addresses.is_empty() || self.addresses.iter().any(|address| has(address.as_slice())))
            && self.topics.iter().flatten().all(|any| any.is_empty() || any.iter().any(|topic| has(topic.as_slice())))
    }

    fn matches(&self, log: &alloy_primitives::Log) -> bool {
        let topics = log.data.topics();
        (self.addresses.is_empty() || self.addresses.contains(&log.address))
            && self.topics.len() <= topics.len()
            && self.topics.iter().zip(topics).all(|(any, topic)| match any {
                Some(any) => any.is_empty() || any.contains(topic),
                None => true,
            })
    }
}

impl Engine {
    /// All transactions of a stored block.
    pub fn transactions(&self, hash: B256) -> Result<Vec<SignedTransaction>, RequestError> {
        transactions(&self.store.reader()?, hash, usize::MAX)
    }

    /// Location on the canonical chain.
    pub fn transaction_location(&self, hash: B256) -> Result<Option<TransactionLocation>, RequestError> {
        Ok(self.store.reader()?.transaction_location(hash)?)
    }

    /// `rlp([header, transactions, [], []])`.
    pub fn block_rlp(&self, hash: B256) -> Result<Vec<u8>, RequestError> {
        let reader = self.store.reader()?;
        let header = reader.header(hash)?.ok_or(RequestError::UnknownBlock(hash))?;
        let items = reader.transactions(hash)?.ok_or(RequestError::UnknownBlock(hash))?;
        Ok(encode_block(header.rlp, items.iter()))
    }

    /// The RPC's block object.
    pub fn block_json(&self, hash: B256, full: bool) -> Result<Vec<u8>, RequestError> {
        let reader = self.store.reader()?;
        let sealed = sealed(&reader, hash)?;
        let items = reader.transactions(hash)?.ok_or(RequestError::UnknownBlock(hash))?;
        let size = encode_block(&alloy_rlp::encode(&sealed.header), items.iter()).len();
        let body = if full {
            let all = transactions(&reader, hash, usize::MAX)?;
            BlockTransactions::Full(
                all.iter().zip(0..).map(|(tx, index)| json::transaction(tx, sealed.place(), index)).collect(),
            )
        } else {
            BlockTransactions::Hashes(reader.transaction_hashes(hash)?.unwrap_or_default())
        };
        Ok(to_json(&json::block(sealed.place(), size, body)))
    }

    /// The RPC's transaction object; `None` past the end.
    pub fn transaction_json(&self, hash: B256, index: usize) -> Result<Option<Vec<u8>>, RequestError> {
        let reader = self.store.reader()?;
        let sealed = sealed(&reader, hash)?;
        Ok(transaction(&reader, hash, index)?.map(|tx| to_json(&json::transaction(&tx, sealed.place(), index as u64))))
    }

    /// The network encoding of a transaction; `None` past the end.
    pub fn raw_transaction(&self, hash: B256, index: usize) -> Result<Option<Vec<u8>>, RequestError> {
        let reader = self.store.reader()?;
        let items = reader.transactions(hash)?.ok_or(RequestError::UnknownBlock(hash))?;
        Ok(items.get(index).map(<[u8]>::to_vec))
    }

    /// The RPC's receipts: one, or all of a block as an array.
    pub fn receipts_json(&self, hash: B256, only: Option<usize>) -> Result<Option<Vec<u8>>, RequestError> {
        let reader = self.store.reader()?;
        let sealed = sealed(&reader, hash)?;
        let outcomes = outcomes(&reader, hash, only.map_or(usize::MAX, |index| index.saturating_add(1)))?;
        if only.is_some_and(|index| index >= outcomes.len()) {
            return Ok(None);
        }
        let mut first_log = 0;
        let mut gas_before = 0;
        let mut receipts = Vec::new();
        for (index, outcome) in outcomes.iter().enumerate() {
            if only.is_none_or(|only| only == index) {
                let tx = transaction(&reader, hash, index)?
                    .ok_or_else(|| StoreError::Damaged(format!("block {hash} lacks transaction {index}")))?;
                let position = Position { hash: tx.hash, index: index as u64, first_log };
                receipts.push(json::receipt(&tx, outcome, sealed.place(), position, gas_before));
            }
            first_log += outcome.logs.len() as u64;
            gas_before = outcome.cumulative_gas_used;
        }
        Ok(Some(match only {
            Some(_) => to_json(&receipts[0]),
            None => to_json(&receipts),
        }))
    }

    /// Matching logs of these blocks, in order; more than `limit` is an error.
    pub fn logs(
        &self,
        blocks: impl IntoIterator<Item = B256>,
        filter: &LogFilter,
        limit: usize,
    ) -> Result<Vec<u8>, RequestError> {
        let reader = self.store.reader()?;
        let mut found = Vec::new();
        for hash in blocks {
            block_logs(&reader, hash, filter, limit, &mut found)?;
        }
        Ok(to_json(&found))
    }

    /// Matching logs of the canonical blocks `first..=last`.
    pub fn logs_range(&self, first: u64, last: u64, filter: &LogFilter, limit: usize) -> Result<Vec<u8>, RequestError> {
        let reader = self.store.reader()?;
        let mut found = Vec::new();
        for number in first..=last {
            let Some(hash) = reader.canonical(number)? else { break };
            block_logs(&reader, hash, filter, limit, &mut found)?;
        }
        Ok(to_json(&found))
    }

    /// Headers of up to `count` blocks ending with `newest`, oldest first, with tips at percentiles of gas used.
    pub fn fee_history(
        &self,
        newest: B256,
        count: usize,
        percentiles: &[f64],
    ) -> Result<Vec<(Sealed, Vec<u128>)>, RequestError> {
        let reader = self.store.reader()?;
        let mut history = Vec::new();
        let mut next = newest;
        for _ in 0..count {
            let block = sealed(&reader, next)?;
            let tips = tips(&reader, &block, percentiles)?;
            next = block.header.parent_hash;
            let genesis = block.header.number == 0;
            history.push((block, tips));
            if genesis {
                break;
            }
        }
        history.reverse();
        Ok(history)
    }
}

fn outcomes(reader: &Reader, hash: B256, most: usize) -> Result<Vec<Outcome>, RequestError> {
    let items = reader.receipts(hash)?.ok_or(RequestError::UnknownBlock(hash))?;
    let decode = |mut item: &[u8]| {
        Outcome::decode(&mut item).map_err(|error| StoreError::Damaged(format!("receipt of {hash}: {error}")))
    };
    Ok(items.iter().take(most).map(decode).collect::<Result<_, _>>()?)
}

fn block_logs(
    reader: &Reader,
    hash: B256,
    filter: &LogFilter,
    limit: usize,
    found: &mut Vec<alloy_rpc_types_eth::Log>,
) -> Result<(), RequestError> {
    let block = sealed(reader, hash)?;
    if block.header.logs_bloom.is_zero() || !filter.may_match(&block.header.logs_bloom) {
        return Ok(());
    }
    let hashes = reader.transaction_hashes(hash)?.unwrap_or_default();
    let mut first_log = 0;
    for (index, (outcome, hash)) in outcomes(reader, hash, usize::MAX)?.iter().zip(hashes).enumerate() {
        let position = Position { hash, index: index as u64, first_log };
        first_log += outcome.logs.len() as u64;
        found.extend(json::logs(outcome, block.place(), position).filter(|log| filter.matches(&log.inner)));
        if found.len() > limit {
            return Err(RequestError::invalid(format!("query returned more than {limit} results")));
        }
    }
    Ok(())
}

fn tips(reader: &Reader, block: &Sealed, percentiles: &[f64]) -> Result<Vec<u128>, RequestError> {
    if percentiles.is_empty() {
        return Ok(Vec::new());
    }
    let base_fee = block.header.base_fee_per_gas.unwrap_or_default();
    let mut gas_before = 0;
    let mut paid: Vec<(u128, u64)> = transactions(reader, block.hash, usize::MAX)?
        .iter()
        .zip(outcomes(reader, block.hash, usize::MAX)?)
        .map(|(tx, outcome)| {
            let gas = outcome.cumulative_gas_used - gas_before;
            gas_before = outcome.cumulative_gas_used;
            (tx.envelope.effective_tip_per_gas(base_fee).unwrap_or_default(), gas)
        })
        .collect();
    paid.sort_unstable();
    let mut index = 0;
    let mut sum = paid.first().map_or(0, |(_, gas)| *gas);
    Ok(percentiles
        .iter()
        .map(|percentile| {
            let threshold = (block.header.gas_used as f64 * percentile / 100.0) as u64;
            while sum < threshold && index + 1 < paid.len() {
                index += 1;
                sum += paid[index].1;
            }
            paid.get(index).map_or(0, |(tip, _)| *tip)
        })
        .collect())
}
