//! What can go wrong, in words that say what to do.

use std::io;
use std::path::PathBuf;

use alloy_primitives::B256;

use crate::node::NodeId;

/// A trie that cannot be read or changed as asked.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A node that a parent refers to is not in the source.
    #[error("trie node {0:#x} is missing; the state is damaged, restore the data directory or sync it anew")]
    MissingNode(NodeId),
    /// A stored node has no meaning.
    #[error("trie node {0:#x} is malformed; the state is damaged, restore the data directory or sync it anew")]
    MalformedNode(NodeId),
    /// A stored node does not hash to what its parent says.
    #[error("trie node {id:#x} hashes to {found}, expected {expected}; restore the data directory or sync it anew")]
    WrongHash {
        /// The node.
        id: NodeId,
        /// What the parent (or the root) promises.
        expected: B256,
        /// What the stored bytes give.
        found: B256,
    },
    /// Changes must be in ascending key order, each key once.
    #[error("trie changes must be sorted by key without duplicates; change {0} is not after the one before")]
    Unsorted(usize),
    /// A key longer than [`crate::MAX_KEY_BYTES`].
    #[error("trie key of {0} bytes; the longest allowed has {max}", max = crate::update::MAX_KEY_BYTES)]
    KeyTooLong(usize),
    /// The database under the source failed.
    #[error("cannot read the state: {0}")]
    Database(String),
}

/// A store that cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process (or another [`crate::Store`] of this one) holds the directory.
    #[error("the data directory {} is in use by another process; stop it or choose another directory", .0.display())]
    Locked(PathBuf),
    /// The directory holds something else.
    #[error("the data directory {} {reason}; choose another directory or an empty one", .path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The store was written by another version.
    #[error(
        "the store has schema {found}, this version reads schema {expected}; use the version that wrote it, or a new \
         directory"
    )]
    Schema {
        /// The version in the store.
        found: u32,
        /// [`crate::SCHEMA_VERSION`].
        expected: u32,
    },
    /// The data file is shorter than its own page table says, or no data file at all.
    #[error("the data file {} {reason}; restore it from a copy, or delete the directory to sync anew", .path.display())]
    Truncated {
        /// The data file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The machine lost power, or its system ended, while commits did not wait for the disk.
    #[error(
        "the store {} was catching up when the machine stopped, and may be damaged; delete the directory to sync anew",
        .0.display()
    )]
    Unsettled(PathBuf),
    /// No room. Nothing of the commit was kept.
    #[error("the store is full ({0}); free disk space or raise the maximum size, nothing of this commit was kept")]
    Full(String),
    /// The parent of a block is not stored.
    #[error("block {block} has parent {parent} (number {number} - 1), which is not stored; import the parent first")]
    UnknownParent {
        /// The block to be stored.
        block: B256,
        /// The missing parent, or one with another number.
        parent: B256,
        /// Number of the block to be stored.
        number: u64,
    },
    /// A block that is not stored was to become head.
    #[error("block {0} is not stored; import it first")]
    UnknownBlock(B256),
    /// The store holds no genesis yet.
    #[error("the store has no genesis block yet; write it first")]
    NoGenesis,
    /// A block whose parts do not fit together: a mistake of the caller.
    #[error("block {block} cannot be stored: {reason}")]
    Inconsistent {
        /// The block to be stored.
        block: B256,
        /// Which parts disagree.
        reason: String,
    },
    /// A key of the `extra` table that LMDB cannot hold.
    #[error("a key of the extra table has {0} bytes; 1 to {max} are allowed", max = crate::schema::MAX_EXTRA_KEY_BYTES)]
    ExtraKey(usize),
    /// The stored state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A record in the store has no meaning.
    #[error("the store is damaged: {0}; restore the data directory or sync it anew")]
    Damaged(String),
    /// The operating system or the database refused.
    #[error("the store cannot be used: {0}; check the disk and the permissions of the data directory")]
    Io(String),
}

impl StoreError {
    /// An error of the operating system while doing `what`.
    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        if Self::is_full(error) { Self::Full(format!("{what}: {error}")) } else { Self::Io(format!("{what}: {error}")) }
    }

    pub(crate) fn is_full(error: &io::Error) -> bool {
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::FileTooLarge | io::ErrorKind::QuotaExceeded)
    }
}

impl From<heed::Error> for StoreError {
    fn from(error: heed::Error) -> Self {
        use heed::MdbError;
        match error {
            heed::Error::Mdb(MdbError::MapFull) => Self::Full("the maximum size is reached".to_owned()),
            heed::Error::Io(error) => Self::io("the data file", &error),
            heed::Error::Mdb(MdbError::ReadersFull) => {
                Self::Io("too many snapshots are open at once; close some".to_owned())
            }
            heed::Error::Mdb(error @ (MdbError::PageNotFound | MdbError::Corrupted | MdbError::Invalid)) => {
                Self::Damaged(error.to_string())
            }
            other => Self::Io(other.to_string()),
        }
    }
}
