//! Who this node is: its key, the certificate that names it, and the CA of its cluster, as TLS settings for each
//! side of a connection.
//!
//! In: what the control plane answered to a join or a renewal. Out: settings that show the newest certificate; those
//! that were handed out show it too, without being made again. All of it is in one file of the node's folder, so a
//! node that starts again needs no token.
//!
//! Invariant: the key is made here, is readable by its owner alone and leaves the machine in no call.
//! Invariant: the key stays the same for as long as the node is of the cluster; it is what the cluster knows it by.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use gilliam_client::{ClusterVerifier, Trust};
use gilliam_model::{Timestamp, digest::Digest, identity::node_of_dns, join::Joined, name::NodeName};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SignatureScheme,
    client::ResolvesClientCert,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::lock::{node_folder, write_private};

/// What connections between nodes speak.
const PEER_PROTOCOLS: &[&[u8]] = &[b"h2"];
/// A certificate is renewed when this part of its life is over: the other half is for control planes that are away.
const RENEW_PART: u64 = 2;

/// Why there is no identity to work with.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("cannot use the node's identity in {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Key or certificate cannot be used: a damaged file, or an answer of another program.
    #[error("the node's key or certificate cannot be used: {reason}")]
    Unusable {
        /// What is wrong.
        reason: String,
    },
}

/// The identity of this node; clones share it.
#[derive(Debug, Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    kept: Mutex<Kept>,
    shown: Arc<Shown>,
    ca: Digest,
    roots: Arc<RootCertStore>,
}

/// The file.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    name: NodeName,
    key: String,
    certificate: String,
    ca: String,
    renew_at: Timestamp,
}

/// What is shown to the other side of a connection.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// The identity in the data folder; none when the node has not joined a cluster.
    pub fn load(data: &Path) -> Result<Option<Self>, IdentityError> {
        let path = path_in(data);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::File { path, source }),
        };
        let kept: Kept = serde_json::from_slice(&text).map_err(unusable)?;
        Self::of(path, kept).map(Some)
    }

    /// Keeps what a join gave.
    pub(crate) fn keep(
        data: &Path,
        name: NodeName,
        key: &KeyPair,
        joined: Joined,
        now: Timestamp,
    ) -> Result<Self, IdentityError> {
        let kept = Kept {
            name,
            key: key.serialize_pem(),
            renew_at: renew_at(&joined, now),
            certificate: joined.certificate,
            ca: joined.ca,
        };
        let identity = Self::of(path_in(data), kept.clone())?;
        identity.write(&kept)?;
        Ok(identity)
    }

    /// Takes a newer certificate of the same cluster.
    pub(crate) fn renew(&self, joined: Joined, now: Timestamp) -> Result<(), IdentityError> {
        let mut kept = self.kept().clone();
        kept.renew_at = renew_at(&joined, now);
        kept.certificate = joined.certificate;
        let shown = certified(&kept)?;
        self.write(&kept)?;
        *self.kept() = kept;
        *self.inner.shown.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(shown);
        Ok(())
    }

    fn of(path: PathBuf, kept: Kept) -> Result<Self, IdentityError> {
        let ca = CertificateDer::from_pem_slice(kept.ca.as_bytes()).map_err(unusable)?;
        let shown = Arc::new(Shown(RwLock::new(Arc::new(certified(&kept)?))));
        let digest = Digest::from_sha256(Sha256::digest(&ca).into());
        let mut roots = RootCertStore::empty();
        roots.add(ca).map_err(unusable)?;
        let inner = Inner {
            path,
            kept: Mutex::new(kept),
            shown,
            ca: digest,
            roots: Arc::new(roots),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    fn write(&self, kept: &Kept) -> Result<(), IdentityError> {
        let json = serde_json::to_vec(kept).map_err(unusable)?;
        let path = &self.inner.path;
        write_private(path, &json).map_err(|source| IdentityError::File {
            path: path.clone(),
            source,
        })
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node's name, as its certificate says it.
    pub fn name(&self) -> NodeName {
        self.kept().name.clone()
    }

    /// How long the certificate need not be renewed.
    pub(crate) fn renew_in(&self, now: Timestamp) -> Duration {
        Duration::try_from(self.kept().renew_at.duration_since(now)).unwrap_or(Duration::ZERO)
    }

    /// What the next certificate is asked for with.
    pub fn request(&self) -> Result<String, IdentityError> {
        let key = KeyPair::from_pem(&self.kept().key).map_err(unusable)?;
        request(&key)
    }

    /// Calls of a control plane: it must be one of the cluster's, at whatever address.
    pub fn control_client(&self) -> Trust {
        let verifier = Arc::new(ClusterVerifier::new(self.inner.ca));
        let settings = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has suites for the default versions")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(self.inner.shown.clone());
        Trust::Settings(Box::new(settings))
    }

    /// Calls of another node, which must be the one that is named: the name to ask for is
    /// [`node_dns`](gilliam_model::identity::node_dns), the protocol HTTP/2.
    pub fn peer_client(&self) -> Arc<ClientConfig> {
        let mut settings = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has suites for the default versions")
            .with_root_certificates(self.inner.roots.clone())
            .with_client_cert_resolver(self.inner.shown.clone());
        settings.alpn_protocols = PEER_PROTOCOLS.iter().map(|p| p.to_vec()).collect();
        Arc::new(settings)
    }

    /// Calls by other nodes of the cluster, and by nobody else. Which one calls is in the extensions of each request:
    /// see [`caller`].
    pub fn peer_server(&self) -> Arc<ServerConfig> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.inner.roots.clone(), provider())
            .build()
            .expect("the roots hold the CA's certificate");
        let mut settings = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has suites for the default versions")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.inner.shown.clone());
        settings.alpn_protocols = PEER_PROTOCOLS.iter().map(|p| p.to_vec()).collect();
        Arc::new(settings)
    }
}

