//! The chain's rules as data: chain id, hardfork schedule and genesis.

use std::collections::BTreeMap;

use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header};
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use alloy_trie::EMPTY_ROOT_HASH;
use revm::primitives::hardfork::SpecId;
use serde::{Deserialize, Serialize};

use crate::errors::RequestError;

/// One account of the genesis state.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GenesisAccount {
    /// Balance in wei.
    pub balance: U256,
    /// Nonce.
    pub nonce: U64,
    /// Runtime code.
    pub code: Bytes,
    /// Storage slots.
    pub storage: BTreeMap<B256, B256>,
}

/// What the engine needs to know of a chain specification.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainSpec {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// (name, activation timestamp), ascending.
    pub hardforks: Vec<(String, u64)>,
    /// Genesis time, Unix seconds.
    pub timestamp: u64,
    /// Genesis gas limit.
    pub gas_limit: u64,
    /// Genesis base fee, wei per gas.
    pub base_fee_per_gas: u64,
    /// Genesis extra data, at most 32 bytes.
    #[serde(default)]
    pub extra_data: Bytes,
    /// Genesis prevRandao.
    #[serde(default)]
    pub prev_randao: B256,
    /// Genesis fee recipient.
    #[serde(default)]
    pub fee_recipient: Address,
    /// Whether BLAKE3 and BLS verification are precompiled.
    #[serde(default)]
    pub noria_precompiles: bool,
    /// Genesis state.
    pub alloc: BTreeMap<Address, GenesisAccount>,
    /// `hardforks`, resolved.
    #[serde(skip)]
    schedule: Vec<(u64, SpecId)>,
}

/// What decides the outcome of execution besides the genesis block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesRecord {
    chain_id: u64,
    noria_precompiles: bool,
    hardforks: Vec<(String, u64)>,
}

impl RulesRecord {
    /// The same without the hardforks after this time.
    pub fn until(&self, timestamp: u64) -> Self {
        let mut past = self.clone();
        past.hardforks.retain(|(_, time)| *time <= timestamp);
        past
    }
}

/// The rules of a hardfork by its usual name, in any case.
pub fn hardfork(name: &str) -> Option<SpecId> {
    Some(match name.to_ascii_lowercase().as_str() {
        "frontier" => SpecId::FRONTIER,
        "homestead" => SpecId::HOMESTEAD,
        "eip150" | "tangerine" | "tangerinewhistle" => SpecId::TANGERINE,
        "eip158" | "spuriousdragon" => SpecId::SPURIOUS_DRAGON,
        "byzantium" => SpecId::BYZANTIUM,
        "constantinople" | "constantinoplefix" | "petersburg" => SpecId::PETERSBURG,
        "istanbul" => SpecId::ISTANBUL,
        "berlin" => SpecId::BERLIN,
        "london" => SpecId::LONDON,
        "paris" | "merge" => SpecId::MERGE,
        "shanghai" => SpecId::SHANGHAI,
        "cancun" => SpecId::CANCUN,
        "prague" => SpecId::PRAGUE,
        "osaka" => SpecId::OSAKA,
        _ => return None,
    })
}

impl ChainSpec {
    /// Parse and check the JSON of a chain specification.
    pub fn parse(json: &[u8]) -> Result<Self, RequestError> {
        let mut spec: Self = serde_json::from_slice(json)
            .map_err(|error| RequestError::invalid(format!("chain specification: {error}")))?;
        for (name, time) in &spec.hardforks {
            let id = hardfork(name)
                .ok_or_else(|| RequestError::invalid(format!("chain specification: unknown hardfork {name:?}")))?;
            if id < SpecId::CANCUN {
                return Err(RequestError::invalid(format!(
                    "chain specification: a chain starts at cancun or later, not at {name}"
                )));
            }
            if spec.schedule.last().is_some_and(|(t, i)| t > time || *i >= id) {
                return Err(RequestError::invalid("chain specification: hardforks must ascend"));
            }
            spec.schedule.push((*time, id));
        }
        if spec.schedule.first().is_none_or(|(time, _)| *time > spec.timestamp) {
            return Err(RequestError::invalid("chain specification: no hardfork is active at genesis"));
        }
        if spec.extra_data.len() > 32 {
            return Err(RequestError::invalid("chain specification: extra_data is longer than 32 bytes"));
        }
        Ok(spec)
    }

    /// The rules as a store keeps them.
    pub fn rules_record(&self) -> RulesRecord {
        RulesRecord {
            chain_id: self.chain_id,
            noria_precompiles: self.noria_precompiles,
            hardforks: self.hardforks.iter().map(|(name, time)| (name.to_ascii_lowercase(), *time)).collect(),
        }
    }

    /// Rules in force at this timestamp.
    pub fn rules_at(&self, timestamp: u64) -> SpecId {
        self.schedule.iter().rev().find(|(time, _)| *time <= timestamp).map_or(SpecId::CANCUN, |(_, id)| *id)
    }

    /// The genesis header over this state root.
    pub fn genesis_header(&self, state_root: B256) -> Header {
        Header {
            parent_hash: B256::ZERO,
            number: 0,
            timestamp: self.timestamp,
            gas_limit: self.gas_limit,
            base_fee_per_gas: Some(self.base_fee_per_gas),
            extra_data: self.extra_data.clone(),
            mix_hash: self.prev_randao,
            beneficiary: self.fee_recipient,
            parent_beacon_block_root: Some(B256::ZERO),
            ..blank_header(self.rules_at(self.timestamp), state_root)
        }
    }
}

/// A header with every field that this chain fixes: no ommers, no withdrawals, no blobs, no requests, difficulty 0.
pub fn blank_header(rules: SpecId, state_root: B256) -> Header {
    Header {
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        state_root,
        transactions_root: EMPTY_ROOT_HASH,
        receipts_root: EMPTY_ROOT_HASH,
        withdrawals_root: Some(EMPTY_ROOT_HASH),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        requests_hash: rules.is_enabled_in(SpecId::PRAGUE).then_some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    }
}
