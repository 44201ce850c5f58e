//! The last good inventory: a file in the state directory, in the form in which it came.

use std::path::{Path, PathBuf};

use config::{Format, Inventory};

use super::db::Fault;
use super::evidence::write_whole;

fn place(state: &Path, format: Format) -> PathBuf {
    state.join(format!("inventory.last-good.{}", format.ending()))
}

/// Writes it, whole or not at all.
pub(super) fn keep(state: &Path, inventory: &Inventory) -> Result<(), Fault> {
    let path = place(state, inventory.format());
    write_whole(state, &path, inventory.text().as_bytes()).map_err(|e| {
        let advice = "free space, and see that cordond's user may write there";
        Fault::Passing(format!("writing {}: {e}; {advice}", path.display()))
    })?;
    let other = if inventory.format() == Format::Csv { Format::Toml } else { Format::Csv };
    // The latest counts: one that stayed would be as good as the new one at the next start.
    let _ = std::fs::remove_file(place(state, other));
    Ok(())
}

/// Where it lies, if there is one: the latest.
pub fn last_good(state: &Path) -> Option<PathBuf> {
    let written = |f| {
        let path = place(state, f);
        Some((std::fs::metadata(&path).ok()?.modified().ok()?, path))
    };
    [Format::Toml, Format::Csv].into_iter().filter_map(written).max().map(|(_, path)| path)
}
