//! The control socket: a line is a request or it is none, and a request survives its own way over the wire.
#![no_main]

use gatehouse_control::types::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    if let Ok(request) = serde_json::from_slice::<Request>(line) {
        let sent = serde_json::to_vec(&request).expect("a request that was read can be written");
        assert!(!sent.contains(&b'\n'), "a request is one line");
        let again: Request = serde_json::from_slice(&sent).expect("what was written can be read");
        let twice = serde_json::to_vec(&again).expect("written twice");
        assert_eq!(sent, twice, "a request changes on its way");
    }
});
