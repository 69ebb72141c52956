//! The table of host functions: names and signatures, in one place for every engine.

/// The type of a parameter. WASI preview 1 has no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A 32-bit integer.
    I32,
    /// A 64-bit integer.
    I64,
}

/// The most parameters that a host function has.
pub const MOST_PARAMETERS: usize = 9;

/// The module from which WASI preview 1 is imported.
pub const WASI: &str = "wasi_snapshot_preview1";

/// Hand the table of host functions to the macro `$with`: `Variant "module" "name" (parameters) -> result;` each.
///
/// A new host function is one row here and one arm in [`super::Host::call`].
macro_rules! host_functions {
    ($with:ident $($context:tt)*) => {
        $with! { $($context)*
            ArgsGet "wasi_snapshot_preview1" "args_get" (i32, i32) -> i32;
            ArgsSizesGet "wasi_snapshot_preview1" "args_sizes_get" (i32, i32) -> i32;
            EnvironGet "wasi_snapshot_preview1" "environ_get" (i32, i32) -> i32;
            EnvironSizesGet "wasi_snapshot_preview1" "environ_sizes_get" (i32, i32) -> i32;
            ClockResGet "wasi_snapshot_preview1" "clock_res_get" (i32, i32) -> i32;
            ClockTimeGet "wasi_snapshot_preview1" "clock_time_get" (i32, i64, i32) -> i32;
            FdAdvise "wasi_snapshot_preview1" "fd_advise" (i32, i64, i64, i32) -> i32;
            FdAllocate "wasi_snapshot_preview1" "fd_allocate" (i32, i64, i64) -> i32;
            FdClose "wasi_snapshot_preview1" "fd_close" (i32) -> i32;
            FdDatasync "wasi_snapshot_preview1" "fd_datasync" (i32) -> i32;
            FdFdstatGet "wasi_snapshot_preview1" "fd_fdstat_get" (i32, i32) -> i32;
            FdFdstatSetFlags "wasi_snapshot_preview1" "fd_fdstat_set_flags" (i32, i32) -> i32;
            FdFdstatSetRights "wasi_snapshot_preview1" "fd_fdstat_set_rights" (i32, i64, i64) -> i32;
            FdFilestatGet "wasi_snapshot_preview1" "fd_filestat_get" (i32, i32) -> i32;
            FdFilestatSetSize "wasi_snapshot_preview1" "fd_filestat_set_size" (i32, i64) -> i32;
            FdFilestatSetTimes "wasi_snapshot_preview1" "fd_filestat_set_times" (i32, i64, i64, i32) -> i32;
            FdPread "wasi_snapshot_preview1" "fd_pread" (i32, i32, i32, i64, i32) -> i32;
            FdPrestatGet "wasi_snapshot_preview1" "fd_prestat_get" (i32, i32) -> i32;
            FdPrestatDirName "wasi_snapshot_preview1" "fd_prestat_dir_name" (i32, i32, i32) -> i32;
            FdPwrite "wasi_snapshot_preview1" "fd_pwrite" (i32, i32, i32, i64, i32) -> i32;
            FdRead "wasi_snapshot_preview1" "fd_read" (i32, i32, i32, i32) -> i32;
            FdReaddir "wasi_snapshot_preview1" "fd_readdir" (i32, i32, i32, i64, i32) -> i32;
            FdRenumber "wasi_snapshot_preview1" "fd_renumber" (i32, i32) -> i32;
            FdSeek "wasi_snapshot_preview1" "fd_seek" (i32, i64, i32, i32) -> i32;
            FdSync "wasi_snapshot_preview1" "fd_sync" (i32) -> i32;
            FdTell "wasi_snapshot_preview1" "fd_tell" (i32, i32) -> i32;
            FdWrite "wasi_snapshot_preview1" "fd_write" (i32, i32, i32, i32) -> i32;
            PathCreateDirectory "wasi_snapshot_preview1" "path_create_directory" (i32, i32, i32) -> i32;
            PathFilestatGet "wasi_snapshot_preview1" "path_filestat_get" (i32, i32, i32, i32, i32) -> i32;
            PathFilestatSetTimes "wasi_snapshot_preview1" "path_filestat_set_times" (i32, i32, i32, i32, i64, i64, i32) -> i32;
            PathLink "wasi_snapshot_preview1" "path_link" (i32, i32, i32, i32, i32, i32, i32) -> i32;
            PathOpen "wasi_snapshot_preview1" "path_open" (i32, i32, i32, i32, i32, i64, i64, i32, i32) -> i32;
            PathReadlink "wasi_snapshot_preview1" "path_readlink" (i32, i32, i32, i32, i32, i32) -> i32;
            PathRemoveDirectory "wasi_snapshot_preview1" "path_remove_directory" (i32, i32, i32) -> i32;
            PathRename "wasi_snapshot_preview1" "path_rename" (i32, i32, i32, i32, i32, i32) -> i32;
            PathSymlink "wasi_snapshot_preview1" "path_symlink" (i32, i32, i32, i32, i32) -> i32;
            PathUnlinkFile "wasi_snapshot_preview1" "path_unlink_file" (i32, i32, i32) -> i32;
            PollOneoff "wasi_snapshot_preview1" "poll_oneoff" (i32, i32, i32, i32) -> i32;
            ProcExit "wasi_snapshot_preview1" "proc_exit" (i32) -> nothing;
            ProcRaise "wasi_snapshot_preview1" "proc_raise" (i32) -> i32;
            RandomGet "wasi_snapshot_preview1" "random_get" (i32, i32) -> i32;
            SchedYield "wasi_snapshot_preview1" "sched_yield" () -> i32;
            SockAccept "wasi_snapshot_preview1" "sock_accept" (i32, i32, i32) -> i32;
            SockRecv "wasi_snapshot_preview1" "sock_recv" (i32, i32, i32, i32, i32, i32) -> i32;
            SockSend "wasi_snapshot_preview1" "sock_send" (i32, i32, i32, i32, i32) -> i32;
            SockShutdown "wasi_snapshot_preview1" "sock_shutdown" (i32, i32) -> i32;
        }
    };
}
pub(crate) use host_functions;

