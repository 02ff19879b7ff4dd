//! The worker process: runs until it is stopped.

use std::{env, thread, time::Duration};

fn main() {
    // worker --interval SECONDS, as the Procfile says.
    let args: Vec<String> = env::args().collect();
    let interval = match args.iter().position(|arg| arg == "--interval") {
        Some(place) => args.get(place + 1).and_then(|text| text.parse().ok()),
        None => None,
    };
    let interval = Duration::from_secs(interval.unwrap_or(5));
    for turn in 1.. {
        println!("turn {turn}");
        thread::sleep(interval);
    }
}
