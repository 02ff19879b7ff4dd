//! The main of test programs that are also what they start: the build child and its sandboxes.
//!
//! Their entry of `Cargo.toml` has `harness = false`, for a harness would write to the child's stdout.

use std::process::ExitCode;

use gilliam_builder::{child, sandbox};
use rustix::process::{Signal, set_parent_process_death_signal};

/// Runs the role that the first argument names, else the tests, or those whose names hold it.
pub fn run(tests: &[(&str, fn())]) -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_ref().and_then(|first| first.to_str()) {
        Some("build-child") => return child::main(args, &["sandbox"]),
        Some("sandbox") => {
            // As the platform's child roles do.
            set_parent_process_death_signal(Some(Signal::KILL)).expect("death signal");
            return sandbox::main(args);
        }
        _ => {}
    }
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    for (name, test) in tests {
        if only.as_ref().is_none_or(|only| name.contains(only.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

/// Tests with their names: `tests![one, another]`.
macro_rules! tests {
    ($($test:ident),* $(,)?) => { &[$((stringify!($test), $test as fn())),*] };
}
pub(crate) use tests;
