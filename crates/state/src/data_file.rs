//! The LMDB data file, looked at before and beside LMDB.
//!
//! LMDB maps the file: a page behind its end would kill the process instead of giving an error. So its length is
//! compared with the last page that its head names before anything is mapped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::errors::StoreError;

/// Bytes of a meta page that are read: page header (16) and meta record (136).
const META_BYTES: usize = 152;
const MAGIC: u32 = 0xBEEF_C0DE;
const META_PAGE_FLAG: u16 = 0x08;

/// The parts of a meta page that say how long the file must be.
struct Meta {
    page_size: u64,
    last_page: u64,
    transaction: u64,
}

impl Meta {
    fn parse(page: &[u8; META_BYTES]) -> Option<Self> {
        let u16_at = |at: usize| u16::from_ne_bytes([page[at], page[at + 1]]);
        let u32_at = |at: usize| u32::from_ne_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
        let u64_at = |at: usize| page[at..at + 8].try_into().map(u64::from_ne_bytes).unwrap_or(0);
        let page_size = u64::from(u32_at(40));
        let plausible = u16_at(10) & META_PAGE_FLAG != 0
            && u32_at(16) == MAGIC
            && page_size.is_power_of_two()
            && (512..=65536).contains(&page_size);
        plausible.then(|| Self { page_size, last_page: u64_at(136), transaction: u64_at(144) })
    }

    fn read(file: &mut File, at: u64) -> io::Result<Option<Self>> {
        let mut page = [0; META_BYTES];
        file.seek(SeekFrom::Start(at))?;
        match file.read_exact(&mut page) {
            Ok(()) => Ok(Self::parse(&page)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Refuse a data file that LMDB could not map safely. `complete` says that a store was finished here before.
pub(crate) fn check(path: &Path, complete: bool) -> Result<(), StoreError> {
    let damaged = |reason: String| Err(StoreError::Truncated { path: path.to_owned(), reason });
    let failed = |error: io::Error| StoreError::io("cannot read the data file", &error);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if complete { damaged("is missing".to_owned()) } else { Ok(()) };
        }
        Err(error) => return Err(failed(error)),
    };
    let length = file.metadata().map_err(failed)?.len();
    if length == 0 && !complete {
        // Creation was cut off before the first write; LMDB takes an empty file as a new one.
        return Ok(());
    }
    let Some(first) = Meta::read(&mut file, 0).map_err(failed)? else {
        let reason = if length == 0 { "is empty" } else { "does not begin as one of ours" };
        return damaged(reason.to_owned());
    };
    let Some(second) = Meta::read(&mut file, first.page_size).map_err(failed)? else {
        return damaged("has a damaged second page".to_owned());
    };
    let newest = if second.transaction > first.transaction { second } else { first };
    let needed = newest.last_page.saturating_add(1).saturating_mul(newest.page_size);
    if length < needed {
        return damaged(format!("has {length} bytes of the {needed} that its head names"));
    }
    Ok(())
}

/// Lengthen the file to `needed` bytes if it is shorter: LMDB leaves the last pages unwritten when a transaction freed
/// them again, and [`check`] must not take that for a truncated file.
pub(crate) fn settle_length(path: &Path, needed: u64, sync: bool) -> io::Result<()> {
    if fs::metadata(path)?.len() >= needed {
        return Ok(());
    }
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(needed)?;
    if sync { file.sync_all() } else { Ok(()) }
}

/// Whether the file cannot grow: LMDB says only "input/output error" when a write is cut short by a full disk.
/// Call with no other writer around.
pub(crate) fn cannot_grow(path: &Path) -> bool {
    let grow = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        let written = file.write_all(&[0; 65536]).and_then(|()| file.sync_data());
        file.set_len(length)?;
        written
    };
    grow().is_err_and(|error| StoreError::is_full(&error))
}
