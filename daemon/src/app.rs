//! The daemon as a whole: the only place that wires components together.
//!
//! [`run`] reads from top to bottom: settings, build, serve, drain. Nothing outside of this machine has to be there
//! for a start: broker, Postgres and S3 are looked for by those who need them, for as long as it takes.
//!
//! Order of the drain, each step with its budget: orders and housekeeping end; the pipeline takes nothing more,
//! answers and stores what it has, and acknowledges it; delivery ends its present push; the store syncs and closes.
//! A step that overruns its budget is given up: what was acknowledged is durable at every moment, so that a cut
//! costs only repeated work after the next start.

mod clock;
mod error;
mod housekeeping;
pub(crate) mod root_key;
mod rounds;
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

/// Budget of orders under way and of housekeeping.
const TASKS_BUDGET: Duration = Duration::from_secs(5);
/// Budget of the pipeline: what is in flight is bounded, and a slow flash stores it in a few seconds.
const PIPELINE_BUDGET: Duration = Duration::from_secs(15);
/// Budget of delivery: a push that is cut off is repeated after the start.
const SYNC_BUDGET: Duration = Duration::from_secs(5);
/// Budget of the store's last sync. All budgets together are below the 60 s the unit grants.
const STORE_BUDGET: Duration = Duration::from_secs(15);
/// Budget of what blocks outside of all steps (a thread in a read of a dying disk).
const RUNTIME_BUDGET: Duration = Duration::from_secs(2);
/// Runs the daemon with the settings at `path` until a signal ends it.
///
/// # Errors
/// [`AppError`] where it does not start, or something it cannot live without has failed.
pub fn run(path: &Path) -> Result<(), AppError> {
    let settings =
        Settings::load(path).map_err(|faults| AppError::Config { path: path.to_owned(), faults })?;
    // Whatever is made from here on is closed to others.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(live(settings));
    runtime.shutdown_timeout(RUNTIME_BUDGET);
    ended
}

async fn live(settings: Settings) -> Result<(), AppError> {
    // Before anything is built, so that a signal during a long recovery is not lost.
    let mut signals = Signals::new()?;
    let mut app = tokio::select! {
        app = App::build(settings) => app?,
        // A recovery that is cut short is a crash to the store, which it is made for.
        signal = signals.stop() => {
            info!(signal, "asked to stop before the start was done");
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
    /// Last, so that nobody else gets the directory before all is closed.
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
        tell(&opened);
        wiring::follow_target(&store.galleries, &config);
        let model = store.galleries.current().models().in_use.clone();
        if differs(&config, &model) {
            warn!(
                in_use = model.name,
                settings = config.gallery.model,
                "the gallery in use is not the one of the settings"
            );
        }
        store.galleries.label_strangers(config.gallery.label_strangers);
        wiring::share_people(&store.people, &config);
        // Before anything leaves: what a time server says is believed against the central side.
        clock::look(&store.events).await;
        let sync = gatehouse_sync::Sync::start(&config, &store);
        let pipeline = pipeline::start(&config, &store)?;
        let started = Instant::now();
        let services = Arc::new(Services { store, sync, pipeline, settings, root_key_file, opened, started });
        let tasks = start_tasks(&services, control);
        info!(device = config.device.id, environment = %config.device.environment, version = gatehouse_control::VERSION, "ready");
        Ok(Self { services, tasks, _lock: lock })
    }

    /// Serves until a signal, or until a task ends that must not.
    async fn serve(&mut self, signals: &mut Signals) -> Result<(), AppError> {
        systemd::ready(&status_line(&self.services).await);
        loop {
            tokio::select! {
                wish = signals.next() => match wish {
                    Wish::Stop(signal) => {
                        info!(signal, "asked to stop");
                        return Ok(());
                    }
                    // It logs its own outcome.
                    Wish::Reload => drop(self.services.settings.reload(&self.services.store.galleries)),
                },
                name = self.services.pipeline.ended() => return Err(AppError::TaskEnded(name)),
                name = self.tasks.ended() => return Err(AppError::TaskEnded(name)),
            }
        }
    }

    /// Ends everything in order; see the head of this file.
    async fn drain(mut self) {
        systemd::stopping();
        self.tasks.stop(TASKS_BUDGET).await;
        self.services.pipeline.drain(PIPELINE_BUDGET).await;
        self.services.sync.stop(SYNC_BUDGET).await;
        let store = self.services.store.clone();
        let closed = tokio::task::spawn_blocking(move || store.close());
        if tokio::time::timeout(STORE_BUDGET, closed).await.is_err() {
            warn!(
                seconds = STORE_BUDGET.as_secs(),
                "the store did not close in time; it is repaired at the next start"
            );
        }
    }
}

fn start_tasks(services: &Arc<Services>, control: Server) -> Tasks {
    let mut tasks = Tasks::default();
    tasks.spawn("control", control.run(Arc::clone(services), tasks.stop_signal()));
    let (of_watchdog, stop) = (Arc::clone(services), tasks.stop_signal());
    let beats = watch::Sender::new(());
    tasks.spawn("rounds", rounds::run(Arc::clone(services), beats.subscribe(), tasks.stop_signal()));
    tasks.spawn("watchdog", async move {
        let pulse = watchdog::pulse(systemd::watchdog_period());
        let probe = || {
            beats.send_replace(());
            of_watchdog.pipeline.probe()
        };
        if let Err(error) = watchdog::run(pulse, stop, probe).await {
            error!(%error, "pipeline or journal has failed");
        }
    });
    let (of_views, mut stop) = (services.store.upkeep.clone(), tasks.stop_signal());
    tasks.spawn("views", async move {
        tokio::select! {
            () = of_views.views_stopped() => error!("the views stopped following the journal"),
            () = stopped(&mut stop) => {}
        }
    });
    tasks.spawn("housekeeping", housekeeping::run(services.clone(), tasks.stop_signal()));
    tasks
}

/// What opening found. Damage is an error in the log: somebody should look at the disk.
fn tell(report: &OpenReport) {
    for damage in &report.damaged {
        error!(damage, "the journal is damaged here; what is readable was kept");
    }
    if report.media_lost > 0 {
        error!(files = report.media_lost, "media files are gone from the disk before they were delivered");
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
    let status = tokio::task::spawn_blocking(move || upkeep.status()).await;
    let broker = if services.pipeline.stats().connected { "broker connected" } else { "no broker" };
    let Ok(store) = status else { return broker.to_owned() };
    format!(
        "{broker}, {} people, {} events stored, {} events and {} media files pending",
        store.people, store.head.seq, store.pending_events, store.pending_media
    )
}

/// The signals a daemon listens to.
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

    /// The next one that asks for the end.
    async fn stop(&mut self) -> &'static str {
        loop {
            if let Wish::Stop(signal) = self.next().await {
                return signal;
            }
        }
    }

    /// The next one, as a wish.
    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Wish::Stop("SIGINT"),
            _ = self.hangup.recv() => Wish::Reload,
        }
    }
}

/// What a signal asks for.
enum Wish {
    Stop(&'static str),
    Reload,
}
