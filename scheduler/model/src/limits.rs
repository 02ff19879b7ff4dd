//! What one instance may use, and for how long.
//!
//! One table below is the source of the fields, their keys, units, defaults and ranges; whatever reads, shows
//! or checks a limit goes by it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    code::Code,
    quantity::{ALWAYS, Unit},
    text::{excerpt, wire_text},
};

/// [`Limits::reuse_max`] without a bound, `always`.
pub const REUSE_ALWAYS: u32 = u32::MAX;

macro_rules! limits {
    ($(
        $(#[doc = $doc:literal])+
        $field:ident: $type:ty = $default:expr,
        $name:ident $key:literal $unit:ident $min:expr => $max:expr, $code:expr;
    )*) => {
        /// Limits of one instance of a process type. Every field has a default and a range; the engine
        /// enforces each.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct Limits {
            $($(#[doc = $doc])+ pub $field: $type,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        /// The name of a limit: `memory_bytes_max` in records and the API, `memory` where people write it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum LimitName {
            $($(#[doc = $doc])+ $name,)*
        }

        impl LimitName {
            /// Every limit, in the order in which they are shown.
            pub const ALL: &'static [LimitName] = &[$(LimitName::$name),*];

            /// The field in records and the API: `memory_bytes_max`.
            pub fn field(self) -> &'static str {
                match self { $(LimitName::$name => stringify!($field)),* }
            }

            /// The key in `gilliam.toml` and `gilliam limits`: `memory`.
            pub fn key(self) -> &'static str {
                match self { $(LimitName::$name => $key),* }
            }

            /// What its value counts.
            pub fn unit(self) -> Unit {
                match self { $(LimitName::$name => Unit::$unit),* }
            }

            /// Its smallest and largest value.
            pub fn range(self) -> (u64, u64) {
                match self { $(LimitName::$name => ($min, $max)),* }
            }

            /// The code of what happens at the limit; none when nothing fails.
            pub fn code(self) -> Option<Code> {
                match self { $(LimitName::$name => $code),* }
            }
        }

        impl Limits {
            /// The value of a limit.
            pub fn get(&self, name: LimitName) -> u64 {
                match name { $(LimitName::$name => u64::from(self.$field)),* }
            }

            /// Sets a limit; a value outside its range becomes the nearest inside.
            pub fn set(&mut self, name: LimitName, value: u64) {
                let (min, max) = name.range();
                let value = value.clamp(min, max);
                match name {
                    $(LimitName::$name => {
                        self.$field = value.try_into().expect("a limit's range fits its field");
                    })*
                }
            }
        }
    };
}

limits! {
    /// Bytes of linear memory and tables, summed over all lanes. A growth beyond is refused (R14).
    memory_bytes_max: u64 = 128 << 20,
    Memory "memory" Bytes 1 << 16 => 4 << 30, Some(Code::R14);

    /// Share of one core in thousandths, for everything the instance does; beyond it the guest waits, nothing
    /// fails.
    cpu_millis: u32 = 1_000,
    Cpu "cpu" CpuShare 10 => 1_000, None;

    /// Fuel one request or job may burn; beyond it the guest is trapped (R20). About 10 G is a second of one
    /// core.
    fuel_per_request_max: u64 = 20_000_000_000,
    FuelPerRequest "fuel_per_request" Fuel 100_000 => 1_000_000_000_000_000, Some(Code::R20);

    /// Wall time of one request until its response head, in milliseconds (H12).
    request_ms_max: u64 = 30_000,
    RequestTimeout "request_timeout" Millis 10 => 3_600_000, Some(Code::H12);

    /// Requests in progress at once in one instance; more wait in its queue.
    concurrency_max: u32 = 32,
    Concurrency "concurrency" Count 1 => 10_000, None;

    /// Requests that may wait for a place in one instance; one more is refused (H11).
    backlog_max: u32 = 256,
    Backlog "backlog" Count 0 => 100_000, Some(Code::H11);

    /// Requests that one lane of a 0.2 web instance serves before it is dropped: 1 is a fresh wasm instance
    /// for each request, [`REUSE_ALWAYS`] is no bound.
    reuse_max: u32 = 1,
    Reuse "reuse" Uses 1 => ALWAYS, None;

    /// Wall time without a request after which warm lanes are dropped, in milliseconds; 0 keeps none.
    idle_ms_max: u64 = 60_000,
    Idle "idle" Millis 0 => 86_400_000, None;

    /// Wall time from start until ready, in milliseconds (R10).
    boot_ms_max: u64 = 60_000,
    BootTimeout "boot_timeout" Millis 100 => 600_000, Some(Code::R10);

    /// Wall time from the stop notice until the instance is killed, in milliseconds (R12).
    exit_ms_max: u64 = 30_000,
    ExitTimeout "exit_timeout" Millis 0 => 600_000, Some(Code::R12);

    /// Log lines per second over ten seconds; more are dropped and counted (L12).
    log_lines_per_s_max: u32 = 100,
    LogLines "log_lines" Count 1 => 100_000, Some(Code::L12);

    /// Outbound connections open at once (N02).
    outbound_max: u32 = 64,
    Outbound "outbound" Count 0 => 10_000, Some(Code::N02);

    /// Handles of one lane or command: resources, streams, futures (R22). A request of an ordinary toolchain
    /// holds some dozens.
    handles_max: u32 = 10_000,
    Handles "handles" Count 100 => 100_000, Some(Code::R22);

    /// Bytes of the headers or trailers of one message, as held in memory (R22).
    header_bytes_max: u64 = 64 << 10,
    HeaderBytes "header_bytes" Bytes 4 << 10 => 1 << 20, Some(Code::R22);

    /// Random bytes that one call may ask for (R22).
    random_bytes_max: u64 = 64 << 10,
    RandomBytes "random_bytes" Bytes 64 => 1 << 20, Some(Code::R22);

    /// Bytes that one call of the host may hand over (R22). Bodies and logs move in pieces of 64 KiB.
    hostcall_bytes_max: u64 = 1 << 20,
    HostcallBytes "hostcall_bytes" Bytes 128 << 10 => 8 << 20, Some(Code::R22);
}

/// A limit outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} = {} is outside {} to {}",
    .name.key(),
    .name.show(*.value),
    .name.show(.name.range().0),
    .name.show(.name.range().1)
)]
pub struct LimitError {
    /// The limit.
    pub name: LimitName,
    /// The value as given.
    pub value: u64,
}

