//! A process that is killed at any moment loses no acknowledged block, and a full disk loses nothing that was stored.
//!
//! Without the test harness: this program starts itself as the process that commits, and kills it.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use common::{QUICK, assert_complete, assert_stored, child, genesis, open};
use noria_state::{NewBlock, Options, Store, StoreError};

/// Where the committing process works, and whether it syncs.
const DIRECTORY: &str = "NORIA_TEST_DIRECTORY";
const SYNC: &str = "NORIA_TEST_SYNC";

fn main() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return commit_until_stopped(Path::new(&directory), std::env::var_os(SYNC).is_some());
    }
    // Understand the questions of test runners that list tests.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    for (name, test) in [
        ("killed_writers_lose_no_acknowledged_block", killed_writers_lose_no_acknowledged_block as fn()),
        ("another_process_is_locked_out", another_process_is_locked_out),
        ("a_full_disk_is_named_and_loses_nothing", a_full_disk_is_named_and_loses_nothing),
    ] {
        test();
        println!("test {name} ... ok");
    }
}

/// The other process: extend the chain as fast as it goes, and print the number of every block that is committed.
fn commit_until_stopped(directory: &Path, sync: bool) {
    let store = match open(directory, Options { sync, ..QUICK }) {
        Ok(store) => store,
        Err(error) => return println!("refused {error:?}"),
    };
    let mut out = std::io::stdout().lock();
    let mut parent = store.head().unwrap().unwrap();
    loop {
        let block = next(&store, parent);
        match store.commit(&block, true) {
            Ok(_) => writeln!(out, "{} {}", block.number, block.hash).unwrap(),
            Err(StoreError::Full(reason)) => {
                // Still usable for reading, and the failed block is not there.
                let reader = store.reader().unwrap();
                assert_eq!(reader.head().unwrap(), Some(parent));
                assert!(reader.header(block.hash).unwrap().is_none());
                assert!(matches!(store.commit(&block, true), Err(StoreError::Full(_))));
                return println!("full {reason}");
            }
            Err(error) => return println!("failed {error:?}"),
        }
        parent = block.hash;
    }
}

fn next(store: &Store, parent: B256) -> NewBlock {
    let reader = store.reader().unwrap();
    let salt = reader.header(parent).unwrap().unwrap().number + 1;
    child(&reader, parent, salt, salt % 30)
}

fn writer(directory: &Path, sync: bool) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(DIRECTORY, directory).stdout(Stdio::piped());
    if sync {
        command.env(SYNC, "1");
    }
    command
}

/// The number and hash of the last whole line "number hash".
fn last_acknowledged(lines: &[String]) -> Option<(u64, B256)> {
    let (number, hash) = lines.last()?.split_once(' ')?;
    Some((number.parse().expect("the writer prints numbers"), hash.parse().expect("and hashes")))
}

/// Every block up to the head is there, with a state that hashes right.
fn assert_consistent(directory: &Path, acknowledged: (u64, B256), check_all: bool) -> u64 {
    let store = Store::open(directory, QUICK).unwrap();
    let reader = store.reader().unwrap();
    let head = reader.header(reader.head().unwrap().unwrap()).unwrap().unwrap().number;
    assert!(head >= acknowledged.0, "block {} was acknowledged, the head is {head}", acknowledged.0);
    assert_eq!(reader.canonical(acknowledged.0).unwrap(), Some(acknowledged.1));
    assert_eq!(reader.canonical(head + 1).unwrap(), None);
    let first = if check_all { 1 } else { head.saturating_sub(20).max(1) };
    for number in first..=head {
        let parent = reader.canonical(number - 1).unwrap().unwrap();
        let expected = child(&reader, parent, number, number % 30);
        assert_eq!(reader.canonical(number).unwrap(), Some(expected.hash));
        assert_stored(&reader, &expected);
        if number % (head / 20 + 1) == 0 || number == head {
            assert_complete(&reader, &expected);
        }
    }
    head
}

fn killed_writers_lose_no_acknowledged_block() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = (0, genesis(0).hash);
    let start = Instant::now();
    let mut rounds = 0u64;
    // Moments spread over the start, the first commits and the steady run; half with syncing.
    while rounds < 16 && start.elapsed() < Duration::from_secs(20) {
        rounds += 1;
        let mut process = writer(directory.path(), rounds.is_multiple_of(2)).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let reading = std::thread::spawn(move || {
            let mut lines = Vec::new();
            for line in output.split(b'\n').map_while(Result::ok) {
                lines.push(String::from_utf8(line).unwrap());
            }
            lines
        });
        std::thread::sleep(Duration::from_micros(rounds * rounds * 400 + rounds * 971 % 7000));
        process.kill().unwrap();
        process.wait().unwrap();
        let mut lines = reading.join().unwrap();
        // The last line may have been cut by the kill.
        if lines.last().is_some_and(|line| line.len() < 68) {
            lines.pop();
        }
        assert!(!lines.iter().any(|line| line.starts_with('r') || line.starts_with('f')), "{lines:?}");
        if let Some(last) = last_acknowledged(&lines) {
            acknowledged = last;
        }
        if acknowledged.0 > 0 {
            acknowledged.0 = acknowledged.0.max(assert_consistent(directory.path(), acknowledged, false));
            let store = Store::open(directory.path(), QUICK).unwrap();
            acknowledged.1 = store.head().unwrap().unwrap();
        }
    }
    assert!(rounds >= 8, "too few kills to mean something");
    assert!(acknowledged.0 > 100, "only {} blocks were committed", acknowledged.0);
    assert_consistent(directory.path(), acknowledged, true);
}

fn another_process_is_locked_out() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), QUICK).unwrap();
    let output = writer(directory.path(), false).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("refused Locked"), "{said}");
    drop(store);
}

fn a_full_disk_is_named_and_loses_nothing() {
    // A limit on the size of files acts as a full disk, for the one process: the shell counts it in blocks of 512 or
    // 1024 bytes. Several limits, so that it strikes at different offsets within a page.
    for blocks in [1500, 2001, 3003] {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path(), QUICK).unwrap());
        let program = std::env::current_exe().unwrap();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\"")).arg(&program);
        let output = shell.env(DIRECTORY, directory.path()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<String> = said.lines().map(str::to_owned).collect();
        let (full, committed) = lines.split_last().expect("the writer says why it ends");
        assert!(full.starts_with("full "), "{full} {}", String::from_utf8_lossy(&output.stderr));
        let acknowledged = last_acknowledged(committed).expect("blocks before the disk was full");
        // With room again, the store goes on.
        let head = assert_consistent(directory.path(), acknowledged, true);
        assert_eq!(head, acknowledged.0);
        let store = Store::open(directory.path(), QUICK).unwrap();
        let block = next(&store, acknowledged.1);
        store.commit(&block, true).unwrap();
        assert_complete(&store.reader().unwrap(), &block);
    }
}
