//! Faults of the central services and of the connection to them, and how each is removed.

use anyhow::Result;
use gatehouse_testkit::proxy::Faults;
use gatehouse_testkit::s3::Manner;

use super::database::{self, Trouble};
use super::names::{self, Names};
use super::site::Site;

/// Something that is wrong.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wrong {
    /// The S3 server misbehaves.
    Server(Manner),
    /// The line to the database.
    RowsLine(fn() -> Faults),
    /// The line to the S3 server.
    ObjectsLine(fn() -> Faults),
    /// Both lines.
    Lines(fn() -> Faults),
    /// The database.
    Database(Trouble),
    /// What the appliance knows the central side by: names and certificates.
    Names(Names),
}

/// What must be undone.
#[derive(Default)]
pub(super) struct Held {
    pub(super) trouble: database::Held,
    pub(super) names: names::Held,
}

impl Wrong {
    /// Begins it; none where this machine cannot.
    pub(super) async fn begin(self, site: &mut Site) -> Result<Option<Held>> {
        let mut held = Held::default();
        match self {
            Self::Server(manner) => site.setup.s3.behave(manner),
            Self::RowsLine(faults) => set(&[&site.rows_line], &faults()),
            Self::ObjectsLine(faults) => set(&[&site.setup.s3_proxy], &faults()),
            Self::Lines(faults) => set(&[&site.rows_line, &site.setup.s3_proxy], &faults()),
            Self::Database(trouble) => match trouble.begin(site).await? {
                Some(trouble) => held.trouble = trouble,
                None => return Ok(None),
            },
            Self::Names(names) => held.names = names.begin(site)?,
        }
        Ok(Some(held))
    }

    /// Ends it.
    pub(super) async fn end(self, site: &mut Site, held: Held) -> Result<()> {
        match self {
            Self::Server(_) => site.setup.s3.behave(Manner::Serves),
            Self::RowsLine(_) | Self::ObjectsLine(_) | Self::Lines(_) => {
                site.rows_line.heal();
                site.setup.s3_proxy.heal();
            }
            Self::Database(trouble) => trouble.end(site, held.trouble).await?,
            Self::Names(names) => names.end(site, &held.names)?,
        }
        Ok(())
    }
}

fn set(lines: &[&gatehouse_testkit::proxy::Proxy], faults: &Faults) {
    for line in lines {
        line.set(faults.clone());
        // The middlebox resets all existing connections.
        if faults.portal || faults.refuse {
            line.reset_connections();
        }
    }
}
