//! Certificates for development and for those who have no authority of their own.
//!
//! Owns what stands in a certificate (the names of nodes are `security`'s), and the files. Keys are made here and
//! nowhere else.
//!
//! Invariants
//!  C1. Where there is a folder `ca`, it is whole, and so are the folders of the nodes; it is never written over.
//!                                                                   test `an_authority_is_not_replaced`
//!  C2. Nobody but the owner can read a key at any time.              test `keys_are_private`
//!
//! Bounds: certificates are valid for ten years; at most [`NODES_MAX`] nodes.
//!
//! Crash: every file is whole or absent under its name. The folder of the authority gets its name last, so an
//! interrupted run is simply run again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

use super::error::TransportError;
use super::security::{CA_FILE, CERTIFICATE_FILE, CLIENT_NAME, KEY_FILE, node_name};
use crate::protocol::node_id::NodeId;

const NODES_MAX: u64 = 1024;
const VALID: Duration = Duration::from_secs(3652 * 24 * 3600);
/// Clocks of machines differ: a certificate that was just made counts everywhere.
const BACKDATED: Duration = Duration::from_secs(3600);
const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// A local certificate authority, in memory.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A certificate and its key, as PEM.
struct Issued {
    certificate: String,
    key: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new() -> Result<Authority, TransportError> {
        let mut params = params("Cairnlog development authority", Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(making)?;
        Ok(Authority { issuer: CertifiedIssuer::self_signed(params, key).map_err(making)? })
    }

    /// Writes the files of a node into a folder: `ca.pem`, `cert.pem`, `key.pem`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_node(&self, folder: &Path, node: NodeId) -> Result<(), TransportError> {
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.write(folder, &self.issue(node_name(node), usages)?)
    }

    /// The same for clients.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_client(&self, folder: &Path) -> Result<(), TransportError> {
        let usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.write(folder, &self.issue(CLIENT_NAME.to_owned(), usages)?)
    }

    fn issue(
        &self,
        name: String,
        usages: Vec<ExtendedKeyUsagePurpose>,
    ) -> Result<Issued, TransportError> {
        let mut params = params(&name, vec![name.clone()])?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(making)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(making)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    fn write(&self, folder: &Path, issued: &Issued) -> Result<(), TransportError> {
        fs::create_dir_all(folder).map_err(|error| at(folder, &error))?;
        write_file(&folder.join(CA_FILE), self.issuer.pem().as_bytes(), PUBLIC)?;
        write_file(&folder.join(CERTIFICATE_FILE), issued.certificate.as_bytes(), PUBLIC)?;
        write_file(&folder.join(KEY_FILE), issued.key.as_bytes(), SECRET)
    }

    fn write_own(&self, folder: &Path) -> Result<(), TransportError> {
        fs::create_dir_all(folder).map_err(|error| at(folder, &error))?;
        write_file(&folder.join(CA_FILE), self.issuer.pem().as_bytes(), PUBLIC)?;
        let key = self.issuer.key().serialize_pem();
        write_file(&folder.join(KEY_FILE), key.as_bytes(), SECRET)
    }
}

/// Makes an authority, and certificates for nodes 1 to `nodes` and for clients: folders `node-1` to `node-N` and
/// `client`, with `ca.pem`, `cert.pem` and `key.pem` each, and `ca` with the authority's own `ca.pem` and `key.pem`.
///
/// # Errors
/// When there is a folder `ca` already, when there are too many nodes, or when a file cannot be written.
pub fn make_development_certificates(out: &Path, nodes: u64) -> Result<(), TransportError> {
    let refuse = |file: &Path, reason: String| {
        Err(TransportError::Certificate { file: file.to_path_buf(), reason })
    };
    let own = out.join("ca");
    if own.symlink_metadata().is_ok() {
        return refuse(&own, "there is an authority already, it is not replaced".to_owned());
    }
    if nodes > NODES_MAX {
        return refuse(out, format!("at most {NODES_MAX} nodes"));
    }
    let authority = Authority::new()?;
    for node in (1..=nodes).filter_map(NodeId::new) {
        authority.write_node(&out.join(format!("node-{node}")), node)?;
    }
    authority.write_client(&out.join("client"))?;
    let unfinished = out.join("ca.unfinished");
    authority.write_own(&unfinished)?;
    fs::rename(&unfinished, &own).map_err(|error| at(&own, &error))?;
    sync_folder(out)
}

fn params(common_name: &str, names: Vec<String>) -> Result<CertificateParams, TransportError> {
    let mut params = CertificateParams::new(names).map_err(making)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|_| TransportError::Making("the clock stands before 1970".to_owned()))?;
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + now + VALID;
    Ok(params)
}

fn making(error: rcgen::Error) -> TransportError {
    TransportError::Making(error.to_string())
}

fn at(file: &Path, error: &io::Error) -> TransportError {
    TransportError::Certificate { file: file.to_path_buf(), reason: error.to_string() }
}

/// Under another name first: what has the right name is whole and on disk.
fn write_file(file: &Path, bytes: &[u8], mode: u32) -> Result<(), TransportError> {
    let unfinished = file.with_extension("pem.unfinished");
    let write = || {
        // What an interrupted run left may have another mode.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut opened = options.write(true).create_new(true).mode(mode).open(&unfinished)?;
        opened.write_all(bytes)?;
        opened.sync_all()?;
        fs::rename(&unfinished, file)
    };
    write().map_err(|error| at(file, &error))?;
    file.parent().map_or(Ok(()), sync_folder)
}

fn sync_folder(folder: &Path) -> Result<(), TransportError> {
    File::open(folder).and_then(|opened| opened.sync_all()).map_err(|error| at(folder, &error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_authority_is_not_replaced() {
        let out = tempfile::tempdir().unwrap();
        make_development_certificates(out.path(), 2).unwrap();
        let before = fs::read(out.path().join("node-2/cert.pem")).unwrap();
        let again = make_development_certificates(out.path(), 2);
        assert!(matches!(again, Err(TransportError::Certificate { .. })), "{again:?}");
        assert_eq!(fs::read(out.path().join("node-2/cert.pem")).unwrap(), before);
    }

    #[test]
    fn keys_are_private() {
        let out = tempfile::tempdir().unwrap();
        make_development_certificates(out.path(), 1).unwrap();
        for folder in ["ca", "node-1", "client"] {
            let key = out.path().join(folder).join(KEY_FILE);
            let mode = fs::metadata(key).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, SECRET, "{folder}");
        }
        let names = |folder: &str| fs::read_dir(out.path().join(folder)).unwrap().count();
        assert_eq!((names("ca"), names("node-1"), names("client")), (2, 3, 3), "nothing is left");
    }
}
