//! Inspects a bucket with an S3 client that is configured independently of the product.

use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use minio::s3::builders::VersioningStatus;
use minio::s3::creds::StaticProvider;
use minio::s3::http::BaseUrl;
use minio::s3::types::{S3Api, ToStream};
use minio::s3::{MinioClient, MinioClientBuilder};

/// The client has no timeouts of its own.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Address and credentials of an S3 server, with helpers to inspect it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objects {
    /// `http://127.0.0.1:port`.
    pub endpoint: String,
    /// Region of the signatures.
    pub region: String,
    /// Access key.
    pub access_key: String,
    /// Secret key.
    pub secret_key: String,
}

impl Objects {
    /// The same server through another port of 127.0.0.1, e.g. that of a proxy.
    #[must_use]
    pub fn at(&self, port: u16) -> Self {
        Self { endpoint: format!("http://127.0.0.1:{port}"), ..self.clone() }
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// If the server does not answer or refuses.
    pub async fn create_bucket(&self, bucket: &str) -> Result<()> {
        let call = self.client()?;
        let request = call.create_bucket(bucket)?.build().send();
        tokio::time::timeout(REQUEST_TIMEOUT, request).await??;
        Ok(())
    }

    /// Lets a bucket keep every version of an object from now on.
    ///
    /// # Errors
    /// If the server does not answer or refuses.
    pub async fn keep_versions(&self, bucket: &str) -> Result<()> {
        let call = self.client()?;
        let request = call.put_bucket_versioning(bucket, VersioningStatus::Enabled)?;
        tokio::time::timeout(REQUEST_TIMEOUT, request.build().send()).await??;
        Ok(())
    }

    /// All keys below `prefix`, in byte order.
    ///
    /// # Errors
    /// If the server does not answer or refuses.
    pub async fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<String>> {
        let client = self.client()?;
        // The server in this process announces encoded names and sends plain ones, so none are requested encoded.
        let listing =
            client.list_objects(bucket)?.prefix(prefix.to_owned()).recursive(true).use_api_v1(false);
        let listing = listing.disable_url_encoding(true).build();
        let collect = async {
            let mut keys = Vec::new();
            let mut pages = listing.to_stream().await;
            while let Some(page) = pages.next().await {
                keys.extend(page?.contents.into_iter().map(|entry| entry.name));
            }
            keys.sort();
            Ok(keys)
        };
        tokio::time::timeout(REQUEST_TIMEOUT, collect).await?
    }

    /// The bytes of an object.
    ///
    /// # Errors
    /// If there is none, or the server does not answer or refuses.
    pub async fn get(&self, bucket: &str, key: &str) -> Result<Vec<u8>> {
        let client = self.client()?;
        let fetch = async {
            let answer = client.get_object(bucket, key)?.build().send().await?;
            let content = answer.content()?.to_segmented_bytes().await?;
            Ok::<_, anyhow::Error>(content.to_bytes().to_vec())
        };
        tokio::time::timeout(REQUEST_TIMEOUT, fetch).await?.with_context(|| format!("object {bucket}/{key}"))
    }

    /// Stores an object independently of the product.
    ///
    /// # Errors
    /// If the server does not answer or refuses.
    pub async fn put(&self, bucket: &str, key: &str, bytes: Vec<u8>) -> Result<()> {
        let client = self.client()?;
        let request = client.put_object_content(bucket, key, bytes)?.build().send();
        tokio::time::timeout(REQUEST_TIMEOUT, request).await??;
        Ok(())
    }

    fn client(&self) -> Result<MinioClient> {
        let url = self.endpoint.parse::<BaseUrl>()?;
        let provider = StaticProvider::new(&self.access_key, &self.secret_key, None);
        Ok(MinioClientBuilder::new(url).provider(Some(provider)).skip_region_lookup(true).build()?)
    }
}
