//! The committed header is that of the source.

use std::path::Path;

#[test]
fn the_header_is_that_of_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is readable");
    let bindings = cbindgen::Builder::new().with_crate(root).with_config(config).generate().expect("the crate parses");
    let mut made = Vec::new();
    bindings.write(&mut made);
    let made = String::from_utf8(made).expect("C is text");
    let path = root.join("include/lunette.h");
    if std::env::var_os("LUNETTE_UPDATE_HEADER").is_some() {
        std::fs::write(&path, &made).expect("the header can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((number, (made, old))) =
        made.lines().zip(committed.lines().chain(std::iter::repeat(""))).enumerate().find(|(_, (a, b))| a != b)
    {
        panic!(
            "include/lunette.h, line {}, is\n    {old}\nand should be\n    {made}\nhint: cargo xtask header",
            number + 1
        );
    }
    assert_eq!(made.lines().count(), committed.lines().count(), "include/lunette.h has other lines at its end");
}
