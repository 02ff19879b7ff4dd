//! What apps use of one another.

use gilliam_model::{
    name::AppName,
    uses::{Callers, CallersChange, UsesGraph},
};
use reqwest::Method;

use crate::{Client, ClientError};

impl Client {
    /// What the apps of the cluster use of one another.
    pub async fn uses(&self) -> Result<UsesGraph, ClientError> {
        self.get("/v1/uses").await
    }

    /// Changes who may use an app.
    pub async fn change_callers(
        &self,
        app: &AppName,
        change: &CallersChange,
    ) -> Result<Callers, ClientError> {
        self.send(Method::PATCH, &format!("/v1/apps/{app}/callers"), change)
            .await
    }
}
