//! TLS in front of HTTP: the handshake of a new connection, and what its client proved to be.
//!
//! In flows an accepted socket; out flows a stream that is read and written alike with TLS or without, and the
//! certificate of a client that showed one. Which certificates are good is the affair of the `rustls` settings that a
//! server was given.
//!
//! Invariant: no byte of HTTP is read before the handshake is done.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The certificate that a request's client proved to hold the key of, in the extensions of the request; absent when it
/// showed none.
#[derive(Debug, Clone)]
pub struct ClientCertificate(Arc<CertificateDer<'static>>);

impl ClientCertificate {
    /// A certificate that came otherwise than by a connection.
    pub fn new(certificate: CertificateDer<'static>) -> Self {
        Self(Arc::new(certificate))
    }

    /// The DNS names it is for.
    pub fn dns_names(&self) -> Vec<String> {
        let parsed = webpki::EndEntityCert::try_from(&*self.0);
        parsed.map_or_else(
            |_| Vec::new(),
            |parsed| parsed.valid_dns_names().map(str::to_owned).collect(),
        )
    }

    /// Its public key (`SubjectPublicKeyInfo`, DER).
    pub fn public_key(&self) -> Option<Vec<u8>> {
        let parsed = webpki::EndEntityCert::try_from(&*self.0).ok()?;
        Some(parsed.subject_public_key_info().to_vec())
    }
}

/// A connection's bytes.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Does the handshake, if `tls` asks for one; none when the client does not do its part in time.
pub(crate) async fn accept(
    stream: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    limit: Duration,
) -> Option<(Stream, Option<ClientCertificate>)> {
    let Some(config) = tls else {
        return Some((Stream::Plain(stream), None));
    };
    let stream = match timeout(limit, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "handshake failed");
            return None;
        }
        Err(_) => return None,
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = shown.map(|shown| ClientCertificate::new(shown.clone().into_owned()));
    Some((Stream::Tls(Box::new(stream)), certificate))
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
