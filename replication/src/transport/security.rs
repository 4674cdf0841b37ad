//! Who may talk to whom.
//!
//! Owns the names in certificates, and the settings of TLS: version 1.3, both sides checked, no session resumed and
//! no early data. Does not make certificates (`certificates`). No provider of cryptography is installed for the
//! process: several nodes with settings of their own live in one.
//!
//! Invariants
//!  S1. With certificates, whoever answers has one of the same authority that says `node-N.cairnlog` and may be used
//!      by a server; whoever calls has one of it that may be used by a client.
//!                              tests `another_authority_is_refused`, `no_certificate_is_refused` in tests/quic.rs
//!  S2. Neither the debug output nor an error has a key in it.
//!
//! Bounds: files of at most [`FILE_BYTES_MAX`].

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, PeerIncompatible, RootCertStore,
    ServerConfig, SignatureScheme,
};

use super::error::TransportError;
use crate::protocol::node_id::NodeId;

pub(super) const CA_FILE: &str = "ca.pem";
pub(super) const CERTIFICATE_FILE: &str = "cert.pem";
pub(super) const KEY_FILE: &str = "key.pem";
/// The name in the certificates of clients.
pub(super) const CLIENT_NAME: &str = "client.cairnlog";
/// What a node speaks with a node.
pub(super) const PEER_PROTOCOL: &[u8] = b"cairnlog-peer/1";
/// What a client speaks with a node.
pub(super) const CLIENT_PROTOCOL: &[u8] = b"cairnlog-client/1";
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The name in the certificate of a node.
pub(super) fn node_name(node: NodeId) -> String {
    format!("node-{node}.cairnlog")
}

/// The node whose certificate this is; `None` if it is a client's, or names several nodes.
pub(super) fn node_of(certificate: &CertificateDer<'_>) -> Option<NodeId> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut nodes = parsed.valid_dns_names().filter_map(|name| {
        let number = name.strip_prefix("node-")?.strip_suffix(".cairnlog")?;
        let node = NodeId::new(number.parse().ok()?)?;
        // One way to write each number.
        (node_name(node) == name).then_some(node)
    });
    let first = nodes.next()?;
    nodes.all(|other| other == first).then_some(first)
}

/// What a node or a client shows others, and by what it checks them.
#[derive(Clone)]
pub struct Security {
    provider: Arc<CryptoProvider>,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
    /// `None`: throw-away, nobody is checked.
    roots: Option<Arc<RootCertStore>>,
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Security");
        debug.field("node", &self.node()).field("is_throw_away", &self.is_throw_away());
        debug.finish_non_exhaustive()
    }
}

impl Security {
    /// From a folder with `ca.pem`, `cert.pem` and `key.pem`: TLS 1.3 only, both sides checked against the authority.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the key does not belong to the certificate.
    pub fn from_folder(folder: &Path) -> Result<Security, TransportError> {
        let (ca, certificate) = (folder.join(CA_FILE), folder.join(CERTIFICATE_FILE));
        let key_file = folder.join(KEY_FILE);
        let mut roots = RootCertStore::empty();
        for root in read_chain(&ca)? {
            roots.add(root).map_err(|error| wrong(&ca, &error))?;
        }
        let key = PrivateKeyDer::from_pem_slice(&read_file(&key_file)?)
            .map_err(|error| wrong(&key_file, &error))?;
        let security = Security {
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            chain: read_chain(&certificate)?,
            key: Arc::new(key),
            roots: Some(Arc::new(roots)),
        };
        // A key of another certificate is noticed here, not when somebody calls.
        security.for_calling(PEER_PROTOCOL).map_err(|error| match error {
            TransportError::Making(reason) => {
                TransportError::Certificate { file: key_file, reason }
            }
            other => other,
        })?;
        Ok(security)
    }

