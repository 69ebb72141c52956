//! Puts the rewritten module together: sections as delivered except for those that change.

use rayon::prelude::*;
use wasm_encoder::{
    ConstExpr, Encode, GlobalSection, GlobalType, MemorySection, MemoryType, Module, RawSection, RefType, Section,
    TableSection, TableType, TypeSection, ValType,
};
use wasmparser::FuncValidatorAllocations;

use super::emit;
use super::function::{self, Context};
use super::{COUNTER_EXPORT, Instrumented, Options, START_EXPORT, counter};
use crate::prices;
use crate::profile::{FUNCTION_MAX, MEMORY_MAX_PAGES, ProfileError, TABLE_MAX};
use crate::scan::{self, Body, Scan};

/// Section ids of the binary format.
mod id {
    pub const TYPE: u8 = 1;
    pub const TABLE: u8 = 4;
    pub const MEMORY: u8 = 5;
    pub const GLOBAL: u8 = 6;
    pub const EXPORT: u8 = 7;
    pub const START: u8 = 8;
    pub const CODE: u8 = 10;
    pub const TAG: u8 = 13;
    pub const DATA_COUNT: u8 = 12;
}

/// Functions that one thread takes at a time.
const CHUNK: usize = 64;

pub(super) fn rewrite(module: &[u8], options: Options) -> Result<Instrumented, ProfileError> {
    let mut scan = scan::scan(module)?;
    let bodies = std::mem::take(&mut scan.bodies);
    let context = Context {
        imports: scan.info.imports.len() as u32,
        imports_escape: scan.imports_escape,
        block_types: &scan.block_types,
        options,
    };
    let code = functions(bodies, context, scan.globals)?;
    scan.info.instructions = code.iter().map(|chunk| chunk.instructions).sum();
    scan.info.simd = code.iter().any(|chunk| chunk.simd);
    scan.info.relaxed_simd = code.iter().any(|chunk| chunk.relaxed_simd);
    scan.info.exceptions |= code.iter().any(|chunk| chunk.exceptions);
    let bytes = assemble(module, &scan, &code);
    Ok(Instrumented { bytes, info: scan.info })
}

/// Some consecutive functions, rewritten.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    instructions: u64,
    simd: bool,
    relaxed_simd: bool,
    exceptions: bool,
}

/// Validates and rewrites all functions, on all cores. Of several errors the first in the module is reported.
fn functions(bodies: Vec<Body<'_>>, context: Context<'_>, counter: u32) -> Result<Vec<Chunk>, ProfileError> {
    let chunks: Vec<Result<Chunk, ProfileError>> = bodies
        .into_par_iter()
        .chunks(CHUNK)
        .map_init(FuncValidatorAllocations::default, |allocations, bodies| {
            let mut chunk = Chunk::default();
            for function in bodies {
                let (body, index) = (function.body.clone(), function.validator.index);
                let (plan, returned) = function::plan(function, context, std::mem::take(allocations));
                *allocations = returned;
                let plan = plan?;
                let length = emit::emit(body.as_bytes(), &plan, counter, context.options, &mut chunk.bytes);
                if length as u64 > FUNCTION_MAX {
                    return Err(ProfileError::Limit {
                        what: "bytes in an instrumented function",
                        found: length as u64,
                        limit: FUNCTION_MAX,
                        offset: body.range().start as u64,
                        function: Some(index),
                    });
                }
                chunk.instructions += plan.instructions;
                chunk.simd |= plan.simd;
                chunk.relaxed_simd |= plan.relaxed_simd;
                chunk.exceptions |= plan.exceptions;
            }
            Ok(chunk)
        })
        .collect();
    chunks.into_iter().collect()
}

fn assemble(module: &[u8], scan: &Scan<'_>, code: &[Chunk]) -> Vec<u8> {
    let mut out = Module::new().finish();
    let code_bytes: usize = code.iter().map(|chunk| chunk.bytes.len()).sum();
    out.reserve(code_bytes + module.len() / 2);
    let mut injected = Injected { globals: false, exports: false };
    for section in &scan.sections {
        let contents = &module[section.range.clone()];
        // Sections come in a fixed order; ours go in where the module has none of their kind.
        injected.before(order(section.id), scan, &mut out);
        match section.id {
            id::TYPE if !scan.more_types.is_empty() => {
                let (count, more) = more_types(scan);
                with_more(id::TYPE, scan.types, contents, count, &more, &mut out);
            }
            id::TABLE => tables(scan).append_to(&mut out),
            id::MEMORY => memory(scan).append_to(&mut out),
            id::GLOBAL => with_more(id::GLOBAL, scan.globals, contents, 1, &our_globals(scan), &mut out),
            id::EXPORT => {
                let (count, ours) = our_exports(scan);
                with_more(id::EXPORT, scan.exports, contents, count, &ours, &mut out);
            }
            id::START => {}
            id::CODE => code_section(code, scan.info.functions as usize, code_bytes, &mut out),
            id => RawSection { id, data: contents }.append_to(&mut out),
        }
        injected.globals |= section.id == id::GLOBAL;
        injected.exports |= section.id == id::EXPORT;
    }
    injected.before(u8::MAX, scan, &mut out);
    out
}

