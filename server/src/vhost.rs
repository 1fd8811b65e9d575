//! vhost-user-scsi: disks for virtual machines on this host, through memory that both share.
//!
//! A port is a Unix socket to which the monitor of one virtual machine connects (QEMU: `-device vhost-user-scsi-pci`). It
//! is a target of the framework like any other; the guest is an initiator by the name that the port was given, so that
//! views and host groups decide what it sees. Each port has a thread of its own.

use std::path::PathBuf;
use std::str::FromStr;

/// A socket for the monitor of a virtual machine, and what the guest behind it is called.
///
/// From text: `PATH` or `PATH,initiator=NAME`, as `lunette serve --vhost-user` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhostPort {
    /// Where the socket is made.
    pub path: PathBuf,
    /// The guest's initiator name, for host groups and reservations: `iqn.`, `eui.`, `naa.` or `wwn.`.
    pub initiator: String,
}

impl VhostPort {
    /// A port whose guest is named after the socket: `iqn.2026-11.org.lunette:guest.` and the file's name without its
    /// extension.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let initiator = format!("iqn.2026-11.org.lunette:guest.{}", stem(&path));
        Self { path, initiator }
    }

    /// The port's name as a target: `iqn.2026-11.org.lunette:vhost.` and the file's name without its extension.
    pub fn target(&self) -> String {
        format!("iqn.2026-11.org.lunette:vhost.{}", stem(&self.path))
    }
}

/// The file's name without its extension, of letters, digits, `-` and `.`.
fn stem(path: &std::path::Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    stem.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

impl FromStr for VhostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, rest) = text.split_once(',').map_or((text, None), |(path, rest)| (path, Some(rest)));
        if stem(std::path::Path::new(path)).is_empty() {
            return Err("give the path of a socket, as in /run/lunette/vm1.sock".into());
        }
        let mut port = Self::new(path);
        if let Some(rest) = rest {
            let name = rest.strip_prefix("initiator=").ok_or("after the path there may be ',initiator=NAME' only")?;
            port.initiator = stmf::DeviceName::parse(name).map_err(|error| error.to_string())?.as_str().to_owned();
        }
        Ok(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_named_after_its_socket() {
        let port: VhostPort = "/run/lunette/Web Server.sock".parse().unwrap();
        assert_eq!(port.target(), "iqn.2026-11.org.lunette:vhost.web-server");
        assert_eq!(port.initiator, "iqn.2026-11.org.lunette:guest.web-server");
    }

    #[test]
    fn the_guest_may_have_a_name_of_its_own() {
        let port: VhostPort = "/run/vm1.sock,initiator=WWN.210000e08b01f7e2".parse().unwrap();
        assert_eq!(port.initiator, "wwn.210000E08B01F7E2");
        for text in ["", "/run/vm1.sock,queues=4", "/run/vm1.sock,initiator=vm1"] {
            assert!(text.parse::<VhostPort>().is_err(), "{text}");
        }
    }
}
