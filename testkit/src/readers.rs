//! Independent programs that read Parquet: DuckDB, and ClickHouse (chdb) if it is installed, both from PyPI.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::postgres::services_folders;

/// Environment variable with the path of a Python that has them.
pub const READERS_VARIABLE: &str = "GATEHOUSE_TEST_READERS";

/// A program that reads Parquet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// DuckDB.
    DuckDb,
    /// ClickHouse without a server.
    ClickHouse,
}

impl Reader {
    fn module(self) -> &'static str {
        match self {
            Self::DuckDb => "duckdb",
            Self::ClickHouse => "chdb",
        }
    }

    /// Whether it is installed.
    pub fn is_there(self) -> bool {
        let import = format!("import {}", self.module());
        python().is_ok_and(|python| {
            Command::new(python).args(["-c", &import]).output().is_ok_and(|o| o.status.success())
        })
    }

    /// The rows of a query, their values separated by tabs.
    ///
    /// # Errors
    /// If it is not installed or reports an error.
    pub fn ask(self, query: &str) -> Result<Vec<String>> {
        let program = match self {
            Self::DuckDb => {
                "import duckdb, sys\nfor row in duckdb.sql(sys.argv[1]).fetchall(): print(*row, sep='\\t')"
            }
            Self::ClickHouse => "import chdb, sys\nsys.stdout.write(str(chdb.query(sys.argv[1], 'TSV')))",
        };
        let output = Command::new(python()?).args(["-c", program, query]).output().context("start Python")?;
        ensure!(output.status.success(), "{self:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    }
}

/// The Python that has them.
fn python() -> Result<PathBuf> {
    let named = std::env::var_os(READERS_VARIABLE).map(PathBuf::from);
    let services = services_folders().into_iter().map(|folder| folder.join("readers/bin/python"));
    named.into_iter().chain(services).find(|file: &PathBuf| Path::exists(file)).with_context(|| {
        format!("no DuckDB: `./run test` installs it into target/services, or name its Python in {READERS_VARIABLE}")
    })
}
