use std::convert::Infallible;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use tempfile::TempDir;

use super::*;

const KEY: B256 = B256::new([7; 32]);

fn fresh() -> (TempDir, Cache) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let cache = Cache::open(&directory.path().join("cache")).expect("a new cache");
    (directory, cache)
}

fn contents(entry: Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry.file.take(entry.length).read_to_end(&mut bytes).expect("a readable entry");
    bytes
}

fn build(cache: &Cache, built: &[u8]) -> Vec<u8> {
    let entry = cache.get_or_build::<Infallible>(&KEY, || (), || Ok(built.to_vec())).expect("a working cache");
    contents(entry)
}

#[test]
fn an_entry_is_built_once() {
    let (_directory, cache) = fresh();
    assert!(cache.get(&KEY).expect("a working cache").is_none());
    assert_eq!(build(&cache, b"first"), b"first");
    assert_eq!(build(&cache, b"second"), b"first");
    assert_eq!(fs::metadata(&cache.directory).expect("the directory").mode() & 0o777, 0o700);
}

#[test]
fn what_is_broken_is_built_again() {
    let (_directory, cache) = fresh();
    let path = cache.path(&KEY, "code");
    build(&cache, b"some code");
    let good = fs::read(&path).expect("an entry");
    let mut flipped = good.clone();
    flipped[3] ^= 1;
    for broken in [flipped, good[..good.len() - 1].to_vec(), good[..3].to_vec(), vec![], [&good[..], b"x"].concat()] {
        fs::write(&path, &broken).expect("a writable entry");
        assert!(cache.get(&KEY).expect("a working cache").is_none(), "{broken:?}");
        assert_eq!(build(&cache, b"again"), b"again");
        fs::write(&path, &good).expect("a writable entry");
        assert_eq!(build(&cache, b"unused"), b"some code");
    }
}

#[test]
fn half_an_entry_left_by_a_killed_process_is_no_entry() {
    let (_directory, cache) = fresh();
    fs::write(cache.path(&KEY, "part"), b"half").expect("a writable directory");
    fs::write(cache.path(&KEY, "lock"), b"").expect("a writable directory");
    assert_eq!(build(&cache, b"whole"), b"whole");
    assert!(!cache.path(&KEY, "part").exists());
}

#[test]
fn a_failed_build_leaves_nothing_and_can_be_repeated() {
    let (_directory, cache) = fresh();
    let failed = cache.get_or_build(&KEY, || (), || Err("no"));
    assert!(matches!(failed, Err(BuildError::Build("no"))));
    assert_eq!(build(&cache, b"now"), b"now");
}

#[test]
fn a_directory_of_others_is_refused() {
    let foreign = Cache::open(Path::new("/proc/1"));
    let own = rustix::process::geteuid().is_root();
    assert!(own || matches!(foreign, Err(CacheError::Unsafe { .. })), "{foreign:?}");

    let (directory, cache) = fresh();
    fs::set_permissions(&cache.directory, fs::Permissions::from_mode(0o777)).expect("our directory");
    let open = Cache::open(&cache.directory).expect_err("anybody could write there");
    assert!(open.to_string().contains("others may write"), "{open}");

    let file = directory.path().join("file");
    fs::write(&file, b"").expect("our directory");
    assert!(matches!(Cache::open(&file), Err(CacheError::Unsafe { .. })));
    assert!(matches!(Cache::open(&file.join("below")), Err(CacheError::Io { .. })));
}

#[test]
fn files_of_others_are_refused() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root can give a file away.
    }
    let (_directory, cache) = fresh();
    build(&cache, b"code");
    std::os::unix::fs::chown(cache.path(&KEY, "code"), Some(65_534), None).expect("root");
    assert!(matches!(cache.get(&KEY), Err(CacheError::Unsafe { .. })));

    std::os::unix::fs::chown(&cache.directory, Some(65_534), None).expect("root");
    let refused = Cache::open(&cache.directory).expect_err("somebody else's directory");
    assert!(refused.to_string().contains("belongs to user 65534"), "{refused}");
}

#[test]
fn entries_that_others_may_write_and_links_are_refused() {
    let (_directory, cache) = fresh();
    build(&cache, b"code");
    let path = cache.path(&KEY, "code");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("our file");
    assert!(matches!(cache.get(&KEY), Err(CacheError::Unsafe { .. })));
    fs::rename(&path, cache.directory.join("elsewhere")).expect("our file");
    symlink(cache.directory.join("elsewhere"), &path).expect("our directory");
    assert!(matches!(cache.get(&KEY), Err(CacheError::Io { .. })));
}

#[test]
fn of_many_who_ask_at_once_one_builds() {
    let (_directory, cache) = fresh();
    let (builds, waits) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let waiting = || {
                    waits.fetch_add(1, Ordering::Relaxed);
                };
                let entry = cache.get_or_build::<Infallible>(&KEY, waiting, || {
                    builds.fetch_add(1, Ordering::Relaxed);
                    // Long enough that the others find the lock taken.
                    thread::sleep(Duration::from_millis(50));
                    Ok(b"code".to_vec())
                });
                assert_eq!(contents(entry.expect("a working cache")), b"code");
            });
        }
    });
    assert_eq!(builds.into_inner(), 1);
    assert!(waits.into_inner() > 0);
}

#[test]
fn an_entry_that_cannot_be_written_is_an_error_of_the_cache() {
    let (_directory, cache) = fresh();
    fs::create_dir(cache.path(&KEY, "part")).expect("our directory");
    let failed = cache.get_or_build::<Infallible>(&KEY, || (), || Ok(b"code".to_vec()));
    assert!(matches!(failed, Err(BuildError::Cache(CacheError::Io { .. }))));
}

#[test]
fn what_was_not_used_for_longest_goes_when_the_quota_is_passed() {
    let (_directory, cache) = fresh();
    let size = 1_000;
    let cache = cache.with_quota(3 * (size + TRAILER));
    let key = |number: u8| B256::new([number; 32]);
    let add = |number: u8| {
        let built = cache.get_or_build::<Infallible>(&key(number), || (), || Ok(vec![number; size as usize]));
        let file = built.expect("a working cache").file;
        // An hour for each step back.
        file.set_modified(SystemTime::now() - Duration::from_secs(3_600 * (100 - u64::from(number))))
            .expect("our file");
        file
    };
    let loaded = add(1);
    add(2);
    add(3);
    assert!(cache.get(&key(1)).expect("a working cache").is_some(), "and so it was used last");
    add(4);
    let here: Vec<bool> = (1..=4).map(|number| cache.path(&key(number), "code").exists()).collect();
    assert_eq!(here, [true, false, true, true]);
    add(5);
    add(6);
    assert!(cache.get(&key(6)).expect("a working cache").is_some());
    assert_eq!(contents(Entry { file: loaded, length: size }), vec![1; size as usize], "what is loaded stays");

    let small = cache.with_quota(1);
    assert_eq!(build(&small, b"larger than all there may be"), b"larger than all there may be");
    assert_eq!(
        fs::read_dir(&small.directory)
            .expect("ours")
            .filter(|file| {
                file.as_ref().is_ok_and(|file| file.path().extension().is_some_and(|kind| kind == "code"))
            })
            .count(),
        1
    );
}
