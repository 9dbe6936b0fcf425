//! Skipping of tests that need a server, a program or a right which not every machine has.
//!
//! A test that cannot run is skipped with a line. If [`REQUIRE_VARIABLE`] names what is missing, it fails instead, so
//! that a machine that has everything, such as CI, notices a test that was not run.

/// Names what must not be missing: a comma-separated list of the names of [`Need`].
pub const REQUIRE_VARIABLE: &str = "GATEHOUSE_TEST_REQUIRE";

/// Something that a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The MinIO server, `minio`.
    Minio,
    /// moto, a stand-in for S3, `moto`.
    Moto,
    /// `curl`, which signs a request to MinIO.
    Curl,
    /// The reference implementation of signed notes, `note`.
    Note,
    /// ClickHouse, which reads Parquet, `clickhouse`.
    ClickHouse,
    /// The right to act as another user, `root`.
    Root,
    /// The right to mount a file system, `mount`.
    Mount,
}

const ALL: [Need; 7] =
    [Need::Minio, Need::Moto, Need::Curl, Need::Note, Need::ClickHouse, Need::Root, Need::Mount];

/// Needs without which a test fails on every machine. They may be named, and change nothing.
const ALWAYS: [&str; 4] = ["postgres", "mosquitto", "strace", "readers"];

impl Need {
    fn name(self) -> &'static str {
        match self {
            Self::Minio => "minio",
            Self::Moto => "moto",
            Self::Curl => "curl",
            Self::Note => "note",
            Self::ClickHouse => "clickhouse",
            Self::Root => "root",
            Self::Mount => "mount",
        }
    }

    /// Whether the test has to be skipped, given whether the need is met.
    ///
    /// # Panics
    /// If the need is not met and [`REQUIRE_VARIABLE`] names it, or if that names something unknown.
    #[expect(clippy::panic, reason = "it fails the test")]
    pub fn is_missing(self, is_met: bool) -> bool {
        let required = std::env::var(REQUIRE_VARIABLE).unwrap_or_default();
        match self.verdict(is_met, &required) {
            Ok(skip) => skip,
            Err(message) => panic!("{message}"),
        }
    }

    #[expect(clippy::print_stdout, reason = "the test harness shows it with the test")]
    fn verdict(self, is_met: bool, required: &str) -> Result<bool, String> {
        let names = || required.split(',').map(str::trim).filter(|name| !name.is_empty());
        let is_known = |name: &str| ALWAYS.contains(&name) || ALL.iter().any(|need| need.name() == name);
        if let Some(unknown) = names().find(|name| !is_known(name)) {
            return Err(format!("{REQUIRE_VARIABLE} names `{unknown}`, which no test needs"));
        }
        if is_met {
            return Ok(false);
        }
        if names().any(|name| name == self.name()) {
            return Err(format!("`{}` is missing, and {REQUIRE_VARIABLE} names it", self.name()));
        }
        println!("skipped: `{}` is missing", self.name());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_need_skips_unless_it_is_required() {
        assert_eq!(Need::Minio.verdict(true, "minio"), Ok(false));
        assert_eq!(Need::Minio.verdict(false, ""), Ok(true));
        assert_eq!(Need::Minio.verdict(false, "root, postgres"), Ok(true));
        assert!(Need::Minio.verdict(false, "root, minio").is_err_and(|message| message.contains("`minio`")));
        assert!(Need::Minio.verdict(true, "mini").is_err_and(|message| message.contains("`mini`")));
    }
}
