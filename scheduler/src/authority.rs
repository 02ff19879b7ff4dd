//! The cluster's own certificate authority: it names the nodes, and the control planes themselves.
//!
//! In: the record of the CA in the store, made by the first control plane that starts on it. Out: certificates
//! for keys, and the TLS settings that the API is served with.
//!
//! Invariant: a cluster has one CA: it is written under the check that there is none, so control planes that start at
//! the same time agree.
//! Invariant: of what asks for a certificate nothing but its key is used; the names in it are ours.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use gilliam_model::{Timestamp, digest::Digest, identity::SERVER_DNS};
use gilliam_store::{Check, CommitError, RangeError, Store, keys, records};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SignatureAlgorithm,
    date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How long the CA is good for: as long as a cluster may live, for changing it means to join every node anew.
const CA_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// How long a certificate is good before it was made: machines whose clocks are late take it too.
const CLOCKS_APART: Duration = Duration::from_secs(24 * 3600);
/// What the API speaks over TLS.
const PROTOCOLS: &[&[u8]] = &[b"h2", b"http/1.1"];
/// How a public key of the one kind that is taken begins: `SubjectPublicKeyInfo` of an uncompressed point on P-256
/// (RFC 5480 section 2).
const P256_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const P256_POINT_BYTES: usize = 65;

/// There is no CA to work with.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Its record cannot be read.
    #[error("the cluster's CA could not be read")]
    Read(#[from] RangeError),
    /// Its record cannot be written.
    #[error("the cluster's CA could not be stored")]
    Store(#[source] CommitError),
    /// Its record is damaged, or a certificate cannot be made.
    #[error("the cluster's CA cannot be used: {0}")]
    Unusable(String),
}

/// The record.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredAuthority {
    /// What the CA is called in certificates.
    name: String,
    /// Its certificate (PEM).
    certificate: String,
    /// Its key (PEM).
    key: String,
}

/// The CA.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate (PEM).
    pub(crate) pem: String,
    certificate: CertificateDer<'static>,
    /// The digest of its certificate: what the cluster is known by.
    pub(crate) digest: Digest,
    /// How long certificates are good for.
    pub(crate) life: Duration,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// A key that asked for a certificate, and proved to be there.
#[derive(Debug)]
pub(crate) struct ProvedKey {
    spki: Vec<u8>,
}

/// What may be done with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// A control plane's: it is called, and calls nobody.
    Server,
    /// A node's: it calls control planes and other nodes, and is called by these.
    Node,
}

impl Authority {
    /// The CA of the cluster whose state is in `store`; made, if this is the first control plane of it. Says which.
    pub(crate) async fn of(store: &Store, life: Duration) -> Result<(Self, bool), AuthorityError> {
        if let Some(stored) = records::load::<StoredAuthority>(store, keys::AUTHORITY).await? {
            return Ok((Self::read(&stored.value, life)?, false));
        }
        let made = StoredAuthority::make(Timestamp::now()).map_err(unusable)?;
        let key = keys::AUTHORITY.to_owned();
        match store
            .commit(&[Check::absent(key.clone())], &[records::put(key, &made)])
            .await
        {
            Ok(_) => Ok((Self::read(&made, life)?, true)),
            // Another control plane was faster, or it was this one and the answer was lost.
            Err(error) => match records::load::<StoredAuthority>(store, keys::AUTHORITY).await? {
                Some(stored) => Ok((Self::read(&stored.value, life)?, stored.value == made)),
                None => Err(AuthorityError::Store(error)),
            },
        }
    }

    fn read(stored: &StoredAuthority, life: Duration) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(&stored.key).map_err(unusable)?;
        let certificate = CertificateDer::from_pem_slice(stored.certificate.as_bytes()).map_err(unusable)?;
        Ok(Self {
            issuer: Issuer::new(ca_params(&stored.name, Timestamp::now()), key),
            pem: stored.certificate.clone(),
            digest: Digest::from_sha256(Sha256::digest(&certificate).into()),
            certificate,
            life,
        })
    }

    /// A certificate (PEM) for a node's key.
    pub(crate) fn certify_node(&self, dns: &str, key: &ProvedKey) -> Result<String, AuthorityError> {
        let names = vec![name_of(dns)?];
        self.certify(names, key, Purpose::Node, Timestamp::now())
    }

    fn certify(
        &self,
        names: Vec<SanType>,
        key: &impl PublicKeyData,
        purpose: Purpose,
        now: Timestamp,
    ) -> Result<String, AuthorityError> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.distinguished_name = DistinguishedName::new();
        set_life(&mut params, now, self.life);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match purpose {
            Purpose::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Purpose::Node => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        };
        params.use_authority_key_identifier_extension = true;
        let made = params.signed_by(key, &self.issuer).map_err(unusable)?;
        Ok(made.pem())
    }

    fn roots(&self) -> Result<RootCertStore, AuthorityError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).map_err(unusable)?;
        Ok(roots)
    }
}

