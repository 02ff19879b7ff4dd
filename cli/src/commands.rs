//! The commands, one a file: each has its arguments, whose comments are the help, and a `run`.

mod apps;
mod bench;
mod blob;
mod build;
mod clusters;
mod completion;
mod config;
mod create;
mod cron;
mod deploy;
mod destroy;
mod git;
mod hints;
mod image;
mod images;
mod init;
mod inspect;
pub(crate) mod internal;
mod kv;
mod limits;
mod logs;
mod node;
mod nodes;
mod open;
mod packs;
mod plan;
mod ps;
mod queue;
mod releases;
mod restart;
mod rollback;
mod run;
mod runs;
mod scale;
mod server;
mod services;
mod sim;
mod sql;
mod status;
mod store;
mod up;
mod uses;
mod version;

/// Archives on their way to a cluster, alike for `deploy`, `build` and `image`.
mod building;
/// What follows the making of a release, alike for `deploy`, `config`, `limits` and `rollback`.
mod released;
/// A run whose standard streams are those of the command, for `run`.
mod run_attached;
/// A run watched through the log, for `run` and `released`.
mod run_log;

/// A request to a service, alike for the commands of each kind.
mod service_call;

use std::io;

use clap::Subcommand;
use tokio::runtime::{Builder, Runtime};

use crate::{args::Cli, context::Context, failure::CommandResult, heap, home::Environment, ui::Ui};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(up::Args),
    Create(create::Args),
    Git(git::Args),
    Init(init::Args),
    Deploy(deploy::Args),
    Build(build::Args),
    Config(config::Args),
    Limits(limits::Args),
    Inspect(inspect::Args),
    Scale(scale::Args),
    Ps(ps::Args),
    Queue(queue::Args),
    Uses(uses::Args),
    Cron(cron::Args),
    Services(services::Args),
    Kv(kv::Args),
    Sql(sql::Args),
    Blob(blob::Args),
    Run(run::Args),
    Runs(runs::Args),
    Logs(logs::Args),
    Releases(releases::Args),
    Images(images::Args),
    Image(image::Args),
    Rollback(rollback::Args),
    Restart(restart::Args),
    Apps(apps::Args),
    Open(open::Args),
    Destroy(destroy::Args),
    Status(status::Args),
    Plan(plan::Args),
    Clusters(clusters::Args),
    Server(server::Args),
    Node(node::Args),
    Nodes(nodes::Args),
    Packs(packs::Args),
    Store(store::Args),
    Bench(bench::Args),
    Sim(sim::Args),
    Completion(completion::Args),
    Version(version::Args),
    #[command(hide = true)]
    Internal(internal::Args),
}

/// The runtime a command needs: servers use all cores, a child with limits or a single call one thread.
pub(crate) fn runtime_for(command: &Command) -> io::Result<Runtime> {
    match command {
        Command::Up(_) | Command::Node(_) | Command::Server(_) => Builder::new_multi_thread()
            .enable_all()
            .on_thread_park(heap::parked)
            .build(),
        _ => Builder::new_current_thread().enable_all().build(),
    }
}

/// Runs the command.
pub(crate) async fn run(cli: Cli, ui: &Ui, environment: Environment) -> CommandResult {
    let context = Context {
        ui,
        globals: cli.globals,
        environment,
    };
    match cli.command {
        Command::Up(args) => Box::pin(up::run(&context, args)).await,
        Command::Server(args) => server::run(&context, args).await,
        Command::Node(args) => node::run(&context, args).await,
        Command::Nodes(args) => nodes::run(&context, args).await,
        Command::Internal(_) => Ok(()), // main runs it without an async runtime
        Command::Create(args) => create::run(&context, args).await,
        Command::Git(args) => git::run(&context, args).await,
        Command::Init(args) => init::run(&context, args).await,
        Command::Deploy(args) => deploy::run(&context, args).await,
        Command::Build(args) => build::run(&context, args).await,
        Command::Config(args) => config::run(&context, args).await,
        Command::Inspect(args) => inspect::run(&context, args).await,
        Command::Limits(args) => limits::run(&context, args).await,
        Command::Scale(args) => scale::run(&context, args).await,
        Command::Ps(args) => ps::run(&context, args).await,
        Command::Queue(args) => queue::run(&context, args).await,
        Command::Uses(args) => uses::run(&context, args).await,
        Command::Cron(args) => cron::run(&context, args).await,
        Command::Services(args) => services::run(&context, args).await,
        Command::Kv(args) => kv::run(&context, args).await,
        Command::Sql(args) => sql::run(&context, args).await,
        Command::Blob(args) => blob::run(&context, args).await,
        Command::Run(args) => run::run(&context, args).await,
        Command::Runs(args) => runs::run(&context, args).await,
        Command::Logs(args) => logs::run(&context, args).await,
        Command::Releases(args) => releases::run(&context, args).await,
        Command::Images(args) => images::run(&context, args).await,
        Command::Image(args) => image::run(&context, args).await,
        Command::Rollback(args) => rollback::run(&context, args).await,
        Command::Restart(args) => restart::run(&context, args).await,
        Command::Apps(args) => apps::run(&context, args).await,
        Command::Open(args) => open::run(&context, args).await,
        Command::Destroy(args) => destroy::run(&context, args).await,
        Command::Status(args) => status::run(&context, args).await,
        Command::Plan(args) => plan::run(&context, args).await,
        Command::Clusters(args) => clusters::run(&context, args),
        Command::Packs(args) => packs::run(&context, args).await,
        Command::Store(args) => store::run(&context, args).await,
        Command::Bench(args) => bench::run(&context, args).await,
        Command::Sim(args) => sim::run(&context, &args),
        Command::Completion(args) => completion::run(&args),
        Command::Version(args) => version::run(&context, args).await,
    }
}
