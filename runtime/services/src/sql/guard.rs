//! What statements of apps may do: asked by SQLite for each part of a statement while it is prepared.
//!
//! In flows an action, out flows yes or the name of what is refused. Pure.
//!
//! Invariant: what is not named here is refused: files, other databases, extensions, settings of the connection,
//! transactions, which belong to the platform, and whatever a later SQLite adds.

use rusqlite::hooks::{AuthAction, AuthContext};

/// Virtual tables that keep their data in the database itself.
const MODULES: [&str; 4] = ["fts5", "fts5vocab", "rtree", "rtree_i32"];
/// Functions that reach beyond the database, or into the host's memory.
const FUNCTIONS_DENIED: [&str; 4] = ["load_extension", "fts3_tokenizer", "sqlite_log", "sqlite_dbpage"];
/// Pragmas that only look, or set what is kept in the database and means nothing to SQLite.
const PRAGMAS: [&str; 19] = [
    "application_id",
    "collation_list",
    "compile_options",
    "data_version",
    "encoding",
    "foreign_key_check",
    "foreign_key_list",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "page_count",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];
/// Pragmas that look when they are given no value, and set something for everybody when they are.
const PRAGMAS_READ: [&str; 5] = [
    "foreign_keys",
    "journal_mode",
    "max_page_count",
    "page_size",
    "schema_version",
];
/// How a refused change of a transaction is called.
pub(super) const TRANSACTIONS: &str = "a statement of transactions";
/// How a refused temporary object is called.
pub(super) const TEMPORARY: &str = "a temporary table, index, view or trigger";

/// Refuses what an app may not do, by its name.
pub(super) fn check(context: &AuthContext<'_>) -> Result<(), &'static str> {
    let is_look = matches!(
        context.action,
        AuthAction::Select
            | AuthAction::Read { .. }
            | AuthAction::Function { .. }
            | AuthAction::Pragma { .. }
    );
    if !is_look && context.database_name.is_some_and(|name| name != "main") {
        return Err(match context.action {
            AuthAction::Attach { .. } | AuthAction::Detach { .. } => "ATTACH, DETACH or VACUUM",
            _ => TEMPORARY,
        });
    }
    match &context.action {
        AuthAction::Select
        | AuthAction::Recursive
        | AuthAction::Insert { .. }
        | AuthAction::Update { .. }
        | AuthAction::Delete { .. }
        | AuthAction::CreateTable { .. }
        | AuthAction::CreateIndex { .. }
        | AuthAction::CreateView { .. }
        | AuthAction::CreateTrigger { .. }
        | AuthAction::DropTable { .. }
        | AuthAction::DropIndex { .. }
        | AuthAction::DropView { .. }
        | AuthAction::DropTrigger { .. }
        | AuthAction::DropVtable { .. }
        | AuthAction::AlterTable { .. }
        | AuthAction::Reindex { .. }
        | AuthAction::Analyze { .. } => Ok(()),
        AuthAction::Read { table_name, .. } if is(table_name, &["sqlite_dbpage", "dbstat"]) => {
            Err("a table of the database's pages")
        }
        AuthAction::Read { .. } => Ok(()),
        AuthAction::Function { function_name } if is(function_name, &FUNCTIONS_DENIED) => {
            Err("that function")
        }
        AuthAction::Function { .. } => Ok(()),
        AuthAction::CreateVtable { module_name, .. } if is(module_name, &MODULES) => Ok(()),
        AuthAction::CreateVtable { .. } => Err("a virtual table other than fts5 and rtree"),
        AuthAction::Pragma { pragma_name, .. } if is(pragma_name, &PRAGMAS) => Ok(()),
        AuthAction::Pragma {
            pragma_name,
            pragma_value: None,
        } if is(pragma_name, &PRAGMAS_READ) => Ok(()),
        AuthAction::Pragma { .. } => Err("that PRAGMA"),
        AuthAction::Transaction { .. } => Err(TRANSACTIONS),
        AuthAction::Savepoint { .. } => Err("SAVEPOINT"),
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => Err("ATTACH, DETACH or VACUUM"),
        AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempView { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::DropTempTable { .. }
        | AuthAction::DropTempIndex { .. }
        | AuthAction::DropTempView { .. }
        | AuthAction::DropTempTrigger { .. } => Err(TEMPORARY),
        _ => Err("such a statement"),
    }
}

fn is(name: &str, list: &[&str]) -> bool {
    list.iter().any(|one| name.eq_ignore_ascii_case(one))
}
