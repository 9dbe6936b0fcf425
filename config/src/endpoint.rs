//! The little of a URL that the settings need: scheme, user, host, port, database.

use crate::types::{Mqtt, Objects, Rows};

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `mqtt`, `mqtts`, `http`, `https`, `postgres`.
    pub scheme: String,
    /// User name, percent-encoding not undone.
    pub user: Option<String>,
    /// Host name or address, without the brackets of IPv6.
    pub host: String,
    /// Port; the scheme's own where none was given.
    pub port: u16,
    /// What follows the host, without the first slash and without the query.
    pub path: String,
    /// What follows the question mark.
    pub query: String,
}

/// Schemes and the port of each.
const SCHEMES: [(&str, u16); 6] =
    [("mqtt", 1883), ("mqtts", 8883), ("http", 80), ("https", 443), ("postgres", 5432), ("postgresql", 5432)];

impl Endpoint {
    /// Reads `scheme://[user@]host[:port][/path][?query]`.
    ///
    /// # Errors
    /// Words that say what is wrong; they never repeat a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("is not a URL: write scheme://host:port")?;
        let default_port = SCHEMES
            .iter()
            .find(|(name, _)| *name == scheme)
            .ok_or(format!("has the unknown scheme {scheme:?}"))?
            .1;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err("holds a password: put it into a file and name the file in the *_file key".to_owned());
        }
        let (host, port) = split_port(place)?;
        let port = match port {
            None => default_port,
            Some(port) => {
                port.parse().ok().filter(|port| *port != 0).ok_or("has a port outside 1 to 65535")?
            }
        };
        if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("has no host: write scheme://host:port".to_owned());
        }
        Ok(Self {
            scheme: scheme.to_owned(),
            user: user.filter(|user| !user.is_empty()).map(str::to_owned),
            host: host.to_owned(),
            port,
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    /// Reads a URL that may have no more than host and port.
    pub(crate) fn bare(text: &str, schemes: &[&str]) -> Result<(), String> {
        let endpoint = Self::parse(text)?;
        if !schemes.contains(&endpoint.scheme.as_str()) {
            return Err(format!("begins with {}://: write {}://", endpoint.scheme, schemes.join(":// or ")));
        }
        if endpoint.user.is_some() || !endpoint.path.is_empty() || !endpoint.query.is_empty() {
            return Err("has more than a host and a port: leave out user, path and query".to_owned());
        }
        Ok(())
    }
}

fn split_port(place: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or("has an IPv6 address without its closing bracket")?;
        return match port {
            "" => Ok((host, None)),
            _ => Ok((host, Some(port.strip_prefix(':').ok_or("has something between address and port")?))),
        };
    }
    match place.split_once(':') {
        Some((_, port)) if port.contains(':') => {
            Err("has an IPv6 address without brackets: write [::1]".to_owned())
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((place, None)),
    }
}

impl Mqtt {
    /// Host, port and whether TLS is spoken.
    pub fn endpoint(&self) -> (String, u16, bool) {
        let endpoint = checked(&self.url);
        (endpoint.host, endpoint.port, endpoint.scheme == "mqtts")
    }
}

impl Objects {
    /// Host, port and whether TLS is spoken.
    pub fn endpoint(&self) -> (String, u16, bool) {
        let endpoint = checked(&self.endpoint);
        (endpoint.host, endpoint.port, endpoint.scheme == "https")
    }
}

impl Rows {
    /// User, host, port, database (`path`) and `query`.
    pub fn endpoint(&self) -> Endpoint {
        checked(&self.url)
    }
}

/// The URL was checked when it was read; one that was set by hand afterwards leads nowhere instead of to a panic.
fn checked(url: &str) -> Endpoint {
    Endpoint::parse(url).unwrap_or_else(|_| Endpoint {
        scheme: String::new(),
        user: None,
        host: "invalid.invalid".to_owned(),
        port: 1,
        path: String::new(),
        query: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_come_apart() {
        let url = Endpoint::parse("postgres://edge@[fd00::1]:5433/gatehouse_dev?sslmode=require").unwrap();
        assert_eq!((url.user.as_deref(), url.host.as_str(), url.port), (Some("edge"), "fd00::1", 5433));
        assert_eq!((url.path.as_str(), url.query.as_str()), ("gatehouse_dev", "sslmode=require"));
        assert_eq!(Endpoint::parse("mqtts://broker").unwrap().port, 8883);
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        let words = Endpoint::parse("postgres://edge:hunter2@db/x").unwrap_err();
        assert!(words.contains("password") && !words.contains("hunter2"));
    }

    #[test]
    fn broken_urls_are_refused() {
        for url in [
            "",
            "broker:1883",
            "ftp://x",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://h:0",
            "mqtt://h:99999",
            "mqtt://::1",
        ] {
            assert!(Endpoint::parse(url).is_err(), "{url:?}");
        }
        assert!(Endpoint::bare("mqtt://user@h", &["mqtt"]).is_err());
        assert!(Endpoint::bare("http://h", &["mqtt", "mqtts"]).is_err());
    }
}