/// Place of a section in a module; ids came later than the order for two of them.
fn order(section: u8) -> u8 {
    match section {
        id::TAG => 2 * id::MEMORY + 1,
        id::DATA_COUNT => 2 * id::CODE - 1,
        id => 2 * id,
    }
}

/// Which of the sections that must exist are written already.
struct Injected {
    globals: bool,
    exports: bool,
}

impl Injected {
    fn before(&mut self, place: u8, scan: &Scan<'_>, out: &mut Vec<u8>) {
        if !self.globals && place > order(id::GLOBAL) {
            with_more(id::GLOBAL, 0, &[0], 1, &our_globals(scan), out);
            self.globals = true;
        }
        if !self.exports && place > order(id::EXPORT) {
            let (count, ours) = our_exports(scan);
            with_more(id::EXPORT, 0, &[0], count, &ours, out);
            self.exports = true;
        }
    }
}

/// Writes a section of `count` items, whose contents begin with that number, and adds some.
fn with_more(section: u8, count: u32, contents: &[u8], added: u32, items: &[u8], out: &mut Vec<u8>) {
    let items_at = contents.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let mut data = Vec::with_capacity(contents.len() + items.len() + 5);
    (count + added).encode(&mut data);
    data.extend_from_slice(&contents[items_at..]);
    data.extend_from_slice(items);
    RawSection { id: section, data: &data }.append_to(out);
}

/// The counter: no fuel until the host grants some, and no stack in use.
/// The first memory is paid for like one that has grown to that size: the counter begins below zero by so much.
fn our_globals(scan: &Scan<'_>) -> Vec<u8> {
    let pages = scan.info.memory.map_or(0, |memory| memory.initial_pages.min(MEMORY_MAX_PAGES));
    let price = if pages > 0 { prices::by_name("memory_grow").of(pages) } else { 0 };
    let mut section = GlobalSection::new();
    let ty = GlobalType { val_type: ValType::I64, mutable: true, shared: false };
    section.global(ty, &ConstExpr::i64_const(counter::with_fuel(-price.cast_signed())));
    items(&section)
}

fn our_exports(scan: &Scan<'_>) -> (u32, Vec<u8>) {
    let mut section = wasm_encoder::ExportSection::new();
    section.export(COUNTER_EXPORT, wasm_encoder::ExportKind::Global, scan.globals);
    if let Some(start) = scan.start {
        section.export(START_EXPORT, wasm_encoder::ExportKind::Func, start);
    }
    (section.len(), items(&section))
}

/// Types of blocks that functions become, where the module has none like them.
fn more_types(scan: &Scan<'_>) -> (u32, Vec<u8>) {
    let mut section = TypeSection::new();
    for results in &scan.more_types {
        section.ty().function([], results.iter().copied());
    }
    (section.len(), items(&section))
}

/// The items of a short section: its encoding without length and count, one byte each.
fn items(section: &impl Section) -> Vec<u8> {
    let mut bytes = Vec::new();
    section.encode(&mut bytes);
    bytes.split_off(2)
}

/// Growth past the limits returns -1, because the limits become the memory's and tables' own. A beginning above the limit
/// is cut: such a module is compiled, but never instantiated.
fn memory(scan: &Scan<'_>) -> MemorySection {
    let mut section = MemorySection::new();
    if let Some(memory) = scan.info.memory {
        section.memory(MemoryType {
            minimum: memory.initial_pages.min(MEMORY_MAX_PAGES),
            maximum: Some(memory.maximum_pages.unwrap_or(MEMORY_MAX_PAGES).min(MEMORY_MAX_PAGES)),
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
    }
    section
}

fn tables(scan: &Scan<'_>) -> TableSection {
    let mut section = TableSection::new();
    for (limits, element) in scan.info.tables.iter().zip(&scan.tables) {
        let element_type = match *element {
            wasmparser::RefType::EXTERNREF => RefType::EXTERNREF,
            wasmparser::RefType::EXNREF => RefType::EXNREF,
            _ => RefType::FUNCREF,
        };
        section.table(TableType {
            element_type,
            table64: false,
            minimum: limits.initial.min(TABLE_MAX),
            maximum: Some(limits.maximum.unwrap_or(TABLE_MAX).min(TABLE_MAX)),
            shared: false,
        });
    }
    section
}

/// Written without a further copy: code is most of a module.
fn code_section(code: &[Chunk], functions: usize, bytes: usize, out: &mut Vec<u8>) {
    let mut count = Vec::new();
    (functions as u32).encode(&mut count);
    out.push(id::CODE);
    ((bytes + count.len()) as u32).encode(out);
    out.extend_from_slice(&count);
    for chunk in code {
        out.extend_from_slice(&chunk.bytes);
    }
}
