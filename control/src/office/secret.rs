//! Small files that the configuration names: passwords, keys, certificates.

use std::path::{Path, PathBuf};

/// Where a secret is: a file, or a credential that systemd has put into a directory of its own.
fn place(key: &str, file: &Path) -> Result<PathBuf, String> {
    if file.is_absolute() {
        return Ok(file.to_owned());
    }
    match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(dir) => Ok(Path::new(&dir).join(file)),
        None => Err(format!(
            "{key} = \"{0}\" names a credential, but systemd gave none: add LoadCredential={0}:/path to cordond.service",
            file.display()
        )),
    }
}

/// Reads the file that a key of the configuration names, without stopping the office.
pub(super) async fn read(key: &str, file: &Path) -> Result<Vec<u8>, String> {
    let path = place(key, file)?;
    let shown = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
    match read {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(e)) => Err(format!("reading {shown}: {e}")),
        Err(e) => Err(format!("reading {shown}: {e}")),
    }
}
