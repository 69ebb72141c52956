//! Runs a reactor with the host that units have.

use std::sync::Arc;
use std::thread;

use noria_crypto::B256;
use wasmtime::{Caller, Engine, Error, Linker, Memory, Module, Store, TypedFunc, Val};

use super::{Recipe, SnapshotError, Word, global_export};
use crate::engine::{MachineError, THREAD_STACK, offer, snapshot_settings};
use crate::wasi::functions::host_functions;
use crate::wasi::{Function, GuestMemory, Host, MOST_PARAMETERS, Meter, Stop};

/// What a module's instance holds after the last turn.
pub(super) struct Image {
    pub(super) memory: Vec<u8>,
    /// Index and bits of each mutable global.
    pub(super) globals: Vec<(u32, Val)>,
    /// Where the text lies that `_start` runs.
    pub(super) entry: (i32, i32),
}

struct State {
    host: Host,
    memory: Option<Memory>,
    /// Counts host calls, so that the clock goes on; nothing else is metered here.
    used: u64,
    stop: Option<Stop>,
}

/// The error that ends compiled code when the host stopped the program.
#[derive(Debug, thiserror::Error)]
#[error("it called proc_exit")]
struct Stopped;

pub(super) fn run(reactor: &[u8], recipe: &Recipe<'_>) -> Result<Image, SnapshotError> {
    let engine = snapshot_settings().and_then(|settings| Engine::new(&settings)).map_err(machine)?;
    let module = Module::new(&engine, reactor).map_err(|error| SnapshotError::Invalid(format!("{error:#}")))?;
    // A thread of its own, because compiled code needs more stack than any caller has.
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("snapshot".into())
            .stack_size(THREAD_STACK)
            .spawn_scoped(scope, || run_here(&engine, &module, recipe))
            .map_err(|error| MachineError::NoMemory(error.to_string()))?;
        thread.join().unwrap_or_else(|_| Err(MachineError::Engine("the engine panicked".into()).into()))
    })
}

fn machine(error: Error) -> SnapshotError {
    MachineError::Engine(format!("{error:#}")).into()
}

fn run_here(engine: &Engine, module: &Module, recipe: &Recipe<'_>) -> Result<Image, SnapshotError> {
    let host = Host::new(&B256::ZERO, Arc::from(&[][..]), recipe.files.clone());
    let mut store = Store::new(engine, State { host, memory: None, used: 0, stop: None });
    let mut linker = Linker::new(engine);
    link(&mut linker).map_err(machine)?;
    let unfit = |error: Error| SnapshotError::Unfit(format!("{error:#}"));
    let instance = linker.instantiate(&mut store, module).map_err(unfit)?;
    let memory = instance.get_memory(&mut store, "memory");
    let memory = memory.ok_or_else(|| SnapshotError::Unfit("it exports no memory".into()))?;
    store.data_mut().memory = Some(memory);
    let initialize: TypedFunc<(), ()> = instance.get_typed_func(&mut store, "_initialize").map_err(unfit)?;
    let alloc: TypedFunc<i32, i32> = instance.get_typed_func(&mut store, "host_alloc").map_err(unfit)?;
    let turn: TypedFunc<(i32, i32), i32> = instance.get_typed_func(&mut store, "turn").map_err(unfit)?;

    initialize.call(&mut store, ()).map_err(|error| failed(0, &error.to_string(), &mut store))?;
    for (number, text) in recipe.turns.iter().enumerate() {
        let (pointer, length) = place(text, number, &alloc, memory, &mut store)?;
        match turn.call(&mut store, (pointer, length)) {
            Ok(0) => {}
            Ok(status) => return Err(failed(number, &format!("status {status}"), &mut store)),
            Err(error) => return Err(failed(number, &format!("{error:#}"), &mut store)),
        }
    }
    let after = recipe.turns.len();
    for word in recipe.words {
        change(*word, memory, &mut store)?;
    }
    let entry = place(recipe.entry, after, &alloc, memory, &mut store)?;
    if store.data().host.has_open_files() {
        return Err(failed(after, "a file is still open", &mut store));
    }
    let mut globals = Vec::new();
    for export in module.exports() {
        let Some(index) = export.name().strip_prefix(&global_export_prefix()).and_then(|index| index.parse().ok())
        else {
            continue;
        };
        let global = instance.get_global(&mut store, export.name());
        let global = global.ok_or_else(|| SnapshotError::Unfit(format!("{} is no variable", export.name())))?;
        globals.push((index, global.get(&mut store)));
    }
    Ok(Image { memory: memory.data(&store).to_vec(), globals, entry })
}

fn global_export_prefix() -> String {
    global_export(0).trim_end_matches('0').to_owned()
}

fn change(word: Word, memory: Memory, store: &mut Store<State>) -> Result<(), SnapshotError> {
    let at = word.address as usize;
    let place = memory.data_mut(store).get_mut(at..at + 4);
    let place = place.ok_or_else(|| SnapshotError::Unfit(format!("it has no memory at {at}")))?;
    if place != word.from.to_le_bytes() {
        let found = u32::from_le_bytes([place[0], place[1], place[2], place[3]]);
        return Err(SnapshotError::Unfit(format!("its word at {at} is {found}, the recipe says {}", word.from)));
    }
    place.copy_from_slice(&word.to.to_le_bytes());
    Ok(())
}

/// Copies a text into the reactor's memory.
fn place(
    text: &str,
    turn: usize,
    alloc: &TypedFunc<i32, i32>,
    memory: Memory,
    store: &mut Store<State>,
) -> Result<(i32, i32), SnapshotError> {
    let length = i32::try_from(text.len()).map_err(|_| failed(turn, "its text is too long", store))?;
    let pointer = alloc.call(&mut *store, length).map_err(|error| failed(turn, &format!("{error:#}"), store))?;
    let at = pointer.cast_unsigned() as usize;
    if pointer == 0 || memory.write(&mut *store, at, text.as_bytes()).is_err() {
        return Err(failed(turn, "the module gives no room for its text", store));
    }
    Ok((pointer, length))
}

fn failed(turn: usize, reason: &str, store: &mut Store<State>) -> SnapshotError {
    let reason = match store.data().stop {
        Some(Stop::Exit(status)) => format!("it exited with status {status}"),
        _ => reason.to_owned(),
    };
    let (output, log) = store.data().host.written();
    let log = format!("{}{}", String::from_utf8_lossy(output), String::from_utf8_lossy(log));
    SnapshotError::Turn { turn, reason, log }
}

fn call(mut caller: Caller<'_, State>, function: Function, arguments: &[u64; MOST_PARAMETERS]) -> Result<i32, Error> {
    let Some(memory) = caller.data().memory else { return Err(Stopped.into()) };
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    let mut meter = Meter::new(state.used, u64::MAX);
    let answer = state.host.call(function, arguments, &mut GuestMemory::new(bytes), &mut meter);
    state.used = meter.used();
    match answer {
        Ok(errno) => Ok(i32::from(errno.number())),
        Err(stop) => {
            state.stop = Some(stop);
            Err(Stopped.into())
        }
    }
}

fn link(linker: &mut Linker<State>) -> Result<(), Error> {
    host_functions!(offer linker);
    Ok(())
}
