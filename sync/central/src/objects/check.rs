//! `gatehouse central check` for the bucket, from the network to the write access. A failed check ends the list,
//! because the later ones depend on it.

use std::fmt::Display;
use std::time::Duration;

use chrono::{DateTime, Utc};
use gatehouse_config::Config;
use gatehouse_tls as tls;
use minio::s3::error::{Error, S3ServerError};
use minio::s3::http::BaseUrl;
use minio::s3::response_traits::HasS3Fields;
use minio::s3::segmented_bytes::SegmentedBytes;
use tokio::net::{TcpStream, lookup_host};

use super::Objects;
use super::classify::{classify, has_code, no_bucket};
use super::deadlines::Limits;
use super::marker::MARKER;
use crate::error::{GuardFault, SyncError};
use crate::finding::Finding;

/// Signatures are refused at a difference of 15 minutes. A third of it is reported.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(5 * 60);

const CHECKING: &str = "check the bucket";

/// Checks everything that an upload needs. Writes, reads and deletes one small object under `temp/`.
pub async fn check(config: &Config) -> Vec<Finding> {
    check_with(config, Limits::default()).await
}

pub(super) async fn check_with(config: &Config, limits: Limits) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    // An `Err` only ends the list.
    let _ = match Objects::open(config, limits) {
        Ok(objects) => objects.check_all(config, &mut findings).await,
        Err(error) => findings.failed("settings", error, "correct [central.objects]"),
    };
    findings.0
}

/// Findings so far.
struct Findings(Vec<Finding>);

/// The remaining checks cannot succeed.
struct End;

impl Findings {
    fn passed(&mut self, what: &str, message: impl Display) {
        self.0.push(Finding {
            what: format!("objects: {what}"),
            ok: true,
            message: message.to_string(),
            advice: None,
        });
    }

    fn failed<T>(&mut self, what: &str, message: impl Display, advice: &str) -> Result<T, End> {
        let advice = Some(advice.to_owned());
        self.0.push(Finding {
            what: format!("objects: {what}"),
            ok: false,
            message: message.to_string(),
            advice,
        });
        Err(End)
    }
}

impl Objects {
    async fn check_all(&self, config: &Config, findings: &mut Findings) -> Result<(), End> {
        let endpoint = config.central.objects.as_ref().map_or("", |objects| objects.endpoint.as_str());
        self.check_network(endpoint, findings).await?;
        self.check_bucket(endpoint, findings).await?;
        self.check_write_access(findings).await
    }

    async fn check_network(&self, endpoint: &str, findings: &mut Findings) -> Result<(), End> {
        let Ok(url) = endpoint.parse::<BaseUrl>() else {
            return findings.failed("settings", "central.objects.endpoint is not an address", "correct it");
        };
        let port = match (url.port(), url.https) {
            (0, true) => 443,
            (0, false) => 80,
            (port, _) => port,
        };
        let host = url.host().trim_matches(['[', ']']).to_owned();
        let names = self.within(CHECKING, lookup_host((host.as_str(), port))).await;
        let addresses: Vec<_> = match names {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => {
                return findings.failed(
                    "name",
                    format!("`{host}` has no address: {error}"),
                    "check the name and the DNS",
                );
            }
            Err(error) => return findings.failed("name", error, "check the DNS server and the network"),
        };
        findings.passed(
            "name",
            format!("`{host}` is {}", addresses.first().map_or("nowhere".into(), |a| a.ip().to_string())),
        );
        match self.within(CHECKING, TcpStream::connect(addresses.as_slice())).await {
            Ok(Ok(_)) => {
                findings.passed("connection", format!("port {port} answers"));
                Ok(())
            }
            Ok(Err(error)) => {
                let advice = "check that the server runs, the port, and the firewalls between";
                findings.failed("connection", format!("port {port}: {error}"), advice)
            }
            Err(error) => findings.failed("connection", error, "check the route and the firewalls between"),
        }
    }