impl StoredAuthority {
    fn make(now: Timestamp) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        // Told apart by its key, so that the certificates of two clusters are not mixed up by those who look at names.
        let name = format!("gilliam {}", &hex(&Sha256::digest(key.public_key_raw()))[..16]);
        let certificate = ca_params(&name, now).self_signed(&key)?;
        Ok(Self {
            name,
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl ProvedKey {
    /// The key of a certificate (PEM) that its holder signed itself. None for any other text.
    pub(crate) fn of(request: &str) -> Option<Self> {
        let certificate = CertificateDer::from_pem_slice(request.as_bytes()).ok()?;
        let mut itself = RootCertStore::empty();
        itself.add(certificate.clone()).ok()?;
        let parsed = ParsedCertificate::try_from(&certificate).ok()?;
        let algorithms = ring::default_provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &itself, &[], UnixTime::now(), algorithms).ok()?;
        let spki = gilliam_serve::ClientCertificate::new(certificate).public_key()?;
        let is_p256 = spki.starts_with(P256_PREFIX) && spki.len() == P256_PREFIX.len() + P256_POINT_BYTES;
        is_p256.then_some(Self { spki })
    }

    /// What the cluster knows its holder by.
    pub(crate) fn digest(&self) -> Digest {
        key_digest(&self.spki)
    }
}

impl PublicKeyData for ProvedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.spki[P256_PREFIX.len()..]
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// The digest of a public key (`SubjectPublicKeyInfo`).
pub(crate) fn key_digest(spki: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(spki).into())
}

/// The certificate that a control plane shows: replaced before it ends, under connections that are open.
#[derive(Debug)]
pub(crate) struct Shown(RwLock<Arc<CertifiedKey>>);

impl Shown {
    /// One for the control plane that is reached by `hosts`, besides its name in the cluster.
    pub(crate) fn new(authority: &Authority, hosts: &[String]) -> Result<Arc<Self>, AuthorityError> {
        let shown = Self::make(authority, hosts)?;
        Ok(Arc::new(Self(RwLock::new(Arc::new(shown)))))
    }

    /// Replaces it.
    pub(crate) fn renew(&self, authority: &Authority, hosts: &[String]) -> Result<(), AuthorityError> {
        let shown = Arc::new(Self::make(authority, hosts)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = shown;
        Ok(())
    }

    fn make(authority: &Authority, hosts: &[String]) -> Result<CertifiedKey, AuthorityError> {
        let key = KeyPair::generate().map_err(unusable)?;
        let names = std::iter::once(SERVER_DNS).chain(hosts.iter().map(String::as_str));
        let names = names.map(name_of).collect::<Result<_, _>>()?;
        let pem = authority.certify(names, &key, Purpose::Server, Timestamp::now())?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(unusable)?;
        // The CA's own goes with it: those who know its digest alone find it there.
        let chain = vec![certificate, authority.certificate.clone()];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).map_err(unusable)?;
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(unusable)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// How the API is served: callers show a certificate of the cluster or none.
pub(crate) fn settings(
    authority: &Authority,
    shown: Arc<Shown>,
) -> Result<Arc<ServerConfig>, AuthorityError> {
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(authority.roots()?), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(unusable)?;
    let mut settings = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(shown);
    settings.alpn_protocols = PROTOCOLS.iter().map(|p| p.to_vec()).collect();
    Ok(Arc::new(settings))
}

fn ca_params(name: &str, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_life(&mut params, now, CA_LIFE);
    params
}

fn name_of(host: &str) -> Result<SanType, AuthorityError> {
    match host.parse::<IpAddr>() {
        Ok(ip) => Ok(SanType::IpAddress(ip)),
        Err(_) => Ok(SanType::DnsName(host.try_into().map_err(unusable)?)),
    }
}

/// Makes a certificate good from a while before `now` until `life` after it.
fn set_life(params: &mut CertificateParams, now: Timestamp, life: Duration) {
    let now = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(CLOCKS_APART);
    params.not_after = epoch + now + life;
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unusable(error: impl std::fmt::Display) -> AuthorityError {
    AuthorityError::Unusable(error.to_string())
}
