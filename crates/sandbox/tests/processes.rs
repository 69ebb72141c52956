//! Several processes and one cache; a recursion bomb that must not take its process with it.

mod everywhere;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use everywhere::wat;
use noria_sandbox::wasi::Files;
use noria_sandbox::{EngineKind, Sandbox, Status, program_id};

const CACHE: &str = "NORIA_TEST_CACHE";

/// A module that takes a noticeable time to compile.
fn large() -> Vec<u8> {
    let function = |index: u32| {
        let adds: String = (0..40)
            .map(|step| format!("(local.set 0 (i32.add (local.get 0) (i32.const {}))) ", index * 7 + step))
            .collect();
        format!("(func (param i32) (result i32) {adds} (local.get 0))")
    };
    let functions: String = (0..100).map(function).collect();
    wat(&format!(r#"(module {functions} (func (export "_start") (drop (call 3 (i32.const 1)))))"#))
}

/// Run this program again as the process that the test below describes.
fn again(test: &str, cache: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture", "--ignored"])
        .env(CACHE, cache)
        .stdout(Stdio::piped())
        .spawn()
        .expect("another process")
}

#[test]
#[ignore = "the other process of the test below"]
fn load_the_large_program() {
    let cache = std::env::var_os(CACHE).expect("started by the test below");
    let sandbox = Sandbox::new(Path::new(&cache), EngineKind::Wasmtime).expect("the engine starts");
    let program = sandbox.load(&large(), Arc::default()).expect("it compiles");
    let outcome = program.run(Arc::from([]), 1_000_000).expect("the machine works");
    println!("status {:?} compiled {}", outcome.status, sandbox.progress().get().2 > 0);
}

#[test]
fn of_two_processes_one_compiles() {
    let cache = tempfile::tempdir().expect("a temporary directory");
    let processes: Vec<Child> = (0..4).map(|_| again("load_the_large_program", cache.path())).collect();
    let mut compiled = 0;
    for process in processes {
        let output = process.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("status Ok"), "{text}");
        compiled += usize::from(text.contains("compiled true"));
    }
    assert_eq!(compiled, 1);
}

#[test]
fn compiled_programs_are_found_by_name_and_rebuilt_when_broken() {
    let cache = tempfile::tempdir().expect("a temporary directory");
    let module = large();
    let id = program_id(&module);
    for kind in EngineKind::ALL {
        let sandbox = Sandbox::new(cache.path(), kind).expect("the engine starts");
        assert!(sandbox.load_cached(&id, Arc::default()).expect("the cache works").is_none());
        let loaded = sandbox.load(&module, Arc::default()).expect("it compiles");
        let expected = loaded.run(Arc::from([]), 1_000_000).expect("the machine works");
        assert_eq!(expected.status, Status::Ok);
        let cached = sandbox.load_cached(&id, Arc::default()).expect("the cache works").expect("it is compiled");
        assert_eq!(cached.run(Arc::from([]), 1_000_000), Ok(expected.clone()));

        let entries =
            || std::fs::read_dir(cache.path()).expect("a directory").map(|entry| entry.expect("an entry").path());
        let codes = || entries().filter(|path| path.extension().is_some_and(|kind| kind == "code"));
        for path in codes() {
            let mut bytes = std::fs::read(&path).expect("an entry");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x40;
            // A new file, as a broken disk would show it: the loaded program above still maps the old one.
            std::fs::remove_file(&path).expect("our file");
            std::fs::write(&path, bytes).expect("our file");
            set_private(&path);
        }
        assert!(sandbox.load_cached(&id, Arc::default()).expect("the cache works").is_none());
        let rebuilt = sandbox.load(&module, Arc::default()).expect("it compiles");
        assert_eq!(rebuilt.run(Arc::from([]), 1_000_000), Ok(expected));
    }
}

fn set_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("our file");
}

#[test]
fn many_threads_run_one_program() {
    let cache = tempfile::tempdir().expect("a temporary directory");
    let sandbox = Sandbox::new(cache.path(), EngineKind::Wasmtime).expect("the engine starts");
    let bomb = sandbox.load(&wat(r#"(module (func $f (export "_start") (call $f)))"#), Arc::new(Files::default()));
    let bomb = bomb.expect("it compiles");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let outcome = bomb.run(Arc::from([]), 100_000_000).expect("the machine works");
                    assert_eq!(outcome.status, Status::StackLimit);
                }
            });
        }
    });
}

const KIND: &str = "NORIA_TEST_ENGINE";

/// Run this program's test again in a shell that has set limits first. Nothing if the shell may not.
fn limited(prepare: &str, test: &str, cache: &Path, kind: EngineKind) -> Option<String> {
    let script = format!("{prepare} || exit 77; exec \"$@\"");
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", &script, "sh"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture", "--ignored"])
        .env(CACHE, cache)
        .env(KIND, kind.name())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let refused = output.status.code() == Some(77) || text.starts_with("unshare:");
    if refused {
        eprintln!("left out, this system does not let us: {text}");
    }
    (!refused).then_some(text)
}

fn kind() -> EngineKind {
    std::env::var(KIND).expect("started by a test below").parse().expect("an engine")
}

#[test]
#[ignore = "the other process of the test below"]
fn load_and_say_what_fails() {
    let cache = std::env::var_os(CACHE).expect("started by the test below");
    let sandbox = Sandbox::new(Path::new(&cache), kind()).expect("the engine starts");
    match sandbox.load(&large(), Arc::default()) {
        Ok(_) => println!("loaded"),
        Err(error) => println!("refused: {error}"),
    }
    let left: Vec<_> = std::fs::read_dir(&cache).expect("ours").map(|file| file.expect("a file").path()).collect();
    println!("parts left: {}", left.iter().filter(|path| path.extension().is_some_and(|kind| kind == "part")).count());
}

