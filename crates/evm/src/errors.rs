//! Named reasons for which the engine refuses a transaction, a block or a request.

use noria_state::{StateError, StoreError};
use revm::context::result::InvalidTransaction;
use revm::database_interface::DBErrorMarker;

/// A transaction that cannot be accepted; `kind` is a stable word for programs, `message` is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TransactionError {
    /// Stable word, one of those listed in the Python stub.
    pub kind: &'static str,
    /// One line in geth's words.
    pub message: String,
}

impl TransactionError {
    /// An error of this kind.
    pub fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl From<InvalidTransaction> for TransactionError {
    fn from(error: InvalidTransaction) -> Self {
        use InvalidTransaction as I;
        let (kind, message) = match &error {
            I::NonceTooLow { tx, state } => {
                ("nonce-too-low", format!("nonce too low: next nonce {state}, tx nonce {tx}"))
            }
            I::NonceTooHigh { tx, state } => {
                ("nonce-too-high", format!("nonce too high: next nonce {state}, tx nonce {tx}"))
            }
            I::NonceOverflowInTransaction => ("nonce-too-high", "nonce has max value".into()),
            I::LackOfFundForMaxFee { fee, balance } => {
                ("insufficient-funds", format!("insufficient funds for gas * price + value: have {balance} want {fee}"))
            }
            I::OverflowPaymentInTransaction => {
                ("insufficient-funds", "insufficient funds for gas * price + value: the cost exceeds 2^256 wei".into())
            }
            I::CallGasCostMoreThanGasLimit { initial_gas, gas_limit } => {
                ("intrinsic-gas", format!("intrinsic gas too low: have {gas_limit}, want {initial_gas}"))
            }
            I::GasFloorMoreThanGasLimit { gas_floor, gas_limit } => (
                "intrinsic-gas",
                format!("insufficient gas for floor data gas cost: have {gas_limit}, want {gas_floor}"),
            ),
            I::CallerGasLimitMoreThanBlock => ("gas-limit", "exceeds block gas limit".into()),
            I::TxGasLimitGreaterThanCap { gas_limit, cap } => {
                ("gas-limit", format!("transaction gas limit too high (cap: {cap}, tx: {gas_limit})"))
            }
            I::GasPriceLessThanBasefee => ("fee-too-low", "max fee per gas less than block base fee".into()),
            I::PriorityFeeGreaterThanMaxFee => {
                ("tip-above-fee", "max priority fee per gas higher than max fee per gas".into())
            }
            I::RejectCallerWithCode => ("sender-not-eoa", "sender not an eoa".into()),
            I::CreateInitCodeSizeLimit => ("init-code-size", "max initcode size exceeded".into()),
            I::InvalidChainId | I::MissingChainId => ("chain-id", "invalid chain id for signer".into()),
            I::EmptyAuthorizationList => ("authorization", "EIP-7702 transaction with empty auth list".into()),
            I::AuthorizationListNotSupported | I::AuthorizationListInvalidFields => {
                ("authorization", error.to_string())
            }
            I::Eip2930NotSupported | I::Eip1559NotSupported | I::Eip4844NotSupported | I::Eip7702NotSupported => {
                ("type-unsupported", "transaction type not supported".into())
            }
            _ => ("other", error.to_string()),
        };
        Self { kind, message }
    }
}

/// A block that breaks a rule, or could not be processed.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The block breaks the rule named `kind`, deterministically: it is invalid for ever.
    #[error("{message}")]
    Invalid {
        /// Stable word for the rule.
        kind: &'static str,
        /// One line with the values.
        message: String,
    },
    /// The parent is not in the store.
    #[error("unknown parent block {0}")]
    UnknownParent(alloy_primitives::B256),
    /// The store failed; says nothing about the block.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BlockError {
    /// A broken rule.
    pub fn invalid(kind: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { kind, message: message.into() }
    }
}

/// A read-only request that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The request, override or specification cannot be understood.
    #[error("{0}")]
    Invalid(String),
    /// A block that the store does not hold.
    #[error("unknown block {0}")]
    UnknownBlock(alloy_primitives::B256),
    /// The transaction described cannot run at all (nonce, funds, fees).
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RequestError {
    /// A malformed request.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}

/// A failed read of the state while the EVM runs.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ReadError(#[from] pub StoreError);

impl From<StateError> for ReadError {
    fn from(error: StateError) -> Self {
        Self(error.into())
    }
}

impl DBErrorMarker for ReadError {}
