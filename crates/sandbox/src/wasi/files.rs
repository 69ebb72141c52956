//! The read-only file system of a program: a tree of files in memory, shared by all its units.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::errno::Errno;

/// The longest path that is looked at, in bytes.
pub const PATH_MAX: u32 = 4096;
/// The longest name in a directory, in bytes.
pub const NAME_MAX: usize = 255;
/// The most files that a program may bring.
pub const FILES_MAX: usize = 65_536;

/// The root directory's index.
pub(super) const ROOT: usize = 0;

/// A file or directory; its index in [`Files`] is its inode number less one.
#[derive(Debug)]
pub(super) enum Node {
    File(Arc<[u8]>),
    Directory { parent: usize, entries: BTreeMap<Box<str>, usize> },
}

/// An immutable tree of files below `/`.
///
/// Inodes and listings depend only on names, never on the order in which files were given.
#[derive(Debug)]
pub struct Files {
    nodes: Vec<Node>,
}

/// A file that cannot be part of a file system.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// A path that is empty, absolute, too long, or has an empty, `.`, `..` or overlong part.
    #[error("{0:?} is no path of a file: give parts of 1 to 255 bytes between slashes, without `.` and `..`")]
    Path(String),
    /// A path that is given twice, or is both a file and a directory.
    #[error("{0:?} is given twice, or is both a file and a directory")]
    Duplicate(String),
    /// More files than [`FILES_MAX`].
    #[error("{0} files are too many: a program may bring {FILES_MAX}; pack them into an archive")]
    TooMany(usize),
}

impl Default for Files {
    fn default() -> Self {
        Self { nodes: vec![Node::Directory { parent: ROOT, entries: BTreeMap::new() }] }
    }
}

impl Files {
    /// The tree of `files`, each a path relative to the root (`lib/python.zip`) and its contents.
    ///
    /// # Errors
    /// [`FilesError`] names the path that cannot be.
    pub fn new(files: impl IntoIterator<Item = (String, Arc<[u8]>)>) -> Result<Self, FilesError> {
        let mut sorted = BTreeMap::new();
        for (count, (path, contents)) in files.into_iter().enumerate() {
            if count == FILES_MAX {
                return Err(FilesError::TooMany(count + 1));
            }
            if sorted.insert(path.clone(), contents).is_some() {
                return Err(FilesError::Duplicate(path));
            }
        }
        let mut tree = Self::default();
        for (path, contents) in sorted {
            tree.add(&path, contents)?;
        }
        Ok(tree)
    }

