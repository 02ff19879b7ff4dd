//! What the figures were measured on.

use crate::account;

/// Name and value of each fact, in the order they are shown.
pub(crate) fn facts() -> Vec<(&'static str, String)> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let uname = rustix::system::uname();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([':', ' ', '\t']));
    let memory = account::field(&read("/proc/meminfo"), "MemTotal:").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    vec![
        ("cpu", model.to_owned()),
        ("cores", cores.to_string()),
        ("memory", format!("{} MiB", memory >> 20)),
        (
            "kernel",
            format!(
                "{} {}",
                uname.sysname().to_string_lossy(),
                uname.release().to_string_lossy()
            ),
        ),
        (
            "max_map_count",
            read("/proc/sys/vm/max_map_count").trim().to_owned(),
        ),
        ("gilliam", env!("CARGO_PKG_VERSION").to_owned()),
        ("engine", "wasmtime 48".to_owned()),
        (
            "build",
            if cfg!(debug_assertions) {
                "debug: figures mean nothing"
            } else {
                "release"
            }
            .to_owned(),
        ),
        ("date", httpdate_now()),
    ]
}

/// Seconds since 1970 as a date, in the one form that needs no calendar of ours.
fn httpdate_now() -> String {
    httpdate::fmt_http_date(std::time::SystemTime::now())
}
