//! The template for drivers works as it stands.

#[path = "../examples/template_driver.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod template;

#[test]
fn a_host_reads_and_writes_through_the_template() {
    let said = template::demonstrate().unwrap();
    assert_eq!(said, "wwn.2100000000000001 EX-16: online, one block written and read");
}
