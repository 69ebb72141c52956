//! The store: one LMDB environment in one directory.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::B256;
use heed::{Env, EnvFlags, EnvOpenOptions, FlagSetMode, MdbError, RwTxn, WithoutTls};

use crate::data_file;
use crate::directory::Directory;
use crate::errors::StoreError;
use crate::reader::Reader;
use crate::schema::{MAX_TABLES, Tables};

/// Slots for snapshots that are open at once.
const MAX_READERS: u32 = 4096;
/// The size of the map must be a multiple of the page size of any machine.
const SIZE_STEP: u64 = 1 << 16;
const LEAST_BYTES: u64 = 1 << 20;

/// How a store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether a commit returns only when it is on the disk. `false` gives up the last commits on a power loss (and,
    /// in the worst case, the store), never on a killed process.
    pub sync: bool,
    /// The most bytes that the data file may take, at least 1 MiB. Address space, not memory.
    pub max_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { sync: true, max_bytes: 1 << 40 }
    }
}

/// What the handles and the snapshots of one open store share.
pub(crate) struct Shared {
    // In this order: the environment is closed before the directory is unlocked.
    pub(crate) env: Env<WithoutTls>,
    pub(crate) tables: Tables,
    directory: Directory,
    options: Options,
    writer: Mutex<()>,
}

/// Blocks, state and indices of one chain in one directory. Cheap to clone, safe from every thread.
///
/// Writers wait for each other, readers for nobody. The directory is unlocked when the last clone and the last
/// [`Reader`] are gone.
#[derive(Clone)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { directory, options, .. } = &*self.shared;
        f.debug_struct("Store").field("path", &directory.path).field("options", options).finish_non_exhaustive()
    }
}

/// Why a write did not happen; what LMDB says is looked at once more before it is told.
pub(crate) enum Failure {
    Store(StoreError),
    Database(heed::Error),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<heed::Error> for Failure {
    fn from(error: heed::Error) -> Self {
        Self::Database(error)
    }
}

impl Store {
    /// Open or create the store in `path`.
    ///
    /// A new store is empty until [`Store::init_genesis`].
    pub fn open(path: &Path, options: Options) -> Result<Self, StoreError> {
        let mut directory = Directory::acquire(path)?;
        let unsettled = directory.unsettled()?;
        if unsettled == Some(false) {
            return Err(StoreError::Unsettled(path.to_owned()));
        }
        data_file::check(&directory.data_file(), directory.complete)?;
        let env = open_environment(&directory, options)?;
        let tables = Tables::open(&env)?;
        directory.mark_complete()?;
        let shared = Shared { env, tables, directory, options, writer: Mutex::new(()) };
        shared.settle_length();
        let store = Self { shared: Arc::new(shared) };
        if unsettled.is_some() {
            // The process was killed, and the system has kept what it wrote.
            store.settle()?;
        }
        Ok(store)
    }

    /// Hash of the genesis block, `None` for a new store.
    pub fn genesis_hash(&self) -> Result<Option<B256>, StoreError> {
        self.reader()?.genesis()
    }

    /// Hash of the canonical head, `None` for a new store.
    pub fn head(&self) -> Result<Option<B256>, StoreError> {
        self.reader()?.head()
    }

    /// A snapshot of the store as it is now. Keep it no longer than needed: pages that it can see are not reused.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Reader::new(self.shared.clone())
    }

    /// Write entries of the `extra` table outside of a block, in one transaction; `None` deletes.
    pub fn put_extra(&self, entries: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StoreError> {
        self.shared.write(|txn| self.shared.tables.write_extra(txn, entries))
    }

    /// Flush everything to the disk (for stores opened without `sync`).
    pub fn flush(&self) -> Result<(), StoreError> {
        Ok(self.shared.env.force_sync()?)
    }

    /// Let commits return before they are on the disk, until [`Store::settle`]. A killed process loses nothing by it; after
    /// a power loss in between the store does not open ([`StoreError::Unsettled`]). For blocks that others have.
    ///
    /// Without effect where the store was opened without `sync`, or where the system does not say which run it is.
    pub fn relax(&self) -> Result<(), StoreError> {
        let _alone = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.options.sync && self.shared.directory.unsettle()? {
            self.shared.set_sync(FlagSetMode::Enable)?;
        }
        Ok(())
    }

    /// Bring all commits to the disk, and let each wait for it again.
    pub fn settle(&self) -> Result<(), StoreError> {
        let _alone = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.options.sync {
            self.shared.set_sync(FlagSetMode::Disable)?;
            self.shared.env.force_sync()?;
            self.shared.directory.settle()?;
        }
        Ok(())
    }

    /// Directory of the store.
    pub fn path(&self) -> &Path {
        &self.shared.directory.path
    }

    /// Size of the data file in bytes.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.shared.env.real_disk_size()?)
    }
}

