//! Which member of etcd is spoken to: one at a time, the next one when it does not answer.
//!
//! One client per member instead of a balanced one over all: a member that is paused takes connections and
//! never answers, and a balancer would go on giving it its share.
//!
//! Invariant: a commit is only sent over a connection that has answered before.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep, timeout_at},
};

use super::{
    EtcdConfig,
    meaning::{self, Meaning},
};

/// Time for a member to take a connection, and to answer what can be asked again of another one.
const ATTEMPT: Duration = Duration::from_secs(1);
/// Pause after each member was tried once, so that members without a leader are not asked in a busy loop.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// Silence after which a connection in use is tested, and the time it has to answer: etcd ends connections
/// that are tested more often than every five seconds.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3));

/// The members, and who is spoken to.
pub(super) struct Members {
    urls: Vec<String>,
    options: ConnectOptions,
    /// Longest time for a call, over all members that are tried.
    deadline: Duration,
    /// Grows by one each time that another member has its turn.
    turn: watch::Sender<usize>,
    open: Mutex<Option<Member>>,
}

/// A member that is spoken to, for one turn.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) client: Client,
    pub(super) turn: usize,
    /// Whether it has answered in this turn.
    proven: bool,
}

/// A call that was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// No member answered in time: what each of them said last. Nothing was done.
    Unreachable(String),
    /// It may have been done.
    Unknown(String),
    /// etcd refused it, and will again; nothing was done.
    Refused(String),
    /// The revision is no longer kept.
    Compacted,
    /// The answer is too long for one message.
    LongAnswer,
    /// etcd's database is full; it may have been done.
    NoSpace,
}

/// What a client's certificate, its key and the authorities are: contents, not names of files.
#[derive(Default)]
pub(super) struct Pem {
    pub(super) ca: Option<Vec<u8>>,
    pub(super) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Members {
    pub(super) fn new(config: &EtcdConfig, pem: Pem) -> Self {
        Self {
            urls: config.urls(),
            options: options(config, pem),
            deadline: config.deadline,
            turn: watch::Sender::new(0),
            open: Mutex::new(None),
        }
    }

    /// Asks what changes nothing, of one member after the other until one answers or the deadline passes.
    pub(super) async fn ask<T, A>(&self, call: impl Fn(Client) -> A) -> Result<T, Failure>
    where
        A: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut round = Round::new(self.deadline);
        loop {
            let attempt = round.attempt();
            let member = match self.member(attempt).await {
                Ok(member) => member,
                Err((turn, said)) => {
                    self.not_done(&mut round, turn, said).await?;
                    continue;
                }
            };
            match answer(attempt, Box::pin(call(member.client.clone()))).await {
                Ok(answer) => {
                    self.prove(member.turn).await;
                    return Ok(answer);
                }
                // What changes nothing may be asked again whatever became of it.
                Err(said) => self.not_done(&mut round, member.turn, said.again()).await?,
            }
        }
    }

