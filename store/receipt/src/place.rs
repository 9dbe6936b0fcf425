//! Places that hold data of people, and the person as a keyed reference.

use std::fmt;

use gatehouse_model::KeyId;
use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::keys::{KeyName, central_key_name, device_key_name};

/// Name of the central services in the name of their key. No appliance can have it as its id.
pub const CENTRAL: &str = "central";
/// Longest name of an environment or an appliance.
const PART_BYTES_MAX: usize = 64;
/// Stands for the state directory of an appliance that the central services do not know.
const UNKNOWN: &str = "unknown";

/// A person as the deployment's keyed hash of their id. Without the key it does not say who that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject(pub [u8; 16]);

impl Subject {
    /// Parses `ref:` and 32 hexadecimal digits; none for other text.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text.strip_prefix("ref:")?, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ref:{}", hex::encode(self.0))
    }
}

/// An invalid name of an environment or an appliance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the name of an environment or an appliance is 1 to {PART_BYTES_MAX} of A-Z a-z 0-9 _ -, and no appliance is named \
     `{CENTRAL}`"
)]
pub struct PlaceError;

/// A validated name of an environment or an appliance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Part(String);

impl Part {
    fn new(text: &str) -> Result<Self, PlaceError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        let is_valid = !text.is_empty() && text.len() <= PART_BYTES_MAX && text.chars().all(allowed);
        if is_valid { Ok(Self(text.to_owned())) } else { Err(PlaceError) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Device { device: Part, state: Option<KeyId> },
    Postgres,
    Objects,
}

/// A place that holds data of a person and answers an order of erasure.
///
/// Its text is `device ENVIRONMENT/ID state STATE`, `postgres ENVIRONMENT` or `objects ENVIRONMENT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    kind: Kind,
    environment: Part,
}

impl Place {
    /// The state directory of an appliance; without a state for an appliance that has not signed in yet.
    ///
    /// # Errors
    /// [`PlaceError`] for an invalid name, or an appliance that has the name of the central services.
    pub fn device(environment: &str, device: &str, state: Option<KeyId>) -> Result<Self, PlaceError> {
        if device == CENTRAL {
            return Err(PlaceError);
        }
        let kind = Kind::Device { device: Part::new(device)?, state };
        Ok(Self { kind, environment: Part::new(environment)? })
    }

    /// The central database.
    ///
    /// # Errors
    /// [`PlaceError`] for an invalid name.
    pub fn postgres(environment: &str) -> Result<Self, PlaceError> {
        Ok(Self { kind: Kind::Postgres, environment: Part::new(environment)? })
    }

    /// The central bucket.
    ///
    /// # Errors
    /// [`PlaceError`] for an invalid name.
    pub fn objects(environment: &str) -> Result<Self, PlaceError> {
        Ok(Self { kind: Kind::Objects, environment: Part::new(environment)? })
    }

    /// The environment.
    pub fn environment(&self) -> &str {
        &self.environment.0
    }

    /// The id of the appliance; none for a central place.
    pub fn device_id(&self) -> Option<&str> {
        match &self.kind {
            Kind::Device { device, .. } => Some(&device.0),
            Kind::Postgres | Kind::Objects => None,
        }
    }

    /// The state directory of the appliance; none for a central place, or if it is not known.
    pub fn state(&self) -> Option<KeyId> {
        match &self.kind {
            Kind::Device { state, .. } => *state,
            Kind::Postgres | Kind::Objects => None,
        }
    }

    /// Whether it is the central database.
    pub fn is_postgres(&self) -> bool {
        self.kind == Kind::Postgres
    }

    /// Whether it is the central bucket.
    pub fn is_objects(&self) -> bool {
        self.kind == Kind::Objects
    }

    /// Name of the only key that may sign for the place: an appliance signs for itself, the central services sign for
    /// database and bucket.
    pub fn key_name(&self) -> KeyName {
        match &self.kind {
            Kind::Device { device, .. } => device_key_name(&self.environment.0, &device.0),
            Kind::Postgres | Kind::Objects => central_key_name(&self.environment.0),
        }
    }

    /// Parses the text of a place; none for other text.
    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        match words.as_slice() {
            ["device", name, "state", state] => {
                let (environment, device) = name.split_once('/')?;
                let state = match *state {
                    UNKNOWN => None,
                    state => Some(KeyId::parse(state)?),
                };
                Self::device(environment, device, state).ok()
            }
            ["postgres", environment] => Self::postgres(environment).ok(),
            ["objects", environment] => Self::objects(environment).ok(),
            _ => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let environment = &self.environment.0;
        match &self.kind {
            Kind::Device { device, state: Some(state) } => {
                write!(f, "device {environment}/{} state {state}", device.0)
            }
            Kind::Device { device, state: None } => {
                write!(f, "device {environment}/{} state {UNKNOWN}", device.0)
            }
            Kind::Postgres => write!(f, "postgres {environment}"),
            Kind::Objects => write!(f, "objects {environment}"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_one_text_and_one_key() {
        let state = KeyId::from_bytes([7; 16]);
        let device = Place::device("prod", "house-1", Some(state)).unwrap();
        assert_eq!(device.to_string(), format!("device prod/house-1 state {state}"));
        assert_eq!(device.key_name().as_str(), "prod/house-1");
        let unknown = Place::device("prod", "house-1", None).unwrap();
        for place in [device, unknown, Place::postgres("prod").unwrap(), Place::objects("prod").unwrap()] {
            assert_eq!(Place::parse(&place.to_string()), Some(place.clone()));
            assert!(place.device_id().is_some() || place.key_name().as_str() == "prod/central");
        }
    }

    #[test]
    fn names_that_could_stand_for_another_place_are_refused() {
        for device in ["", "a b", "a/b", "a+b", "ä", "a\nb", CENTRAL, &"x".repeat(65)] {
            assert!(Place::device("prod", device, None).is_err(), "{device:?}");
        }
        assert!(Place::postgres("a/b").is_err());
        for text in ["", "device prod/a", "device prod state unknown", "postgres", "postgres prod x"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
