//! What goes wrong with PostgreSQL, and what that says.

use tokio_postgres::error::{DbError, SqlState};

use super::engine::Engine;
use crate::{QueueError, error::Trouble};

/// An operation that was not done.
#[derive(Debug)]
pub(super) enum Fault {
    /// It was refused, or PostgreSQL cannot be reached.
    Refused(QueueError),
    /// A statement failed: nothing of its transaction was done.
    Sql(tokio_postgres::Error),
    /// The connection ended while the transaction was committed: it may be done.
    Unsure(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Fault::Sql(error)
    }
}

impl From<QueueError> for Fault {
    fn from(error: QueueError) -> Self {
        Fault::Refused(error)
    }
}

impl Fault {
    /// Whether nothing was done, and the same may go well in a moment.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Fault::Unsure(_) => false,
            Fault::Refused(error) => matches!(
                error,
                QueueError::Engine {
                    trouble: Trouble::Away,
                    ..
                }
            ),
            Fault::Sql(error) => match error.code() {
                None => true,
                Some(code) => trouble(code) == Trouble::Away,
            },
        }
    }

    /// As it is told.
    pub(super) fn said(self, engine: &Engine) -> QueueError {
        match self {
            Fault::Refused(error) => error,
            Fault::Unsure(error) => engine.trouble(Trouble::Unsure, reason(&error)),
            Fault::Sql(error) => {
                let trouble = error.code().map_or(Trouble::Away, trouble);
                engine.trouble(trouble, reason(&error))
            }
        }
    }
}

/// What PostgreSQL says, without what we asked.
fn reason(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} ({})", DbError::message(error), error.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

/// What a code of PostgreSQL means for us.
fn trouble(code: &SqlState) -> Trouble {
    let code = code.code();
    match code {
        "53100" => Trouble::Full,
        "28000" | "28P01" => Trouble::Credentials,
        "3D000" => Trouble::Database,
        "42501" | "25006" => Trouble::Forbidden,
        // Of the class «operator intervention» and «insufficient resources», lost races, and locks that
        // others hold.
        _ if ["08", "23", "40", "53", "55", "57"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            Trouble::Away
        }
        _ => Trouble::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_who_must_act() {
        let of = |code: &str| trouble(&SqlState::from_code(code));
        assert_eq!(of("53100"), Trouble::Full);
        assert_eq!(of("53300"), Trouble::Away, "too many connections");
        assert_eq!(of("28P01"), Trouble::Credentials);
        assert_eq!(of("3D000"), Trouble::Database);
        assert_eq!(of("42501"), Trouble::Forbidden);
        assert_eq!(of("57P03"), Trouble::Away, "it starts");
        assert_eq!(of("57014"), Trouble::Away, "a statement took too long");
        assert_eq!(of("42P01"), Trouble::Broken, "a table is not there");
    }
}
