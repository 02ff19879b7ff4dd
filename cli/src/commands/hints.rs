//! What to change after the failures that `ps` lists.

use std::collections::BTreeSet;

use gilliam_client::Client;
use gilliam_model::{
    api::{InstanceInfo, Instances, LimitsInfo},
    code::Code,
    hint::hint,
    name::AppName,
};

use crate::{failure::CommandResult, ui::Ui};

/// Says what to change, where a failure of an instance came from a limit.
pub(super) async fn show(ui: &Ui, client: &Client, app: &AppName, seen: &Instances) -> CommandResult {
    let reports = seen
        .instances
        .iter()
        .filter_map(|instance| instance.report.as_ref());
    let failed = reports.filter_map(|report| report.last_failure.as_ref()?.code);
    if ui.wants_json() || failed.count() == 0 {
        return Ok(());
    }
    for way in ways_out(seen, &client.limits(app).await?) {
        ui.hint(&way);
    }
    Ok(())
}

/// The failures that are shown, with their instances.
fn failures(seen: &Instances) -> impl Iterator<Item = (&InstanceInfo, Code, &str)> {
    let of_many = seen.processes.iter().flat_map(|process| &process.failures);
    seen.instances.iter().chain(of_many).filter_map(|instance| {
        let failure = instance.report.as_ref()?.last_failure.as_ref()?;
        Some((instance, failure.code?, failure.message.as_str()))
    })
}

/// Each way out once, by process type. A change makes the next release, so it goes by the limits of the
/// newest; what failed in an older one may be mended already.
fn ways_out(seen: &Instances, limits: &LimitsInfo) -> BTreeSet<String> {
    let ways = failures(seen).filter_map(|(instance, code, message)| {
        if Some(instance.release) != limits.release {
            return None;
        }
        let of_process = limits.processes.get(&instance.process)?;
        let way = hint(code, message, &instance.process, &of_process.limits)?;
        Some(format!("{code} of {}: {way}", instance.process))
    });
    ways.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instances(release: &str) -> Instances {
        let one = |slot: u32, failure: &str| {
            format!(
                r#"{{"name":"web.{slot}","process":"web","release":"{release}","node":"n","host":"h",
                "state":"running","report":{{"id":"a/{release}/web.{slot}@1","state":"running",
                "since":"2026-11-21T09:00:00Z",
                "memory_bytes":1,"memory_bytes_max":2,"fuel_per_s":0,"restarts":0{failure}}}}}"#
            )
        };
        let failed = r#","last_failure":{"code":"R14","message":"unreachable","at":"2026-11-21T09:00:00Z"}"#;
        let all = [one(1, failed), one(2, failed), one(3, "")].join(",");
        let text = format!(
            r#"{{"instances":[{all}],"blocked":[],"settled":true,"migration":null,"migration_failure":null}}"#
        );
        serde_json::from_str(&text).expect("instances")
    }

    #[test]
    fn each_way_out_is_said_once_and_only_for_the_newest_release() {
        let limits: LimitsInfo = serde_json::from_str(
            r#"{"release":"v2","processes":{"web":{"shape":"http-p2","limits":{},"image":{},"set":[]}}}"#,
        )
        .expect("limits");
        let said: Vec<String> = ways_out(&instances("v2"), &limits).into_iter().collect();
        assert_eq!(said, ["R14 of web: gilliam limits web memory=256MiB"]);
        assert!(ways_out(&instances("v1"), &limits).is_empty());
    }
}