    /// A certificate that signs itself and is gone with the process. The other side is not checked, and clients need
    /// no certificate: for loopback addresses only, others are refused.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn throw_away() -> Result<Security, TransportError> {
        let made = rcgen::generate_simple_self_signed(vec!["throw-away.cairnlog".to_owned()])
            .map_err(|error| TransportError::Making(error.to_string()))?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
            .map_err(|error| TransportError::Making(error.to_owned()))?;
        Ok(Security {
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            chain: vec![made.cert.der().clone()],
            key: Arc::new(key),
            roots: None,
        })
    }

    /// Whether nobody is checked.
    #[must_use]
    pub fn is_throw_away(&self) -> bool {
        self.roots.is_none()
    }

    /// The node whose certificate this is.
    pub(super) fn node(&self) -> Option<NodeId> {
        self.chain.first().and_then(node_of)
    }

    /// For those who call this node.
    pub(super) fn for_being_called(&self) -> Result<ServerConfig, TransportError> {
        let builder = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(making)?;
        let builder = match &self.roots {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let provider = self.provider.clone();
                let checks =
                    WebPkiClientVerifier::builder_with_provider(roots.clone(), provider).build();
                let checks = checks.map_err(|error| TransportError::Making(error.to_string()))?;
                builder.with_client_cert_verifier(checks)
            }
        };
        let mut config =
            builder.with_single_cert(self.chain.clone(), self.key.clone_key()).map_err(making)?;
        config.alpn_protocols = vec![PEER_PROTOCOL.to_vec(), CLIENT_PROTOCOL.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// For calling a node.
    pub(super) fn for_calling(&self, protocol: &[u8]) -> Result<ClientConfig, TransportError> {
        let checks = NodeCheck { provider: self.provider.clone(), roots: self.roots.clone() };
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(making)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(checks));
        let mut config = if self.is_throw_away() {
            builder.with_no_client_auth()
        } else {
            let (chain, key) = (self.chain.clone(), self.key.clone_key());
            builder.with_client_auth_cert(chain, key).map_err(making)?
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.enable_sni = false;
        Ok(config)
    }
}

/// Checks that a node answers. Which node is compared after the handshake, before anything is sent: a client does not
/// know the number of the node that it calls.
#[derive(Debug)]
struct NodeCheck {
    provider: Arc<CryptoProvider>,
    roots: Option<Arc<RootCertStore>>,
}

impl ServerCertVerifier for NodeCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        // Includes the purpose: the certificate of a client is not for servers.
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &parsed,
            roots,
            intermediates,
            now,
            algorithms,
        )?;
        match node_of(end_entity) {
            Some(_) => Ok(ServerCertVerified::assertion()),
            None => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn making(error: rustls::Error) -> TransportError {
    TransportError::Making(error.to_string())
}

fn wrong(file: &Path, reason: &dyn fmt::Display) -> TransportError {
    TransportError::Certificate { file: PathBuf::from(file), reason: reason.to_string() }
}

fn read_file(file: &Path) -> Result<Vec<u8>, TransportError> {
    let mut bytes = Vec::new();
    let read =
        File::open(file).and_then(|opened| opened.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(wrong(file, &error)),
    }
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let bytes = read_file(file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| wrong(file, &error))?;
    if chain.is_empty() { Err(wrong(file, &"there is no certificate in it")) } else { Ok(chain) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::make_development_certificates;

    #[test]
    fn certificates_name_their_nodes() {
        let out = tempfile::tempdir().unwrap();
        make_development_certificates(out.path(), 2).unwrap();
        let security = |folder| Security::from_folder(&out.path().join(folder)).unwrap();
        assert_eq!(security("node-2").node(), NodeId::new(2));
        assert_eq!(security("client").node(), None);
        assert_eq!(Security::throw_away().unwrap().node(), None);
        assert!(!format!("{:?}", security("node-1")).contains("key"));
    }

    #[test]
    fn a_key_of_another_certificate_is_noticed() {
        let out = tempfile::tempdir().unwrap();
        make_development_certificates(out.path(), 2).unwrap();
        let (one, two) = (out.path().join("node-1"), out.path().join("node-2"));
        std::fs::copy(two.join(KEY_FILE), one.join(KEY_FILE)).unwrap();
        let loaded = Security::from_folder(&one);
        assert!(matches!(loaded, Err(TransportError::Certificate { .. })), "{loaded:?}");
        std::fs::write(two.join(CERTIFICATE_FILE), "nothing").unwrap();
        assert!(Security::from_folder(&two).is_err());
    }
}
