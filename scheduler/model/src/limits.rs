//! What one instance may use, and for how long.

use serde::{Deserialize, Serialize};

/// Limits of one instance of a process type. Every field has a default and a range; the engine enforces each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Limits {
    /// Bytes of linear memory and tables, summed over all lanes. A growth beyond is refused (R14).
    pub memory_bytes_max: u64,
    /// Fuel one request or job may burn; beyond it the guest is trapped (R20). About 10 G is a second of one core.
    pub fuel_per_request_max: u64,
    /// Share of one core in thousandths, for everything the instance does; beyond it the guest waits, nothing fails.
    pub cpu_millis: u32,
    /// Wall time of one request until its response head, in milliseconds (H12).
    pub request_ms_max: u64,
    /// Requests in progress at once in one instance; more wait in its queue.
    pub concurrency_max: u32,
    /// Requests that may wait for a place in one instance; one more is refused (H11).
    pub backlog_max: u32,
    /// Wall time from start until ready, in milliseconds (R10).
    pub boot_ms_max: u64,
    /// Wall time from the stop notice until the instance is killed, in milliseconds (R12).
    pub exit_ms_max: u64,
    /// Log lines per second over ten seconds; more are dropped and counted (L12).
    pub log_lines_per_s_max: u32,
    /// Outbound connections open at once (N02).
    pub outbound_max: u32,
    /// Requests that one lane of a 0.2 web instance serves before it is dropped: 1 is a fresh wasm instance for
    /// each request, [`REUSE_ALWAYS`] is no bound.
    pub reuse_max: u32,
    /// Wall time without a request after which warm lanes are dropped, in milliseconds; 0 keeps none.
    pub idle_ms_max: u64,
    /// Handles of one lane or command: resources, streams, futures (R22).
    pub handles_max: u32,
    /// Bytes of the headers or trailers of one message, as held in memory (R22).
    pub header_bytes_max: u64,
    /// Random bytes that one call may ask for (R22).
    pub random_bytes_max: u64,
    /// Bytes that one call of the host may hand over (R22).
    pub hostcall_bytes_max: u64,
}

/// [`Limits::reuse_max`] without a bound, `always`.
pub const REUSE_ALWAYS: u32 = u32::MAX;

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 128 << 20,
            fuel_per_request_max: 20_000_000_000,
            cpu_millis: 1_000,
            request_ms_max: 30_000,
            concurrency_max: 32,
            backlog_max: 256,
            boot_ms_max: 60_000,
            exit_ms_max: 30_000,
            log_lines_per_s_max: 100,
            outbound_max: 64,
            reuse_max: 1,
            idle_ms_max: 60_000,
            handles_max: 10_000,
            header_bytes_max: 64 << 10,
            random_bytes_max: 64 << 10,
            hostcall_bytes_max: 1 << 20,
        }
    }
}

/// A limit outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} = {value} is outside {min} to {max}")]
pub struct LimitError {
    /// The field.
    pub name: &'static str,
    /// The value as given.
    pub value: u64,
    /// Smallest value allowed.
    pub min: u64,
    /// Largest value allowed.
    pub max: u64,
}

impl Limits {
    /// Checks every field against its range.
    pub fn validate(&self) -> Result<(), LimitError> {
        let ranges: [(&'static str, u64, u64, u64); 16] = [
            ("memory_bytes_max", self.memory_bytes_max, 1 << 16, 4 << 30),
            (
                "fuel_per_request_max",
                self.fuel_per_request_max,
                100_000,
                1_000_000_000_000_000,
            ),
            ("cpu_millis", self.cpu_millis.into(), 10, 1_000),
            ("request_ms_max", self.request_ms_max, 10, 3_600_000),
            ("concurrency_max", self.concurrency_max.into(), 1, 10_000),
            ("backlog_max", self.backlog_max.into(), 0, 100_000),
            ("boot_ms_max", self.boot_ms_max, 100, 600_000),
            ("exit_ms_max", self.exit_ms_max, 0, 600_000),
            ("log_lines_per_s_max", self.log_lines_per_s_max.into(), 1, 100_000),
            ("outbound_max", self.outbound_max.into(), 0, 10_000),
            ("reuse_max", self.reuse_max.into(), 1, REUSE_ALWAYS.into()),
            ("idle_ms_max", self.idle_ms_max, 0, 86_400_000),
            // A request of an ordinary toolchain holds some dozens.
            ("handles_max", self.handles_max.into(), 100, 100_000),
            ("header_bytes_max", self.header_bytes_max, 4 << 10, 1 << 20),
            ("random_bytes_max", self.random_bytes_max, 64, 1 << 20),
            // Bodies and logs move in pieces of 64 KiB.
            ("hostcall_bytes_max", self.hostcall_bytes_max, 128 << 10, 8 << 20),
        ];
        for (name, value, min, max) in ranges {
            if !(min..=max).contains(&value) {
                return Err(LimitError {
                    name,
                    value,
                    min,
                    max,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_from_before_a_limit_was_known_gets_its_default() {
        let old = r#"{"memory_bytes_max":65536,"cpu_millis":20}"#;
        let limits: Limits = serde_json::from_str(old).expect(old);
        let expected = Limits {
            memory_bytes_max: 65_536,
            cpu_millis: 20,
            ..Limits::default()
        };
        assert_eq!(limits, expected);
    }

    #[test]
    fn defaults_are_in_range_and_a_bad_value_is_named() {
        Limits::default().validate().expect("defaults");
        let limits = Limits {
            cpu_millis: 5,
            ..Limits::default()
        };
        let error = limits.validate().expect_err("too small");
        assert_eq!(error.to_string(), "cpu_millis = 5 is outside 10 to 1000");
    }
}
