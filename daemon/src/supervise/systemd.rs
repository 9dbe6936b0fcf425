//! Notifications to systemd. Outside of a unit (without `NOTIFY_SOCKET`) they have no effect.
//!
//! A thread of its own sends them: while systemd does not read its socket, a send blocks, and no event may wait for that.

use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use systemd::daemon::{self, STATE_READY, STATE_STATUS, STATE_STOPPING, STATE_WATCHDOG};
use tracing::debug;

/// Notifications that wait for systemd. Further ones are dropped: it has not read the earlier ones yet.
const WAITING_MAX: usize = 8;

type Notification = Vec<(&'static str, String)>;

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

fn notify(state: &[(&'static str, &str)]) {
    static SENDER: OnceLock<Option<SyncSender<Notification>>> = OnceLock::new();
    // NUL would end the message early.
    let clean = state.iter().map(|(key, value)| (*key, value.replace('\0', " "))).collect();
    let sender = SENDER.get_or_init(start_sender);
    if sender.as_ref().is_none_or(|sender| sender.try_send(clean).is_err()) {
        debug!("a notification to systemd was dropped: it does not read them");
    }
}

/// The thread that sends; none if the system starts no thread.
fn start_sender() -> Option<SyncSender<Notification>> {
    let (sender, waiting) = sync_channel::<Notification>(WAITING_MAX);
    let send = move || {
        while let Ok(notification) = waiting.recv() {
            if let Err(error) = daemon::notify(notification.iter()) {
                debug!(%error, "systemd could not be notified");
            }
        }
    };
    std::thread::Builder::new().name("notify".to_owned()).spawn(send).ok().map(|_| sender)
}
