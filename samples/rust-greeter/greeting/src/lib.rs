//! What both processes say.

/// A greeting for whoever is named in the config: `gilliam config NAME=you`.
pub fn greeting() -> String {
    let name = std::env::var("NAME").unwrap_or_else(|_| "world".to_string());
    format!("Hello, {name}!")
}
