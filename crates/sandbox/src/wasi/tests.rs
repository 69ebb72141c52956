use proptest::prelude::*;

use super::*;

/// A guest that is only a memory: tests put arguments into it, call, and look at what is there.
struct Guest {
    host: Host,
    memory: Vec<u8>,
    meter: Meter,
}

/// Where the tests let results be written.
const RESULT: u64 = 64;
const FREE: u64 = 1024;

fn files() -> Arc<Files> {
    let file = |path: &str, contents: &[u8]| (path.to_owned(), Arc::from(contents));
    Arc::new(Files::new([file("lib/one.txt", b"first"), file("lib/two.txt", b"2"), file("top", b"")]).expect("paths"))
}

impl Guest {
    fn new(input: &[u8]) -> Self {
        Self {
            host: Host::new(&B256::new([1; 32]), Arc::from(input), files()),
            memory: vec![0; 65_536],
            meter: Meter::new(0, 1 << 40),
        }
    }

    fn try_call(&mut self, function: Function, given: &[u64]) -> Result<Errno, Stop> {
        assert_eq!(given.len(), function.parameters().len(), "{}", function.name());
        let mut arguments = [0; MOST_PARAMETERS];
        arguments[..given.len()].copy_from_slice(given);
        self.host.call(function, &arguments, &mut GuestMemory::new(&mut self.memory), &mut self.meter)
    }

    fn call(&mut self, function: Function, given: &[u64]) -> Errno {
        self.try_call(function, given).expect("the program goes on")
    }

