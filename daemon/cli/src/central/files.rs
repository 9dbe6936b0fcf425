//! `gatehouse central url|orphans|verify|delete-file|undelete|purge-deleted`: files of all appliances.

use gatehouse_admin::delete::{self, Changed, Purged};
use gatehouse_admin::orphans::Orphans as Found;
use gatehouse_admin::orphans::{self, Order, Orphan};
use gatehouse_admin::verify::{self, Differing, SAMPLE_MAX, Scope, Verified};
use gatehouse_central::grant;

use super::{Args, settings};
use crate::format;
use crate::media::{self, Expires};
use crate::session::Session;
use crate::table::printable;
use gatehouse_control::exit;
use gatehouse_control::types::Fault;

#[derive(Debug, clap::Args)]
pub(crate) struct Url {
    /// Id of the file in gatehouse.files, or its key in the bucket.
    #[arg(value_name = "FILE-ID|KEY")]
    file: String,
    #[command(flatten)]
    expires: Expires,
    #[command(flatten)]
    args: Args,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Orphans {
    /// Move objects without a row to quarantine/, and set rows without an object to `deleted`.
    #[arg(long)]
    fix: bool,
    /// Fix even if more than a tenth of all files are affected.
    #[arg(long, requires = "fix")]
    force: bool,
    #[command(flatten)]
    args: Args,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Number of randomly chosen files to read.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(SAMPLE_MAX)))]
    sample: u32,
    /// Read every file.
    #[arg(long, conflicts_with = "sample")]
    all: bool,
    #[command(flatten)]
    args: Args,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OfFile {
    /// Id of the file in gatehouse.files.
    #[arg(value_name = "FILE-ID")]
    file: String,
    #[command(flatten)]
    args: Args,
}

pub(super) async fn url(args: &Url, session: &mut Session) -> Result<(), Fault> {
    let config = settings(&args.args.config)?;
    let granted = grant::url(&config, &args.file, args.expires.expires).await.map_err(Fault::refused)?;
    session.show(&granted, media::granted)
}

pub(super) async fn orphans(args: &Orphans, session: &mut Session) -> Result<(), Fault> {
    let config = settings(&args.args.config)?;
    let order = if args.fix { Order::Fix { force: args.force } } else { Order::Look };
    let found = orphans::orphans(&config, order).await.map_err(Fault::refused)?;
    session.show(&found, found_text)
}

fn found_text(found: &Found) -> String {
    let line = |orphan: &Orphan| match &orphan.id {
        None => format!("no row     {}\n", printable(&orphan.key)),
        Some(id) => format!("no object  {}  (file {id})\n", printable(&orphan.key)),
    };
    let mut text: String = found.orphans.iter().map(line).collect();
    let more = found.without_row + found.without_object - found.orphans.len() as u64;
    if more > 0 {
        text.push_str(&format!("and {more} more\n"));
    }
    text.push_str(&format!(
        "{} and {}: {} without a row, {} without an object\n",
        format::count(found.objects, "object", "objects"),
        format::count(found.rows, "row", "rows"),
        found.without_row,
        found.without_object
    ));
    if found.waiting > 0 {
        text.push_str(&format!(
            "{} without a row, which may still arrive\n",
            format::count(found.waiting, "object", "objects")
        ));
    }
    match found.fixed {
        Some(fixed) => text.push_str(&format!("{fixed} fixed\n")),
        None if found.without_row + found.without_object > 0 => {
            text.push_str("nothing was changed; --fix fixes them\n");
        }
        None => {}
    }
    text
}

pub(super) async fn verify(args: &Verify, session: &mut Session) -> Result<(), Fault> {
    let config = settings(&args.args.config)?;
    let scope = if args.all { Scope::All } else { Scope::Sample(args.sample) };
    let verified = verify::verify(&config, scope).await.map_err(Fault::refused)?;
    session.show(&verified, verified_text)?;
    match verified.differ {
        0 => Ok(()),
        // The result is already on standard output.
        _ => Err(Fault::with_code(exit::REFUSED, "")),
    }
}

fn verified_text(verified: &Verified) -> String {
    let line = |one: &Differing| {
        format!("DIFFERS  {}: {}  (file {})\n", printable(&one.key), printable(&one.message), one.id)
    };
    let mut text: String = verified.differing.iter().map(line).collect();
    let more = verified.differ - verified.differing.len() as u64;
    if more > 0 {
        text.push_str(&format!("and {more} more\n"));
    }
    let files = format::count(verified.files, "file", "files");
    let bytes = format::bytes(verified.bytes);
    text.push_str(&format!("{files} read back ({bytes}), {} differ\n", verified.differ));
    text
}

pub(super) async fn mark(args: &OfFile, session: &mut Session) -> Result<(), Fault> {
    let config = settings(&args.args.config)?;
    let changed = delete::mark(&config, &args.file).await.map_err(Fault::refused)?;
    session.show(&changed, |Changed { id, purged_after, .. }| {
        let after = purged_after.as_deref().map(format::time).unwrap_or_default();
        format!(
            "{id} is marked for deletion; `gatehouse central purge-deleted` removes it after {after}, undelete unmarks it"
        )
    })
}

pub(super) async fn unmark(args: &OfFile, session: &mut Session) -> Result<(), Fault> {
    let config = settings(&args.args.config)?;
    let changed = delete::unmark(&config, &args.file).await.map_err(Fault::refused)?;
    session.show(&changed, |Changed { id, status, .. }| format!("{id} is {status} again"))
}

pub(super) async fn purge(args: &Args, session: &mut Session) -> Result<(), Fault> {
    let config = settings(&args.config)?;
    let purged = delete::purge(&config).await.map_err(Fault::refused)?;
    session.show(&purged, |Purged { files, waiting }| {
        format!("{} removed, {waiting} marked but not due yet", format::count(*files, "file", "files"))
    })
}
