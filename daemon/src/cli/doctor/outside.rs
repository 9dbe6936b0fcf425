//! Without the daemon: whether broker, Postgres and S3 can be reached at all.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use gatehouse_config::Config;

use crate::control::answers::Finding;

/// Longest wait for one address.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// One finding for each side that the settings name.
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

/// Whether anything listens where the broker should be.
pub(in crate::cli) fn broker(config: &Config) -> Finding {
    let (host, port, _) = config.mqtt.endpoint();
    reach("broker", &host, port, "mqtt.url")
}

fn reach(what: &str, host: &str, port: u16, key: &str) -> Finding {
    let place = format!("{host}:{port}");
    let addresses = match (host, port).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => {
            let advice = format!("check {key} and the network's name server: getent hosts {host}");
            return Finding::wrong(what, format!("{place}: {error}"), advice);
        }
    };
    let mut words = "has no address".to_owned();
    for address in addresses.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Finding::ok(what, format!("{place} can be reached")),
            Err(error) => words = error.to_string(),
        }
    }
    let advice = format!("check {key}, cable and firewall: ping {host}; does the server run there?");
    Finding::wrong(what, format!("{place}: {words}"), advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::answers::Grade;

    #[test]
    fn a_port_that_nobody_listens_on_is_told_with_its_setting() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(reach("broker", "127.0.0.1", port, "mqtt.url").grade, Grade::Ok);
        drop(listener);
        let gone = reach("broker", "127.0.0.1", port, "mqtt.url");
        assert_eq!(gone.grade, Grade::Wrong);
        assert!(gone.advice.unwrap().contains("mqtt.url"));
    }
}
