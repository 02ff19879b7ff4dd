//! The calls that nodes make (join, sync, logs, blobs), and those that operators make about them.

use std::time::Duration;

use gilliam_model::{
    digest::Digest,
    join::{Join, Joined, MadeJoinToken, MakeJoinToken, Renew},
    name::{AppName, NodeName, ProcessName},
    node::{NodeDetails, NodeSummary},
    release::ReleaseId,
    sync::{LogBatch, SyncRequest, SyncResponse},
};
use reqwest::Method;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::{Client, ClientError};

/// Longest wait for the head of a blob's answer.
const BLOB_HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest silence in the middle of a blob.
const BLOB_IDLE_MAX: Duration = Duration::from_secs(30);

impl Client {
    /// Reports a node's state, and waits up to `request.wait_ms` for a newer assignment; all in all up to `limit`.
    pub async fn sync(
        &self,
        node: &NodeName,
        request: &SyncRequest,
        limit: Duration,
    ) -> Result<SyncResponse, ClientError> {
        let call = self
            .request(Method::POST, &format!("/v1/nodes/{node}/sync"))
            .json(request)
            .timeout(limit);
        self.json(call).await
    }

    /// Asks for a certificate with the join token that this client shows; nobody knows the node before.
    pub async fn join(&self, join: &Join) -> Result<Joined, ClientError> {
        self.send(Method::POST, "/v1/join", join).await
    }

    /// Asks for the next certificate of a node.
    pub async fn renew(&self, node: &NodeName, renew: &Renew) -> Result<Joined, ClientError> {
        self.send(Method::POST, &format!("/v1/nodes/{node}/renew"), renew)
            .await
    }

    /// Makes a token with which one node may join.
    pub async fn make_join_token(&self, make: &MakeJoinToken) -> Result<MadeJoinToken, ClientError> {
        self.send(Method::POST, "/v1/join-tokens", make).await
    }

    /// Lists the nodes.
    pub async fn nodes(&self) -> Result<Vec<NodeSummary>, ClientError> {
        self.get("/v1/nodes").await
    }

    /// A node with what is placed on it.
    pub async fn node(&self, node: &NodeName) -> Result<NodeDetails, ClientError> {
        self.get(&format!("/v1/nodes/{node}")).await
    }

    /// Has a node emptied, or used again.
    pub async fn drain_node(&self, node: &NodeName, draining: bool) -> Result<NodeDetails, ClientError> {
        let verb = if draining { "drain" } else { "undrain" };
        let path = format!("/v1/nodes/{node}/{verb}");
        self.send(Method::POST, &path, &serde_json::json!({})).await
    }

    /// Puts a node that is gone out of the cluster.
    pub async fn forget_node(&self, node: &NodeName) -> Result<(), ClientError> {
        self.finish(self.request(Method::DELETE, &format!("/v1/nodes/{node}")))
            .await
    }

    /// Hands over log lines.
    pub async fn post_logs(&self, node: &NodeName, batch: &LogBatch) -> Result<(), ClientError> {
        self.finish(
            self.request(Method::POST, &format!("/v1/nodes/{node}/logs"))
                .json(batch),
        )
        .await
    }

    /// Copies a blob into `writer` and returns its length; one longer than `bytes_max` is an error.
    ///
    /// The content is not checked here: it is verified by digest where it is used.
    pub async fn fetch_blob(
        &self,
        digest: &Digest,
        bytes_max: u64,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64, ClientError> {
        let call = self.request(Method::GET, &format!("/v1/blobs/{digest}"));
        self.copy(call, &format!("blob {digest}"), bytes_max, writer)
            .await
    }

    /// Copies the component of a process type into `writer`; one longer than `bytes_max` is an error.
    pub async fn fetch_component(
        &self,
        app: &AppName,
        process: &ProcessName,
        release: ReleaseId,
        bytes_max: u64,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64, ClientError> {
        let path = format!("/v1/apps/{app}/components/{process}?release={release}");
        let call = self.request(Method::GET, &path);
        self.copy(call, &format!("the component of {process}"), bytes_max, writer)
            .await
    }

    pub(crate) async fn copy(
        &self,
        call: reqwest::RequestBuilder,
        what: &str,
        bytes_max: u64,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64, ClientError> {
        let timeout = || ClientError::Timeout {
            url: self.base_url().to_string(),
        };
        let mut response = tokio::time::timeout(BLOB_HEAD_TIMEOUT, self.answer(call))
            .await
            .map_err(|_| timeout())??;
        let mut written: u64 = 0;
        loop {
            let chunk = tokio::time::timeout(BLOB_IDLE_MAX, response.chunk())
                .await
                .map_err(|_| timeout())?;
            let Some(chunk) = chunk.map_err(|source| self.broken(source))? else {
                break;
            };
            written += chunk.len() as u64;
            if written > bytes_max {
                return Err(self.protocol(format!("{what} is longer than {bytes_max} bytes")));
            }
            writer
                .write_all(&chunk)
                .await
                .map_err(|source| ClientError::Write { source })?;
        }
        writer
            .flush()
            .await
            .map_err(|source| ClientError::Write { source })?;
        Ok(written)
    }
}
