//! Protected templates: the keyed orthogonal transform between an encoding and its stored template.
//!
//! Construction: three rounds of a keyed permutation, keyed signs and a normalized fast Walsh-Hadamard
//! transform. The transform needs a power of two: `p` is the largest one within the length. It is applied to
//! the first `p` components. If the length is not a power of two, it is applied again to the last `p`. Both
//! parts cover all components, without padding or truncation. Each step is orthogonal, and so is their
//! product. It preserves lengths and angles, and with them every Euclidean and cosine distance. The steps are
//! computed in `f64` and rounded once. Permutations (unbiased Fisher-Yates) and signs are read from
//! HMAC-SHA256 in counter mode, under a subkey that HKDF derives from the deployment's template key. The same
//! key gives the same transform on every processor.
//!
//! Sources: signs and Walsh-Hadamard, three rounds, behave as a random rotation: Ailon and Chazelle, "The
//! fast Johnson-Lindenstrauss transform" (2009); Andoni and others, "Practical and optimal LSH for angular
//! distance" (2015), section 3. Renewable and unlinkable references: ISO/IEC 24745.
//!
//! What it protects: without the key, a template is no encoding of the model. It cannot be compared with
//! faces, with templates of another deployment, or with those of an earlier key. A new key renews all
//! templates without a new enrollment. What it does not protect: lengths and mutual distances are preserved.
//! With many templates in plaintext, similar people can be found, and two galleries can be compared. With the
//! encodings of as many templates as there are components, the transform can be computed. Therefore templates
//! are sealed as well, see `store/src/store/people/templates.rs`: this is the second layer of protection, not
//! the first.

use std::fmt;

use gatehouse_vault::seal::DataKey;
use zeroize::{Zeroize, Zeroizing};

use super::Encoding;
use crate::EncodingFault;

/// Number of rounds. One spreads a component over all, two leave structure that a chosen input reveals, three
/// are the construction of the literature.
const ROUNDS: usize = 3;
/// Purpose of the key stream; a change of the construction needs a new name.
const PURPOSE: &str = "template transform v1";

/// One round; wiped on drop.
struct Round {
    /// Source of each component.
    from: Zeroizing<Vec<u32>>,
    /// 1 or -1 for each component.
    signs: Zeroizing<Vec<f64>>,
}

/// The transform of one key and one length; wiped on drop.
pub struct Transform {
    dimensions: usize,
    rounds: Vec<Round>,
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transform({} components)", self.dimensions)
    }
}

/// A template in the space of a key, as it is stored, indexed and compared. Wiped on drop.
#[derive(Clone, PartialEq)]
pub struct Protected(Encoding);

impl fmt::Debug for Protected {
    /// Shows only the number of components.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Protected({} components)", self.0.as_slice().len())
    }
}

impl Protected {
    /// Reads the output of [`Protected::to_bytes`].
    ///
    /// # Errors
    /// As [`Encoding::from_bytes`].
    pub fn from_bytes(bytes: &[u8], dimensions: usize) -> Result<Self, EncodingFault> {
        Encoding::from_bytes(bytes, dimensions).map(Self)
    }

    /// Components from another appliance, in the space of a key.
    ///
    /// # Errors
    /// As [`Encoding::new`].
    pub fn received(components: Vec<f32>) -> Result<Self, EncodingFault> {
        let dimensions = components.len();
        Encoding::new(components, dimensions).map(Self)
    }

    /// Valid components that are in the space of a key already.
    pub(super) fn of(components: &[f32]) -> Self {
        Self(Encoding::rotated(Zeroizing::new(components.to_vec())))
    }

    /// As little-endian `f32`.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        self.0.to_bytes()
    }

    /// The components, in the space of the key.
    pub fn as_slice(&self) -> &[f32] {
        self.0.as_slice()
    }
}

impl Transform {
    /// The transform that changes nothing: for galleries that are never stored.
    pub fn identity(dimensions: usize) -> Self {
        Self { dimensions, rounds: Vec::new() }
    }

    /// The transform of a key.
    pub fn of(key: &DataKey, dimensions: usize) -> Self {
        let mut stream = Stream { key, counter: 0, block: Zeroizing::new([0; 32]), used: 32 };
        let rounds = (0..ROUNDS).map(|_| stream.round(dimensions)).collect();
        Self { dimensions, rounds }
    }

    /// The template of an encoding; none if the encoding has another length.
    pub fn protect(&self, encoding: &Encoding) -> Option<Protected> {
        let mut components = self.taken(encoding.as_slice())?;
        self.forward(&mut components);
        Some(rounded(&components))
    }

