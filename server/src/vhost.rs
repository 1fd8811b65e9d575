//! vhost-user-scsi: disks for virtual machines on this host, through memory that both share.
//!
//! A port is a Unix socket to which the monitor of one virtual machine connects (QEMU: `-device vhost-user-scsi-pci`). It
//! is a target of the framework like any other; the guest is an initiator by the name that the port was given, so that
//! views and host groups decide what it sees. Each port has a thread of its own.
//!
//! Ports are kept in the configuration (`lunette vhost create-port`) or given for one run of the server (`lunette serve
//! --vhost-user`). What a server can do with them takes the feature `vhost-user`; the configuration keeps them without.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a socket's path may have, by the system's `sockaddr_un`.
const LONGEST_PATH: usize = 107;

/// A socket for the monitor of a virtual machine, what it is called as a target, and what the guest behind it is called.
///
/// From text: `PATH`, then perhaps `,initiator=NAME` and `,target=NAME`, as `lunette serve --vhost-user` takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VhostPort {
    /// The port's name as a target, for target groups and lists: in the form of `iqn.`, `eui.`, `naa.` or `wwn.`; unique.
    pub target: String,
    /// Where the socket is made: an absolute path if it is kept in the configuration.
    pub path: PathBuf,
    /// The guest's initiator name, for host groups and reservations, in one of the same forms.
    pub initiator: String,
}

impl VhostPort {
    /// A port that is named after its socket: `iqn.2026-11.org.lunette:vhost.` and the file's name without its extension;
    /// its guest is `iqn.2026-11.org.lunette:guest.` and the same. Sockets of one file name in several directories need
    /// names of their own.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = |what: &str| format!("iqn.2026-11.org.lunette:{what}.{}", stem(&path));
        Self { target: name("vhost"), initiator: name("guest"), path }
    }

    /// Gives the target, the guest, or both another name.
    ///
    /// # Errors
    /// A name of another form.
    pub fn named(mut self, target: Option<&str>, initiator: Option<&str>) -> Result<Self, String> {
        let parse = |name: &str| stmf::DeviceName::parse(name).map(|name| name.as_str().to_owned());
        for (name, field) in [(target, &mut self.target), (initiator, &mut self.initiator)] {
            if let Some(name) = name {
                *field = parse(name).map_err(|error| error.to_string())?;
            }
        }
        Ok(self)
    }

    /// Whether there can be such a port.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn check(&self) -> Result<(), String> {
        use std::os::unix::ffi::OsStrExt;
        for name in [&self.target, &self.initiator] {
            if stmf::DeviceName::parse(name).is_ok_and(|parsed| parsed.as_str() == name) {
                continue;
            }
            return Err(format!("{name}: not a name in the form of iqn., eui., naa. or wwn."));
        }
        let length = self.path.as_os_str().as_bytes().len();
        if length > LONGEST_PATH {
            return Err(format!("the path of a socket has at most {LONGEST_PATH} bytes, this one has {length}"));
        }
        if stem(&self.path).is_empty() {
            return Err(NO_PATH.into());
        }
        Ok(())
    }
}

const NO_PATH: &str = "give the path of a socket, as in /run/lunette/vm1.sock";

/// The file's name without its extension, of letters, digits, `-` and `.`.
fn stem(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    stem.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

impl FromStr for VhostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let port = Self::new(parts.next().unwrap_or_default());
        let (mut initiator, mut target) = (None, None);
        for part in parts {
            match part.split_once('=') {
                Some(("initiator", name)) => initiator = Some(name),
                Some(("target", name)) => target = Some(name),
                _ => return Err("after the path there may be ',initiator=NAME' and ',target=NAME' only".into()),
            }
        }
        let port = port.named(target, initiator)?;
        port.check()?;
        Ok(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_named_after_its_socket() {
        let port: VhostPort = "/run/lunette/Web Server.sock".parse().unwrap();
        assert_eq!(port.target, "iqn.2026-11.org.lunette:vhost.web-server");
        assert_eq!(port.initiator, "iqn.2026-11.org.lunette:guest.web-server");
    }

    #[test]
    fn both_may_have_names_of_their_own() {
        let port: VhostPort =
            "/run/vm1.sock,initiator=WWN.210000e08b01f7e2,target=iqn.2026-11.org.example:VM1".parse().unwrap();
        assert_eq!(port.initiator, "wwn.210000E08B01F7E2");
        assert_eq!(port.target, "iqn.2026-11.org.example:vm1");
        for text in ["", "/run/vm1.sock,queues=4", "/run/vm1.sock,initiator=vm1", "/run/vm1.sock,target=vm1"] {
            assert!(text.parse::<VhostPort>().is_err(), "{text}");
        }
        assert!(format!("/run/{}.sock", "x".repeat(120)).parse::<VhostPort>().unwrap_err().contains("at most 107"));
    }
}
