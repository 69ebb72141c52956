//! The public trie tests (`TrieTests` of ethereum/tests), where they are at hand.
//!
//! `NORIA_FIXTURES` names the folder that holds `ethereum-tests`; without it, `fixtures` beside the checkout is tried.

use std::fs;
use std::path::PathBuf;

use alloy_primitives::hex;
use noria_state::{MemoryNodes, NodeBatch, NodeId, Root, leaves, trie_root, update};
use serde_json::Value;

fn folder() -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    let fixtures = std::env::var_os("NORIA_FIXTURES").map_or_else(beside, PathBuf::from);
    Some(fixtures.join("ethereum-tests/TrieTests")).filter(|folder| folder.is_dir())
}

fn bytes(text: &Value) -> Vec<u8> {
    match text.as_str() {
        None => Vec::new(),
        Some(text) => match text.strip_prefix("0x") {
            Some(digits) => hex::decode(digits).expect("the file holds hexadecimal"),
            None => text.as_bytes().to_vec(),
        },
    }
}

/// Runs every case of a file; says how many, or `None` where the files are not at hand.
fn run(file: &str, secure: bool) -> Option<usize> {
    let Some(folder) = folder() else {
        eprintln!("skipped: no TrieTests found; set NORIA_FIXTURES");
        return None;
    };
    let cases: Value = serde_json::from_str(&fs::read_to_string(folder.join(file)).unwrap()).unwrap();
    let cases = cases.as_object().unwrap();
    for (name, case) in cases {
        let items: Vec<(Vec<u8>, Vec<u8>)> = match &case["in"] {
            Value::Array(pairs) => pairs.iter().map(|pair| (bytes(&pair[0]), bytes(&pair[1]))).collect(),
            map => map
                .as_object()
                .unwrap()
                .iter()
                .map(|(key, value)| (bytes(&key.as_str().into()), bytes(value)))
                .collect(),
        };
        let root = trie_root(&items, secure).unwrap();
        assert_eq!(root.to_string(), case["root"].as_str().unwrap(), "{file} {name}");
    }
    Some(cases.len())
}

#[test]
fn plain_tries() {
    assert!(run("trietest.json", false).is_none_or(|cases| cases >= 4));
    assert!(run("trieanyorder.json", false).is_none_or(|cases| cases >= 7));
}

#[test]
fn tries_of_hashed_keys() {
    assert!(run("trietest_secureTrie.json", true).is_none_or(|cases| cases >= 3));
    assert!(run("trieanyorder_secureTrie.json", true).is_none_or(|cases| cases >= 7));
    assert!(run("hex_encoded_securetrie_test.json", true).is_none_or(|cases| cases >= 3));
}

type Change = (Vec<u8>, Option<(Vec<u8>, NodeId)>);

/// The keys before and after any given one, as a walk over the trie finds them.
#[test]
fn neighbours() {
    let Some(folder) = folder() else {
        eprintln!("skipped: no TrieTests found; set NORIA_FIXTURES");
        return;
    };
    let text = fs::read_to_string(folder.join("trietestnextprev.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let mut asked = 0;
    for case in cases.as_object().unwrap().values() {
        let mut changes: Vec<Change> =
            case["in"].as_array().unwrap().iter().map(|key| (bytes(key), Some((bytes(key), 0)))).collect();
        changes.sort_unstable();
        let mut nodes = MemoryNodes::new();
        let mut batch = NodeBatch::new();
        let root = update(&nodes, Root::EMPTY, &changes, &mut batch).unwrap();
        let root = nodes.absorb(batch, root);
        let keys: Vec<Vec<u8>> = leaves(&nodes, root).map(|leaf| leaf.unwrap().key).collect();
        for test in case["tests"].as_array().unwrap() {
            let [from, before, after] = [0, 1, 2].map(|at| bytes(&test[at]));
            let previous = keys.iter().rev().find(|key| **key < from).cloned().unwrap_or_default();
            let next = keys.iter().find(|key| **key > from).cloned().unwrap_or_default();
            assert_eq!((previous, next), (before, after), "{test}");
            asked += 1;
        }
    }
    assert!(asked >= 12);
}
