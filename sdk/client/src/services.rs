//! Services: the calls of users, and those of the nodes that have their data.

use std::time::Duration;

use gilliam_model::{
    name::{AppName, NodeName, ServiceName},
    service::{AskService, AwaitQuestions, ServiceAnswer, ServiceInfo, ServiceQuestions, ShareService},
};
use reqwest::Method;

use crate::{Client, ClientError, call::CALL_TIMEOUT};

impl Client {
    /// The services of an app.
    pub async fn services(&self, app: &AppName) -> Result<Vec<ServiceInfo>, ClientError> {
        self.get(&format!("/v1/apps/{app}/services")).await
    }

    /// Destroys a service with its data.
    pub async fn destroy_service(&self, app: &AppName, service: &ServiceName) -> Result<(), ClientError> {
        let call = self.request(Method::DELETE, &format!("/v1/apps/{app}/services/{service}"));
        self.finish(call.query(&[("confirm", service.as_str())])).await
    }

    /// Shares a service with another app.
    pub async fn share_service(
        &self,
        app: &AppName,
        service: &ServiceName,
        share: &ShareService,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/apps/{app}/services/{service}/share");
        self.finish(self.request(Method::POST, &path).json(share)).await
    }

    /// Takes a service back from another app.
    pub async fn unshare_service(
        &self,
        app: &AppName,
        service: &ServiceName,
        share: &ShareService,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/apps/{app}/services/{service}/unshare");
        self.finish(self.request(Method::POST, &path).json(share)).await
    }

    /// Makes a request to a service, as its processes do; the answer may be a refusal of the service.
    pub async fn ask_service(
        &self,
        app: &AppName,
        service: &ServiceName,
        ask: &AskService,
    ) -> Result<ServiceAnswer, ClientError> {
        let path = format!("/v1/apps/{app}/services/{service}/request");
        self.send(Method::POST, &path, ask).await
    }

    /// Waits for questions to a node, all in all up to `limit`.
    pub async fn await_questions(
        &self,
        node: &NodeName,
        asked: &AwaitQuestions,
        limit: Duration,
    ) -> Result<ServiceQuestions, ClientError> {
        let call = self.request(Method::POST, &format!("/v1/nodes/{node}/questions"));
        self.json(call.json(asked).timeout(limit)).await
    }

    /// Answers a question.
    pub async fn answer_question(
        &self,
        node: &NodeName,
        number: u64,
        answer: &ServiceAnswer,
    ) -> Result<(), ClientError> {
        let call = self.request(Method::POST, &format!("/v1/nodes/{node}/answers/{number}"));
        self.finish(call.json(answer).timeout(CALL_TIMEOUT)).await
    }
}
