//! How each client connects and signs in, from the configuration. Reads files: blocking, and anew for each
//! connection, so that a renewed certificate or password is used without a restart.

use std::time::Duration;

use gatehouse_config::{Config, SecretError, credential};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Connect, ConnectProperties, LastWill, Login};
use thiserror::Error;

use crate::tls::{self, TlsError};
use crate::wire::Door;

/// Without a word for one and a half of this the broker takes us for gone, and for twice of it we the broker.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A connection, with TLS and the broker's answer, stands within this or fails.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// How long the broker keeps messages for an appliance that is away, in seconds: 30 days.
const SESSION_EXPIRY_SECONDS: u32 = 30 * 24 * 3600;

/// Messages that the broker may have sent without our acknowledgement. As wide as a group commit: fewer would
/// make the disk wait for the network. Only asked for: what bounds memory is the budget.
const RECEIVE_MAX: u16 = 1000;

/// How much above `max_payload_bytes` a packet may be and is still taken: what is a little too large is
/// refused in words, what is far too large the broker throws away, as MQTT has it for our announced maximum.
const PACKET_MARGIN: u64 = 1024 * 1024;

/// Largest packet that the answers take: they hear nothing but short words of the broker.
const SHORT_PACKET_MAX: u32 = 16 * 1024;

/// Put after the client id of the answers, and of what measures the round trip.
const ANSWERS: &str = "-answers";
const PROBE: &str = "-probe";

/// Why a client cannot be set up.
#[derive(Debug, Error)]
pub enum OptionsError {
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

/// How an input connects; `suffix` is put after the client id.
pub(crate) fn input(config: &Config, suffix: &str, packet_max: u32) -> Result<Door, OptionsError> {
    let properties = ConnectProperties {
        session_expiry_interval: Some(SESSION_EXPIRY_SECONDS),
        receive_maximum: Some(RECEIVE_MAX),
        max_packet_size: Some(packet_max),
        ..ConnectProperties::new()
    };
    let connect = connect(config, suffix, false, properties);
    door(config, connect, None, packet_max)
}

/// How the answers connect.
pub(crate) fn answers(config: &Config, will: LastWill) -> Result<Door, OptionsError> {
    let properties =
        ConnectProperties { max_packet_size: Some(SHORT_PACKET_MAX), ..ConnectProperties::new() };
    let connect = connect(config, ANSWERS, true, properties);
    door(config, connect, Some(will), SHORT_PACKET_MAX)
}

/// How the measurement of the round trip connects.
pub(crate) fn probe(config: &Config) -> Result<Door, OptionsError> {
    let properties =
        ConnectProperties { max_packet_size: Some(SHORT_PACKET_MAX), ..ConnectProperties::new() };
    door(config, connect(config, PROBE, true, properties), None, SHORT_PACKET_MAX)
}

/// The topic of the measurement: the appliance's own, below the status, where no camera's topic is.
pub(crate) fn probe_topic(config: &Config) -> String {
    format!("{}/status/probe/{}", config.mqtt.topic_root, config.mqtt_client_id())
}

fn connect(config: &Config, suffix: &str, clean_start: bool, properties: ConnectProperties) -> Connect {
    Connect {
        keep_alive: u16::try_from(KEEP_ALIVE.as_secs()).unwrap_or(u16::MAX),
        client_id: format!("{}{suffix}", config.mqtt_client_id()),
        clean_start,
        properties: Some(properties),
    }
}

fn door(
    config: &Config,
    connect: Connect,
    will: Option<LastWill>,
    packet_max: u32,
) -> Result<Door, OptionsError> {
    let (host, port, tls) = config.mqtt.endpoint();
    let tls = tls.then(|| tls::client_config(&config.mqtt)).transpose()?;
    let login = login(config)?;
    Ok(Door { host, port, tls, connect, will, login, packet_max, patience: CONNECT_PATIENCE })
}

/// The last will: what the broker tells of us when we are gone.
pub(crate) fn will(topic: &str, payload: Vec<u8>) -> LastWill {
    LastWill::new(topic, payload, QoS::AtLeastOnce, true, None)
}

fn login(config: &Config) -> Result<Option<Login>, OptionsError> {
    let Some(username) = &config.mqtt.username else { return Ok(None) };
    let secret = credential(config.mqtt.password_file.as_deref(), "mqtt-password")?;
    let password = match &secret {
        Some(secret) => secret.text().ok_or(OptionsError::PasswordText)?,
        None => "",
    };
    Ok(Some(Login::new(username.as_str(), password)))
}
