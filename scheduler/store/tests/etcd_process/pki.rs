//! Certificates for etcds of tests, as files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};

use crate::etcd_process::Tls;

/// A CA and the folder of its files.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
}

/// Whether a certificate is good today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Good,
    Over,
}

impl Authority {
    /// A new one, whose files lie in a subfolder of this name.
    pub(crate) fn new(parent: &Path, name: &str) -> Self {
        let folder = parent.join(name);
        fs::create_dir_all(&folder).expect("folder");
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("key");
        let certificate = params.self_signed(&key).expect("CA");
        fs::write(folder.join("ca.pem"), certificate.pem()).expect("file");
        Self {
            issuer: Issuer::new(params, key),
            folder,
        }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate for `name` and its key, as files.
    pub(crate) fn signed(&self, name: &str, life: Life) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("params");
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "gilliam");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        if life == Life::Over {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let stem = format!("{name}-{life:?}");
        let files = ["pem", "key"].map(|kind| self.folder.join(format!("{stem}.{kind}")));
        let [certificate_file, key_file] = files;
        fs::write(&certificate_file, certificate.pem()).expect("file");
        fs::write(&key_file, key.serialize_pem()).expect("file");
        (certificate_file, key_file)
    }

    /// What a member on the loopback speaks TLS with.
    pub(crate) fn member(&self, life: Life) -> Tls {
        let (certificate, key) = self.signed("127.0.0.1", life);
        let ca = self.ca();
        Tls { ca, certificate, key }
    }
}
