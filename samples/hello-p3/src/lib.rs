//! A web process for WASI 0.3: exports `wasi:http/handler`, whose calls are asynchronous, so that one
//! instance answers several requests at a time.

mod answer;

use answer::{Answer, echo, text};
use wasip3::cli::environment::get_environment;
use wasip3::clocks::monotonic_clock;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::Request;

const NANOSECONDS_PER_MS: u64 = 1_000_000;

struct Hello;

wasip3::http::service::export!(Hello);

impl Guest for Hello {
    async fn handle(request: Request) -> Answer {
        let target = request.get_path_with_query().unwrap_or_else(|| "/".to_owned());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/" => text(200, home()),
            "/env" => text(200, environment()),
            "/sleep" => sleep(query).await,
            "/echo" => echo(request),
            _ => text(404, format!("nothing at {path}\n")),
        }
    }
}

fn home() -> String {
    let variables = get_environment();
    let value = |name: &str| {
        let found = variables.iter().find(|(key, _)| key == name);
        found.map_or("(not set)", |(_, value)| value.as_str())
    };
    format!(
        "hello from WASI 0.3, {} of {}\n",
        value("GILLIAM_INSTANCE"),
        value("GILLIAM_RELEASE")
    )
}

fn environment() -> String {
    get_environment()
        .iter()
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect()
}

/// `/sleep?ms=N` answers after N milliseconds; other requests are answered meanwhile.
async fn sleep(query: &str) -> Answer {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("ms="));
    let Some(ms) = value.and_then(|value| value.parse::<u64>().ok()) else {
        return text(400, "parameter ms must be a number\n".to_owned());
    };
    monotonic_clock::wait_for(ms.saturating_mul(NANOSECONDS_PER_MS)).await;
    text(200, format!("slept {ms} ms\n"))
}
