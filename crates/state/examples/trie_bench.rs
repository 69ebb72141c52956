//! Times of the trie and of commits: 100,000 accounts, then rounds of 4,000 changed ones.
//!
//! `cargo run --release -p noria-state --example trie_bench`

use std::time::Instant;

use alloy_primitives::{B256, keccak256};
use noria_state::{MemoryNodes, NodeBatch, Root, update};

fn main() {
    let mut nodes = MemoryNodes::new();
    let mut keys: Vec<B256> = (0..100_000u64).map(|n| keccak256(n.to_be_bytes())).collect();
    keys.sort();
    let val = |k: &B256, r: u64| {
        let mut v = vec![0xf8, 68];
        v.extend_from_slice(&r.to_be_bytes());
        v.extend_from_slice(&k.0);
        v.extend_from_slice(&k.0);
        v
    };
    let ch: Vec<_> = keys.iter().map(|k| (*k, Some((val(k, 0), 0)))).collect();
    let mut batch = NodeBatch::new();
    let t = Instant::now();
    let root = update(&nodes, Root::EMPTY, &ch, &mut batch).unwrap();
    println!("build {:?} nodes {} bytes {}", t.elapsed(), batch.len(), batch.bytes());
    let mut root = nodes.absorb(batch, root);
    for r in 1..10u64 {
        let mut ch: Vec<_> = (0..4000u64)
            .map(|i| keccak256([r.to_be_bytes(), i.to_be_bytes()].concat()))
            .map(|h| keys[u64::from_be_bytes(h[..8].try_into().unwrap()) as usize % keys.len()])
            .collect();
        ch.sort();
        ch.dedup();
        let ch: Vec<_> = ch.into_iter().map(|k| (k, Some((val(&k, r), 0)))).collect();
        let mut batch = NodeBatch::new();
        let t = Instant::now();
        let new = update(&nodes, root, &ch, &mut batch).unwrap();
        println!("update {} in {:?} nodes {} bytes {}", ch.len(), t.elapsed(), batch.len(), batch.bytes());
        root = nodes.absorb(batch, new);
    }
    let t = Instant::now();
    for k in &keys {
        std::hint::black_box(keccak256(k));
    }
    println!("100k short keccak {:?}", t.elapsed());
}
