//! What every engine keeps beside a running instance, and how it reads the end of a run.

use std::sync::Arc;

use crate::engine::MachineError;
use crate::instrument::{fuel_of, set_fuel, stack_of, with_fuel};
use crate::unit::{Outcome, Status, Unit};
use crate::wasi::{Files, Function, GuestMemory, Host, MOST_PARAMETERS, Meter, Stop};
use crate::{FUEL_MAX, MEMORY_MAX_PAGES, STACK_MAX, TABLE_MAX};

/// Bytes of linear memory that an instance may have.
pub(super) const MEMORY_MAX: usize = MEMORY_MAX_PAGES as usize * 65_536;

/// One run: the host, the fuel limit, and what stopped the program if it was the host.
pub(super) struct Run {
    host: Host,
    limit: i64,
    stop: Option<Stop>,
    failure: Option<MachineError>,
}

/// How the engine saw the program end.
pub(super) enum End {
    /// `_start` returned.
    Returned,
    /// A trap, an uncaught exception, or a host call that stopped the program.
    Trapped,
}

impl Run {
    pub(super) fn new(unit: &Unit, files: &Arc<Files>) -> Self {
        Self {
            host: Host::new(&unit.id(), unit.input.clone(), files.clone()),
            limit: unit.fuel_limit.min(FUEL_MAX).cast_signed(),
            stop: None,
            failure: None,
        }
    }

    /// What is added to the counter after instantiation.
    pub(super) fn granted(&self) -> i64 {
        with_fuel(self.limit)
    }

    /// A host call. Returns the counter after it, and the error number unless the program must stop.
    pub(super) fn call(
        &mut self,
        function: Function,
        arguments: &[u64; MOST_PARAMETERS],
        memory: &mut [u8],
        counter: i64,
    ) -> (i64, Option<i32>) {
        let limit = self.limit.cast_unsigned();
        let mut meter = Meter::new(self.limit.saturating_sub(fuel_of(counter)).max(0).cast_unsigned(), limit);
        let answer = self.host.call(function, arguments, &mut GuestMemory::new(memory), &mut meter);
        // One below zero stands for everything beyond the limit.
        let left = limit.checked_sub(meter.used()).map_or(-1, u64::cast_signed);
        let counter = set_fuel(counter, left);
        match answer {
            Ok(errno) => (counter, Some(i32::from(errno.number()))),
            Err(stop) => {
                self.stop = Some(stop);
                (counter, None)
            }
        }
    }

    /// Whether a memory may grow to `desired` bytes.
    pub(super) fn memory_may_be(desired: usize) -> bool {
        desired <= MEMORY_MAX
    }

    /// Whether a table may grow to `desired` entries.
    pub(super) fn table_may_be(desired: usize) -> bool {
        desired as u64 <= TABLE_MAX
    }

    /// Note that the machine failed, whatever the engine makes of it.
    pub(super) fn fail(&mut self, failure: MachineError) {
        self.failure.get_or_insert(failure);
    }

    /// The result, from how the program ended and what the counter holds.
    pub(super) fn finish(self, end: &End, counter: i64) -> Result<Outcome, MachineError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let (output, log) = self.host.into_written();
        let fuel_left = fuel_of(counter);
        let status = match (end, self.stop) {
            _ if fuel_left < 0 => Status::OutOfFuel,
            (_, Some(Stop::Output)) => Status::OutputLimit,
            (_, Some(Stop::Exit(0))) | (End::Returned, _) => Status::Ok,
            (_, Some(Stop::Exit(_) | Stop::Fuel)) => Status::Failed,
            (End::Trapped, None) if stack_of(counter) > STACK_MAX => Status::StackLimit,
            (End::Trapped, None) => Status::Failed,
        };
        let output = if status == Status::Ok { output } else { log.clone() };
        let fuel = self.limit.saturating_sub(fuel_left.max(0)).cast_unsigned();
        Ok(Outcome { status, output, log, fuel })
    }
}

/// An argument as 64 bits without a sign.
pub(crate) trait Unsigned {
    fn unsigned(self) -> u64;
}

impl Unsigned for i32 {
    fn unsigned(self) -> u64 {
        u64::from(self.cast_unsigned())
    }
}

impl Unsigned for i64 {
    fn unsigned(self) -> u64 {
        self.cast_unsigned()
    }
}

/// Define every host function in a linker. What is named here but not defined here is the calling file's: its
/// `Caller`, `State` and `Error`, and its `call` for the engine's part of a host call.
macro_rules! offer {
    ($linker:ident $($variant:ident $module:literal $name:literal ($($parameter:ident),*) -> $result:ident;)*) => {
        $(offer!(@named $linker, $variant, $module, $name, $result, ($($parameter),*), (a b c d e f g h i), ());)*
    };
    // Give each parameter a name, one by one.
    (@named $linker:ident, $variant:ident, $module:literal, $name:literal, $result:ident,
     ($next:ident $(, $rest:ident)*), ($first:ident $($names:ident)*), ($($named:ident $type:ident)*)) => {
        offer!(@named $linker, $variant, $module, $name, $result, ($($rest),*), ($($names)*), ($($named $type)* $first $next))
    };
    (@named $linker:ident, $variant:ident, $module:literal, $name:literal, $result:ident,
     (), ($($names:ident)*), ($($named:ident $type:ident)*)) => {
        $linker.func_wrap(
            $module,
            $name,
            |caller: Caller<'_, State> $(, $named: $type)*| -> Result<offer!(@type $result), Error> {
                #[allow(unused_mut, reason = "some functions have no parameter")]
                let mut arguments = [0; $crate::wasi::MOST_PARAMETERS];
                let given: &[u64] = &[$($crate::engine::state::Unsigned::unsigned($named)),*];
                arguments[..given.len()].copy_from_slice(given);
                let errno = call(caller, $crate::wasi::Function::$variant, &arguments)?;
                Ok(offer!(@answer $result, errno))
            },
        )?
    };
    (@type i32) => { i32 };
    (@type nothing) => { () };
    (@answer i32, $errno:ident) => { $errno };
    (@answer nothing, $errno:ident) => {{ let _ = $errno; }};
}
pub(crate) use offer;
