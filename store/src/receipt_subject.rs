//! The reference of a person in receipts of erasures.

use gatehouse_receipt::Subject;

use crate::deployment::{DeploymentKey, DeploymentKeyError, Reference};

/// Context of the hash of a person's reference. A receipt cannot be linked with rows of the database without the key.
pub(crate) const SUBJECT: &str = "receipt reference v1";

impl DeploymentKey {
    /// The person of a reference, as receipts name them.
    pub fn subject(&self, reference: Reference) -> Subject {
        let mut subject = [0; 16];
        subject.copy_from_slice(&self.tag(SUBJECT, &reference.0)[..16]);
        Subject(subject)
    }
}

/// The person of an id, as receipts name them, from the secret of the deployment key (64 hexadecimal digits). Only a
/// holder of both can compute it.
///
/// # Errors
/// [`DeploymentKeyError::Form`] for any other secret.
pub fn receipt_subject(secret: &[u8], id: &str) -> Result<Subject, DeploymentKeyError> {
    let key = DeploymentKey::new(secret)?;
    Ok(key.subject(key.reference(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_has_one_reference_per_deployment_and_it_is_not_that_of_the_database() {
        let (secret, foreign) = ("5b".repeat(32), "5c".repeat(32));
        let subject = |secret: &str, id: &str| receipt_subject(secret.as_bytes(), id).unwrap();
        let anna = subject(&secret, "anna");
        assert_eq!(subject(&secret, "anna"), anna);
        let of_rows = DeploymentKey::new(secret.as_bytes()).unwrap().reference("anna");
        for other in [subject(&secret, "bert"), subject(&foreign, "anna"), Subject(of_rows.0)] {
            assert_ne!(anna, other);
        }
        assert_eq!(receipt_subject(b"5b", "anna"), Err(DeploymentKeyError::Form));
    }
}
