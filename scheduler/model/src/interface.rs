//! Names of interfaces, `NAMESPACE:PACKAGE/INTERFACE@VERSION`, and which versions stand in for each other.

/// A parsed name of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceName<'a> {
    /// `wasi:http/types`.
    pub path: &'a str,
    /// `wasi:http`.
    pub package: &'a str,
    /// `0.2.12`; empty when there is none.
    pub version: &'a str,
}

impl<'a> InterfaceName<'a> {
    /// None when the name is not that of an interface.
    pub fn parse(name: &'a str) -> Option<Self> {
        let (path, version) = name.split_once('@').unwrap_or((name, ""));
        let (package, _) = path.split_once('/')?;
        package.contains(':').then_some(Self {
            path,
            package,
            version,
        })
    }

    /// The versions that it is compatible with, as their common part: `0.2` for `0.2.3`. None for drafts,
    /// which differ from the release they became, and for what has no version (semver.org, items 9 and 4;
    /// wasmtime links by it).
    pub fn line(&self) -> Option<&'a str> {
        let release = self
            .version
            .split_once('+')
            .map_or(self.version, |(release, _)| release);
        let parts: Vec<&str> = release.split('.').collect();
        let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if parts.len() != 3 || !parts.iter().all(is_number) {
            return None;
        }
        let significant = parts.iter().position(|part| part.bytes().any(|b| b != b'0'))?;
        let length = parts[..=significant].iter().map(|part| part.len()).sum::<usize>() + significant;
        Some(&release[..length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_belongs_to_the_line_it_is_compatible_with() {
        for (name, line) in [
            ("wasi:http/types@0.2.12", Some("0.2")),
            ("wasi:http/types@0.3.0", Some("0.3")),
            ("wasi:http/types@0.2.3+meta", Some("0.2")),
            ("a:b/c@1.4.2", Some("1")),
            ("a:b/c@10.0.0", Some("10")),
            ("a:b/c@0.0.7", Some("0.0.7")),
            ("wasi:http/types@0.3.0-rc-2025-09-16", None),
            ("wasi:keyvalue/store@0.2.0-draft", None),
            ("a:b/c@0.0.0", None),
            ("a:b/c@0.2", None),
            ("a:b/c@0..2", None),
            ("a:b/c", None),
        ] {
            assert_eq!(InterfaceName::parse(name).expect(name).line(), line, "{name}");
        }
    }

    #[test]
    fn a_name_has_a_namespace_a_package_and_an_interface() {
        let name = InterfaceName::parse("wasi:http/types@0.2.1").expect("name");
        assert_eq!(
            (name.path, name.package, name.version),
            ("wasi:http/types", "wasi:http", "0.2.1")
        );
        for other in ["run", "a/b", "a:b", "", "[method]a.b"] {
            assert_eq!(InterfaceName::parse(other), None, "{other}");
        }
    }
}
