//! Reads a delivered module once: checks everything outside function bodies and keeps what is needed to rewrite it.

use std::ops::Range;

use wasm_encoder::BlockType;
use wasmparser::{
    AbstractHeapType, CompositeInnerType, Encoding, ExternalKind, FuncToValidate, FuncType, FunctionBody, HeapType,
    MemoryType, Operator, Parser, Payload, RefType, TableInit, TableType, TypeRef, ValType, ValidPayload, Validator,
    ValidatorResources,
};

use crate::info::{Export, ExternKind, Import, MemoryLimits, ModuleInfo, TableLimits};
use crate::profile::{
    ELEMENTS_MAX, EXPORTS_MAX, FUNCTIONS_MAX, GLOBALS_MAX, IMPORTS_MAX, MEMORY_MAX_PAGES, MODULE_MAX, PARAMETERS_MAX,
    ProfileError, RESULTS_MAX, TABLE_MAX, TABLES_MAX, TYPES_MAX, features, limit,
};

/// Host modules whose functions can be imported.
const HOST_MODULES: [&str; 2] = ["wasi_snapshot_preview1", "noria"];

/// A section that is taken over: its id and its contents in the delivered module.
pub(crate) struct Section {
    pub id: u8,
    pub range: Range<usize>,
}

/// A function body, checked so far only from outside.
pub(crate) struct Body<'a> {
    pub validator: FuncToValidate<ValidatorResources>,
    pub body: FunctionBody<'a>,
}

/// A delivered module, taken apart.
#[derive(Default)]
pub(crate) struct Scan<'a> {
    pub info: ModuleInfo,
    pub sections: Vec<Section>,
    /// Function types.
    pub types: u32,
    /// Their parameters and results.
    pub function_types: Vec<(Vec<wasm_encoder::ValType>, Vec<wasm_encoder::ValType>)>,
    /// The type of each function, imports first.
    pub type_of: Vec<u32>,
    /// For each function type, a block's type with its results and no parameters.
    pub block_types: Vec<BlockType>,
    /// Results of the types that those name beside the module's own.
    pub more_types: Vec<Vec<wasm_encoder::ValType>>,
    pub tables: Vec<RefType>,
    pub bodies: Vec<Body<'a>>,
    pub globals: u32,
    /// Exported functions, in the order of the exports.
    pub exported: Vec<u32>,
    pub start: Option<u32>,
    /// Imported functions can be called through a table.
    pub imports_escape: bool,
}

/// Reads and checks a module except for its function bodies.
pub(crate) fn scan(module: &[u8]) -> Result<Scan<'_>, ProfileError> {
    check_header(module)?;
    let mut scan = Scan::default();
    scan.info.bytes = module.len() as u64;
    let mut parser = Parser::new(0);
    parser.set_features(features());
    let mut validator = Validator::new_with_features(features());
    for payload in parser.parse_all(module) {
        let payload = payload.map_err(|error| ProfileError::of_parser(&error, None))?;
        // Our own rules first: they name what is wrong better than the validator, which does not know them.
        scan.check(&payload)?;
        match validator.payload(&payload).map_err(|error| ProfileError::of_parser(&error, None))? {
            ValidPayload::Func(validator, body) => scan.bodies.push(Body { validator, body }),
            ValidPayload::Ok | ValidPayload::End(_) | ValidPayload::Parser(_) => {}
        }
        if let Payload::ImportSection(section) = &payload {
            check_import_types(&validator, section.range().start, &scan.info.imports)?;
        }
        if let Some((id, range)) = payload.as_section()
            && id != CUSTOM
        {
            scan.sections.push(Section { id, range });
        }
    }
    scan.info.functions = scan.bodies.len() as u32;
    Ok(scan)
}

const CUSTOM: u8 = 0;

/// No host function takes or returns anything but integers: no bits of a NaN can reach the host.
fn check_import_types(validator: &Validator, at: usize, imports: &[Import]) -> Result<(), ProfileError> {
    let types = validator.types(0).expect("a module is being validated");
    for (index, import) in imports.iter().enumerate() {
        let function = types[types.core_function_at(index as u32)].unwrap_func();
        let integers = |types: &[ValType]| types.iter().all(|ty| matches!(ty, ValType::I32 | ValType::I64));
        if !integers(function.params()) || !integers(function.results()) {
            return Err(ProfileError::Import {
                module: shown(&import.module),
                name: shown(&import.name),
                reason: "host functions take and return integers only",
                offset: at as u64,
            });
        }
    }
    Ok(())
}

