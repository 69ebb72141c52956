//! The clock of the measurements.

use std::time::Duration;

/// Processor time of this process: what else the machine does is not counted.
pub fn processor_time() -> Duration {
    #[repr(C)]
    struct Time {
        seconds: i64,
        nanoseconds: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Time) -> i32;
    }
    const PROCESS: i32 = 2;
    let mut time = Time { seconds: 0, nanoseconds: 0 };
    // SAFETY: `time` is laid out as the call expects on 64-bit Linux, and outlives it.
    assert_eq!(unsafe { clock_gettime(PROCESS, &raw mut time) }, 0, "this system counts processor time");
    Duration::new(time.seconds.cast_unsigned(), time.nanoseconds as u32)
}