#[test]
fn a_full_disk_is_named_and_nothing_half_written_is_left() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mount = format!("mount -t tmpfs -o size=16k,mode=700 tmpfs {}", folder.path().display());
    for kind in [EngineKind::Wasmtime, EngineKind::Pulley] {
        let Some(said) = limited(&mount, "load_and_say_what_fails", folder.path(), kind) else { return };
        assert!(said.contains("refused: no space left for compiled code in"), "{said}");
        assert!(said.contains("parts left: 0"), "{said}");
    }
}

#[test]
#[ignore = "the other process of the test below"]
fn run_a_memory_hungry_program() {
    let cache = std::env::var_os(CACHE).expect("started by the test below");
    let module = wat(r#"(module (memory (export "memory") 1) (func (export "_start")
            (if (i32.eq (memory.grow (i32.const 16000)) (i32.const -1)) (then unreachable))))"#);
    let sandbox = Sandbox::new(Path::new(&cache), kind()).expect("the engine starts");
    let program = sandbox.load(&module, Arc::default()).expect("it compiles");
    match program.run(Arc::from([]), 1 << 40) {
        Ok(outcome) => println!("result {:?}", outcome.status),
        Err(error) => println!("failed: {error}"),
    }
}

#[test]
fn an_operating_system_without_memory_is_no_result() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    // Other engines reserve more address space than this when they start.
    let test = "run_a_memory_hungry_program";
    let Some(said) = limited("ulimit -v 800000", test, folder.path(), EngineKind::Wasmi) else { return };
    assert!(said.contains("failed: no memory for the unit"), "{said}");
    let said = limited("true", test, folder.path(), EngineKind::Wasmi).expect("as before");
    assert!(said.contains("result Ok"), "{said}");
}

/// Arithmetic of every kind, memory, calls and host calls, with an output that depends on all of it.
fn thorough() -> Vec<u8> {
    let steps: String = [
        "f64.add", "f64.mul", "f64.div", "f64.min", "f64.max", "f64.sub", "f64.copysign",
    ]
    .iter()
    .enumerate()
    .map(|(index, name)| {
        format!(
            "(local.set $y ({name} (local.get $y) (f64.load (i32.and (local.get $i) (i32.const 0x3ff8)))))
            (local.set $y (f64.sqrt (f64.nearest (f64.mul (local.get $y) (f64.const 1.7)))))
            (local.set $v (f32x4.add (f64x2.mul (local.get $v) (f64x2.splat (local.get $y))) (i32x4.splat (local.get $i))))
            (local.set $v (i8x16.swizzle (i16x8.q15mulr_sat_s (local.get $v) (local.get $v)) (v128.const i8x16 3 1 4 1 5 9 2 6 5 3 5 8 9 7 9 3)))
            (local.set $j (i64.rotl (i64.add (i64.mul (local.get $j) (i64.const 6364136223846793005)) (i64.popcnt (i64.reinterpret_f64 (local.get $y)))) (i64.const {index})))
            (i64.store (i32.and (i32.wrap_i64 (local.get $j)) (i32.const 0x3ff8)) (i64.xor (local.get $j) (i64x2.extract_lane 0 (local.get $v))))"
        )
    })
    .collect();
    wat(&format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (memory (export "memory") 2)
        (func (export "_start") (local $i i32) (local $j i64) (local $y f64) (local $v v128)
            (drop (call $random (i32.const 0) (i32.const 0x4000)))
            (loop $again {steps}
                (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 2000))))
            (i32.store (i32.const 0x10000) (i32.const 0)) (i32.store (i32.const 0x10004) (i32.const 0x4000))
            (drop (call $fd_write (i32.const 1) (i32.const 0x10000) (i32.const 1) (i32.const 0x10008)))))"#
    ))
}

#[test]
#[ignore = "the other process of the test below"]
fn run_the_thorough_program() {
    let cache = std::env::var_os(CACHE).expect("started by the test below");
    let sandbox = Sandbox::new(Path::new(&cache), kind()).expect("the engine starts");
    let program = sandbox.load(&thorough(), Arc::default()).expect("it compiles");
    let outcome = program.run(Arc::from(&b"input"[..]), 1 << 40).expect("the machine works");
    println!("outcome {:?} {} {}", outcome.status, outcome.fuel, blake3::hash(&outcome.output));
}

#[test]
fn many_processes_and_processors_with_fewer_features_give_one_result() {
    // As many as here times what `NORIA_CASES` says: 10 times in `make conformance`.
    let times: usize = std::env::var("NORIA_CASES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    let cache = tempfile::tempdir().expect("a temporary directory");
    let fewer = "glibc.cpu.hwcaps=-AVX512F,-AVX2,-AVX,-FMA,-BMI1,-BMI2,-SSE4_2,-SSE4_1,-SSSE3,-ERMS,-FSRM";
    let mut said = std::collections::BTreeSet::new();
    for round in 0..10 * times {
        let kind = EngineKind::ALL[round % EngineKind::ALL.len()];
        let mut process = Command::new(std::env::current_exe().expect("this program"));
        process.args(["--exact", "run_the_thorough_program", "--nocapture", "--ignored"]);
        process.env(CACHE, cache.path()).env(KIND, kind.name());
        if round % 2 == 1 {
            process.env("GLIBC_TUNABLES", fewer);
        }
        let output = process.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let outcome = text.lines().find_map(|line| line.split_once("outcome ")).map(|found| found.1.to_owned());
        said.insert(outcome.unwrap_or_else(|| panic!("{kind}: {text}")));
    }
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said.first().is_some_and(|outcome| outcome.starts_with("Ok ")), "{said:?}");
}
