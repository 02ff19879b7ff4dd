//! What a component imports: names of interfaces, and how two lists of them differ.
//!
//! An image keeps them, so that a new release can be compared with the one before without either component.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Names of imports, `wasi:http/types@0.2.12`, sorted, each once.
///
/// One allocation, for every process type of every app has them in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeSet<String>", into = "Vec<String>")]
pub struct Imports(Box<str>);

impl Imports {
    /// Those of a component.
    pub fn new(names: &BTreeSet<String>) -> Self {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        // No name of an import has a line end in it: they are identifiers of WIT.
        Self(names.join("\n").into())
    }

    /// Each name.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.lines()
    }
}

impl From<BTreeSet<String>> for Imports {
    fn from(names: BTreeSet<String>) -> Self {
        Self::new(&names)
    }
}

impl From<Imports> for Vec<String> {
    fn from(imports: Imports) -> Self {
        imports.iter().map(str::to_string).collect()
    }
}
