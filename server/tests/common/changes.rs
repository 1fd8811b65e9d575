//! A configuration, and the kinds of changes that can be made of it.

use super::Host;

/// A unit that is configured.
pub(crate) const OLD: &str = "600144f0000000000000000000000001";
/// One that is not, with data and an identity.
pub(crate) const NEW: &str = "600144f0000000000000000000000002";

/// The kinds of changes, each on the configuration of [`furnish`].
pub(crate) const CHANGES: [(&str, &str); 6] = [
    ("create-lu", "stmfadm create-lu -s 8M -p guid=600144f0000000000000000000000002 -p alias=fresh new"),
    ("add-view", "stmfadm add-view -h others -n 7 600144f0000000000000000000000001"),
    ("modify-lu", "stmfadm modify-lu -s 32M -p alias=grown -p wcd=true 600144f0000000000000000000000001"),
    ("add-member", "stmfadm add-hg-member -g hosts iqn.2026-11.org.example:c iqn.2026-11.org.example:d"),
    ("import", "lunette config import other.toml"),
    ("delete-lu", "stmfadm delete-lu 600144f0000000000000000000000001"),
];

/// A host with something of every kind.
pub(crate) fn furnish() -> Host {
    let host = Host::new();
    // An identity beside data that are in no configuration.
    host.lu("imported", NEW);
    host.silent(&format!("stmfadm delete-lu {NEW}"));
    host.lu("old", OLD);
    let lu = |guid: &str, file: &str| {
        format!("[[lu]]\nguid = \"{guid}\"\nfile = \"{}\"\n", host.path().join(file).display())
    };
    let first = format!(
        "[[host-group]]\nname = \"hosts\"\nmembers = [\"iqn.2026-11.org.example:a\", \"iqn.2026-11.org.example:b\"]\n\
         [[host-group]]\nname = \"others\"\n\
         [[portal-group]]\nname = \"2\"\nportals = [\"127.0.0.1:13260\"]\n\
         [[target]]\nname = \"iqn.2026-11.org.example:disks\"\n\
         [[initiator]]\nname = \"iqn.2026-11.org.example:a\"\n\
         {}[[view]]\nlu = \"{OLD}\"\nlun = 3\nhost-group = \"hosts\"\n",
        lu(OLD, "old")
    );
    // Something of every kind comes, changes and goes.
    let other = format!(
        "[[host-group]]\nname = \"hosts\"\nmembers = [\"iqn.2026-11.org.example:b\", \"iqn.2026-11.org.example:e\"]\n\
         [[target]]\nname = \"iqn.2026-11.org.example:moved\"\nalias = \"two\"\n\
         [[portal-group]]\nname = \"3\"\nportals = [\"127.0.0.1:13261\"]\n\
         [[initiator]]\nname = \"iqn.2026-11.org.example:e\"\n\
         {}[[view]]\nlu = \"{NEW}\"\nlun = 5\nhost-group = \"hosts\"\n",
        lu(NEW, "imported")
    );
    for (name, document) in [("first.toml", first), ("other.toml", other)] {
        std::fs::write(host.path().join(name), document).unwrap();
    }
    host.output("lunette config import first.toml");
    host
}
