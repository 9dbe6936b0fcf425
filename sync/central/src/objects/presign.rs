//! Pre-signed URLs: whoever has one reads one object until its time is over, without keys. Made without a call to the
//! server, so a URL says nothing about whether the object is still there.

use std::time::Duration;

use minio::s3::client::Method;
use minio::s3::error::ValidationErr;

use super::Objects;
use super::classify::classify;
use crate::error::SyncError;

const SIGNING: &str = "sign a URL";

impl Objects {
    /// A URL that gives the object to everybody who has it, for `expires` (whole seconds) from now.
    ///
    /// # Errors
    /// [`SyncError`] where the object lies in another bucket than that of the settings, whose keys would not open it.
    pub async fn presign(&self, bucket: &str, key: &str, expires: Duration) -> Result<String, SyncError> {
        if bucket != self.bucket {
            let words = format!(
                "it lies in bucket `{bucket}`, the settings name `{}`: name that bucket and its keys in \
                 [central.objects]",
                self.bucket
            );
            return Err(SyncError::Setup(words));
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
