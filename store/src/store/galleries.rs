//! The galleries: one is in use; a second one, the candidate, can be filled, compared and switched to.
//!
//! Journal records define which galleries exist and which one is in use. The settings describe the first
//! gallery only while no person is enrolled. A probe takes a [`GallerySet`] once and keeps it until it is
//! answered. It sees the state before or after a switch and nothing in between. Order of each change: the
//! record is durable, then answers change. A crash in between loses nothing. An interrupted removal is
//! completed at the next start.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use gatehouse_gallery::calibration::Calibration;
use gatehouse_gallery::{Basis, Derived, Gallery, GallerySettings};
use gatehouse_model::{CameraName, GalleryMark, KeyId, Model};
use serde::{Deserialize, Serialize};

use self::thresholds::Impostors;
use super::core::Core;
use super::people::templates::{Numbers, TemplateKey};
use super::{Refusal, RequestError};
use crate::people::Counted;
use crate::record::Record;
use crate::views::entries::{self, Key};
use crate::views::{ViewError, Views};

pub(in crate::store) mod comparison;
mod identify;
pub(in crate::store) mod recent_faces;
pub(in crate::store) mod report;
pub(in crate::store) mod thresholds;

pub use identify::ProbeFace;

/// Maximum number of galleries: the one in use, and one candidate.
pub const GALLERIES_MAX: usize = 2;
/// People listed in the refusal of a switch; `gatehouse gallery compare` lists more.
const MISSING_NAMED: usize = 20;
/// Default target for the share of strangers that are falsely accepted.
const TARGET_FPIR: f64 = 0.001;

/// One gallery.
pub(in crate::store) struct Slot {
    pub(in crate::store) mark: GalleryMark,
    pub(in crate::store) gallery: Gallery,
    /// Impostor scores, from which its thresholds are derived.
    pub(in crate::store) impostors: Mutex<Impostors>,
}

/// The galleries at one moment.
pub struct GallerySet {
    models: Models,
    pub(in crate::store) in_use: Arc<Slot>,
    pub(in crate::store) candidate: Option<Arc<Slot>>,
}

/// The models of the galleries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Models {
    /// The model of the gallery in use.
    pub in_use: Model,
    /// The model of the candidate gallery.
    pub candidate: Option<Model>,
}

/// Threshold settings.
#[derive(Clone)]
pub(in crate::store) struct Rules {
    /// Settings of the gallery whose model they name.
    pub(in crate::store) settings: GallerySettings,
    /// The target share of false accepts of that gallery; none: its thresholds are fixed.
    pub(in crate::store) target: Option<f64>,
    /// The target share of any other gallery, since fixed thresholds are valid for one model only.
    pub(in crate::store) target_of_others: f64,
}

/// A gallery as the operator sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GalleryLine {
    /// Its model, whose name is also the gallery's name.
    #[serde(flatten)]
    pub model: Model,
    /// Whether it is in use.
    pub in_use: bool,
    /// People in it.
    pub people: usize,
    /// Their templates.
    pub templates: usize,
    /// The threshold in force for cameras without their own.
    pub threshold: f32,
    /// How it was determined.
    pub basis: Basis,
    /// Why there is no threshold, and what to do.
    pub no_threshold: Option<String>,
    /// Source of the impostor statistics of the model; none for an unknown model.
    pub calibration: Option<String>,
}

/// A finished switch or removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GalleryChanged {
    /// Name of the gallery in use now.
    pub in_use: String,
    /// Name of the candidate gallery.
    pub candidate: Option<String>,
    /// People who are enrolled only in the candidate gallery: they are not recognised any more.
    pub missing: usize,
}

impl Rules {
    pub(in crate::store) fn new(settings: GallerySettings) -> Self {
        Self { settings, target: None, target_of_others: TARGET_FPIR }
    }

    fn are_of(&self, model: &Model) -> bool {
        model.measures_as(&Model::from(&self.settings))
    }

    /// The settings of the gallery of a model.
    fn settings_of(&self, model: &Model) -> GallerySettings {
        let mut settings = self.settings.clone();
        if !self.are_of(model) {
            settings.camera_thresholds = HashMap::new();
            settings.threshold = 0.0;
        }
        let Model { name, dimensions, metric, normalised } = model.clone();
        GallerySettings { model: name, dimensions, metric, normalised, ..settings }
    }

    pub(in crate::store) fn apply_to(&self, slot: &Slot) {
        let model = &slot.mark.model;
        slot.gallery.apply(self.settings_of(model));
        slot.gallery.thresholds().follow(if self.are_of(model) {
            self.target
        } else {
            Some(self.target_of_others)
        });
    }
}

