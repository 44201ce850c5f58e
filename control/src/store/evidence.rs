//! Files of evidence: `evidence/INCIDENT/NAME` in the state directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::db::{Fault, number_of};

const DIR: &str = "evidence";

/// Where an incident's files lie.
pub fn folder(state: &Path, incident: &str) -> PathBuf {
    state.join(DIR).join(incident)
}

/// Names come from incident ids and from our own list of files; a path must not come of them.
fn is_plain(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(good)
}

/// Writes a file, whole or not at all, and sees that it is on disk. Says by how many bytes there is more.
pub(super) fn write(state: &Path, incident: &str, name: &str, bytes: &[u8]) -> Result<i64, Fault> {
    if !is_plain(incident) || !is_plain(name) {
        return Err(Fault::Lasting(format!("evidence {incident:?}/{name:?}: this is no name for a file")));
    }
    let dir = folder(state, incident);
    let path = dir.join(name);
    let size = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let before = std::fs::metadata(&path).map_or(0, |m| size(m.len()));
    match write_whole(&dir, &path, bytes) {
        Ok(()) => Ok(size(bytes.len() as u64) - before),
        Err(e) => {
            let advice = "free space, and see that cordond's user may write there";
            let text = format!("writing {}: {e}; {advice}", path.display());
            Err(match e.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::Full(text),
                _ => Fault::Passing(text),
            })
        }
    }
}

/// Bytes of an incident's files.
pub(super) fn bytes_of(state: &Path, incident: &str) -> u64 {
    if !is_plain(incident) {
        return 0;
    }
    let files = std::fs::read_dir(folder(state, incident)).into_iter().flatten().flatten();
    files.filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum()
}

/// Bytes of all files.
pub(super) fn bytes(state: &Path) -> u64 {
    let folders = std::fs::read_dir(state.join(DIR)).into_iter().flatten().flatten();
    folders.map(|f| bytes_of(state, &f.file_name().to_string_lossy())).sum()
}

pub(super) fn write_whole(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&fresh)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(e) = written.and_then(|()| std::fs::rename(&fresh, path)) {
        // A full disk is helped by every byte.
        let _ = std::fs::remove_file(&fresh);
        return Err(e);
    }
    File::open(dir)?.sync_all()
}

/// Where a file of evidence lies; none for what is no name of one.
pub fn path(state: &Path, incident: &str, name: &str) -> Option<PathBuf> {
    (is_plain(incident) && is_plain(name)).then(|| state.join(DIR).join(incident).join(name))
}

/// Removes an incident's files. What cannot be removed stays: it costs space and nothing else.
pub(super) fn remove(state: &Path, incident: &str) -> bool {
    is_plain(incident) && std::fs::remove_dir_all(folder(state, incident)).is_ok()
}

/// The highest number of an incident that has evidence.
pub(super) fn last_number(state: &Path) -> u64 {
    let entries = std::fs::read_dir(state.join(DIR)).into_iter().flatten().flatten();
    entries.map(|e| number_of(&e.file_name().to_string_lossy())).max().unwrap_or(0)
}
