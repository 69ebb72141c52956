//! Reading, writing, seeking and describing open descriptors.

use super::descriptors::Descriptor;
use super::files::Node;
use super::memory::u32_at;
use super::{
    Answer, EPOCH_NS, Errno, Failure, GuestMemory, Host, LOG_MAX, Meter, OUTPUT_MAX, Stop, VECTORS_MAX, price,
};

/// File types of preview 1.
pub(super) const UNKNOWN: u8 = 0;
pub(super) const DIRECTORY: u8 = 3;
pub(super) const REGULAR: u8 = 4;

/// All rights of preview 1: what may not be done is refused when it is tried.
const ALL_RIGHTS: u64 = (1 << 30) - 1;

/// A pointer and a length.
type Vector = (u32, u32);

/// The vectors at `pointer`, read before anything is written over them.
fn vectors(pointer: u32, count: u32, memory: &GuestMemory<'_>, meter: &mut Meter) -> Result<Vec<Vector>, Failure> {
    if count > VECTORS_MAX {
        return Err(Errno::INVAL.into());
    }
    meter.charge(u64::from(count) * price::VECTOR)?;
    let records = memory.bytes(pointer, count * 8)?;
    Ok(records.chunks_exact(8).map(|record| (u32_at(record, 0), u32_at(record, 4))).collect())
}

/// The part of `content` from `position` on.
fn rest(content: &[u8], position: u64) -> &[u8] {
    usize::try_from(position).ok().and_then(|position| content.get(position..)).unwrap_or(&[])
}

impl Host {
    /// `fd_read`, and `fd_pread` if `offset` is given: fill the vectors in turn with what is there.
    #[expect(clippy::too_many_arguments, reason = "the parameters of preview 1, and the guest")]
    pub(super) fn fd_read(
        &mut self,
        fd: u32,
        pointer: u32,
        count: u32,
        offset: Option<u64>,
        read: u32,
        memory: &mut GuestMemory<'_>,
        meter: &mut Meter,
    ) -> Answer {
        let descriptor = self.descriptors.get(fd)?;
        let (content, position): (&[u8], u64) = match descriptor {
            Descriptor::Input { position } => (&self.input, position),
            Descriptor::Node { index, position } => match self.files.node(index) {
                Node::File(content) => (content, position),
                Node::Directory { .. } => return Err(Errno::ISDIR.into()),
            },
            Descriptor::Output | Descriptor::Log => return Err(Errno::BADF.into()),
        };
        memory.probe(read, 4)?;
        let vectors = vectors(pointer, count, memory, meter)?;
        let mut left = rest(content, offset.unwrap_or(position));
        let room: u64 = vectors.iter().map(|(_, length)| u64::from(*length)).sum();
        // At most the content's length is copied, so neither the price nor the count depends on a wild length.
        let total = room.min(left.len() as u64).min(u64::from(u32::MAX));
        meter.charge(price::copy(total))?;
        left = &left[..total as usize];
        for (at, length) in vectors {
            let (now, later) = left.split_at(left.len().min(length as usize));
            memory.write(at, now)?;
            left = later;
        }
        memory.write(read, &(total as u32).to_le_bytes())?;
        if offset.is_none() {
            self.descriptors.set_position(fd, position + total);
        }
        Ok(())
    }

    /// `fd_write`: append all vectors to the output or the log.
    pub(super) fn fd_write(
        &mut self,
        fd: u32,
        pointer: u32,
        count: u32,
        written: u32,
        memory: &mut GuestMemory<'_>,
        meter: &mut Meter,
    ) -> Answer {
        let descriptor = self.descriptors.get(fd)?;
        if !matches!(descriptor, Descriptor::Output | Descriptor::Log) {
            return Err(Errno::BADF.into());
        }
        memory.probe(written, 4)?;
        let vectors = vectors(pointer, count, memory, meter)?;
        let total: u64 = vectors.iter().map(|(_, length)| u64::from(*length)).sum();
        meter.charge(price::copy(total))?;
        let reported = u32::try_from(total).map_err(|_| Errno::INVAL)?;
        for (at, length) in &vectors {
            memory.probe(*at, *length)?;
        }
        for (at, length) in vectors {
            let bytes = memory.bytes(at, length)?;
            if descriptor == Descriptor::Output {
                if bytes.len() > OUTPUT_MAX - self.output.len() {
                    return Err(Stop::Output.into());
                }
                self.output.extend_from_slice(bytes);
            } else {
                let kept = bytes.len().min(LOG_MAX - self.log.len());
                self.log.extend_from_slice(&bytes[..kept]);
            }
        }
        memory.write(written, &reported.to_le_bytes())?;
        Ok(())
    }