impl Slot {
    pub(in crate::store) fn new(mark: GalleryMark, rules: &Rules, key: &TemplateKey) -> Self {
        let transform = key.transform(mark.model.dimensions);
        let gallery = Gallery::protected(rules.settings_of(&mark.model), transform);
        let slot = Self { mark, gallery, impostors: Mutex::default() };
        rules.apply_to(&slot);
        slot
    }

    pub(in crate::store) fn name(&self) -> &str {
        &self.mark.model.name
    }
}

impl GallerySet {
    pub(in crate::store) fn new(in_use: Arc<Slot>, candidate: Option<Arc<Slot>>) -> Self {
        let model = |slot: &Arc<Slot>| slot.mark.model.clone();
        let models = Models { in_use: model(&in_use), candidate: candidate.as_ref().map(model) };
        Self { models, in_use, candidate }
    }

    /// How the threshold of a camera was determined, in the gallery in use.
    pub fn basis(&self, camera: &CameraName) -> Basis {
        self.in_use.gallery.thresholds().basis(camera.as_str())
    }

    /// The threshold in force in the gallery in use, for a camera or for cameras without their own.
    pub fn threshold(&self, camera: Option<&str>) -> Derived {
        self.in_use.gallery.thresholds().derived(camera)
    }

    /// The models of the galleries.
    pub fn models(&self) -> &Models {
        &self.models
    }

    pub(in crate::store) fn all(&self) -> impl Iterator<Item = &Arc<Slot>> {
        std::iter::once(&self.in_use).chain(&self.candidate)
    }

    /// A gallery by its name, or the one in use.
    pub(in crate::store) fn named(&self, name: Option<&str>) -> Result<&Arc<Slot>, Refusal> {
        let Some(name) = name else { return Ok(&self.in_use) };
        self.all().find(|slot| slot.name() == name).ok_or_else(|| Refusal::UnknownGallery(name.to_owned()))
    }

    /// The model of a gallery, by its name, or of the one in use.
    ///
    /// # Errors
    /// [`Refusal::UnknownGallery`].
    pub fn model(&self, name: Option<&str>) -> Result<&Model, Refusal> {
        self.named(name).map(|slot| &slot.mark.model)
    }

    /// Numbers of samples and corrections of a person in the galleries.
    pub(in crate::store) fn count(&self, person: &KeyId) -> Counted {
        let galleries = self.all().map(|slot| (slot.name().to_owned(), slot.gallery.samples(person)));
        Counted {
            samples: self.in_use.gallery.samples(person),
            corrections: self.in_use.gallery.corrections(person),
            galleries: galleries.collect(),
        }
    }
}

/// The galleries in the views, and the record that must be appended for them.
pub(in crate::store) struct Described {
    marks: Vec<GalleryMark>,
    gone: BTreeSet<u8>,
    in_use: u8,
    /// The first gallery, where no record describes it or the model was changed before the first enrollment.
    pub(in crate::store) fresh: Option<GalleryMark>,
}

impl Described {
    pub(in crate::store) fn read(views: &Views, settings: &GallerySettings) -> Result<Self, ViewError> {
        let mut marks: Vec<GalleryMark> = Vec::new();
        for entry in views.scan(vec![entries::GALLERY], false) {
            let (name, value) = entry?;
            marks.push(views.unseal(&name, &value)?);
        }
        let gone = views.scan(vec![entries::GALLERY_GONE], false);
        let gone = gone.map(|entry| Ok(entry?.0.get(1).copied().unwrap_or_default()));
        let gone = gone.collect::<Result<BTreeSet<u8>, ViewError>>()?;
        let model = Model::from(settings);
        let is_empty = views.scan(vec![entries::TEMPLATE], false).next().is_none();
        let fresh = match marks.as_slice() {
            [] => Some(GalleryMark { number: 0, model }),
            [only] if is_empty && only.model != model => Some(GalleryMark { number: only.number, model }),
            _ => None,
        };
        if let Some(fresh) = &fresh {
            marks = vec![fresh.clone()];
        }
        let in_use = views.get(&Key::GalleryInUse)?.unwrap_or_default();
        Ok(Self { marks, gone, in_use, fresh })
    }

    pub(in crate::store) fn numbers(&self) -> Numbers {
        let dimensions = self.marks.iter().map(|mark| (mark.number, mark.model.dimensions)).collect();
        Numbers { dimensions, gone: self.gone.clone() }
    }

