//! Settings from anybody: faults, never a panic; and what was accepted explains itself.
#![no_main]

use gatehouse_config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Config::from_text(text) {
        Ok(config) => {
            for entry in config.entries() {
                assert!(config.source(&entry.key).is_some(), "a key without a source");
            }
        }
        Err(faults) => assert!(!faults.to_string().is_empty(), "a refusal without a word"),
    }
});