fn check_header(module: &[u8]) -> Result<(), ProfileError> {
    let refuse = |reason: &str| Err(ProfileError::NotWebAssembly { reason: reason.to_owned() });
    match module {
        [] => refuse("it is empty"),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => limit("bytes in the module", module.len() as u64, MODULE_MAX, 0),
        [0, b'a', b's', b'm', _, 0, 1, 0, ..] => refuse("it is a component, not a core module"),
        [0, b'a', b's', b'm', _, _, _, _, ..] => refuse("its version is not 1"),
        [0, b'a', b's', b'm', ..] => refuse("it ends inside its header"),
        _ => refuse("it does not start with \"\\0asm\""),
    }
}

impl Scan<'_> {
    fn check(&mut self, payload: &Payload<'_>) -> Result<(), ProfileError> {
        let bad = |error| ProfileError::of_parser(&error, None);
        match payload {
            Payload::Version { encoding: Encoding::Component, .. } => {
                return Err(ProfileError::NotWebAssembly { reason: "it is a component, not a core module".to_owned() });
            }
            Payload::TypeSection(section) => {
                limit("types", section.count().into(), TYPES_MAX, section.range().start)?;
                let mut functions = Vec::new();
                for group in section.clone().into_iter_with_offsets() {
                    let (offset, group) = group.map_err(bad)?;
                    for ty in group.into_types() {
                        self.types += 1;
                        if let CompositeInnerType::Func(function) = &ty.composite_type.inner {
                            functions.push(function.clone());
                            limit("parameters", function.params().len() as u64, PARAMETERS_MAX, offset)?;
                            limit("results", function.results().len() as u64, RESULTS_MAX, offset)?;
                            self.info.exceptions |=
                                function.params().iter().chain(function.results()).any(is_exception);
                        }
                    }
                }
                // What this does not know was refused or will be.
                let known = |types: &[ValType]| types.iter().filter_map(|&ty| ty.try_into().ok()).collect();
                self.function_types = functions.iter().map(|ty| (known(ty.params()), known(ty.results()))).collect();
                self.block_types = functions.iter().zip(0..).map(|(ty, index)| self.block_type(ty, index)).collect();
            }
            Payload::ImportSection(section) => {
                limit("imports", section.count().into(), IMPORTS_MAX, section.range().start)?;
                for import in section.clone().into_imports_with_offsets() {
                    let (offset, import) = import.map_err(bad)?;
                    self.import(import.module, import.name, import.ty, offset)?;
                }
            }
            Payload::FunctionSection(section) => {
                limit("functions", section.count().into(), FUNCTIONS_MAX, section.range().start)?;
                for ty in section.clone() {
                    self.type_of.push(ty.map_err(bad)?);
                }
            }
            Payload::TableSection(section) => {
                limit("tables", section.count().into(), TABLES_MAX, section.range().start)?;
                for table in section.clone().into_iter_with_offsets() {
                    let (offset, table) = table.map_err(bad)?;
                    if let TableInit::Expr(_) = table.init {
                        return Err(off("typed function references", offset));
                    }
                    self.table(&table.ty, offset)?;
                }
            }
            Payload::MemorySection(section) => {
                for memory in section.clone().into_iter_with_offsets() {
                    let (offset, memory) = memory.map_err(bad)?;
                    self.memory(&memory, offset)?;
                }
            }
            Payload::TagSection(section) => self.info.exceptions |= section.count() > 0,
            Payload::GlobalSection(section) => {
                limit("globals", section.count().into(), GLOBALS_MAX, section.range().start)?;
                self.globals = section.count();
                for global in section.clone() {
                    let global = global.map_err(bad)?;
                    self.info.exceptions |= is_exception(&global.ty.content_type);
                    self.reference_in(&global.init_expr)?;
                }
            }
            Payload::ExportSection(section) => {
                limit("exports", section.count().into(), EXPORTS_MAX, section.range().start)?;
                for export in section.clone().into_iter_with_offsets() {
                    let (offset, export) = export.map_err(bad)?;
                    self.export(export.name, export.kind, export.index, offset)?;
                }
            }
            Payload::StartSection { func, .. } => {
                self.start = Some(*func);
                self.info.start = true;
            }
            Payload::ElementSection(section) => {
                limit("element segments", section.count().into(), ELEMENTS_MAX, section.range().start)?;
                for element in section.clone() {
                    match element.map_err(bad)?.items {
                        wasmparser::ElementItems::Functions(functions) => {
                            for function in functions {
                                self.reference(function.map_err(bad)?);
                            }
                        }
                        wasmparser::ElementItems::Expressions(ty, expressions) => {
                            self.info.exceptions |= is_exception(&ValType::Ref(ty));
                            for expression in expressions {
                                self.reference_in(&expression.map_err(bad)?)?;
                            }
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The type of a block with the results of a function type.
    fn block_type(&mut self, ty: &FuncType, index: u32) -> BlockType {
        // What this does not know was refused or will be.
        let results = ty.results().iter().map(|&ty| wasm_encoder::ValType::try_from(ty)).collect::<Result<Vec<_>, _>>();
        match (ty.params(), results.unwrap_or_default().as_slice()) {
            (_, []) => BlockType::Empty,
            (_, [one]) => BlockType::Result(*one),
            ([], _) => BlockType::FunctionType(index),
            (_, results) => {
                self.more_types.push(results.to_vec());
                BlockType::FunctionType(self.types + self.more_types.len() as u32 - 1)
            }
        }
    }

    fn import(&mut self, module: &str, name: &str, ty: TypeRef, offset: usize) -> Result<(), ProfileError> {
        let refuse = |reason| {
            let (module, name) = (shown(module), shown(name));
            Err(ProfileError::Import { module, name, reason, offset: offset as u64 })
        };
        if !HOST_MODULES.contains(&module) {
            return refuse("no host module has this name");
        }
        let TypeRef::Func(ty) = ty else { return refuse("only functions can be imported") };
        self.type_of.push(ty);
        self.info.imports.push(Import { module: module.to_owned(), name: name.to_owned() });
        Ok(())
    }

    fn export(&mut self, name: &str, kind: ExternalKind, index: u32, offset: usize) -> Result<(), ProfileError> {
        if name.starts_with(crate::RESERVED_PREFIX) {
            return Err(ProfileError::ReservedExport { name: shown(name), offset: offset as u64 });
        }
        let kind = match kind {
            ExternalKind::Func | ExternalKind::FuncExact => ExternKind::Function,
            ExternalKind::Table => ExternKind::Table,
            ExternalKind::Memory => ExternKind::Memory,
            ExternalKind::Global => ExternKind::Global,
            ExternalKind::Tag => ExternKind::Tag,
        };
        if kind == ExternKind::Function {
            // An exported function may be named by `ref.func` in code.
            self.reference(index);
            self.exported.push(index);
        }
        self.info.exports.push(Export { name: name.to_owned(), kind });
        Ok(())
    }

    fn memory(&mut self, memory: &MemoryType, offset: usize) -> Result<(), ProfileError> {
        let feature = if memory.memory64 {
            "64-bit memories"
        } else if memory.shared {
            "shared memories"
        } else if memory.page_size_log2.is_some() {
            "custom page sizes"
        } else if self.info.memory.is_some() {
            "several memories"
        } else {
            let limits = MemoryLimits { initial_pages: memory.initial, maximum_pages: memory.maximum };
            self.info.memory = Some(limits);
            self.info.initial_beyond_limit |= memory.initial > MEMORY_MAX_PAGES;
            return Ok(());
        };
        Err(off(feature, offset))
    }

    fn table(&mut self, table: &TableType, offset: usize) -> Result<(), ProfileError> {
        if table.table64 {
            return Err(off("64-bit tables", offset));
        }
        if table.shared {
            return Err(off("shared tables", offset));
        }
        self.info.tables.push(TableLimits { initial: table.initial, maximum: table.maximum });
        self.info.initial_beyond_limit |= table.initial > TABLE_MAX;
        self.info.exceptions |= is_exception(&ValType::Ref(table.element_type));
        self.tables.push(table.element_type);
        Ok(())
    }

    fn reference(&mut self, function: u32) {
        self.imports_escape |= (function as usize) < self.info.imports.len();
    }

    fn reference_in(&mut self, expression: &wasmparser::ConstExpr<'_>) -> Result<(), ProfileError> {
        for operator in expression.get_operators_reader() {
            if let Operator::RefFunc { function_index } = operator.map_err(|e| ProfileError::of_parser(&e, None))? {
                self.reference(function_index);
            }
        }
        Ok(())
    }
}

/// References to exceptions, which only engines with exceptions can read.
pub(crate) fn is_exception(ty: &ValType) -> bool {
    let ValType::Ref(reference) = ty else { return false };
    is_exception_heap(reference.heap_type())
}

pub(crate) fn is_exception_heap(ty: HeapType) -> bool {
    matches!(ty, HeapType::Abstract { ty: AbstractHeapType::Exn | AbstractHeapType::NoExn, .. })
}

fn off(feature: &'static str, offset: usize) -> ProfileError {
    ProfileError::Feature { feature, offset: offset as u64, function: None }
}

/// A name from the module, short enough for a message.
fn shown(name: &str) -> String {
    name.chars().take(80).collect()
}
