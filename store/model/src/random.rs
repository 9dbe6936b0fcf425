//! Random bytes for keys, nonces and ids.

use ring::rand::SecureRandom;

/// Random bytes of the kernel.
///
/// # Panics
/// If the kernel provides none: a key or nonce that can be guessed would protect nothing.
pub fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    let filled = ring::rand::SystemRandom::new().fill(&mut out);
    assert!(filled.is_ok(), "the kernel provides no random bytes");
    out
}
