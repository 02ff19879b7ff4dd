//! The worker process: runs until it is stopped.

use std::{env, thread, time::Duration};

fn main() {
    let args: Vec<String> = env::args().collect();
    let interval = match args.as_slice() {
        [_, flag, seconds] if flag == "--interval" => seconds.parse().ok(),
        _ => None,
    };
    let Some(interval) = interval.map(Duration::from_secs) else {
        eprintln!("usage: worker --interval SECONDS");
        std::process::exit(1);
    };
    for turn in 1.. {
        println!("{} turn {turn}", greeting::greeting());
        thread::sleep(interval);
    }
}
