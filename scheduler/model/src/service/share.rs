//! Sharing: a service of one app that another finds too, and the end of a service.
//!
//! In flow the records of the apps, out flow the records as they are afterwards, or why it is refused.
//!
//! Invariant: who shares a service has the home of its owner: data is in one place.

use super::{SERVICES_MAX, SHARED_WITH_MAX, ServiceRecord};
use crate::{
    app::App,
    name::{AppName, NodeName, ServiceName},
};

/// Why a service is not shared, or not destroyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// There is none of the name.
    #[error("{app} has no service {name}")]
    None {
        /// The app.
        app: AppName,
        /// The name.
        name: ServiceName,
    },
    /// It belongs to another app.
    #[error("{name} is a service of {of}, which shares it with {app}")]
    NotOwn {
        /// The app.
        app: AppName,
        /// The name.
        name: ServiceName,
        /// Whose it is.
        of: AppName,
    },
    /// An app cannot share with itself.
    #[error("{app} has its own services anyway")]
    Itself {
        /// The app.
        app: AppName,
    },
    /// Jobs of a queue go to workers of its own app.
    #[error("{name} is a queue, whose jobs go to workers of {app}")]
    Queue {
        /// The app.
        app: AppName,
        /// The name.
        name: ServiceName,
    },
    /// The other app uses the name.
    #[error("{app} has a service {name} already")]
    Taken {
        /// The other app.
        app: AppName,
        /// The name.
        name: ServiceName,
    },
    /// The other app's data is elsewhere.
    #[error("the data of {app} is on node {home}, and that of {other} on node {other_home}")]
    Apart {
        /// The owner.
        app: AppName,
        /// Its home.
        home: NodeName,
        /// The other app.
        other: AppName,
        /// Its home.
        other_home: NodeName,
    },
    /// Too many.
    #[error("{what} is the most that there can be")]
    TooMany {
        /// `64 apps that share a service`.
        what: String,
    },
    /// It is not shared with that app.
    #[error("{name} is not shared with {with}")]
    NotShared {
        /// The service.
        name: ServiceName,
        /// The other app.
        with: AppName,
    },
    /// It is used by others.
    #[error("{name} is shared with {}", list(.with))]
    Used {
        /// The service.
        name: ServiceName,
        /// The apps.
        with: Vec<AppName>,
    },
}

fn list(apps: &[AppName]) -> String {
    let names: Vec<&str> = apps.iter().map(AppName::as_str).collect();
    names.join(", ")
}

impl ShareError {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        match self {
            ShareError::None { .. } => Some("gilliam services lists them".to_string()),
            ShareError::NotOwn { of, name, .. } => {
                Some(format!("say it of its owner: --app {of}, for {name}"))
            }
            ShareError::Taken { .. } => Some("give it another name there: --as NAME".to_string()),
            ShareError::Apart { .. } => {
                Some("let one app call the other instead: [uses] in gilliam.toml".to_string())
            }
            ShareError::Used { name, with } => {
                let with = with.first()?;
                Some(format!("gilliam services unshare {name} --with {with}"))
            }
            ShareError::Itself { .. }
            | ShareError::Queue { .. }
            | ShareError::TooMany { .. }
            | ShareError::NotShared { .. } => None,
        }
    }
}

/// A service of the app's own.
fn own<'a>(app: &'a mut App, name: &ServiceName) -> Result<&'a mut ServiceRecord, ShareError> {
    let of = app.name.clone();
    let none = || ShareError::None {
        app: of.clone(),
        name: name.clone(),
    };
    let record = app.services.get_mut(name).ok_or_else(none)?;
    match &record.of {
        None => Ok(record),
        Some(other) => Err(ShareError::NotOwn {
            app: of,
            name: name.clone(),
            of: other.app.clone(),
        }),
    }
}

/// Both apps once `owner` shares the service `name` with `other`, which calls it `alias`.
pub fn share(
    owner: &App,
    name: &ServiceName,
    other: &App,
    alias: &ServiceName,
) -> Result<(App, App), ShareError> {
    let (mut owner, mut other) = (owner.clone(), other.clone());
    if owner.name == other.name {
        return Err(ShareError::Itself { app: owner.name });
    }
    let home = owner.home.clone();
    let owner_name = owner.name.clone();
    let record = own(&mut owner, name)?;
    if !record.service.kind().is_on_a_node() {
        return Err(ShareError::Queue {
            app: owner_name,
            name: name.clone(),
        });
    }
    if other.services.contains_key(alias) {
        return Err(ShareError::Taken {
            app: other.name,
            name: alias.clone(),
        });
    }
    if let (Some(home), Some(other_home)) = (&home, &other.home)
        && home != other_home
    {
        return Err(ShareError::Apart {
            app: owner_name,
            home: home.clone(),
            other: other.name,
            other_home: other_home.clone(),
        });
    }
    let too_many = |what: String| Err(ShareError::TooMany { what });
    if record.shared_with.len() >= SHARED_WITH_MAX {
        return too_many(format!("{SHARED_WITH_MAX} apps that share a service"));
    }
    if other.services.len() >= SERVICES_MAX {
        return too_many(format!("{SERVICES_MAX} services of an app"));
    }
    let shared = ServiceRecord {
        of: Some(record.id(&owner_name, name)),
        shared_with: Vec::new(),
        ..record.clone()
    };
    if !record.shared_with.contains(&other.name) {
        record.shared_with.push(other.name.clone());
    }
    if other.home.is_none() {
        other.home = home;
    }
    other.services.insert(alias.clone(), shared);
    Ok((owner, other))
}

