//! The calls about runs.

use std::time::Duration;

use gilliam_model::{
    name::AppName,
    run::{AskRun, RunInfo},
};
use reqwest::Method;

use crate::{Client, ClientError, call::CALL_TIMEOUT};

impl Client {
    /// Asks for a run.
    pub async fn ask_run(&self, app: &AppName, ask: &AskRun) -> Result<RunInfo, ClientError> {
        self.send(Method::POST, &format!("/v1/apps/{app}/runs"), ask)
            .await
    }

    /// The runs of an app, newest first: those that have not ended, and the last ends.
    pub async fn runs(&self, app: &AppName) -> Result<Vec<RunInfo>, ClientError> {
        self.get(&format!("/v1/apps/{app}/runs")).await
    }

    /// A run, once it has ended or `wait` has passed; the server waits for some seconds at most.
    pub async fn run(&self, app: &AppName, number: u32, wait: Duration) -> Result<RunInfo, ClientError> {
        let call = self.request(Method::GET, &format!("/v1/apps/{app}/runs/{number}"));
        let call = call.query(&[("wait_ms", wait.as_millis().to_string())]);
        self.json(call.timeout(CALL_TIMEOUT)).await
    }

    /// Asks a run to end.
    pub async fn stop_run(&self, app: &AppName, number: u32) -> Result<RunInfo, ClientError> {
        let call = self.request(Method::DELETE, &format!("/v1/apps/{app}/runs/{number}"));
        self.json(call.timeout(CALL_TIMEOUT)).await
    }
}
