//! Host names that do not resolve, and expired certificates.

use anyhow::{Context, Result};
use gatehouse_testkit::certs::Certificates;
use gatehouse_testkit::folder::Folder;
use gatehouse_testkit::objects::Objects;
use gatehouse_testkit::tls::{Opening, TlsFront};

use super::site::Site;

/// A reserved name that cannot be registered.
const NOWHERE: &str = "central.gatehouse.invalid";

/// What is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// There is no DNS that knows them.
    NoDns,
    /// The servers show a certificate whose time is over; it is renewed while the daemon runs.
    Expired,
}

/// The settings of the daemon during the fault.
#[derive(Default)]
pub(super) struct Held {
    certificates: Option<(Folder, Certificates)>,
    fronts: Vec<TlsFront>,
}

impl Names {
    pub(super) fn begin(self, site: &mut Site) -> Result<Held> {
        let mut held = Held::default();
        match self {
            Self::NoDns => {
                let url = format!("postgres://postgres@{NOWHERE}/gatehouse_dev");
                let objects = Objects { endpoint: format!("http://{NOWHERE}"), ..site.setup.s3.objects() };
                reconfigure(site, &url, objects, "")?;
            }
            Self::Expired => {
                let folder = Folder::new("expired")?;
                let certificates = Certificates::make(folder.path())?;
                let (rows, objects) = (site.rows_line.port(), site.setup.s3_proxy.port());
                let rows = TlsFront::start(rows, Opening::Postgres, &certificates.expired)?;
                let objects = TlsFront::start(objects, Opening::AtOnce, &certificates.expired)?;
                let url = format!("postgres://postgres@localhost:{}/gatehouse_dev", rows.port());
                let endpoint = format!("https://localhost:{}", objects.port());
                let ca_file = format!("ca_file = {:?}\n", certificates.ca);
                reconfigure(site, &url, Objects { endpoint, ..site.setup.s3.objects() }, &ca_file)?;
                held.fronts = vec![rows, objects];
                held.certificates = Some((folder, certificates));
            }
        }
        Ok(held)
    }

    pub(super) fn end(self, site: &mut Site, held: &Held) -> Result<()> {
        if self == Self::Expired {
            let (_, certificates) = held.certificates.as_ref().context("certificates")?;
            held.fronts.iter().try_for_each(|front| front.show(&certificates.server()))?;
            let all = |ledger: &crate::setup::Ledger| ledger.number("events", "pending") == 0;
            site.setup.until_ledger("delivery with the new certificate", super::TIMEOUT, all)?;
        }
        let url = site.setup.database.url_at(site.rows_line.port());
        let objects = site.setup.s3.objects().at(site.setup.s3_proxy.port());
        reconfigure(site, &url, objects, "")
    }
}

/// Another address for each, which takes a restart.
fn reconfigure(site: &mut Site, url: &str, objects: Objects, ca_file: &str) -> Result<()> {
    site.setup.daemon.terminate()?;
    site.setup.daemon.reconfigure(|options| {
        options.rows_url = Some(url.to_owned());
        options.objects = Some(objects);
        for section in ["central.rows", "central.objects"] {
            options.settings.insert(section.to_owned(), ca_file.to_owned());
        }
    })?;
    site.setup.start()
}
