//! Puts the rewritten module together: sections as delivered except for those that change.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use wasm_encoder::reencode::Reencode;
use wasm_encoder::{
    ConstExpr, ElementSection, Encode, ExportKind, ExportSection, FunctionSection, GlobalSection, GlobalType,
    MemorySection, MemoryType, Module, RawSection, RefType, Section, TableSection, TableType, TypeSection, ValType,
};
use wasmparser::{
    BinaryReader, ElementSectionReader, ExportSectionReader, FuncValidatorAllocations, GlobalSectionReader,
    TypeSectionReader,
};

use super::emit;
use super::function::{self, Context};
use super::wrappers::{Inside, Outside, Wrappers};
use super::{COUNTER_EXPORT, Counter, Instrumented, Options, START_EXPORT, counter};
use crate::prices;
use crate::profile::{CODE_MAX, FUNCTION_MAX, MEMORY_MAX_PAGES, ProfileError, TABLE_MAX};
use crate::scan::{self, Body, Scan};

/// Section ids of the binary format.
mod id {
    pub const TYPE: u8 = 1;
    pub const FUNCTION: u8 = 3;
    pub const TABLE: u8 = 4;
    pub const MEMORY: u8 = 5;
    pub const GLOBAL: u8 = 6;
    pub const EXPORT: u8 = 7;
    pub const START: u8 = 8;
    pub const ELEMENT: u8 = 9;
    pub const CODE: u8 = 10;
    pub const TAG: u8 = 13;
    pub const DATA_COUNT: u8 = 12;
}

/// Functions that one thread takes at a time.
const CHUNK: usize = 64;

pub(super) fn rewrite(module: &[u8], options: Options) -> Result<Instrumented, ProfileError> {
    let mut scan = scan::scan(module)?;
    let mut wrappers = Wrappers::new(&scan, options.fuel == Counter::Local);
    let bodies = std::mem::take(&mut scan.bodies);
    let context = Context {
        imports: scan.info.imports.len() as u32,
        imports_escape: scan.imports_escape,
        block_types: &scan.block_types,
        options,
        passing_types: wrappers.passing_types(),
        import_wrappers: wrappers.first_import,
    };
    let code = functions(bodies, context, scan.globals)?;
    wrappers.note_references(&scan, code.iter().flat_map(|chunk| &chunk.references));
    scan.info.instructions = code.iter().map(|chunk| chunk.instructions).sum();
    scan.info.simd = code.iter().any(|chunk| chunk.simd);
    scan.info.relaxed_simd = code.iter().any(|chunk| chunk.relaxed_simd);
    scan.info.exceptions |= code.iter().any(|chunk| chunk.exceptions);
    let bytes = assemble(module, &scan, &wrappers, &code)?;
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
    /// Functions that code names as values, in ascending order.
    references: Vec<u32>,
}

/// Validates and rewrites all functions, on all cores. Of several errors the first in the module is reported.
fn functions(bodies: Vec<Body<'_>>, context: Context<'_>, counter: u32) -> Result<Vec<Chunk>, ProfileError> {
    let total = AtomicU64::new(0);
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
                let limit = |what, found, limit| {
                    let (offset, function) = (body.range().start as u64, Some(index));
                    if found <= limit {
                        Ok(())
                    } else {
                        Err(ProfileError::Limit { what, found, limit, offset, function })
                    }
                };
                let length = emit::emit(body.as_bytes(), &plan, counter, context, &mut chunk.bytes);
                limit("bytes in an instrumented function", length, FUNCTION_MAX)?;
                let all = total.fetch_add(length, Ordering::Relaxed) + length;
                limit("bytes of instrumented code", all.min(CODE_MAX + 1), CODE_MAX)?;
                chunk.instructions += plan.instructions;
                chunk.simd |= plan.simd;
                chunk.relaxed_simd |= plan.relaxed_simd;
                chunk.exceptions |= plan.exceptions;
                chunk.references.extend(plan.references);
            }
            chunk.references.sort_unstable();
            chunk.references.dedup();
            Ok(chunk)
        })
        .collect();
    chunks.into_iter().collect()
}