    /// `fd_seek`; with offset 0 from the current position also `fd_tell`.
    pub(super) fn fd_seek(
        &mut self,
        fd: u32,
        offset: i64,
        whence: u32,
        result: u32,
        memory: &mut GuestMemory<'_>,
    ) -> Answer {
        let (position, end) = match self.descriptors.get(fd)? {
            Descriptor::Input { position } => (position, self.input.len() as u64),
            Descriptor::Node { index, position } => match self.files.node(index) {
                Node::File(content) => (position, content.len() as u64),
                Node::Directory { .. } => return Err(Errno::ISDIR.into()),
            },
            Descriptor::Output | Descriptor::Log => return Err(Errno::SPIPE.into()),
        };
        let from = match whence {
            0 => 0,
            1 => position,
            2 => end,
            _ => return Err(Errno::INVAL.into()),
        };
        let to = i64::try_from(from).ok().and_then(|from| from.checked_add(offset)).ok_or(Errno::OVERFLOW)?;
        let to = u64::try_from(to).map_err(|_| Errno::INVAL)?;
        memory.write(result, &to.to_le_bytes())?;
        self.descriptors.set_position(fd, to);
        Ok(())
    }

    /// `fd_fdstat_get`: the type of a descriptor.
    pub(super) fn fd_fdstat_get(&self, fd: u32, result: u32, memory: &mut GuestMemory<'_>) -> Answer {
        let mut record = [0; 24];
        record[0] = self.stat(self.descriptors.get(fd)?).1;
        record[8..16].copy_from_slice(&ALL_RIGHTS.to_le_bytes());
        record[16..24].copy_from_slice(&ALL_RIGHTS.to_le_bytes());
        Ok(memory.write(result, &record)?)
    }

    /// `fd_filestat_get`: type, size and times of an open descriptor.
    pub(super) fn fd_filestat_get(&self, fd: u32, result: u32, memory: &mut GuestMemory<'_>) -> Answer {
        let (inode, kind, size) = self.stat(self.descriptors.get(fd)?);
        Ok(memory.write(result, &filestat(inode, kind, size))?)
    }

    /// Inode, type and size. The streams' inodes lie above any file's.
    fn stat(&self, descriptor: Descriptor) -> (u64, u8, u64) {
        const STREAMS: u64 = 1 << 32;
        match descriptor {
            Descriptor::Input { .. } => (STREAMS, REGULAR, self.input.len() as u64),
            Descriptor::Output => (STREAMS + 1, UNKNOWN, 0),
            Descriptor::Log => (STREAMS + 2, UNKNOWN, 0),
            Descriptor::Node { index, .. } => self.stat_node(index),
        }
    }

    pub(super) fn stat_node(&self, index: usize) -> (u64, u8, u64) {
        let inode = index as u64 + 1;
        match self.files.node(index) {
            Node::File(content) => (inode, REGULAR, content.len() as u64),
            Node::Directory { .. } => (inode, DIRECTORY, 0),
        }
    }
}

/// A `filestat` record: device 1, one link, all times at the epoch.
pub(super) fn filestat(inode: u64, kind: u8, size: u64) -> [u8; 64] {
    let mut record = [0; 64];
    record[..8].copy_from_slice(&1_u64.to_le_bytes());
    record[8..16].copy_from_slice(&inode.to_le_bytes());
    record[16] = kind;
    record[24..32].copy_from_slice(&1_u64.to_le_bytes());
    record[32..40].copy_from_slice(&size.to_le_bytes());
    for at in [40, 48, 56] {
        record[at..at + 8].copy_from_slice(&EPOCH_NS.to_le_bytes());
    }
    record
}
