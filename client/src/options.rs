//! Where a disk is and how to reach it: the URL, and what a URL cannot say.

use crate::error::UrlError;
use iscsi_proto::auth::chap::{Credentials, Secret};
use iscsi_proto::initiator::{LoginConfig, SessionConfig, TargetProof};
use iscsi_proto::login::{DigestPreference, Preferences};
use iscsi_proto::pdu::Isid;
use scsi_core::Lun;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The initiator name unless another is given. A host that has a name of its own should give it: persistent
/// reservations and access lists go by it.
pub const DEFAULT_INITIATOR_NAME: &str = "iqn.2026-11.org.lunette:client";

/// The registered port (RFC 7143 14).
const PORT: u16 = 3260;

const FORM: &str = "iscsi://[user%secret@]host[:port]/target/lun[?option=value&...]";

/// How to reach a disk. Made of a URL, and changed from there:
///
/// ```
/// use lunette_client::Options;
///
/// let mut options: Options = "iscsi://user%secret@[::1]:3260/iqn.2026-11.org.example:disk/3?data_digest=crc32c".parse()?;
/// assert_eq!((options.host.as_str(), options.port, options.lun), ("::1", 3260, 3));
/// options.initiator_name = "iqn.2026-11.org.example:host-7".into();
/// # Ok::<(), lunette_client::UrlError>(())
/// ```
///
/// The URL is that of libiscsi and QEMU: `iscsi://[user%secret@]host[:port]/target/lun`, and behind a `?` any of
///
/// | option | meaning |
/// |---|---|
/// | `target_user`, `target_password` | the target has to prove itself by this name and secret (mutual CHAP) |
/// | `header_digest`, `data_digest` | `crc32c`: nothing without it; `none`: never; the target's choice by default |
/// | `initiator` | the initiator name |
/// | `reconnect` | seconds to try again after a lost connection, or `off` |
/// | `timeout` | seconds a command may take, 0 for ever |
///
/// Name and secret end at the first `%` and the last `@`; nothing is percent-encoded, as with libiscsi.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Name or address of the host, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The target's iSCSI name; `None` for discovery.
    pub target: Option<String>,
    /// The LUN, 0 to 16383.
    pub lun: u16,
    /// Our iSCSI name.
    pub initiator_name: String,
    /// Our part of the session's name; `None` takes a random one. Two sessions of one initiator name and ISID at one
    /// target end each other.
    pub isid: Option<Isid>,
    /// What we prove ourselves with, if the target asks.
    pub credentials: Option<Credentials>,
    /// What the target has to prove itself with. Its secret must differ from ours.
    pub target_credentials: Option<Credentials>,
    /// What is offered in the negotiation: digests, burst lengths and so on.
    pub preferences: Preferences,
    /// How long a TCP connection may take to be made.
    pub connect_timeout: Duration,
    /// How long the login may take.
    pub login_timeout: Duration,
    /// How long a command may take, waiting for a connection included; zero for ever.
    pub command_timeout: Duration,
    /// How long to try to connect again after the connection was lost; zero never does.
    pub reconnect_timeout: Duration,
    /// How long a connection may be silent before it is pinged, and a ping unanswered; zero never pings.
    pub ping_interval: Duration,
    /// Commands that are sent at once; further ones wait.
    pub max_outstanding: usize,
}

impl Options {
    /// The defaults for a disk.
    pub fn new(host: impl Into<String>, target: impl Into<String>, lun: u16) -> Self {
        Self {
            host: host.into(),
            port: PORT,
            target: Some(target.into()),
            lun,
            initiator_name: DEFAULT_INITIATOR_NAME.into(),
            isid: None,
            credentials: None,
            target_credentials: None,
            preferences: Preferences::default(),
            connect_timeout: Duration::from_secs(10),
            login_timeout: Duration::from_secs(15),
            command_timeout: Duration::from_secs(60),
            reconnect_timeout: Duration::from_secs(120),
            ping_interval: Duration::from_secs(5),
            max_outstanding: 128,
        }
    }

    /// The options for the discovery of the targets at a portal: `iscsi://[user%secret@]host[:port][/][?...]`.
    ///
    /// # Errors
    /// [`UrlError`] says what is wrong.
    pub fn discovery(url: &str) -> Result<Self, UrlError> {
        parse(url, true)
    }

    /// With credentials: what we prove ourselves with.
    #[must_use]
    pub fn with_credentials(mut self, name: impl Into<String>, secret: impl Into<Vec<u8>>) -> Self {
        self.credentials = Some(Credentials { name: name.into(), secret: Secret::new(secret) });
        self
    }

