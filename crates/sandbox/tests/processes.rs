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
