//! A cluster of one machine: a CA, and nodes with its certificates, each with a control plane of its own.

use std::{path::Path, sync::Arc};

use gilliam_model::identity::{SERVER_DNS, node_dns};
use gilliam_runtime::{ControlAddress, identity::Identity};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::{Node, Plane};

/// A cluster's CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A node of a cluster, and what it is told.
pub struct Member {
    pub plane: Plane,
    pub node: Node,
    pub data: tempfile::TempDir,
    name: &'static str,
    url: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        let pem = params.self_signed(&key).expect("CA").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Key and certificate for a name, as PEM.
    fn signed(&self, dns: &str) -> (String, String) {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(vec![dns.to_owned()]).expect("params");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let certificate = params.signed_by(&key, &self.issuer).expect("signed").pem();
        (key.serialize_pem(), certificate)
    }

    fn shown(&self, dns: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let (key, certificate) = self.signed(dns);
        let chain = [&certificate, &self.pem];
        let chain = chain.map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM"));
        (
            chain.into(),
            PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM"),
        )
    }

    /// What a control plane serves with.
    fn server(&self) -> Arc<ServerConfig> {
        let (chain, key) = self.shown(SERVER_DNS);
        let settings = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key);
        Arc::new(settings.expect("settings"))
    }

    /// A caller of nodes that shows a certificate for `dns`, or none.
    pub fn caller(&self, dns: Option<&str>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM");
        roots.add(ca).expect("a CA");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        match dns.map(|dns| self.shown(dns)) {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).expect("settings"),
            None => builder.with_no_client_auth(),
        }
    }

    /// Starts a node of the cluster, with a control plane that speaks with it alone.
    pub fn member(&self, name: &'static str) -> Member {
        let data = tempfile::tempdir().expect("folder");
        let (plane, url) = Plane::start_for(name, data.path(), self.server());
        self.certify(name, data.path());
        let node = start(name, data.path(), std::slice::from_ref(&url));
        Member {
            plane,
            node,
            data,
            name,
            url,
        }
    }

    /// Starts a node with two control planes, of which the second is given too.
    pub fn member_of_two(&self, name: &'static str) -> (Member, Plane) {
        let data = tempfile::tempdir().expect("folder");
        let (plane, url) = Plane::start_for(name, data.path(), self.server());
        let (other, other_url) = Plane::start_for(name, data.path(), self.server());
        self.certify(name, data.path());
        let node = start(name, data.path(), &[url.clone(), other_url]);
        let member = Member {
            plane,
            node,
            data,
            name,
            url,
        };
        (member, other)
    }

    /// Has an identity lie in a data folder.
    fn certify(&self, name: &str, data: &Path) {
        let dns = node_dns(&name.parse().expect("name")).expect("a host name");
        let (key, certificate) = self.signed(&dns);
        let kept = serde_json::json!({
            "name": name,
            "key": key,
            "certificate": certificate,
            "ca": self.pem,
            "renew_at": "2100-01-01T00:00:00Z",
        });
        std::fs::create_dir_all(data.join("node")).expect("folder");
        std::fs::write(data.join("node/identity.json"), kept.to_string()).expect("identity");
    }
}

/// Starts a node with the identity in its data folder.
fn start(name: &str, data: &Path, servers: &[String]) -> Node {
    let identity = Identity::load(data).expect("an identity").expect("it is there");
    let servers = servers.to_vec();
    let control = ControlAddress::Servers { servers, identity };
    Node::start_as(name, data, control).expect("the node starts")
}

impl Member {
    /// Where it takes requests of other nodes.
    pub fn peer(&self) -> std::net::SocketAddr {
        self.node
            .peer
            .expect("a node with an identity listens for others")
    }

    /// Its control plane is gone, and its node was killed and started again.
    pub async fn alone_again(mut self) -> Self {
        self.plane.go_away().await;
        self.node.kill().await;
        let servers = std::slice::from_ref(&self.url);
        self.node = start(self.name, self.data.path(), servers);
        self
    }

    /// Ends the node as a kill would.
    pub async fn kill(self) {
        self.node.kill().await;
        drop(self.data);
    }
}
