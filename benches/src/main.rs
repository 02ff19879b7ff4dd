//! What gilliam costs, measured beside its peers in one run on this machine.
//!
//! Every figure comes from a real process through its public face: `gilliam up` with a deployed sample, a native hyper
//! server that answers the same bytes, `wasmtime serve` on the same component. The server is pinned to the first core,
//! the load to the second, so that a ratio means something on a small machine; absolute numbers are this machine's.
//!
//! Standard output carries a table for people, then one JSON line per figure:
//! `{"bench":"http","name":"gilliam 0.2 requests","value":30000.0,"unit":"1/s"}`.

mod figure;
mod load;
mod native;
mod peer;
mod platform;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::figure::Figures;

/// Measures gilliam beside its peers.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Seconds of load per server.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Connections kept open by the load.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// The `gilliam` to measure; by default the one beside this program.
    #[arg(long)]
    gilliam: Option<PathBuf>,
    /// The folder of the built samples.
    #[arg(long, default_value = "samples")]
    samples: PathBuf,
    /// The `wasmtime` to compare with; without it that peer is left out, and the table says so.
    #[arg(long)]
    wasmtime: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Requests per second and latency beside native hyper and wasmtime serve.
    Http,
    /// Time from asking for an instance until it answers.
    Coldstart,
    /// Memory of an instance that waits.
    Density,
    /// The native peer: answers every request with the bytes of FILE.
    #[command(hide = true)]
    Native { file: PathBuf },
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(What::Native { file }) = &args.what {
        let body = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        return native::serve(body);
    }
    let beside = std::env::current_exe()?.with_file_name("gilliam");
    let gilliam = args.gilliam.clone().unwrap_or(beside);
    let mut figures = Figures::default();
    load::pin_to_last_core();
    if matches!(args.what, None | Some(What::Http)) {
        let plan = peer::Plan {
            gilliam: &gilliam,
            wasmtime: args.wasmtime.as_deref(),
            samples: &args.samples,
            load: load::Load {
                duration: Duration::from_secs(args.seconds),
                connections: args.connections,
            },
        };
        peer::http(&plan, &mut figures)?;
    }
    if matches!(args.what, None | Some(What::Coldstart)) {
        platform::coldstart(&gilliam, &args.samples, &mut figures)?;
    }
    if matches!(args.what, None | Some(What::Density)) {
        platform::density(&gilliam, &args.samples, &mut figures)?;
    }
    figures.print();
    Ok(())
}
