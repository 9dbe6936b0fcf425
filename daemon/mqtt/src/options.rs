//! Connection options of each client, from the settings. Blocking: files are read for each connection, so that a renewed
//! certificate or password is used without a restart.

use std::time::Duration;

use gatehouse_config::{Config, SecretError, credential};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Connect, ConnectProperties, LastWill, Login};
use thiserror::Error;

use crate::tls::{self, TlsError};
use crate::wire::ConnectOptions;

/// MQTT keep alive. The broker closes a connection that is silent for 1.5 intervals; a client does so after 2.
pub(crate) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// Bounds TCP, TLS and CONNACK together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the broker keeps messages for a disconnected appliance, in seconds: 30 days.
const SESSION_EXPIRY_SECONDS: u32 = 30 * 24 * 3600;

/// Unacknowledged messages that the broker may send. It is as large as a group commit, so that the disk does not wait for
/// the network. A broker may ignore it: the budget bounds the memory.
const RECEIVE_MAX: u16 = 1000;

/// How far a packet may exceed `max_payload_bytes` and is still read. A payload that is slightly too large is answered with
/// a refusal. The broker discards larger ones, because they exceed the announced maximum.
const PACKET_MARGIN: u64 = 1024 * 1024;

/// Largest packet for the answers client: it receives only short control packets.
const SHORT_PACKET_MAX: u32 = 16 * 1024;

/// Suffixes of the client id, for answers and for the probe.
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

/// The largest packet that an input announces.
pub(crate) fn packet_max(config: &Config) -> u32 {
    u32::try_from(config.mqtt.max_payload_bytes.saturating_add(PACKET_MARGIN)).unwrap_or(u32::MAX)
}

/// Options of an input; `suffix` is appended to the client id.
pub(crate) fn input(config: &Config, suffix: &str, packet_max: u32) -> Result<ConnectOptions, OptionsError> {
    let properties = ConnectProperties {
        session_expiry_interval: Some(SESSION_EXPIRY_SECONDS),
        receive_maximum: Some(RECEIVE_MAX),
        max_packet_size: Some(packet_max),
        ..ConnectProperties::new()
    };
    let connect = connect(config, suffix, false, properties);
    connect_options(config, connect, None, packet_max)
}

/// Options of the answers client.
pub(crate) fn answers(config: &Config, will: LastWill) -> Result<ConnectOptions, OptionsError> {
    let properties =
        ConnectProperties { max_packet_size: Some(SHORT_PACKET_MAX), ..ConnectProperties::new() };
    let connect = connect(config, ANSWERS, true, properties);
    connect_options(config, connect, Some(will), SHORT_PACKET_MAX)
}

/// Options of the probe.
pub(crate) fn probe(config: &Config) -> Result<ConnectOptions, OptionsError> {
    let properties =
        ConnectProperties { max_packet_size: Some(SHORT_PACKET_MAX), ..ConnectProperties::new() };
    connect_options(config, connect(config, PROBE, true, properties), None, SHORT_PACKET_MAX)
}

/// The topic of the probe: one per appliance, below the status, where cameras have no topics.
pub(crate) fn probe_topic(config: &Config) -> String {
    format!("{}/status/probe/{}", config.mqtt.topic_root, config.mqtt_client_id())
}

fn connect(config: &Config, suffix: &str, clean_start: bool, properties: ConnectProperties) -> Connect {
    Connect {
        keep_alive: u16::try_from(KEEP_ALIVE_INTERVAL.as_secs()).unwrap_or(u16::MAX),
        client_id: format!("{}{suffix}", config.mqtt_client_id()),
        clean_start,
        properties: Some(properties),
    }
}

fn connect_options(
    config: &Config,
    connect: Connect,
    will: Option<LastWill>,
    packet_max: u32,
) -> Result<ConnectOptions, OptionsError> {
    let (host, port, tls) = config.mqtt.endpoint();
    let tls = tls.then(|| tls::client_config(&config.mqtt)).transpose()?;
    let login = login(config)?;
    Ok(ConnectOptions { host, port, tls, connect, will, login, packet_max, connect_timeout: CONNECT_TIMEOUT })
}

/// The last will, which the broker publishes when the connection is lost.
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
