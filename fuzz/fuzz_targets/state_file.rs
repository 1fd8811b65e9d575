#![no_main]

libfuzzer_sys::fuzz_target!(
    init: {
        // The store catches redb's panics over a damaged file. Only a panic that gets out is a finding: tell of each, and
        // leave it to libFuzzer to end over those.
        std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    },
    |data: &[u8]| lunette_trials::fuzz_targets::run("state_file", data)
);