    /// With these wishes for both digests.
    #[must_use]
    pub fn with_digests(mut self, digests: DigestPreference) -> Self {
        (self.preferences.header_digest, self.preferences.data_digest) = (digests, digests);
        self
    }

    pub(crate) fn lun_field(&self) -> Lun {
        Lun::new(self.lun).unwrap_or(Lun::ZERO)
    }

    pub(crate) fn address(&self) -> Address {
        Address { host: self.host.clone(), port: self.port }
    }

    /// A session's configuration, with a challenge for the target that was never used before.
    pub(crate) fn session_config(&self, isid: Isid) -> std::io::Result<SessionConfig> {
        let mut login = LoginConfig::new(&self.initiator_name, self.target.as_deref(), isid);
        login.credentials = self.credentials.clone();
        login.preferences = self.preferences;
        if let Some(credentials) = &self.target_credentials {
            let mut random = [0; 33];
            getrandom::fill(&mut random).map_err(|error| std::io::Error::other(error.to_string()))?;
            login.target_proof = Some(TargetProof {
                credentials: credentials.clone(),
                identifier: random[32],
                challenge: random[..32].to_vec(),
            });
        }
        let mut config = SessionConfig::new(login);
        config.login_timeout = self.login_timeout;
        config.ping_interval = self.ping_interval;
        config.ping_timeout = self.ping_interval.max(Duration::from_secs(1));
        // Room for task management and pings beside the commands.
        config.max_outstanding = self.max_outstanding.saturating_add(64);
        Ok(config)
    }
}

impl FromStr for Options {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        parse(url, false)
    }
}

/// The URL without secrets.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "iscsi://{}", self.address())?;
        match &self.target {
            Some(target) => write!(f, "/{target}/{}", self.lun),
            None => Ok(()),
        }
    }
}

/// Host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`, and behind a comma a portal group tag that does not matter.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.split(',').next().unwrap_or_default();
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or("the address has no closing bracket")?;
                (host, rest.strip_prefix(':'))
            }
            None => match text.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => {
                    return Err("an IPv6 address stands in brackets, [::1]".into());
                }
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if host.is_empty() {
            return Err("the host is missing".into());
        }
        let port = match port {
            Some(port) => port.parse().map_err(|_| format!("'{port}' is no port"))?,
            None => PORT,
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn parse(url: &str, discovery: bool) -> Result<Options, UrlError> {
    let wanted = if discovery { "a portal" } else { "a disk" };
    parse_parts(url, discovery).map_err(|reason| UrlError { url: without_secrets(url), wanted, reason })
}

fn parse_parts(url: &str, discovery: bool) -> Result<Options, String> {
    let rest = url.strip_prefix("iscsi://").ok_or_else(|| format!("the form is {FORM}"))?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, rest),
    };
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = Address::parse(address)?;
    let mut options = Options::new(address.host, "", 0);
    options.port = address.port;
    if let Some(user) = user {
        let (name, secret) = user.split_once('%').ok_or("the secret stands behind a '%': user%secret@host")?;
        options = options.with_credentials(name, secret);
    }
    if discovery {
        if !path.is_empty() {
            return Err(format!("'{path}' names a target, and discovery asks for all of them"));
        }
        options.target = None;
    } else {
        let (target, lun) = path.split_once('/').ok_or_else(|| format!("the form is {FORM}"))?;
        if target.is_empty() {
            return Err("the target's name is missing".into());
        }
        options.target = Some(target.to_owned());
        options.lun = lun
            .parse()
            .ok()
            .filter(|&lun| lun <= Lun::MAX_NUMBER)
            .ok_or_else(|| format!("'{lun}' is no LUN, 0 to {} are", Lun::MAX_NUMBER))?;
    }
    parse_query(query, &mut options)?;
    Ok(options)
}