    fn succeed(&mut self, function: Function, given: &[u64]) {
        assert_eq!(self.call(function, given), Errno::SUCCESS, "{}", function.name());
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.memory[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    fn bytes(&self, at: u64, length: usize) -> &[u8] {
        &self.memory[at as usize..at as usize + length]
    }

    fn u32(&self, at: u64) -> u32 {
        memory::u32_at(self.bytes(at, 4), 0)
    }

    fn u64(&self, at: u64) -> u64 {
        u64::from(self.u32(at)) | u64::from(self.u32(at + 4)) << 32
    }

    /// Write vectors at 256.
    fn vectors(&mut self, vectors: &[(u32, u32)]) -> [u64; 2] {
        for (index, (at, length)) in vectors.iter().enumerate() {
            self.put(256 + 8 * index as u64, &at.to_le_bytes());
            self.put(260 + 8 * index as u64, &length.to_le_bytes());
        }
        [256, vectors.len() as u64]
    }

    fn write(&mut self, fd: u64, bytes: &[u8]) -> Result<Errno, Stop> {
        self.put(FREE, bytes);
        let [at, count] = self.vectors(&[(FREE as u32, bytes.len() as u32)]);
        self.try_call(Function::FdWrite, &[fd, at, count, RESULT])
    }

    fn read(&mut self, fd: u64, length: u32) -> Vec<u8> {
        let [at, count] = self.vectors(&[(FREE as u32, length)]);
        self.succeed(Function::FdRead, &[fd, at, count, RESULT]);
        self.bytes(FREE, self.u32(RESULT) as usize).to_vec()
    }

    fn open_with(&mut self, path: &[u8], oflags: u64, rights: u64) -> Result<u64, Errno> {
        self.put(FREE, path);
        match self.call(Function::PathOpen, &[3, 1, FREE, path.len() as u64, oflags, rights, 0, 0, RESULT]) {
            Errno::SUCCESS => Ok(u64::from(self.u32(RESULT))),
            errno => Err(errno),
        }
    }

    fn open(&mut self, path: &[u8]) -> Result<u64, Errno> {
        self.open_with(path, 0, 2)
    }
}

#[test]
fn arguments_and_environment_are_those_of_the_protocol() {
    let mut guest = Guest::new(b"");
    for (sizes, get, list) in [
        (Function::ArgsSizesGet, Function::ArgsGet, ARGUMENTS),
        (Function::EnvironSizesGet, Function::EnvironGet, ENVIRONMENT),
    ] {
        guest.succeed(sizes, &[RESULT, RESULT + 4]);
        assert_eq!(guest.u32(RESULT) as usize, list.len());
        let length = guest.u32(RESULT + 4) as usize;
        guest.succeed(get, &[RESULT, FREE]);
        let joined: Vec<u8> = list.iter().flat_map(|string| [string.as_bytes(), &[0]].concat()).collect();
        assert_eq!(guest.bytes(FREE, length), joined);
        for (index, string) in list.iter().enumerate() {
            let at = u64::from(guest.u32(RESULT + 4 * index as u64));
            assert_eq!(guest.bytes(at, string.len()), string.as_bytes());
        }
    }
}

#[test]
fn stdin_is_the_input_and_can_be_sought() {
    let mut guest = Guest::new(b"0123456789");
    assert_eq!(guest.read(0, 4), b"0123");
    let [at, count] = guest.vectors(&[(FREE as u32, 1), (FREE as u32 + 8, 0), (FREE as u32 + 16, 100)]);
    guest.succeed(Function::FdRead, &[0, at, count, RESULT]);
    assert_eq!(guest.u32(RESULT), 6);
    assert_eq!((guest.bytes(FREE, 1), guest.bytes(FREE + 16, 5)), (&b"4"[..], &b"56789"[..]));
    assert_eq!(guest.read(0, 4), b"");
    guest.succeed(Function::FdSeek, &[0, (-3_i64).cast_unsigned(), 2, RESULT]);
    assert_eq!(guest.u64(RESULT), 7);
    assert_eq!(guest.read(0, 2), b"78");
    guest.succeed(Function::FdTell, &[0, RESULT]);
    assert_eq!(guest.u64(RESULT), 9);
    let [at, count] = guest.vectors(&[(FREE as u32, 3)]);
    guest.succeed(Function::FdPread, &[0, at, count, 1, RESULT]);
    assert_eq!(guest.bytes(FREE, 3), b"123");
    assert_eq!(guest.read(0, 9), b"9", "a read at an offset moves nothing");
    // Beyond the end there is nothing, before the beginning no position.
    guest.succeed(Function::FdSeek, &[0, i64::MAX.cast_unsigned(), 0, RESULT]);
    assert_eq!(guest.read(0, 9), b"");
    assert_eq!(guest.call(Function::FdSeek, &[0, 1, 1, RESULT]), Errno::OVERFLOW);
    assert_eq!(guest.call(Function::FdSeek, &[0, u64::MAX, 0, RESULT]), Errno::INVAL);
    assert_eq!(guest.call(Function::FdSeek, &[0, 0, 3, RESULT]), Errno::INVAL);
    assert_eq!(guest.call(Function::FdSeek, &[1, 0, 0, RESULT]), Errno::SPIPE);
    assert_eq!(guest.call(Function::FdSeek, &[3, 0, 0, RESULT]), Errno::ISDIR);
}

#[test]
fn stdout_is_the_output_up_to_its_limit() {
    let mut guest = Guest::new(b"");
    assert_eq!(guest.write(1, b"hello "), Ok(Errno::SUCCESS));
    assert_eq!(guest.write(1, b"world"), Ok(Errno::SUCCESS));
    assert_eq!(guest.u32(RESULT), 5);
    assert_eq!(guest.write(0, b"x"), Ok(Errno::BADF));
    assert_eq!(guest.write(3, b"x"), Ok(Errno::BADF));
    assert_eq!(guest.host.output, b"hello world");

    let mut guest = Guest::new(b"");
    let megabyte = vec![(0, 32_768); 32];
    let [at, count] = guest.vectors(&megabyte);
    for _ in 0..64 {
        guest.succeed(Function::FdWrite, &[1, at, count, RESULT]);
    }
    assert_eq!(guest.host.output.len(), OUTPUT_MAX);
    assert_eq!(guest.write(1, b""), Ok(Errno::SUCCESS));
    assert_eq!(guest.write(1, b"x"), Err(Stop::Output));
}

#[test]
fn the_log_keeps_its_beginning() {
    let mut guest = Guest::new(b"");
    for letter in [b"a", b"b", b"c"] {
        assert_eq!(guest.write(2, &letter.repeat(30_000)), Ok(Errno::SUCCESS));
        assert_eq!(guest.u32(RESULT), 30_000, "the program sees all of it written");
    }
    assert_eq!(guest.host.log.len(), LOG_MAX);
    assert_eq!(&guest.host.log[59_999..60_001], b"bc");
}

#[test]
fn clocks_count_fuel_and_nothing_moves_them() {
    let mut guest = Guest::new(b"");
    for clock in 0..4 {
        guest.succeed(Function::ClockTimeGet, &[clock, 0, RESULT]);
        assert_eq!(guest.u64(RESULT), EPOCH_NS + guest.meter.used());
        guest.succeed(Function::ClockResGet, &[clock, RESULT]);
        assert_eq!(guest.u64(RESULT), 1);
    }
    assert_eq!(guest.call(Function::ClockTimeGet, &[4, 0, RESULT]), Errno::INVAL);
    assert_eq!(guest.call(Function::ClockResGet, &[9, RESULT]), Errno::INVAL);
    guest.succeed(Function::SchedYield, &[]);
}

#[test]
fn sleeping_is_over_at_once() {
    let mut guest = Guest::new(b"");
    // One second on the monotonic clock, an unknown clock, and waiting for stdin.
    for (index, (kind, clock)) in [(0_u8, 1_u32), (0, 7), (1, 0)].into_iter().enumerate() {
        let at = FREE + 48 * index as u64;
        guest.put(at, &(index as u64 + 100).to_le_bytes());
        guest.put(at + 8, &[kind]);
        guest.put(at + 16, &clock.to_le_bytes());
        guest.put(at + 24, &1_000_000_000_u64.to_le_bytes());
    }
    guest.succeed(Function::PollOneoff, &[FREE, 4096, 3, RESULT]);
    assert_eq!(guest.u32(RESULT), 3);
    for (index, errno) in [Errno::SUCCESS, Errno::INVAL, Errno::NOTSUP].into_iter().enumerate() {
        let at = 4096 + 32 * index as u64;
        assert_eq!(guest.u64(at), index as u64 + 100);
        assert_eq!(guest.u32(at + 8) & 0xffff, u32::from(errno.number()));
    }
    assert!(guest.meter.used() < 1_000);
    assert_eq!(guest.call(Function::PollOneoff, &[FREE, 4096, 0, RESULT]), Errno::INVAL);
    assert_eq!(guest.call(Function::PollOneoff, &[FREE, 4096, u64::from(u32::MAX), RESULT]), Errno::INVAL);
}

#[test]
fn randomness_is_one_stream_keyed_by_the_unit() {
    let mut guest = Guest::new(b"");
    guest.succeed(Function::RandomGet, &[FREE, 5]);
    guest.succeed(Function::RandomGet, &[FREE + 5, 95]);
    let mut expected = [0; 100];
    blake3::Hasher::new_keyed(&[1; 32]).finalize_xof().fill(&mut expected);
    assert_eq!(guest.bytes(FREE, 100), expected);
    assert_eq!(guest.call(Function::RandomGet, &[65_535, 2]), Errno::FAULT);
}

#[test]
fn files_are_opened_read_listed_and_never_written() {
    let mut guest = Guest::new(b"");
    let file = guest.open(b"lib/one.txt").expect("it is there");
    assert_eq!(file, 4);
    assert_eq!(guest.read(file, 100), b"first");
    assert_eq!(guest.write(file, b"x"), Ok(Errno::BADF));
    guest.succeed(Function::FdFilestatGet, &[file, RESULT]);
    assert_eq!((guest.bytes(RESULT + 16, 1), guest.u64(RESULT + 32)), (&[4][..], 5));
    guest.succeed(Function::FdFdstatGet, &[file, RESULT]);
    assert_eq!(guest.bytes(RESULT, 1), [4]);
    guest.succeed(Function::FdClose, &[file]);
    assert_eq!(guest.call(Function::FdClose, &[file]), Errno::BADF);

    for (path, oflags, rights, errno) in [
        (&b"nothing"[..], 0, 2, Errno::NOENT),
        (b"nothing", 1, 2, Errno::ROFS),
        (b"top", 1, 2, Errno::SUCCESS),
        (b"top", 1 | 4, 2, Errno::EXIST),
        (b"top", 8, 2, Errno::ROFS),
        (b"top", 0, 64, Errno::ROFS),
        (b"top", 2, 2, Errno::NOTDIR),
        (b"lib", 2, 2, Errno::SUCCESS),
        (b"lib", 0, 64, Errno::ISDIR),
        (b"/lib", 0, 2, Errno::NOTCAPABLE),
        (b"../lib", 0, 2, Errno::NOTCAPABLE),
    ] {
        let opened = guest.open_with(path, oflags, rights);
        assert_eq!(opened.err().unwrap_or(Errno::SUCCESS), errno, "{} {oflags}", String::from_utf8_lossy(path));
    }

    guest.put(FREE, b"lib/two.txt");
    guest.succeed(Function::PathFilestatGet, &[3, 1, FREE, 11, RESULT]);
    assert_eq!(guest.u64(RESULT + 32), 1);
    assert_eq!(guest.u64(RESULT + 40), EPOCH_NS);
    assert_eq!(guest.call(Function::PathReadlink, &[3, FREE, 11, 0, 0, RESULT]), Errno::INVAL);
    assert_eq!(guest.call(Function::PathUnlinkFile, &[3, FREE, 11]), Errno::NOSYS);

    guest.succeed(Function::FdPrestatGet, &[3, RESULT]);
    assert_eq!((guest.u32(RESULT), guest.u32(RESULT + 4)), (0, 1));
    guest.succeed(Function::FdPrestatDirName, &[3, RESULT, 1]);
    assert_eq!(guest.bytes(RESULT, 1), b"/");
    assert_eq!(guest.call(Function::FdPrestatGet, &[4, RESULT]), Errno::BADF);
}

/// The names that `fd_readdir` gives from `cookie` on into a buffer of `length` bytes, and the cookie to go on with.
fn list(guest: &mut Guest, fd: u64, cookie: u64, length: u64) -> (Vec<String>, u64, bool) {
    guest.succeed(Function::FdReaddir, &[fd, FREE, length, cookie, RESULT]);
    let used = u64::from(guest.u32(RESULT));
    let (mut names, mut next, mut at) = (Vec::new(), cookie, 0);
    while at + 24 <= used {
        let name = u64::from(guest.u32(FREE + at + 16));
        if at + 24 + name > used {
            break;
        }
        names.push(String::from_utf8_lossy(guest.bytes(FREE + at + 24, name as usize)).into_owned());
        next = guest.u64(FREE + at);
        at += 24 + name;
    }
    (names, next, used == length)
}

#[test]
fn a_directory_is_listed_in_the_order_of_names_through_any_buffer() {
    let mut guest = Guest::new(b"");
    let lib = guest.open(b"lib").expect("it is there");
    let whole = [".", "..", "one.txt", "two.txt"];
    assert_eq!(list(&mut guest, lib, 0, 4096), (whole.map(String::from).to_vec(), 4, false));
    assert_eq!(list(&mut guest, lib, u64::MAX, 4096).0, Vec::<String>::new());
    for length in 31..200 {
        let (mut names, mut cookie) = (Vec::new(), 0);
        loop {
            let (more, next, full) = list(&mut guest, lib, cookie, length);
            names.extend(more);
            cookie = next;
            if !full {
                break;
            }
        }
        assert_eq!(names, whole, "{length}");
    }
    assert_eq!(guest.call(Function::FdReaddir, &[0, FREE, 10, 0, RESULT]), Errno::NOTDIR);
}

#[test]
fn wild_pointers_fault_and_change_nothing() {
    let mut guest = Guest::new(b"input");
    let end = 65_536;
    for (function, arguments) in [
        (Function::ArgsGet, vec![end - 3, FREE]),
        (Function::ArgsGet, vec![FREE, end - 3]),
        (Function::ArgsSizesGet, vec![FREE, end]),
        (Function::ClockTimeGet, vec![0, 0, end - 7]),
        (Function::FdRead, vec![0, end - 7, 1, RESULT]),
        (Function::FdRead, vec![0, 256, 1, end - 3]),
        (Function::FdWrite, vec![1, end, 1, RESULT]),
        (Function::FdSeek, vec![0, 1, 0, end - 7]),
        (Function::PathOpen, vec![3, 0, end - 1, 3, 0, 0, 0, 0, RESULT]),
        (Function::PathOpen, vec![3, 0, FREE, 1, 0, 0, 0, 0, u64::from(u32::MAX)]),
        (Function::PollOneoff, vec![end - 47, 4096, 1, RESULT]),
        (Function::RandomGet, vec![0, u64::from(u32::MAX)]),
    ] {
        let before = guest.memory.clone();
        assert_eq!(guest.call(function, &arguments), Errno::FAULT, "{} {arguments:?}", function.name());
        assert!(guest.memory == before, "{}", function.name());
    }
    // A vector of four gigabytes and one that wraps around.
    let [at, count] = guest.vectors(&[(FREE as u32, 4), (8, u32::MAX)]);
    assert_eq!(guest.call(Function::FdWrite, &[1, at, count, RESULT]), Errno::INVAL, "the sum does not fit 32 bits");
    let [at, count] = guest.vectors(&[(FREE as u32, 4), (u32::MAX, 2)]);
    assert_eq!(guest.call(Function::FdWrite, &[1, at, count, RESULT]), Errno::FAULT);
    assert_eq!(guest.host.output, b"", "nothing is written before everything is checked");
    assert_eq!(guest.call(Function::FdWrite, &[1, at, u64::from(u32::MAX), RESULT]), Errno::INVAL);
    guest.succeed(Function::FdTell, &[0, RESULT]);
    assert_eq!(guest.u64(RESULT), 0);
}

#[test]
fn a_call_that_cannot_be_paid_does_nothing() {
    let mut guest = Guest::new(b"");
    guest.meter = Meter::new(0, price::CALL + price::VECTOR + price::copy(800) - 1);
    assert_eq!(guest.write(1, &[b'x'; 800]), Err(Stop::Fuel));
    assert!(guest.host.output.is_empty());
    guest.meter = Meter::new(0, price::CALL + price::VECTOR + price::copy(800));
    assert_eq!(guest.write(1, &[b'x'; 800]), Ok(Errno::SUCCESS));
    assert_eq!(guest.meter.used(), price::CALL + price::VECTOR + price::copy(800));
    assert_eq!(guest.try_call(Function::SchedYield, &[]), Err(Stop::Fuel));
}

#[test]
fn the_program_ends_with_its_code() {
    let mut guest = Guest::new(b"");
    assert_eq!(guest.try_call(Function::ProcExit, &[3]), Err(Stop::Exit(3)));
    assert_eq!(guest.try_call(Function::ProcExit, &[u64::from(u32::MAX)]), Err(Stop::Exit(u32::MAX)));
}

#[test]
fn a_module_without_memory_can_still_call() {
    let mut guest = Guest::new(b"");
    guest.memory.clear();
    guest.succeed(Function::SchedYield, &[]);
    assert_eq!(guest.call(Function::ClockTimeGet, &[0, 0, 0]), Errno::FAULT);
    assert_eq!(guest.call(Function::RandomGet, &[0, 0]), Errno::SUCCESS);
}

/// Arguments as a hostile program chooses them: small, at the edges, or anything.
fn argument() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..8,
        0_u64..2_048,
        65_500_u64..65_540,
        (u64::from(u32::MAX) - 8)..=u64::from(u32::MAX),
        any::<u64>()
    ]
}

