//! What a push asks for, and what becomes of each of its refs.
//!
//! Invariant: of one push at most one ref is built, and no other is ever kept.

use std::{fmt, io, str::FromStr};

use bytes::BytesMut;
use tokio::io::AsyncRead;

use crate::git::pkt;

/// The branches that are built; the first is what a new repository's HEAD names.
pub(crate) const BRANCHES: [&str; 2] = ["refs/heads/main", "refs/heads/master"];
/// Bytes of all commands of a push: some hundred refs with long names.
const COMMANDS_BYTES_MAX: usize = 64 << 10;
/// Refs of one push: nobody pushes all of a large repository's branches to a platform on purpose.
const COMMANDS_MAX: usize = 256;
/// Longest name of a ref, as file systems have it.
const REF_BYTES_MAX: usize = 255;
/// What this end can do. Deletions are of it so that they are refused with a reason.
const CAPABILITIES: &str = concat!(
    "report-status delete-refs side-band-64k quiet ofs-delta object-format=sha1 agent=gilliam/",
    env!("CARGO_PKG_VERSION")
);

/// The name of an object (SHA-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectId(String);

/// A ref that a client wants to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// What the client saw it at; none when it is new.
    pub(crate) old: Option<ObjectId>,
    /// What it is to be; none when it is to go.
    pub(crate) new: Option<ObjectId>,
    pub(crate) name: String,
}

/// A push's commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) changes: Vec<Change>,
    /// It comes from a clone without the whole history.
    pub(crate) is_shallow: bool,
    /// The client shows what is said to people.
    pub(crate) has_sideband: bool,
}

/// What becomes of a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is built, and kept when that succeeds.
    Build,
    /// It is neither kept nor refused.
    Passed,
    /// It is refused, for this reason.
    Refused(&'static str),
}

/// Reads the commands of a push, up to the pack.
///
/// Errors: `InvalidData` with what is wrong, or what reading gives.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Request> {
    let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_string());
    let mut request = Request::default();
    let mut room = COMMANDS_BYTES_MAX;
    while let Some(payload) = pkt::read(from, room).await? {
        room -= payload.len();
        let text = String::from_utf8(payload).map_err(|_| invalid("a ref has a name that is not UTF-8"))?;
        let text = text.trim_end_matches('\n');
        if text.starts_with("shallow ") {
            request.is_shallow = true;
            continue;
        }
        let (command, capabilities) = match text.split_once('\0') {
            Some((command, capabilities)) if request.changes.is_empty() => (command, capabilities),
            Some(_) => return Err(invalid("a ref has a NUL in its name")),
            None => (text, ""),
        };
        let mut capabilities = capabilities.split(' ');
        request.has_sideband |= capabilities.any(|word| word == "side-band-64k");
        let change = command
            .parse()
            .map_err(|()| invalid("a command is not of the form OLD NEW REF"))?;
        request.changes.push(change);
        if request.changes.len() > COMMANDS_MAX {
            return Err(invalid("it names too many refs"));
        }
    }
    Ok(request)
}

/// What becomes of each ref of a push, in its order.
pub(crate) fn judge(changes: &[Change]) -> Vec<Verdict> {
    let mut is_taken = false;
    let verdict = |change: &Change| match change.name.as_str() {
        name if name.starts_with("refs/tags/") => Verdict::Passed,
        name if !BRANCHES.contains(&name) => Verdict::Refused("only main and master are built here"),
        _ if change.new.is_none() => Verdict::Refused("the branch that is built cannot be deleted"),
        _ if std::mem::replace(&mut is_taken, true) => Verdict::Refused("push main or master, not both"),
        _ => Verdict::Build,
    };
    changes.iter().map(verdict).collect()
}

/// The answer to `info/refs`: what is there, and what this end can do.
pub(crate) fn advertisement(refs: &[(&str, ObjectId)]) -> BytesMut {
    let mut out = BytesMut::new();
    pkt::line(&mut out, b"# service=git-receive-pack\n");
    out.extend_from_slice(pkt::FLUSH);
    if refs.is_empty() {
        let none = "0".repeat(ObjectId::DIGITS);
        pkt::line(
            &mut out,
            format!("{none} capabilities^{{}}\0{CAPABILITIES}\n").as_bytes(),
        );
    }
    for (n, (name, id)) in refs.iter().enumerate() {
        let tail = if n == 0 {
            format!("\0{CAPABILITIES}")
        } else {
            String::new()
        };
        pkt::line(&mut out, format!("{id} {name}{tail}\n").as_bytes());
    }
    out.extend_from_slice(pkt::FLUSH);
    out
}

/// The report of a push: whether its objects were taken, and what became of each ref.
pub(crate) fn report(unpacked: Result<(), &str>, refs: &[(&str, Result<(), &str>)]) -> BytesMut {
    let mut out = BytesMut::new();
    let unpacked = format!("unpack {}\n", unpacked.err().unwrap_or("ok"));
    pkt::line(&mut out, unpacked.as_bytes());
    for (name, result) in refs {
        let line = match result {
            Ok(()) => format!("ok {name}\n"),
            Err(reason) => format!("ng {name} {reason}\n"),
        };
        pkt::line(&mut out, line.as_bytes());
    }
    out.extend_from_slice(pkt::FLUSH);
    out
}

// === impl ObjectId ===

impl ObjectId {
    const DIGITS: usize = 40;

    fn is_zero(&self) -> bool {
        self.0.bytes().all(|b| b == b'0')
    }
}