fn parse_query(query: &str, options: &mut Options) -> Result<(), String> {
    let (mut user, mut password) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| format!("'{pair}' has no '='"))?;
        let seconds = |off: &str| match value {
            value if value == off => Ok(Duration::ZERO),
            value => value.parse().map(Duration::from_secs).map_err(|_| format!("{name}: '{value}' is no number")),
        };
        match name {
            "target_user" => user = Some(value.to_owned()),
            "target_password" => password = Some(value.to_owned()),
            "header_digest" => options.preferences.header_digest = digest(name, value)?,
            "data_digest" => options.preferences.data_digest = digest(name, value)?,
            "initiator" => options.initiator_name = value.to_owned(),
            "reconnect" => options.reconnect_timeout = seconds("off")?,
            "timeout" => options.command_timeout = seconds("off")?,
            _ => {
                return Err(format!(
                    "no option '{name}'; there are target_user, target_password, header_digest, data_digest, \
                     initiator, reconnect, timeout"
                ));
            }
        }
    }
    match (user, password) {
        (None, None) => {}
        (name, Some(password)) if options.credentials.is_some() => {
            let name = name.unwrap_or_default();
            options.target_credentials = Some(Credentials { name, secret: Secret::new(password) });
        }
        (_, Some(_)) => return Err("target_password needs user%secret@ too: the target proves itself second".into()),
        (Some(_), None) => return Err("target_user needs target_password".into()),
    }
    Ok(())
}

fn digest(name: &str, value: &str) -> Result<DigestPreference, String> {
    match value {
        "crc32c" | "CRC32C" => Ok(DigestPreference::Require),
        "none" | "None" => Ok(DigestPreference::Refuse),
        _ => Err(format!("{name} is crc32c or none, not '{value}'")),
    }
}

/// For messages: what may be a secret is left out.
fn without_secrets(url: &str) -> String {
    let (front, query) = url.split_once('?').unwrap_or((url, ""));
    let front = match (front.strip_prefix("iscsi://"), front.rsplit_once('@')) {
        (Some(_), Some((_, rest))) => format!("iscsi://...@{rest}"),
        _ => front.to_owned(),
    };
    let query: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some(("target_password", _)) => "target_password=...".to_owned(),
            _ => pair.to_owned(),
        })
        .collect();
    if query.concat().is_empty() { front } else { format!("{front}?{}", query.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> Options {
        url.parse().unwrap()
    }

    #[test]
    fn every_part_of_a_url_is_read() {
        let options = options(
            "iscsi://me%s%cr@t@host:861/iqn.x/7?target_user=it&target_password=other&header_digest=crc32c&\
             data_digest=none&initiator=iqn.me&reconnect=off&timeout=5",
        );
        assert_eq!((options.host.as_str(), options.port, options.lun), ("host", 861, 7));
        assert_eq!(options.target.as_deref(), Some("iqn.x"));
        let ours = options.credentials.unwrap();
        assert_eq!((ours.name.as_str(), ours.secret.as_bytes()), ("me", &b"s%cr@t"[..]));
        let theirs = options.target_credentials.unwrap();
        assert_eq!((theirs.name.as_str(), theirs.secret.as_bytes()), ("it", &b"other"[..]));
        assert_eq!(options.preferences.header_digest, DigestPreference::Require);
        assert_eq!(options.preferences.data_digest, DigestPreference::Refuse);
        assert_eq!(options.initiator_name, "iqn.me");
        assert_eq!((options.reconnect_timeout, options.command_timeout), (Duration::ZERO, Duration::from_secs(5)));
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        let given = options("iscsi://[fe80::1]/iqn.x/0");
        assert_eq!((given.host.as_str(), given.port), ("fe80::1", 3260));
        assert_eq!(given.to_string(), "iscsi://[fe80::1]:3260/iqn.x/0");
        let error = "iscsi://fe80::1/iqn.x/0".parse::<Options>().unwrap_err();
        assert!(error.to_string().contains("brackets"), "{error}");
    }

    #[test]
    fn a_wrong_url_says_what_is_wrong_and_no_secret() {
        for (url, word) in [
            ("http://host/iqn.x/0", "the form is"),
            ("iscsi://host", "the form is"),
            ("iscsi:///iqn.x/0", "host is missing"),
            ("iscsi://host/iqn.x/16384", "is no LUN"),
            ("iscsi://user@host/iqn.x/0", "behind a '%'"),
            ("iscsi://host:port/iqn.x/0", "is no port"),
            ("iscsi://u%hunter2@host/iqn.x/0?colour=red", "no option 'colour'"),
            ("iscsi://u%hunter2@host/iqn.x/0?target_password=hunter2&target_user", "has no '='"),
            ("iscsi://host/iqn.x/0?target_password=hunter2", "needs user%secret@"),
        ] {
            let error = url.parse::<Options>().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn discovery_takes_a_portal_alone() {
        assert_eq!(Options::discovery("iscsi://host:1/").unwrap().target, None);
        assert!(Options::discovery("iscsi://host/iqn.x/0").is_err());
    }
}
