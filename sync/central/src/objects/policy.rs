//! The S3 policy of one appliance.

use serde_json::{Value, json};

/// The permissions of the keys of one appliance, in the policy language of S3 servers: read and write its own objects,
/// read the mark, and test access below `temp/`. No permission to list, or to delete delivered objects.
pub fn policy(bucket: &str, device: &str) -> Value {
    let allow = |id: &str, actions: &[&str], key: String| {
        let resource = format!("arn:aws:s3:::{bucket}/{key}");
        json!({ "Sid": id, "Effect": "Allow", "Action": actions, "Resource": [resource] })
    };
    let own = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"];
    let trial = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"];
    json!({ "Version": "2012-10-17", "Statement": [
        allow("OwnObjects", &own, format!("devices/{device}/*")),
        allow("ReadMark", &["s3:GetObject"], "environment.json".to_owned()),
        allow("CentralCheck", &trial, format!("temp/{device}/*")),
    ]})
}
