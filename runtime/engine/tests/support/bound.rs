//! The sample `ledger`, bound to a database and a volume.

use std::{path::Path, sync::OnceLock};

use gilliam_engine::{HttpInstance, Loaded};
use gilliam_model::{
    Timestamp,
    limits::Limits,
    service::{BoundService, Service, ServiceId, ServiceKind, ServiceOption},
};
use gilliam_services::{Bound, Services};
use http_body_util::Full;

use super::{Answer, DEADLINE, collect, config, loaded, process, sample};

/// The sample.
pub fn ledger() -> Loaded {
    static LOADED: OnceLock<Loaded> = OnceLock::new();
    LOADED.get_or_init(|| loaded(&sample("ledger/web.wasm"))).clone()
}

/// A database `db` and a volume `data` of an app, each of this size.
pub fn services(node_folder: &Path, size: u64) -> (Services, Bound) {
    let services = Services::open(node_folder).expect("services");
    let named = |name: &str, kind| {
        let mut service = Service::new(kind);
        service.set(ServiceOption::Quota, size).expect("quota");
        BoundService {
            name: name.parse().expect("name"),
            id: ServiceId {
                app: "shop".parse().expect("app"),
                name: name.parse().expect("name"),
                made_at: Timestamp::UNIX_EPOCH,
            },
            service,
        }
    };
    let all = [named("db", ServiceKind::Sql), named("data", ServiceKind::Volume)];
    let bound = services.bind(&all);
    (services, bound)
}

/// An instance that is bound to services.
pub async fn start_bound(loaded: &Loaded, bound: &Bound, limits: Limits) -> HttpInstance {
    let (mut config, _log) = config(limits);
    process(&mut config).services = bound.clone();
    HttpInstance::start(loaded, config).await.expect("starts")
}

/// Its answer to a request with a body.
pub async fn post(instance: &HttpInstance, path: &str, body: &str) -> Answer {
    let request = http::Request::post(format!("http://app.localhost{path}"));
    let request = request.body(Full::from(body.to_owned())).expect("request");
    let response = tokio::time::timeout(DEADLINE, instance.call(request))
        .await
        .expect("it ends");
    collect(response.expect("an answer")).await
}