impl FromStr for ObjectId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let is_id = text.len() == Self::DIGITS && text.bytes().all(is_digit);
        is_id.then(|| Self(text.to_string())).ok_or(())
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Change {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (old, rest) = text.split_once(' ').ok_or(())?;
        let (new, name) = rest.split_once(' ').ok_or(())?;
        let is_name = !name.is_empty() && name.len() <= REF_BYTES_MAX && !name.contains(char::is_control);
        let some = |id: ObjectId| (!id.is_zero()).then_some(id);
        match is_name {
            true => Ok(Self {
                old: some(old.parse()?),
                new: some(new.parse()?),
                name: name.to_string(),
            }),
            false => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "1111111111111111111111111111111111111111";
    const NEW: &str = "2222222222222222222222222222222222222222";
    const NONE: &str = "0000000000000000000000000000000000000000";

    fn packed(lines: &[String]) -> BytesMut {
        let mut out = BytesMut::new();
        lines.iter().for_each(|text| pkt::line(&mut out, text.as_bytes()));
        out.extend_from_slice(pkt::FLUSH);
        out
    }

    #[tokio::test]
    async fn commands_are_read_up_to_the_pack() {
        let mut bytes = packed(&[
            format!("{OLD} {NEW} refs/heads/main\0 report-status side-band-64k agent=git/2"),
            format!("{NONE} {NEW} refs/tags/v1"),
        ]);
        bytes.extend_from_slice(b"PACK");
        let mut from = &bytes[..];
        let request = read(&mut from).await.expect("reads");
        assert_eq!(from, b"PACK");
        assert!(request.has_sideband && !request.is_shallow);
        assert_eq!(
            request.changes[0]
                .old
                .as_ref()
                .map(ToString::to_string)
                .as_deref(),
            Some(OLD)
        );
        assert_eq!(
            (request.changes[1].old.as_ref(), request.changes[1].name.as_str()),
            (None, "refs/tags/v1")
        );
        let shallow = packed(&[format!("shallow {OLD}"), format!("{NONE} {NEW} refs/heads/main")]);
        assert!(read(&mut &shallow[..]).await.expect("reads").is_shallow);
        assert_eq!(read(&mut &b"0000"[..]).await.expect("reads"), Request::default());
    }

    #[tokio::test]
    async fn what_is_no_push_is_refused() {
        for lines in [
            vec!["hello".to_string()],
            vec![format!("{OLD} {NEW} ")],
            vec![format!("{OLD} {NEW} refs/heads/a\x1b[31m")],
            vec![format!("{OLD} {NEW} refs/heads/{}", "x".repeat(300))],
            vec![format!(
                "{OLD} {} refs/heads/main",
                NEW.to_uppercase().replace('2', "A")
            )],
            vec![
                format!("{OLD} {NEW} refs/heads/a"),
                format!("{OLD} {NEW} refs/heads/b\0x"),
            ],
            (0..300).map(|n| format!("{OLD} {NEW} refs/heads/{n}")).collect(),
            (0..250)
                .map(|n| format!("{OLD} {NEW} refs/{n}/{}", "x".repeat(240)))
                .collect(),
        ] {
            assert!(read(&mut &packed(&lines)[..]).await.is_err(), "{lines:?}");
        }
        assert!(read(&mut &b"0009\xff\xfe\xfd\xfc\xfb0000"[..]).await.is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
            let _ = runtime.block_on(read(&mut &bytes[..]));
        }
    }

    #[test]
    fn one_branch_is_built_tags_pass_and_others_are_refused() {
        let change =
            |name: &str, new: &str| -> Change { format!("{OLD} {new} {name}").parse().expect("change") };
        let judged = |changes: &[Change]| -> Vec<String> {
            let words = judge(changes).into_iter().map(|verdict| match verdict {
                Verdict::Build => "build".to_string(),
                Verdict::Passed => "passed".to_string(),
                Verdict::Refused(reason) => reason.to_string(),
            });
            words.collect()
        };
        assert_eq!(
            judged(&[change("refs/heads/main", NEW), change("refs/tags/v1", NEW)]),
            ["build", "passed"]
        );
        assert_eq!(judged(&[change("refs/heads/master", NEW)]), ["build"]);
        assert_eq!(
            judged(&[change("refs/heads/main", NEW), change("refs/heads/master", NEW)])[1],
            "push main or master, not both"
        );
        for name in [
            "refs/heads/topic",
            "refs/replace/x",
            "refs/notes/y",
            "HEAD",
            "refs/heads/main/../../x",
        ] {
            assert_eq!(
                judged(&[change(name, NEW)]),
                ["only main and master are built here"],
                "{name}"
            );
        }
        assert_eq!(
            judged(&[change("refs/heads/main", NONE)]),
            ["the branch that is built cannot be deleted"]
        );
    }

    #[test]
    fn refs_are_told_with_what_this_end_can_do() {
        let empty = String::from_utf8(advertisement(&[]).to_vec()).expect("text");
        assert!(
            empty.starts_with("001f# service=git-receive-pack\n0000"),
            "{empty}"
        );
        assert!(
            empty.contains(&format!("{NONE} capabilities^{{}}\0report-status ")),
            "{empty}"
        );
        let id: ObjectId = NEW.parse().expect("id");
        let one = String::from_utf8(advertisement(&[("refs/heads/main", id)]).to_vec()).expect("text");
        assert!(
            one.contains(&format!("{NEW} refs/heads/main\0report-status")) && one.ends_with("\n0000"),
            "{one}"
        );
    }

    #[test]
    fn a_report_names_each_ref() {
        let refs = [("refs/heads/main", Err("build failed")), ("refs/tags/v1", Ok(()))];
        let text = String::from_utf8(report(Ok(()), &refs).to_vec()).expect("text");
        assert_eq!(
            text,
            "000eunpack ok\n0024ng refs/heads/main build failed\n0014ok refs/tags/v1\n0000"
        );
    }
}