fn calls() -> impl Strategy<Value = Vec<(Function, [u64; MOST_PARAMETERS])>> {
    let function = proptest::sample::select(Function::ALL);
    proptest::collection::vec((function, proptest::array::uniform9(argument())), 1..60)
}

proptest! {
    /// Whatever is called with whatever arguments over whatever memory: no panic, the same answers again, and no more
    /// bytes written than were paid for.
    #[test]
    fn any_calls_are_answered_within_bounds(calls in calls(), seed in any::<u64>()) {
        let play = || {
            let mut guest = Guest::new(b"some input");
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut guest.memory);
            // Random words are wild pointers; sprinkle some that point into the memory.
            for word in guest.memory.chunks_exact_mut(8) {
                if word[0] & 1 == 0 {
                    word[2..4].fill(0);
                    word[5..8].fill(0);
                }
            }
            let mut answers = Vec::new();
            for (function, arguments) in &calls {
                let memory = &mut GuestMemory::new(&mut guest.memory);
                answers.push(guest.host.call(*function, arguments, memory, &mut guest.meter));
            }
            (answers, guest)
        };
        let (answers, guest) = play();
        let (again, same) = play();
        prop_assert_eq!(answers, again);
        prop_assert!(guest.memory == same.memory);
        prop_assert_eq!(guest.meter, same.meter);
        prop_assert_eq!(&guest.host.output, &same.host.output);
        prop_assert!(guest.host.log.len() <= LOG_MAX);
        prop_assert!(guest.host.output.len() as u64 / 8 <= guest.meter.used());
    }
}
