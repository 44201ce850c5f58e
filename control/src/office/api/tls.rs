//! Certificates.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// Reads certificate and key. The error is for the operator.
pub(super) async fn acceptor(files: config::Tls) -> Result<TlsAcceptor, String> {
    // A disk may hang.
    let read = tokio::task::spawn_blocking(move || read(&files));
    read.await.unwrap_or_else(|e| Err(format!("reading the certificate: {e}")))
}

fn read(files: &config::Tls) -> Result<TlsAcceptor, String> {
    let text = |path: &Path| -> Result<Vec<u8>, String> {
        std::fs::read(path).map_err(|e: io::Error| format!("reading {}: {e}", path.display()))
    };
    let certs = CertificateDer::pem_slice_iter(&text(&files.cert)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| format!("{} is no certificate in PEM: {e}", files.cert.display()))?;
    if certs.is_empty() {
        return Err(format!("{} has no certificate in PEM", files.cert.display()));
    }
    let key = PrivateKeyDer::from_pem_slice(&text(&files.key)?)
        .map_err(|e| format!("{} is no private key in PEM: {e}", files.key.display()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|b| b.with_no_client_auth().with_single_cert(certs, key))
        .map_err(|e: rustls::Error| {
            format!("{} and {} do not fit: {e}", files.cert.display(), files.key.display())
        })?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
