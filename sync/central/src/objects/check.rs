//! `gatehouse central check` for the bucket: what is wrong, in words, from the outside in. What cannot be looked at
//! because of an earlier finding is not listed.

use std::fmt::Display;
use std::time::Duration;

use chrono::{DateTime, Utc};
use gatehouse_config::Config;
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
use crate::tls;

/// Clocks may differ by 15 minutes before signatures are refused; a third of it is worth a word.
const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(5 * 60);

const LOOKING: &str = "check the bucket";

/// Looks at everything that an upload needs, and writes, reads and deletes one small object under `temp/`.
pub async fn check(config: &Config) -> Vec<Finding> {
    check_with(config, Limits::default()).await
}

pub(super) async fn check_with(config: &Config, limits: Limits) -> Vec<Finding> {
    let mut list = Findings(Vec::new());
    // An `Err` only says that the list ends here.
    let _ = match Objects::open(config, limits) {
        Ok(objects) => objects.look(config, &mut list).await,
        Err(error) => list.bad("settings", error, "correct [central.objects]"),
    };
    list.0
}

/// What was found so far.
struct Findings(Vec<Finding>);

/// There is no use in looking further.
struct End;

impl Findings {
    fn good(&mut self, what: &str, words: impl Display) {
        self.0.push(Finding {
            what: format!("objects: {what}"),
            ok: true,
            words: words.to_string(),
            advice: None,
        });
    }

    fn bad<T>(&mut self, what: &str, words: impl Display, advice: &str) -> Result<T, End> {
        let advice = Some(advice.to_owned());
        self.0.push(Finding {
            what: format!("objects: {what}"),
            ok: false,
            words: words.to_string(),
            advice,
        });
        Err(End)
    }
}

impl Objects {
    async fn look(&self, config: &Config, list: &mut Findings) -> Result<(), End> {
        let endpoint = config.central.objects.as_ref().map_or("", |objects| objects.endpoint.as_str());
        self.look_at_line(endpoint, list).await?;
        self.look_at_bucket(endpoint, list).await?;
        self.look_at_writing(list).await
    }

    async fn look_at_line(&self, endpoint: &str, list: &mut Findings) -> Result<(), End> {
        let Ok(url) = endpoint.parse::<BaseUrl>() else {
            return list.bad("settings", "central.objects.endpoint is no address", "correct it");
        };
        let port = match (url.port(), url.https) {
            (0, true) => 443,
            (0, false) => 80,
            (port, _) => port,
        };
        let host = url.host().trim_matches(['[', ']']).to_owned();
        let names = self.within(LOOKING, lookup_host((host.as_str(), port))).await;
        let addresses: Vec<_> = match names {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => {
                return list.bad(
                    "name",
                    format!("`{host}` has no address: {error}"),
                    "check the name and the DNS",
                );
            }
            Err(error) => return list.bad("name", error, "check the DNS server and the network"),
        };
        list.good(
            "name",
            format!("`{host}` is {}", addresses.first().map_or("nowhere".into(), |a| a.ip().to_string())),
        );
        match self.within(LOOKING, TcpStream::connect(addresses.as_slice())).await {
            Ok(Ok(_)) => {
                list.good("connection", format!("port {port} answers"));
                Ok(())
            }
            Ok(Err(error)) => {
                let advice = "check that the server runs, the port, and the firewalls between";
                list.bad("connection", format!("port {port}: {error}"), advice)
            }
            Err(error) => list.bad("connection", error, "check the route and the firewalls between"),
        }
    }

