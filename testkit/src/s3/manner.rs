//! Faults of the server, as real servers and the proxies in front of them have.

use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use s3s::{Body, HttpResponse};

/// What is wrong with its answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Manner {
    /// Nothing.
    #[default]
    Serves,
    /// Everything is answered with this HTTP status and this S3 code.
    Refuses(u16, &'static str),
    /// A stored object gets the ETag of other bytes.
    OtherEtag,
    /// An upload in parts ends with 200 and an error in its body, and nothing is stored.
    FailsLate,
    /// A whole object is answered with 200 and not stored.
    Forgets,
}

impl Manner {
    /// The answer that replaces the server's own.
    pub(super) fn instead<B>(self, request: &hyper::Request<B>) -> Option<HttpResponse> {
        let (method, query) = (request.method(), request.uri().query().unwrap_or_default());
        match self {
            Self::Refuses(status, code) => Some(error(StatusCode::from_u16(status).ok()?, code, method)),
            Self::FailsLate if method == Method::POST && query.contains("uploadId=") => {
                Some(error(StatusCode::OK, "InternalError", method))
            }
            Self::Forgets if method == Method::PUT && !query.contains("uploadId=") => {
                let mut answer = HttpResponse::new(Body::empty());
                answer.headers_mut().insert("etag", other_etag());
                Some(answer)
            }
            _ => None,
        }
    }

    /// Alters the server's own answer.
    pub(super) fn spoil(self, mut answer: HttpResponse) -> HttpResponse {
        if self == Self::OtherEtag && answer.headers().contains_key("etag") {
            answer.headers_mut().insert("etag", other_etag());
        }
        answer
    }
}

fn other_etag() -> HeaderValue {
    HeaderValue::from_static("\"00000000000000000000000000000000\"")
}

fn error(status: StatusCode, code: &str, method: &Method) -> HttpResponse {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>requested by the test</Message>\
         <Resource>/</Resource><RequestId>0</RequestId></Error>"
    );
    // This answer has no body and therefore no code: the client sees only the status.
    let body = if method == Method::HEAD { Body::empty() } else { Body::from(text) };
    let mut answer = HttpResponse::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/xml"));
    answer
}
