//! WASI preview 1 with no real resource behind it (protocol 2, "Host").
//!
//! Everything a program can see is fixed by its unit and its program:
//!
//! | what | fixed as |
//! |---|---|
//! | arguments | [`ARGUMENTS`] |
//! | environment | [`ENVIRONMENT`] |
//! | stdin | the unit's input, a seekable file |
//! | stdout | the output, at most [`OUTPUT_MAX`] bytes; one more ends the unit with status 5 |
//! | stderr | the log; what goes beyond [`LOG_MAX`] bytes is dropped silently |
//! | files | the program's [`Files`], read-only, preopened as `/` at descriptor 3 |
//! | clocks | all of them: [`EPOCH_NS`] plus one nanosecond per fuel used so far |
//! | randomness | one BLAKE3 output stream keyed by `unit_id`, read on from call to call |
//! | sleeping | `poll_oneoff` answers every clock subscription at once; no clock moves by it |
//! | all else | `ENOSYS`, with the signature of preview 1 |
//!
//! A host call is paid for before it runs ([`price`]). Pointers and lengths are the guest's and hostile: they are checked
//! against its memory, counts have limits, and nothing is allocated that the guest names the size of.
//!
//! The host knows no engine: an engine hands [`Host::call`] the arguments, the guest's memory and the fuel counter.

pub mod descriptors;
pub mod errno;
pub mod files;
pub mod functions;
pub mod memory;
pub mod price;

mod paths;
mod streams;

use std::sync::Arc;

use noria_crypto::B256;

use descriptors::Descriptors;
pub use errno::Errno;
pub use files::{Files, FilesError};
pub use functions::{Function, MOST_PARAMETERS, Type};
pub use memory::GuestMemory;
pub use price::Meter;

/// The arguments of every program: its name.
pub const ARGUMENTS: &[&str] = &["noria"];
/// The environment of every program.
pub const ENVIRONMENT: &[&str] = &["HOME=/", "LANG=C.UTF-8", "PYTHONHASHSEED=0", "TZ=UTC"];
/// Where every clock starts: 2026-01-01T00:00:00Z in nanoseconds since 1970.
pub const EPOCH_NS: u64 = 1_767_225_600_000_000_000;
/// Bytes of output that a unit may write (`OUTPUT_MAX` of the protocol).
pub const OUTPUT_MAX: usize = 64 << 20;
/// Bytes of log that are kept: the beginning.
pub const LOG_MAX: usize = 64 << 10;
/// The most vectors of one read or write, and subscriptions of one poll.
pub const VECTORS_MAX: u32 = 1024;

/// Why a program does not go on after a host call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It called `proc_exit` with this code.
    Exit(u32),
    /// Its fuel is used up: the counter is beyond the limit.
    Fuel,
    /// It wrote more output than it may.
    Output,
}

/// What ends a host function early: an error number for the guest, or the end of the program.
enum Failure {
    Errno(Errno),
    Stop(Stop),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

type Answer = Result<(), Failure>;

/// The host of one running unit.
pub struct Host {
    input: Arc<[u8]>,
    files: Arc<Files>,
    descriptors: Descriptors,
    output: Vec<u8>,
    log: Vec<u8>,
    random: blake3::OutputReader,
}

impl Host {
    /// The host of the unit `unit_id` with this input, for a program with these files.
    #[must_use]
    pub fn new(unit_id: &B256, input: Arc<[u8]>, files: Arc<Files>) -> Self {
        Self {
            input,
            files,
            descriptors: Descriptors::new(),
            output: Vec::new(),
            log: Vec::new(),
            random: blake3::Hasher::new_keyed(&unit_id.0).finalize_xof(),
        }
    }

    /// The output and the log written so far.
    #[must_use]
    pub fn into_written(self) -> (Vec<u8>, Vec<u8>) {
        (self.output, self.log)
    }

    /// The output and the log written so far, of a host that goes on.
    pub(crate) fn written(&self) -> (&[u8], &[u8]) {
        (&self.output, &self.log)
    }

