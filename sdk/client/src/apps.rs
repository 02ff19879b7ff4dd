//! The calls users make: apps, releases, config, scale, instances, logs, status.

use std::{io, time::Duration};

use bytes::Bytes;
use futures::{Stream, stream};
use gilliam_model::{
    api::{
        AppInfo, ConfigInfo, ConfigPatch, CreateApp, ImageInfo, Instances, LimitsInfo, LimitsPatch,
        ReleaseInfo, Restart, Rollback, ScaleInfo, ScalePatch, Status,
    },
    name::{AppName, ProcessName},
    release::ReleaseId,
    what_if::{Difference, Question},
};
use reqwest::{Body, Method, header};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{Client, ClientError, DeployStream, LogStream, call::CALL_TIMEOUT};

/// Longest wait for the head of a deploy's answer: the whole archive is sent before it on a slow line.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Longest wait for a change that may be probed before: to compile the largest components takes a minute.
pub(crate) const PROBED_TIMEOUT: Duration = Duration::from_secs(180);
/// Longest wait for the head of a log's answer.
const LOGS_HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes read of an archive at once.
const UPLOAD_CHUNK_BYTES: usize = 64 << 10;
/// Longest wait for the answer to a health check.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// What a deploy asks for, apart from the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployRequest {
    /// The release's message.
    pub message: Option<String>,
    /// Whether what the previous release ran moves to the new one.
    pub migrate: bool,
    /// Whether the app's build cache is dropped first.
    pub clean: bool,
    /// How long the `release` process may take, in milliseconds; the server's default when none.
    pub release_timeout_ms: Option<u64>,
}

/// Which instances to list; by default all of process types with few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstanceQuery {
    /// Only this process type; the way to a page of one with many instances.
    pub process: Option<ProcessName>,
    /// Only this release.
    pub release: Option<ReleaseId>,
    /// First slot of the page.
    pub from: Option<u32>,
    /// Most instances; the server's default when none. With 0, summaries alone.
    pub limit: Option<usize>,
}

/// Which log lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// How many of the newest lines; the server's default when none.
    pub lines: Option<usize>,
    /// Whether new lines follow as they come.
    pub follow: bool,
    /// `web`, `web.1`, `router`: only lines of it.
    pub source: Option<String>,
}

impl Client {
    /// Whether a control plane answers; needs no token.
    pub async fn health(&self) -> Result<(), ClientError> {
        self.answer(self.request(Method::GET, "/v1/health").timeout(HEALTH_TIMEOUT))
            .await
            .map(drop)
    }

