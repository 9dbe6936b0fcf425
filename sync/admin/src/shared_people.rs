//! Central administration of people: enrollment, rename, erasure and search without an appliance.
//!
//! It needs the deployment key, and signs in as the owner of the schema or in the privacy role. Changes are merged
//! like those of an appliance named [`CENTRAL`].

mod absence;

use std::time::Duration;

use chrono::{DateTime, Utc};
use gatehouse_central::deployment::deployment_key;
use gatehouse_central::error::SyncError;
use gatehouse_central::rows::{self, CALL_TIMEOUT, Link, Value, shared_people, timed, to_timestamp};
use gatehouse_central::services::database_of;
use gatehouse_config::Config;
use gatehouse_gallery::transform::Protected;
use gatehouse_gallery::{Encoding, Gallery, GallerySettings, Verdict};
use gatehouse_model::{CameraName, Face, KeyId, OrderId, Outcome, Person, SAMPLES_MAX, Timestamp};
use gatehouse_store::deployment::{DeploymentKey, Reference};
use gatehouse_store::store::{ErasureOrder, OrderedBy, Shared, SharedSample, SharedTerm};
use gatehouse_store::terms::{Consent, Term, TermFault, TermKind, Terms, check_text};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::absence::{Absence, Absent};

/// Author of changes made here. No appliance can be enrolled under this id.
pub(crate) const CENTRAL: &str = "central";
/// Templates returned for a probe. They include all samples of the two nearest people, with a margin.
const NEAREST_MAX: i32 = 4 * SAMPLES_MAX as i32;
/// Maximum number of people listed.
const LIST_MAX: i64 = 100_000;

/// A person in the central database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CentralPerson {
    /// The operator's id.
    pub id: String,
    /// The display name.
    pub name: String,
    /// Author of the name: an appliance, or `central`.
    pub named_by: String,
    /// Number of templates.
    pub samples: i64,
    /// Time of the last change, RFC 3339.
    pub updated_at: String,
    /// Reference of the consent.
    pub consent: Option<String>,
    /// When appliances erase the person, RFC 3339.
    pub expires_at: Option<String>,
    /// Whether an erasure is ordered, which can be cancelled until then.
    pub erasure_ordered: bool,
    /// Since when the person is suspended, RFC 3339. None: not suspended.
    pub suspended_at: Option<String>,
    /// Reason of the suspension.
    pub suspension_reason: Option<String>,
}

/// An enrollment.
#[derive(Debug)]
pub struct NewPerson {
    /// Id and name. The name of an enrolled person must be the same.
    pub person: Person,
    /// The samples.
    pub encodings: Vec<Encoding>,
    /// Whether samples that are nearer to another person are enrolled as well.
    pub force: bool,
    /// The consent, as far as it is given.
    pub consent: Consent,
}

/// An enrolled person.
struct KnownPerson {
    name: String,
    born: Timestamp,
    named_at: Timestamp,
    terms: Terms,
}

/// People of a restored database who are not delivered to appliances yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPeople {
    /// Number of people.
    pub people: i64,
    /// Appliances that have not sent their erasures since, by device id.
    pub waits_for: Vec<String>,
}

/// The central people of one deployment.
pub struct People {
    link: Link,
    key: DeploymentKey,
    consent_required: bool,
}

impl People {
    /// Connects. The settings must name database and key.
    ///
    /// # Errors
    /// [`SyncError::Setup`] if a setting is missing. Other errors if a call fails.
    pub async fn open(config: &Config) -> Result<Self, SyncError> {
        let rows = database_of(config)?;
        let key = deployment_key(config)?.ok_or_else(|| {
            let message = "there is no deployment key: name it in central.people.key_file, or make one with \
                         `gatehouse central make-key FILE`";
            SyncError::Setup(message.to_owned())
        })?;
        let link = rows::connect(rows).await?;
        crate::database::refuse_foreign(
            rows::environment(&link.client).await?,
            config.device.environment.as_str(),
        )?;
        match shared_people::start_sharing(&link, CENTRAL, &key).await? {
            true => {
                let consent_required = config.privacy.consent == gatehouse_config::Consent::Required;
                Ok(Self { link, key, consent_required })
            }
            false => Err(SyncError::Setup(shared_people::TOO_OLD.to_owned())),
        }
    }

