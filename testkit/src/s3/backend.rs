//! What `s3s-fs` lacks: lifecycle rules, and listings with an empty delimiter.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

/// Files below a folder, and lifecycle rules in memory (they are kept and given back, not applied).
pub(super) struct Backend {
    files: FileSystem,
    lifecycles: Mutex<HashMap<String, Vec<LifecycleRule>>>,
}

impl Backend {
    pub(super) fn new(files: FileSystem) -> Self {
        Self { files, lifecycles: Mutex::default() }
    }
}

type Answer<'f, T> = Pin<Box<dyn Future<Output = S3Result<S3Response<T>>> + Send + 'f>>;

/// Forwards a call to the file system. The signature is what `async_trait` makes of an `async fn`: an attribute
/// cannot see through a macro.
macro_rules! hand_on {
    ($($method:ident $input:ty => $output:ty;)*) => {$(
        fn $method<'a, 'f>(&'a self, request: S3Request<$input>) -> Answer<'f, $output>
        where 'a: 'f, Self: 'f {
            self.files.$method(request)
        }
    )*};
}

impl S3 for Backend {
    hand_on! {
        abort_multipart_upload AbortMultipartUploadInput => AbortMultipartUploadOutput;
        complete_multipart_upload CompleteMultipartUploadInput => CompleteMultipartUploadOutput;
        copy_object CopyObjectInput => CopyObjectOutput;
        create_bucket CreateBucketInput => CreateBucketOutput;
        create_multipart_upload CreateMultipartUploadInput => CreateMultipartUploadOutput;
        delete_bucket DeleteBucketInput => DeleteBucketOutput;
        delete_object DeleteObjectInput => DeleteObjectOutput;
        delete_objects DeleteObjectsInput => DeleteObjectsOutput;
        get_bucket_location GetBucketLocationInput => GetBucketLocationOutput;
        get_object GetObjectInput => GetObjectOutput;
        head_bucket HeadBucketInput => HeadBucketOutput;
        head_object HeadObjectInput => HeadObjectOutput;
        list_buckets ListBucketsInput => ListBucketsOutput;
        list_parts ListPartsInput => ListPartsOutput;
        put_object PutObjectInput => PutObjectOutput;
        upload_part UploadPartInput => UploadPartOutput;
        upload_part_copy UploadPartCopyInput => UploadPartCopyOutput;
    }

    fn list_objects<'a, 'f>(
        &'a self,
        mut request: S3Request<ListObjectsInput>,
    ) -> Answer<'f, ListObjectsOutput>
    where
        'a: 'f,
        Self: 'f,
    {
        request.input.delimiter.take_if(|delimiter| delimiter.is_empty());
        self.files.list_objects(request)
    }

    fn list_objects_v2<'a, 'f>(
        &'a self,
        mut request: S3Request<ListObjectsV2Input>,
    ) -> Answer<'f, ListObjectsV2Output>
    where
        'a: 'f,
        Self: 'f,
    {
        request.input.delimiter.take_if(|delimiter| delimiter.is_empty());
        self.files.list_objects_v2(request)
    }

    fn put_bucket_lifecycle_configuration<'a, 'f>(
        &'a self,
        request: S3Request<PutBucketLifecycleConfigurationInput>,
    ) -> Answer<'f, PutBucketLifecycleConfigurationOutput>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let rules = request.input.lifecycle_configuration.map(|configuration| configuration.rules);
            let mut kept = self.lifecycles.lock().map_err(|_| s3_error!(InternalError))?;
            kept.insert(request.input.bucket, rules.unwrap_or_default());
            Ok(S3Response::new(PutBucketLifecycleConfigurationOutput::default()))
        })
    }

    fn get_bucket_lifecycle_configuration<'a, 'f>(
        &'a self,
        request: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> Answer<'f, GetBucketLifecycleConfigurationOutput>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let kept = self.lifecycles.lock().map_err(|_| s3_error!(InternalError))?;
            match kept.get(&request.input.bucket) {
                Some(rules) => Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
                    rules: Some(rules.clone()),
                    ..Default::default()
                })),
                None => Err(s3_error!(NoSuchLifecycleConfiguration)),
            }
        })
    }
}
