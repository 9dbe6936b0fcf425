//! The reference of a person in receipts of erasures.

use gatehouse_receipt::Subject;
use gatehouse_vault::seal::DataKey;
use zeroize::Zeroizing;

use crate::deployment::DeploymentKeyError;

/// Context of the hash of a person's id. It differs from that of the reference in the database, so that a receipt
/// cannot be linked with rows without the key.
const REFERENCE: &str = "receipt reference v1";

/// The reference of a person's id, from the secret of the deployment key (64 hexadecimal digits). Only a holder of both
/// can compute it.
///
/// # Errors
/// [`DeploymentKeyError::Form`] for any other secret.
pub fn receipt_subject(secret: &[u8], id: &str) -> Result<Subject, DeploymentKeyError> {
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(secret, bytes.as_mut_slice()).map_err(|_| DeploymentKeyError::Form)?;
    let mut reference = [0; 16];
    reference.copy_from_slice(&DataKey::from_secret(&bytes)?.tag(REFERENCE, id.as_bytes())[..16]);
    Ok(Subject(reference))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::DeploymentKey;

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
