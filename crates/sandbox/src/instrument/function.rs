//! Validates one function and plans what is injected into it, in a single walk over its instructions.

use wasm_encoder::{BlockType, ValType};
use wasmparser::{self, FuncValidatorAllocations, FunctionBody, Operator, OperatorsReader};

use super::flow::Flow;
use super::nan::NanFlow;
use super::plan::{Action, Instead, Kind, Plan};
use super::{Counter, Options};
use crate::operators;
use crate::prices;
use crate::profile::{FUNCTION_MAX, LOCALS_MAX, NESTING_MAX, OPERANDS_MAX, ProfileError};
use crate::scan::{Body, is_exception, is_exception_heap};

/// What a function must know of its module.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub imports: u32,
    pub imports_escape: bool,
    /// For each function type, a block's type with its results.
    pub block_types: &'a [BlockType],
    pub options: Options,
    /// Index of the first type of the functions that pass the counter on: for each type of the module one, in its order.
    pub passing_types: u32,
    /// Index of the first import's wrapper.
    pub import_wrappers: u32,
}

impl Context<'_> {
    /// Whether functions take the counter as their last parameter, and return it as their last result.
    pub fn passes(&self) -> bool {
        self.options.fuel == Counter::Local
    }
}

/// Validates a function and decides what is injected.
pub(super) fn plan(
    function: Body<'_>,
    context: Context<'_>,
    allocations: FuncValidatorAllocations,
) -> (Result<Plan, ProfileError>, FuncValidatorAllocations) {
    let (index, ty) = (function.validator.index, function.validator.ty);
    let mut validator = function.validator.into_validator(allocations);
    let result = walk(&mut validator, &function.body, ty, context).map_err(|error| match error {
        Error::Parser(error) => ProfileError::of_parser(&error, Some(index)),
        Error::Off { feature, offset } => ProfileError::Feature { feature, offset, function: Some(index) },
        Error::Limit { what, found, limit, offset } => {
            ProfileError::Limit { what, found, limit, offset, function: Some(index) }
        }
    });
    (result, validator.into_allocations())
}

enum Error {
    Parser(wasmparser::BinaryReaderError),
    Off { feature: &'static str, offset: u64 },
    Limit { what: &'static str, found: u64, limit: u64, offset: u64 },
}

impl From<wasmparser::BinaryReaderError> for Error {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Parser(error)
    }
}

fn limit(what: &'static str, found: u64, limit: u64, at: usize) -> Result<(), Error> {
    if found <= limit { Ok(()) } else { Err(Error::Limit { what, found, limit, offset: at as u64 }) }
}

/// Types of exceptions in instructions that are not about exceptions.
fn mentions_exceptions(operator: &Operator<'_>) -> bool {
    match operator {
        Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => {
            matches!(blockty, wasmparser::BlockType::Type(ty) if is_exception(ty))
        }
        Operator::RefNull { hty } => is_exception_heap(*hty),
        Operator::TypedSelect { ty } => is_exception(ty),
        _ => false,
    }
}

/// What is written instead of an instruction where functions pass the counter on.
fn instead(operator: &Operator<'_>, context: Context<'_>, parameters: u32) -> Option<Instead> {
    if !context.passes() {
        return None;
    }
    match *operator {
        Operator::Call { function_index } if function_index >= context.imports => {
            Some(Instead::Call { function: function_index })
        }
        Operator::CallIndirect { type_index, table_index } => {
            Some(Instead::CallIndirect { ty: type_index, table: table_index })
        }
        Operator::RefFunc { function_index } if function_index < context.imports => {
            Some(Instead::RefFunc { import: function_index })
        }
        Operator::LocalGet { local_index } if local_index == parameters => Some(Instead::LocalGet),
        Operator::LocalSet { local_index } if local_index == parameters => Some(Instead::LocalSet),
        Operator::LocalTee { local_index } if local_index == parameters => Some(Instead::LocalTee),
        _ => None,
    }
}

type Validator = wasmparser::FuncValidator<wasmparser::ValidatorResources>;

fn walk(validator: &mut Validator, body: &FunctionBody<'_>, ty: u32, context: Context<'_>) -> Result<Plan, Error> {
    let start = body.range().start;
    limit("bytes in a function", body.range().len() as u64, FUNCTION_MAX, start)?;
    let parameters = validator.len_locals();
    let mut reader = body.get_binary_reader();
    validator.read_locals(&mut reader)?;
    let locals = validator.len_locals();
    limit("locals in a function", locals.into(), LOCALS_MAX, start)?;
    let mut local_groups = Vec::new();
    let mut exceptions = false;
    for group in body.get_locals_reader()? {
        let (count, ty) = group?;
        exceptions |= is_exception(&ty);
        local_groups.push((count, ValType::try_from(ty).expect("locals are validated")));
    }

    let offset = |at: usize| (at - start) as u32;
    let code_at = offset(reader.original_position());
    let entry = prices::function().of((locals - parameters).into());
    let mut flow = Flow::new(Vec::with_capacity(body.range().len() / 8), context, code_at, entry);
    let mut nan = NanFlow::new(validator, parameters);
    let mut plan = Plan { code_at, parameters, local_groups, locals, exceptions, ..Plan::default() };

    let table = operators::table();
    let mut operators = OperatorsReader::new(reader);
    let mut deepest = 0;
    while !operators.eof() {
        let at = operators.original_position();
        let operator = operators.read()?;
        let facts = operators::facts(table, &operator);
        if let Some(feature) = facts.off {
            return Err(Error::Off { feature, offset: at as u64 });
        }
        nan.set_base(validator.get_control_frame(0).map_or(0, |frame| frame.height));
        let arity = operator.operator_arity(&validator.visitor(at)).unwrap_or_default();
        validator.op(at, &operator)?;
        let height = validator.operand_stack_height();
        if height > deepest {
            limit("operands waiting in a function", height.into(), OPERANDS_MAX, at)?;
            deepest = height;
        }
        if matches!(
            operator,
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } | Operator::TryTable { .. }
        ) {
            limit("nested blocks", validator.control_stack_height().into(), NESTING_MAX, at)?;
        }
        plan.instructions += 1;
        plan.simd |= facts.simd;
        plan.relaxed_simd |= facts.relaxed_simd;
        plan.exceptions |= facts.exceptions || mentions_exceptions(&operator);
        let next = offset(operators.original_position());
        flow.before(offset(at), &operator, facts);
        if let Some(of) = instead(&operator, context, parameters) {
            flow.actions.push(Action { at: offset(at), kind: Kind::Instead { end: next, of } });
        }
        if let Operator::RefFunc { function_index } = operator {
            plan.references.push(function_index);
        }
        nan.step(&mut flow.actions, &operator, facts, arity, (height, next));
        flow.after(next, &operator);
    }
    operators.finish()?;
    // The function's own block is counted by the validator as well.
    plan.stack = 1 + (u64::from(locals) + u64::from(deepest)) / 8;
    plan.wrapped = flow.wrapped.then(|| context.block_types[ty as usize]);
    plan.global_counter = flow.global_counter || context.options.fuel == Counter::Global;
    plan.actions = flow.actions;
    nan.finish(&mut plan.actions, body.range().len());
    Ok(plan)
}