/// The node that a request comes from, by the certificate that its connection showed.
pub fn caller(extensions: &http::Extensions) -> Option<NodeName> {
    let certificate = extensions.get::<gilliam_serve::ClientCertificate>()?;
    certificate.dns_names().iter().find_map(|dns| node_of_dns(dns))
}

/// A certificate that the holder of `key` signed itself.
pub(crate) fn request(key: &KeyPair) -> Result<String, IdentityError> {
    let params = CertificateParams::new(Vec::new()).map_err(unusable)?;
    Ok(params.self_signed(key).map_err(unusable)?.pem())
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.newest())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.newest())
    }
}

impl Shown {
    fn newest(&self) -> Arc<CertifiedKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn certified(kept: &Kept) -> Result<CertifiedKey, IdentityError> {
    let chain = [&kept.certificate, &kept.ca].map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()));
    let chain = chain
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(unusable)?;
    let key = PrivateKeyDer::from_pem_slice(kept.key.as_bytes()).map_err(unusable)?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(unusable)
}

fn renew_at(joined: &Joined, now: Timestamp) -> Timestamp {
    let rest = Duration::from_secs(joined.life_seconds / RENEW_PART);
    now.checked_add(rest).unwrap_or(now)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn path_in(data: &Path) -> PathBuf {
    node_folder(data).join("identity.json")
}

fn unusable(error: impl std::fmt::Display) -> IdentityError {
    IdentityError::Unusable {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use gilliam_model::identity::node_dns;
    use gilliam_serve::{ServeConfig, drain};
    use http::{Request, Response, StatusCode};
    use http_body_util::{BodyExt as _, Full};
    use hyper::{body::Incoming, service::service_fn};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, Issuer};
    use rustls::pki_types::ServerName;
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;

    use super::*;

    /// A cluster's CA.
    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        pem: String,
    }

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::new(Vec::new()).expect("params");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().expect("key");
            let pem = params.self_signed(&key).expect("CA").pem();
            Self {
                issuer: Issuer::new(params, key),
                pem,
            }
        }

        fn joined(&self, name: &str, key: &KeyPair) -> Joined {
            let dns = node_dns(&name.parse().expect("name")).expect("a host name");
            let mut params = CertificateParams::new(vec![dns]).expect("params");
            params.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ClientAuth,
                ExtendedKeyUsagePurpose::ServerAuth,
            ];
            Joined {
                certificate: params.signed_by(key, &self.issuer).expect("signed").pem(),
                ca: self.pem.clone(),
                life_seconds: 60,
            }
        }

        fn node(&self, data: &Path, name: &str) -> Identity {
            fs::create_dir_all(node_folder(data)).expect("folder");
            let key = KeyPair::generate().expect("key");
            let joined = self.joined(name, &key);
            let name = name.parse().expect("name");
            Identity::keep(data, name, &key, joined, Timestamp::UNIX_EPOCH).expect("identity")
        }
    }

    async fn called_by(request: Request<Incoming>) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
        let caller = caller(request.extensions()).map(|node| node.to_string());
        Ok(Response::new(Full::new(caller.unwrap_or_default().into())))
    }

    /// Who the server says has called.
    async fn call(from: &Identity, to: std::net::SocketAddr, name: &str) -> Result<String, String> {
        let failed = |error: &dyn std::fmt::Display| error.to_string();
        let stream = TcpStream::connect(to).await.map_err(|e| failed(&e))?;
        let dns = node_dns(&name.parse().expect("name")).expect("a host name");
        let connector = TlsConnector::from(from.peer_client());
        let stream = connector.connect(ServerName::try_from(dns).expect("a name"), stream);
        let stream = TokioIo::new(stream.await.map_err(|e| failed(&e))?);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
        let (mut sender, connection) = handshake.await.map_err(|e| failed(&e))?;
        let request = Request::get("https://peer/").body(Full::new(bytes::Bytes::new()));
        let answer = async {
            let answer = sender.send_request(request.expect("request")).await?;
            assert_eq!(answer.status(), StatusCode::OK);
            answer.into_body().collect().await
        };
        let answer = tokio::select! {
            answer = answer => answer.map_err(|e| failed(&e))?,
            ended = connection => return Err(ended.map_or_else(|e| failed(&e), |()| "ended".to_owned())),
        };
        Ok(String::from_utf8_lossy(&answer.to_bytes()).into_owned())
    }

    #[tokio::test]
    async fn nodes_of_one_cluster_know_each_other_and_nobody_else() {
        let folder = tempfile::tempdir().expect("folder");
        let data = |name: &str| folder.path().join(name);
        let (ours, theirs) = (Authority::new(), Authority::new());
        let (n1, n2) = (ours.node(&data("n1"), "n1"), ours.node(&data("n2"), "n2"));
        let stranger = theirs.node(&data("n3"), "n2");
        let config = ServeConfig {
            tls: Some(n1.peer_server()),
            ..ServeConfig::new("127.0.0.1:0".parse().expect("address"))
        };
        let (server, address) = gilliam_serve::bind(&config).expect("bind");
        let (_trigger, signal) = drain::channel();
        tokio::spawn(server.run(service_fn(called_by), signal));
        assert_eq!(call(&n2, address, "n1").await, Ok("n2".to_owned()));
        assert!(call(&n2, address, "n2").await.is_err(), "another node is meant");
        assert!(
            call(&stranger, address, "n1").await.is_err(),
            "of another cluster"
        );
        // A certificate that is renewed is shown by what was handed out before.
        let key = KeyPair::from_pem(&n2.kept().key).expect("key");
        let before = n2.inner.shown.newest().cert[0].clone();
        n2.renew(ours.joined("n2", &key), Timestamp::UNIX_EPOCH)
            .expect("renew");
        assert_ne!(n2.inner.shown.newest().cert[0], before);
        assert_eq!(call(&n2, address, "n1").await, Ok("n2".to_owned()));
        let again = Identity::load(&data("n2")).expect("load").expect("there");
        assert_eq!(
            again.inner.shown.newest().cert[0],
            n2.inner.shown.newest().cert[0]
        );
    }

    #[test]
    fn the_key_is_readable_by_its_owner_alone_and_a_foreign_certificate_is_not_taken() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("folder");
        let ours = Authority::new();
        let node = ours.node(folder.path(), "n1");
        let mode = fs::metadata(path_in(folder.path()))
            .expect("file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = KeyPair::generate().expect("key");
        let foreign = ours.joined("n1", &other);
        assert!(node.renew(foreign, Timestamp::UNIX_EPOCH).is_err());
    }
}
