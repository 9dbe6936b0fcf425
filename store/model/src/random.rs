//! Random bytes for keys, nonces and ids.

use ring::rand::SecureRandom;

/// Random bytes of the kernel.
///
/// # Panics
/// Where the kernel gives none: going on without would mean to seal with a key that anybody can guess.
pub fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    let filled = ring::rand::SystemRandom::new().fill(&mut out);
    assert!(filled.is_ok(), "the kernel gives no random bytes");
    out
}