    /// One read of the mark tells of TLS, keys, clock, bucket and mark.
    async fn look_at_bucket(&self, endpoint: &str, list: &mut Findings) -> Result<(), End> {
        let answer = match self.get(MARKER) {
            Ok(request) => self.ask(LOOKING, request).await,
            Err(error) => return list.bad("bucket", error, "correct central.objects.bucket"),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return list.bad("server", error, "the port answers, but no S3 server behind it"),
        };
        let date = match &answer {
            Ok(answer) => answer.headers().get("date"),
            Err(Error::S3Server(S3ServerError::S3Error(answer))) => answer.headers().get("date"),
            Err(_) => None,
        };
        let date = date.and_then(|date| date.to_str().ok()).map(str::to_owned);
        if let Some(error) = answer.as_ref().err().and_then(|error| tls::failure(error)) {
            return list.bad("TLS", tls::reason(error), tls_advice(error));
        }
        if endpoint.starts_with("https") {
            list.good("TLS", "the server's certificate is good");
        }
        look_at_clock(date.as_deref(), list);
        match answer {
            Ok(answer) => {
                self.found_mark(list);
                match self.read_mark(answer).await.and_then(|theirs| self.compare(theirs)) {
                    Ok(()) => {
                        list.good("environment", format!("{MARKER} says {}", self.environment));
                        Ok(())
                    }
                    Err(error) => {
                        list.bad("environment", error, "correct device.environment or central.objects")
                    }
                }
            }
            // Some servers say so of a missing bucket, too.
            Err(error) if has_code(&error, "NoSuchKey") => match self.is_there().await {
                Ok(true) => {
                    self.found_mark(list);
                    let words = format!("{MARKER} is missing");
                    list.bad("environment", words, "run `gatehouse central init`")
                }
                Ok(false) => self.explain(&no_bucket(&self.bucket), list),
                Err(error) => self.explain(&error, list),
            },
            Err(error) => self.explain(&classify(LOOKING, &self.bucket, &error), list),
        }
    }

    fn found_mark(&self, list: &mut Findings) {
        list.good("keys", "the server accepts them");
        list.good("bucket", format!("`{}` is there", self.bucket));
    }

    fn explain(&self, error: &SyncError, list: &mut Findings) -> Result<(), End> {
        match error {
            SyncError::Guard(GuardFault::NotPrepared { words, .. }) => {
                list.good("keys", "the server accepts them");
                list.bad("bucket", words, "run `gatehouse central init`, or correct central.objects.bucket")
            }
            SyncError::Denied { code, .. } => {
                let advice = match code.as_str() {
                    "RequestTimeTooSkewed" => "set the appliance's clock (`timedatectl`)",
                    "InvalidAccessKeyId" => "correct the access key",
                    "SignatureDoesNotMatch" => "correct the secret key",
                    "AuthorizationHeaderMalformed" | "PermanentRedirect" => "correct central.objects.region",
                    _ => "give this user the right to list, read and write in the bucket",
                };
                list.bad("keys", error, advice)
            }
            SyncError::Unreachable { .. } => {
                list.bad("server", error, "check the network and proxies between")
            }
            _ => list.bad("server", error, "see whether the endpoint is an S3 server, and its own log"),
        }
    }

    async fn look_at_writing(&self, list: &mut Findings) -> Result<(), End> {
        let key = format!("temp/{}/check-{}", self.device, uuid::Uuid::new_v4());
        match self.write_read_delete(&key).await {
            Ok(()) => {
                list.good("rights", "an object under temp/ was written, read and deleted");
                Ok(())
            }
            Err(error) => {
                list.bad("rights", error, "give this user the right to read, write and delete in the bucket")
            }
        }
    }

    async fn write_read_delete(&self, key: &str) -> Result<(), SyncError> {
        let fault = |error: minio::s3::error::ValidationErr| classify(LOOKING, &self.bucket, &error.into());
        let (bucket, content) = (self.bucket.as_str(), uuid::Uuid::new_v4().to_string());
        let put =
            self.client.put_object(bucket, key, SegmentedBytes::from(content.clone())).map_err(fault)?;
        self.call("write to temp/ in S3", put.build()).await?;
        let answer = self.call("read from temp/ in S3", self.get(key)?).await?;
        // The size is known before the bytes: a stranger's page is not read to its end.
        let same = answer.object_size().is_ok_and(|size| size == content.len() as u64)
            && self
                .within(LOOKING, answer.into_bytes())
                .await?
                .is_ok_and(|bytes| bytes == content.as_bytes());
        self.call("delete from temp/ in S3", self.client.delete_object(bucket, key).map_err(fault)?.build())
            .await?;
        if same {
            return Ok(());
        }
        Err(SyncError::Verify { doing: "read from temp/ in S3", words: "other bytes came back".into() })
    }
}

fn look_at_clock(date: Option<&str>, list: &mut Findings) {
    let Some(theirs) = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()) else { return };
    let difference = Utc::now().signed_duration_since(theirs).num_seconds();
    if difference.unsigned_abs() <= CLOCK_DIFFERENCE_MAX.as_secs() {
        return list.good("clock", format!("{} s apart from the server's", difference.abs()));
    }
    let side = if difference > 0 { "ahead of" } else { "behind" };
    let words = format!("{} s {side} the server's", difference.abs());
    // Not the end: the rest may still tell something.
    let _ =
        list.bad::<()>("clock", words, "set the appliance's clock (`timedatectl`); signatures depend on it");
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
