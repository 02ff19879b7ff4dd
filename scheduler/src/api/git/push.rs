//! A push: its objects in, the build's output out as `remote: ` lines, and at the end a release and a moved branch,
//! or neither.
//!
//! git looks at the answer once it has sent everything, so whatever is refused is read to its end first. The answer
//! begins when the pack has arrived. When the client goes away before the build has ended, the build is stopped,
//! nothing is released, and the branch stays. Once the image is sealed, release and branch are made in any case.
//!
//! Invariant: the branch moves after the release is durable, and never without one.

use std::{convert::Infallible, io, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use gilliam_model::{
    api::{DeployEvent, ReleaseInfo},
    app::App,
    digest::Digest,
    image::Image,
    route::WEB,
    run::RELEASE_HOOK,
};
use tokio::{
    io::AsyncRead,
    sync::{OwnedSemaphorePermit, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::StreamReader;

use crate::{
    api::{
        Api, apps,
        auth::Caller,
        deploy::{self, Deploy, DeployParams, Order},
        git::{Told, blocking, headed, open},
    },
    archive::Archive,
    git::{
        Turn, pkt,
        receive::{self, Receiving},
        repository::{Incoming, PACKS_MAX, REPOSITORY_BYTES_MAX, Repository},
        request::{self, ObjectId, Request, Verdict},
    },
    refusal::Refusal,
    shared::Shared,
};

/// Packets on their way to the client; the build waits while it is full.
const PACKETS_MAX: usize = 256;
/// Events of the build on their way to packets.
const EVENTS_MAX: usize = 16;
/// Longest time for the commands of a push to arrive.
const COMMANDS_MAX: Duration = Duration::from_secs(30);
/// Longest silence of an answer: proxies close connections that say nothing for a minute (git's own is 5 s).
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Takes a push: the body in, the answer out.
pub(super) async fn take(api: Api, app: App, caller: Caller, body: Body) -> Result<Response, Told> {
    let mut from = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    let request = match tokio::time::timeout(COMMANDS_MAX, request::read(&mut from)).await {
        Ok(Ok(request)) => request,
        Ok(Err(error)) => {
            receive::discard(&mut from).await;
            return Err(Told(Refusal::malformed(format!(
                "the push cannot be read: {error}"
            ))));
        }
        Err(_) => return Err(Told(Refusal::malformed("the push did not arrive"))),
    };
    let head = headed("application/x-git-receive-pack-result");
    if request.changes.is_empty() {
        // git asks so whether it may push before it sends much.
        return Ok((head, Body::empty()).into_response());
    }
    let (out, stream) = mpsc::channel(PACKETS_MAX);
    let push = Push {
        api,
        caller,
        verdicts: request::judge(&request.changes),
        answer: Answer {
            out,
            has_sideband: request.has_sideband,
        },
        request,
    };
    let arrived = push.arrive(app, &mut from).await;
    if arrived.is_err() {
        receive::discard(&mut from).await;
    }
    tokio::spawn(push.run(arrived));
    let packets = ReceiverStream::new(stream).map(Ok::<_, Infallible>);
    Ok((head, Body::from_stream(packets)).into_response())
}

struct Push {
    api: Api,
    caller: Caller,
    request: Request,
    verdicts: Vec<Verdict>,
    answer: Answer,
}

/// A push whose objects have arrived.
struct Arrived {
    app: App,
    branch: String,
    commit: ObjectId,
    repository: Repository,
    incoming: Incoming,
    receiving: Receiving,
    place: OwnedSemaphorePermit,
    deploy_place: OwnedSemaphorePermit,
    _turn: Turn,
}

/// What ends without a release.
struct Failure {
    /// Beside the ref, in git's own line.
    reason: &'static str,
    refusal: Refusal,
}

impl Failure {
    fn new(reason: &'static str, refusal: impl Into<Refusal>) -> Self {
        let refusal = refusal.into();
        Self { reason, refusal }
    }
}

impl Push {
    /// Reads the objects of the branch that is built; none when there is no such branch.
    async fn arrive(
        &self,
        app: App,
        from: &mut (impl AsyncRead + Unpin),
    ) -> Result<Option<Arrived>, Failure> {
        let build = self
            .verdicts
            .iter()
            .position(|verdict| *verdict == Verdict::Build);
        let Some(change) = build.map(|at| &self.request.changes[at]) else {
            receive::discard(from).await;
            return Ok(None);
        };
        let shared = &self.api.shared;
        if self.request.is_shallow {
            let refusal = Refusal::invalid("this clone does not have the whole history")
                .hint("git fetch --unshallow first, or gilliam deploy, which needs no history");
            return Err(Failure::new("shallow update not allowed", refusal));
        }
        let refused = |refusal: Refusal| Failure::new("not taken", refusal);
        let turn = shared.git.turn(&app.name).ok_or_else(|| {
            let refusal = Refusal::busy(&format!("pushes to {}", app.name));
            Failure::new("another push is being built", refusal)
        })?;
        deploy::can_release(shared).await.map_err(refused)?;
        let deploy_place = deploy::place(shared).map_err(refused)?;
        let place = shared.git.received.clone().acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        let repository = open(shared, app.clone()).await.map_err(|told| refused(told.0))?;
        if repository.at(&change.name) != change.old {
            let refusal =
                Refusal::invalid("somebody else has pushed meanwhile").hint("git fetch, and push again");
            return Err(Failure::new("fetch first", refusal));
        }
        let commit = change.new.clone().expect("a branch that is built does not go");
        let folder = shared.git.folder().to_path_buf();
        let incoming = blocking(move || Incoming::new(&folder)).await;
        let incoming =
            incoming.map_err(|e| refused(Refusal::internal(&format!("no folder for a push: {e}"))))?;
        let unread = |error: receive::ReceiveError| Failure::new("not taken", error.into_refusal());
        let started = receive::start(&shared.config.git_command, &repository, &incoming, &commit);
        let mut receiving = started.map_err(unread)?;
        receiving.feed(from).await.map_err(unread)?;
        Ok(Some(Arrived {
            app,
            branch: change.name.clone(),
            commit,
            repository,
            incoming,
            receiving,
            place,
            deploy_place,
            _turn: turn,
        }))
    }

    /// The rest: everything that the answer tells.
    async fn run(self, arrived: Result<Option<Arrived>, Failure>) {
        if self.answer.has_sideband {
            tokio::spawn(keep_alive(self.answer.out.downgrade()));
        }
        self.remark().await;
        let outcome = match arrived {
            Ok(Some(arrived)) => match self.release(arrived).await {
                Some(outcome) => outcome,
                None => return,
            },
            Ok(None) => Ok(()),
            Err(failure) => Err(failure),
        };
        if let Err(failure) = &outcome {
            let error = failure.refusal.clone().into_error();
            self.answer
                .say(&format!("error: {} ({})", error.message, error.code))
                .await;
            if let Some(hint) = &error.hint {
                self.answer.say(&format!("hint: {hint}")).await;
            }
        }
        self.report(outcome.as_ref().err().map(|failure| failure.reason))
            .await;
    }

    /// Says what becomes of refs that are not built.
    async fn remark(&self) {
        if self.verdicts.contains(&Verdict::Passed) {
            self.answer.say("tags are not kept here").await;
        }
        let names = self.request.changes.iter().zip(&self.verdicts);
        for (change, verdict) in names {
            if let (Verdict::Refused(_), Some(branch)) = (verdict, change.name.strip_prefix("refs/heads/")) {
                let hint = format!("hint: git push gilliam {branch}:main builds {branch}");
                self.answer.say(&hint).await;
            }
        }
    }

    /// Builds, releases, and moves the branch; none when nobody is there any more to hear of it.
    async fn release(&self, arrived: Arrived) -> Option<Result<(), Failure>> {
        let shared = &self.api.shared;
        let mut drain = self.api.drain.clone();
        let built = tokio::select! {
            built = self.build(shared, arrived) => built,
            _ = drain.requested() => Err(Failure::new("the server is stopping", Refusal::draining())),
            () = self.answer.out.closed() => {
                tracing::info!("a push was abandoned by its client");
                return None;
            }
        };
        Some(match built {
            Ok(built) => self.keep(shared, built).await,
            Err(failure) => Err(failure),
        })
    }

    async fn build(&self, shared: &Shared, arrived: Arrived) -> Result<Built, Failure> {
        let received = arrived.receiving.finish().await;
        let received = received.map_err(|error| Failure::new("not taken", error.into_refusal()))?;
        drop(arrived.place);
        let name = arrived.branch.trim_start_matches("refs/heads/").to_string();
        let subject = received
            .message
            .clone()
            .unwrap_or_else(|| arrived.commit.to_string());
        self.answer
            .say(&format!("-----> Received {name} ({subject})"))
            .await;
        for hint in &received.hints {
            self.answer.say(&format!("hint: {hint}")).await;
        }
        let deploy = Deploy {
            app: arrived.app.name.clone(),
            author: self.caller.name.clone(),
            order: Order::Release,
            params: DeployParams {
                message: received.message,
                migrate: true,
                clean: false,
                release_timeout_ms: None,
            },
            archive: Archive::at(arrived.incoming.archive()),
            _place: arrived.deploy_place,
        };
        let (events, mut printed) = mpsc::channel(EVENTS_MAX);
        let building = async {
            let built = deploy.build(shared, &events).await;
            drop(events);
            built
        };
        let (image, ()) = tokio::join!(building, self.print(&mut printed));
        let image = image.map_err(|refusal| Failure::new("build failed", refusal))?;
        Ok(Built {
            image,
            deploy,
            branch: arrived.branch,
            commit: arrived.commit,
            repository: arrived.repository,
            incoming: arrived.incoming,
            _turn: arrived._turn,
        })
    }

    /// Says what a build or a `release` process prints.
    async fn print(&self, printed: &mut mpsc::Receiver<DeployEvent>) {
        while let Some(event) = printed.recv().await {
            if let DeployEvent::Output { line } = event {
                self.answer.say(&line).await;
            }
        }
    }

    async fn keep(&self, shared: &Shared, built: Built) -> Result<(), Failure> {
        let (events, mut printed) = mpsc::channel(EVENTS_MAX);
        let releasing = async {
            let released = built.deploy.release(&self.api, Ok(built.image), &events).await;
            drop(events);
            released
        };
        let (release, ()) = tokio::join!(releasing, self.print(&mut printed));
        let release = release.map_err(|refusal| Failure::new("not released", refusal))?;
        self.announce(shared, &release).await;
        let (repository, incoming) = (built.repository.clone(), built.incoming);
        let kept = blocking(move || repository.keep(&incoming, &built.branch, &built.commit)).await;
        kept.map_err(|error| {
            tracing::error!(%error, "a push was released and is not kept");
            let refusal = Refusal::internal(&"the branch is not moved");
            Failure::new("released, but the branch could not be moved", refusal)
        })?;
        tidy(shared, &built.repository).await;
        Ok(())
    }

    async fn announce(&self, shared: &Shared, release: &ReleaseInfo) {
        if let Some(line) = deploy::capabilities(release) {
            self.answer.say(&line).await;
        }
        for warning in &release.warnings {
            self.answer.say(&format!(" !     {warning}")).await;
        }
        self.answer.say(&format!("{} released", release.id)).await;
        if release.migrating {
            let moving = format!(
                "moving what ran before to {}; gilliam ps -w shows how far it is",
                release.id
            );
            self.answer.say(&moving).await;
        } else {
            let mut counts: Vec<(bool, String)> = release
                .processes
                .keys()
                .filter(|name| name.as_str() != RELEASE_HOOK)
                .map(|name| {
                    (
                        name.as_str() != WEB,
                        format!("{name}={}", 1 + u8::from(name.as_str() == WEB)),
                    )
                })
                .collect();
            counts.sort();
            let counts: Vec<String> = counts.into_iter().map(|(_, count)| count).collect();
            let hint = format!(
                "hint: gilliam scale {} {} starts it",
                release.id,
                counts.join(" ")
            );
            self.answer.say(&hint).await;
        }
        for url in apps::urls(&release.app, &shared.nodes()) {
            self.answer.say(&format!("it answers at {url}")).await;
        }
    }

    async fn report(&self, failure: Option<&str>) {
        let refs: Vec<(&str, Result<(), &str>)> = self
            .request
            .changes
            .iter()
            .zip(&self.verdicts)
            .map(|(change, verdict)| {
                let result = match (verdict, failure) {
                    (Verdict::Refused(reason), _) => Err(*reason),
                    (Verdict::Build, Some(reason)) => Err(reason),
                    _ => Ok(()),
                };
                (change.name.as_str(), result)
            })
            .collect();
        self.answer.end(&request::report(Ok(()), &refs)).await;
    }
}

/// A push that is built and not yet released.
struct Built {
    image: (Digest, Image),
    deploy: Deploy,
    branch: String,
    commit: ObjectId,
    repository: Repository,
    incoming: Incoming,
    _turn: Turn,
}

/// Keeps a repository from growing for ever; what does not succeed is tried again at the next push.
async fn tidy(shared: &Shared, repository: &Repository) {
    let size = |repository: Repository| blocking(move || repository.size());
    let Ok((packs, mut bytes)) = size(repository.clone()).await else {
        return;
    };
    if packs > PACKS_MAX || bytes > REPOSITORY_BYTES_MAX {
        let tmp = shared.tmp();
        if let Err(error) = receive::repack(&shared.config.git_command, repository, &tmp).await {
            tracing::warn!(%error, "a repository is not made smaller");
        }
        bytes = size(repository.clone()).await.map_or(bytes, |(_, bytes)| bytes);
    }
    if bytes > REPOSITORY_BYTES_MAX {
        tracing::warn!(bytes, path = %repository.path().display(), "a repository is begun anew");
        let path = repository.path().to_path_buf();
        if let Err(error) = blocking(move || std::fs::remove_dir_all(path)).await {
            tracing::warn!(%error, "a repository that is too large cannot be removed");
        }
    }
}

/// What the client is told.
struct Answer {
    out: mpsc::Sender<Bytes>,
    has_sideband: bool,
}

impl Answer {
    /// A line for people. A client that has gone away is noticed elsewhere.
    async fn say(&self, line: &str) {
        if self.has_sideband {
            let _ = self.out.send(pkt::shown(line)).await;
        }
    }

    /// The report, and the end.
    async fn end(&self, report: &[u8]) {
        let mut packets = vec![Bytes::copy_from_slice(report)];
        if self.has_sideband {
            packets = vec![
                pkt::banded(pkt::Band::Data, report),
                Bytes::from_static(pkt::FLUSH),
            ];
        }
        for packet in packets {
            let _ = self.out.send(packet).await;
        }
    }
}

/// Says something now and then, while there is an answer.
async fn keep_alive(out: mpsc::WeakSender<Bytes>) {
    loop {
        tokio::time::sleep(KEEP_ALIVE).await;
        let Some(out) = out.upgrade() else { return };
        // A full channel has enough to say.
        let _ = out.try_send(pkt::keep_alive());
    }
}