    /// One read of the mark checks TLS, keys, clock, bucket and mark.
    async fn check_bucket(&self, endpoint: &str, findings: &mut Findings) -> Result<(), End> {
        let answer = match self.get(MARKER) {
            Ok(request) => self.ask(CHECKING, request).await,
            Err(error) => return findings.failed("bucket", error, "correct central.objects.bucket"),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                return findings.failed("server", error, "the port answers, but no S3 server behind it");
            }
        };
        let date = match &answer {
            Ok(answer) => answer.headers().get("date"),
            Err(Error::S3Server(S3ServerError::S3Error(answer))) => answer.headers().get("date"),
            Err(_) => None,
        };
        let date = date.and_then(|date| date.to_str().ok()).map(str::to_owned);
        if let Some(error) = answer.as_ref().err().and_then(|error| tls::failure(error)) {
            return findings.failed("TLS", tls::reason(error), tls_advice(error));
        }
        if endpoint.starts_with("https") {
            findings.passed("TLS", "the server's certificate is good");
        }
        check_clock(date.as_deref(), findings);
        match answer {
            Ok(answer) => {
                self.report_bucket(findings);
                match self.read_mark(answer).await.and_then(|theirs| self.compare(theirs)) {
                    Ok(()) => {
                        findings.passed("environment", format!("{MARKER} says {}", self.environment));
                        Ok(())
                    }
                    Err(error) => {
                        findings.failed("environment", error, "correct device.environment or central.objects")
                    }
                }
            }
            // Some servers also say this about a missing bucket.
            Err(error) if has_code(&error, "NoSuchKey") => match self.is_there().await {
                Ok(true) => {
                    self.report_bucket(findings);
                    let message = format!("{MARKER} is missing");
                    findings.failed("environment", message, "run `gatehouse central init`")
                }
                Ok(false) => self.explain(&no_bucket(&self.bucket), findings),
                Err(error) => self.explain(&error, findings),
            },
            Err(error) => self.explain(&classify(CHECKING, &self.bucket, &error), findings),
        }
    }

    fn report_bucket(&self, findings: &mut Findings) {
        findings.passed("keys", "the server accepts them");
        findings.passed("bucket", format!("`{}` is there", self.bucket));
    }

    fn explain(&self, error: &SyncError, findings: &mut Findings) -> Result<(), End> {
        match error {
            SyncError::Guard(GuardFault::NotPrepared { message, .. }) => {
                findings.passed("keys", "the server accepts them");
                findings.failed(
                    "bucket",
                    message,
                    "run `gatehouse central init`, or correct central.objects.bucket",
                )
            }
            SyncError::Denied { code, .. } => {
                let advice = match code.as_str() {
                    "RequestTimeTooSkewed" => "set the appliance's clock (`timedatectl`)",
                    "InvalidAccessKeyId" => "correct the access key",
                    "SignatureDoesNotMatch" => "correct the secret key",
                    "AuthorizationHeaderMalformed" | "PermanentRedirect" => "correct central.objects.region",
                    _ => "give this user the right to list, read and write in the bucket",
                };
                findings.failed("keys", error, advice)
            }
            SyncError::Unreachable { .. } => {
                findings.failed("server", error, "check the network and proxies between")
            }
            _ => {
                findings.failed("server", error, "see whether the endpoint is an S3 server, and its own log")
            }
        }
    }

    async fn check_write_access(&self, findings: &mut Findings) -> Result<(), End> {
        let key = format!("temp/{}/check-{}", self.device, uuid::Uuid::new_v4());
        match self.write_read_delete(&key).await {
            Ok(()) => {
                findings.passed("rights", "an object under temp/ was written, read and deleted");
                Ok(())
            }
            Err(error) => findings.failed(
                "rights",
                error,
                "give this user the right to read, write and delete in the bucket",
            ),
        }
    }

    async fn write_read_delete(&self, key: &str) -> Result<(), SyncError> {
        let fault = |error: minio::s3::error::ValidationErr| classify(CHECKING, &self.bucket, &error.into());
        let (bucket, content) = (self.bucket.as_str(), uuid::Uuid::new_v4().to_string());
        let put =
            self.client.put_object(bucket, key, SegmentedBytes::from(content.clone())).map_err(fault)?;
        self.call("write to temp/ in S3", put.build()).await?;
        let answer = self.call("read from temp/ in S3", self.get(key)?).await?;
        // The size is checked before the content: a page of a captive portal must not be read to its end.
        let same = answer.object_size().is_ok_and(|size| size == content.len() as u64)
            && self
                .within(CHECKING, answer.into_bytes())
                .await?
                .is_ok_and(|bytes| bytes == content.as_bytes());
        self.call("delete from temp/ in S3", self.client.delete_object(bucket, key).map_err(fault)?.build())
            .await?;
        if same {
            return Ok(());
        }
        Err(SyncError::Verify { doing: "read from temp/ in S3", message: "other bytes came back".into() })
    }
}

fn check_clock(date: Option<&str>, findings: &mut Findings) {
    let Some(theirs) = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()) else { return };
    let difference = Utc::now().signed_duration_since(theirs).num_seconds();
    if difference.unsigned_abs() <= CLOCK_SKEW_MAX.as_secs() {
        return findings.passed("clock", format!("{} s apart from the server's", difference.abs()));
    }
    let side = if difference > 0 { "ahead of" } else { "behind" };
    let message = format!("{} s {side} the server's", difference.abs());
    // The other checks may still find the cause, so they go on.
    let _ = findings.failed::<()>(
        "clock",
        message,
        "set the appliance's clock (`timedatectl`); signatures depend on it",
    );
}

fn tls_advice(error: &rustls::Error) -> &'static str {
    use rustls::CertificateError as C;
    match error {
        rustls::Error::InvalidCertificate(C::UnknownIssuer) => {
            "name the authority that signed the server's certificate in central.objects.ca_file"
        }
        rustls::Error::InvalidCertificate(
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. },
        ) => "renew the server's certificate, or set the appliance's clock",
        rustls::Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
            "use the name that the certificate is for in central.objects.endpoint"
        }
        _ => "see whether the port speaks TLS, and which versions",
    }
}