    /// The cluster: version, counts, nodes.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status").await
    }

    /// What a change would do; nothing is changed.
    pub async fn what_if(&self, question: &Question) -> Result<Difference, ClientError> {
        self.send(Method::POST, "/v1/plan/what-if", question).await
    }

    /// Asks for instances to move for a better spread.
    pub async fn rebalance(&self) -> Result<(), ClientError> {
        self.finish(self.request(Method::POST, "/v1/plan/rebalance"))
            .await
    }

    /// Every app, by name.
    pub async fn apps(&self) -> Result<Vec<AppInfo>, ClientError> {
        self.get("/v1/apps").await
    }

    /// Makes an app. The name is checked by the server, whose answer says which rule a bad one breaks.
    pub async fn create_app(&self, name: &str) -> Result<AppInfo, ClientError> {
        self.send(
            Method::POST,
            "/v1/apps",
            &CreateApp {
                name: name.to_string(),
            },
        )
        .await
    }

    /// One app.
    pub async fn app(&self, app: &AppName) -> Result<AppInfo, ClientError> {
        self.get(&format!("/v1/apps/{app}")).await
    }

    /// Removes an app with its releases; its instances stop.
    pub async fn destroy_app(&self, app: &AppName) -> Result<(), ClientError> {
        self.finish(self.request(Method::DELETE, &format!("/v1/apps/{app}")))
            .await
    }

    /// Sends an archive of `archive_bytes` bytes to be built into a release, and streams the build.
    ///
    /// The archive is never whole in memory.
    pub async fn deploy(
        &self,
        app: &AppName,
        request: &DeployRequest,
        archive: impl AsyncRead + Send + Unpin + 'static,
        archive_bytes: u64,
    ) -> Result<DeployStream, ClientError> {
        let mut query = vec![("migrate", request.migrate.to_string())];
        let release_timeout = request.release_timeout_ms;
        query.extend(release_timeout.map(|ms| ("release_timeout_ms", ms.to_string())));
        query.extend(request.message.clone().map(|message| ("message", message)));
        query.extend(request.clean.then(|| ("clean", true.to_string())));
        self.upload(&format!("/v1/apps/{app}/deploy"), &query, archive, archive_bytes)
            .await
    }

    /// Sends an archive, and streams what comes of it.
    pub(crate) async fn upload(
        &self,
        path: &str,
        query: &[(&str, String)],
        archive: impl AsyncRead + Send + Unpin + 'static,
        archive_bytes: u64,
    ) -> Result<DeployStream, ClientError> {
        self.choose().await;
        let call = self
            .request(Method::POST, path)
            .query(query)
            .header(header::CONTENT_TYPE, "application/x-tar")
            .header(header::CONTENT_LENGTH, archive_bytes)
            .body(Body::wrap_stream(chunks(archive)));
        let response = self.head_within(UPLOAD_TIMEOUT, call).await?;
        Ok(DeployStream::new(self.clone(), response))
    }

    /// The app's releases, newest first.
    pub async fn releases(&self, app: &AppName) -> Result<Vec<ReleaseInfo>, ClientError> {
        self.get(&format!("/v1/apps/{app}/releases")).await
    }

    /// Makes a new release with the image and config of an older one.
    pub async fn rollback(&self, app: &AppName, rollback: &Rollback) -> Result<ReleaseInfo, ClientError> {
        self.send(Method::POST, &format!("/v1/apps/{app}/rollback"), rollback)
            .await
    }

    /// The configuration of the newest release.
    pub async fn config(&self, app: &AppName) -> Result<ConfigInfo, ClientError> {
        self.get(&format!("/v1/apps/{app}/config")).await
    }

    /// Changes the configuration, which makes a release.
    pub async fn change_config(
        &self,
        app: &AppName,
        patch: &ConfigPatch,
    ) -> Result<ReleaseInfo, ClientError> {
        self.send(Method::PATCH, &format!("/v1/apps/{app}/config"), patch)
            .await
    }

    /// The image of a release, by default of the newest.
    pub async fn image(&self, app: &AppName, release: Option<ReleaseId>) -> Result<ImageInfo, ClientError> {
        let query = release.map(|id| format!("?release={id}")).unwrap_or_default();
        self.get(&format!("/v1/apps/{app}/image{query}")).await
    }

    /// The limits of the newest release.
    pub async fn limits(&self, app: &AppName) -> Result<LimitsInfo, ClientError> {
        self.get(&format!("/v1/apps/{app}/limits")).await
    }

    /// Changes limits, which makes a release; one that lets lanes be reused is probed before, which takes
    /// time.
    pub async fn change_limits(
        &self,
        app: &AppName,
        patch: &LimitsPatch,
    ) -> Result<ReleaseInfo, ClientError> {
        let call = self.request(Method::PATCH, &format!("/v1/apps/{app}/limits"));
        self.json(call.json(patch).timeout(PROBED_TIMEOUT)).await
    }

    /// What should run.
    pub async fn scale(&self, app: &AppName) -> Result<ScaleInfo, ClientError> {
        self.get(&format!("/v1/apps/{app}/scale")).await
    }

    /// Changes what should run.
    pub async fn change_scale(&self, app: &AppName, patch: &ScalePatch) -> Result<ScaleInfo, ClientError> {
        self.send(Method::PATCH, &format!("/v1/apps/{app}/scale"), patch)
            .await
    }

    /// What runs: a summary of every process type, and each instance of those with few.
    pub async fn instances(&self, app: &AppName) -> Result<Instances, ClientError> {
        self.list_instances(app, &InstanceQuery::default()).await
    }

    /// What runs: summaries, and the instances that are asked for.
    pub async fn list_instances(
        &self,
        app: &AppName,
        query: &InstanceQuery,
    ) -> Result<Instances, ClientError> {
        let mut pairs = Vec::new();
        pairs.extend(
            query
                .process
                .as_ref()
                .map(|process| ("process", process.to_string())),
        );
        pairs.extend(query.release.map(|release| ("release", release.to_string())));
        pairs.extend(query.from.map(|from| ("from", from.to_string())));
        pairs.extend(query.limit.map(|limit| ("limit", limit.to_string())));
        let call = self.request(Method::GET, &format!("/v1/apps/{app}/instances"));
        self.json(call.query(&pairs).timeout(CALL_TIMEOUT)).await
    }

    /// Starts instances anew.
    pub async fn restart(&self, app: &AppName, restart: &Restart) -> Result<Instances, ClientError> {
        self.send(Method::POST, &format!("/v1/apps/{app}/restart"), restart)
            .await
    }

    /// The app's log.
    pub async fn logs(&self, app: &AppName, query: &LogQuery) -> Result<LogStream, ClientError> {
        let mut pairs = vec![("follow", query.follow.to_string())];
        pairs.extend(query.lines.map(|n| ("lines", n.to_string())));
        pairs.extend(query.source.clone().map(|source| ("source", source)));
        let call = self
            .request(Method::GET, &format!("/v1/apps/{app}/logs"))
            .query(&pairs);
        let response = self.head_within(LOGS_HEAD_TIMEOUT, call).await?;
        Ok(LogStream::new(self.clone(), response))
    }

    /// Waits for the head of an answer whose body may take as long as it likes.
    async fn head_within(
        &self,
        limit: Duration,
        call: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, ClientError> {
        tokio::time::timeout(limit, self.answer(call))
            .await
            .unwrap_or_else(|_| {
                Err(ClientError::Timeout {
                    url: self.base_url().to_string(),
                })
            })
    }
}

fn chunks(source: impl AsyncRead + Send + Unpin + 'static) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold(source, |mut source| async move {
        let mut chunk = Vec::with_capacity(UPLOAD_CHUNK_BYTES);
        let n = source.read_buf(&mut chunk).await?;
        Ok((n > 0).then(|| (Bytes::from(chunk), source)))
    })
}