    /// Asks once for a change: again only as long as it cannot have been done.
    pub(super) async fn change<T, A>(&self, call: impl Fn(Client) -> A) -> Result<T, Failure>
    where
        A: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut round = Round::new(self.deadline);
        loop {
            let member = match self.proven_member(round.attempt()).await {
                Ok(member) => member,
                Err((turn, said)) => {
                    self.not_done(&mut round, turn, said).await?;
                    continue;
                }
            };
            match answer(round.until, Box::pin(call(member.client.clone()))).await {
                Ok(answer) => return Ok(answer),
                Err(said) => self.not_done(&mut round, member.turn, said).await?,
            }
        }
    }

    /// The member whose turn it is; an error says what became of connecting to it, which changed nothing.
    pub(super) async fn member(&self, until: Instant) -> Result<Member, (usize, Meaning)> {
        let turn = *self.turn.borrow();
        let opening = async {
            let mut open = self.open.lock().await;
            if let Some(member) = open.as_ref().filter(|member| member.turn == turn) {
                return Ok(member.clone());
            }
            let url = &self.urls[turn % self.urls.len()];
            let client = Client::connect([url], Some(self.options.clone())).await?;
            let member = Member {
                client,
                turn,
                proven: false,
            };
            *open = Some(member.clone());
            Ok(member)
        };
        answer(until, Box::pin(opening))
            .await
            .map_err(|said| (turn, said.again()))
    }

    /// The same, once it has answered.
    async fn proven_member(&self, until: Instant) -> Result<Member, (usize, Meaning)> {
        let mut member = self.member(until).await?;
        if !member.proven {
            let asked = answer(until, Box::pin(member.client.status())).await;
            asked.map_err(|said| (member.turn, said.again()))?;
            self.prove(member.turn).await;
            member.proven = true;
        }
        Ok(member)
    }

    async fn prove(&self, turn: usize) {
        if let Some(member) = self
            .open
            .lock()
            .await
            .as_mut()
            .filter(|member| member.turn == turn)
        {
            member.proven = true;
        }
    }

    /// Gives the turn to the next member, if it still is that of `turn`.
    pub(super) fn leave(&self, turn: usize) {
        self.turn.send_if_modified(|now| {
            let is_now = *now == turn;
            *now += usize::from(is_now);
            is_now
        });
    }

    /// Returns when another member has its turn than in `turn`.
    pub(super) async fn left(&self, turn: usize) {
        let mut turns = self.turn.subscribe();
        // The sender is in self, so this ends by a change only.
        let _ = turns.wait_for(|now| *now != turn).await;
    }

    /// The URL of the member of `turn`.
    pub(super) fn url(&self, turn: usize) -> &str {
        &self.urls[turn % self.urls.len()]
    }

    /// Goes on to the next member when nothing was done, and fails when that was the last chance.
    async fn not_done(&self, round: &mut Round, turn: usize, said: Meaning) -> Result<(), Failure> {
        let failure = match said {
            Meaning::NotDone(reason) => {
                self.leave(turn);
                return round.next(self.url(turn), reason, self.urls.len()).await;
            }
            Meaning::Unknown(reason) => {
                self.leave(turn);
                Failure::Unknown(format!("{}: {reason}", self.url(turn)))
            }
            Meaning::Refused(reason) => Failure::Refused(reason),
            Meaning::NoSpace => Failure::NoSpace,
            Meaning::Compacted => Failure::Compacted,
            Meaning::LongAnswer => Failure::LongAnswer,
        };
        Err(failure)
    }
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The options hold a password and a key.
        f.debug_struct("Members")
            .field("urls", &self.urls)
            .finish_non_exhaustive()
    }
}

impl Meaning {
    /// The same for what changes nothing, so that it may be asked again.
    fn again(self) -> Self {
        match self {
            Meaning::Unknown(reason) => Meaning::NotDone(reason),
            other => other,
        }
    }
}

/// One call on its way from member to member.
struct Round {
    until: Instant,
    tried: usize,
    /// What each member said last.
    said: BTreeMap<String, String>,
}

impl Round {
    fn new(deadline: Duration) -> Self {
        Self {
            until: Instant::now() + deadline,
            tried: 0,
            said: BTreeMap::new(),
        }
    }

    /// When a member must have answered what can be asked of another one.
    fn attempt(&self) -> Instant {
        self.until.min(Instant::now() + ATTEMPT)
    }

    async fn next(&mut self, url: &str, reason: String, members: usize) -> Result<(), Failure> {
        self.said.insert(url.into(), reason);
        self.tried += 1;
        if self.tried.is_multiple_of(members) {
            sleep(ROUND_PAUSE).await;
        }
        if Instant::now() < self.until {
            return Ok(());
        }
        let said: Vec<String> = self
            .said
            .iter()
            .map(|(url, said)| format!("{url}: {said}"))
            .collect();
        Err(Failure::Unreachable(said.join("; ")))
    }
}

/// Waits for an answer. The calls are boxed: the client's futures are of many KiB, and would be in every
/// caller's.
async fn answer<T>(
    until: Instant,
    call: Pin<Box<impl Future<Output = Result<T, etcd_client::Error>>>>,
) -> Result<T, Meaning> {
    match timeout_at(until, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(meaning::of(&error)),
        Err(_) => Err(Meaning::Unknown("it does not answer".into())),
    }
}

fn options(config: &EtcdConfig, pem: Pem) -> ConnectOptions {
    let (interval, limit) = KEEP_ALIVE;
    let mut options = ConnectOptions::new()
        .with_connect_timeout(ATTEMPT)
        .with_keep_alive(interval, limit)
        .with_keep_alive_while_idle(false)
        // A member that has lost its leader says so, instead of letting its callers wait.
        .with_require_leader(true);
    if let Some((name, password)) = &config.user {
        options = options
            .with_user(name, password.reveal())
            .with_auto_token_refresh(true);
    }
    if config.tls {
        let mut tls = TlsOptions::new();
        tls = match pem.ca {
            Some(ca) => tls.ca_certificate(Certificate::from_pem(ca)),
            None => tls.with_webpki_roots(),
        };
        if let Some((certificate, key)) = pem.identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        options = options.with_tls(tls);
    }
    options
}
