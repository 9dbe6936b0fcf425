//! Merge of rows and objects in the order of their keys.

use std::vec::IntoIter;

use gatehouse_central::error::SyncError;
use gatehouse_central::objects::{Listed, Listing, Objects};
use gatehouse_central::rows::{BATCH_TIMEOUT, CALL_TIMEOUT, Link, timed};
use tokio_postgres::{Portal, Row, Transaction};
use uuid::Uuid;

use super::{DOING, PREFIX};

/// Rows per page.
const PAGE_ROWS: i32 = 1000;
/// The byte order of the bucket, regardless of the collation of the database. The server sorts once.
const ROWS: &str = "select id, s3_key, status in ('active', 'archived') from gatehouse.files \
     where s3_bucket = $1 and starts_with(s3_key, $2) order by s3_key collate \"C\"";
/// The bucket is read between two pages of rows, so the transaction may be idle. Each call has a deadline.
const LIMITS: &str = "set local idle_in_transaction_session_timeout = 0";

/// What exists under the next key.
pub(super) enum Met {
    /// An object and its row.
    Both,
    /// An object without a row.
    Object(Listed),
    /// A row without an object.
    Row {
        id: Uuid,
        key: String,
        /// Whether the row claims an object.
        kept: bool,
    },
}

/// Both lists from the first key to the last. The rows are a snapshot of the start.
pub(super) struct Walk<'a> {
    transaction: Transaction<'a>,
    portal: Portal,
    page: IntoIter<Row>,
    listing: Listing<'a>,
    row: Option<Row>,
    object: Option<Listed>,
}

impl<'a> Walk<'a> {
    pub(super) async fn start(link: &'a mut Link, objects: &'a Objects) -> Result<Self, SyncError> {
        let transaction = timed(DOING, CALL_TIMEOUT, link.client.transaction()).await?;
        timed(DOING, CALL_TIMEOUT, transaction.batch_execute(LIMITS)).await?;
        let portal =
            timed(DOING, CALL_TIMEOUT, transaction.bind(ROWS, &[&objects.bucket(), &PREFIX])).await?;
        // The first page fixes the snapshot of the rows. The bucket must be read after it.
        let first = timed(DOING, BATCH_TIMEOUT, transaction.query_portal(&portal, PAGE_ROWS)).await?;
        let listing = objects.listing(PREFIX).await?;
        let mut walk =
            Self { transaction, portal, page: first.into_iter(), listing, row: None, object: None };
        walk.row = walk.next_row().await?;
        walk.object = walk.next_object().await?;
        Ok(walk)
    }

    /// The next object that should have a row. Files of the lines sink have none.
    async fn next_object(&mut self) -> Result<Option<Listed>, SyncError> {
        while let Some(object) = self.listing.next().await? {
            if object.key.split('/').nth(2) == Some("events") {
                return Ok(Some(object));
            }
        }
        Ok(None)
    }

    async fn next_row(&mut self) -> Result<Option<Row>, SyncError> {
        if let Some(row) = self.page.next() {
            return Ok(Some(row));
        }
        let page =
            timed(DOING, BATCH_TIMEOUT, self.transaction.query_portal(&self.portal, PAGE_ROWS)).await?;
        self.page = page.into_iter();
        Ok(self.page.next())
    }

    /// The next key. None after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Met>, SyncError> {
        let met = match (self.row.take(), self.object.take()) {
            (None, None) => return Ok(None),
            (Some(row), None) => lone(&row),
            (None, Some(object)) => Met::Object(object),
            (Some(row), Some(object)) => match row.get::<_, &str>(1).cmp(object.key.as_str()) {
                std::cmp::Ordering::Equal => Met::Both,
                std::cmp::Ordering::Less => {
                    self.object = Some(object);
                    lone(&row)
                }
                std::cmp::Ordering::Greater => {
                    self.row = Some(row);
                    Met::Object(object)
                }
            },
        };
        if self.row.is_none() && !matches!(met, Met::Object(_)) {
            self.row = self.next_row().await?;
        }
        if self.object.is_none() && !matches!(met, Met::Row { .. }) {
            self.object = self.next_object().await?;
        }
        Ok(Some(met))
    }
}

fn lone(row: &Row) -> Met {
    Met::Row { id: row.get(0), key: row.get(1), kept: row.get(2) }
}