    /// Converts a template of this key to another key; none if the lengths differ. The encoding in between is
    /// wiped.
    pub fn rekey(&self, template: &Protected, to: &Self) -> Option<Protected> {
        let mut components = self.taken(template.as_slice()).filter(|c| c.len() == to.dimensions)?;
        self.inverse(&mut components);
        to.forward(&mut components);
        Some(rounded(&components))
    }

    /// The encoding of a template of this key; none if it has another length.
    pub fn reveal(&self, template: &Protected) -> Option<Encoding> {
        let mut components = self.taken(template.as_slice())?;
        self.inverse(&mut components);
        Some(rounded(&components).0)
    }

    fn taken(&self, components: &[f32]) -> Option<Zeroizing<Vec<f64>>> {
        let fits = components.len() == self.dimensions;
        fits.then(|| Zeroizing::new(components.iter().map(|x| f64::from(*x)).collect()))
    }

    fn forward(&self, components: &mut Zeroizing<Vec<f64>>) {
        let mut before = Zeroizing::new(vec![0.0; components.len()]);
        for round in &self.rounds {
            std::mem::swap(components, &mut before);
            let places = round.from.iter().zip(round.signs.iter());
            for (x, (from, sign)) in components.iter_mut().zip(places) {
                *x = before[*from as usize] * sign;
            }
            let (first, last) = parts(components.len());
            hadamard(&mut components[first]);
            if let Some(last) = last {
                hadamard(&mut components[last]);
            }
        }
    }

    fn inverse(&self, components: &mut Zeroizing<Vec<f64>>) {
        let mut after = Zeroizing::new(vec![0.0; components.len()]);
        for round in self.rounds.iter().rev() {
            let (first, last) = parts(components.len());
            if let Some(last) = last {
                hadamard(&mut components[last]);
            }
            hadamard(&mut components[first]);
            std::mem::swap(components, &mut after);
            let places = round.from.iter().zip(round.signs.iter());
            for (x, (from, sign)) in after.iter().zip(places) {
                components[*from as usize] = x * sign;
            }
        }
    }
}

/// The first and, if the length is no power of two, the last `p` components.
fn parts(length: usize) -> (std::ops::Range<usize>, Option<std::ops::Range<usize>>) {
    let power = if length == 0 { 0 } else { 1 << length.ilog2() };
    (0..power, (power < length).then(|| length - power..length))
}

/// The normalized Walsh-Hadamard transform of a power of two, which is its own inverse.
fn hadamard(components: &mut [f64]) {
    let mut half = 1;
    while half < components.len() {
        for pair in components.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    #[expect(clippy::cast_precision_loss, reason = "dimensions are few")]
    let scale = (components.len() as f64).sqrt().recip();
    components.iter_mut().for_each(|x| *x *= scale);
}

/// Rounds once. A rotation keeps components valid, except for their last digits.
#[expect(clippy::cast_possible_truncation, reason = "this is the rounding")]
fn rounded(components: &[f64]) -> Protected {
    Protected(Encoding::rotated(Zeroizing::new(components.iter().map(|x| *x as f32).collect())))
}

/// The key stream.
struct Stream<'a> {
    key: &'a DataKey,
    counter: u64,
    block: Zeroizing<[u8; 32]>,
    used: usize,
}

impl Stream<'_> {
    fn round(&mut self, dimensions: usize) -> Round {
        let length = u32::try_from(dimensions).unwrap_or(u32::MAX);
        let mut from = Zeroizing::new((0..length).collect::<Vec<u32>>());
        for last in (1..length).rev() {
            from.swap(last as usize, self.below(last + 1) as usize);
        }
        let sign = |_| if self.next() & 1 == 0 { 1.0 } else { -1.0 };
        Round { from, signs: Zeroizing::new((0..dimensions).map(sign).collect()) }
    }

    /// A uniform number below `bound`.
    fn below(&mut self, bound: u32) -> u32 {
        // The largest multiple of `bound` that fits: larger values would favor small numbers.
        let fair = u32::MAX - u32::MAX % bound;
        loop {
            let number = self.next();
            if number < fair {
                return number % bound;
            }
        }
    }

    fn next(&mut self) -> u32 {
        if self.used == self.block.len() {
            let mut tag = self.key.tag(PURPOSE, &self.counter.to_le_bytes());
            self.block.copy_from_slice(&tag);
            tag.zeroize();
            self.counter += 1;
            self.used = 0;
        }
        let mut number = [0; 4];
        number.copy_from_slice(&self.block[self.used..self.used + 4]);
        self.used += 4;
        u32::from_le_bytes(number)
    }
}

#[cfg(test)]
mod tests;
