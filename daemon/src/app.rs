//! The daemon as a whole: the only place that wires components together.
//!
//! [`run`] reads from top to bottom: settings, build, serve, drain. A start needs no other machine: the clients of broker,
//! Postgres and S3 connect when those are reachable.
//!
//! Order of the drain, each step with a timeout. Requests and housekeeping end. The pipeline receives nothing more, and
//! answers, stores and acknowledges what it has. Delivery ends its current push. The store syncs and closes. A step that
//! exceeds its timeout is abandoned. Acknowledged messages are durable at every moment, so this only repeats work after the
//! next start.

mod clock;
mod error;
mod housekeeping;
mod maintenance;
pub(crate) mod root_key;
mod settings;
mod state_directory;
pub(crate) mod wiring;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_store::Store;
use gatehouse_store::store::OpenReport;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use gatehouse_machine::gallery::differs;

use crate::control::Services;
use crate::control::server::Server;
use crate::pipeline;
use crate::supervise::{Tasks, stopped, systemd, watchdog};
pub use error::AppError;
pub use settings::Settings;
use state_directory::StateLock;

/// Bounds requests in progress and housekeeping.
const TASKS_TIMEOUT: Duration = Duration::from_secs(5);
/// Bounds the pipeline: a slow flash stores the messages in progress in a few seconds.
const PIPELINE_TIMEOUT: Duration = Duration::from_secs(15);
/// Bounds delivery: an aborted push is repeated after the start.
const SYNC_TIMEOUT: Duration = Duration::from_secs(5);
/// Bounds the last sync of the store. All timeouts together are below the 60 s of the unit.
const STORE_TIMEOUT: Duration = Duration::from_secs(15);
/// Bounds blocking work outside of all steps, such as a read on a failing disk.
const RUNTIME_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the daemon with the settings at `path` until a signal ends it.
///
/// # Errors
/// [`AppError`] if it does not start, or if an essential part failed.
pub fn run(path: &Path) -> Result<(), AppError> {
    let settings =
        Settings::load(path).map_err(|faults| AppError::Config { path: path.to_owned(), faults })?;
    // Files that are created from here on are closed to other users.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(live(settings));
    runtime.shutdown_timeout(RUNTIME_TIMEOUT);
    ended
}

async fn live(settings: Settings) -> Result<(), AppError> {
    // First, so that a signal during a long recovery is not lost.
    let mut signals = Signals::new()?;
    let mut app = tokio::select! {
        app = App::build(settings) => app?,
        // For the store, an aborted recovery is a crash, which it tolerates.
        signal = signals.stop() => {
            info!(signal, "stop requested during the start");
            return Ok(());
        }
    };
    let ended = app.serve(&mut signals).await;
    app.drain().await;
    info!("stopped");
    ended
}

/// The running daemon.
struct App {
    services: Arc<Services>,
    tasks: Tasks,
    /// Last, so that no other process gets the directory before everything is closed.
    _lock: StateLock,
}

impl App {
    async fn build(settings: Settings) -> Result<Self, AppError> {
        let config = settings.started().clone();
        let lock = StateLock::take(&config.state.directory)?;
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let (root_key, root_key_file) = root_key::find(&config, credentials.as_deref())?;
        let control = Server::bind(&config.control.socket)?;
        systemd::status("opening the state directory");
        let store_settings = wiring::store_settings(&config);
        let opened = tokio::task::spawn_blocking(move || Store::open(store_settings, &root_key)).await;
        let (store, opened) = opened.map_err(|_| AppError::TaskEnded("opening of the store"))??;
        log_open_report(&opened);
        wiring::follow_target(&store.galleries, &config);
        let model = store.galleries.current().models().in_use.clone();
        if differs(&config, &model) {
            warn!(
                in_use = model.name,
                settings = config.gallery.model,
                "the gallery in use differs from the settings"
            );
        }
        store.galleries.label_strangers(config.gallery.label_strangers);
        wiring::require_consent(&store.privacy, &config);
        wiring::share_people(&store.people, &config);
        finish_erasures(&store).await;
        // Before the first delivery: a time server has priority over the central database.
        clock::check(&store.events).await;
        let sync = gatehouse_sync::Sync::start(&config, &store);
        let pipeline = pipeline::start(&config, &store)?;
        let started = Instant::now();
        let services = Arc::new(Services { store, sync, pipeline, settings, root_key_file, opened, started });
        let tasks = start_tasks(&services, control);
        info!(device = config.device.id, environment = %config.device.environment, version = gatehouse_control::VERSION, "ready");
        Ok(Self { services, tasks, _lock: lock })
    }

