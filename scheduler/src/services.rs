//! Services of apps: what there is, with whom it is shared, and what their nodes say of them.
//!
//! Invariant: a service that a release which runs declares is not destroyed.

use std::{collections::BTreeSet, time::Duration};

use gilliam_model::{
    app::App,
    code::Code,
    name::{AppName, NodeName, ServiceName},
    release::ReleaseId,
    service::{
        self, BoundService, ServiceAnswer, ServiceInfo, ServiceRecord, ServiceState, ServiceUsage,
        ServiceVerb, ShareError, ShareService,
    },
};
use gilliam_store::{Check, records};

use crate::{
    change::{Decision, change},
    refusal::Refusal,
    release,
    shared::Shared,
};

/// Longest wait for a node that says how much is in a service: a list is shown without it then.
const USAGE_MAX: Duration = Duration::from_secs(2);
/// Longest wait for a node that answers a request or removes data.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// The services of an app, with how much is in each.
pub(crate) async fn list(shared: &Shared, app: &AppName) -> Result<Vec<ServiceInfo>, Refusal> {
    let app = shared.app(app).await?.value;
    let declared: BTreeSet<ServiceName> = match app.base() {
        Some(base) => {
            let image = release::load_image(shared, &release::load(shared, &app.name, base).await?).await?;
            image.services.into_keys().collect()
        }
        None => BTreeSet::new(),
    };
    let infos = app.services.iter().map(async |(name, record)| {
        let usage = match record.service.kind().is_on_a_node() {
            true => usage(shared, &app, name, record).await,
            false => None,
        };
        info(&app, name, record, &declared, usage)
    });
    Ok(futures::future::join_all(infos).await)
}

fn info(
    app: &App,
    name: &ServiceName,
    record: &ServiceRecord,
    declared: &BTreeSet<ServiceName>,
    usage: Option<ServiceUsage>,
) -> ServiceInfo {
    let (variable, address) = record.service.variable(name);
    let state = match (&record.of, declared.contains(name)) {
        (Some(_), _) => ServiceState::Shared,
        (None, true) => ServiceState::Bound,
        (None, false) => ServiceState::Detached,
    };
    ServiceInfo {
        name: name.clone(),
        kind: record.service.kind(),
        state,
        variable,
        address,
        quota_bytes_max: record.service.quota_bytes_max(),
        ttl_ms: record.service.ttl_ms(),
        usage,
        home: app.home.clone().filter(|_| record.service.kind().is_on_a_node()),
        of: record.of.as_ref().map(ToString::to_string),
        shared_with: record.shared_with.clone(),
        made_at: record.made_at,
    }
}

async fn usage(
    shared: &Shared,
    app: &App,
    name: &ServiceName,
    record: &ServiceRecord,
) -> Option<ServiceUsage> {
    let home = app.home.as_ref()?;
    // A node that is gone is not waited for.
    shared.nodes().get(home).filter(|node| node.is_ready())?;
    let asked = shared
        .questions
        .ask(home, bound(app, name, record), ServiceVerb::Usage, USAGE_MAX);
    let answer = asked.await.ok().filter(|answer| answer.status == 200)?;
    serde_json::from_slice(&answer.body.0).ok()
}

fn bound(app: &App, name: &ServiceName, record: &ServiceRecord) -> BoundService {
    BoundService {
        name: name.clone(),
        id: record.id(&app.name, name),
        service: record.service.clone(),
    }
}

/// What the home of a service answers.
pub(crate) async fn ask(
    shared: &Shared,
    app: &AppName,
    name: &str,
    verb: ServiceVerb,
) -> Result<ServiceAnswer, Refusal> {
    let app = shared.app(app).await?.value;
    let (name, record) = find(&app, name)?;
    if !record.service.kind().is_on_a_node() {
        let message = format!("{name} is a {} service", record.service.kind());
        return Err(Refusal::invalid(message).hint(format!("gilliam queue {name}")));
    }
    let home = home(&app)?;
    shared
        .questions
        .ask(home, bound(&app, name, record), verb, ANSWER_MAX)
        .await
}

fn find<'a>(app: &'a App, name: &str) -> Result<(&'a ServiceName, &'a ServiceRecord), Refusal> {
    app.services.get_key_value(name).ok_or_else(|| {
        let message = format!(
            "{} has no service {}",
            app.name,
            gilliam_model::text::excerpt(name)
        );
        Refusal::new(Code::S21, message)
            .hint("gilliam services lists them; [services] in gilliam.toml makes them")
    })
}

fn home(app: &App) -> Result<&NodeName, Refusal> {
    app.home.as_ref().ok_or_else(|| {
        let message = format!("no node has the services of {} yet", app.name);
        Refusal::new(Code::S22, message).hint("gilliam nodes says whether one is ready; try again")
    })
}

fn refused(error: &ShareError) -> Refusal {
    let code = match error {
        ShareError::None { .. } => Code::S21,
        ShareError::NotOwn { .. }
        | ShareError::Taken { .. }
        | ShareError::Apart { .. }
        | ShareError::Used { .. } => Code::S23,
        ShareError::Itself { .. }
        | ShareError::Queue { .. }
        | ShareError::TooMany { .. }
        | ShareError::NotShared { .. } => Code::A422,
    };
    let refusal = Refusal::new(code, error.to_string());
    match error.hint() {
        Some(hint) => refusal.hint(hint),
        None => refusal,
    }
}

