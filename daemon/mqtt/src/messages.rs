//! Error messages about connections, for the operator.

use std::io;

use gatehouse_tls::{certificate_reason, failure, reason};
use rumqttc::v5::mqttbytes::Error as PacketError;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode};
use rustls::CertificateError;

pub(crate) const TIMEOUT: &str = "the broker did not answer in time; check mqtt.url and the network";
pub(crate) const NOT_MQTT: &str = "the server at mqtt.url is not an MQTT v5 broker";
pub(crate) const CLOSED: &str = "the broker closed the connection";

pub(crate) fn unreachable(error: &io::Error) -> String {
    format!("the broker cannot be reached: {error}; check mqtt.url and the network")
}

pub(crate) fn tls(error: &io::Error) -> String {
    use rustls::Error as E;
    match failure(error) {
        Some(E::InvalidCertificate(why)) => {
            format!("the broker's certificate: {}; {}", certificate_reason(why), advice(why))
        }
        Some(E::AlertReceived(_)) => refused_certificate(error),
        Some(E::InvalidMessage(_)) => {
            "the server at mqtt.url does not speak TLS; is it the port for mqtt://?".to_owned()
        }
        Some(other) => {
            format!("TLS with the broker failed: {}; check mqtt.url and the broker", reason(other))
        }
        None => format!(
            "TLS with the broker failed: {error}; check mqtt.ca_file, mqtt.cert_file and the host in mqtt.url"
        ),
    }
}

/// Advice for an invalid certificate of the broker.
fn advice(why: &CertificateError) -> &'static str {
    use CertificateError as C;
    match why {
        C::UnknownIssuer | C::BadSignature => "set mqtt.ca_file to its authority",
        C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. } => {
            "renew it at the broker, or set this machine's clock"
        }
        C::NotValidForName | C::NotValidForNameContext { .. } => "use a name of the certificate in mqtt.url",
        _ => "create it again at the broker, with subjectAltName",
    }
}

/// The broker ended TLS with an alert, which concerns the certificate of the appliance.
fn refused_certificate(error: &io::Error) -> String {
    let message = failure(error).map(reason).unwrap_or_default();
    format!(
        "the broker does not accept this appliance's certificate: {message}; check mqtt.cert_file, and that the broker \
         trusts the authority that signed it"
    )
}

pub(crate) fn failed(error: &io::Error) -> String {
    match failure(error) {
        // With TLS 1.3 the broker verifies the certificate after the handshake of the appliance is complete.
        Some(rustls::Error::AlertReceived(_)) => refused_certificate(error),
        Some(other) => format!("the connection to the broker failed: {}", reason(other)),
        None => format!("the connection to the broker failed: {error}"),
    }
}

pub(crate) fn packet(error: &PacketError) -> String {
    match error {
        PacketError::Io(error) => failed(error),
        PacketError::PayloadSizeLimitExceeded { pkt_size, max } => {
            format!("the broker sent a packet of {pkt_size} bytes; the announced maximum is {max}")
        }
        other => format!("the broker sent invalid MQTT v5: {other}"),
    }
}

pub(crate) fn disconnected(code: DisconnectReasonCode) -> String {
    match code {
        DisconnectReasonCode::SessionTakenOver => {
            "another client took over the session; is the same mqtt.client_id or device.id used twice?"
                .to_owned()
        }
        other => format!("the broker closed the connection: {other:?}"),
    }
}

pub(crate) fn refused(code: ConnectReturnCode) -> String {
    use ConnectReturnCode as C;
    match code {
        C::BadUserNamePassword => {
            "the broker refused user name or password; check mqtt.username and mqtt.password_file".to_owned()
        }
        C::NotAuthorized => {
            "the broker does not authorize this client; check mqtt.username, mqtt.password_file and its access list".to_owned()
        }
        C::BadClientId | C::ClientIdentifierNotValid => {
            "the broker refused the client id; check mqtt.client_id".to_owned()
        }
        C::RefusedProtocolVersion | C::UnsupportedProtocolVersion => {
            "the broker does not support MQTT v5, which is required".to_owned()
        }
        other => format!("the broker refused the connection: {other:?}"),
    }
}
