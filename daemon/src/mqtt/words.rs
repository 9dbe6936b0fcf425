//! What went wrong with a connection, in words for the operator.

use std::io;

use rumqttc::v5::mqttbytes::Error as PacketError;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode};

pub(crate) const TIMEOUT: &str = "the broker did not answer in time; check mqtt.url and the network";
pub(crate) const NOT_MQTT: &str = "what answers at mqtt.url is not an MQTT v5 broker";
pub(crate) const CLOSED: &str = "the broker closed the connection";

pub(crate) fn unreachable(error: &io::Error) -> String {
    format!("the broker cannot be reached: {error}; check mqtt.url and the network")
}

pub(crate) fn tls(error: &io::Error) -> String {
    format!(
        "TLS with the broker failed: {error}; check mqtt.ca_file, mqtt.cert_file and the host in mqtt.url"
    )
}

pub(crate) fn broke(error: &io::Error) -> String {
    format!("the connection to the broker broke: {error}")
}

pub(crate) fn packet(error: &PacketError) -> String {
    match error {
        PacketError::Io(error) => broke(error),
        PacketError::PayloadSizeLimitExceeded { pkt_size, max } => {
            format!("the broker sent a packet of {pkt_size} bytes although {max} were announced as the most")
        }
        other => format!("the broker sent what is not MQTT v5: {other}"),
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
            "the broker does not let this client in; check mqtt.username, mqtt.password_file and its access list".to_owned()
        }
        C::BadClientId | C::ClientIdentifierNotValid => {
            "the broker refused the client id; check mqtt.client_id".to_owned()
        }
        C::RefusedProtocolVersion | C::UnsupportedProtocolVersion => {
            "the broker does not speak MQTT v5; it has to".to_owned()
        }
        other => format!("the broker refused the connection: {other:?}"),
    }
}
