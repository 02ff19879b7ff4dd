//! A transaction that goes on from call to call: it holds the writer of its database, for a bounded time.
//!
//! Invariant: between two calls it has a connection and no thread. Whatever ends it, the connection is rolled back
//! before anybody else has it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{sync::oneshot, task::AbortHandle};

use super::{
    Payer,
    connection::{Access, Connection, Outcome, Room, Watch},
    error::SqlError,
    limits,
    pool::{Pool, Turn, metered},
    value::{Answer, Statement},
};

/// Where a transaction is.
#[derive(Debug)]
enum State {
    /// Between two calls.
    Open(Connection, Turn),
    /// In a call, which has the connection.
    Busy,
    /// At its end, and why.
    Ended(&'static str),
}

/// A transaction. Dropped, it is rolled back.
#[derive(Debug)]
pub struct Transaction {
    inner: Arc<Inner>,
    /// Ends it in time.
    clock: AbortHandle,
}

struct Inner {
    state: Mutex<State>,
    pool: Arc<Pool>,
    payer: Arc<dyn Payer>,
    deadline: tokio::time::Instant,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// How a call leaves its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    GoesOn,
    Commits,
}

impl Transaction {
    pub(super) async fn begin(pool: Arc<Pool>, turn: Turn, payer: Arc<dyn Payer>) -> Result<Self, SqlError> {
        let deadline = tokio::time::Instant::now() + pool.options().transaction_max;
        let inner = Arc::new(Inner {
            state: Mutex::new(State::Busy),
            pool: pool.clone(),
            payer,
            deadline,
        });
        let timed = inner.clone();
        let clock = tokio::spawn(async move {
            tokio::time::sleep_until(deadline).await;
            timed.end("its time was over");
        });
        let this = Self {
            inner: inner.clone(),
            clock: clock.abort_handle(),
        };
        let begun = inner.clone();
        let begin = move || {
            let connection = pool.take(Access::Write)?;
            connection.watched(Arc::new(Watch::new(limits::STATEMENT_MAX)));
            match connection.begin() {
                Ok(()) => begun.leave(connection, turn),
                Err(error) => {
                    pool.put_back(connection);
                    return Err(error);
                }
            }
            Ok(())
        };
        inner.call(begin).await?;
        Ok(this)
    }

    /// Runs one statement. After an error it may go on, unless SQLite has given it up.
    pub async fn query(&self, statement: Statement) -> Result<Answer, SqlError> {
        let (connection, turn) = self.inner.take()?;
        let watch = Arc::new(Watch::until(
            self.inner.deadline.into_std(),
            self.inner.pool.options().transaction_max,
        ));
        let _given_up = super::pool::GivenUp(watch.clone());
        let inner = self.inner.clone();
        let run = move || {
            connection.watched(watch);
            let outcome = connection.run(&statement, &mut Room::default());
            match (connection.is_in_transaction(), outcome) {
                (true, outcome) => {
                    inner.leave(connection, turn);
                    match outcome? {
                        Outcome::Done(answer) => Ok(answer),
                        Outcome::Writes => Err(SqlError::Failed("its connection only reads".to_owned())),
                    }
                }
                (false, outcome) => {
                    *inner.state() = State::Ended("a statement rolled it back");
                    inner.pool.put_back(connection);
                    drop(turn);
                    outcome?;
                    Err(SqlError::Ended("a statement rolled it back"))
                }
            }
        };
        self.inner.call(run).await
    }

    /// Ends it: all of it is on the disk.
    pub async fn commit(self) -> Result<(), SqlError> {
        self.finish(Then::Commits).await
    }

    /// Ends it: nothing of it was done.
    pub async fn roll_back(self) -> Result<(), SqlError> {
        self.finish(Then::GoesOn).await
    }

    async fn finish(self, then: Then) -> Result<(), SqlError> {
        let (connection, turn) = self.inner.take()?;
        let inner = self.inner.clone();
        let finish = move || {
            // A commit is not cut off: whoever hears nothing cannot know.
            connection.watched(Arc::new(Watch::new(limits::STATEMENT_MAX)));
            let result = match then {
                Then::Commits => connection.commit(),
                Then::GoesOn => Ok(()),
            };
            *inner.state() = State::Ended("it was committed or rolled back");
            inner.pool.put_back(connection);
            drop(turn);
            result
        };
        self.inner.call(finish).await
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.clock.abort();
        self.inner.end("it was dropped");
    }
}

impl Inner {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection, for one call.
    fn take(&self) -> Result<(Connection, Turn), SqlError> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Busy) {
            State::Open(connection, turn) => Ok((connection, turn)),
            State::Busy => Err(SqlError::Busy("the transaction is in another call")),
            State::Ended(why) => {
                *state = State::Ended(why);
                Err(SqlError::Ended(why))
            }
        }
    }

    /// Gives the connection back after a call; if the transaction has ended meanwhile it is rolled back.
    fn leave(&self, connection: Connection, turn: Turn) {
        let mut state = self.state();
        match *state {
            State::Busy => *state = State::Open(connection, turn),
            State::Open(..) | State::Ended(_) => {
                drop(state);
                self.pool.put_back(connection);
                drop(turn);
            }
        }
    }

    /// Ends it from outside. A connection in a call is rolled back when that ends.
    fn end(self: &Arc<Self>, why: &'static str) {
        let ended = {
            let mut state = self.state();
            match *state {
                State::Ended(_) => return,
                _ => std::mem::replace(&mut *state, State::Ended(why)),
            }
        };
        if let State::Open(connection, turn) = ended {
            let pool = self.pool.clone();
            self.pool.threads().run(Box::new(move || {
                pool.put_back(connection);
                drop(turn);
            }));
        }
    }

    /// Does something on a thread for databases, at the guest's expense.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, SqlError> {
        let (answer, answered) = oneshot::channel();
        let payer = self.payer.clone();
        self.pool.threads().run(Box::new(move || {
            let _ = answer.send(metered(&*payer, work));
        }));
        answered
            .await
            .unwrap_or_else(|_| Err(SqlError::Failed("its thread ended".to_owned())))
    }
}
