//! Whether broker, Postgres and S3 are reachable, checked without the daemon.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use gatehouse_config::Config;

use gatehouse_control::answers::Finding;

/// Timeout of a connection attempt to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum number of addresses of one name to try.
const ADDRESSES_MAX: usize = 4;

/// One finding for each service named in the settings.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = vec![broker(config)];
    if let Some(rows) = &config.central.rows {
        let endpoint = rows.endpoint();
        findings.push(reach("central database", &endpoint.host, endpoint.port, "central.rows.url"));
    }
    if let Some(objects) = &config.central.objects {
        let (host, port, _) = objects.endpoint();
        findings.push(reach("central objects", &host, port, "central.objects.endpoint"));
    }
    findings
}

/// Whether the broker's port accepts connections.
pub(crate) fn broker(config: &Config) -> Finding {
    let (host, port, _) = config.mqtt.endpoint();
    reach("broker", &host, port, "mqtt.url")
}

fn reach(what: &str, host: &str, port: u16, key: &str) -> Finding {
    let endpoint = format!("{host}:{port}");
    let addresses = match (host, port).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => {
            let advice = format!("check {key} and name resolution: getent hosts {host}");
            return Finding::wrong(what, format!("{endpoint}: {error}"), advice);
        }
    };
    let mut message = "has no address".to_owned();
    for address in addresses.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(_) => return Finding::ok(what, format!("{endpoint} is reachable")),
            Err(error) => message = error.to_string(),
        }
    }
    let advice = format!("check {key}, cable and firewall (ping {host}), and whether the server runs there");
    Finding::wrong(what, format!("{endpoint}: {message}"), advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatehouse_control::answers::Grade;

    #[test]
    fn a_closed_port_is_reported_with_its_setting() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(reach("broker", "127.0.0.1", port, "mqtt.url").grade, Grade::Ok);
        drop(listener);
        let gone = reach("broker", "127.0.0.1", port, "mqtt.url");
        assert_eq!(gone.grade, Grade::Wrong);
        assert!(gone.advice.unwrap().contains("mqtt.url"));
    }
}
