//! The guest's linear memory as a host call sees it: every access is checked, none allocates.

use super::errno::Errno;

/// A borrowed linear memory. A module without a memory has one of length 0.
pub struct GuestMemory<'a> {
    bytes: &'a mut [u8],
}

impl<'a> GuestMemory<'a> {
    /// The memory whose contents are `bytes`.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes }
    }

    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// `length` bytes from `pointer` on.
    ///
    /// # Errors
    /// `EFAULT` if they do not lie wholly inside the memory.
    pub fn bytes(&self, pointer: u32, length: u32) -> Result<&[u8], Errno> {
        let start = pointer as usize;
        let end = start.checked_add(length as usize).ok_or(Errno::FAULT)?;
        self.bytes.get(start..end).ok_or(Errno::FAULT)
    }

    /// `length` writable bytes from `pointer` on.
    ///
    /// # Errors
    /// `EFAULT` if they do not lie wholly inside the memory.
    pub fn bytes_mut(&mut self, pointer: u32, length: u32) -> Result<&mut [u8], Errno> {
        let start = pointer as usize;
        let end = start.checked_add(length as usize).ok_or(Errno::FAULT)?;
        self.bytes.get_mut(start..end).ok_or(Errno::FAULT)
    }

    /// Copy `bytes` to `pointer`.
    ///
    /// # Errors
    /// `EFAULT` if they do not fit; nothing is written then.
    pub fn write(&mut self, pointer: u32, bytes: &[u8]) -> Result<(), Errno> {
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::FAULT)?;
        self.bytes_mut(pointer, length)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Check that `length` bytes at `pointer` can be written, before anything has an effect.
    ///
    /// # Errors
    /// `EFAULT` if they do not lie wholly inside the memory.
    pub fn probe(&self, pointer: u32, length: u32) -> Result<(), Errno> {
        self.bytes(pointer, length).map(|_| ())
    }
}

/// A little-endian integer at `offset` of a record that was read from the guest.
pub(super) fn u32_at(record: &[u8], offset: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&record[offset..offset + 4]);
    u32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_end_at_the_last_byte() {
        let mut bytes = vec![7; 16];
        let mut memory = GuestMemory::new(&mut bytes);
        assert_eq!(memory.bytes(12, 4), Ok(&[7, 7, 7, 7][..]));
        assert_eq!(memory.bytes(13, 4), Err(Errno::FAULT));
        assert_eq!(memory.bytes(16, 0), Ok(&[][..]));
        assert_eq!(memory.bytes(17, 0), Err(Errno::FAULT));
        assert_eq!(memory.bytes(u32::MAX, u32::MAX), Err(Errno::FAULT));
        assert_eq!(memory.write(14, b"abc"), Err(Errno::FAULT));
        assert_eq!(memory.bytes(12, 4), Ok(&[7, 7, 7, 7][..]), "a refused write leaves nothing behind");
        assert_eq!(memory.write(13, b"abc"), Ok(()));
        assert_eq!(memory.bytes(12, 4), Ok(&b"\x07abc"[..]));
    }
}
