//! What the node finds out about its machine.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Share of the machine's memory that instances may be promised, in percent: the rest is for everything else.
const MEMORY_PERCENT: u64 = 80;
/// Connections of clients at once, however many files may be open: each has some 16 KiB of buffers.
const CONNECTIONS_MAX: usize = 20_000;
/// Memory maps of one instance: a command has seven.
const MAPS_PER_INSTANCE: u32 = 8;
/// Memory maps of everything else: two for each slot of the engine's pools, code, threads and heaps. What the
/// slots in use need more is what instances that take HTTP need less.
const MAPS_BESIDE: u32 = 22_000;
/// Promised when the machine does not tell.
const MEMORY_BYTES_FALLBACK: u64 = 1 << 30;

/// Bytes of memory that instances may be promised.
pub(crate) fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    total_kib.map_or(MEMORY_BYTES_FALLBACK, |kib| kib * 1024 / 100 * MEMORY_PERCENT)
}

/// Instances that this process can hold; none where the kernel does not say how many memory maps it allows.
///
/// Beyond them the kernel refuses memory to the whole process, whoever asks next.
pub(crate) fn instances_max() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?;
    Some(instances_within(text.trim().parse().ok()?))
}

fn instances_within(maps: u64) -> u32 {
    let maps = u32::try_from(maps).unwrap_or(u32::MAX);
    maps.saturating_sub(MAPS_BESIDE) / MAPS_PER_INSTANCE
}

/// CPU cores this process may use.
pub(crate) fn cpus() -> u32 {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Connections that clients may hold at once: half of what may be open, for a connection to a command takes
/// two, and instances, their own connections and the control plane need the rest.
pub(crate) fn connections_max() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files / 2)
        .unwrap_or(usize::MAX)
        .clamp(1, CONNECTIONS_MAX)
}

/// Lets this process open as many files as it may: a connection to a command takes two, and the usual soft
/// limit is 1,024.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_of_instances_fit_the_usual_number_of_maps_and_a_raised_one_more() {
        assert_eq!(instances_within(65_530), 5_441);
        assert_eq!(instances_within(1_048_576), 128_322);
        assert_eq!(instances_within(1_000), 0);
        assert_eq!(
            instances_within(u64::MAX),
            (u32::MAX - MAPS_BESIDE) / MAPS_PER_INSTANCE
        );
    }
}
