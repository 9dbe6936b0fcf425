//! The S3 client library, set up from the settings.

use std::fmt;
use std::time::Duration;

use gatehouse_config::{Config, Secret, credential};
use minio::s3::creds::{Credentials, Provider};
use minio::s3::http::BaseUrl;
use minio::s3::types::Region;
use minio::s3::{ConnectionPoolConfig, MinioClient, MinioClientBuilder};

use crate::error::{SyncError, error_text};

/// Idle connections are closed after this time. It is below the 60 s of common load balancers, so that no upload
/// starts on a connection that the peer is about to close.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// Uploads at the same time. They hide the round trips of each other, and each holds a part of a file in memory.
pub const UPLOADS_AT_ONCE: usize = 4;

/// Access key and secret key. `Debug` shows neither.
struct Keys {
    access: Secret,
    secret: Secret,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

impl Provider for Keys {
    fn fetch(&self) -> Credentials {
        // The client library wants a `String` for each request. Both keys were verified to be text.
        let text = |secret: &Secret| secret.text().unwrap_or_default().to_owned();
        Credentials { access_key: text(&self.access), secret_key: text(&self.secret), session_token: None }
    }
}

/// Builds the client; nothing is sent.
pub(super) fn build(config: &Config) -> Result<MinioClient, SyncError> {
    let Some(objects) = &config.central.objects else {
        return Err(SyncError::Setup("no [central.objects] is configured".into()));
    };
    let keys = Keys {
        access: secret(objects.access_key_file.as_deref(), "access")?,
        secret: secret(objects.secret_key_file.as_deref(), "secret")?,
    };
    let mut url: BaseUrl = objects
        .endpoint
        .parse()
        .map_err(|error| SyncError::Setup(format!("central.objects.endpoint: {}", error_text(&error))))?;
    // The region is used as given. `skip_region_lookup` would always sign for us-east-1.
    url.region = Region::new(&objects.region)
        .map_err(|error| SyncError::Setup(format!("central.objects.region: {}", error_text(&error))))?;
    let pool = ConnectionPoolConfig::default().max_idle_per_host(UPLOADS_AT_ONCE).idle_timeout(IDLE_TIMEOUT);
    MinioClientBuilder::new(url)
        .provider(Some(keys))
        .ssl_cert_file(objects.ca_file.as_deref())
        .app_info(Some(("gatehouse".into(), env!("CARGO_PKG_VERSION").into())))
        .connection_pool_config(pool)
        .build()
        .map_err(|error| match &objects.ca_file {
            Some(file) => SyncError::Setup(format!(
                "central.objects.ca_file {}: {}",
                file.display(),
                error_text(&error)
            )),
            None => SyncError::Setup(format!("S3 client: {}", error_text(&error))),
        })
}

fn secret(file: Option<&std::path::Path>, which: &str) -> Result<Secret, SyncError> {
    let name = format!("objects-{which}-key");
    match credential(file, &name) {
        Err(error) => Err(SyncError::Setup(error.to_string())),
        Ok(None) => Err(SyncError::Setup(format!(
            "no S3 {which} key: set central.objects.{which}_key_file or give the credential gatehouse.{name}"
        ))),
        Ok(Some(secret)) if secret.text().is_none() => {
            Err(SyncError::Setup(format!("the S3 {which} key is not text; check its file")))
        }
        Ok(Some(secret)) => Ok(secret),
    }
}
