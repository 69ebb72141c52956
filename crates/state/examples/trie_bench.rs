//! Times of the trie and of commits: a state of 100,000 accounts, then blocks that change 4,000 of them.
//!
//! ```text
//! cargo run --release -p noria-state --example trie_bench [DIRECTORY]
//! ```
//! The directory (a fresh one under the system's temporary directory without it) decides what a sync costs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use noria_state::{NewBlock, NodeBatch, Options, Root, Store, get, update, verify};

const ACCOUNTS: u64 = 100_000;
const CHANGES: u64 = 4_000;
const TRANSACTIONS: u64 = 2_000;
const BLOCKS: u64 = 10;

type Changes = Vec<(B256, Option<(Vec<u8>, u64)>)>;

/// RLP of an account without code and storage.
fn account(nonce: u64, balance: u64) -> Vec<u8> {
    let mut body = Vec::with_capacity(110);
    alloy_rlp::Encodable::encode(&nonce, &mut body);
    alloy_rlp::Encodable::encode(&(U256::from(balance) << 40), &mut body);
    alloy_rlp::Encodable::encode(&Root::EMPTY.hash, &mut body);
    alloy_rlp::Encodable::encode(&keccak256([]), &mut body);
    let mut rlp = Vec::with_capacity(body.len() + 3);
    alloy_rlp::Header { list: true, payload_length: body.len() }.encode(&mut rlp);
    rlp.extend_from_slice(&body);
    rlp
}

fn changes(round: u64, keys: &[B256]) -> Changes {
    let pick = |n: u64| keccak256([round.to_be_bytes(), n.to_be_bytes()].concat());
    let index = |hash: B256| (U256::from_be_bytes(hash.0) % U256::from(keys.len())).to::<usize>();
    let mut picked: Vec<B256> = (0..2 * CHANGES).map(|n| keys[index(pick(n))]).collect();
    picked.sort();
    picked.dedup();
    picked.truncate(CHANGES as usize);
    picked.into_iter().map(|key| (key, Some((account(round, round * 7 + 1_000_000), 0)))).collect()
}

fn block(parent: &NewBlock, state_root: Root, nodes: NodeBatch) -> NewBlock {
    let number = parent.number + 1;
    let hashes: Vec<B256> =
        (0..TRANSACTIONS).map(|tx| keccak256([number.to_be_bytes(), tx.to_be_bytes()].concat())).collect();
    NewBlock {
        hash: keccak256(number.to_be_bytes()),
        parent_hash: parent.hash,
        number,
        header_rlp: vec![7; 600],
        transactions: vec![Bytes::from(vec![7; 115]); hashes.len()],
        senders: vec![Address::repeat_byte(7); hashes.len()],
        receipts: vec![Bytes::from(vec![7; 20]); hashes.len()],
        transaction_hashes: hashes,
        state_root,
        nodes,
        ..NewBlock::default()
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn measure(path: PathBuf, sync: bool) {
    let store = Store::open(&path, Options { sync, ..Options::default() }).expect("a fresh directory");
    let mut keys: Vec<B256> = (0..ACCOUNTS).map(|n| keccak256(n.to_be_bytes())).collect();
    keys.sort();
    let all: Changes = keys.iter().map(|key| (*key, Some((account(0, 1_000_000), 0)))).collect();

    let start = Instant::now();
    let mut nodes = NodeBatch::new();
    let state_root = update(&store.reader().unwrap(), Root::EMPTY, &all, &mut nodes).unwrap();
    let built = start.elapsed();
    let count = nodes.len();
    let mut parent = NewBlock { hash: keccak256(b"genesis"), state_root, nodes, ..NewBlock::default() };
    let start = Instant::now();
    store.init_genesis(&parent).unwrap();
    let stored = milliseconds(start.elapsed());
    println!("sync={sync}: genesis: build {:.0} ms, {count} nodes, commit {stored:.0} ms", milliseconds(built));

    let (mut updates, mut commits, mut made, mut bytes) = (Vec::new(), Vec::new(), 0, 0);
    for round in 1..=BLOCKS {
        let writes = changes(round, &keys);
        assert_eq!(writes.len() as u64, CHANGES);
        let reader = store.reader().unwrap();
        let before = reader.header(parent.hash).unwrap().unwrap().state_root;
        let mut nodes = NodeBatch::new();
        let start = Instant::now();
        let after = update(&reader, before, &writes, &mut nodes).unwrap();
        updates.push(milliseconds(start.elapsed()));
        (made, bytes) = (nodes.len(), nodes.bytes());
        let next = block(&parent, after, nodes);
        let start = Instant::now();
        store.commit(&next, true).unwrap();
        commits.push(milliseconds(start.elapsed()));
        parent = next;
    }
    println!("  update of {CHANGES} accounts: {:.1} ms (median), {made} nodes, {bytes} bytes", median(updates));
    println!("  commit with {TRANSACTIONS} transactions: {:.1} ms (median)", median(commits));

    let reader = store.reader().unwrap();
    let root = reader.header(parent.hash).unwrap().unwrap().state_root;
    let start = Instant::now();
    for key in keys.iter().step_by(7).cycle().take(ACCOUNTS as usize) {
        assert!(get(&reader, root, key.as_slice()).unwrap().is_some());
    }
    let lookup = start.elapsed().as_secs_f64() * 1e6 / ACCOUNTS as f64;
    let start = Instant::now();
    let verified = verify(&reader, root, &mut |_, _| Ok(())).unwrap();
    println!("  lookup {lookup:.2} µs; whole state verified in {:.0} ms", milliseconds(start.elapsed()));
    assert_eq!(verified.leaves, ACCOUNTS);
    println!("  data file {} MB", store.disk_bytes().unwrap() >> 20);
}

fn main() {
    let base = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    for sync in [false, true] {
        let path = base.join(format!("noria-trie-bench-{}-{sync}", std::process::id()));
        measure(path.clone(), sync);
        std::fs::remove_dir_all(path).expect("our own directory");
    }
}
