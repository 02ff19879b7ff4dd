//! `[uses]`: what an app calls of others: `billing = { app = "billing", process = "web" }`.

use std::collections::BTreeMap;

use gilliam_model::{
    name::{AppName, ProcessName, ServiceName},
    route::WEB,
    service::Service,
    text::excerpt,
    uses::{USES_MAX, Use, Uses},
};
use toml::Spanned;

use super::{ManifestError, Section, Value, content, unfit};

const APP: &str = "app";
const PROCESS: &str = "process";

/// Reads the uses of an app whose services are these: a name is one of either.
pub(super) fn read(
    text: &str,
    section: &Section,
    services: &BTreeMap<ServiceName, Service>,
) -> Result<Uses, ManifestError> {
    if let Some(one_too_many) = section.keys().nth(USES_MAX) {
        let message = format!("{USES_MAX} other apps are the most that an app can use");
        return Err(content(text, one_too_many.span().start, message, None));
    }
    let mut uses = Uses::new();
    for (key, value) in section {
        let at = key.span().start;
        let name = key.get_ref().parse::<ServiceName>();
        let name = name.map_err(|error| content(text, at, error.to_string(), None))?;
        if services.contains_key(&name) {
            let message = format!("{name} is a service already: {name}.internal would be both");
            let hint = format!("rename it: {name}-app = {{ app = \"{name}\" }}");
            return Err(content(text, at, message, Some(hint)));
        }
        let used = one(text, &name, value)?;
        uses.insert(name, used);
    }
    Ok(uses)
}

/// One use: the app is called as the name is, and the process `web`, unless it is said.
fn one(text: &str, name: &ServiceName, value: &Spanned<Value>) -> Result<Use, ManifestError> {
    let Value::Table(table) = value.get_ref() else {
        let expected = "a table such as { app = \"billing\", process = \"web\" }";
        return Err(unfit(
            text,
            value.span().start,
            name.as_str(),
            value.get_ref(),
            expected,
        ));
    };
    let (mut app, mut process) = (None, None);
    for (key, value) in table {
        let (key_at, at) = (key.span().start, value.span().start);
        let (key, value) = (key.get_ref().as_str(), value.get_ref());
        let Value::Text(given) = value else {
            return Err(unfit(text, at, key, value, "a name"));
        };
        let invalid = |error: gilliam_model::name::NameError| content(text, at, error.to_string(), None);
        match key {
            APP => app = Some(given.parse::<AppName>().map_err(invalid)?),
            PROCESS => process = Some(given.parse::<ProcessName>().map_err(invalid)?),
            _ => {
                let message = format!("unknown key {:?}", excerpt(key));
                let hint = format!("the keys are {APP}, {PROCESS}");
                return Err(content(text, key_at, message, Some(hint)));
            }
        }
    }
    let same = || {
        let app = name.as_str().parse::<AppName>();
        app.map_err(|error| content(text, value.span().start, error.to_string(), None))
    };
    Ok(Use {
        app: app.map_or_else(same, Ok)?,
        process: process.unwrap_or_else(|| WEB.parse().expect("web is a process name")),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::parse, *};

    fn uses(text: &str) -> Result<Uses, String> {
        let entries = crate::procfile::parse(b"web: web.wasm").expect("Procfile");
        let manifest = parse(text.as_bytes(), &entries).map_err(|error| error.to_string())?;
        Ok(manifest.processes["web"].uses.clone())
    }

    #[test]
    fn every_process_has_the_uses_of_its_app() {
        let found =
            uses("[uses]\nbilling = {}\nmail = { app = \"mailer\", process = \"api\" }").expect("uses");
        let shown: Vec<String> = found
            .iter()
            .map(|(name, used)| format!("{name}: {used}"))
            .collect();
        assert_eq!(shown, ["billing: web of billing", "mail: api of mailer"]);
    }

    #[test]
    fn what_cannot_be_used_is_refused_where_it_stands() {
        for (text, message) in [
            ("[uses]\nbilling = \"x\"", "line 2, column 11"),
            ("[uses]\nbilling = { host = \"x\" }", "unknown key \"host\""),
            ("[uses]\nbilling = { app = 7 }", "app = 7 is not a name"),
            ("[uses]\nbilling = { app = \"Not An App\" }", "line 2, column 19"),
            ("[uses]\nqueues = { app = \"x\" }", "the platform's own"),
            (
                "[uses]\ncache = { app = \"x\" }\n[services]\ncache = { type = \"keyvalue\" }",
                "cache is a service already",
            ),
        ] {
            let refused = uses(text).expect_err(text);
            assert!(refused.contains(message), "{text}: {refused}");
        }
    }
}
