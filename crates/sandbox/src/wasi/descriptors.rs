//! Open descriptors: the three streams, the root directory at 3, and what a program opens below it.

use super::errno::Errno;
use super::files::ROOT;

/// The most descriptors that can be open at once.
pub const DESCRIPTORS_MAX: usize = 1024;

/// The descriptor of the root directory, the only one that is open beforehand beside the streams.
pub(super) const PREOPENED: u32 = 3;

/// What an open descriptor stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Descriptor {
    /// The unit's input, a seekable file.
    Input { position: u64 },
    /// The unit's output, a stream.
    Output,
    /// The unit's log, a stream.
    Log,
    /// A file or directory of the file system.
    Node { index: usize, position: u64 },
}

/// The table of open descriptors. A new one gets the lowest free number, as POSIX asks.
#[derive(Debug)]
pub(super) struct Descriptors {
    open: Vec<Option<Descriptor>>,
}

impl Descriptors {
    pub(super) fn new() -> Self {
        let root = Descriptor::Node { index: ROOT, position: 0 };
        Self {
            open: vec![
                Some(Descriptor::Input { position: 0 }),
                Some(Descriptor::Output),
                Some(Descriptor::Log),
                Some(root),
            ],
        }
    }

    pub(super) fn any_opened(&self) -> bool {
        self.open.iter().skip(PREOPENED as usize + 1).any(Option::is_some)
    }

    pub(super) fn get(&self, number: u32) -> Result<Descriptor, Errno> {
        self.open.get(number as usize).copied().flatten().ok_or(Errno::BADF)
    }

    /// Move the position of a file or directory that [`get`](Self::get) has just found.
    pub(super) fn set_position(&mut self, number: u32, to: u64) {
        if let Some(Some(Descriptor::Input { position } | Descriptor::Node { position, .. })) =
            self.open.get_mut(number as usize)
        {
            *position = to;
        }
    }

    pub(super) fn insert(&mut self, descriptor: Descriptor) -> Result<u32, Errno> {
        let number = self.open.iter().position(Option::is_none).unwrap_or(self.open.len());
        if number == DESCRIPTORS_MAX {
            return Err(Errno::MFILE);
        }
        if number == self.open.len() {
            self.open.push(None);
        }
        self.open[number] = Some(descriptor);
        // At most DESCRIPTORS_MAX, so the number fits.
        Ok(number as u32)
    }

    pub(super) fn close(&mut self, number: u32) -> Result<(), Errno> {
        self.get(number)?;
        self.open[number as usize] = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_descriptor_gets_the_lowest_free_number_up_to_a_limit() {
        let mut table = Descriptors::new();
        let file = Descriptor::Node { index: 5, position: 0 };
        assert_eq!(table.insert(file), Ok(4));
        assert_eq!(table.close(1), Ok(()));
        assert_eq!(table.close(1), Err(Errno::BADF));
        assert_eq!(table.insert(file), Ok(1));
        for expected in 5..DESCRIPTORS_MAX as u32 {
            assert_eq!(table.insert(file), Ok(expected));
        }
        assert_eq!(table.insert(file), Err(Errno::MFILE));
        assert_eq!(table.get(u32::MAX), Err(Errno::BADF));
    }
}
