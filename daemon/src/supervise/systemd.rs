//! Notifications to systemd. Outside of a unit (without `NOTIFY_SOCKET`) they have no effect.

use std::time::Duration;

use systemd::daemon::{self, STATE_READY, STATE_STATUS, STATE_STOPPING, STATE_WATCHDOG};
use tracing::debug;

/// The daemon is ready.
pub fn ready(status: &str) {
    notify(&[(STATE_READY, "1"), (STATE_STATUS, status)]);
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    notify(&[(STATE_STATUS, line)]);
}

/// The watchdog probe succeeded.
pub fn keep_alive() {
    notify(&[(STATE_WATCHDOG, "1")]);
}

/// The daemon stops.
pub fn stopping() {
    notify(&[(STATE_STOPPING, "1"), (STATE_STATUS, "draining")]);
}

/// The time within which systemd expects [`keep_alive`]; none if the unit has no watchdog.
pub fn watchdog_period() -> Option<Duration> {
    match daemon::watchdog_enabled() {
        Ok(0) | Err(_) => None,
        Ok(micros) => Some(Duration::from_micros(micros)),
    }
}

fn notify(state: &[(&str, &str)]) {
    // NUL would end the message early.
    let clean: Vec<(&str, String)> =
        state.iter().map(|(key, value)| (*key, value.replace('\0', " "))).collect();
    if let Err(error) = daemon::notify(clean.iter()) {
        debug!(%error, "systemd could not be notified");
    }
}
