//! The data directory: one process at a time, and never somebody else's files.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::errors::StoreError;

/// Held locked while the store is open. Its presence also says that the directory is ours.
const LOCK: &str = "noria.lock";
/// Written when a new store is complete: from then on a missing or empty data file is damage.
const MARK: &str = "noria.store";
const MARK_TEXT: &[u8] = b"This directory holds a Noria chain store. Do not edit, move or copy single files of it.\n";
const DATA: &str = "data.mdb";
/// There while commits do not wait for the disk: which run of the system they belong to.
const UNSETTLED: &str = "noria.unsettled";
/// Where the system says which run it is. Not there: nobody can tell whether there was a power loss.
const RUN: &str = "/proc/sys/kernel/random/boot_id";

/// A locked data directory; dropping it releases the lock.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    /// Whether a store was completed here before.
    pub(crate) complete: bool,
    _lock: File,
}

impl Directory {
    /// Create the directory if needed, see that it is ours, lock it.
    pub(crate) fn acquire(path: &Path) -> Result<Self, StoreError> {
        let foreign = |reason: &str| StoreError::Foreign { path: path.to_owned(), reason: reason.to_owned() };
        if path.exists() && !path.is_dir() {
            return Err(foreign("is not a directory"));
        }
        let failed = |what: &str, error: io::Error| StoreError::io(&format!("{what} {}", path.display()), &error);
        fs::create_dir_all(path).map_err(|error| failed("cannot create the directory", error))?;
        if !path.join(LOCK).exists() {
            let mut entries = fs::read_dir(path).map_err(|error| failed("cannot list the directory", error))?;
            if entries.next().is_some() {
                return Err(foreign("holds files that are not a Noria store"));
            }
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK));
        let lock = lock.map_err(|error| failed("cannot open the lock file in", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed("cannot lock", error)),
        }
        Ok(Self { path: path.to_owned(), complete: path.join(MARK).exists(), _lock: lock })
    }

    /// Path of the data file.
    pub(crate) fn data_file(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// Record, durably, that the store is complete.
    pub(crate) fn mark_complete(&mut self) -> Result<(), StoreError> {
        if !self.complete {
            self.write_mark().map_err(|error| StoreError::io("cannot mark the new store", &error))?;
            self.complete = true;
        }
        Ok(())
    }

    /// Record, durably, that commits do not wait for the disk from now on. `false`: they must, for after a power loss
    /// nobody could tell that there was one.
    pub(crate) fn unsettle(&self) -> Result<bool, StoreError> {
        let Ok(run) = fs::read(RUN) else { return Ok(false) };
        let write = || {
            let mut file = File::create(self.path.join(UNSETTLED))?;
            file.write_all(&run)?;
            file.sync_all()?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|error| StoreError::io("cannot mark the store as unsettled", &error))?;
        Ok(true)
    }

    /// What the mark of [`Self::unsettle`] says: `None` without one, else whether the system has run since.
    pub(crate) fn unsettled(&self) -> Result<Option<bool>, StoreError> {
        match fs::read(self.path.join(UNSETTLED)) {
            Ok(run) => Ok(Some(fs::read(RUN).is_ok_and(|now| now == run))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("cannot read the mark of unsettled commits", &error)),
        }
    }

    /// Everything is on the disk: remove the mark.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        let remove = || {
            fs::remove_file(self.path.join(UNSETTLED))?;
            File::open(&self.path)?.sync_all()
        };
        match remove() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("cannot remove the mark of unsettled commits", &error))
            }
            _ => Ok(()),
        }
    }

    fn write_mark(&self) -> io::Result<()> {
        let unfinished = self.path.join("noria.store.new");
        let mut file = File::create(&unfinished)?;
        file.write_all(MARK_TEXT)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.path.join(MARK))?;
        File::open(&self.path)?.sync_all()
    }
}
