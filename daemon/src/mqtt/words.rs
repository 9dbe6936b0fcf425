//! What went wrong with a connection, in words for the operator.

use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode};
use rumqttc::v5::mqttbytes::Error as PacketError;
use rumqttc::v5::{ConnectionError, StateError};

/// The words for a failed connection.
pub(crate) fn of(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => refused(*code),
        ConnectionError::Timeout(_) => "the broker did not answer in time; check mqtt.url and the network".to_owned(),
        ConnectionError::Io(error) => format!("the broker cannot be reached: {error}; check mqtt.url and the network"),
        ConnectionError::Tls(rumqttc::TlsError::Io(error)) => {
            format!("TLS with the broker failed: {error}; check mqtt.ca_file, mqtt.cert_file and the host name in mqtt.url")
        }
        ConnectionError::Tls(error) => format!("TLS with the broker failed: {error}; check mqtt.ca_file"),
        ConnectionError::MqttState(error) => of_state(error),
        ConnectionError::NotConnAck(_) => "what answers at mqtt.url is not an MQTT v5 broker".to_owned(),
        other => format!("the connection to the broker failed: {other}"),
    }
}

/// The size of the packet that broke the connection by being above the announced maximum, if that is what did.
pub(crate) fn oversize(error: &ConnectionError) -> Option<usize> {
    match error {
        ConnectionError::MqttState(StateError::Deserialization(PacketError::PayloadSizeLimitExceeded {
            pkt_size,
            ..
        })) => Some(*pkt_size),
        _ => None,
    }
}

fn of_state(error: &StateError) -> String {
    match error {
        StateError::ServerDisconnect { reason_code: DisconnectReasonCode::SessionTakenOver, .. } => {
            "another client took over the session; is the same mqtt.client_id or device.id used twice?".to_owned()
        }
        StateError::ServerDisconnect { reason_code, .. } => format!("the broker closed the connection: {reason_code:?}"),
        StateError::ConnectionAborted => "the broker closed the connection".to_owned(),
        StateError::AwaitPingResp => "the broker stopped answering".to_owned(),
        StateError::Deserialization(PacketError::PayloadSizeLimitExceeded { pkt_size, max }) => {
            format!("the broker sent a packet of {pkt_size} bytes although {max} were announced as the most")
        }
        StateError::Io(error) => format!("the connection to the broker broke: {error}"),
        StateError::Deserialization(PacketError::Io(error)) => format!("the connection to the broker broke: {error}"),
        other => format!("the connection to the broker failed: {other}"),
    }
}

fn refused(code: ConnectReturnCode) -> String {
    use ConnectReturnCode as C;
    match code {
        C::BadUserNamePassword => {
            "the broker refused user name or password; check mqtt.username and mqtt.password_file".to_owned()
        }
        C::NotAuthorized => "the broker does not let this client in; check its access list and mqtt.username".to_owned(),
        C::BadClientId | C::ClientIdentifierNotValid => {
            "the broker refused the client id; check mqtt.client_id".to_owned()
        }
        C::RefusedProtocolVersion | C::UnsupportedProtocolVersion => {
            "the broker does not speak MQTT v5; it has to".to_owned()
        }
        other => format!("the broker refused the connection: {other:?}"),
    }
}
