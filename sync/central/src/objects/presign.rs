//! Presigned URLs, which allow reading one object without keys until they expire. Signing needs no call to the server,
//! so a URL does not prove that the object exists.

use std::time::Duration;

use minio::s3::client::Method;
use minio::s3::error::ValidationErr;

use super::Objects;
use super::classify::classify;
use crate::error::SyncError;

const SIGNING: &str = "sign a URL";

impl Objects {
    /// A URL that allows reading the object for `expires` (whole seconds) from now.
    ///
    /// # Errors
    /// [`SyncError`] if the object is in another bucket than that of the settings, whose keys do not open it.
    pub async fn presign(&self, bucket: &str, key: &str, expires: Duration) -> Result<String, SyncError> {
        if bucket != self.bucket {
            let message = format!(
                "it is in bucket `{bucket}`, the settings name `{}`: name that bucket and its keys in \
                 [central.objects]",
                self.bucket
            );
            return Err(SyncError::Setup(message));
        }
        let fault = |error: ValidationErr| classify(SIGNING, &self.bucket, &error.into());
        let seconds = u32::try_from(expires.as_secs()).unwrap_or(u32::MAX);
        let request = self
            .client
            .get_presigned_object_url(bucket, key, Method::GET)
            .map_err(fault)?
            .expiry_seconds(seconds)
            .build();
        let signed = self.within(SIGNING, request.send()).await?;
        Ok(signed.map_err(|error| classify(SIGNING, &self.bucket, &error))?.url)
    }
}
