#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lunette_trials::fuzz_targets::run("vhost_socket", data));
