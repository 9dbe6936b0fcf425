//! The words to systemd. Outside of a unit (no `NOTIFY_SOCKET`) they go nowhere.

use std::time::Duration;

use systemd::daemon::{self, STATE_READY, STATE_STATUS, STATE_STOPPING, STATE_WATCHDOG};
use tracing::debug;

/// The daemon serves.
pub fn ready(status: &str) {
    notify(&[(STATE_READY, "1"), (STATE_STATUS, status)]);
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    notify(&[(STATE_STATUS, line)]);
}

/// The daemon is alive, as far as its most vital part could be asked.
pub fn pet() {
    notify(&[(STATE_WATCHDOG, "1")]);
}

/// The daemon drains.
pub fn stopping() {
    notify(&[(STATE_STOPPING, "1"), (STATE_STATUS, "draining")]);
}

/// The time within which systemd wants to hear [`pet`]; none where the unit has no watchdog.
pub fn watchdog_period() -> Option<Duration> {
    match daemon::watchdog_enabled() {
        Ok(0) | Err(_) => None,
        Ok(micros) => Some(Duration::from_micros(micros)),
    }
}

fn notify(state: &[(&str, &str)]) {
    // NUL would end the message early; no caller sends one, and none shall be able to.
    let clean: Vec<(&str, String)> =
        state.iter().map(|(key, value)| (*key, value.replace('\0', " "))).collect();
    if let Err(error) = daemon::notify(clean.iter()) {
        debug!(%error, "systemd was not reached");
    }
}
