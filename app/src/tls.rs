//! The certificate of HTTPS: read at start, and again when its files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// Where the certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and those that it stands on, as PEM.
    pub cert: PathBuf,
    /// Its key, as PEM.
    pub key: PathBuf,
}

/// Why a certificate can't be used, as what would be accepted.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// The file of the certificate is not as it should be.
    Cert(String),
    /// That of the key is not, or it is the key of another certificate.
    Key(String),
}

impl Files {
    /// What they hold, if one belongs to the other.
    pub fn read(&self) -> Result<Contents, Refused> {
        let cert = read(&self.cert).map_err(Refused::Cert)?;
        let key = read(&self.key).map_err(Refused::Key)?;
        Ok(Contents { cert, key })
    }
}

/// The bytes of both files.
#[derive(PartialEq, Eq)]
pub struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Contents {
    /// The certificate with its key.
    pub fn certified(&self) -> Result<CertifiedKey, Refused> {
        let expected =
            || Refused::Cert("a PEM file with a certificate, followed by those it stands on".to_owned());
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(&self.cert).collect::<Result<_, _>>().map_err(|_| expected())?;
        if chain.is_empty() {
            return Err(expected());
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| Refused::Key("a PEM file with a key that has no password".to_owned()))?;
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
            rustls::Error::InvalidCertificate(_) => expected(),
            _ => Refused::Key("the key of the certificate in TLS_CERT".to_owned()),
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("a PEM file that can be read ({error})"))
}

/// The certificate in use.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Nothing can panic while it is written.
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// HTTPS with the certificate that the files hold, now and later.
pub struct Tls {
    /// Takes in connections.
    pub acceptor: TlsAcceptor,
    files: Files,
    contents: Contents,
    current: Arc<Current>,
}

impl Tls {
    /// With what the files hold now.
    pub fn new(files: Files) -> Result<Self, Refused> {
        let contents = files.read()?;
        let current = Arc::new(Current(RwLock::new(Arc::new(contents.certified()?))));
        let versions = [&version::TLS13, &version::TLS12];
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&versions)
            .map_err(|error| Refused::Cert(error.to_string()))?;
        let mut config = config.with_no_client_auth().with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), files, contents, current })
    }

    /// Takes a new certificate when the files have one. Never ends.
    pub async fn follow(mut self) {
        // What was found wrong last is told once; half of a change may be seen between its two files.
        let mut told = None;
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            let found = self.renew();
            if let Err(refused) = &found
                && told.as_ref() != Some(refused)
            {
                tracing::warn!("Keeps the certificate it has: {refused}");
            }
            told = found.err();
        }
    }

    fn renew(&mut self) -> Result<(), Refused> {
        let contents = self.files.read()?;
        if contents != self.contents {
            let certified = Arc::new(contents.certified()?);
            *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = certified;
            self.contents = contents;
            tracing::info!("Took the new certificate in TLS_CERT");
        }
        Ok(())
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cert(accepted) => write!(f, "TLS_CERT is not {accepted}"),
            Self::Key(accepted) => write!(f, "TLS_KEY is not {accepted}"),
        }
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        (folder, files)
    }

    /// Writes a new certificate; returns it.
    fn write(files: &Files) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }

    fn in_use(tls: &Tls) -> CertificateDer<'static> {
        tls.current.0.read().unwrap().end_entity_cert().unwrap().clone().into_owned()
    }

    #[test]
    fn a_new_certificate_is_taken_once_its_key_is_there() {
        let (_folder, files) = files();
        let first = write(&files);
        let mut tls = Tls::new(files.clone()).unwrap();
        assert_eq!(in_use(&tls), first);
        tls.renew().unwrap();
        assert_eq!(in_use(&tls), first);

        let key = std::fs::read(&files.key).unwrap();
        let second = write(&files);
        let new_key = std::fs::read(&files.key).unwrap();
        std::fs::write(&files.key, key).unwrap();
        assert!(matches!(tls.renew(), Err(Refused::Key(_))));
        assert_eq!(in_use(&tls), first);
        std::fs::write(&files.key, new_key).unwrap();
        tls.renew().unwrap();
        assert_eq!(in_use(&tls), second);

        std::fs::remove_file(&files.cert).unwrap();
        assert!(matches!(tls.renew(), Err(Refused::Cert(_))));
        assert_eq!(in_use(&tls), second);
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let (_folder, files) = files();
        write(&files);
        for bad in ["", "text", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&files.cert, bad).unwrap();
            let refused = Tls::new(files.clone()).map(drop).unwrap_err();
            assert!(matches!(refused, Refused::Cert(_)), "{bad}: {refused}");
        }
        write(&files);
        std::fs::copy(&files.cert, &files.key).unwrap();
        assert!(matches!(Tls::new(files).map(drop), Err(Refused::Key(_))));
    }
}
