//! Points where a test can stop or kill the process, compiled in by the feature `faults` only.
//!
//! A test writes `POINT ACTION` into the file `idgen_fault` of the data directory; the first process that comes to the
//! point takes the file away and acts: `kill` (SIGKILL itself), `stop` (SIGSTOP itself), `error`.

/// Where the worker is.
pub fn point(_name: &str) {
    #[cfg(feature = "faults")]
    act(_name);
}

#[cfg(feature = "faults")]
fn act(name: &str) {
    // PostgreSQL's processes run in the data directory.
    const FILE: &str = "idgen_fault";
    let Ok(text) = std::fs::read_to_string(FILE) else { return };
    let Some(action) = text.trim().strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')) else { return };
    if std::fs::remove_file(FILE).is_err() {
        return;
    }
    let signal = match action {
        "kill" => libc::SIGKILL,
        "stop" => libc::SIGSTOP,
        _ => pgrx::error!("fault at {name}"),
    };
    // SAFETY: sends a signal to this process.
    unsafe { libc::raise(signal) };
}
