//! The calls about crons.

use gilliam_model::{
    cron::CronInfo,
    name::{AppName, CronName},
    run::RunInfo,
};
use reqwest::Method;

use crate::{Client, ClientError, call::CALL_TIMEOUT};

impl Client {
    /// The crons of an app, by name.
    pub async fn crons(&self, app: &AppName) -> Result<Vec<CronInfo>, ClientError> {
        self.get(&format!("/v1/apps/{app}/crons")).await
    }

    /// Has a cron run now.
    pub async fn run_cron(&self, app: &AppName, cron: &CronName) -> Result<RunInfo, ClientError> {
        let call = self.request(Method::POST, &format!("/v1/apps/{app}/crons/{cron}/run"));
        self.json(call.timeout(CALL_TIMEOUT)).await
    }

    /// Pauses a cron, or has it go on.
    pub async fn pause_cron(&self, app: &AppName, cron: &CronName, paused: bool) -> Result<(), ClientError> {
        let verb = if paused { "pause" } else { "resume" };
        let path = format!("/v1/apps/{app}/crons/{cron}/{verb}");
        self.finish(self.request(Method::POST, &path)).await
    }
}
