//! The NaN rule where the engine has none: the result of every float instruction gets canonical NaN bits, but no earlier
//! than somebody could see the difference.
//!
//! A result that only feeds other arithmetic needs nothing. It does as soon as its bits may be seen: when it is stored,
//! reinterpreted, passed on. Where a local, or the result of a `select`, is given nothing but such results (an
//! accumulator), this can wait until it is read for such a purpose. Where it may also hold bits from elsewhere (memory,
//! parameters) it cannot: a NaN's payload loaded from memory must survive, as it does on an engine with a NaN rule of its
//! own.
//!
//! This file follows the operand stack and notes what locals are given; `joined` decides what that means.

use wasmparser::{FuncValidator, Operator, ValType, ValidatorResources};

use super::joined::{Joined, joined};
use super::plan::{Action, Kind};
use super::webs::{self, Event, Trace};
use crate::operators::{Facts, FloatRole, Shape};

/// What is known of a value on the operand stack.
#[derive(Clone, Copy)]
pub(super) enum Value {
    /// Its bits are determined, and may be anything.
    Exact,
    /// Determined as well, and no NaN with bits of its own: canonicalising it would change nothing.
    Clean,
    /// Comes from a point where code can be injected; `direct` if canonicalising it now would do as well.
    From { point: u32, direct: bool },
}

/// A place after which a value may have to be canonicalised.
pub(super) struct Point {
    pub action: u32,
    /// Shape of an arithmetic result; nothing where a local or the result of a `select` is read.
    pub shape: Option<Shape>,
    /// How many loops it stands in.
    pub loops: u32,
    /// Its bits may be seen.
    pub observed: bool,
    /// Used as a number of the shapes `f32x4` and `f64x2`.
    pub used_as: [bool; 2],
}

/// Steps that following a function's locals may take for each byte of it, and at most, beside a few for each function.
const STEPS_FOR_EACH_BYTE: usize = 8;
const STEPS_AT_LEAST: usize = 1 << 16;
const STEPS_AT_MOST: usize = 1 << 22;

/// Follows the operand stack of one function.
pub(super) struct NanFlow {
    stack: Vec<Value>,
    /// Where the current block's operands begin: dead code takes no more than these.
    base: usize,
    points: Vec<Point>,
    /// For each local, whether it holds floats.
    floats: Vec<bool>,
    parameters: u32,
    events: Vec<Event>,
    /// What locals are set to, as the events number it.
    set_to: Vec<Value>,
    /// What `select`s choose from, and the point of the result.
    chosen: Vec<(u32, [Value; 2])>,
    /// For each open block, whether it is a loop; and how many are.
    blocks: Vec<bool>,
    loops: u32,
    /// Exceptions may take ways that the events do not tell of.
    catches: bool,
}

impl NanFlow {
    pub fn new(validator: &FuncValidator<ValidatorResources>, parameters: u32) -> Self {
        let float =
            |index| matches!(validator.get_local_type(index), Some(ValType::F32 | ValType::F64 | ValType::V128));
        Self {
            stack: Vec::new(),
            base: 0,
            points: Vec::new(),
            floats: (0..validator.len_locals()).map(float).collect(),
            parameters,
            events: Vec::new(),
            set_to: Vec::new(),
            chosen: Vec::new(),
            blocks: Vec::new(),
            loops: 0,
            catches: false,
        }
    }

    /// Tells where the operands of the block begin in which the next instruction stands.
    pub fn set_base(&mut self, base: usize) {
        self.base = base;
    }

    /// Follows one instruction that takes `takes` and leaves `leaves` operands; `height` is the stack's after it, `next`
    /// the offset of the instruction that follows.
    pub fn step(
        &mut self,
        actions: &mut Vec<Action>,
        operator: &Operator<'_>,
        facts: &Facts,
        (takes, leaves): (u32, u32),
        (height, next): (u32, u32),
    ) {
        match operator {
            Operator::LocalGet { local_index } if self.is_float(*local_index) => {
                let point = self.point(actions, next, None);
                self.events.push(Event::Get { local: *local_index, read: point });
                self.stack.push(Value::From { point, direct: true });
            }
            Operator::LocalSet { local_index } => {
                let value = self.pop();
                self.set(*local_index, value);
            }
            Operator::LocalTee { local_index } => {
                let value = self.pop();
                self.set(*local_index, value);
                self.stack.push(value);
            }
            Operator::Drop => {
                self.pop();
            }
            Operator::Select | Operator::TypedSelect { .. } => self.select(actions, next),
            Operator::F32Const { value } => self.stack.push(constant(is_clean_f32(value.bits()))),
            Operator::F64Const { value } => self.stack.push(constant(is_clean_f64(value.bits()))),
            Operator::V128Const { value } => {
                let bits = value.i128() as u128;
                let clean = (0..4).all(|lane| is_clean_f32((bits >> (32 * lane)) as u32))
                    && (0..2).all(|lane| is_clean_f64((bits >> (64 * lane)) as u64));
                self.stack.push(constant(clean));
            }
            _ => {
                self.by_role(actions, facts.float, takes, leaves, next);
                self.control(operator);
            }
        }
        // Dead code and the ends of blocks: whatever the validator says is there has determined bits.
        self.stack.resize(height as usize, Value::Exact);
    }

