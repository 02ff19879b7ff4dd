//! Users of one app who change it at once, through several control planes; what they asked and were answered is
//! the app's history.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use fastrand::Rng;
use gilliam_model::{
    api::{ApiError, AppInfo, ConfigInfo, DeployEvent, ReleaseInfo, ScaleInfo},
    release::ReleaseId,
    scale,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    app::{Made, Scale, What},
    harness::{self, Plane},
    linearizable::{OPERATIONS_MAX, Operation},
};

/// Users of each app.
pub(crate) const USERS: usize = 4;
/// What each does; one more reads all at the end.
pub(crate) const STEPS: usize = (OPERATIONS_MAX - READS_AT_END) / USERS;
const READS_AT_END: usize = 3;
/// Most instances that anybody asks for.
const WEB_MAX: u32 = 9;

/// What was recorded of an app.
#[derive(Debug)]
pub(crate) struct History {
    start: Instant,
    pub(crate) operations: Mutex<Vec<Operation<What>>>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            operations: Mutex::default(),
        }
    }
}

/// How a call ended.
enum Ended {
    Done(What),
    /// Nothing happened: it is in no history.
    Nothing,
    /// It may have happened.
    Unknown(What),
}

/// One who changes an app.
pub(crate) struct User {
    pub(crate) plane: Arc<Plane>,
    pub(crate) app: String,
    pub(crate) history: Arc<History>,
    pub(crate) rng: Rng,
    /// The next mark; each user has its own.
    pub(crate) mark: u32,
    /// Between two steps.
    pub(crate) pace: Duration,
}

impl User {
    /// Does what comes to mind; what is missing comes first.
    pub(crate) async fn play(mut self) {
        let mut pace = tokio::time::interval(self.pace.max(Duration::from_micros(1)));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = What::Absent;
        for _ in 0..STEPS {
            pace.tick().await;
            let what = match last {
                What::Absent => self.create().await,
                What::Unreleased => self.deploy().await,
                _ => self.anything().await,
            };
            last = what.unwrap_or(What::Present);
        }
    }

    /// Reads all that there is.
    pub(crate) async fn look(&self) {
        self.show().await;
        self.list().await;
        self.config().await;
    }

    async fn anything(&mut self) -> Option<What> {
        match self.rng.u8(0..20) {
            0 => self.create().await,
            1 => self.destroy().await,
            2..4 => self.deploy().await,
            4..8 => self.set().await,
            8..12 => self.scale().await,
            12..14 => self.restart().await,
            14..16 => self.show().await,
            16..18 => self.list().await,
            _ => self.config().await,
        }
    }

    async fn create(&self) -> Option<What> {
        let body = json!({ "name": self.app });
        let call = self.call(Method::POST, "/v1/apps", Some(body));
        let what = async {
            match call.await {
                Ok(_) => Ended::Done(What::Created),
                Err((409, error)) if error.message.contains("exists already") => Ended::Done(What::Existed),
                Err(refusal) => ended(refusal, Some(What::Created)),
            }
        };
        self.record(what).await
    }

    async fn destroy(&self) -> Option<What> {
        let what = async {
            match self.call(Method::DELETE, &self.path(""), None).await {
                Ok(_) => Ended::Done(What::Destroyed),
                Err(refusal) => ended(refusal, Some(What::Destroyed)),
            }
        };
        self.record(what).await
    }

    async fn deploy(&mut self) -> Option<What> {
        let (mark, migrates) = (self.mark(), self.rng.bool());
        let path = self.path(&format!("/deploy?message=deploy+{mark}&migrate={migrates}"));
        let released = |number| What::Released {
            made: Made::Deploy(mark),
            migrates,
            number,
        };
        let what = async {
            let sent = self
                .plane
                .send(Method::POST, &path, &self.plane.admin, Some("image web"));
            let text = match read(harness::read(sent.await).await) {
                Ok(text) => text,
                Err(refusal) => return ended(refusal, Some(released(None))),
            };
            let last = text.lines().last().map(serde_json::from_str);
            match last.expect("an event").expect("a sound event") {
                DeployEvent::Released { release } => Ended::Done(released(Some(release.id.number()))),
                DeployEvent::Failed { error } => ended((error.code.status(), error), Some(released(None))),
                event => panic!("{event:?} came last"),
            }
        };
        self.record(what).await
    }

    async fn set(&mut self) -> Option<What> {
        let (mark, migrates) = (self.mark(), self.rng.bool());
        let body = json!({ "change": { "set": { format!("K{mark}"): "x" } }, "migrate": migrates });
        let released = |number| What::Released {
            made: Made::Config(mark),
            migrates,
            number,
        };
        let what = async {
            match self.call(Method::PATCH, &self.path("/config"), Some(body)).await {
                Ok(text) => {
                    let info: ReleaseInfo = parse(&text);
                    Ended::Done(released(Some(info.id.number())))
                }
                Err(refusal) => ended(refusal, Some(released(None))),
            }
        };
        self.record(what).await
    }