    /// Enrolls a person, or adds encodings to an enrolled one. Repeated samples are skipped. Returns the number of
    /// samples added.
    ///
    /// # Errors
    /// A refusal if the name differs from the enrolled one, there are too many samples, the consent is missing or
    /// invalid, or, without `force`, one sample is nearer to another person.
    pub async fn enrol(&self, new: NewPerson, settings: GallerySettings) -> Result<usize, SyncError> {
        let NewPerson { person, encodings, force, consent } = new;
        gatehouse_store::people::check(&person).map_err(refused)?;
        let known = self.known(&person.id).await?;
        if let Some(KnownPerson { name, .. }) = known.as_ref().filter(|known| known.name != person.name) {
            let message = format!("person `{}` is enrolled as `{name}`: rename them first", person.id);
            return Err(SyncError::Setup(message));
        }
        let now = self.stamp().await?;
        consent.check(now).map_err(refused)?;
        let mut terms = known.as_ref().map(|known| known.terms.clone()).unwrap_or_default();
        terms.give(&consent, now);
        if self.consent_required && terms.consent.text.is_none() {
            return Err(refused(TermFault::NoConsent));
        }
        let reference = self.key.reference(&person.id);
        let model = settings.model.clone();
        let gallery = self.candidates(&encodings, settings, Some(reference)).await?;
        let new_encodings = reviewed(&gallery, reference, &encodings, force)?;
        let protected = new_encodings.iter().filter_map(|encoding| self.key.protect(encoding));
        let samples: Vec<_> =
            protected.map(|template| SharedSample { model: model.clone(), template }).collect();
        let added = samples.len();
        let (born, named_at) = known.map_or((now, now), |known| (known.born, known.named_at));
        let sealed = self.seal(&person)?;
        let terms = SharedTerm::seal_all(&self.key, reference, &terms).map_err(refused)?;
        self.give(Shared { reference, sealed, person, born, named_at, terms, samples }).await?;
        Ok(added)
    }

    /// Suspends a person: every appliance answers them as a stranger as soon as it synchronizes. A suspended person gets
    /// the new reason.
    ///
    /// # Errors
    /// A refusal if the id is not enrolled or the reason is invalid.
    pub async fn suspend(&self, id: &str, reason: Option<&str>) -> Result<(), SyncError> {
        check_text(reason).map_err(refused)?;
        let known = self.known(id).await?.ok_or_else(|| unknown(id))?;
        let now = self.stamp().await?;
        let time = known.terms.suspension.time.or(Some(now));
        let term = Term { changed_at: now, text: reason.map(str::to_owned), time };
        self.set_terms(id, known, Terms { suspension: term, ..Terms::default() }).await
    }

    /// Ends a suspension.
    ///
    /// # Errors
    /// A refusal if the id is not enrolled or the person is not suspended.
    pub async fn resume(&self, id: &str) -> Result<(), SyncError> {
        let known = self.known(id).await?.ok_or_else(|| unknown(id))?;
        if known.terms.suspension.time.is_none() {
            return Err(SyncError::Setup(format!(
                "person `{id}` is not suspended; see `gatehouse central person list`"
            )));
        }
        let suspension = Term { changed_at: self.stamp().await?, ..Term::default() };
        self.set_terms(id, known, Terms { suspension, ..Terms::default() }).await
    }

    /// Orders the erasure of a person after a grace period. Returns when it is carried out: the earlier time if it was
    /// ordered before. Until then every appliance answers the person as a stranger.
    ///
    /// # Errors
    /// A refusal if the id is not enrolled.
    pub async fn order_erasure(&self, id: &str, grace: Duration) -> Result<Timestamp, SyncError> {
        let known = self.known(id).await?.ok_or_else(|| unknown(id))?;
        let now = self.stamp().await?;
        let mut terms = Terms { erasure: known.terms.erasure.clone(), ..Terms::default() };
        terms.order_erasure(OrderedBy::Central, now, grace);
        let end = terms.ends_at().unwrap_or(now);
        self.set_terms(id, known, terms).await?;
        Ok(end)
    }