fn open_environment(directory: &Directory, options: Options) -> Result<Env<WithoutTls>, StoreError> {
    let max_bytes = options.max_bytes.max(LEAST_BYTES) / SIZE_STEP * SIZE_STEP;
    let map_size = usize::try_from(max_bytes).unwrap_or(usize::MAX / 2 / SIZE_STEP as usize * SIZE_STEP as usize);
    let mut settings = EnvOpenOptions::new().read_txn_without_tls();
    settings.map_size(map_size).max_readers(MAX_READERS).max_dbs(MAX_TABLES);
    // State is read at random: reading ahead would fill the memory with pages that nobody asked for.
    let mut flags = EnvFlags::NO_READ_AHEAD;
    if !options.sync {
        flags |= EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC;
    }
    // SAFETY: the directory is locked, so that no other process maps or changes the files; their length was checked.
    // Without syncing, a killed process loses nothing, and a power loss is what the caller chose to risk.
    let opened = unsafe { settings.flags(flags).open(&directory.path) };
    opened.map_err(|error| {
        let damaged = |reason: &str| StoreError::Truncated { path: directory.data_file(), reason: reason.to_owned() };
        match error {
            heed::Error::EnvAlreadyOpened => StoreError::Locked(directory.path.clone()),
            heed::Error::Mdb(MdbError::VersionMismatch) => damaged("has another format of the database"),
            heed::Error::Mdb(MdbError::Invalid | MdbError::Corrupted) => damaged("does not begin as one of ours"),
            heed::Error::Io(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                StoreError::Io(format!("cannot map {max_bytes} bytes of address space; lower the maximum size"))
            }
            other => other.into(),
        }
    })
}

impl Shared {
    /// Run `change` in one transaction: all of it is kept, or nothing.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut RwTxn<'_>) -> Result<T, Failure>) -> Result<T, StoreError> {
        // A panic of another writer has aborted its transaction; there is nothing to repair.
        let _alone = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self.env.write_txn().map_err(Failure::from).and_then(|mut txn| {
            let done = change(&mut txn)?;
            txn.commit()?;
            Ok(done)
        });
        let done = outcome.map_err(|failure| match failure {
            Failure::Store(error) => error,
            Failure::Database(error) => self.explain(error),
        })?;
        self.settle_length();
        Ok(done)
    }

    /// Let commits not wait for the disk, or wait again. Only for whoever holds `writer`.
    fn set_sync(&self, not: FlagSetMode) -> Result<(), StoreError> {
        // SAFETY: the lock of the writers keeps other threads out. What may be lost is known: see `Store::relax`.
        Ok(unsafe { self.env.set_flags(EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC, not) }?)
    }

    /// LMDB reports a write that a full disk cut short as an input/output error.
    fn explain(&self, error: heed::Error) -> StoreError {
        match error {
            heed::Error::Mdb(MdbError::MapFull) => {
                StoreError::Full(format!("its maximum size of {} bytes is reached", self.options.max_bytes))
            }
            heed::Error::Io(error)
                if !StoreError::is_full(&error) && data_file::cannot_grow(&self.directory.data_file()) =>
            {
                StoreError::Full(format!("the data file cannot grow: {error}"))
            }
            other => other.into(),
        }
    }

    /// See [`data_file::settle_length`]. A failure is passed over: what was committed is committed, and the next commit
    /// tries again.
    fn settle_length(&self) {
        let pages = self.env.info().last_page_number as u64 + 1;
        let needed = pages * u64::from(self.env.unnamed_database_stat().page_size);
        let _ = data_file::settle_length(&self.directory.data_file(), needed, self.options.sync);
    }
}