fn parsed(app: &AppName, name: &str) -> Result<ServiceName, Refusal> {
    name.parse().map_err(|_| {
        let message = format!("{app} has no service {}", gilliam_model::text::excerpt(name));
        Refusal::new(Code::S21, message)
    })
}

/// Shares a service with another app.
pub(crate) async fn share(
    shared: &Shared,
    app: &AppName,
    name: &str,
    asked: &ShareService,
) -> Result<(), Refusal> {
    let name = parsed(app, name)?;
    let alias = asked.name.as_ref().unwrap_or(&name);
    change(shared, app, async || {
        let (owner, other) = (shared.app(app).await?, shared.app(&asked.with).await?);
        let (after, with) =
            service::share(&owner.value, &name, &other.value, alias).map_err(|error| refused(&error))?;
        Ok(Decision {
            checks: vec![owner.unchanged(), other.unchanged()],
            writes: vec![records::put_app(&after), records::put_app(&with)],
            remark: Some(format!("its service {name} is shared with {}", asked.with)),
            answer: (),
        })
    })
    .await
}

/// Takes a service back from another app.
pub(crate) async fn unshare(
    shared: &Shared,
    app: &AppName,
    name: &str,
    with: &AppName,
) -> Result<(), Refusal> {
    let name = parsed(app, name)?;
    change(shared, app, async || {
        let owner = shared.app(app).await?;
        let other = records::load_app(&shared.store, with).await?;
        let there = other.as_ref().map(|stored| &stored.value);
        let (after, with_after) =
            service::unshare(&owner.value, &name, with, there).map_err(|error| refused(&error))?;
        let other_check: Option<Check> = other.as_ref().map(records::Stored::unchanged);
        let mut writes = vec![records::put_app(&after)];
        writes.extend(with_after.as_ref().map(records::put_app));
        Ok(Decision {
            checks: [owner.unchanged()].into_iter().chain(other_check).collect(),
            writes,
            remark: Some(format!("its service {name} is no longer shared with {with}")),
            answer: (),
        })
    })
    .await
}

/// Removes a service and its data: first the data, then the record, so that data is never left without a record.
pub(crate) async fn destroy(shared: &Shared, app: &AppName, name: &str) -> Result<(), Refusal> {
    let name = parsed(app, name)?;
    let before = shared.app(app).await?.value;
    service::destroy(&before, &name).map_err(|error| refused(&error))?;
    in_use(shared, &before, &name).await?;
    let (_, record) = find(&before, name.as_str())?;
    if record.service.kind().is_on_a_node()
        && let Some(home) = &before.home
    {
        let verb = ServiceVerb::Destroy;
        let asked = shared
            .questions
            .ask(home, bound(&before, &name, record), verb, ANSWER_MAX);
        let answer = asked.await?;
        if answer.status != 204 {
            let message = format!("node {home} cannot remove the data of {name}");
            return Err(Refusal::new(Code::S22, message).hint("gilliam logs --node says why; try again"));
        }
    }
    change(shared, app, async || {
        let owner = shared.app(app).await?;
        let after = service::destroy(&owner.value, &name).map_err(|error| refused(&error))?;
        Ok(Decision {
            checks: vec![owner.unchanged()],
            writes: vec![records::put_app(&after)],
            remark: Some(format!("its service {name} was destroyed with its data")),
            answer: (),
        })
    })
    .await
}

/// Refuses what would take a service from processes that run.
async fn in_use(shared: &Shared, app: &App, name: &ServiceName) -> Result<(), Refusal> {
    let moving = app.migration.iter();
    let moving = moving.flat_map(|m| m.from.keys().chain(m.fallback.keys()).chain([&m.to]));
    let runs: BTreeSet<ReleaseId> = app.scale.keys().chain(moving).copied().collect();
    for id in runs {
        let image = release::load_image(shared, &release::load(shared, &app.name, id).await?).await?;
        if image.services.contains_key(name) {
            let message = format!("{name} is a service of {id}, which runs");
            let hint =
                format!("leave {name} out of gilliam.toml and deploy, or scale {id} down, then destroy it");
            return Err(Refusal::new(Code::S23, message).hint(hint));
        }
    }
    Ok(())
}

/// Refuses the end of an app whose services others use.
pub(crate) fn check_unused(app: &App) -> Result<(), Refusal> {
    let used = app
        .services
        .iter()
        .find(|(_, record)| !record.shared_with.is_empty());
    match used {
        Some((name, _)) => Err(refused(
            &service::destroy(app, name).expect_err("it is shared with others"),
        )),
        None => Ok(()),
    }
}

/// Has the home of an app that is gone remove its data. Where that does not answer the data stays there.
pub(crate) async fn forget(shared: &Shared, app: &App) {
    let Some(home) = &app.home else { return };
    if shared.nodes().get(home).is_none_or(|node| !node.is_ready()) {
        tracing::warn!(app = %app.name, node = %home, "the data of its services is left on a node that is away");
        return;
    }
    let own = app
        .services
        .iter()
        .filter(|(_, record)| record.of.is_none() && record.service.kind().is_on_a_node());
    let asked = own.map(|(name, record)| {
        let bound = bound(app, name, record);
        shared.questions.ask(home, bound, ServiceVerb::Destroy, USAGE_MAX)
    });
    for answer in futures::future::join_all(asked).await {
        if let Err(refusal) = answer {
            let error = refusal.into_error().message;
            tracing::warn!(app = %app.name, node = %home, error, "data of a service is left there");
        }
    }
}
