//! `gatehouse central enroll-device|retire-device`

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use gatehouse_admin::{self as central, Enrolled, SignIn};
use gatehouse_config::Secret;
use serde::Serialize;

use super::{settings, steps_text};
use crate::session::Session;
use gatehouse_config::DEFAULT_CONFIG;
use gatehouse_control::types::Fault;

#[derive(Debug, clap::Args)]
pub(crate) struct Enroll {
    /// The device.id of the appliance.
    #[arg(value_name = "ID")]
    device: String,
    /// Write the password to this file, readable by its owner only, instead of printing it.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Create no password: the appliance signs in with its own certificate.
    #[arg(long, conflicts_with = "password_file")]
    certificate: bool,
    /// Settings file with the [central] sections, and with a database role that may create roles.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Retire {
    /// The device.id of the appliance.
    #[arg(value_name = "ID")]
    device: String,
    /// The appliance is lost or destroyed: receipts of erasures say that it cannot answer any more.
    #[arg(long)]
    lost: bool,
    /// Settings file with the [central] sections, and with a database role that may create roles.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

/// Result of the command. The password is printed once and not stored.
#[derive(Serialize)]
struct EnrollResult<'a> {
    #[serde(flatten)]
    enrolled: &'a Enrolled,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<&'a Path>,
}

pub(super) async fn enroll(args: Enroll, session: &mut Session) -> Result<(), Fault> {
    let config = settings(&args.config)?;
    let password = central::new_password();
    // The file is written before the database changes: a failed write must not lock the appliance out.
    let file = args.password_file.as_deref().map(|path| PendingFile::write(path, &password)).transpose()?;
    let sign_in = if args.certificate { SignIn::Certificate } else { SignIn::Password(&password) };
    let enrolled = central::enroll(&config, &args.device, sign_in).await.map_err(Fault::refused)?;
    file.map(PendingFile::keep).transpose()?;
    let result = EnrollResult {
        enrolled: &enrolled,
        password: password.text().filter(|_| args.password_file.is_none() && !args.certificate),
        password_file: args.password_file.as_deref(),
    };
    session.show(&result, enrolled_text)
}

pub(super) async fn retire(args: &Retire, session: &mut Session) -> Result<(), Fault> {
    let config = settings(&args.config)?;
    let steps = central::retire(&config, &args.device, args.lost).await.map_err(Fault::refused)?;
    session.show(&steps, |steps| steps_text(steps))
}

/// A file under a temporary name; removed unless it is kept.
struct PendingFile {
    target: PathBuf,
    temporary: PathBuf,
}

impl PendingFile {
    fn write(target: &Path, password: &Secret) -> Result<Self, Fault> {
        let fault = |error: io::Error| {
            Fault::refused(format!("cannot write {}: {error}", target.display()))
                .advise("nothing was changed; name another --password-file")
        };
        let mut name = target.as_os_str().to_owned();
        name.push(".new");
        let pending = Self { target: target.to_owned(), temporary: name.into() };
        // An older file may be readable by others, and overwriting would keep its permissions.
        match fs::remove_file(&pending.temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(&pending.temporary).map_err(fault)?;
        file.write_all(password.bytes()).and_then(|()| file.sync_all()).map_err(fault)?;
        Ok(pending)
    }

    fn keep(self) -> Result<(), Fault> {
        fs::rename(&self.temporary, &self.target).map_err(|error| {
            Fault::refused(format!("cannot write {}: {error}", self.target.display()))
                .advise("the database already has the new password: run the command again")
        })
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        // A kept file has been renamed, so this fails.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn enrolled_text(result: &EnrollResult<'_>) -> String {
    let Enrolled { device, role, rotated, policy } = result.enrolled;
    let change = if *rotated { "has a new sign-in" } else { "is new" };
    let mut text = format!("role      {role}: {change}; the user in central.rows.url of `{device}`\n");
    match (result.password, result.password_file) {
        (Some(password), _) => text.push_str(&format!("password  {password}\n          not shown again\n")),
        (None, Some(file)) => text.push_str(&format!("password  in {}\n", file.display())),
        (None, None) => text.push_str(&format!(
            "password  none: issue a certificate with the common name {role}, and add this line to pg_hba.conf of the server:\n          \
             hostssl all {role} all cert\n"
        )),
    }
    if let Some(policy) = policy {
        text.push_str(&format!("\nPolicy for its S3 keys:\n{policy:#}\n"));
    }
    text
}