    /// Cancels an erasure in its grace period.
    ///
    /// # Errors
    /// A refusal if the id is not enrolled or no erasure is ordered.
    pub async fn restore(&self, id: &str) -> Result<(), SyncError> {
        let known = self.known(id).await?.ok_or_else(|| unknown(id))?;
        if known.terms.erasure.time.is_none() {
            return Err(SyncError::Setup(format!(
                "no erasure of person `{id}` is ordered; see `gatehouse central person list`"
            )));
        }
        let erasure = Term { changed_at: self.stamp().await?, ..Term::default() };
        self.set_terms(id, known, Terms { erasure, ..Terms::default() }).await
    }

    /// Uploads the terms that were ever changed.
    async fn set_terms(&self, id: &str, known: KnownPerson, terms: Terms) -> Result<(), SyncError> {
        let person = Person { id: id.to_owned(), name: known.name };
        let reference = self.key.reference(id);
        let sealed = self.seal(&person)?;
        let terms = SharedTerm::seal_all(&self.key, reference, &terms).map_err(refused)?;
        let KnownPerson { born, named_at, .. } = known;
        self.give(Shared { reference, person, born, named_at, sealed, terms, samples: Vec::new() }).await
    }

    /// Renames a person.
    ///
    /// # Errors
    /// A refusal if the id is not enrolled.
    pub async fn rename(&self, id: &str, name: &str) -> Result<(), SyncError> {
        let person = Person { id: id.to_owned(), name: name.to_owned() };
        gatehouse_store::people::check(&person).map_err(refused)?;
        let born = self.known(id).await?.ok_or_else(|| unknown(id))?.born;
        let (reference, sealed, named_at) =
            (self.key.reference(id), self.seal(&person)?, self.stamp().await?);
        let (terms, samples) = (Vec::new(), Vec::new());
        self.give(Shared { reference, person, born, named_at, sealed, terms, samples }).await
    }

    /// Erases a person here and, as soon as it synchronizes, on every appliance. Returns the id of the order.
    ///
    /// # Errors
    /// A refusal if the id is not enrolled.
    pub async fn erase(&self, id: &str) -> Result<OrderId, SyncError> {
        self.known(id).await?.ok_or_else(|| unknown(id))?;
        let (order, reference) = (OrderId::random(), self.key.reference(id));
        let ordered = ErasureOrder { order, reference, at: self.stamp().await? };
        shared_people::erase(&self.link, CENTRAL, &ordered, Some(id)).await?;
        Ok(order)
    }

