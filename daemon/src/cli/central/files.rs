//! `gatehouse central url`: files of all appliances.

use gatehouse_sync::central::grant;

use super::{Args, settings};
use crate::cli::media::{self, Expires};
use crate::cli::shell::Shell;
use crate::control::types::Fault;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Url {
    /// Id of the file in gatehouse.files, or its key in the bucket.
    #[arg(value_name = "FILE-ID|KEY")]
    file: String,
    #[command(flatten)]
    expires: Expires,
    #[command(flatten)]
    args: Args,
}

pub(super) async fn url(args: &Url, shell: &mut Shell) -> Result<(), Fault> {
    let config = settings(&args.args.config)?;
    let granted = grant::url(&config, &args.file, args.expires.expires).await.map_err(Fault::refused)?;
    shell.show(&granted, media::granted)
}
