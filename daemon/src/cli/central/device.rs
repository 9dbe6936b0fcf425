//! `gatehouse central enroll-device|retire-device`

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use gatehouse_config::Secret;
use gatehouse_sync::central::{self, Enrolled, SignIn};
use serde::Serialize;

use super::{settings, steps_told};
use crate::cli::DEFAULT_CONFIG;
use crate::cli::shell::Shell;
use crate::control::types::Fault;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Enroll {
    /// The appliance's device.id.
    #[arg(value_name = "ID")]
    device: String,
    /// Write the password to this file, readable by its owner alone, instead of showing it.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Make no password: the appliance signs in with a certificate of its own.
    #[arg(long, conflicts_with = "password_file")]
    certificate: bool,
    /// Settings with the [central] sections and a role that may make roles.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Retire {
    /// The appliance's device.id.
    #[arg(value_name = "ID")]
    device: String,
    /// Settings with the [central] sections and a role that may make roles.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

/// What is shown once and kept nowhere.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    enrolled: &'a Enrolled,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<&'a Path>,
}

pub(super) async fn enroll(args: Enroll, shell: &mut Shell) -> Result<(), Fault> {
    let config = settings(&args.config)?;
    let password = central::new_password();
    // On the disk before the database knows it: a file that cannot be written must not lock the appliance out.
    let file = args.password_file.as_deref().map(|path| Pending::write(path, &password)).transpose()?;
    let sign_in = if args.certificate { SignIn::Certificate } else { SignIn::Password(&password) };
    let enrolled = central::enroll(&config, &args.device, sign_in).await.map_err(Fault::refused)?;
    file.map(Pending::keep).transpose()?;
    let told = Told {
        enrolled: &enrolled,
        password: password.text().filter(|_| args.password_file.is_none() && !args.certificate),
        password_file: args.password_file.as_deref(),
    };
    shell.show(&told, enrolled_told)
}

pub(super) async fn retire(args: &Retire, shell: &mut Shell) -> Result<(), Fault> {
    let config = settings(&args.config)?;
    let steps = central::retire(&config, &args.device).await.map_err(Fault::refused)?;
    shell.show(&steps, |steps| steps_told(steps))
}

/// A file beside its later place; removed unless it is kept.
struct Pending {
    place: PathBuf,
    now: PathBuf,
}

impl Pending {
    fn write(place: &Path, password: &Secret) -> Result<Self, Fault> {
        let fault = |error: io::Error| {
            Fault::refused(format!("cannot write {}: {error}", place.display()))
                .advise("nothing was changed; name another --password-file")
        };
        let mut name = place.as_os_str().to_owned();
        name.push(".new");
        let pending = Self { place: place.to_owned(), now: name.into() };
        // One that was left from before may be readable by others: its permissions would stay.
        match fs::remove_file(&pending.now) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&pending.now).map_err(fault)?;
        file.write_all(password.bytes()).and_then(|()| file.sync_all()).map_err(fault)?;
        Ok(pending)
    }

    fn keep(self) -> Result<(), Fault> {
        fs::rename(&self.now, &self.place).map_err(|error| {
            Fault::refused(format!("cannot write {}: {error}", self.place.display()))
                .advise("the password is a new one already: run the command again")
        })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Not there any more where it was kept.
        let _ = fs::remove_file(&self.now);
    }
}

fn enrolled_told(told: &Told<'_>) -> String {
    let Enrolled { device, role, rotated, policy } = told.enrolled;
    let how = if *rotated { "signs in anew" } else { "is new" };
    let mut text = format!("role      {role}: {how}; the user in central.rows.url of `{device}`\n");
    match (told.password, told.password_file) {
        (Some(password), _) => text.push_str(&format!("password  {password}\n          shown this once\n")),
        (None, Some(file)) => text.push_str(&format!("password  in {}\n", file.display())),
        (None, None) => text.push_str(&format!(
            "password  none: give it a certificate with the common name {role}, and the server a line in pg_hba.conf:\n          \
             hostssl all {role} all cert\n"
        )),
    }
    if let Some(policy) = policy {
        text.push_str(&format!("\nThe policy of its S3 keys:\n{policy:#}\n"));
    }
    text
}