    /// The galleries, empty.
    pub(in crate::store) fn build(
        &self,
        views: &Views,
        rules: &Rules,
        key: &TemplateKey,
    ) -> Result<GallerySet, ViewError> {
        let mut slots = Vec::new();
        for mark in &self.marks {
            let slot = Slot::new(mark.clone(), rules, key);
            let calibration: Option<Calibration> = views.get(&Key::GalleryCalibration(mark.number))?;
            if let Err(fault) = slot.gallery.thresholds().calibrate(calibration.map(Arc::new)) {
                tracing::warn!(gallery = slot.name(), "{fault}");
            }
            slots.push(Arc::new(slot));
        }
        slots.sort_by_key(|slot| slot.mark.number != self.in_use);
        let mut slots = slots.into_iter();
        let in_use = slots.next().ok_or(ViewError::Damaged("no gallery is described"))?;
        Ok(GallerySet::new(in_use, slots.next()))
    }
}

/// The face galleries: identification, thresholds, comparison, and the faces kept in memory. Cheap to clone.
#[derive(Clone)]
pub struct Galleries {
    core: Arc<Core>,
}

impl Galleries {
    pub(in crate::store) fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core) }
    }

    fn apply_rules(&self, change: impl FnOnce(&mut Rules)) {
        let mut rules = self.core.rules();
        change(&mut rules);
        self.core.galleries().all().for_each(|slot| rules.apply_to(slot));
    }

    /// The current galleries. An identification with them is not affected by a later or a concurrent switch.
    pub fn current(&self) -> Arc<GallerySet> {
        self.core.galleries()
    }

    /// Applies thresholds and minimum quality of new settings to the gallery whose model the settings name.
    pub fn apply_settings(&self, thresholds: HashMap<String, f32>, threshold: f32, minimum_quality: f32) {
        self.apply_rules(|rules| {
            rules.settings.camera_thresholds = thresholds;
            rules.settings.threshold = threshold;
            rules.settings.minimum_quality = minimum_quality;
        });
    }

    /// Sets the target share of false accepts for which thresholds are derived where the settings give none.
    /// Without a target the fixed thresholds hold. A gallery of another model than the settings name uses
    /// `of_others`.
    pub fn set_target_fpir(&self, target: Option<f64>, of_others: f64) {
        self.apply_rules(|rules| (rules.target, rules.target_of_others) = (target, of_others));
    }

    /// All galleries, the one in use first.
    pub fn list(&self) -> Vec<GalleryLine> {
        let galleries = self.core.galleries();
        let line = |slot: &Arc<Slot>| {
            let derived = slot.gallery.thresholds().derived(None);
            GalleryLine {
                model: slot.mark.model.clone(),
                in_use: Arc::ptr_eq(slot, &galleries.in_use),
                people: slot.gallery.people(),
                templates: slot.gallery.templates(),
                threshold: derived.threshold,
                basis: derived.basis,
                no_threshold: derived.no_threshold.map(|cause| cause.to_string()),
                calibration: slot
                    .gallery
                    .thresholds()
                    .calibration()
                    .map(|calibration| calibration.source.clone()),
            }
        };
        galleries.all().map(line).collect()
    }

    /// Adds an empty candidate gallery. The samples of its model are then requested from the central services.
    ///
    /// # Errors
    /// A refusal where the name is taken, there are two already, or the model is not valid.
    pub async fn add(&self, model: Model) -> Result<Vec<GalleryLine>, RequestError> {
        model.check()?;
        let _lock = self.core.people_lock.lock().await;
        let now = self.core.galleries();
        if now.named(Some(&model.name)).is_ok() {
            return Err(Refusal::GalleryExists(model.name).into());
        }
        if now.all().count() >= GALLERIES_MAX {
            return Err(Refusal::GalleriesFull.into());
        }
        let lost = &self.core.lost_galleries;
        let is_free =
            |number: &u8| now.all().all(|slot| slot.mark.number != *number) && !lost.contains(number);
        let number = (0..=u8::MAX).find(is_free).ok_or(Refusal::GalleriesFull)?;
        let mark = GalleryMark { number, model };
        self.core.change(&Record::GalleryAdded(mark.clone())).await?;
        {
            let rules = self.core.rules();
            let slot = Slot::new(mark, &rules, &self.core.templates());
            self.core.set_galleries(GallerySet::new(Arc::clone(&now.in_use), Some(Arc::new(slot))));
        }
        Ok(self.list())
    }

    /// Sets the impostor statistics of a gallery, by its name, or of the one in use. None selects the
    /// statistics that are included in the program. Durable on return.
    ///
    /// # Errors
    /// [`Refusal::UnknownGallery`]; [`Refusal::Calibration`] where they are damaged or of another model.
    pub async fn calibrate(
        &self,
        gallery: Option<&str>,
        calibration: Option<Calibration>,
    ) -> Result<Vec<GalleryLine>, RequestError> {
        let _lock = self.core.people_lock.lock().await;
        let slot = Arc::clone(self.core.galleries().named(gallery)?);
        slot.gallery.thresholds().check_calibration(calibration.as_ref())?;
        let (gallery, boxed) = (slot.mark.number, calibration.clone().map(Box::new));
        self.core.change(&Record::GalleryCalibrated { gallery, calibration: boxed }).await?;
        slot.gallery.thresholds().calibrate(calibration.map(Arc::new))?;
        Ok(self.list())
    }

    /// Switches to the candidate gallery: it answers every probe that begins afterwards.
    ///
    /// # Errors
    /// A refusal where it does not exist or is in use already. Without `force` also where it has no
    /// threshold, or where people of the gallery in use are missing in it.
    pub async fn switch(&self, name: &str, force: bool) -> Result<GalleryChanged, RequestError> {
        let _lock = self.core.people_lock.lock().await;
        let now = self.core.galleries();
        let other = Arc::clone(now.named(Some(name))?);
        if Arc::ptr_eq(&other, &now.in_use) {
            return Err(Refusal::GalleryInUse(name.to_owned()).into());
        }
        if let Some(cause) = other.gallery.thresholds().derived(None).no_threshold.filter(|_| !force) {
            return Err(Refusal::NoThreshold { gallery: name.to_owned(), cause: cause.to_string() }.into());
        }
        let missing = self.missing_in(&other, &now.in_use);
        if !missing.is_empty() && !force {
            let named = missing.iter().take(MISSING_NAMED).cloned().collect::<Vec<_>>().join(", ");
            return Err(Refusal::Missing { gallery: name.to_owned(), people: missing.len(), named }.into());
        }
        // A second copy, so that one damaged record never loses the model of the gallery in use.
        drop(self.core.append(&Record::GalleryAdded(other.mark.clone())).await?);
        self.core.change(&Record::GallerySwitched { gallery: other.mark.number }).await?;
        self.core.set_galleries(GallerySet::new(other, Some(Arc::clone(&now.in_use))));
        Ok(self.changed(missing.len()))
    }

    /// Removes the candidate gallery with all its templates. People who were enrolled only there keep their
    /// names, without templates.
    ///
    /// # Errors
    /// A refusal where it does not exist or is in use.
    pub async fn remove(&self, name: &str) -> Result<GalleryChanged, RequestError> {
        let _lock = self.core.people_lock.lock().await;
        let now = self.core.galleries();
        let gone = now.named(Some(name))?;
        if Arc::ptr_eq(gone, &now.in_use) {
            return Err(Refusal::GalleryInUse(name.to_owned()).into());
        }
        let gallery = gone.mark.number;
        drop(self.core.append(&Record::GalleryRemoved { gallery }).await?);
        self.core.set_galleries(GallerySet::new(Arc::clone(&now.in_use), None));
        let people: Vec<KeyId> = self.core.people().keys().into_iter().map(|(person, _)| person).collect();
        let is_in = |person: &KeyId| gone.gallery.samples(person) + gone.gallery.corrections(person) > 0;
        for person in people.into_iter().filter(is_in) {
            let emptied = Record::Templates { gallery, person, sealed: Vec::new(), replaces: true };
            drop(self.core.append(&emptied).await?);
        }
        self.core.caught_up().await?;
        Ok(self.changed(0))
    }

    /// Sorted ids of people with samples in `but_in` and none in `gallery`.
    pub(in crate::store) fn missing_in(&self, gallery: &Slot, but_in: &Slot) -> Vec<String> {
        let people = self.core.people();
        let is_missing = |(key, id): (&KeyId, &str)| {
            let missing = but_in.gallery.samples(key) > 0 && gallery.gallery.samples(key) == 0;
            missing.then(|| id.to_owned())
        };
        let mut missing: Vec<_> = people.ids().filter_map(is_missing).collect();
        missing.sort_unstable();
        missing
    }

    fn changed(&self, missing: usize) -> GalleryChanged {
        let Models { in_use, candidate } = self.core.galleries().models().clone();
        GalleryChanged { in_use: in_use.name, candidate: candidate.map(|model| model.name), missing }
    }
}

#[cfg(test)]
mod tests;
