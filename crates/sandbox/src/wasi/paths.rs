//! Looking things up in the file system by path.

use super::descriptors::{Descriptor, PREOPENED};
use super::files::{Node, PATH_MAX};
use super::streams::{DIRECTORY, REGULAR, filestat};
use super::{Answer, Errno, Failure, GuestMemory, Host, Meter, price};

/// The name of the preopened directory.
const ROOT_NAME: &[u8] = b"/";

const CREATE: u32 = 1;
const MUST_BE_DIRECTORY: u32 = 2;
const EXCLUSIVE: u32 = 4;
const TRUNCATE: u32 = 8;
const RIGHT_TO_WRITE: u64 = 1 << 6;

/// How a file is to be opened.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) oflags: u32,
    pub(super) rights: u64,
}

impl Host {
    /// `fd_prestat_get`: one directory is preopened.
    pub(super) fn fd_prestat_get(&self, fd: u32, result: u32, memory: &mut GuestMemory<'_>) -> Answer {
        self.preopened(fd)?;
        let mut record = [0; 8];
        record[4..].copy_from_slice(&(ROOT_NAME.len() as u32).to_le_bytes());
        Ok(memory.write(result, &record)?)
    }

    /// `fd_prestat_dir_name`: its name, `/`.
    pub(super) fn fd_prestat_dir_name(
        &self,
        fd: u32,
        pointer: u32,
        length: u32,
        memory: &mut GuestMemory<'_>,
    ) -> Answer {
        self.preopened(fd)?;
        if (length as usize) < ROOT_NAME.len() {
            return Err(Errno::NAMETOOLONG.into());
        }
        Ok(memory.write(pointer, ROOT_NAME)?)
    }

    fn preopened(&self, fd: u32) -> Result<(), Errno> {
        self.descriptors.get(fd)?;
        if fd == PREOPENED { Ok(()) } else { Err(Errno::BADF) }
    }

    /// The node that the path at `pointer` names from the open directory `fd` on.
    fn look_up(
        &self,
        fd: u32,
        pointer: u32,
        length: u32,
        memory: &GuestMemory<'_>,
        meter: &mut Meter,
    ) -> Result<Result<usize, Errno>, Failure> {
        let Descriptor::Node { index, .. } = self.descriptors.get(fd)? else { return Err(Errno::NOTDIR.into()) };
        if length > PATH_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        meter.charge(u64::from(length) * price::PATH_BYTE)?;
        Ok(self.files.resolve(index, memory.bytes(pointer, length)?))
    }

    /// `path_open`: for reading; what would write meets a read-only file system.
    #[expect(clippy::too_many_arguments, reason = "the parameters of preview 1, and the guest")]
    pub(super) fn path_open(
        &mut self,
        fd: u32,
        pointer: u32,
        length: u32,
        asked: Asked,
        result: u32,
        memory: &mut GuestMemory<'_>,
        meter: &mut Meter,
    ) -> Answer {
        memory.probe(result, 4)?;
        let wants = |flag| asked.oflags & flag != 0;
        let index = match self.look_up(fd, pointer, length, memory, meter)? {
            Ok(_) if wants(CREATE) && wants(EXCLUSIVE) => return Err(Errno::EXIST.into()),
            Ok(index) => index,
            Err(Errno::NOENT) if wants(CREATE) => return Err(Errno::ROFS.into()),
            Err(errno) => return Err(errno.into()),
        };
        let writes = wants(TRUNCATE) || asked.rights & RIGHT_TO_WRITE != 0;
        match self.files.node(index) {
            Node::File(_) if wants(MUST_BE_DIRECTORY) => return Err(Errno::NOTDIR.into()),
            Node::File(_) if writes => return Err(Errno::ROFS.into()),
            Node::Directory { .. } if writes => return Err(Errno::ISDIR.into()),
            Node::File(_) | Node::Directory { .. } => {}
        }
        let opened = self.descriptors.insert(Descriptor::Node { index, position: 0 })?;
        Ok(memory.write(result, &opened.to_le_bytes())?)
    }

    /// `path_filestat_get`: type, size and times of what a path names.
    pub(super) fn path_filestat_get(
        &self,
        fd: u32,
        pointer: u32,
        length: u32,
        result: u32,
        memory: &mut GuestMemory<'_>,
        meter: &mut Meter,
    ) -> Answer {
        let index = self.look_up(fd, pointer, length, memory, meter)??;
        let (inode, kind, size) = self.stat_node(index);
        Ok(memory.write(result, &filestat(inode, kind, size))?)
    }

    /// `path_readlink`: there are no links, but programs ask before they open (`EINVAL` means: not a link).
    pub(super) fn path_readlink(
        &self,
        fd: u32,
        pointer: u32,
        length: u32,
        memory: &GuestMemory<'_>,
        meter: &mut Meter,
    ) -> Answer {
        self.look_up(fd, pointer, length, memory, meter)??;
        Err(Errno::INVAL.into())
    }

    /// `fd_readdir`: `.`, `..` and the names in their order, from the `cookie`-th on; the last may be cut off.
    #[expect(clippy::too_many_arguments, reason = "the parameters of preview 1, and the guest")]
    pub(super) fn fd_readdir(
        &self,
        fd: u32,
        pointer: u32,
        length: u32,
        cookie: u64,
        used: u32,
        memory: &mut GuestMemory<'_>,
        meter: &mut Meter,
    ) -> Answer {
        let Descriptor::Node { index, .. } = self.descriptors.get(fd)? else { return Err(Errno::NOTDIR.into()) };
        let Node::Directory { parent, entries } = self.files.node(index) else { return Err(Errno::NOTDIR.into()) };
        memory.probe(pointer, length)?;
        memory.probe(used, 4)?;
        // Skipping to the cookie looks at each entry before it.
        let skipped = cookie.min(entries.len() as u64 + 2);
        meter.charge(skipped * price::ENTRY)?;
        let dots = [(".", index), ("..", *parent)];
        let names = dots.into_iter().chain(entries.iter().map(|(name, index)| (&**name, *index)));
        let mut filled: u32 = 0;
        for (number, (name, index)) in names.enumerate().skip(skipped as usize) {
            if filled == length {
                break;
            }
            let mut record = Vec::with_capacity(24 + name.len());
            record.extend_from_slice(&(number as u64 + 1).to_le_bytes());
            record.extend_from_slice(&(index as u64 + 1).to_le_bytes());
            record.extend_from_slice(&(name.len() as u32).to_le_bytes());
            let kind = if matches!(self.files.node(index), Node::File(_)) { REGULAR } else { DIRECTORY };
            record.extend_from_slice(&[kind, 0, 0, 0]);
            record.extend_from_slice(name.as_bytes());
            record.truncate((length - filled) as usize);
            meter.charge(price::ENTRY + price::copy(record.len() as u64))?;
            memory.write(pointer + filled, &record)?;
            filled += record.len() as u32;
        }
        memory.write(used, &filled.to_le_bytes())?;
        Ok(())
    }
}
