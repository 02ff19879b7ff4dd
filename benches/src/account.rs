//! What the kernel says of processes: CPU time and memory.

use anyhow::Context as _;

use crate::load::as_f64;

/// CPU time a process has used, in microseconds, in steps of a clock tick (10 ms).
pub(crate) fn cpu_us(pid: i32) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("stat")?.1;
    let mut numbers = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let user = numbers.next().context("utime")??;
    let system = numbers.next().context("stime")??;
    Ok((user + system) * 1_000_000 / rustix::param::clock_ticks_per_second())
}

/// CPU time the present threads of a process have used, in nanoseconds.
///
/// A thread that ends takes its time with it: compare looks at a process whose threads stay.
pub(crate) fn cpu_ns_of_threads(pid: i32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the two looks.
        let Ok(text) = std::fs::read_to_string(thread?.path().join("schedstat")) else {
            continue;
        };
        let ran = text.split_whitespace().next().context("schedstat")?;
        sum += ran.parse::<u64>()?;
    }
    Ok(sum)
}

/// Memory of a process and of the kernel for it, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Resident pages, files included.
    pub(crate) resident: u64,
    /// Of these those that are not a file's.
    pub(crate) anonymous: u64,
    /// Page tables.
    pub(crate) tables: u64,
    /// The kernel's own objects, of the whole machine: sockets, maps, tasks.
    pub(crate) kernel: u64,
}

impl Memory {
    pub(crate) fn of(pid: i32) -> anyhow::Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let machine = std::fs::read_to_string("/proc/meminfo")?;
        Ok(Self {
            resident: field(&status, "VmRSS:")?,
            anonymous: field(&status, "RssAnon:")? + field(&status, "RssShmem:")?,
            tables: field(&status, "VmPTE:")?,
            kernel: field(&machine, "Slab:")? + field(&machine, "KernelStack:")?,
        })
    }

    /// How much more of each there is than in `before`, for each of `count`.
    pub(crate) fn each_since(&self, before: &Self, count: u64) -> [f64; 3] {
        let each = |now: u64, then: u64| (as_f64(now) - as_f64(then)) / as_f64(count.max(1));
        [
            each(self.resident, before.resident),
            each(self.tables, before.tables),
            each(self.kernel, before.kernel),
        ]
    }
}

/// Memory that only this process keeps, in bytes: what ending it would give back, page tables included.
pub(crate) fn unshared_bytes(pid: i32) -> anyhow::Result<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(field(&rollup, "Private_Dirty:")? + field(&rollup, "Private_Clean:")? + field(&status, "VmPTE:")?)
}

/// Memory that may still be used on this machine, in bytes.
pub(crate) fn available_bytes() -> anyhow::Result<u64> {
    field(&std::fs::read_to_string("/proc/meminfo")?, "MemAvailable:")
}

/// Memory maps of a process.
pub(crate) fn maps(pid: i32) -> anyhow::Result<u64> {
    let maps = std::fs::read(format!("/proc/{pid}/maps"))?;
    Ok(maps.split(|byte| *byte == b'\n').count() as u64)
}

/// A line `Name:   123 kB`, in bytes.
pub(crate) fn field(text: &str, name: &str) -> anyhow::Result<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .with_context(|| format!("the kernel says no {name}"))?;
    let number = line.split_whitespace().next().context("a number")?;
    Ok(number.parse::<u64>()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let pid = std::process::id().cast_signed();
        let before = cpu_ns_of_threads(pid).expect("schedstat");
        assert!(std::hint::black_box((0..1_000_000u64).fold(0, |a, b| a ^ b)) < u64::MAX);
        assert!(cpu_ns_of_threads(pid).expect("schedstat") >= before);
        cpu_us(pid).expect("stat");
        let memory = Memory::of(pid).expect("status");
        assert!(memory.resident >= memory.anonymous && memory.anonymous > 0);
        assert!(memory.tables > 0 && memory.kernel > 0);
        assert!(unshared_bytes(pid).expect("rollup") > 0);
        assert!(maps(pid).expect("maps") > 1);
    }

    #[test]
    fn a_field_is_in_bytes_and_a_missing_one_is_named() {
        assert_eq!(field("A:  1 kB\nB:\t 20 kB\n", "B:").expect("B"), 20 << 10);
        assert_eq!(
            field("", "VmRSS:").expect_err("none").to_string(),
            "the kernel says no VmRSS:"
        );
    }
}
