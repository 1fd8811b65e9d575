//! Gives the shared library its name for the dynamic linker: major and minor version before 1.0, as cargo-c does.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // cargo-c passes a name of its own.
    let by_cargo_c = std::env::var_os("CARGO_FEATURE_CAPI").is_some();
    let linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    if linux && !by_cargo_c {
        let part = |name| std::env::var(name).unwrap_or_default();
        let (major, minor) = (part("CARGO_PKG_VERSION_MAJOR"), part("CARGO_PKG_VERSION_MINOR"));
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,liblunette.so.{major}.{minor}");
    }
}