    /// Runs until a signal arrives or an essential task ends.
    async fn serve(&mut self, signals: &mut Signals) -> Result<(), AppError> {
        systemd::ready(&status_line(&self.services).await);
        loop {
            tokio::select! {
                action = signals.next() => match action {
                    Action::Stop(signal) => {
                        info!(signal, "stop requested");
                        return Ok(());
                    }
                    // It logs its result.
                    Action::Reload => drop(self.services.settings.reload(&self.services.store.galleries)),
                },
                name = self.services.pipeline.ended() => return Err(AppError::TaskEnded(name)),
                name = self.tasks.ended() => return Err(AppError::TaskEnded(name)),
            }
        }
    }

    /// Stops all parts in order; see the module.
    async fn drain(mut self) {
        systemd::stopping();
        self.tasks.stop(TASKS_TIMEOUT).await;
        self.services.pipeline.drain(PIPELINE_TIMEOUT).await;
        self.services.sync.stop(SYNC_TIMEOUT).await;
        let store = self.services.store.clone();
        let closed = tokio::task::spawn_blocking(move || store.close());
        if tokio::time::timeout(STORE_TIMEOUT, closed).await.is_err() {
            warn!(
                seconds = STORE_TIMEOUT.as_secs(),
                "the store did not close in time; the next start repairs it"
            );
        }
    }
}

fn start_tasks(services: &Arc<Services>, control: Server) -> Tasks {
    let mut tasks = Tasks::default();
    tasks.spawn("control", control.run(Arc::clone(services), tasks.stop_signal()));
    let (watched, stop) = (Arc::clone(services), tasks.stop_signal());
    let beats = watch::Sender::new(());
    tasks
        .spawn("maintenance", maintenance::run(Arc::clone(services), beats.subscribe(), tasks.stop_signal()));
    tasks.spawn("watchdog", async move {
        let probe_interval = watchdog::probe_interval(systemd::watchdog_period());
        let probe = || {
            beats.send_replace(());
            watched.pipeline.probe()
        };
        if let Err(error) = watchdog::run(probe_interval, stop, probe).await {
            error!(%error, "pipeline or journal failed");
        }
    });
    let (upkeep, mut stop) = (services.store.upkeep.clone(), tasks.stop_signal());
    tasks.spawn("views", async move {
        tokio::select! {
            () = upkeep.views_stopped() => error!("the views no longer follow the journal"),
            () = stopped(&mut stop) => {}
        }
    });
    tasks.spawn("housekeeping", housekeeping::run(services.clone(), tasks.stop_signal()));
    tasks
}

/// Their people are not in memory any more: a failure delays no answer, and the next start continues.
async fn finish_erasures(store: &Store) {
    match store.upkeep.finish_erasures().await {
        Ok(0) => {}
        Ok(finished) => warn!(finished, "interrupted erasures of people were completed"),
        Err(error) => tracing::error!("an interrupted erasure could not be completed: {error}"),
    }
}

/// Logs the results of opening. Damage is an error: an operator has to check the disk.
fn log_open_report(report: &OpenReport) {
    for damage in &report.damaged {
        error!(damage, "the journal is damaged here; readable records were kept");
    }
    if report.media_lost > 0 {
        error!(files = report.media_lost, "media files are missing that were not delivered");
    }
    if let Some(why) = &report.views_rebuilt {
        warn!(why, "the views were rebuilt from the journal");
    }
    info!(
        events = report.head.seq,
        torn_bytes = report.torn_bytes,
        caught_up = report.caught_up,
        cleared = report.cleared,
        "store is open"
    );
}

/// One line for `systemctl status`.
async fn status_line(services: &Services) -> String {
    let upkeep = services.store.upkeep.clone();
    // The numbers may come from the disk.
    let status = tokio::task::spawn_blocking(move || upkeep.status()).await;
    let broker = if services.pipeline.stats().connected { "broker connected" } else { "no broker" };
    let Ok(store) = status else { return broker.to_owned() };
    format!(
        "{broker}, {} people, {} events stored, {} events and {} media files pending",
        store.people, store.head.seq, store.pending_events, store.pending_media
    )
}

/// The signals that the daemon handles.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal that stops the daemon.
    async fn stop(&mut self) -> &'static str {
        loop {
            if let Action::Stop(signal) = self.next().await {
                return signal;
            }
        }
    }

    /// The action of the next signal.
    async fn next(&mut self) -> Action {
        tokio::select! {
            _ = self.terminate.recv() => Action::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Action::Stop("SIGINT"),
            _ = self.hangup.recv() => Action::Reload,
        }
    }
}

/// The action of a signal.
enum Action {
    Stop(&'static str),
    Reload,
}