    fn by_role(&mut self, actions: &mut Vec<Action>, role: FloatRole, takes: u32, leaves: u32, next: u32) {
        match role {
            FloatRole::Arithmetic(from, to) => {
                (0..takes).for_each(|_| self.use_as(from));
                let point = self.point(actions, next, Some(to));
                self.stack.push(Value::From { point, direct: true });
            }
            FloatRole::Numeric(from) => {
                (0..takes).for_each(|_| self.use_as(from));
                self.stack.push(Value::Exact);
            }
            FloatRole::Convert => {
                // Lanes of integers can be a float's bits.
                let value = self.pop();
                self.observe(value);
                self.stack.push(Value::Clean);
            }
            FloatRole::Lanes => {
                let mut clean = true;
                for _ in 0..takes {
                    let value = self.pop();
                    self.observe(value);
                    clean &= self.is_clean_once_observed(value);
                }
                self.stack.push(constant(clean));
            }
            FloatRole::Absolute => {
                // A canonical NaN stays one.
                let value = match self.pop() {
                    Value::From { point, .. } => Value::From { point, direct: true },
                    value => value,
                };
                self.stack.push(value);
            }
            FloatRole::Sign => {
                let value = self.pop();
                self.stack.push(sign_changed(value));
            }
            FloatRole::CopySign => {
                let sign = self.pop();
                self.observe(sign);
                let value = self.pop();
                self.stack.push(sign_changed(value));
            }
            FloatRole::Bits => {
                for _ in 0..takes {
                    let value = self.pop();
                    self.observe(value);
                }
                self.stack.extend((0..leaves).map(|_| Value::Exact));
            }
        }
    }

    /// The result is one of two values, which are canonicalised together if both of them can wait.
    fn select(&mut self, actions: &mut Vec<Action>, next: u32) {
        self.pop();
        let values = [self.pop(), self.pop()];
        let result = match values {
            [Value::Clean, Value::Clean] => Value::Clean,
            [Value::Clean | Value::From { direct: true, .. }, Value::Clean | Value::From { direct: true, .. }] => {
                let point = self.point(actions, next, None);
                self.chosen.push((point, values));
                Value::From { point, direct: true }
            }
            _ => {
                values.into_iter().for_each(|value| self.observe(value));
                Value::Exact
            }
        };
        self.stack.push(result);
    }

    fn control(&mut self, operator: &Operator<'_>) {
        let event = match operator {
            Operator::Block { .. } => Event::Block,
            Operator::TryTable { try_table } => {
                self.catches |= !try_table.catches.is_empty();
                Event::Block
            }
            Operator::Loop { .. } => Event::Loop,
            Operator::If { .. } => Event::If,
            Operator::Else => Event::Else,
            Operator::End => Event::End,
            Operator::Br { relative_depth } => {
                self.events.push(Event::Branch(*relative_depth));
                Event::Leave
            }
            Operator::BrIf { relative_depth } => Event::Branch(*relative_depth),
            Operator::BrTable { targets } => {
                self.events.extend(targets.targets().filter_map(Result::ok).map(Event::Branch));
                self.events.push(Event::Branch(targets.default()));
                Event::Leave
            }
            Operator::Return | Operator::Unreachable | Operator::Throw { .. } | Operator::ThrowRef => Event::Leave,
            _ => return,
        };
        match event {
            Event::Block | Event::Loop | Event::If => {
                self.blocks.push(matches!(event, Event::Loop));
                self.loops += u32::from(matches!(event, Event::Loop));
            }
            Event::End => self.loops -= u32::from(self.blocks.pop().unwrap_or(false)),
            _ => {}
        }
        self.events.push(event);
    }

