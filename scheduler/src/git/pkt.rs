//! pkt-lines, the framing of git's protocol (gitprotocol-common), and the sideband of a push's answer.

use std::io;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The end of a group of lines.
pub(crate) const FLUSH: &[u8] = b"0000";
/// Longest pkt-line with its length (gitprotocol-common).
const LINE_BYTES_MAX: usize = 65_520;
/// Digits of a pkt-line's length.
const LENGTH_BYTES: usize = 4;
/// Longest payload of a sideband packet: a pkt-line less its length and its band.
const BAND_BYTES_MAX: usize = LINE_BYTES_MAX - LENGTH_BYTES - 1;

/// What a sideband packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Band {
    /// For the program.
    Data = 1,
    /// For people: git prints `remote: ` before each line.
    Progress = 2,
}

/// Adds a pkt-line.
pub(crate) fn line(out: &mut BytesMut, payload: &[u8]) {
    debug_assert!(payload.len() <= LINE_BYTES_MAX - LENGTH_BYTES);
    out.put_slice(format!("{:04x}", payload.len() + LENGTH_BYTES).as_bytes());
    out.put_slice(payload);
}

/// The payload in packets of a band.
pub(crate) fn banded(band: Band, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 16);
    for piece in payload.chunks(BAND_BYTES_MAX) {
        out.put_slice(format!("{:04x}", piece.len() + LENGTH_BYTES + 1).as_bytes());
        out.put_u8(band as u8);
        out.put_slice(piece);
    }
    out.freeze()
}

/// A packet that says nothing: it tells both sides that the other is there (git's `receive.keepAlive`).
pub(crate) fn keep_alive() -> Bytes {
    Bytes::from_static(b"0005\x02")
}

/// A line for people, without anything that a terminal obeys.
pub(crate) fn shown(text: &str) -> Bytes {
    let mut text = text.replace(|c: char| c.is_control() && c != '\t', "?");
    text.push('\n');
    banded(Band::Progress, text.as_bytes())
}

/// Reads a pkt-line's payload; none for a flush.
///
/// Errors: `InvalidData` for a length that is none, or beyond `bytes_max`.
pub(crate) async fn read(
    from: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> io::Result<Option<Vec<u8>>> {
    let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_string());
    let mut digits = [0; LENGTH_BYTES];
    from.read_exact(&mut digits).await?;
    let length = std::str::from_utf8(&digits)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|text| usize::from_str_radix(text, 16).ok())
        .ok_or_else(|| invalid("a length is not a number"))?;
    match length {
        0 => return Ok(None),
        1..=LENGTH_BYTES => return Err(invalid("a line has no content")),
        n if n > LINE_BYTES_MAX || n - LENGTH_BYTES > bytes_max => {
            return Err(invalid("there are too many lines"));
        }
        _ => {}
    }
    let mut payload = vec![0; length - LENGTH_BYTES];
    from.read_exact(&mut payload).await?;
    Ok(Some(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_packets_begin_with_their_length() {
        let mut out = BytesMut::new();
        line(&mut out, b"unpack ok\n");
        assert_eq!(&out[..], b"000eunpack ok\n");
        assert_eq!(&banded(Band::Progress, b"hi\n")[..], b"0008\x02hi\n");
        let long = banded(Band::Data, &[b'x'; BAND_BYTES_MAX + 1]);
        assert!(long.starts_with(b"fff0\x01x") && long.ends_with(b"0006\x01x"));
        assert_eq!(&shown("\x1b[31mred\ttab")[..], b"0012\x02?[31mred\ttab\n");
    }

    #[tokio::test]
    async fn lines_are_read_within_their_limit() {
        for (bytes, want) in [(&b"0008abcd"[..], Some(&b"abcd"[..])), (b"0000", None)] {
            let got = read(&mut &bytes[..], 100).await.expect("reads");
            assert_eq!(got.as_deref(), want);
        }
        for bytes in [
            &b"0004"[..],
            b"0001",
            b"zzzz",
            b"+008abcd",
            b"0009abcd",
            b"00",
            b"fff1x",
            b"00ffabcd",
        ] {
            assert!(read(&mut &bytes[..], 100).await.is_err(), "{bytes:?}");
        }
    }
}
