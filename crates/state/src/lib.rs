//! Persistent state of a chain: a Merkle-Patricia trie that keeps every past state, and the block store around it.
//!
//! **Trie.** Nodes are never changed. An update ([`update`]) writes the nodes on the changed paths under fresh,
//! ascending [`NodeId`]s into a [`NodeBatch`] and hands back a new [`Root`]; the old root keeps working. Forks and
//! reorganisations are therefore only a matter of which root is read. Nodes come from a [`NodeSource`]: a
//! [`Reader`] of the store, [`MemoryNodes`], or a batch that is not stored yet on top of either ([`Layered`]).
//!
//! **Store.** [`Store`] keeps nodes, code, headers, bodies, receipts and indices in one LMDB environment. A block is
//! written by one atomic transaction ([`Store::commit`]), readers see immutable snapshots ([`Store::reader`]).
//!
//! ```
//! use noria_state::{MemoryNodes, NodeBatch, Root, get, update};
//!
//! let mut nodes = MemoryNodes::new();
//! let mut batch = NodeBatch::new();
//! let root = update(&nodes, Root::EMPTY, &[(b"dog", Some((b"puppy", 0)))], &mut batch)?;
//! let root = nodes.absorb(batch, root);
//! assert_eq!(get(&nodes, root, b"dog")?.unwrap().value, b"puppy");
//! # Ok::<(), noria_state::StateError>(())
//! ```

mod batch;
mod block;
mod commit;
mod data_file;
mod directory;
mod encode;
mod errors;
mod items;
mod iterate;
mod lookup;
mod memory;
mod nibbles;
mod node;
mod proof;
mod reader;
mod schema;
mod store;
mod update;
mod verify;

pub use batch::NodeBatch;
pub use block::{HeadChange, NewBlock, StoredHeader, TransactionLocation};
pub use errors::{StateError, StoreError};
pub use items::Items;
pub use iterate::{LeafEntry, Leaves, leaves};
pub use lookup::{Leaf, get};
pub use memory::{MemoryNodes, trie_root};
pub use node::{Layered, NodeId, NodeSource, Root};
pub use proof::prove;
pub use reader::Reader;
pub use schema::SCHEMA_VERSION;
pub use store::{Options, Store};
pub use update::{MAX_KEY_BYTES, update};
pub use verify::{Verified, verify};
