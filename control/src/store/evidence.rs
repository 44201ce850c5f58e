//! Files of evidence: `evidence/INCIDENT/NAME` in the state directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::db::{Fault, number_of};

const DIR: &str = "evidence";

/// Names come from incident ids and from our own list of files; a path must not come of them.
fn is_plain(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(good)
}

/// Writes a file, whole or not at all, and sees that it is on disk.
pub(super) fn write(state: &Path, incident: &str, name: &str, bytes: &[u8]) -> Result<(), Fault> {
    if !is_plain(incident) || !is_plain(name) {
        return Err(Fault::Lasting(format!("evidence {incident:?}/{name:?}: this is no name for a file")));
    }
    let dir = state.join(DIR).join(incident);
    let path = dir.join(name);
    write_whole(&dir, &path, bytes).map_err(|e| {
        let advice = "free space, and see that cordond's user may write there";
        Fault::Passing(format!("writing {}: {e}; {advice}", path.display()))
    })
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

/// Removes an incident's files. What cannot be removed stays: it costs space and nothing else.
pub(super) fn remove(state: &Path, incident: &str) {
    if is_plain(incident) {
        let _ = std::fs::remove_dir_all(state.join(DIR).join(incident));
    }
}

/// The highest number of an incident that has evidence.
pub(super) fn last_number(state: &Path) -> u64 {
    let entries = std::fs::read_dir(state.join(DIR)).into_iter().flatten().flatten();
    entries.map(|e| number_of(&e.file_name().to_string_lossy())).max().unwrap_or(0)
}
