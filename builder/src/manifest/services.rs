//! `[services]`: what an app keeps data in: `cache = { type = "keyvalue", ttl = "1h" }`.

use std::collections::BTreeMap;

use gilliam_model::{
    name::ServiceName,
    service::{SERVICES_MAX, Service, ServiceKind},
    text::excerpt,
};
use toml::Spanned;

use super::{ManifestError, Section, Value, content, unfit};

const TYPE: &str = "type";

/// Reads the services of an app.
pub(super) fn read(text: &str, section: &Section) -> Result<BTreeMap<ServiceName, Service>, ManifestError> {
    if let Some(one_too_many) = section.keys().nth(SERVICES_MAX) {
        let message = format!("{SERVICES_MAX} services are the most that an app can have");
        return Err(content(text, one_too_many.span().start, message, None));
    }
    let mut services = BTreeMap::new();
    let mut variables: BTreeMap<String, ServiceName> = BTreeMap::new();
    for (key, value) in section {
        let at = key.span().start;
        let name = key.get_ref().parse::<ServiceName>();
        let name = name.map_err(|error| content(text, at, error.to_string(), None))?;
        let service = one(text, key.get_ref(), value)?;
        let (variable, _) = service.variable(&name);
        if let Some(other) = variables.insert(variable.clone(), name.clone()) {
            let message = format!("{name} and {other} would both be found by {variable}");
            let hint = format!("rename {name}");
            return Err(content(text, at, message, Some(hint)));
        }
        services.insert(name, service);
    }
    Ok(services)
}

fn one(text: &str, key: &str, value: &Spanned<Value>) -> Result<Service, ManifestError> {
    let at = value.span().start;
    let Value::Table(table) = value.get_ref() else {
        let expected = "a table such as { type = \"keyvalue\" }";
        return Err(unfit(text, at, key, value.get_ref(), expected));
    };
    let kind = table.get(TYPE).ok_or_else(|| {
        let kinds = ServiceKind::ALL.map(ServiceKind::as_str).join(", ");
        let message = format!("service {:?} has no type", excerpt(key));
        content(text, at, message, Some(format!("the types are {kinds}")))
    })?;
    let kind_at = kind.span().start;
    let Value::Text(kind) = kind.get_ref() else {
        return Err(unfit(text, kind_at, TYPE, kind.get_ref(), "a type of service"));
    };
    let kind: ServiceKind = kind
        .parse()
        .map_err(|error: gilliam_model::service::ServiceKindError| {
            content(text, kind_at, error.to_string(), Some(error.hint()))
        })?;
    let mut service = Service::new(kind);
    for (key, value) in table.iter().filter(|(key, _)| key.get_ref() != TYPE) {
        let (key_at, at) = (key.span().start, value.span().start);
        let (key, value) = (key.get_ref().as_str(), value.get_ref());
        let option = Service::option(kind, key)
            .map_err(|error| content(text, key_at, error.to_string(), Some(error.hint())))?;
        let unit = option.unit();
        let amount = value.amount(unit);
        let amount = amount.ok_or_else(|| unfit(text, at, key, value, unit.expected()))?;
        service
            .set(option, amount)
            .map_err(|error| content(text, at, error.to_string(), Some(error.hint())))?;
    }
    Ok(service)
}

#[cfg(test)]
mod tests {
    use gilliam_model::service::ServiceOption;

    use super::{super::parse, *};
    use crate::procfile::Entry;

    fn entries() -> Vec<Entry> {
        crate::procfile::parse(b"web: web.wasm").expect("Procfile")
    }

    #[track_caller]
    fn refused(text: &str, message: &str, hint: Option<&str>) {
        let error = parse(text.as_bytes(), &entries()).expect_err(text);
        assert_eq!(error.to_string(), format!("gilliam.toml {message}"));
        assert_eq!(error.hint().as_deref(), hint);
    }

    #[test]
    fn every_type_is_read_with_its_options() {
        let text = r#"
            [services]
            emails = { type = "queue" }
            cache = { type = "keyvalue", ttl = "1h", quota = "64MiB" }
            db = { type = "sql", quota = "2GiB" }
            uploads = { type = "blob" }
            [services.data]
            type = "volume"
            size = "1GiB"
        "#;
        let services = parse(text.as_bytes(), &entries()).expect(text).services;
        let mut cache = Service::new(ServiceKind::Keyvalue);
        cache.set(ServiceOption::Ttl, 3_600_000).expect("an hour");
        cache.set(ServiceOption::Quota, 64 << 20).expect("a size");
        assert_eq!(services["cache"], cache);
        assert_eq!(services["emails"], Service::new(ServiceKind::Queue));
        assert_eq!(services["db"].quota_bytes_max(), Some(2 << 30));
        assert_eq!(services["data"].quota_bytes_max(), Some(1 << 30));
        assert_eq!(services.len(), 5);
    }

    #[test]
    fn what_cannot_be_a_service_is_refused_with_the_way_out() {
        let kinds = Some("the types are queue, keyvalue, sql, blob, volume");
        refused(
            "[services]\ncache = { type = \"redis\" }",
            "line 2, column 18: \"redis\" is not a type of service",
            kinds,
        );
        refused(
            "[services]\ncache = { ttl = \"1h\" }",
            "line 2, column 9: service \"cache\" has no type",
            kinds,
        );
        refused(
            "[services]\ndb = { type = \"sql\", ttl = \"1h\" }",
            "line 2, column 22: a sql service has no ttl",
            Some("sql has quota"),
        );
        refused(
            "[services]\nc = { type = \"keyvalue\", ttl = \"soon\" }",
            "line 2, column 32: ttl = \"soon\" is not a time such as 30s or 500ms",
            None,
        );
        refused(
            "[services]\nc = { type = \"keyvalue\", quota = \"1KiB\" }",
            "line 2, column 34: quota = 1KiB is outside 1MiB to 1024GiB",
            Some("choose a value in that range"),
        );
        refused(
            "[services]\ncache = \"keyvalue\"",
            "line 2, column 9: cache = \"keyvalue\" is not a table such as { type = \"keyvalue\" }",
            None,
        );
        refused(
            "[services]\nqueues = { type = \"blob\" }",
            "line 2, column 1: service name \"queues\" is the platform's own: an app finds its queues at \
             queues.internal",
            None,
        );
    }

    #[test]
    fn two_services_of_one_name_are_refused() {
        let text = "[services]\na = { type = \"sql\" }\na = { type = \"blob\" }";
        refused(text, "line 3, column 1: duplicate key", None);
    }
}