    async fn scale(&mut self) -> Option<What> {
        let web = self.rng.u32(1..=WEB_MAX);
        let body = json!({ "counts": { "web": web } });
        let what = async {
            match self.call(Method::PATCH, &self.path("/scale"), Some(body)).await {
                Ok(text) => {
                    let info: ScaleInfo = parse(&text);
                    let scale = Some(counts(info.scale));
                    Ended::Done(What::Scaled { web, scale })
                }
                Err(refusal) => ended(refusal, Some(What::Scaled { web, scale: None })),
            }
        };
        self.record(what).await
    }

    /// Changes nothing of what is recorded: but it meets the others' changes in the store.
    async fn restart(&self) -> Option<What> {
        let what = async {
            match self
                .call(Method::POST, &self.path("/restart"), Some(json!({})))
                .await
            {
                Ok(_) | Err((400 | 422, _)) => Ended::Done(What::Present),
                Err(refusal) => ended(refusal, None),
            }
        };
        self.record(what).await
    }

    async fn show(&self) -> Option<What> {
        let what = async {
            match self.call(Method::GET, &self.path(""), None).await {
                Ok(text) => {
                    let info: AppInfo = parse(&text);
                    let latest = info.latest.map(ReleaseId::number);
                    let scale = counts(info.scale);
                    Ended::Done(What::Found { latest, scale })
                }
                Err(refusal) => ended(refusal, None),
            }
        };
        self.record(what).await
    }

    async fn list(&self) -> Option<What> {
        let what = async {
            match self.call(Method::GET, &self.path("/releases"), None).await {
                Ok(text) => {
                    let mut releases: Vec<ReleaseInfo> = parse(&text);
                    releases.reverse();
                    for (n, release) in (1..).zip(&releases) {
                        assert_eq!(release.id.number(), n, "numbers have gaps: {releases:#?}");
                    }
                    Ended::Done(What::Listed(releases.iter().map(made).collect()))
                }
                Err(refusal) => ended(refusal, None),
            }
        };
        self.record(what).await
    }

    async fn config(&self) -> Option<What> {
        let what = async {
            match self.call(Method::GET, &self.path("/config"), None).await {
                Ok(text) => {
                    let info: ConfigInfo = parse(&text);
                    let latest = info.release.map(ReleaseId::number);
                    let keys = info.config.0.keys();
                    let mut marks: Vec<u32> = keys.map(|key| number(&key.as_str()[1..])).collect();
                    marks.sort_unstable();
                    Ended::Done(What::Configured { latest, marks })
                }
                Err(refusal) => ended(refusal, None),
            }
        };
        self.record(what).await
    }

    /// Writes down what came of a call, and gives it if it is known.
    async fn record(&self, what: impl Future<Output = Ended>) -> Option<What> {
        let now = || u64::try_from(self.history.start.elapsed().as_nanos()).expect("fits");
        let begin = now();
        let (what, end) = match what.await {
            Ended::Nothing => return None,
            Ended::Done(what) => (what, Some(now())),
            Ended::Unknown(what) => (what, None),
        };
        let (known, what) = (end.map(|_| what.clone()), Operation { begin, end, what });
        self.history.operations.lock().expect("lock").push(what);
        known
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/apps/{}{rest}", self.app)
    }

    fn mark(&mut self) -> u32 {
        self.mark += u32::try_from(USERS).expect("few");
        self.mark
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<String, (u16, ApiError)> {
        read(self.plane.call(method, path, body.as_ref()).await)
    }
}

fn read(answer: harness::Answer) -> Result<String, (u16, ApiError)> {
    match answer.status.is_success() {
        true => Ok(answer.text),
        false => Err((answer.status.as_u16(), answer.json())),
    }
}

/// What a refusal says: of a change `asked` for, or of a reading.
fn ended((status, error): (u16, ApiError), asked: Option<What>) -> Ended {
    let says = |text: &str| error.hint.as_deref().unwrap_or_default().contains(text);
    match status {
        404 => Ended::Done(What::Absent),
        409 if error.message.contains("no release") => Ended::Done(What::Unreleased),
        409 | 503 if says("may have happened") => asked.map_or(Ended::Nothing, Ended::Unknown),
        409 | 429 | 503 => Ended::Nothing,
        _ => panic!("{status} {error:?}"),
    }
}

fn made(release: &ReleaseInfo) -> Made {
    match release.message.strip_prefix("deploy ") {
        Some(mark) => Made::Deploy(number(mark)),
        None => Made::Config(number(release.message.strip_prefix("set K").expect("set KEY"))),
    }
}

fn counts(scales: std::collections::BTreeMap<ReleaseId, scale::Scale>) -> Scale {
    let web = "web".parse().expect("a name");
    let count = |(release, scale): (ReleaseId, scale::Scale)| (release.number(), scale.count(&web));
    scales.into_iter().map(count).collect()
}

fn number(text: &str) -> u32 {
    text.parse().expect("a mark")
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}
