//! What users change when a limit is hit.

use crate::{
    code::Code,
    limits::{LimitName, Limits},
    name::ProcessName,
};

/// The way out after `code`, for an instance of `process` with `limits`; none where nothing of the platform's
/// is to be changed.
///
/// `message` is what is known of the failure. Several limits share R22: their messages begin with the key of
/// the one that was hit.
pub fn hint(code: Code, message: &str, process: &ProcessName, limits: &Limits) -> Option<String> {
    let raise = |name: LimitName| raise(name, process, limits);
    Some(match code {
        Code::R14 | Code::R15 => raise(LimitName::Memory),
        Code::R20 => raise(LimitName::FuelPerRequest),
        Code::H12 => raise(LimitName::RequestTimeout),
        Code::H11 => format!(
            "more instances take more requests: gilliam scale; or let more wait: {}",
            raise(LimitName::Backlog)
        ),
        Code::R10 => raise(LimitName::BootTimeout),
        Code::R12 => raise(LimitName::ExitTimeout),
        Code::L12 => raise(LimitName::LogLines),
        Code::N01 => "grant the host in allowed_outbound_hosts of gilliam.toml and deploy".to_string(),
        Code::N02 => raise(LimitName::Outbound),
        Code::R21 => {
            "every process has the same call stack; look for a recursion without end in the backtrace"
                .to_string()
        }
        Code::R22 => raise(hit(code, message)?),
        _ => return None,
    })
}

/// A message with a hint at the end of its first line: what follows may be a long backtrace.
pub fn with_hint(message: &str, hint: Option<&str>) -> String {
    let Some(hint) = hint else {
        return message.to_string();
    };
    match message.split_once('\n') {
        Some((first, rest)) => format!("{first}; hint: {hint}\n{rest}"),
        None => format!("{message}; hint: {hint}"),
    }
}

/// The limit of `code` that `message` begins with.
fn hit(code: Code, message: &str) -> Option<LimitName> {
    let first = message.split_whitespace().next()?;
    let of_code = LimitName::ALL.iter().filter(|name| name.code() == Some(code));
    of_code.copied().find(|name| name.key() == first)
}

/// The command that doubles a limit, as far as its range goes.
fn raise(name: LimitName, process: &ProcessName, limits: &Limits) -> String {
    let (value, (_, max)) = (limits.get(name), name.range());
    if value >= max {
        let shown = name.show(value);
        return format!(
            "{} is as large as it can be, {shown}; spread the work over more instances",
            name.key()
        );
    }
    let more = name.show(value.max(1).saturating_mul(2).min(max));
    format!("gilliam limits {process} {}={more}", name.key())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hinted(code: Code, message: &str, limits: &Limits) -> Option<String> {
        hint(code, message, &"web".parse().expect("a name"), limits)
    }

    #[test]
    fn every_limit_that_can_be_hit_names_the_command_that_raises_it() {
        for name in LimitName::ALL {
            let Some(code) = name.code() else { continue };
            let limits = Limits::default();
            let way = hinted(code, &format!("{} was hit", name.key()), &limits).expect("a hint");
            let twice = name.show(limits.get(*name) * 2);
            let command = format!("gilliam limits web {}={twice}", name.key());
            assert!(way.ends_with(&command), "{code}: {way}");
        }
    }

    #[test]
    fn a_hint_stays_within_the_range() {
        let mut limits = Limits {
            memory_bytes_max: 3 << 30,
            outbound_max: 0,
            ..Limits::default()
        };
        assert_eq!(
            hinted(Code::R14, "", &limits).as_deref(),
            Some("gilliam limits web memory=4GiB")
        );
        assert_eq!(
            hinted(Code::N02, "", &limits).as_deref(),
            Some("gilliam limits web outbound=2")
        );
        limits.memory_bytes_max = 4 << 30;
        assert_eq!(
            hinted(Code::R14, "", &limits).as_deref(),
            Some("memory is as large as it can be, 4GiB; spread the work over more instances")
        );
    }

    #[test]
    fn a_hint_stands_before_a_backtrace() {
        assert_eq!(with_hint("a\nb", Some("do")), "a; hint: do\nb");
        assert_eq!(with_hint("a", Some("do")), "a; hint: do");
        assert_eq!(with_hint("a\nb", None), "a\nb");
    }

    #[test]
    fn what_no_limit_causes_has_no_hint() {
        for code in [Code::R23, Code::H10, Code::H13, Code::B10, Code::L13] {
            assert_eq!(hinted(code, "handles", &Limits::default()), None);
        }
        assert_eq!(
            hinted(Code::R22, "the node has no free slot", &Limits::default()),
            None
        );
    }
}