    /// Whether the program holds a file or directory open beside what every program starts with.
    pub(crate) fn has_open_files(&self) -> bool {
        self.descriptors.any_opened()
    }

    /// Run one host function. Arguments beyond its parameters are ignored; an `i32` uses the low half of its place.
    ///
    /// Returns the error number for the guest. The caller keeps `meter.used()` as the new fuel counter in every case.
    ///
    /// # Errors
    /// [`Stop`] if the program must not go on.
    pub fn call(
        &mut self,
        function: Function,
        arguments: &[u64; MOST_PARAMETERS],
        memory: &mut GuestMemory<'_>,
        meter: &mut Meter,
    ) -> Result<Errno, Stop> {
        match self.dispatch(function, arguments, memory, meter) {
            Ok(()) => Ok(Errno::SUCCESS),
            Err(Failure::Errno(errno)) => Ok(errno),
            Err(Failure::Stop(stop)) => Err(stop),
        }
    }

    fn dispatch(
        &mut self,
        function: Function,
        arguments: &[u64; MOST_PARAMETERS],
        memory: &mut GuestMemory<'_>,
        meter: &mut Meter,
    ) -> Answer {
        meter.charge(price::CALL)?;
        let long = arguments;
        let int = arguments.map(|argument| argument as u32);
        match function {
            Function::ArgsGet => strings(ARGUMENTS, int[0], int[1], memory, meter),
            Function::ArgsSizesGet => string_sizes(ARGUMENTS, int[0], int[1], memory),
            Function::EnvironGet => strings(ENVIRONMENT, int[0], int[1], memory, meter),
            Function::EnvironSizesGet => string_sizes(ENVIRONMENT, int[0], int[1], memory),
            Function::ClockResGet => clock(int[0]).and_then(|()| Ok(memory.write(int[1], &1_u64.to_le_bytes())?)),
            Function::ClockTimeGet => clock(int[0]).and_then(|()| {
                let now = EPOCH_NS.saturating_add(meter.used());
                Ok(memory.write(int[2], &now.to_le_bytes())?)
            }),
            Function::RandomGet => {
                meter.charge(u64::from(int[1]) * price::RANDOM_BYTE)?;
                self.random.fill(memory.bytes_mut(int[0], int[1])?);
                Ok(())
            }
            Function::SchedYield => Ok(()),
            Function::ProcExit => Err(Stop::Exit(int[0]).into()),
            Function::PollOneoff => poll(int[0], int[1], int[2], int[3], memory, meter),

            Function::FdClose => Ok(self.descriptors.close(int[0])?),
            // Nothing waits to be written and flags change nothing here, but programs call these before they exit.
            Function::FdSync | Function::FdDatasync | Function::FdFdstatSetFlags => {
                self.descriptors.get(int[0])?;
                Ok(())
            }
            Function::FdFdstatGet => self.fd_fdstat_get(int[0], int[1], memory),
            Function::FdFilestatGet => self.fd_filestat_get(int[0], int[1], memory),
            Function::FdRead => self.fd_read(int[0], int[1], int[2], None, int[3], memory, meter),
            Function::FdPread => self.fd_read(int[0], int[1], int[2], Some(long[3]), int[4], memory, meter),
            Function::FdWrite => self.fd_write(int[0], int[1], int[2], int[3], memory, meter),
            Function::FdSeek => self.fd_seek(int[0], long[1] as i64, int[2], int[3], memory),
            Function::FdTell => self.fd_seek(int[0], 0, 1, int[1], memory),

            Function::FdPrestatGet => self.fd_prestat_get(int[0], int[1], memory),
            Function::FdPrestatDirName => self.fd_prestat_dir_name(int[0], int[1], int[2], memory),
            Function::FdReaddir => self.fd_readdir(int[0], int[1], int[2], long[3], int[4], memory, meter),
            Function::PathOpen => {
                let asked = paths::Asked { oflags: int[4], rights: long[5] };
                self.path_open(int[0], int[2], int[3], asked, int[8], memory, meter)
            }
            Function::PathFilestatGet => self.path_filestat_get(int[0], int[2], int[3], int[4], memory, meter),
            Function::PathReadlink => self.path_readlink(int[0], int[1], int[2], memory, meter),

            Function::FdAdvise
            | Function::FdAllocate
            | Function::FdFdstatSetRights
            | Function::FdFilestatSetSize
            | Function::FdFilestatSetTimes
            | Function::FdPwrite
            | Function::FdRenumber
            | Function::PathCreateDirectory
            | Function::PathFilestatSetTimes
            | Function::PathLink
            | Function::PathRemoveDirectory
            | Function::PathRename
            | Function::PathSymlink
            | Function::PathUnlinkFile
            | Function::ProcRaise
            | Function::SockAccept
            | Function::SockRecv
            | Function::SockSend
            | Function::SockShutdown => Err(Errno::NOSYS.into()),
        }
    }
}

/// `args_get` and `environ_get`: pointers at `pointers`, the strings, each with a zero byte, one after another at `at`.
fn strings(list: &[&str], pointers: u32, at: u32, memory: &mut GuestMemory<'_>, meter: &mut Meter) -> Answer {
    let length: usize = list.iter().map(|string| string.len() + 1).sum();
    meter.charge(price::copy(length as u64))?;
    memory.probe(pointers, 4 * list.len() as u32)?;
    memory.probe(at, length as u32)?;
    let mut next = at;
    for (index, string) in list.iter().enumerate() {
        memory.write(pointers + 4 * index as u32, &next.to_le_bytes())?;
        memory.write(next, string.as_bytes())?;
        memory.write(next + string.len() as u32, &[0])?;
        // Wraps only for the end of the last string at the very end of 4 GiB, which is not used.
        next = next.wrapping_add(string.len() as u32 + 1);
    }
    Ok(())
}

fn string_sizes(list: &[&str], count: u32, length: u32, memory: &mut GuestMemory<'_>) -> Answer {
    let total: usize = list.iter().map(|string| string.len() + 1).sum();
    memory.probe(length, 4)?;
    memory.write(count, &(list.len() as u32).to_le_bytes())?;
    memory.write(length, &(total as u32).to_le_bytes())?;
    Ok(())
}

/// Real time, monotonic, process time and thread time are one clock here; others do not exist.
fn clock(id: u32) -> Answer {
    if id < 4 { Ok(()) } else { Err(Errno::INVAL.into()) }
}

/// Answer `count` subscriptions at once, in their order: clocks have passed, descriptors cannot be waited for.
fn poll(from: u32, to: u32, count: u32, stored: u32, memory: &mut GuestMemory<'_>, meter: &mut Meter) -> Answer {
    const SUBSCRIPTION: u32 = 48;
    const EVENT: u32 = 32;
    if count == 0 || count > VECTORS_MAX {
        return Err(Errno::INVAL.into());
    }
    meter.charge(u64::from(count) * price::VECTOR)?;
    memory.probe(from, count * SUBSCRIPTION)?;
    memory.probe(to, count * EVENT)?;
    memory.probe(stored, 4)?;
    for index in 0..count {
        let subscription = memory.bytes(from + index * SUBSCRIPTION, SUBSCRIPTION)?;
        let (kind, clock_id) = (subscription[8], memory::u32_at(subscription, 16));
        let errno = match kind {
            0 if clock_id < 4 => Errno::SUCCESS,
            0 => Errno::INVAL,
            _ => Errno::NOTSUP,
        };
        let mut event = [0; EVENT as usize];
        event[..8].copy_from_slice(&subscription[..8]);
        event[8..10].copy_from_slice(&errno.number().to_le_bytes());
        event[10] = kind;
        memory.write(to + index * EVENT, &event)?;
    }
    memory.write(stored, &count.to_le_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests;