impl LimitError {
    /// The way out.
    pub fn hint(&self) -> String {
        let name = self.name;
        format!(
            "choose a value in that range; the default is {}",
            name.show(Limits::default().get(name))
        )
    }
}

/// Text that names no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a limit")]
pub struct LimitNameError {
    /// The text as given, cut to a printable length.
    pub value: String,
}

impl LimitNameError {
    /// The way out: the names there are.
    pub fn hint(&self) -> String {
        let keys: Vec<&str> = LimitName::ALL.iter().map(|name| name.key()).collect();
        format!("the limits are {}", keys.join(", "))
    }
}

impl LimitName {
    /// The limit with this key, as people write it.
    pub fn of_key(key: &str) -> Result<Self, LimitNameError> {
        let found = Self::ALL.iter().find(|name| name.key() == key);
        found
            .copied()
            .ok_or_else(|| LimitNameError { value: excerpt(key) })
    }

    /// Its value as people write it: `64MiB`.
    pub fn show(self, value: u64) -> String {
        self.unit().show(value)
    }

    /// Whether a value is in its range.
    pub fn check(self, value: u64) -> Result<(), LimitError> {
        let (min, max) = self.range();
        if (min..=max).contains(&value) {
            Ok(())
        } else {
            Err(LimitError { name: self, value })
        }
    }
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.field())
    }
}

impl FromStr for LimitName {
    type Err = LimitNameError;
    fn from_str(value: &str) -> Result<Self, LimitNameError> {
        let found = Self::ALL.iter().find(|name| name.field() == value);
        found.copied().ok_or_else(|| LimitNameError {
            value: excerpt(value),
        })
    }
}

wire_text!(LimitName);

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for LimitName {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        String::schema()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for LimitName {}

impl Limits {
    /// Checks every field against its range.
    pub fn validate(&self) -> Result<(), LimitError> {
        LimitName::ALL
            .iter()
            .try_for_each(|name| name.check(self.get(*name)))
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
    fn defaults_are_in_range_and_a_bad_value_is_named_with_its_range() {
        Limits::default().validate().expect("defaults");
        let limits = Limits {
            cpu_millis: 5,
            ..Limits::default()
        };
        let error = limits.validate().expect_err("too small");
        assert_eq!(error.to_string(), "cpu = 0.005 is outside 0.01 to 1");
        assert_eq!(error.hint(), "choose a value in that range; the default is 1");
    }

    #[test]
    fn every_limit_takes_both_ends_of_its_range_and_nothing_beyond() {
        for name in LimitName::ALL {
            let (min, max) = name.range();
            for value in [min, max] {
                let mut limits = Limits::default();
                limits.set(*name, value);
                assert_eq!(limits.get(*name), value, "{name}");
                limits.validate().expect("the end of a range is in it");
                assert_eq!(name.unit().parse(&name.show(value)), Some(value), "{name}");
            }
            let beyond = [min.checked_sub(1), max.checked_add(1)];
            for value in beyond.into_iter().flatten() {
                let error = name.check(value).expect_err("outside");
                let range = format!("is outside {} to {}", name.show(min), name.show(max));
                assert!(error.to_string().ends_with(&range), "{error}");
                let mut limits = Limits::default();
                limits.set(*name, value);
                limits.validate().expect("set stays in range");
            }
        }
    }

    #[test]
    fn a_limit_goes_by_its_field_in_records_and_by_its_key_with_people() {
        for name in LimitName::ALL {
            assert_eq!(LimitName::of_key(name.key()), Ok(*name));
            assert_eq!(name.field().parse(), Ok(*name));
        }
        let error = LimitName::of_key("memry").expect_err("no limit");
        assert_eq!(error.to_string(), "\"memry\" is not a limit");
        assert!(error.hint().starts_with("the limits are memory, cpu, "));
    }
}
