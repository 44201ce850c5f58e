//! Lines for the operator: to standard error, with the severity prefix that journald reads (sd-daemon(3)).

use std::io::Write;

fn line(level: u8, text: &str) {
    let mut err = std::io::stderr().lock();
    for part in text.lines() {
        // Nobody is left to tell when standard error is gone.
        let _ = if std::env::var_os("JOURNAL_STREAM").is_some() {
            writeln!(err, "<{level}>{part}")
        } else {
            writeln!(err, "cordond: {part}")
        };
    }
}

/// Something failed.
pub fn error(text: &str) {
    line(3, text);
}

/// Something needs attention.
pub fn warning(text: &str) {
    line(4, text);
}

/// Something happened as it should.
pub fn info(text: &str) {
    line(6, text);
}
