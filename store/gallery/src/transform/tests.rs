use gatehouse_model::{random, sha256};

use super::*;

fn key() -> DataKey {
    DataKey::from_secret(&random()).unwrap()
}

/// A fixed key, so that measurements are reproducible.
fn fixed_key(number: usize) -> DataKey {
    DataKey::from_secret(&sha256(&number.to_le_bytes())).unwrap()
}

/// Encodings around a common center, as of real models, `spread` apart.
fn faces(count: usize, dimensions: usize, spread: f32, random: &mut fastrand::Rng) -> Vec<Encoding> {
    let mut normal = || (0..12).map(|_| random.f32()).sum::<f32>() - 6.0;
    let centre: Vec<f32> = (0..dimensions).map(|_| normal() * 0.1).collect();
    (0..count)
        .map(|_| {
            let face = centre.iter().map(|c| c + normal() * spread / (2.0 * dimensions as f32).sqrt());
            Encoding::new(face.collect(), dimensions).unwrap()
        })
        .collect()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>().sqrt()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum() };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn assert_near(have: f64, want: f64, what: &str) {
    assert!((have - want).abs() <= 1e-4 * want, "{what}: {have} instead of {want}");
}

#[test]
fn distances_lengths_and_angles_stay_at_every_length() {
    let mut random = fastrand::Rng::with_seed(1);
    let lengths = (1..=70).chain([100, 127, 128, 129, 255, 300, 384, 511, 512, 513, 768, 1000, 1024]);
    for dimensions in lengths {
        let transform = Transform::of(&key(), dimensions);
        for spread in [0.02, 0.8, 30.0] {
            let faces = faces(6, dimensions, spread, &mut random);
            let templates: Vec<_> = faces.iter().map(|face| transform.protect(face).unwrap()).collect();
            for (a, b) in (0..6).flat_map(|a| (0..a).map(move |b| (a, b))) {
                let (x, y) = (faces[a].as_slice(), faces[b].as_slice());
                let (p, q) = (templates[a].as_slice(), templates[b].as_slice());
                // Below this, a distance is only rounding error, for encodings and templates alike.
                let what = format!("{dimensions} components, spread {spread}");
                if distance(x, y) > 1e-2 * distance(x, &vec![0.0; dimensions]) {
                    assert_near(distance(p, q), distance(x, y), &what);
                }
                assert!((cosine(p, q) - cosine(x, y)).abs() < 1e-6, "{what}");
            }
        }
    }
}

#[test]
fn a_template_converts_to_another_key_and_back() {
    let mut random = fastrand::Rng::with_seed(2);
    for dimensions in [1, 2, 3, 5, 128, 300, 512] {
        let transforms: Vec<_> = (0..20).map(|_| Transform::of(&key(), dimensions)).collect();
        let face = faces(1, dimensions, 0.8, &mut random).remove(0);
        let mut template = transforms[0].protect(&face).unwrap();
        for pair in transforms.windows(2) {
            template = pair[0].rekey(&template, &pair[1]).unwrap();
            let renewed = pair[1].protect(&face).unwrap();
            let length = distance(face.as_slice(), &vec![0.0; dimensions]);
            assert!(
                distance(template.as_slice(), renewed.as_slice()) < 1e-5 * length,
                "{dimensions} components"
            );
        }
    }
}

#[test]
fn one_key_gives_one_transform_for_ever() {
    let secret = [7; 32];
    let face = Encoding::new((1..=5_u8).map(f32::from).collect(), 5).unwrap();
    let protect = || Transform::of(&DataKey::from_secret(&secret).unwrap(), 5).protect(&face).unwrap();
    assert_eq!(protect(), protect());
    // Stored galleries depend on these values: if they change, PURPOSE must change as well.
    assert_eq!(protect().as_slice(), [1.9375, 1.15625, -2.15625, 6.71875, -0.34375]);
}

#[test]
fn every_component_of_a_template_depends_on_every_component_of_the_encoding() {
    for dimensions in [64, 96, 128, 129, 300, 512] {
        let transform = Transform::of(&fixed_key(dimensions), dimensions);
        for at in (0..dimensions).step_by(17) {
            let mut components = vec![0.0; dimensions];
            components[at] = 1.0;
            let template = transform.protect(&Encoding::new(components, dimensions).unwrap()).unwrap();
            let largest = template.as_slice().iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
            // A random rotation gives about 4 / sqrt(dimensions). A value of 1 would be a component that only
            // moved.
            assert!(largest < 0.75, "component {at} of {dimensions} stays together: {largest}");
        }
    }
}

#[test]
fn templates_of_one_face_in_two_deployments_look_like_those_of_two_faces() {
    const FACES: usize = 150;
    let mut random = fastrand::Rng::with_seed(3);
    let faces = faces(FACES, 128, 0.8, &mut random);
    let (here, there) = (Transform::of(&fixed_key(1), 128), Transform::of(&fixed_key(2), 128));
    let protect = |transform: &Transform| -> Vec<_> {
        faces.iter().map(|face| transform.protect(face).unwrap()).collect()
    };
    let (ours, theirs) = (protect(&here), protect(&there));
    let between = |a: usize, b: usize| distance(ours[a].as_slice(), theirs[b].as_slice());
    // How often the same face is nearer than another one: half of the time if nothing can be restored. The
    // norm of a face is equal in both spaces. This is a known property and must not affect distances.
    let (mut nearer, mut pairs) = (0, 0);
    for a in 0..FACES {
        for b in (0..FACES).filter(|b| *b != a) {
            nearer += usize::from(between(a, a) < between(a, b));
            pairs += 1;
        }
    }
    let share = nearer as f64 / f64::from(pairs);
    assert!((0.38..0.62).contains(&share), "the same face is nearer in {share} of the pairs");
    // No template is near to its own encoding.
    for (face, template) in faces.iter().zip(&ours) {
        let length = distance(face.as_slice(), &[0.0; 128]);
        assert!(distance(face.as_slice(), template.as_slice()) > length, "a template is near its encoding");
    }
}

#[test]
fn an_encoding_of_another_length_has_no_template() {
    let encoding = Encoding::new(vec![0.5; 4], 4).unwrap();
    let (four, five) = (Transform::of(&key(), 4), Transform::of(&key(), 5));
    assert!(five.protect(&encoding).is_none());
    assert!(four.rekey(&four.protect(&encoding).unwrap(), &five).is_none());
    assert_eq!(Transform::identity(4).protect(&encoding).unwrap().as_slice(), encoding.as_slice());
}