    fn add(&mut self, path: &str, contents: Arc<[u8]>) -> Result<(), FilesError> {
        let part_is_good =
            |part: &str| !matches!(part, "" | "." | "..") && part.len() <= NAME_MAX && !part.contains('\0');
        if path.len() > PATH_MAX as usize || !path.split('/').all(part_is_good) {
            return Err(FilesError::Path(path.to_owned()));
        }
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut directory = ROOT;
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            let next = match self.entry(directory, part) {
                Some(next) => next,
                None => self.attach(directory, part, Node::Directory { parent: directory, entries: BTreeMap::new() }),
            };
            if matches!(self.nodes[next], Node::File(_)) {
                return Err(FilesError::Duplicate(path.to_owned()));
            }
            directory = next;
        }
        if self.entry(directory, name).is_some() {
            return Err(FilesError::Duplicate(path.to_owned()));
        }
        self.attach(directory, name, Node::File(contents));
        Ok(())
    }

    fn attach(&mut self, directory: usize, name: &str, node: Node) -> usize {
        let index = self.nodes.len();
        self.nodes.push(node);
        if let Node::Directory { entries, .. } = &mut self.nodes[directory] {
            entries.insert(name.into(), index);
        }
        index
    }

    fn entry(&self, directory: usize, name: &str) -> Option<usize> {
        match &self.nodes[directory] {
            Node::Directory { entries, .. } => entries.get(name).copied(),
            Node::File(_) => None,
        }
    }

    /// The node with this index. Indices come from this tree only.
    pub(super) fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// The node that `path` names from `directory` on.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENAMETOOLONG`, or `ENOTCAPABLE` for a path that is absolute or climbs above the root.
    pub(super) fn resolve(&self, directory: usize, path: &[u8]) -> Result<usize, Errno> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        if path.len() > PATH_MAX as usize {
            return Err(Errno::NAMETOOLONG);
        }
        if path.contains(&0) {
            return Err(Errno::INVAL);
        }
        if path[0] == b'/' {
            return Err(Errno::NOTCAPABLE);
        }
        let mut at = directory;
        for part in path.split(|byte| *byte == b'/') {
            // Every part, also the empty one after a trailing slash, needs a directory to stand in.
            let Node::Directory { parent, .. } = self.node(at) else { return Err(Errno::NOTDIR) };
            at = match part {
                b"" | b"." => at,
                b".." if at == ROOT => return Err(Errno::NOTCAPABLE),
                b".." => *parent,
                name if name.len() > NAME_MAX => return Err(Errno::NAMETOOLONG),
                name => {
                    let name = std::str::from_utf8(name).map_err(|_| Errno::NOENT)?;
                    self.entry(at, name).ok_or(Errno::NOENT)?
                }
            };
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> Result<Files, FilesError> {
        Files::new(paths.iter().map(|path| ((*path).to_owned(), Arc::from(path.as_bytes()))))
    }

    #[test]
    fn paths_are_resolved_inside_the_root_only() {
        let files = tree(&["lib/a.zip", "lib/deep/b", "top"]).expect("valid paths");
        let lib = files.resolve(ROOT, b"lib").expect("a directory");
        let a = files.resolve(ROOT, b"lib/a.zip").expect("a file");
        assert!(matches!(files.node(a), Node::File(contents) if **contents == *b"lib/a.zip"));
        assert_eq!(files.resolve(lib, b"a.zip"), Ok(a));
        assert_eq!(files.resolve(lib, b"deep/../a.zip"), Ok(a));
        assert_eq!(files.resolve(lib, b"../lib//./a.zip"), Ok(a));
        assert_eq!(files.resolve(ROOT, b"lib/"), Ok(lib));
        assert_eq!(files.resolve(ROOT, b"."), Ok(ROOT));
        for (path, errno) in [
            (&b""[..], Errno::NOENT),
            (b"nothing", Errno::NOENT),
            (b"\xff", Errno::NOENT),
            (b"top/", Errno::NOTDIR),
            (b"top/x", Errno::NOTDIR),
            (b"/lib", Errno::NOTCAPABLE),
            (b"lib/../..", Errno::NOTCAPABLE),
            (b"..", Errno::NOTCAPABLE),
            (b"a\0b", Errno::INVAL),
            (&[b'x'; 256], Errno::NAMETOOLONG),
            (&[b'x'; 5000], Errno::NAMETOOLONG),
        ] {
            assert_eq!(files.resolve(ROOT, path), Err(errno), "{}", String::from_utf8_lossy(path));
        }
    }

    #[test]
    fn the_order_in_which_files_are_given_does_not_show() {
        let one = tree(&["b", "a/x", "a/y"]).expect("valid paths");
        let two = tree(&["a/y", "b", "a/x"]).expect("valid paths");
        for path in [&b"a"[..], b"a/x", b"a/y", b"b"] {
            assert_eq!(one.resolve(ROOT, path), two.resolve(ROOT, path));
        }
    }

    #[test]
    fn paths_that_cannot_be_are_refused_by_name() {
        let overlong = "x".repeat(256);
        for path in ["", "/a", "a//b", "a/", "./a", "a/../b", "a\0", overlong.as_str()] {
            assert_eq!(tree(&[path]).err(), Some(FilesError::Path(path.to_owned())));
        }
        assert_eq!(tree(&["a", "a"]).err(), Some(FilesError::Duplicate("a".into())));
        assert_eq!(tree(&["a", "a/b"]).err(), Some(FilesError::Duplicate("a/b".into())));
        assert_eq!(tree(&["a-", "a/b", "a"]).err(), Some(FilesError::Duplicate("a/b".into())));
    }
}
