//! Secrets of the HTTP API.
//!
//! A secret has 256 bits from the system's random source. Nobody can try them out, so its digest is a plain SHA-256: a
//! slow or salted one protects what people can guess, and would only make every request dearer.

use std::fs::File;
use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// Every secret begins with it, so that scanners for leaked secrets know one when they see it.
pub const PREFIX: &str = "cordon_";
/// Bytes of a secret, after [`PREFIX`].
const LENGTH: usize = 64;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A new secret.
pub fn secret() -> io::Result<String> {
    let mut bytes = [0u8; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{PREFIX}{}", hex(&bytes)))
}

/// What is kept of a secret: 64 hexadecimal digits.
pub fn digest(secret: &str) -> String {
    hex(&Sha256::digest(secret))
}

/// Whether a text could be a digest.
pub fn is_digest(text: &str) -> bool {
    text.len() == LENGTH && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn secrets_differ_and_digests_do_not_tell_them() {
        let (a, b) = (secret().unwrap(), secret().unwrap());
        assert_ne!(a, b);
        assert!(a.starts_with(PREFIX) && a.len() == PREFIX.len() + LENGTH, "{a}");
        assert!(is_digest(&digest(&a)) && !digest(&a).contains(&a[PREFIX.len()..]));
        // FIPS 180-2, appendix B.1.
        assert_eq!(digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(!is_digest("xyz") && !is_digest(&digest("a").to_uppercase()));
    }
}
