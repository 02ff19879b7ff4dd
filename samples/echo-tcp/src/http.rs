//! As much of HTTP/1.1 as this server speaks: requests with a Content-Length or no body, and answers
//! with a Content-Length. What it does not understand it refuses, it never guesses.

const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A body is held in memory whole, so it must be small.
const BODY_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub content_type: Option<String>,
    pub body: Vec<u8>,
    pub keep_alive: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: &'static str,
    pub reason: &'static str,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Partial,
    /// A request, and how many bytes of the input it took.
    Complete(Request, usize),
    /// Nothing on this connection can be understood any more.
    Refused(Refusal),
}

impl Refusal {
    pub fn answer(&self) -> Vec<u8> {
        response(
            self.status,
            "text/plain",
            format!("{}\n", self.reason).as_bytes(),
            KeepAlive::No,
            Body::Send,
        )
    }
}

pub enum KeepAlive {
    Yes,
    No,
}

pub enum Body {
    Send,
    /// The answer to HEAD: the length is told, the body stays away.
    LeaveOut,
}

pub fn response(status: &str, content_type: &str, body: &[u8], keep: KeepAlive, send: Body) -> Vec<u8> {
    let connection = match keep {
        KeepAlive::Yes => "",
        KeepAlive::No => "connection: close\r\n",
    };
    let length = body.len();
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n{connection}\r\n"
    )
    .into_bytes();
    if let Body::Send = send {
        bytes.extend_from_slice(body);
    }
    bytes
}

pub fn parse(input: &[u8]) -> Parsed {
    let Some(head_bytes) = input.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if input.len() > HEAD_BYTES_MAX {
            refused("431 Request Header Fields Too Large", "the head is too long")
        } else {
            Parsed::Partial
        };
    };
    let (mut request, length) = match parse_head(&input[..head_bytes]) {
        Ok(head) => head,
        Err(refusal) => return Parsed::Refused(refusal),
    };
    let body_start = head_bytes + 4;
    let Some(body) = input.get(body_start..body_start + length) else {
        return Parsed::Partial;
    };
    request.body = body.to_vec();
    Parsed::Complete(request, body_start + length)
}

/// Reads the request line and the headers; returns the length of the body that follows.
fn parse_head(head: &[u8]) -> Result<(Request, usize), Refusal> {
    let bad = |reason| Refusal {
        status: "400 Bad Request",
        reason,
    };
    let head = std::str::from_utf8(head).map_err(|_| bad("the head is not text"))?;
    if head
        .replace("\r\n", "")
        .contains(|c: char| c.is_control() && c != '\t')
    {
        return Err(bad("the head has a control character")); // it must not get into an answer's head
    }
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad("the first line is not METHOD PATH VERSION"));
    };
    let mut keep_alive = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => {
            return Err(Refusal {
                status: "505 HTTP Version Not Supported",
                reason: "not HTTP/1",
            });
        }
    };
    let mut length: Option<usize> = None;
    let mut content_type = None;
    for line in lines {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| bad("a header without a colon"))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                let value = value.parse().ok().filter(|_| digits);
                let value = value.ok_or_else(|| bad("content-length is not a number"))?;
                if length.is_some_and(|earlier| earlier != value) {
                    return Err(bad("two different values of content-length"));
                }
                length = Some(value);
            }
            "transfer-encoding" => {
                return Err(Refusal {
                    status: "411 Length Required",
                    reason: "send a content-length",
                });
            }
            "connection" => keep_alive = keeps_alive(value, keep_alive),
            "content-type" => content_type = Some(value.to_owned()),
            _ => {}
        }
    }
    let length = length.unwrap_or(0);
    if length > BODY_BYTES_MAX {
        return Err(Refusal {
            status: "413 Content Too Large",
            reason: "the body is longer than 1 MiB",
        });
    }
    let path = target.split('?').next().unwrap_or(target).to_owned();
    Ok((
        Request {
            method: method.to_owned(),
            path,
            content_type,
            body: Vec::new(),
            keep_alive,
        },
        length,
    ))
}

fn keeps_alive(connection: &str, otherwise: bool) -> bool {
    let has = |wanted: &str| {
        connection
            .split(',')
            .any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    if has("close") {
        false
    } else {
        has("keep-alive") || otherwise
    }
}

fn refused(status: &'static str, reason: &'static str) -> Parsed {
    Parsed::Refused(Refusal { status, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(input: &[u8]) -> (Request, usize) {
        match parse(input) {
            Parsed::Complete(request, used) => (request, used),
            other => panic!("not complete: {other:?}"),
        }
    }

    fn refusal(input: &str) -> &'static str {
        match parse(input.as_bytes()) {
            Parsed::Refused(refusal) => &refusal.status[..3],
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn every_prefix_of_a_request_is_partial_and_the_next_request_is_left() {
        let input = b"POST /echo?x HTTP/1.1\r\nContent-Length: 5\r\nHost: a\r\n\r\nhelloGET";
        for end in 0..input.len() - 3 {
            assert_eq!(parse(&input[..end]), Parsed::Partial, "{end}");
        }
        let (request, used) = complete(input);
        assert_eq!(
            (request.path.as_str(), request.body.as_slice()),
            ("/echo", b"hello".as_slice())
        );
        assert_eq!(&input[used..], b"GET");
    }

    #[test]
    fn connections_are_kept_as_the_version_and_the_header_say() {
        for (head, keep) in [
            ("GET / HTTP/1.1\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
        ] {
            assert_eq!(complete(head.as_bytes()).0.keep_alive, keep, "{head}");
        }
    }

    #[test]
    fn what_is_ambiguous_or_too_large_is_refused() {
        assert_eq!(refusal("GET /\r\n\r\n"), "400");
        assert_eq!(refusal("GET / HTTP/2\r\n\r\n"), "505");
        assert_eq!(
            refusal("GET / HTTP/1.1\r\nContent-Type: a\nset-cookie: b\r\n\r\n"),
            "400"
        );
        assert_eq!(refusal("GET / HTTP/1.1\r\nno colon\r\n\r\n"), "400");
        assert_eq!(refusal("POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n"), "400");
        assert_eq!(
            refusal("POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"),
            "400"
        );
        assert_eq!(
            refusal("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            "411"
        );
        assert_eq!(
            refusal("POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"),
            "413"
        );
        assert_eq!(refusal(&"x".repeat(HEAD_BYTES_MAX + 1)), "431");
    }
}