/// Both apps once the service `name` is no longer shared; the other one may be gone.
pub fn unshare(
    owner: &App,
    name: &ServiceName,
    with: &AppName,
    other: Option<&App>,
) -> Result<(App, Option<App>), ShareError> {
    let mut owner = owner.clone();
    let owner_name = owner.name.clone();
    let record = own(&mut owner, name)?;
    if !record.shared_with.contains(with) {
        return Err(ShareError::NotShared {
            name: name.clone(),
            with: with.clone(),
        });
    }
    record.shared_with.retain(|app| app != with);
    let id = record.id(&owner_name, name);
    let other = other.map(|other| {
        let mut other = other.clone();
        other.services.retain(|_, record| record.of.as_ref() != Some(&id));
        other
    });
    Ok((owner, other))
}

/// The app without a service of its own.
pub fn destroy(owner: &App, name: &ServiceName) -> Result<App, ShareError> {
    let mut owner = owner.clone();
    let record = own(&mut owner, name)?;
    if !record.shared_with.is_empty() {
        return Err(ShareError::Used {
            name: name.clone(),
            with: record.shared_with.clone(),
        });
    }
    owner.services.remove(name);
    // The next service begins anew, on whatever node is best then.
    if !owner
        .services
        .values()
        .any(|record| record.service.kind().is_on_a_node())
    {
        owner.home = None;
    }
    Ok(owner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Timestamp,
        service::{Service, ServiceKind, bound},
    };

    fn service(name: &str) -> ServiceName {
        name.parse().expect(name)
    }

    fn app(name: &str, home: Option<&str>, services: &[(&str, ServiceKind)]) -> App {
        let mut app = App::new(name.parse().expect("name"), Timestamp::UNIX_EPOCH);
        app.home = home.map(|home| home.parse().expect("name"));
        for (name, kind) in services {
            let record = ServiceRecord {
                service: Service::new(*kind),
                made_at: Timestamp::UNIX_EPOCH,
                of: None,
                shared_with: Vec::new(),
            };
            app.services.insert(service(name), record);
        }
        app
    }

    #[test]
    fn a_shared_service_is_bound_under_its_name_there_until_it_is_taken_back() {
        let owner = app("billing", Some("n1"), &[("db", ServiceKind::Sql)]);
        let other = app("shop", None, &[]);
        let (owner, other) = share(&owner, &service("db"), &other, &service("bills")).expect("shared");
        assert_eq!(other.home, owner.home);
        let found = bound(&other.name, &other.services, &Default::default());
        assert_eq!(
            (found[0].name.as_str(), found[0].id.to_string()),
            ("bills", "billing/db".into())
        );
        let error = destroy(&owner, &service("db")).expect_err("it is used");
        assert_eq!(error.to_string(), "db is shared with shop");
        assert_eq!(
            error.hint().as_deref(),
            Some("gilliam services unshare db --with shop")
        );
        let error = destroy(&other, &service("bills")).expect_err("not its own");
        assert_eq!(
            error.to_string(),
            "bills is a service of billing, which shares it with shop"
        );
        let (owner, other) =
            unshare(&owner, &service("db"), &other.name, Some(&other)).expect("no longer shared");
        assert!(other.expect("there").services.is_empty());
        let owner = destroy(&owner, &service("db")).expect("nobody uses it");
        assert_eq!((owner.services.len(), owner.home), (0, None));
    }

    #[test]
    fn what_cannot_be_shared_is_refused() {
        let owner = app(
            "a",
            Some("n1"),
            &[("db", ServiceKind::Sql), ("jobs", ServiceKind::Queue)],
        );
        let elsewhere = app("b", Some("n2"), &[("db", ServiceKind::Sql)]);
        let refused = |name: &str, other: &App, alias: &str| {
            let shared = share(&owner, &service(name), other, &service(alias));
            shared.expect_err("refused").to_string()
        };
        assert_eq!(refused("db", &owner, "x"), "a has its own services anyway");
        assert_eq!(refused("no", &elsewhere, "x"), "a has no service no");
        assert_eq!(refused("db", &elsewhere, "db"), "b has a service db already");
        assert_eq!(
            refused("db", &elsewhere, "x"),
            "the data of a is on node n1, and that of b on node n2"
        );
        assert!(refused("jobs", &elsewhere, "x").starts_with("jobs is a queue"));
        let error = unshare(&owner, &service("db"), &elsewhere.name, None).expect_err("not shared");
        assert_eq!(error.to_string(), "db is not shared with b");
    }
}
