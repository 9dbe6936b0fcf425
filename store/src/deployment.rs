//! The key of a deployment: appliances share people with it through central services that cannot read them.
//!
//! Constraints: every appliance of a deployment has the same key, and no other system has it. A shared person
//! consists of a reference, the sealed id and name, and templates in the key's space ([`Transform`]). The
//! reference is a keyed hash of the operator's id: two appliances refer to the same person, and the central
//! services cannot identify them. A holder of the templates can compare them with each other. Only a holder
//! of the key can compare them with a face. With another key all shared data is unusable.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use gatehouse_gallery::Encoding;
use gatehouse_gallery::transform::{Protected, Transform};
use gatehouse_model::{OrderId, Person, Timestamp};
use gatehouse_vault::seal::{DataKey, SealError};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::terms::{Term, TermKind};

/// Models whose transforms are cached: a deployment has one, and a second one during a migration.
const TRANSFORMS_MAX: usize = 8;
/// Context of the hash of a person's id.
const REFERENCE: &str = "person reference v1";
/// Associated data of a sealed id and name, before the reference.
const PERSON_AD: &[u8] = b"shared person ";

/// Associated data of a sealed term, before its kind and the reference.
const TERM_AD: &[u8] = b"shared person term ";
/// Context of the id of the order that erases a person at the end of the enrollment.
const EXPIRY: &str = "expiry order v1";

/// A person by the deployment's keyed hash of their id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reference(pub [u8; 16]);

/// Why a deployment key cannot be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DeploymentKeyError {
    /// The secret has another format.
    #[error("the deployment key is not 64 hexadecimal digits; `gatehouse central make-key FILE` makes one")]
    Form,
    /// The cipher rejects it.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// The key; its memory is wiped on drop.
pub struct DeploymentKey {
    data: DataKey,
    /// By the length of encodings.
    transforms: Mutex<HashMap<usize, Arc<Transform>>>,
}

impl fmt::Debug for DeploymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeploymentKey(..)")
    }
}

impl DeploymentKey {
    /// The key of a secret of 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`DeploymentKeyError::Form`] for any other secret.
    pub fn new(secret: &[u8]) -> Result<Self, DeploymentKeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(secret, bytes.as_mut_slice()).map_err(|_| DeploymentKeyError::Form)?;
        Ok(Self { data: DataKey::from_secret(&bytes)?, transforms: Mutex::default() })
    }

    /// A new secret for [`DeploymentKey::new`].
    pub fn generate() -> Zeroizing<String> {
        let bytes = Zeroizing::new(gatehouse_model::random::<32>());
        Zeroizing::new(hex::encode(bytes.as_slice()))
    }

    pub(crate) fn tag(&self, context: &str, message: &[u8]) -> [u8; 32] {
        self.data.tag(context, message)
    }

    /// Identifies this key and reveals nothing about it.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.data.tag("fingerprint v1", b"")
    }

    /// The reference of a person's id.
    pub fn reference(&self, id: &str) -> Reference {
        let mut reference = [0; 16];
        reference.copy_from_slice(&self.data.tag(REFERENCE, id.as_bytes())[..16]);
        Reference(reference)
    }

    /// Seals id and name for the central services.
    ///
    /// # Errors
    /// [`SealError::Refused`], which does not happen for validated people.
    pub fn seal(&self, person: &Person) -> Result<Vec<u8>, SealError> {
        let plain = postcard::to_stdvec(person).map_err(|_| SealError::Refused)?;
        self.data.seal(&place_of(self.reference(&person.id)), &Zeroizing::new(plain))
    }

    /// Opens what [`DeploymentKey::seal`] sealed for the person with this reference.
    ///
    /// # Errors
    /// [`SealError::Open`] if it was sealed with another key or for another person, or was changed.
    pub fn open(&self, reference: Reference, sealed: &[u8]) -> Result<Person, SealError> {
        let plain = self.data.open(&place_of(reference), sealed)?;
        let person: Person = postcard::from_bytes(&plain).map_err(|_| SealError::Open)?;
        if self.reference(&person.id) == reference { Ok(person) } else { Err(SealError::Open) }
    }

    /// Seals a term of a person for the central services, without its stamp.
    ///
    /// # Errors
    /// [`SealError::Refused`], which does not happen for validated terms.
    pub fn seal_term(
        &self,
        reference: Reference,
        kind: TermKind,
        Term { text, time, .. }: &Term,
    ) -> Result<Vec<u8>, SealError> {
        let plain = postcard::to_stdvec(&(text, time)).map_err(|_| SealError::Refused)?;
        self.data.seal(&place_of_term(reference, kind), &Zeroizing::new(plain))
    }

    /// Opens what [`DeploymentKey::seal_term`] sealed, and adds its stamp.
    ///
    /// # Errors
    /// [`SealError::Open`] if it was sealed with another key or for another person or term, or was changed.
    pub fn open_term(
        &self,
        reference: Reference,
        kind: TermKind,
        changed_at: Timestamp,
        sealed: &[u8],
    ) -> Result<Term, SealError> {
        let plain = self.data.open(&place_of_term(reference, kind), sealed)?;
        let (text, time) = postcard::from_bytes(&plain).map_err(|_| SealError::Open)?;
        Ok(Term { changed_at, text, time })
    }

    /// The id of the order that erases a person at `until`. It is the same on all appliances, so that the deployment
    /// erases the person once.
    pub fn expiry_order(&self, id: &str, born: Timestamp, until: Timestamp) -> OrderId {
        let times = [born.0.to_be_bytes(), until.0.to_be_bytes()].concat();
        let mut order = [0; 16];
        order.copy_from_slice(&self.data.tag(EXPIRY, &[&times, id.as_bytes()].concat())[..16]);
        OrderId::from_bytes(order)
    }

    /// An encoding in the key's space.
    pub fn protect(&self, encoding: &Encoding) -> Option<Protected> {
        self.transform(encoding.as_slice().len()).protect(encoding)
    }

    /// The encoding of a template in the key's space.
    pub(crate) fn encoding(&self, template: &Protected) -> Option<Encoding> {
        self.transform(template.as_slice().len()).reveal(template)
    }

    /// The transform for some encodings, by the length of the first.
    pub fn transform_of(&self, encodings: &[Encoding]) -> Arc<Transform> {
        self.transform(encodings.first().map_or(1, |encoding| encoding.as_slice().len()))
    }

    /// The transform for encodings of a length.
    pub(crate) fn transform(&self, dimensions: usize) -> Arc<Transform> {
        let mut transforms = self.transforms.lock().unwrap_or_else(PoisonError::into_inner);
        if transforms.len() >= TRANSFORMS_MAX {
            transforms.clear();
        }
        let made = transforms.entry(dimensions);
        Arc::clone(made.or_insert_with(|| Arc::new(Transform::of(&self.data, dimensions))))
    }
}

