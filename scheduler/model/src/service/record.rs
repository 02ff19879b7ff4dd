//! The services that an app has: their records, what a release is bound to, and what a new release makes of them.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{SERVICES_MAX, Service, ServiceKind};
use crate::{
    Timestamp,
    image::Image,
    name::{AppName, NodeName, ServiceName},
    requirement::Requirement,
};

/// A service, told apart from those of other apps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceId {
    /// The app whose it is.
    pub app: AppName,
    /// Its name there.
    pub name: ServiceName,
    /// When it was made: another of the same name has other data.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub made_at: Timestamp,
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.name)
    }
}

/// A service of an app, as its record has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// What it is, as the newest release that declares it says.
    #[serde(flatten)]
    pub service: Service,
    /// When it was made.
    pub made_at: Timestamp,
    /// Whose it is, when another app shares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<ServiceId>,
    /// The apps that it is shared with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared_with: Vec<AppName>,
}

/// The services of an app by name.
pub type ServiceRecords = BTreeMap<ServiceName, ServiceRecord>;

/// A service that a process is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BoundService {
    /// How the app calls it.
    pub name: ServiceName,
    /// Which one it is: the app's own or one that is shared with it.
    pub id: ServiceId,
    /// What it is.
    pub service: Service,
}

impl ServiceRecord {
    /// Which one it is, as the service `name` of `app`.
    pub fn id(&self, app: &AppName, name: &ServiceName) -> ServiceId {
        self.of.clone().unwrap_or_else(|| ServiceId {
            app: app.clone(),
            name: name.clone(),
            made_at: self.made_at,
        })
    }
}

/// What the processes of a release are bound to: what its image declares, and what is shared with the app.
pub fn bound(
    app: &AppName,
    records: &ServiceRecords,
    declared: &BTreeMap<ServiceName, Service>,
) -> Vec<BoundService> {
    let sees =
        |(name, record): &(&ServiceName, &ServiceRecord)| record.of.is_some() || declared.contains_key(*name);
    let found = records.iter().filter(sees);
    found
        .map(|(name, record)| BoundService {
            name: name.clone(),
            id: record.id(app, name),
            service: record.service.clone(),
        })
        .collect()
}

/// An image whose processes run where the data of the services is that they are bound to.
pub fn at_home(image: &mut Image, bound: &[BoundService], home: Option<&NodeName>) {
    let Some(home) = home else { return };
    if bound.iter().any(|bound| bound.service.kind().is_on_a_node()) {
        for process in image.processes.values_mut() {
            process.placement.require.push(Requirement::on(home));
        }
    }
}

/// A declaration that does not go with what the app has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// It is there already, as something else.
    #[error("{name} is declared as {declared}, and the app's {name} is {found}")]
    OtherKind {
        /// The service.
        name: ServiceName,
        /// What the release declares.
        declared: ServiceKind,
        /// What there is.
        found: ServiceKind,
    },
    /// The name is that of another app's service.
    #[error("{name} is the name under which a service of {of} is shared with the app")]
    Shared {
        /// The name.
        name: ServiceName,
        /// Whose it is.
        of: AppName,
    },
    /// Too many, with those that are detached.
    #[error("the app would have {count} services; at most {SERVICES_MAX} are kept")]
    TooMany {
        /// How many there would be.
        count: usize,
    },
}

impl AdoptError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            AdoptError::OtherKind { name, .. } => format!(
                "give the new one another name, or destroy the old one and its data: gilliam services destroy {name}"
            ),
            AdoptError::Shared { .. } => "give it another name".to_string(),
            AdoptError::TooMany { .. } => {
                "destroy what no release needs: gilliam services lists it as detached".to_string()
            }
        }
    }
}

/// The services of an app after a release that declares `declared`: what it names first is made, what it names again
/// has its options from it, what it does not name stays.
pub fn adopt(
    records: &ServiceRecords,
    declared: &BTreeMap<ServiceName, Service>,
    now: Timestamp,
) -> Result<ServiceRecords, AdoptError> {
    let mut after = records.clone();
    for (name, service) in declared {
        match after.get_mut(name) {
            None => {
                let record = ServiceRecord {
                    service: service.clone(),
                    made_at: now,
                    of: None,
                    shared_with: Vec::new(),
                };
                after.insert(name.clone(), record);
            }
            Some(ServiceRecord { of: Some(of), .. }) => {
                return Err(AdoptError::Shared {
                    name: name.clone(),
                    of: of.app.clone(),
                });
            }
            Some(record) if record.service.kind != service.kind => {
                return Err(AdoptError::OtherKind {
                    name: name.clone(),
                    declared: service.kind,
                    found: record.service.kind,
                });
            }
            Some(record) => record.service = service.clone(),
        }
    }
    match after.len() <= SERVICES_MAX || after.len() == records.len() {
        true => Ok(after),
        false => Err(AdoptError::TooMany { count: after.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ServiceName {
        name.parse().expect(name)
    }

    fn declared(services: &[(&str, ServiceKind)]) -> BTreeMap<ServiceName, Service> {
        let each = services.iter().map(|(n, kind)| (name(n), Service::new(*kind)));
        each.collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn what_a_release_names_first_is_made_and_what_it_no_longer_names_stays() {
        let first = declared(&[("cache", ServiceKind::Keyvalue), ("db", ServiceKind::Sql)]);
        let records = adopt(&ServiceRecords::new(), &first, at(1)).expect("new");
        let app: AppName = "shop".parse().expect("name");
        let second = declared(&[("db", ServiceKind::Sql), ("files", ServiceKind::Blob)]);
        let after = adopt(&records, &second, at(2)).expect("more");
        assert_eq!(after.len(), 3);
        assert_eq!(after[&name("cache")].made_at, at(1));
        assert_eq!(after[&name("db")].made_at, at(1));
        let bound = bound(&app, &after, &second);
        let names: Vec<&str> = bound.iter().map(|bound| bound.name.as_str()).collect();
        assert_eq!(names, ["db", "files"], "a detached service is not bound");
    }

    #[test]
    fn a_service_does_not_become_another_kind() {
        let records = adopt(
            &ServiceRecords::new(),
            &declared(&[("db", ServiceKind::Sql)]),
            at(1),
        )
        .expect("new");
        let error =
            adopt(&records, &declared(&[("db", ServiceKind::Blob)]), at(2)).expect_err("another kind");
        assert_eq!(
            error.to_string(),
            "db is declared as blob, and the app's db is sql"
        );
        assert!(error.hint().contains("gilliam services destroy db"));
    }
}
