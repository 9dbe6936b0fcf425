//! What this appliance states about erasures of shared people, and the key that signs it.

use gatehouse_model::{OrderId, Timestamp};
use gatehouse_receipt::{By, KeyName, Signer, Subject};
use zeroize::Zeroizing;

use super::super::StoreError;
use super::super::core::Core;
use super::super::feed::Feed;
use super::People;
use crate::clock::Reading;
use crate::record::{ErasureAccount, ErasureChecks, ErasureFound};
use crate::views::entries;

/// Version of the program in a statement.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Context of the seed of the signing key.
const SIGNING: &str = "receipt signing v1";

/// The content of a statement, except for the name of the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureStatement {
    /// The person, as receipts name them.
    pub subject: Subject,
    /// Journal record of the verification.
    pub lsn: u64,
    /// What was erased and verified.
    pub account: ErasureAccount,
}

impl Core {
    /// The key that signs the statements of this appliance. Blocking.
    pub(in crate::store) fn signer(&self, name: KeyName) -> Result<Signer, StoreError> {
        let seed = Zeroizing::new(self.keys.key(&self.identity)?.tag(SIGNING, b""));
        // Ed25519 accepts every seed of this length.
        Signer::from_seed(name, &seed).map_err(|_| StoreError::Erasure)
    }

    /// The account of an erasure that found nothing, at the present time.
    pub(in crate::store) fn account(
        &self,
        order: OrderId,
        ordered_at: Timestamp,
        by: By,
    ) -> Result<ErasureAccount, StoreError> {
        let done = self.clocks()?.now(&Reading::now());
        Ok(ErasureAccount {
            order,
            reference: None,
            ordered_at,
            by,
            done_at: done.at,
            uncertainty_ms: done.uncertainty_ms,
            found: ErasureFound::default(),
            checks: ErasureChecks::default(),
            version: VERSION.to_owned(),
        })
    }
}

impl People {
    /// The statement of an account; none where people are not shared.
    pub(in crate::store) fn statement(&self, lsn: u64, account: ErasureAccount) -> Option<ErasureStatement> {
        let subject = self.core.deployment()?.subject(account.reference?);
        Some(ErasureStatement { subject, lsn, account })
    }
}

impl Feed {
    /// All statements of this appliance, to be sent again to a restored database. Blocking.
    ///
    /// # Errors
    /// [`StoreError`] where the views cannot be read.
    pub fn statements(&self) -> Result<Vec<ErasureStatement>, StoreError> {
        let mut statements = Vec::new();
        for entry in self.core.views.scan(vec![entries::ERASURE_STATEMENT], false) {
            let (name, value) = entry?;
            let (lsn, account) = self.core.views.unseal(&name, &value)?;
            statements.extend(self.people.statement(lsn, account));
        }
        Ok(statements)
    }

    /// The key that signs the statements of this appliance, under the name of the appliance. Blocking.
    ///
    /// # Errors
    /// [`StoreError`] where the key table failed.
    pub fn signer(&self, name: KeyName) -> Result<Signer, StoreError> {
        self.core.signer(name)
    }
}