fn place_of(reference: Reference) -> Vec<u8> {
    [PERSON_AD, &reference.0].concat()
}

fn place_of_term(reference: Reference, kind: TermKind) -> Vec<u8> {
    [TERM_AD, kind.as_str().as_bytes(), b" ", &reference.0].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anna() -> Person {
        Person { id: "anna".into(), name: "Anna".into() }
    }

    #[test]
    fn one_deployment_means_the_same_person_and_another_one_nothing() {
        let secret = DeploymentKey::generate();
        let (a, b) =
            (DeploymentKey::new(secret.as_bytes()).unwrap(), DeploymentKey::new(secret.as_bytes()).unwrap());
        let foreign = DeploymentKey::new(DeploymentKey::generate().as_bytes()).unwrap();
        let (reference, sealed) = (a.reference("anna"), a.seal(&anna()).unwrap());
        assert_eq!(b.open(reference, &sealed).unwrap(), anna());
        assert_ne!(foreign.reference("anna"), reference);
        assert_eq!(foreign.open(reference, &sealed), Err(SealError::Open));
        let other = b.open(a.reference("bert"), &sealed);
        assert_eq!(other, Err(SealError::Open), "a sealed person is bound to its reference");
        for refused in ["", "00", &secret[1..], &format!("{}zz", &secret[2..])] {
            assert_eq!(DeploymentKey::new(refused.as_bytes()).unwrap_err(), DeploymentKeyError::Form);
        }
    }

    #[test]
    fn templates_come_back_as_encodings_but_for_the_last_digits() {
        let key = DeploymentKey::new(DeploymentKey::generate().as_bytes()).unwrap();
        let components: Vec<f32> = (1..=100_u8).map(|n| f32::from(n) / 50.0).collect();
        let encoding = Encoding::new(components, 100).unwrap();
        let template = key.protect(&encoding).unwrap();
        let back = key.encoding(&template).unwrap();
        let far = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far(encoding.as_slice(), back.as_slice()) < 1e-5);
        assert!(far(encoding.as_slice(), template.as_slice()) > 0.1);
    }
}
