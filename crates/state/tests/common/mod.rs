//! Blocks for the store's tests: made-up headers over a real state.
#![allow(dead_code, reason = "each test file uses a part")]

use alloy_primitives::{Address, B256, Bytes, keccak256};
use noria_state::{NewBlock, NodeBatch, Options, Reader, Root, Store, StoreError, update};

/// Options of a small store without syncing.
pub const QUICK: Options = Options { sync: false, max_bytes: 1 << 30 };

/// Hash of some numbers: an identity for anything.
pub fn id(parts: &[u64]) -> B256 {
    keccak256(parts.iter().flat_map(|part| part.to_be_bytes()).collect::<Vec<_>>())
}

/// Changes of a state.
pub type Writes = Vec<(B256, Option<(Vec<u8>, u64)>)>;

/// Eight entries that the block of this salt writes: its own, and one that every block overwrites.
pub fn writes(salt: u64) -> Writes {
    let mut writes: Vec<_> = (0..7).map(|entry| (id(&[salt, entry]), Some((salt.to_be_bytes().to_vec(), 0)))).collect();
    writes.push((B256::repeat_byte(0x77), Some((salt.to_be_bytes().repeat(5), 0))));
    writes.sort();
    writes
}

/// The genesis block of a test chain.
pub fn genesis(salt: u64) -> NewBlock {
    let mut nodes = NodeBatch::new();
    let empty = noria_state::MemoryNodes::new();
    let state_root = update(&empty, Root::EMPTY, &writes(salt), &mut nodes).unwrap();
    NewBlock { hash: id(&[salt, 0]), header_rlp: b"genesis".to_vec(), state_root, nodes, ..NewBlock::default() }
}

/// A child of a stored block with `transactions` transactions; one (number 0) is the same in all blocks of a number.
pub fn child(reader: &Reader, parent_hash: B256, salt: u64, transactions: u64) -> NewBlock {
    let parent = reader.header(parent_hash).unwrap().unwrap();
    let number = parent.number + 1;
    let mut nodes = NodeBatch::new();
    let state_root = update(reader, parent.state_root, &writes(salt), &mut nodes).unwrap();
    let hashes: Vec<B256> =
        (0..transactions).map(|tx| if tx == 0 { id(&[number, 1 << 40]) } else { id(&[salt, 1 << 41, tx]) }).collect();
    NewBlock {
        hash: id(&[salt, number, 1 << 42]),
        parent_hash,
        number,
        header_rlp: [b"header ", &salt.to_be_bytes()[..]].concat(),
        transactions: hashes.iter().map(|hash| Bytes::from([b"tx ", &hash[..]].concat())).collect(),
        senders: hashes.iter().map(|hash| Address::from_slice(&hash[..20])).collect(),
        receipts: hashes.iter().map(|hash| Bytes::from([b"receipt ", &hash[..]].concat())).collect(),
        transaction_hashes: hashes,
        system_calls: salt.to_be_bytes().to_vec(),
        state_root,
        nodes,
        codes: vec![(id(&[salt, 9]), Bytes::from(vec![0x60; 100])), (id(&[9]), Bytes::from_static(b"shared code"))],
        extra: vec![(b"last".to_vec(), Some(salt.to_be_bytes().to_vec()))],
    }
}

/// Open a store and put a genesis block into it.
pub fn open(path: &std::path::Path, options: Options) -> Result<Store, StoreError> {
    let store = Store::open(path, options)?;
    store.init_genesis(&genesis(0))?;
    Ok(store)
}

/// Check that a block and everything that belongs to it is there, and that its state hashes right.
pub fn assert_complete(reader: &Reader, block: &NewBlock) {
    assert_stored(reader, block);
    let root = reader.header(block.hash).unwrap().unwrap().state_root;
    noria_state::verify(reader, root, &mut |_, _| Ok(())).unwrap();
}

/// Check that a block and everything that belongs to it is there.
pub fn assert_stored(reader: &Reader, block: &NewBlock) {
    let header = reader.header(block.hash).unwrap().expect("the block is stored");
    assert_eq!((header.number, header.parent_hash), (block.number, block.parent_hash));
    assert_eq!((header.state_root.hash, header.rlp), (block.state_root.hash, &block.header_rlp[..]));
    assert_eq!(header.nodes.end - header.nodes.start, block.nodes.len() as u64);
    let transactions = reader.transactions(block.hash).unwrap().unwrap();
    assert!(transactions.iter().eq(block.transactions.iter().map(|transaction| &transaction[..])));
    let receipts = reader.receipts(block.hash).unwrap().unwrap();
    assert!(receipts.iter().eq(block.receipts.iter().map(|receipt| &receipt[..])));
    assert_eq!(reader.transaction_hashes(block.hash).unwrap().unwrap(), block.transaction_hashes);
    assert_eq!(reader.senders(block.hash).unwrap().unwrap(), block.senders);
    assert_eq!(reader.system_calls(block.hash).unwrap().unwrap(), block.system_calls);
    for (hash, code) in &block.codes {
        assert_eq!(reader.code(*hash).unwrap().unwrap(), code);
    }
}
