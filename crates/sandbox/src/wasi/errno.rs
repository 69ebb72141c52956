//! The error numbers of WASI preview 1 that this host returns.

/// A WASI error number; `SUCCESS` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(u16);

impl Errno {
    /// No error.
    pub const SUCCESS: Self = Self(0);
    /// A descriptor that is not open, or not open for this.
    pub const BADF: Self = Self(8);
    /// The file exists although it must not.
    pub const EXIST: Self = Self(20);
    /// A pointer outside the guest's memory.
    pub const FAULT: Self = Self(21);
    /// An argument that means nothing.
    pub const INVAL: Self = Self(28);
    /// A directory where a file is needed.
    pub const ISDIR: Self = Self(31);
    /// Too many open descriptors.
    pub const MFILE: Self = Self(33);
    /// A path or name that is too long.
    pub const NAMETOOLONG: Self = Self(37);
    /// No such file or directory.
    pub const NOENT: Self = Self(44);
    /// A call that this host does not have.
    pub const NOSYS: Self = Self(52);
    /// A file where a directory is needed.
    pub const NOTDIR: Self = Self(54);
    /// An operation that does not exist for this object.
    pub const NOTSUP: Self = Self(58);
    /// A value that does not fit its type.
    pub const OVERFLOW: Self = Self(61);
    /// The file system is read-only.
    pub const ROFS: Self = Self(69);
    /// A stream has no position.
    pub const SPIPE: Self = Self(70);
    /// A path that leaves the directory it starts from.
    pub const NOTCAPABLE: Self = Self(76);

    /// The number, as the guest receives it.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }
}
