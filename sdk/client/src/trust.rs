//! Whom a client believes to be the control plane.
//!
//! A cluster that `gilliam server` runs has a CA of its own, known by the digest of its certificate: a server shows
//! that certificate behind its own, and its own is for [`SERVER_DNS`], whatever address it is reached at. Other
//! `https` addresses are checked as browsers do, against the CAs that are compiled in.
//!
//! Invariant: nothing is sent, the token least of all, before the server has proved to be the one that is meant.

use std::sync::Arc;

use gilliam_model::{digest::Digest, identity::SERVER_DNS};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use sha2::{Digest as _, Sha256};

/// Whom to believe.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// Whoever a public CA vouches for.
    #[default]
    Public,
    /// The control planes of the cluster whose CA's certificate has this digest.
    Cluster(Digest),
    /// As these settings say; they may show a certificate of the client's own.
    Settings(Box<ClientConfig>),
}

/// Believes the control planes of one cluster, and nobody else.
#[derive(Debug)]
pub struct ClusterVerifier {
    ca: Digest,
    provider: Arc<CryptoProvider>,
}

impl Trust {
    /// The settings of a TLS client.
    pub(crate) fn settings(self) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has suites for the default versions");
        match self {
            Trust::Public => {
                let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            Trust::Cluster(ca) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(ClusterVerifier::new(ca)))
                .with_no_client_auth(),
            Trust::Settings(settings) => *settings,
        }
    }
}

impl ClusterVerifier {
    /// Of the cluster whose CA's certificate has this digest.
    pub fn new(ca: Digest) -> Self {
        Self {
            ca,
            provider: Arc::new(ring::default_provider()),
        }
    }
}

impl ServerCertVerifier for ClusterVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _address: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_ca =
            |shown: &&CertificateDer<'_>| Digest::from_sha256(Sha256::digest(shown).into()) == self.ca;
        let ca = intermediates.iter().find(is_ca);
        let ca = ca.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let shown = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&shown, &roots, intermediates, now, algorithms)?;
        let name = ServerName::try_from(SERVER_DNS).expect("a host name");
        verify_server_name(&shown, &name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            shown,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            shown,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
