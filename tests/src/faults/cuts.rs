//! Power cuts of a real file system: ext4 on a loop device that is shut down under the daemon without a final flush.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use gatehouse_testkit::folder::Folder;

use super::Outcome;
use super::street::Street;

/// Between a start and its cut at most, in milliseconds.
const LIFE: u64 = 900;
/// The disk: room for the reserve, journal and views.
const DISK: &str = "512M";
/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: nothing that is not on the disk yet comes to it.
const SHUTDOWN: &str = "import fcntl, os, struct, sys\n\
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

/// A file system in a file, mounted while this lives.
struct LoopDisk {
    _folder: Folder,
    image: PathBuf,
    at: PathBuf,
}

impl LoopDisk {
    fn make(at: PathBuf) -> Result<Self> {
        let folder = Folder::new("disk")?;
        let image = folder.path().join("ext4");
        std::fs::create_dir_all(&at)?;
        command("truncate", &["-s", DISK], &image)?;
        command("mkfs.ext4", &["-q", "-F"], &image)?;
        let disk = Self { _folder: folder, image, at };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<()> {
        let image = self.image.to_string_lossy();
        command("mount", &["-o", "loop", &image], &self.at)
    }

    /// The power fails, and comes back.
    fn cut(&self) -> Result<()> {
        command("python3", &["-c", SHUTDOWN], &self.at)
    }

    fn unmount(&self) -> Result<()> {
        command("umount", &[], &self.at)
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}

fn command(program: &str, arguments: &[&str], last: &Path) -> Result<()> {
    let output = Command::new(program).args(arguments).arg(last).output()?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Cuts the power so often.
///
/// # Errors
/// If broker or daemon do not work at all.
pub async fn run(rounds: u64, seed: u64) -> Result<Outcome> {
    let (mut outcome, mut random) = (Outcome::default(), fastrand::Rng::with_seed(seed));
    let mut street = Street::build(Vec::new())?;
    let disk = match LoopDisk::make(street.daemon.state()) {
        Ok(disk) => disk,
        Err(error) => {
            outcome.notes.push(format!("no power cuts of a real file system, which takes root: {error:#}"));
            return Ok(outcome);
        }
    };
    street.open().await?;
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(random.u64(0..LIFE))).await;
        // The processor dies with the disk. Here the daemon lives on for a moment, and an fdatasync that is on its way when
        // the file system is shut down may come back as if it had been done: nothing that it publishes then may be received. (An
        // acknowledgement that is too early by less than this is found by the recorded disk.)
        street.cut_off().await;
        disk.cut()?;
        tokio::time::sleep(Duration::from_millis(random.u64(0..50))).await;
        // It may have noticed, and have ended by itself.
        let _ = street.daemon.kill();
        disk.unmount()?;
        disk.mount()?;
        street.reconnect();
        outcome.rounds += 1;
        street.start_again(&mut outcome);
    }
    street.close(&mut outcome).await?;
    Ok(outcome)
}
