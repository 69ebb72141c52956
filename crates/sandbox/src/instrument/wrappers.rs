//! Functions of ours around those that the host calls, and around those of the host that the program calls through tables.
//!
//! The program's functions take the counter as their last parameter and return it as their last result; the host knows
//! nothing of that. An exported function's wrapper takes the counter from the global and puts it back. An import's wrapper
//! stands wherever the program names an import as a value.

use std::collections::BTreeSet;
use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{BlockType, Elements, Encode, Function, TypeSection, ValType};

use crate::scan::Scan;

/// Which wrappers a module gets. After its own functions come those of its imports, then those of its exports.
#[derive(Default)]
pub(super) struct Wrappers {
    /// The program's functions pass the counter on.
    pub passes: bool,
    /// Number of imports, all of which have a wrapper or none.
    imports: u32,
    imports_wrapped: bool,
    /// Index of the first import's wrapper.
    pub first_import: u32,
    /// Index of the first function type with the counter.
    passing_types: u32,
    /// Functions of the program that the host may call, in ascending order.
    exported: Vec<u32>,
    /// What of the exported functions code names as values, which it may only if they are named outside of code too.
    references: Vec<u32>,
}

impl Wrappers {
    pub fn new(scan: &Scan<'_>, passes: bool) -> Self {
        let imports = scan.info.imports.len() as u32;
        let mut exported: Vec<u32> = scan.exported.iter().chain(&scan.start).copied().collect();
        exported.retain(|function| *function >= imports);
        exported.sort_unstable();
        exported.dedup();
        Self {
            // Without functions of its own a program calls nothing.
            passes: passes && !scan.bodies.is_empty(),
            imports,
            imports_wrapped: scan.imports_escape,
            first_import: imports + scan.bodies.len() as u32,
            passing_types: scan.types + scan.more_types.len() as u32,
            exported,
            references: Vec::new(),
        }
    }

    pub fn passing_types(&self) -> u32 {
        self.passing_types
    }

    /// Notes which functions code names as values.
    pub fn note_references<'a>(&mut self, scan: &Scan<'_>, found: impl Iterator<Item = &'a u32>) {
        let found: BTreeSet<u32> = found.copied().collect();
        self.references = scan.exported.iter().copied().filter(|function| found.contains(function)).collect();
    }

    /// Number of wrappers.
    pub fn len(&self) -> u32 {
        if !self.passes {
            return 0;
        }
        self.first_exported() - self.first_import + self.exported.len() as u32
    }

    fn first_exported(&self) -> u32 {
        self.first_import + if self.imports_wrapped { self.imports } else { 0 }
    }

    /// The function that stands for one where the host looks for it.
    pub fn outside(&self, function: u32) -> u32 {
        match self.exported.binary_search(&function) {
            Ok(place) if self.passes => self.first_exported() + place as u32,
            _ => function,
        }
    }

    /// The function that stands for one where the program names it.
    fn inside(&self, function: u32) -> u32 {
        if self.passes && self.imports_wrapped && function < self.imports {
            self.first_import + function
        } else {
            function
        }
    }

    /// For each type of the module the one with the counter.
    pub fn types(&self, scan: &Scan<'_>, section: &mut TypeSection) {
        if !self.passes {
            return;
        }
        for (parameters, results) in &scan.function_types {
            let with_counter = |types: &[ValType]| [types, &[ValType::I64]].concat();
            section.ty().function(with_counter(parameters), with_counter(results));
        }
    }

    /// Types of all functions with a body, in their order.
    pub fn function_types(&self, scan: &Scan<'_>) -> Vec<u32> {
        let imports = self.imports as usize;
        let passing = |types: &[u32]| types.iter().map(|ty| self.passing_types + ty).collect::<Vec<u32>>();
        let mut types = passing(&scan.type_of[imports..]);
        if self.imports_wrapped {
            types.extend(passing(&scan.type_of[..imports]));
        }
        types.extend(self.exported.iter().map(|function| scan.type_of[*function as usize]));
        types
    }

    /// The wrappers' bodies, each with its length before it.
    pub fn code(&self, scan: &Scan<'_>) -> Vec<u8> {
        let mut code = Vec::new();
        if !self.passes {
            return code;
        }
        let parameters = |function: u32| scan.function_types[scan.type_of[function as usize] as usize].0.len() as u32;
        for import in 0..if self.imports_wrapped { self.imports } else { 0 } {
            import_wrapper(import, parameters(import), scan.globals).encode(&mut code);
        }
        for &function in &self.exported {
            export_wrapper(function, parameters(function), scan.globals).encode(&mut code);
        }
        code
    }

    /// Functions that code may name because they were exported. Their wrappers are exported now, so a segment declares them.
    pub fn declared(&self) -> Option<Elements<'static>> {
        let functions: Vec<u32> = self.references.iter().map(|function| self.inside(*function)).collect();
        (self.passes && !functions.is_empty()).then(|| Elements::Functions(functions.into()))
    }
}

/// Parameters and the counter in, results and the counter out. The host acts only if there is fuel.
fn import_wrapper(import: u32, parameters: u32, counter: u32) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    code.local_get(parameters).global_set(counter);
    code.local_get(parameters).i64_const(0).i64_lt_s().if_(BlockType::Empty).unreachable().end();
    for parameter in 0..parameters {
        code.local_get(parameter);
    }
    code.call(import).global_get(counter).end();
    function
}

fn export_wrapper(exported: u32, parameters: u32, counter: u32) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    for parameter in 0..parameters {
        code.local_get(parameter);
    }
    code.global_get(counter).call(exported).global_set(counter).end();
    function
}

/// Renames functions where the program names them outside of code.
pub(super) struct Inside<'a>(pub &'a Wrappers);

impl Reencode for Inside<'_> {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error<Infallible>> {
        Ok(self.0.inside(function))
    }
}

/// Renames functions where the host looks for them.
pub(super) struct Outside<'a>(pub &'a Wrappers);

impl Reencode for Outside<'_> {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error<Infallible>> {
        Ok(self.0.outside(function))
    }
}
