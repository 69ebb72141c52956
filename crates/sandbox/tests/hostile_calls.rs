//! Host functions called in any order with anything: they answer or stop the program, within their limits, and are paid.

mod common;

use std::sync::Arc;

use noria_sandbox::wasi::{Files, Function, GuestMemory, Host, LOG_MAX, MOST_PARAMETERS, Meter, OUTPUT_MAX};
use noria_sandbox::{Unit, program_id};
use proptest::prelude::*;

/// Small numbers, addresses near both ends of a small memory, and anything.
fn argument() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0_u64..8, 3 => 0_u64..4_100, 1 => 0xffff_fff0_u64..0x1_0000_0000, 1 => any::<u64>()]
}

fn call() -> impl Strategy<Value = (usize, [u64; MOST_PARAMETERS])> {
    (0..Function::ALL.len(), proptest::array::uniform9(argument()))
}

fn files() -> Arc<Files> {
    let contents = |text: &str| Arc::from(text.as_bytes());
    let files = [
        ("a".to_owned(), contents("first")),
        ("d/b".to_owned(), contents("second")),
        ("d/e/c".to_owned(), contents("")),
    ];
    Arc::new(Files::new(files).expect("good paths"))
}

proptest! {
    #![proptest_config(common::cases(1_000))]

    #[test]
    fn any_calls_are_answered_within_their_limits(
        calls in proptest::collection::vec(call(), 1..60),
        mut memory in proptest::collection::vec(prop_oneof![3 => Just(0_u8), 1 => 0_u8..5, 1 => Just(b'a'), 1 => any::<u8>()], 0..4_096),
        limit in 0_u64..2_000_000,
    ) {
        let unit = Unit { program_id: program_id(b""), input: Arc::from(&b"some input"[..]), fuel_limit: limit };
        let mut host = Host::new(&unit.id(), unit.input.clone(), files());
        let mut used = 0;
        for (function, arguments) in calls {
            let function = Function::ALL[function];
            let mut meter = Meter::new(used, limit);
            let answer = host.call(function, &arguments, &mut GuestMemory::new(&mut memory), &mut meter);
            prop_assert!(meter.used() > used, "{} costs nothing", function.name());
            used = meter.used();
            if answer.is_err() {
                break;
            }
            prop_assert!(used <= limit, "{} went on beyond the limit", function.name());
        }
        let (output, log) = host.into_written();
        prop_assert!(output.len() <= OUTPUT_MAX && log.len() <= LOG_MAX);
        // Each byte was paid for.
        prop_assert!(output.len() as u64 <= 8 * used);
    }
}
