//! A broker in this process, for the demo: `rumqttd`, MQTT v5, in memory, without passwords.
//!
//! It cannot be stopped, and it keeps nothing after the end of the process. The tests use a real mosquitto.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

use crate::{ports, wait};

/// Largest message: a 16 MiB picture and its headers.
const PAYLOAD_MAX: usize = 17 * 1024 * 1024;
/// Messages in flight to one client.
const INFLIGHT: usize = 200;
/// It usually listens within a few milliseconds.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A running broker; it ends with the process.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedBroker {
    port: u16,
}

impl EmbeddedBroker {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn start() -> Result<Self> {
        let port = ports::free_port()?;
        let connections = ConnectionSettings {
            connection_timeout_ms: 5000,
            max_payload_size: PAYLOAD_MAX,
            max_inflight_count: INFLIGHT,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        };
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let name = "embedded".to_owned();
        let server = ServerSettings { name, listen, tls: None, next_connection_delay_ms: 1, connections };
        let router = RouterConfig {
            max_connections: 100,
            max_outgoing_packet_count: 200,
            max_segment_size: 100 * 1024 * 1024,
            max_segment_count: 10,
            ..RouterConfig::default()
        };
        let config =
            Config { router, v5: Some(HashMap::from([("v5".to_owned(), server)])), ..Config::default() };
        std::thread::Builder::new().name("broker".into()).spawn(move || {
            // It returns only if it could not start. The wait below then fails.
            let _ = Broker::new(config).start();
        })?;
        wait::until_listening(port, START_TIMEOUT)?;
        Ok(Self { port })
    }

    /// Port on 127.0.0.1.
    pub fn port(self) -> u16 {
        self.port
    }

    /// `mqtt://127.0.0.1:port`.
    pub fn url(self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}
