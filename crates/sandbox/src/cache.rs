//! Compiled code on disk, shared by all processes of one user on one machine.
//!
//! Compiled code is run as it is, so whoever can write it owns this process. The directory must therefore belong to this
//! user and nobody else may write to it; entries are opened without following links and checked for the same. That the
//! bytes are those once written is checked by their hash, which guards against broken disks and half-written files, not
//! against people.
//!
//! One process builds an entry, holding a lock on its `.lock` file; others wait for it and then read. An entry appears
//! under its name by renaming, complete, and is never written to again. When all entries together get too large, those that
//! were not used for longest go.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use noria_crypto::B256;

/// The last bytes of an entry before its hash.
const MAGIC: &[u8; 8] = b"noria/1\n";
const TRAILER: u64 = 8 + 32;

/// Bytes of compiled code that are kept: some runtimes and hundreds of programs.
const QUOTA: u64 = 8 << 30;
/// How exactly it is noted when an entry was used last.
const NOTED_EVERY: Duration = Duration::from_secs(60);

/// A directory of compiled code.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
    quota: u64,
}

/// A checked entry: its first `length` bytes are what was stored.
#[derive(Debug)]
pub struct Entry {
    /// The open file. Its name may be gone or another's by now; its contents stay.
    pub file: File,
    /// Bytes that were stored.
    pub length: u64,
}

/// What keeps the cache from being used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The directory, or a file in it, belongs to somebody else or can be written by others.
    #[error(
        "{path} is not safe for compiled code: {reason}; choose a directory of your own, or remove it and start again"
    )]
    Unsafe {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk is full.
    #[error("no space left for compiled code in {0}; free some and retry")]
    Full(PathBuf),
    /// Another failure of the file system.
    #[error("the cache of compiled code fails at {path}: {error}")]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// The operating system's answer.
        error: io::Error,
    },
}

/// What building a missing entry can end in, beside success.
#[derive(Debug)]
pub enum BuildError<E> {
    /// The cache failed.
    Cache(CacheError),
    /// The builder failed.
    Build(E),
}

impl<E> From<CacheError> for BuildError<E> {
    fn from(error: CacheError) -> Self {
        Self::Cache(error)
    }
}

