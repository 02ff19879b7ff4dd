//! `gilliam services`.

use gilliam_client::Client;
use gilliam_model::{
    name::{AppName, ServiceName},
    quantity::Unit,
    service::{ServiceInfo, ServiceState, ShareService},
};

use crate::{
    amounts,
    context::Context,
    failure::{CommandError, CommandResult},
    ui::Ui,
};

const SERVICES: &[&str] = &[
    "SERVICE", "TYPE", "STATE", "USED", "QUOTA", "ITEMS", "NODE", "ENV",
];

/// Shows an app's services: key-value stores, databases, blobs, volumes and queues.
///
/// They are declared in gilliam.toml and made by the release that names them first. Their data
/// stays when a later release no longer names them (detached), until they are destroyed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Lets another app's processes use a service.
    Share {
        /// The service.
        name: ServiceName,
        /// The other app.
        #[arg(long, value_name = "APP")]
        with: AppName,
        /// How the other app calls it; by default the same.
        #[arg(long = "as", value_name = "NAME")]
        alias: Option<ServiceName>,
    },
    /// Takes a service back from another app.
    Unshare {
        /// The service.
        name: ServiceName,
        /// The other app.
        #[arg(long, value_name = "APP")]
        with: AppName,
    },
    /// Removes a service and all of its data.
    Destroy {
        /// The service.
        name: ServiceName,
        /// Repeats the service's name in place of typing it.
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
    },
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let (ui, app, client) = (context.ui, context.app()?, context.client()?);
    match args.verb {
        None => list(ui, &client, &app).await,
        Some(Verb::Share { name, with, alias }) => {
            let share = ShareService { with, name: alias };
            client.share_service(&app, &name, &share).await?;
            if ui.wants_json() {
                return ui.json(&one(&client, &app, &name).await?);
            }
            let alias = share.name.as_ref().unwrap_or(&name);
            ui.data(&format!(
                "{name} is shared with {}, which calls it {alias}",
                share.with
            ))?;
            ui.undo(&format!("gilliam services unshare {name} --with {}", share.with));
            Ok(())
        }
        Some(Verb::Unshare { name, with }) => {
            let share = ShareService { with, name: None };
            client.unshare_service(&app, &name, &share).await?;
            if ui.wants_json() {
                return ui.json(&one(&client, &app, &name).await?);
            }
            ui.data(&format!("{name} is no longer shared with {}", share.with))?;
            ui.undo(&format!("gilliam services share {name} --with {}", share.with));
            Ok(())
        }
        Some(Verb::Destroy { name, confirm }) => {
            let info = one(&client, &app, &name).await?;
            confirmed(ui, &info, confirm)?;
            client.destroy_service(&app, &name).await?;
            if ui.wants_json() {
                return ui.json(&info);
            }
            ui.data(&format!("{name} destroyed"))
        }
    }
}

async fn one(client: &Client, app: &AppName, name: &ServiceName) -> CommandResult<ServiceInfo> {
    let services = client.services(app).await?;
    let found = services.into_iter().find(|info| info.name == *name);
    found.ok_or_else(|| {
        CommandError::failed(format!("{app} has no service {name}")).hinted("gilliam services lists them")
    })
}

async fn list(ui: &Ui, client: &Client, app: &AppName) -> CommandResult {
    let services = client.services(app).await?;
    if ui.wants_json() {
        return ui.json(&services);
    }
    if services.is_empty() {
        ui.note(&format!("{app} has no services"));
        ui.hint("declare one in gilliam.toml: [services] cache = { type = \"keyvalue\" }");
        return Ok(());
    }
    let rows: Vec<_> = services.iter().map(row).collect();
    ui.table(SERVICES, &rows)?;
    if let Some(info) = services.iter().find(|info| info.state == ServiceState::Detached) {
        ui.hint(&format!(
            "no process finds {} since the newest release does not name it; its data stays until gilliam services \
             destroy {}",
            info.name, info.name
        ));
    }
    Ok(())
}

fn row(info: &ServiceInfo) -> Vec<String> {
    let none = || "-".to_string();
    let state = match (&info.of, info.shared_with.as_slice()) {
        (Some(of), _) => format!("shared, {of}"),
        (None, []) => info.state.as_str().to_string(),
        (None, with) => {
            let with: Vec<&str> = with.iter().map(AppName::as_str).collect();
            format!("{}, shared with {}", info.state.as_str(), with.join(", "))
        }
    };
    vec![
        info.name.to_string(),
        info.kind.to_string(),
        state,
        info.usage.map_or_else(none, |usage| amounts::bytes(usage.bytes)),
        info.quota_bytes_max
            .map_or_else(none, |max| Unit::Bytes.show(max)),
        info.usage
            .and_then(|usage| usage.items)
            .map_or_else(none, amounts::number),
        info.home.as_ref().map_or_else(none, ToString::to_string),
        info.variable.clone(),
    ]
}

fn confirmed(ui: &Ui, info: &ServiceInfo, given: Option<String>) -> CommandResult {
    let name = &info.name;
    let typed = match given {
        Some(typed) => typed,
        None => {
            let question = format!("This removes {name} with all of its data. Type its name to go on:");
            ui.ask(&question)?.ok_or_else(|| {
                CommandError::failed(format!("{name} was not destroyed: there is nobody to ask"))
                    .hinted(format!("pass --confirm {name}"))
            })?
        }
    };
    if typed == name.as_str() {
        return Ok(());
    }
    let message = format!("{name} was not destroyed: {typed:?} is not its name");
    Err(CommandError::failed(message))
}
