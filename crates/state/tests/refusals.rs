//! Directories and files that must be refused, each with its own error, and full stores.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{QUICK, assert_complete, child, genesis, open};
use heed::byteorder::NativeEndian;
use heed::types::{Bytes, Str, U64};
use heed::{CommitOrAbort, DefaultComparator, EnvOpenOptions, IntegerComparator};
use noria_state::{NewBlock, Options, SCHEMA_VERSION, StateError, Store, StoreError, get, verify};

/// A directory with a store of a few blocks in it, closed.
fn stored() -> (tempfile::TempDir, NewBlock) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), QUICK).unwrap();
    let mut last = genesis(0);
    for salt in 1..30 {
        last = child(&store.reader().unwrap(), last.hash, salt, 20);
        store.commit(&last, true).unwrap();
    }
    (directory, last)
}

fn data_file(directory: &Path) -> PathBuf {
    directory.join("data.mdb")
}

fn refusal(path: &Path) -> StoreError {
    Store::open(path, QUICK).expect_err("this must be refused")
}

#[test]
fn a_second_open_is_locked_until_the_last_user_is_gone() {
    let (directory, last) = stored();
    let store = Store::open(directory.path(), QUICK).unwrap();
    let error = refusal(directory.path());
    assert!(matches!(error, StoreError::Locked(_)));
    assert!(error.to_string().contains("in use by another process"), "{error}");
    let reader = store.reader().unwrap();
    drop(store);
    assert!(matches!(refusal(directory.path()), StoreError::Locked(_)));
    drop(reader);
    assert_complete(&Store::open(directory.path(), QUICK).unwrap().reader().unwrap(), &last);
}

#[test]
fn other_directories_are_foreign_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("thesis.txt"), "precious").unwrap();
    assert!(matches!(refusal(directory.path()), StoreError::Foreign { .. }));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

    let file = directory.path().join("thesis.txt");
    assert!(matches!(refusal(&file), StoreError::Foreign { .. }));
    assert_eq!(fs::read_to_string(file).unwrap(), "precious");

    // A bare LMDB environment of somebody else.
    let other = tempfile::tempdir().unwrap();
    // SAFETY: a fresh directory that nobody else knows.
    drop(unsafe { EnvOpenOptions::new().open(other.path()) }.unwrap());
    assert!(matches!(refusal(other.path()), StoreError::Foreign { .. }));
}

#[test]
fn another_chain_is_foreign() {
    let (directory, last) = stored();
    let store = Store::open(directory.path(), QUICK).unwrap();
    let error = store.init_genesis(&genesis(7)).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }));
    assert!(error.to_string().contains(&genesis(0).hash.to_string()), "{error}");
    assert_eq!(store.head().unwrap(), Some(last.hash));
}

#[test]
fn the_directory_is_made_with_its_parents_and_an_empty_one_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path(), QUICK).unwrap();
    open(&directory.path().join("a/b/c"), QUICK).unwrap();
}

#[test]
fn a_truncated_data_file_is_refused_at_any_length() {
    let (directory, last) = stored();
    let path = data_file(directory.path());
    let whole = fs::read(&path).unwrap();
    for length in [0, 1, 100, 4095, 4096, 8191, 8192, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = refusal(directory.path());
        assert!(matches!(error, StoreError::Truncated { .. }), "{length} bytes: {error}");
        assert_eq!(fs::metadata(&path).unwrap().len(), length as u64, "the file is not touched");
    }
    fs::remove_file(&path).unwrap();
    let error = refusal(directory.path());
    assert!(matches!(error, StoreError::Truncated { .. }) && error.to_string().contains("is missing"), "{error}");
    fs::write(&path, &whole).unwrap();
    assert_complete(&Store::open(directory.path(), QUICK).unwrap().reader().unwrap(), &last);
}

#[test]
fn a_garbage_data_file_is_refused() {
    let (directory, _) = stored();
    let path = data_file(directory.path());
    let whole = fs::read(&path).unwrap();
    for (at, length) in [(0, whole.len()), (0, 4096), (4096, 4096), (16, 4), (40, 4)] {
        let mut damaged = whole.clone();
        (0..length).for_each(|index| damaged[at + index] = (index * 37 + 11) as u8);
        fs::write(&path, damaged).unwrap();
        let error = refusal(directory.path());
        assert!(matches!(error, StoreError::Truncated { .. }), "{length} bytes at {at}: {error}");
    }
}

#[test]
fn a_creation_cut_off_at_any_point_is_taken_up_again() {
    let fresh = tempfile::tempdir().unwrap();
    drop(Store::open(fresh.path(), QUICK).unwrap());
    let data = fs::read(data_file(fresh.path())).unwrap();
    let cases: [&[(&str, &[u8])]; 4] = [
        &[("noria.lock", b"")],
        &[("noria.lock", b""), ("data.mdb", b"")],
        &[("noria.lock", b""), ("data.mdb", b""), ("lock.mdb", b"")],
        &[("noria.lock", b""), ("data.mdb", &data), ("noria.store.new", b"Thi")],
    ];
    for files in cases {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        drop(open(directory.path(), QUICK).unwrap());
        assert_eq!(Store::open(directory.path(), QUICK).unwrap().head().unwrap(), Some(genesis(0).hash));
    }
}

#[test]
fn another_schema_is_refused() {
    let (directory, _) = stored();
    tamper::<Str, DefaultComparator>(directory.path(), "meta", |meta, txn| {
        meta.put(txn, "schema", &(SCHEMA_VERSION + 1).to_le_bytes())
    });
    let error = refusal(directory.path());
    assert!(matches!(error, StoreError::Schema { found, expected } if found == expected + 1));
    assert!(error.to_string().contains(&format!("schema {}", SCHEMA_VERSION + 1)), "{error}");
}