macro_rules! parameter {
    (i32) => {
        Type::I32
    };
    (i64) => {
        Type::I64
    };
}

macro_rules! has_result {
    (i32) => {
        true
    };
    (nothing) => {
        false
    };
}

macro_rules! define {
    ($($variant:ident $module:literal $name:literal ($($parameter:ident),*) -> $result:ident;)*) => {
        /// A function that a program may import.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Function {
            $(#[doc = concat!("`", $name, "` of `", $module, "`.")] $variant,)*
        }

        impl Function {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The module that it is imported from.
            #[must_use]
            pub fn module(self) -> &'static str {
                match self { $(Self::$variant => $module),* }
            }

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The types of its parameters.
            #[must_use]
            pub fn parameters(self) -> &'static [Type] {
                match self { $(Self::$variant => &[$(parameter!($parameter)),*]),* }
            }

            /// Whether it returns an error number (`i32`); otherwise it returns nothing.
            #[must_use]
            pub fn has_result(self) -> bool {
                match self { $(Self::$variant => has_result!($result)),* }
            }
        }
    };
}

host_functions!(define);

impl Function {
    /// The function imported as `name` from `module`, if there is one.
    #[must_use]
    pub fn find(module: &str, name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|function| function.module() == module && function.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_found_by_its_name() {
        for function in Function::ALL {
            assert_eq!(Function::find(function.module(), function.name()), Some(*function));
            assert!(function.parameters().len() <= MOST_PARAMETERS);
        }
        assert_eq!(Function::ALL.len(), 46, "preview 1 has 46 functions");
        assert_eq!(Function::find(WASI, "path_openat"), None);
        assert_eq!(Function::find("env", "fd_write"), None);
    }
}
