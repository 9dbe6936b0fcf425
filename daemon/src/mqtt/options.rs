//! The options of each of the three clients, from the configuration.

use std::time::Duration;

use gatehouse_config::{Config, SecretError, credential};
use rumqttc::v5::MqttOptions;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::LastWill;
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use thiserror::Error;

use crate::mqtt::tls::{self, TlsError};

/// Without a word for one and a half of this, either side takes the other for gone.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A connection, with TLS and the broker's answer, stands within this or fails, in seconds.
const CONNECT_SECONDS: u64 = 10;

/// How long the broker keeps messages for an appliance that is away, in seconds: 30 days.
const SESSION_EXPIRY_SECONDS: u32 = 30 * 24 * 3600;

/// Messages that the broker may have sent without our acknowledgement. As wide as a group commit: fewer would
/// make the disk wait for the network.
pub(crate) const RECEIVE_MAX: u16 = 1000;

/// How much above `max_payload_bytes` a packet may be and is still taken: what is a little too large is refused
/// in words, what is far too large the broker throws away, as MQTT has it for our announced maximum.
const PACKET_MARGIN: u64 = 1024 * 1024;

/// Packets of an input on their way out: subscriptions and pings; acknowledgements do not count here.
const INPUT_OUTGOING_MAX: u16 = 16;

/// Which of the three clients.
pub(crate) enum Role {
    /// An input, with what is put after the client id and the largest packet.
    Input { suffix: &'static str, packet_max: u32 },
    /// The answers, with the last will and the number of publishes on their way.
    Answers { will: LastWill, outgoing_max: u16 },
}

/// Why a client cannot be set up.
#[derive(Debug, Error)]
pub(crate) enum OptionsError {
    /// The password cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The password is not text.
    #[error("the MQTT password is not UTF-8; write it as text")]
    PasswordText,
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The largest packet that an input announces to take.
pub(crate) fn packet_max(config: &Config) -> u32 {
    u32::try_from(config.mqtt.max_payload_bytes.saturating_add(PACKET_MARGIN)).unwrap_or(u32::MAX)
}

/// The options of a client. Reads files: blocking.
pub(crate) fn options(config: &Config, role: Role) -> Result<MqttOptions, OptionsError> {
    let (host, port, tls) = config.mqtt.endpoint();
    let suffix = match &role {
        Role::Input { suffix, .. } => suffix,
        Role::Answers { .. } => "-answers",
    };
    let mut options = MqttOptions::new(format!("{}{suffix}", config.mqtt_client_id()), host, port);
    options.set_keep_alive(KEEP_ALIVE).set_connection_timeout(CONNECT_SECONDS);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    if tls {
        let config = tls::client_config(&config.mqtt)?;
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
    }
    if let Some(username) = &config.mqtt.username {
        let secret = credential(config.mqtt.password_file.as_deref(), "mqtt-password")?;
        let password = match &secret {
            Some(secret) => secret.text().ok_or(OptionsError::PasswordText)?,
            None => "",
        };
        options.set_credentials(username.as_str(), password);
    }
    match role {
        Role::Input { packet_max, .. } => {
            options
                .set_clean_start(false)
                .set_session_expiry_interval(Some(SESSION_EXPIRY_SECONDS))
                .set_receive_maximum(Some(RECEIVE_MAX))
                .set_max_packet_size(Some(packet_max))
                .set_manual_acks(true)
                .set_outgoing_inflight_upper_limit(INPUT_OUTGOING_MAX);
        }
        Role::Answers { will, outgoing_max } => {
            options
                .set_clean_start(true)
                .set_last_will(will)
                .set_outgoing_inflight_upper_limit(outgoing_max);
        }
    }
    Ok(options)
}

/// The last will: what the broker tells of us when we are gone.
pub(crate) fn will(topic: &str, payload: Vec<u8>) -> LastWill {
    LastWill::new(topic, payload, QoS::AtLeastOnce, true, None)
}