impl Cache {
    /// The cache in `directory`, which is made, for this user alone, if it is not there.
    ///
    /// # Errors
    /// [`CacheError::Unsafe`] if others could put code there, [`CacheError::Io`] if it cannot be made.
    pub fn open(directory: &Path) -> Result<Self, CacheError> {
        let fails = |error| CacheError::Io { path: directory.to_owned(), error };
        if fs::symlink_metadata(directory).is_err() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(fails)?;
        }
        // A link is followed once, here: what counts is who owns the directory behind it.
        let directory = directory.canonicalize().map_err(fails)?;
        let metadata = fs::metadata(&directory).map_err(fails)?;
        if !metadata.is_dir() {
            return Err(CacheError::Unsafe { path: directory, reason: "it is no directory".into() });
        }
        check_owner(&directory, &metadata)?;
        Ok(Self { directory, quota: QUOTA })
    }

    /// The same directory with another limit for the bytes in it. The entry written last is kept even if it is larger.
    #[must_use]
    pub fn with_quota(self, quota: u64) -> Self {
        Self { quota, ..self }
    }

    /// The entry of `key`, if it is there and sound. A broken one is as good as none.
    ///
    /// # Errors
    /// [`CacheError`] if the file system fails or the file is somebody else's.
    pub fn get(&self, key: &B256) -> Result<Option<Entry>, CacheError> {
        let path = self.path(key, "code");
        let fails = |error| CacheError::Io { path: path.clone(), error };
        let mut file = match open(OpenOptions::new().read(true), &path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fails(error)),
        };
        let metadata = file.metadata().map_err(fails)?;
        check_owner(&path, &metadata)?;
        let Some(length) = metadata.len().checked_sub(TRAILER) else { return Ok(None) };
        let found = hash(&mut file, length).map_err(fails)?;
        let mut trailer = [0; TRAILER as usize];
        if let Err(error) = file.read_exact(&mut trailer) {
            return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(fails(error)) };
        }
        let sound = trailer[..8] == MAGIC[..] && trailer[8..] == found[..];
        file.seek(SeekFrom::Start(0)).map_err(fails)?;
        let used = metadata.modified().ok().and_then(|used| used.elapsed().ok());
        if used.is_some_and(|used| used > NOTED_EVERY) {
            // For the choice of what to drop. If it cannot be noted, the choice is a worse one.
            file.set_modified(SystemTime::now()).ok();
        }
        Ok(sound.then_some(Entry { file, length }))
    }

    /// The entry of `key`; if there is none, what `build` returns becomes it. Of several processes that ask at once, one
    /// builds; `waiting` is called in the others, again and again.
    ///
    /// # Errors
    /// What `build` returns, or [`CacheError`].
    pub fn get_or_build<E>(
        &self,
        key: &B256,
        mut waiting: impl FnMut(),
        build: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Entry, BuildError<E>> {
        if let Some(entry) = self.get(key)? {
            return Ok(entry);
        }
        let _lock = self.lock(key, &mut waiting)?;
        // Somebody else may have built it while we waited.
        if let Some(entry) = self.get(key)? {
            return Ok(entry);
        }
        let contents = build().map_err(BuildError::Build)?;
        self.put(key, &contents)?;
        drop(contents);
        self.drop_oldest(key);
        let path = self.path(key, "code");
        self.get(key)?.ok_or_else(|| {
            let error = io::Error::other("what was just written reads back differently");
            BuildError::Cache(CacheError::Io { path, error })
        })
    }

    /// Hold the lock of `key`; it goes with the file, also when the process dies.
    fn lock(&self, key: &B256, waiting: &mut impl FnMut()) -> Result<File, CacheError> {
        let path = self.path(key, "lock");
        let fails = |error| CacheError::Io { path: path.clone(), error };
        let lock = open(OpenOptions::new().read(true).write(true).create(true), &path).map_err(fails)?;
        check_owner(&path, &lock.metadata().map_err(fails)?)?;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) => waiting(),
                Err(TryLockError::Error(error)) => return Err(fails(error)),
            }
            // Polled, so that whoever waits can be told; compiling takes seconds to a minute.
            sleep(Duration::from_millis(20));
        }
    }

    /// Write an entry; the lock is held.
    fn put(&self, key: &B256, contents: &[u8]) -> Result<(), CacheError> {
        let part = self.path(key, "part");
        let written = open(OpenOptions::new().write(true).create(true).truncate(true), &part).and_then(|mut file| {
            file.write_all(contents)?;
            file.write_all(MAGIC)?;
            file.write_all(blake3::hash(contents).as_bytes())?;
            file.sync_all()?;
            fs::rename(&part, self.path(key, "code"))
        });
        written.map_err(|error| {
            // Half an entry is of use to nobody; that it is gone matters less than why.
            let _ = fs::remove_file(&part);
            match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    CacheError::Full(self.directory.clone())
                }
                _ => CacheError::Io { path: part, error },
            }
        })
    }

    /// Remove entries that were not used for longest until the rest fits. Whoever has one loaded keeps it: only its name goes.
    fn drop_oldest(&self, written: &B256) {
        let Ok(files) = fs::read_dir(&self.directory) else { return };
        let kept = self.path(written, "code");
        let mut entries: Vec<(SystemTime, u64, PathBuf)> = files
            .filter_map(Result::ok)
            .map(|file| (file.path(), file.metadata()))
            .filter(|(path, _)| path.extension().is_some_and(|kind| kind == "code"))
            .filter_map(|(path, metadata)| {
                metadata.ok().map(|is| (is.modified().unwrap_or(UNIX_EPOCH), is.len(), path))
            })
            .collect();
        let mut total: u64 = entries.iter().map(|entry| entry.1).sum();
        entries.sort();
        for (_, length, path) in entries {
            if total <= self.quota {
                break;
            }
            // Another process may have been faster; a failure to make room is no failure of the program.
            if path != kept && fs::remove_file(&path).is_ok() {
                total -= length;
            }
        }
    }

    fn path(&self, key: &B256, kind: impl fmt::Display) -> PathBuf {
        self.directory.join(format!("{}.{kind}", hex(key)))
    }
}

fn hex(key: &B256) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Open a file of ours: never through a link, and for this user alone.
fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(path)
}

fn check_owner(path: &Path, metadata: &fs::Metadata) -> Result<(), CacheError> {
    let user = rustix::process::geteuid().as_raw();
    let reason = if metadata.uid() != user {
        format!("it belongs to user {}, and you are user {user}", metadata.uid())
    } else if metadata.mode() & 0o022 != 0 {
        format!("others may write to it (mode {:o})", metadata.mode() & 0o777)
    } else {
        return Ok(());
    };
    Err(CacheError::Unsafe { path: path.to_owned(), reason })
}

fn hash(file: &mut File, length: u64) -> io::Result<B256> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut left = length;
    while left > 0 {
        let wanted = left.min(buffer.len() as u64) as usize;
        let read = file.read(&mut buffer[..wanted])?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        left -= read as u64;
    }
    Ok(B256::new(*hasher.finalize().as_bytes()))
}

#[cfg(test)]
mod tests;
