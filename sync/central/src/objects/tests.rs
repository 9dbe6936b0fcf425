//! The same tests against the server in this process and, where its binary is, against MinIO.

use std::sync::Arc;
use std::time::Duration;

use gatehouse_testkit::minio::Minio;
use gatehouse_testkit::objects::Objects as Looker;
use gatehouse_testkit::s3::S3Server;

use super::Objects;
use super::deadlines::Limits;
use support::*;

mod fake;
mod faults;
mod guard;
mod policy;
mod presign;
mod setup;
mod stored;
mod support;
mod tls;
mod upload;
