//! Secrets are sealed by the real systemd-creds, with a host key of the test; a provisioning file is taken in once,
//! whole or not at all.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use gatehouse_testkit::daemon::binary;
use gatehouse_testkit::folder::Folder;

const ROOT_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// An appliance's files below one folder.
struct Appliance {
    folder: Folder,
}

impl Appliance {
    fn new() -> Result<Self> {
        let appliance = Self { folder: Folder::new("appliance")? };
        fs::create_dir(appliance.path("conf.d"))?;
        appliance.settings("")?;
        Ok(appliance)
    }

    fn settings(&self, device: &str) -> Result<()> {
        let state = self.path("state");
        let text = format!("[device]\n{device}[state]\ndirectory = \"{}\"\n", state.display());
        Ok(fs::write(self.path("gatehouse.toml"), text)?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("gatehouse-provision.toml")
    }

    fn gatehouse(&self, arguments: &[&str]) -> Result<Output> {
        // As in gatehouse-provision.service.
        let mut command = Command::new("sh");
        command.args(["-c", "umask 0077; exec \"$@\"", "sh"]).arg(binary("gatehouse")?);
        command.env("SYSTEMD_CREDENTIAL_SECRET", self.path("host.secret"));
        command.arg("--json").args(arguments).arg("--config").arg(self.path("gatehouse.toml"));
        Ok(command.arg("--credstore").arg(self.path("credstore")).output()?)
    }

    fn provision(&self) -> Result<Output> {
        let file = self.file();
        self.gatehouse(&["provision", "--file", &file.to_string_lossy()])
    }

    /// What systemd would hand to the daemon.
    fn opened(&self, name: &str) -> Result<String> {
        let mut command = Command::new("systemd-creds");
        command.env("SYSTEMD_CREDENTIAL_SECRET", self.path("host.secret"));
        command.args(["decrypt", &format!("--name=gatehouse.{name}")]);
        let output =
            command.arg(self.path("credstore").join(format!("gatehouse.{name}"))).arg("-").output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn with_secret(line: &str) -> String {
    format!(
        "[device]\nid = \"house-9\"\nenvironment = \"prod\"\n[mqtt]\nurl = \"mqtts://broker.example\"\n\
         username = \"house-9\"\n[secrets]\nmqtt-password = \"hunter2\"\n{line}"
    )
}

fn holds(folder: &Path, words: &str) -> Result<bool> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let found = if path.is_dir() {
            holds(&path, words)?
        } else {
            String::from_utf8_lossy(&fs::read(&path)?).contains(words)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn a_provisioning_file_is_taken_in_once_and_leaves_no_secret() -> Result<()> {
    let appliance = Appliance::new()?;
    fs::write(appliance.file(), with_secret(&format!("root-key = \"{ROOT_KEY}\"\n")))?;
    let output = appliance.provision()?;
    ensure!(output.status.success(), "{}", said(&output));
    ensure!(!appliance.file().exists(), "the file is still there");
    ensure!(!said(&output).contains("hunter2") && !holds(appliance.folder.path(), "hunter2")?);
    ensure!(!holds(appliance.folder.path(), ROOT_KEY)?, "the root key is stored in plaintext");
    ensure!(appliance.opened("mqtt-password")? == "hunter2");
    ensure!(appliance.opened("root-key")? == ROOT_KEY);
    let check = Command::new(binary("gatehoused")?)
        .args(["check-config", "--config"])
        .arg(appliance.path("gatehouse.toml"))
        .output()?;
    ensure!(check.status.success(), "{}", said(&check));
    let settings = appliance.path("conf.d/50-provisioned.toml");
    ensure!(settings.metadata()?.mode() & 0o777 == 0o644, "the daemon's user cannot read the settings");
    let settings = fs::read_to_string(settings)?;
    ensure!(settings.contains("device.id = \"house-9\""), "{settings}");
    Ok(())
}

#[test]
fn a_faulty_file_stays_and_changes_nothing() -> Result<()> {
    let appliance = Appliance::new()?;
    fs::write(appliance.file(), with_secret("root-key = \"hunter3\"\nwifi = \"hunter4\"\n"))?;
    let output = appliance.provision()?;
    let words = said(&output);
    ensure!(output.status.code() == Some(78), "{words}");
    for part in ["gatehouse-provision.toml:9: secrets.root-key", "gatehouse-provision.toml:10: secrets.wifi"]
    {
        ensure!(words.contains(part), "{words}");
    }
    ensure!(!words.contains("hunter"), "{words}");
    ensure!(appliance.file().exists() && !appliance.path("credstore").exists());
    ensure!(!appliance.path("conf.d/50-provisioned.toml").exists());
    Ok(())
}

#[test]
fn after_a_cut_at_any_place_the_next_run_ends_well() -> Result<()> {
    let appliance = Appliance::new()?;
    // Cut after everything was taken over and before the file was removed: all of it comes again.
    fs::write(appliance.file(), with_secret(""))?;
    ensure!(appliance.provision()?.status.success());
    let made = appliance.opened("root-key")?;
    fs::write(appliance.file(), with_secret(""))?;
    ensure!(appliance.provision()?.status.success());
    ensure!(appliance.opened("root-key")? == made, "the root key was replaced");
    // Cut while it was overwritten: half of it is gone.
    let taken = appliance.path("gatehouse-provision.toml.taken");
    fs::write(&taken, [0; 512])?;
    let file = appliance.file();
    appliance.gatehouse(&["provision", "--file", &file.to_string_lossy()])?;
    ensure!(!taken.exists(), "what was left of the file is still there");
    // An old file does not take the key of what is stored away.
    fs::write(appliance.file(), with_secret(&format!("root-key = \"{ROOT_KEY}\"\n")))?;
    let output = appliance.provision()?;
    ensure!(
        output.status.code() == Some(1) && said(&output).contains("another root key"),
        "{}",
        said(&output)
    );
    ensure!(appliance.opened("root-key")? == made);
    Ok(())
}

#[test]
fn setup_makes_one_root_key_and_never_replaces_it_unasked() -> Result<()> {
    let appliance = Appliance::new()?;
    let password = appliance.path("password");
    fs::write(&password, "hunter2\n")?;
    let copy = appliance.path("copy");
    let (password, copy) = (password.to_string_lossy(), copy.to_string_lossy());
    let output = appliance.gatehouse(&["setup"])?;
    ensure!(output.status.code() == Some(78) && said(&output).contains("device.id"), "{}", said(&output));
    appliance.settings("id = \"house-9\"\nenvironment = \"prod\"\n")?;
    let output =
        appliance.gatehouse(&["setup", "--mqtt-password-file", &password, "--copy-root-key-to", &copy])?;
    ensure!(output.status.success(), "{}", said(&output));
    let made = appliance.opened("root-key")?;
    ensure!(made.len() == 64 && fs::read_to_string(&*copy)? == made);
    ensure!(appliance.opened("mqtt-password")? == "hunter2");
    ensure!(appliance.gatehouse(&["setup"])?.status.success());
    ensure!(appliance.opened("root-key")? == made, "the second run made another key");
    let other = appliance.path("other");
    fs::write(&other, ROOT_KEY)?;
    let other = other.to_string_lossy();
    let output = appliance.gatehouse(&["setup", "--root-key-file", &other])?;
    ensure!(output.status.code() == Some(1) && appliance.opened("root-key")? == made, "{}", said(&output));
    // The same key in another form is no other key.
    let same = appliance.path("same");
    fs::write(&same, made.to_uppercase() + "\n")?;
    ensure!(appliance.gatehouse(&["setup", "--root-key-file", &same.to_string_lossy()])?.status.success());
    fs::write(&same, "no key")?;
    let output = appliance.gatehouse(&[
        "setup",
        "--root-key-file",
        &same.to_string_lossy(),
        "--force-new-root-key",
    ])?;
    ensure!(output.status.code() == Some(1) && appliance.opened("root-key")? == made, "{}", said(&output));
    let output = appliance.gatehouse(&["setup", "--root-key-file", &other, "--force-new-root-key"])?;
    ensure!(output.status.success() && appliance.opened("root-key")? == ROOT_KEY, "{}", said(&output));
    let sealed = |name| fs::read(appliance.path("credstore").join(name));
    let before = sealed("gatehouse.root-key")?;
    let output = appliance.gatehouse(&["setup", "--reseal"])?;
    ensure!(output.status.success() && said(&output).contains("mqtt-password"), "{}", said(&output));
    ensure!(sealed("gatehouse.root-key")? != before && appliance.opened("root-key")? == ROOT_KEY);
    ensure!(appliance.opened("mqtt-password")? == "hunter2");
    // A new key could not open the sealed state.
    fs::remove_dir_all(appliance.path("credstore"))?;
    fs::create_dir(appliance.path("state"))?;
    fs::write(appliance.path("state/keys"), "sealed")?;
    let output = appliance.gatehouse(&["setup"])?;
    ensure!(output.status.code() == Some(1) && !appliance.path("credstore").exists(), "{}", said(&output));
    Ok(())
}