    /// At the end of the function, whose body is so long: marks the points where code is needed.
    pub fn finish(mut self, actions: &mut [Action], body: usize) {
        let trace = self.trace(body);
        let Joined { webs, read_by } = joined(&mut self.points, &trace, self.parameters, &self.set_to, &self.chosen);
        for (point, web) in self.points.iter().zip(read_by) {
            let (shape, needed) = match web.map(|web| webs[web as usize]) {
                None => (point.shape, point.observed),
                Some(web) => {
                    let other_use = match web.shape {
                        Some(Shape::F32x4) => point.used_as[1],
                        Some(Shape::F64x2) => point.used_as[0],
                        _ => false,
                    };
                    (web.shape, !web.determined() && (point.observed || other_use))
                }
            };
            // A web without arithmetic results has no shape and needs nothing.
            actions[point.action as usize].kind = Kind::Canonical { shape, needed: needed && shape.is_some() };
        }
    }

    /// How values go through locals. Where that is not followed, each local is one place, which holds anything.
    fn trace(&self, body: usize) -> Trace {
        let locals = self.floats.len() as u32;
        let budget = body.saturating_mul(STEPS_FOR_EACH_BYTE).saturating_add(STEPS_AT_LEAST).min(STEPS_AT_MOST);
        if self.floats.iter().any(|float| *float)
            && !self.catches
            && let Some(trace) = webs::trace(&self.events, locals, budget)
        {
            return trace;
        }
        let mut trace = Trace { places: locals, unknown: true, ..Trace::default() };
        for event in &self.events {
            match *event {
                Event::Set { local, value } => trace.sets.push((local, value)),
                Event::Get { local, read } => trace.gets.push((local, read)),
                _ => {}
            }
        }
        trace
    }

    fn is_float(&self, local: u32) -> bool {
        self.floats.get(local as usize).is_some_and(|float| *float)
    }

    fn pop(&mut self) -> Value {
        if self.stack.len() > self.base { self.stack.pop().unwrap_or(Value::Exact) } else { Value::Exact }
    }

    fn point(&mut self, actions: &mut Vec<Action>, at: u32, shape: Option<Shape>) -> u32 {
        let action = actions.len() as u32;
        actions.push(Action { at, kind: Kind::Canonical { shape, needed: false } });
        self.points.push(Point { action, shape, loops: self.loops, observed: false, used_as: [false; 2] });
        self.points.len() as u32 - 1
    }

    fn observe(&mut self, value: Value) {
        if let Value::From { point, .. } = value {
            self.points[point as usize].observed = true;
        }
    }

    /// Whether a value has no NaN with bits of its own where it is observed. Canonical lanes of single precision have none
    /// in the other shape either; two of them that are taken for a double are no NaN at all.
    fn is_clean_once_observed(&self, value: Value) -> bool {
        match value {
            Value::Clean => true,
            Value::From { point, direct: true } => {
                matches!(self.points[point as usize].shape, Some(Shape::F32 | Shape::F32x4))
            }
            Value::From { direct: false, .. } | Value::Exact => false,
        }
    }

    /// The top of the stack is used as a number.
    fn use_as(&mut self, shape: Shape) {
        let Value::From { point, .. } = self.pop() else { return };
        let point = &mut self.points[point as usize];
        if point.shape.is_some_and(|known| known != shape) {
            point.observed = true;
        }
        match shape {
            Shape::F32x4 => point.used_as[0] = true,
            Shape::F64x2 => point.used_as[1] = true,
            Shape::F32 | Shape::F64 => {}
        }
    }

    fn set(&mut self, local: u32, value: Value) {
        if self.is_float(local) {
            self.events.push(Event::Set { local, value: self.set_to.len() as u32 });
            self.set_to.push(value);
        }
    }
}

fn sign_changed(value: Value) -> Value {
    match value {
        Value::From { point, .. } => Value::From { point, direct: false },
        // A canonical NaN with its sign changed is not canonical any more.
        Value::Clean | Value::Exact => Value::Exact,
    }
}

fn constant(clean: bool) -> Value {
    if clean { Value::Clean } else { Value::Exact }
}

fn is_clean_f32(bits: u32) -> bool {
    !f32::from_bits(bits).is_nan() || bits == 0x7fc0_0000
}

fn is_clean_f64(bits: u64) -> bool {
    !f64::from_bits(bits).is_nan() || bits == 0x7ff8_0000_0000_0000
}