    /// To be called after the database was restored to an earlier time: holds its people back until every appliance has
    /// sent its people and erasures again.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn hold(&self) -> Result<HeldPeople, SyncError> {
        let hold = "select gatehouse.hold_people($1)";
        timed("hold people back", CALL_TIMEOUT, self.link.client.execute(hold, &[&CENTRAL])).await?;
        self.held().await
    }

    /// The people that are held back.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn held(&self) -> Result<HeldPeople, SyncError> {
        let query = "select (select count(*) from gatehouse.held_people), \
             array(select device_id from gatehouse.device_cursors where people_due_since is not null order by 1)";
        let row =
            timed("read who is held back", CALL_TIMEOUT, self.link.client.query_one(query, &[])).await?;
        Ok(HeldPeople { people: row.get(0), waits_for: row.get(1) })
    }

    /// Delivers the people that are held back, although an appliance may still have an erasure of one of them. Returns
    /// their number.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn release(&self) -> Result<i64, SyncError> {
        let release = "select gatehouse.release_people()";
        let row =
            timed("release people", rows::BATCH_TIMEOUT, self.link.client.query_one(release, &[])).await?;
        Ok(row.get(0))
    }

    /// All people, by id.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn list(&self) -> Result<Vec<CentralPerson>, SyncError> {
        let query = "select p.external_id, p.name, p.named_by, \
             (select count(*) from gatehouse.face_encodings e where e.person_id = p.id), \
             to_char(p.updated_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
             c.description, least(c.effective_at, e.effective_at), s.description, s.effective_at, \
             e.effective_at is not null \
             from gatehouse.persons p \
             left join gatehouse.person_terms c on c.person_id = p.id and c.kind = 'consent' \
             left join gatehouse.person_terms s on s.person_id = p.id and s.kind = 'suspension' \
             left join gatehouse.person_terms e on e.person_id = p.id and e.kind = 'erasure' \
             order by 1 limit $1";
        let rows =
            timed("list people", rows::BATCH_TIMEOUT, self.link.client.query(query, &[&LIST_MAX])).await?;
        let time = |row: &tokio_postgres::Row, nth: usize| {
            row.get::<_, Option<DateTime<Utc>>>(nth).map(|at| to_timestamp(at).to_string())
        };
        let person = |row: &tokio_postgres::Row| CentralPerson {
            id: row.get(0),
            name: row.get(1),
            named_by: row.get(2),
            samples: row.get(3),
            updated_at: row.get(4),
            consent: row.get(5),
            expires_at: time(row, 6),
            suspension_reason: row.get(7),
            suspended_at: time(row, 8),
            erasure_ordered: row.get(9),
        };
        Ok(rows.iter().map(person).collect())
    }

    /// Identifies faces: the central search finds the candidates, and the decision is that of an appliance, with the
    /// threshold of `settings`.
    ///
    /// # Errors
    /// If a call fails.
    pub async fn identify(
        &self,
        encodings: &[Encoding],
        settings: GallerySettings,
    ) -> Result<Vec<Face<Person>>, SyncError> {
        let gallery = self.candidates(encodings, settings, None).await?;
        let camera = CameraName::try_from(CENTRAL).map_err(|error| SyncError::Setup(error.to_string()))?;
        let mut faces = Vec::with_capacity(encodings.len());
        for encoding in encodings {
            let face = gallery.identify(&camera, encoding, None);
            let person = match face.person {
                Some(owner) => self.person(Reference(*owner.as_bytes())).await?,
                None => None,
            };
            let mut face = face.map_person(|_| person);
            // The person is suspended, or was erased since the search. A distance would reveal them.
            if face.outcome == Outcome::Match && face.person.is_none() {
                face.outcome = Outcome::Stranger;
                (face.distance, face.margin) = (None, None);
            }
            faces.push(face);
        }
        Ok(faces)
    }

    /// A gallery of the people nearest to some encodings, and of one additional person.
    async fn candidates(
        &self,
        encodings: &[Encoding],
        settings: GallerySettings,
        also: Option<Reference>,
    ) -> Result<Gallery, SyncError> {
        const DOING: &str = "search people";
        const SEARCH: &str = "select distinct person from gatehouse.nearest_templates($1, $2, $3)";
        const TEMPLATES: &str = "select person, model, template from gatehouse.templates_of($1, $2)";
        let mut near: Vec<Uuid> = also.iter().map(|reference| Uuid::from_bytes(reference.0)).collect();
        for encoding in encodings {
            let Some(probe) = self.key.protect(encoding) else { continue };
            let probe = probe.as_slice();
            let values: [&Value<'_>; 3] = [&settings.model, &probe, &NEAREST_MAX];
            let found = timed(DOING, rows::BATCH_TIMEOUT, self.link.client.query(SEARCH, &values)).await?;
            near.extend(found.iter().map(|row| row.get::<_, Uuid>(0)));
        }
        let model = settings.model.clone();
        let gallery = Gallery::protected(settings, self.key.transform_of(encodings));
        let values: [&Value<'_>; 2] = [&CENTRAL, &near];
        for row in timed(DOING, rows::BATCH_TIMEOUT, self.link.client.query(TEMPLATES, &values)).await? {
            let (person, of_model): (Uuid, String) = (row.get(0), row.get(1));
            let template = Protected::received(row.get(2)).ok().filter(|_| of_model == model);
            if let Some(template) = template {
                gallery.load(KeyId::from_bytes(*person.as_bytes()), &[template]);
            }
        }
        Ok(gallery)
    }

    /// The person of a reference; none if they are suspended, or their erasure is ordered.
    async fn person(&self, reference: Reference) -> Result<Option<Person>, SyncError> {
        let query = "select p.encrypted_metadata from gatehouse.persons p where p.id = $1 and not exists \
             (select from gatehouse.person_terms t \
               where t.person_id = p.id and t.kind in ('suspension', 'erasure') and t.effective_at is not null)";
        let id = Uuid::from_bytes(reference.0);
        let row = timed("search people", CALL_TIMEOUT, self.link.client.query_opt(query, &[&id])).await?;
        Ok(row.and_then(|row| self.key.open(reference, row.get(0)).ok()))
    }

    async fn known(&self, id: &str) -> Result<Option<KnownPerson>, SyncError> {
        const DOING: &str = "look up a person";
        const PERSON: &str =
            "select name, enrolled_at, named_at, id from gatehouse.persons where external_id = $1";
        const TERMS: &str = "select kind, changed_at, description, effective_at from gatehouse.person_terms where person_id = $1";
        let client = &self.link.client;
        let found = timed(DOING, CALL_TIMEOUT, client.query_opt(PERSON, &[&id])).await?;
        let Some(row) = found else { return Ok(None) };
        let (mut terms, person) = (Terms::default(), row.get::<_, Uuid>(3));
        for row in timed(DOING, CALL_TIMEOUT, client.query(TERMS, &[&person])).await? {
            let Some(kind) = TermKind::parse(row.get(0)) else { continue };
            let time = row.get::<_, Option<DateTime<Utc>>>(3).map(to_timestamp);
            *terms.term_mut(kind) = Term { changed_at: to_timestamp(row.get(1)), text: row.get(2), time };
        }
        let (born, named_at) = (to_timestamp(row.get(1)), to_timestamp(row.get(2)));
        Ok(Some(KnownPerson { name: row.get(0), born, named_at, terms }))
    }

    /// A time later than every known change.
    async fn stamp(&self) -> Result<Timestamp, SyncError> {
        let query = "select greatest(clock_timestamp(), \
             (select max(greatest(enrolled_at, named_at)) from gatehouse.persons), \
             (select max(changed_at) from gatehouse.person_terms), \
             (select max(erased_at) from gatehouse.erasure_orders)) + interval '1 microsecond'";
        let row = timed("read the clock", CALL_TIMEOUT, self.link.client.query_one(query, &[])).await?;
        Ok(to_timestamp(row.get::<_, DateTime<Utc>>(0)))
    }

    async fn give(&self, person: Shared) -> Result<(), SyncError> {
        shared_people::upload(&self.link, CENTRAL, &[&person]).await
    }

    fn seal(&self, person: &Person) -> Result<Vec<u8>, SyncError> {
        self.key.seal(person).map_err(refused)
    }
}

/// The encodings that do not repeat a sample of the person.
fn reviewed<'a>(
    gallery: &Gallery,
    reference: Reference,
    encodings: &'a [Encoding],
    force: bool,
) -> Result<Vec<&'a Encoding>, SyncError> {
    let owner = KeyId::from_bytes(reference.0);
    let reviews = gallery.review(Some(&owner), encodings);
    if !force && let Some(nth) = reviews.iter().position(|review| review.verdict == Verdict::Foreign) {
        let message = format!("encoding {} is nearer to another person; --force enrolls it", nth + 1);
        return Err(SyncError::Setup(message));
    }
    let fresh = encodings.iter().zip(&reviews).filter(|(_, review)| review.verdict != Verdict::Repeated);
    let fresh: Vec<&Encoding> = fresh.map(|(encoding, _)| encoding).collect();
    let samples = gallery.samples(&owner) + fresh.len();
    if samples == 0 || samples > SAMPLES_MAX {
        let message =
            format!("a person has 1 to {SAMPLES_MAX} encodings of a model, these would be {samples}");
        return Err(SyncError::Setup(message));
    }
    Ok(fresh)
}

fn refused(error: impl std::fmt::Display) -> SyncError {
    SyncError::Setup(error.to_string())
}

fn unknown(id: &str) -> SyncError {
    SyncError::Setup(format!("no person `{id}` is enrolled centrally; see `gatehouse central person list`"))
}
