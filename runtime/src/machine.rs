//! What the node finds out about its machine.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Share of the machine's memory that instances may be promised, in percent: the rest is for everything else.
const MEMORY_PERCENT: u64 = 80;
/// Connections of clients at once, however many files may be open: each has some 16 KiB of buffers.
const CONNECTIONS_MAX: usize = 20_000;
/// What a small instance that waits takes of the machine, page tables and the kernel's share included.
const INSTANCE_BYTES: u64 = 40 << 10;
/// Share of the machine's memory that instances may really take, in percent.
const INSTANCES_MEMORY_PERCENT: u64 = 90;
/// Promised when the machine does not tell.
const MEMORY_BYTES_FALLBACK: u64 = 1 << 30;

/// Bytes of memory that instances may be promised.
pub(crate) fn memory_bytes() -> u64 {
    total_bytes().map_or(MEMORY_BYTES_FALLBACK, |bytes| bytes / 100 * MEMORY_PERCENT)
}

/// None where the machine does not tell.
fn total_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    total_kib.map(|kib| kib * 1024)
}

/// Instances that this process can hold, of which the engines can run `commands_max`: memory sets a bound of its
/// own. Instances with guard pages and those that take HTTP are fewer; each kind is refused at its own bound.
pub(crate) fn instances_max(commands_max: u32) -> u32 {
    total_bytes().map_or(commands_max, |bytes| instances_within(bytes, commands_max))
}

fn instances_within(memory_bytes: u64, commands_max: u32) -> u32 {
    let fit = memory_bytes / 100 * INSTANCES_MEMORY_PERCENT / INSTANCE_BYTES;
    commands_max.min(u32::try_from(fit).unwrap_or(u32::MAX))
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
    fn memory_and_the_engines_bound_the_instances_of_a_node() {
        assert_eq!(instances_within(24 << 30, 1_000_000), 566_231);
        assert_eq!(instances_within(24 << 30, 5_441), 5_441);
        assert_eq!(instances_within(1 << 30, 1_000_000), 23_592);
        assert_eq!(instances_within(u64::MAX, u32::MAX), u32::MAX);
    }
}
