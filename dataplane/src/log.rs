//! Lines for the operator: to standard error, with the severity prefix that journald reads (sd-daemon(3)).

fn line(level: u8, text: &str) {
    use std::io::Write;
    let mut err = std::io::stderr().lock();
    // Nobody is left to tell when standard error is gone.
    let _ = if std::env::var_os("JOURNAL_STREAM").is_some() {
        writeln!(err, "<{level}>{text}")
    } else {
        writeln!(err, "cordon-dataplane: {text}")
    };
}

/// Something failed.
pub(crate) fn error(text: &str) {
    line(3, text);
}

/// Something needs attention.
pub(crate) fn warning(text: &str) {
    line(4, text);
}

/// Something happened as it should.
pub(crate) fn info(text: &str) {
    line(6, text);
}