fn assemble(module: &[u8], scan: &Scan<'_>, wrappers: &Wrappers, code: &[Chunk]) -> Result<Vec<u8>, ProfileError> {
    let mut out = Module::new().finish();
    let code_bytes: usize = code.iter().map(|chunk| chunk.bytes.len()).sum();
    out.reserve(code_bytes + module.len() / 2);
    let mut injected = Injected::default();
    for section in &scan.sections {
        let contents = &module[section.range.clone()];
        // Sections come in a fixed order; ours go in where the module has none of their kind.
        injected.before(order(section.id), scan, wrappers, &mut out)?;
        match section.id {
            id::TYPE => types(contents, scan, wrappers)?.append_to(&mut out),
            id::FUNCTION if wrappers.passes => {
                let mut section = FunctionSection::new();
                for ty in wrappers.function_types(scan) {
                    section.function(ty);
                }
                section.append_to(&mut out);
            }
            id::TABLE => tables(scan).append_to(&mut out),
            id::MEMORY => memory(scan).append_to(&mut out),
            id::GLOBAL => globals(contents, scan, wrappers)?.append_to(&mut out),
            id::EXPORT => exports(contents, scan, wrappers)?.append_to(&mut out),
            id::START => {}
            id::ELEMENT if wrappers.passes => elements(contents, wrappers)?.append_to(&mut out),
            id::CODE => code_section(code, scan, wrappers, code_bytes, &mut out),
            id => RawSection { id, data: contents }.append_to(&mut out),
        }
        injected.note(section.id);
    }
    injected.before(u8::MAX, scan, wrappers, &mut out)?;
    Ok(out)
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
#[derive(Default)]
struct Injected {
    globals: bool,
    exports: bool,
    elements: bool,
}

impl Injected {
    fn note(&mut self, section: u8) {
        self.globals |= section == id::GLOBAL;
        self.exports |= section == id::EXPORT;
        self.elements |= section == id::ELEMENT;
    }

    fn before(
        &mut self,
        place: u8,
        scan: &Scan<'_>,
        wrappers: &Wrappers,
        out: &mut Vec<u8>,
    ) -> Result<(), ProfileError> {
        const NONE: &[u8] = &[0];
        if !self.globals && place > order(id::GLOBAL) {
            globals(NONE, scan, wrappers)?.append_to(out);
            self.globals = true;
        }
        if !self.exports && place > order(id::EXPORT) {
            exports(NONE, scan, wrappers)?.append_to(out);
            self.exports = true;
        }
        if !self.elements && place > order(id::ELEMENT) {
            let section = elements(NONE, wrappers)?;
            if !section.is_empty() {
                section.append_to(out);
            }
            self.elements = true;
        }
        Ok(())
    }
}

/// Function types as delivered, of blocks that functions become where the module has none like them, and with the counter.
fn types(contents: &[u8], scan: &Scan<'_>, wrappers: &Wrappers) -> Result<TypeSection, ProfileError> {
    let mut section = TypeSection::new();
    let reader = TypeSectionReader::new(BinaryReader::new(contents, 0)).map_err(|error| invalid(&error))?;
    Inside(wrappers).parse_type_section(&mut section, reader).map_err(|error| invalid(&error))?;
    for results in &scan.more_types {
        section.ty().function([], results.iter().copied());
    }
    wrappers.types(scan, &mut section);
    Ok(section)
}

fn invalid(error: &impl std::error::Error) -> ProfileError {
    ProfileError::Invalid { reason: error.to_string(), offset: 0, function: None }
}

/// The program's globals and the counter: no fuel until the host grants some, and no stack in use. The first memory is
/// paid for like one that has grown to that size: the counter begins below zero by so much.
fn globals(contents: &[u8], scan: &Scan<'_>, wrappers: &Wrappers) -> Result<GlobalSection, ProfileError> {
    let mut section = GlobalSection::new();
    let reader = GlobalSectionReader::new(BinaryReader::new(contents, 0)).map_err(|error| invalid(&error))?;
    Inside(wrappers).parse_global_section(&mut section, reader).map_err(|error| invalid(&error))?;
    let pages = scan.info.memory.map_or(0, |memory| memory.initial_pages.min(MEMORY_MAX_PAGES));
    let price = if pages > 0 { prices::by_name("memory_grow").of(pages) } else { 0 };
    let ty = GlobalType { val_type: ValType::I64, mutable: true, shared: false };
    section.global(ty, &ConstExpr::i64_const(counter::with_fuel(-price.cast_signed())));
    Ok(section)
}

/// The program's exports, of functions their wrappers, and ours.
fn exports(contents: &[u8], scan: &Scan<'_>, wrappers: &Wrappers) -> Result<ExportSection, ProfileError> {
    let mut section = ExportSection::new();
    let reader = ExportSectionReader::new(BinaryReader::new(contents, 0)).map_err(|error| invalid(&error))?;
    Outside(wrappers).parse_export_section(&mut section, reader).map_err(|error| invalid(&error))?;
    section.export(COUNTER_EXPORT, ExportKind::Global, scan.globals);
    if let Some(start) = scan.start {
        section.export(START_EXPORT, ExportKind::Func, wrappers.outside(start));
    }
    Ok(section)
}

/// The program's segments of elements, and a declaration of functions that nothing else names outside of code any more.
fn elements(contents: &[u8], wrappers: &Wrappers) -> Result<ElementSection, ProfileError> {
    let mut section = ElementSection::new();
    let reader = ElementSectionReader::new(BinaryReader::new(contents, 0)).map_err(|error| invalid(&error))?;
    Inside(wrappers).parse_element_section(&mut section, reader).map_err(|error| invalid(&error))?;
    if let Some(functions) = wrappers.declared() {
        section.declared(functions);
    }
    Ok(section)
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
        section.table(TableType {
            element_type: RefType::try_from(*element).expect("tables are validated"),
            table64: false,
            minimum: limits.initial.min(TABLE_MAX),
            maximum: Some(limits.maximum.unwrap_or(TABLE_MAX).min(TABLE_MAX)),
            shared: false,
        });
    }
    section
}

/// Written without a further copy: code is most of a module.
fn code_section(code: &[Chunk], scan: &Scan<'_>, wrappers: &Wrappers, bytes: usize, out: &mut Vec<u8>) {
    let ours = wrappers.code(scan);
    let mut count = Vec::new();
    (scan.info.functions + wrappers.len()).encode(&mut count);
    out.push(id::CODE);
    ((bytes + count.len() + ours.len()) as u32).encode(out);
    out.extend_from_slice(&count);
    for chunk in code {
        out.extend_from_slice(&chunk.bytes);
    }
    out.extend_from_slice(&ours);
}