/// Open the closed store in `directory` behind its back and change one of its tables.
fn tamper<KC: 'static, C: heed::Comparator + 'static>(
    directory: &Path,
    table: &str,
    change: impl FnOnce(heed::Database<'_, KC, Bytes, C>, &mut heed::RwTxn<'_>) -> heed::Result<()>,
) {
    // SAFETY: the store is closed and the directory is ours.
    let env = unsafe { EnvOpenOptions::new().max_dbs(4).open(directory) }.unwrap();
    let txn = env.write_txn().unwrap();
    let written = env.create_databases_and_commit(txn, |opener, txn| {
        let mut options = opener.database_options().types::<KC, Bytes>().key_comparator::<C>();
        let opened = options.name(table).create(txn)?;
        change(opened, txn)?;
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(()))
    });
    written.unwrap();
}

#[test]
fn damaged_nodes_are_found_and_named() {
    let (directory, last) = stored();
    let store = Store::open(directory.path(), QUICK).unwrap();
    let root = store.reader().unwrap().header(last.hash).unwrap().unwrap().state_root;
    drop(store);
    // The kind, a child's id, a child's reference.
    for at in [0, 3, 200] {
        tamper::<U64<NativeEndian>, IntegerComparator>(directory.path(), "nodes", |nodes, txn| {
            let mut node = nodes.get(txn, &root.id)?.unwrap().to_vec();
            node[at] ^= 0x01;
            nodes.put(txn, &root.id, &node)
        });
        let store = Store::open(directory.path(), QUICK).unwrap();
        let error = verify(&store.reader().unwrap(), root, &mut |_, _| Ok(())).unwrap_err();
        assert!(matches!(
            error,
            StateError::MalformedNode(_) | StateError::WrongHash { .. } | StateError::MissingNode(_)
        ));
    }
    tamper::<U64<NativeEndian>, IntegerComparator>(directory.path(), "nodes", |nodes, txn| {
        nodes.delete(txn, &root.id).map(drop)
    });
    let store = Store::open(directory.path(), QUICK).unwrap();
    let reader = store.reader().unwrap();
    assert!(matches!(get(&reader, root, &[0; 32]), Err(StateError::MissingNode(id)) if id == root.id));
    assert!(matches!(verify(&reader, root, &mut |_, _| Ok(())), Err(StateError::MissingNode(_))));
}

#[test]
fn damaged_records_are_named() {
    let (directory, last) = stored();
    for table in ["headers", "receipts", "bodies"] {
        tamper::<Bytes, DefaultComparator>(directory.path(), table, |records, txn| {
            let keys: Vec<Vec<u8>> =
                records.iter(txn)?.map(|record| record.map(|(key, _)| key.to_vec())).collect::<Result<_, _>>()?;
            keys.iter()
                .filter(|key| key.starts_with(last.hash.as_slice()))
                .try_for_each(|key| records.put(txn, key, b"odd"))
        });
    }
    let store = Store::open(directory.path(), QUICK).unwrap();
    let reader = store.reader().unwrap();
    let damaged = |error| matches!(error, StoreError::Damaged(_));
    assert!(damaged(reader.header(last.hash).unwrap_err()));
    assert!(damaged(reader.receipts(last.hash).unwrap_err()));
    assert!(damaged(reader.transactions(last.hash).unwrap_err()));
    assert!(damaged(reader.transaction_hashes(last.hash).unwrap_err()));
    assert!(damaged(reader.senders(last.hash).unwrap_err()));
    assert!(damaged(store.set_head(genesis(0).hash).unwrap_err()));
    assert_eq!(store.head().unwrap(), Some(last.hash));
}

#[test]
fn a_full_store_keeps_nothing_of_the_commit_and_works_again_when_larger() {
    let directory = tempfile::tempdir().unwrap();
    let small = Options { sync: false, max_bytes: 1 << 20 };
    let store = open(directory.path(), small).unwrap();
    let mut last = genesis(0);
    let (error, failed) = loop {
        let block = child(&store.reader().unwrap(), last.hash, last.number + 1, 50);
        match store.commit(&block, true) {
            Ok(_) => last = block,
            Err(error) => break (error, block),
        }
        assert!(last.number < 1000, "a store of 1 MiB must fill up");
    };
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    assert!(error.to_string().contains("1048576 bytes"), "{error}");
    assert!(last.number > 3);
    let check = |store: &Store| {
        let reader = store.reader().unwrap();
        assert_eq!(reader.head().unwrap(), Some(last.hash));
        assert_eq!(reader.header(failed.hash).unwrap(), None);
        assert_complete(&reader, &last);
    };
    check(&store);
    assert!(matches!(store.commit(&failed, true), Err(StoreError::Full(_))));
    drop(store);
    let store = Store::open(directory.path(), small).unwrap();
    check(&store);
    drop(store);
    let store = Store::open(directory.path(), QUICK).unwrap();
    check(&store);
    store.commit(&failed, true).unwrap();
    assert_complete(&store.reader().unwrap(), &failed);
}

#[test]
fn a_directory_without_permission_is_an_io_error() {
    // Needs a place that even root cannot write to.
    let nowhere = Path::new("/proc/noria-store");
    if Path::new("/proc/self").exists() {
        assert!(matches!(refusal(nowhere), StoreError::Io(_)));
        assert!(!nowhere.exists());
    }
}
