//! The properties of `create-lu` and `modify-lu`: names, formats and COMSTAR's words when they are wrong.

use scsi_core::{Guid, GuidHost};
use std::path::{Path, PathBuf};

use crate::meta::Identity;
use crate::rates::{IoLimits, MAX_BANDWIDTH, MAX_IOPS};

/// Block sizes go up to this, in bytes.
pub const MAX_BLOCK_SIZE: u32 = 32768;
/// The block size unless `blk` is given, in bytes.
pub const DEFAULT_BLOCK_SIZE: u32 = 512;
/// The smallest logical unit, in bytes.
pub const MIN_SIZE: u64 = 1 << 20;
/// INQUIRY vendor unless `vid` is given.
pub const DEFAULT_VENDOR: &str = "LUNETTE";
/// INQUIRY product unless `pid` is given.
pub const DEFAULT_PRODUCT: &str = "VIRTUAL DISK";
/// INQUIRY revision.
pub const DEFAULT_REVISION: &str = "1.0";

const MAX_ALIAS: usize = 255;
const MAX_MANAGEMENT_URLS: usize = 1024;
const MAX_PATH: usize = 1024;
const MAX_PRODUCT: usize = 16;
const MAX_SERIAL: usize = 252;
const MAX_VENDOR: usize = 8;

/// Why properties were refused. The text is what `stmfadm` prints behind its name, word for word;
/// [`hint`](Self::hint) says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PropertyError {
    /// Not of the form `prop=val`.
    #[error("{0}: invalid property specifier - prop=val")]
    Specifier(String),
    /// There is no such property.
    #[error("invalid property specified: {0}")]
    Unknown(String),
    /// The value is too long or too short.
    #[error("unable to set {0}: invalid length")]
    Length(&'static str),
    /// The value is no number, no hexadecimal digits, not `true` or `false`, or not printable.
    #[error("unable to set {0}: bad format")]
    Format(&'static str),
    /// The property can only be given when the unit is created.
    #[error("invalid property for modify")]
    NotModifiable(&'static str),
    /// The argument of `-s` is no size.
    #[error("s: size param invalid")]
    SizeParameter,
    /// The block size is no power of two or out of range.
    #[error("invalid block size")]
    BlockSize,
    /// The size given is too small or no multiple of the block size.
    #[error("invalid size")]
    Size,
    /// The backing file's own length makes no unit.
    #[error("file size invalid")]
    FileSize,
}

impl PropertyError {
    /// What is wanted instead.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Specifier(_) => "write it as name=value",
            Self::Unknown(_) => {
                "the properties are alias, bandwidth-burst, bandwidth-limit, blk, guid, host-id, iops-burst, iops-limit, meta, mgmt-url, oui, pid, removable, serial, thin, vid, wcd and wp"
            }
            Self::Length("guid") => "a guid has 32 hexadecimal digits",
            Self::Length("host-id") => "a host-id has 8 hexadecimal digits",
            Self::Length("oui") => "an oui has 6 hexadecimal digits",
            Self::Length("alias") => "an alias has at most 255 bytes",
            Self::Length("mgmt-url") => "management URLs have at most 1024 bytes together",
            Self::Length("pid") => "a product has 1 to 16 characters",
            Self::Length("vid") => "a vendor has 1 to 8 characters",
            Self::Length("serial") => "a serial number has at most 252 characters",
            Self::Length(_) => "give at most 1024 bytes",
            Self::Format("guid") => "a guid has 32 hexadecimal digits, the first a 6",
            Self::Format("removable" | "thin" | "wcd" | "wp") => "say true or false",
            Self::Format("iops-limit" | "iops-burst") => {
                "give a number of operations from 1 to 1000000000, or none: iops-limit=5000 iops-burst=500"
            }
            Self::Format("bandwidth-limit") => "give bytes a second, at least 1K, or none: bandwidth-limit=100M",
            Self::Format("bandwidth-burst") => "give bytes, or none: bandwidth-burst=16M",
            Self::Format("blk") => "give the block size in bytes, such as 512 or 4096",
            Self::Format("pid" | "vid" | "serial") => "use printable ASCII characters",
            Self::Format(_) => "use hexadecimal digits only",
            Self::NotModifiable(_) => {
                "of an existing LU only alias, bandwidth-burst, bandwidth-limit, iops-burst, iops-limit, mgmt-url, wcd, wp and the size (-s) can be changed"
            }
            Self::SizeParameter => "give a number and perhaps a unit: 2097152K, 1.5G, 16T",
            Self::BlockSize => "the block size is a power of two from 512 to 32768",
            Self::Size => "the size is at least 1M and a multiple of the block size",
            Self::FileSize => "give a size (-s), or a file of at least 1 MiB",
        }
    }
}

/// What a logical unit is to be like; everything not given has a default.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CreateProperties {
    /// Text for people, up to 255 bytes; default: the path of the data file, or of the metadata file if `meta` is
    /// given.
    pub alias: Option<String>,
    /// Logical block size in bytes, a power of two, 512 to 32768.
    pub block_size: Option<u32>,
    /// The name; default: generated.
    pub guid: Option<Guid>,
    /// What it does in a second at most.
    pub io_limits: LimitChanges,
    /// Goes into a generated name in place of the network address.
    pub host_id: Option<u32>,
    /// Where to keep the identity record instead of beside the data.
    pub meta: Option<PathBuf>,
    /// Management URLs, up to 1024 bytes together with the spaces between them.
    pub management_urls: Vec<String>,
    /// Company identifier for a generated name, 24 bits.
    pub oui: Option<u32>,
    /// INQUIRY product, up to 16 characters.
    pub product: Option<String>,
    /// The medium can be ejected and loaded, as that of a removable disk.
    pub removable: Option<bool>,
    /// Unit serial number, up to 252 characters.
    pub serial: Option<String>,
    /// Space is given back by UNMAP if the store can (the default); false makes a fully provisioned unit.
    pub thin: Option<bool>,
    /// INQUIRY vendor, up to 8 characters.
    pub vendor: Option<String>,
    /// Size in bytes; default: that of the backing store.
    pub size: Option<u64>,
    /// Every write is durable before GOOD.
    pub write_cache_disabled: Option<bool>,
    /// Writes are refused.
    pub write_protect: Option<bool>,
}

impl CreateProperties {
    /// Reads the `prop=val` arguments of `-p` and the argument of `-s`.
    ///
    /// # Errors
    /// The first property that is wrong.
    pub fn parse<'a>(properties: impl IntoIterator<Item = &'a str>, size: Option<&str>) -> Result<Self, PropertyError> {
        let mut parsed = Self::default();
        for property in properties {
            let (name, value) = split(property)?;
            parsed.set(name, value)?;
        }
        parsed.size = size.map(parse_size).transpose()?;
        Ok(parsed)
    }

    /// Sets the property `name` (in any case).
    ///
    /// # Errors
    /// There is no such property, or the value is wrong.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), PropertyError> {
        match known(name)? {
            "alias" => self.alias = Some(text("alias", value, 0..=MAX_ALIAS)?),
            "blk" => self.block_size = Some(block_size(value)?),
            "guid" => self.guid = Some(guid(value)?),
            "host-id" => self.host_id = Some(hexadecimal("host-id", value, 8)?),
            "meta" => self.meta = Some(text("meta", value, 1..=MAX_PATH)?.into()),
            "mgmt-url" => self.management_urls = urls(value)?,
            "oui" => self.oui = Some(hexadecimal("oui", value, 6)?),
            "pid" => self.product = Some(ascii("pid", value, 1..=MAX_PRODUCT)?),
            "removable" => self.removable = Some(boolean("removable", value)?),
            "serial" => self.serial = Some(ascii("serial", value, 1..=MAX_SERIAL)?),
            "thin" => self.thin = Some(boolean("thin", value)?),
            "vid" => self.vendor = Some(ascii("vid", value, 1..=MAX_VENDOR)?),
            "wcd" => self.write_cache_disabled = Some(boolean("wcd", value)?),
            "wp" => self.write_protect = Some(boolean("wp", value)?),
            limit => self.io_limits.set(limit, value)?,
        }
        Ok(())
    }

    /// The name: the one given, or one made of `oui`, `host-id` and what the host offers.
    pub fn guid(&self, host: GuidHost, unix_seconds: u32, counter: u16) -> Guid {
        self.guid.unwrap_or_else(|| {
            let host = self.host_id.map_or(host, GuidHost::HostId);
            Guid::generate(self.oui.unwrap_or(Guid::DEFAULT_OUI), host, unix_seconds, counter)
        })
    }

    /// The identity of a new unit over the data at `path`, whose store has `backing_size` bytes now.
    ///
    /// Without a size, what does not fill a block at the end of the store is left out.
    ///
    /// # Errors
    /// [`PropertyError::Size`], [`PropertyError::FileSize`] and [`PropertyError::BlockSize`].
    pub fn identity(&self, guid: Guid, path: &Path, backing_size: u64) -> Result<Identity, PropertyError> {
        let block_size = self.block_size.unwrap_or(DEFAULT_BLOCK_SIZE);
        check_block_size(block_size)?;
        let size = match self.size {
            Some(size) => check_size(size, block_size)?,
            None => {
                let size = backing_size / u64::from(block_size) * u64::from(block_size);
                check_size(size, block_size).map_err(|_| PropertyError::FileSize)?
            }
        };
        let named = |path: &Path| path.display().to_string();
        Ok(Identity {
            guid,
            vendor: self.vendor.clone().unwrap_or_else(|| DEFAULT_VENDOR.into()),
            product: self.product.clone().unwrap_or_else(|| DEFAULT_PRODUCT.into()),
            revision: DEFAULT_REVISION.into(),
            serial: self.serial.clone(),
            alias: self.alias.clone().unwrap_or_else(|| named(self.meta.as_deref().unwrap_or(path))),
            block_size,
            size,
            write_protect: self.write_protect.unwrap_or(false),
            write_cache_disabled: self.write_cache_disabled.unwrap_or(false),
            management_urls: self.management_urls.clone(),
            data: self.meta.is_some().then(|| path.to_owned()),
            removable: self.removable.unwrap_or(false),
            thick: !self.thin.unwrap_or(true),
            io_limits: self.io_limits.applied_to(IoLimits::default()),
            device_information: Vec::new(),
            text_information: String::new(),
            mode_pages: Vec::new(),
            reservations: Vec::new(),
            unfinished: None,
        })
    }
}

/// What to change of a logical unit; what is `None` stays.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ModifyProperties {
    /// Text for people.
    pub alias: Option<String>,
    /// What it does in a second at most.
    pub io_limits: LimitChanges,
    /// Management URLs; an empty list removes them.
    pub management_urls: Option<Vec<String>>,
    /// New size in bytes.
    pub size: Option<u64>,
    /// Every write is durable before GOOD.
    pub write_cache_disabled: Option<bool>,
    /// Writes are refused.
    pub write_protect: Option<bool>,
}

impl ModifyProperties {
    /// Reads the `prop=val` arguments of `-p` and the argument of `-s`.
    ///
    /// # Errors
    /// The first property that is wrong.
    pub fn parse<'a>(properties: impl IntoIterator<Item = &'a str>, size: Option<&str>) -> Result<Self, PropertyError> {
        let mut parsed = Self::default();
        for property in properties {
            let (name, value) = split(property)?;
            parsed.set(name, value)?;
        }
        parsed.size = size.map(parse_size).transpose()?;
        Ok(parsed)
    }

    /// Sets the property `name` (in any case).
    ///
    /// # Errors
    /// There is no such property, it cannot be changed, or the value is wrong.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), PropertyError> {
        match known(name)? {
            "alias" => self.alias = Some(text("alias", value, 0..=MAX_ALIAS)?),
            "mgmt-url" => self.management_urls = Some(urls(value)?),
            "wcd" => self.write_cache_disabled = Some(boolean("wcd", value)?),
            "wp" => self.write_protect = Some(boolean("wp", value)?),
            limit if limit.ends_with("-limit") || limit.ends_with("-burst") => self.io_limits.set(limit, value)?,
            other => return Err(PropertyError::NotModifiable(other)),
        }
        Ok(())
    }

    /// Applies the change to an identity.
    ///
    /// # Errors
    /// [`PropertyError::Size`]; the identity is unchanged then.
    pub fn apply(&self, identity: &mut Identity) -> Result<(), PropertyError> {
        if let Some(size) = self.size {
            identity.size = check_size(size, identity.block_size)?;
        }
        if let Some(alias) = &self.alias {
            identity.alias.clone_from(alias);
        }
        if let Some(urls) = &self.management_urls {
            identity.management_urls.clone_from(urls);
        }
        identity.io_limits = self.io_limits.applied_to(identity.io_limits);
        identity.write_cache_disabled = self.write_cache_disabled.unwrap_or(identity.write_cache_disabled);
        identity.write_protect = self.write_protect.unwrap_or(identity.write_protect);
        Ok(())
    }
}

/// Changes of a unit's [`IoLimits`]: what is `None` stays, what is `Some(None)` is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LimitChanges {
    /// Operations in a second.
    pub iops: Option<Option<u64>>,
    /// Operations that may go at once.
    pub iops_burst: Option<Option<u64>>,
    /// Bytes in a second.
    pub bandwidth: Option<Option<u64>>,
    /// Bytes that may go at once.
    pub bandwidth_burst: Option<Option<u64>>,
}

impl LimitChanges {
    fn set(&mut self, name: &'static str, value: &str) -> Result<(), PropertyError> {
        match name {
            "iops-limit" => self.iops = Some(limit(name, value, 1..=MAX_IOPS)?),
            "iops-burst" => self.iops_burst = Some(limit(name, value, 1..=MAX_IOPS)?),
            "bandwidth-limit" => self.bandwidth = Some(limit(name, value, 1024..=MAX_BANDWIDTH)?),
            _ => self.bandwidth_burst = Some(limit("bandwidth-burst", value, 1..=MAX_BANDWIDTH)?),
        }
        Ok(())
    }

    /// The limits as they are then.
    #[must_use]
    pub fn applied_to(&self, limits: IoLimits) -> IoLimits {
        IoLimits {
            iops: self.iops.unwrap_or(limits.iops),
            iops_burst: self.iops_burst.unwrap_or(limits.iops_burst),
            bandwidth: self.bandwidth.unwrap_or(limits.bandwidth),
            bandwidth_burst: self.bandwidth_burst.unwrap_or(limits.bandwidth_burst),
        }
    }
}

/// Bytes from a size as administrators write it: a number, perhaps with a fraction, perhaps with a unit of which the
/// first letter counts (B, K, M, G, T, P, E in either case, powers of 1024).
///
/// # Errors
/// [`PropertyError::SizeParameter`], also for what 64 bits cannot hold.
pub fn parse_size(text: &str) -> Result<u64, PropertyError> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.bytes().next().map(|letter| letter.to_ascii_uppercase()) {
        None | Some(b'B') => 0,
        Some(b'K') => 10,
        Some(b'M') => 20,
        Some(b'G') => 30,
        Some(b'T') => 40,
        Some(b'P') => 50,
        Some(b'E') => 60,
        Some(_) => return Err(PropertyError::SizeParameter),
    };
    if !unit.bytes().all(|letter| letter.is_ascii_alphabetic()) {
        return Err(PropertyError::SizeParameter);
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = whole.len() + fraction.len();
    if digits == 0 || fraction.len() > 18 {
        return Err(PropertyError::SizeParameter);
    }
    let parse = |digits: &str| match digits {
        "" => Ok(0),
        digits => digits.parse::<u64>().map(u128::from).map_err(|_| PropertyError::SizeParameter),
    };
    let fraction = (parse(fraction)? << shift) / 10u128.pow(fraction.len() as u32);
    let bytes = parse(whole)?.checked_mul(1 << shift).ok_or(PropertyError::SizeParameter)? + fraction;
    u64::try_from(bytes).map_err(|_| PropertyError::SizeParameter)
}

/// Checks the size of a unit.
///
/// # Errors
/// [`PropertyError::Size`] below 1 MiB, above 2^63 bytes, or if it is no multiple of the block size.
pub fn check_size(size: u64, block_size: u32) -> Result<u64, PropertyError> {
    if !(MIN_SIZE..=1 << 63).contains(&size) || !size.is_multiple_of(u64::from(block_size)) {
        return Err(PropertyError::Size);
    }
    Ok(size)
}

/// Checks a logical block size.
///
/// # Errors
/// [`PropertyError::BlockSize`] unless it is a power of two from 512 to 32768.
pub fn check_block_size(block_size: u32) -> Result<(), PropertyError> {
    if block_size.is_power_of_two() && (512..=MAX_BLOCK_SIZE).contains(&block_size) {
        Ok(())
    } else {
        Err(PropertyError::BlockSize)
    }
}

/// Checks limits that were kept.
///
/// # Errors
/// [`PropertyError::Format`] of the property that is out of range.
pub fn check_limits(limits: IoLimits) -> Result<IoLimits, PropertyError> {
    for (name, value, range) in [
        ("iops-limit", limits.iops, 1..=MAX_IOPS),
        ("iops-burst", limits.iops_burst, 1..=MAX_IOPS),
        ("bandwidth-limit", limits.bandwidth, 1024..=MAX_BANDWIDTH),
        ("bandwidth-burst", limits.bandwidth_burst, 1..=MAX_BANDWIDTH),
    ] {
        if value.is_some_and(|value| !range.contains(&value)) {
            return Err(PropertyError::Format(name));
        }
    }
    Ok(limits)
}

/// A number of operations, or a size, in a range; `none` for none.
fn limit(name: &'static str, value: &str, range: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, PropertyError> {
    if value.eq_ignore_ascii_case("none") {
        return Ok(None);
    }
    let number = if name.starts_with("iops") { value.parse().ok() } else { parse_size(value).ok() };
    number.filter(|number| range.contains(number)).map(Some).ok_or(PropertyError::Format(name))
}

fn split(property: &str) -> Result<(&str, &str), PropertyError> {
    property.split_once('=').ok_or_else(|| PropertyError::Specifier(property.into()))
}

fn known(name: &str) -> Result<&'static str, PropertyError> {
    const NAMES: [&str; 18] = [
        "alias",
        "bandwidth-burst",
        "bandwidth-limit",
        "blk",
        "guid",
        "host-id",
        "iops-burst",
        "iops-limit",
        "meta",
        "mgmt-url",
        "oui",
        "pid",
        "removable",
        "serial",
        "thin",
        "vid",
        "wcd",
        "wp",
    ];
    let found = NAMES.into_iter().find(|known| known.eq_ignore_ascii_case(name));
    found.ok_or_else(|| PropertyError::Unknown(name.into()))
}

fn text(name: &'static str, value: &str, length: std::ops::RangeInclusive<usize>) -> Result<String, PropertyError> {
    if length.contains(&value.len()) { Ok(value.into()) } else { Err(PropertyError::Length(name)) }
}

fn ascii(name: &'static str, value: &str, length: std::ops::RangeInclusive<usize>) -> Result<String, PropertyError> {
    if !value.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) {
        return Err(PropertyError::Format(name));
    }
    text(name, value, length)
}

fn urls(value: &str) -> Result<Vec<String>, PropertyError> {
    let value = text("mgmt-url", value, 0..=MAX_MANAGEMENT_URLS)?;
    Ok(value.split_whitespace().map(str::to_owned).collect())
}

fn boolean(name: &'static str, value: &str) -> Result<bool, PropertyError> {
    match () {
        () if value.eq_ignore_ascii_case("true") => Ok(true),
        () if value.eq_ignore_ascii_case("false") => Ok(false),
        () => Err(PropertyError::Format(name)),
    }
}

fn hexadecimal(name: &'static str, value: &str, digits: usize) -> Result<u32, PropertyError> {
    if value.len() != digits {
        return Err(PropertyError::Length(name));
    }
    if !value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(PropertyError::Format(name));
    }
    u32::from_str_radix(value, 16).map_err(|_| PropertyError::Format(name))
}

fn guid(value: &str) -> Result<Guid, PropertyError> {
    if value.len() != 32 {
        return Err(PropertyError::Length("guid"));
    }
    value.parse().map_err(|_| PropertyError::Format("guid"))
}

fn block_size(value: &str) -> Result<u32, PropertyError> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PropertyError::Format("blk"));
    }
    let size = value.parse().map_err(|_| PropertyError::BlockSize)?;
    check_block_size(size)?;
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_administrators_write_them() {
        for (text, bytes) in [
            ("1048576", 1 << 20),
            ("2097152K", 1 << 31),
            ("1.5G", 3 << 29),
            ("16g", 1 << 34),
            ("10GB", 10 << 30),
            (".5t", 1 << 39),
            ("7b", 7),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", ".", "1.2.3", "-1G", "1 G", "1x", "16E", "99999999999999999999", "1K5"] {
            assert_eq!(parse_size(text), Err(PropertyError::SizeParameter), "{text}");
        }
    }

    #[test]
    fn wrong_properties_are_refused_in_comstars_words() {
        let refuse = |property| CreateProperties::parse([property], None).unwrap_err().to_string();
        assert_eq!(refuse("wcd"), "wcd: invalid property specifier - prop=val");
        assert_eq!(refuse("color=red"), "invalid property specified: color");
        assert_eq!(refuse("vid=TOOLONGNAME"), "unable to set vid: invalid length");
        assert_eq!(refuse("wp=yes"), "unable to set wp: bad format");
        assert_eq!(refuse("blk=1000"), "invalid block size");
        assert_eq!(refuse("blk=0"), "invalid block size");
        assert_eq!(refuse("blk=4k"), "unable to set blk: bad format");
        assert_eq!(refuse("guid=600144f0"), "unable to set guid: invalid length");
        assert_eq!(refuse("guid=100144f07ed404000000496813070001"), "unable to set guid: bad format");
        assert_eq!(refuse("oui=00144"), "unable to set oui: invalid length");
        assert_eq!(ModifyProperties::parse(["blk=512"], None).unwrap_err().to_string(), "invalid property for modify");
        let size = CreateProperties::parse([], Some("lots")).unwrap_err().to_string();
        assert_eq!(size, "s: size param invalid");
    }

    #[test]
    fn limits_are_numbers_sizes_or_none() {
        let parsed =
            ModifyProperties::parse(["iops-limit=500", "bandwidth-limit=1.5M", "iops-burst=none"], None).unwrap();
        let before = IoLimits { iops_burst: Some(3), bandwidth_burst: Some(4096), ..IoLimits::default() };
        let after =
            IoLimits { iops: Some(500), bandwidth: Some(3 << 19), bandwidth_burst: Some(4096), iops_burst: None };
        assert_eq!(parsed.io_limits.applied_to(before), after);
        for wrong in ["iops-limit=0", "iops-limit=1K", "bandwidth-limit=100", "bandwidth-limit=0", "iops-burst=-1"] {
            let error = ModifyProperties::parse([wrong], None).unwrap_err();
            assert!(matches!(error, PropertyError::Format(_)) && error.hint().contains("none"), "{wrong}: {error}");
        }
    }

    #[test]
    fn names_are_read_in_any_case() {
        let parsed = CreateProperties::parse(["WCD=True", "Alias=disk one", "mgmt-url=http://a http://b"], Some("1G"));
        let parsed = parsed.unwrap();
        assert_eq!(parsed.write_cache_disabled, Some(true));
        assert_eq!(parsed.alias.as_deref(), Some("disk one"));
        assert_eq!(parsed.management_urls, ["http://a", "http://b"]);
        assert_eq!(parsed.size, Some(1 << 30));
    }

    #[test]
    fn the_alias_is_the_path_of_the_data_or_of_the_metadata() {
        let guid = CreateProperties::default().guid(GuidHost::HostId(7), 0, 1);
        let plain = CreateProperties::default().identity(guid, Path::new("/d/vol1"), 2 << 20).unwrap();
        assert_eq!((plain.alias.as_str(), plain.data), ("/d/vol1", None));
        let meta = CreateProperties::parse(["meta=/m/vol1"], None).unwrap();
        let meta = meta.identity(guid, Path::new("/d/vol1"), 2 << 20).unwrap();
        assert_eq!((meta.alias.as_str(), meta.data), ("/m/vol1", Some("/d/vol1".into())));
    }

    #[test]
    fn the_size_comes_from_the_file_unless_given() {
        let guid = CreateProperties::default().guid(GuidHost::HostId(7), 0, 1);
        let size =
            |properties: CreateProperties, length| properties.identity(guid, Path::new("x"), length).map(|i| i.size);
        let given = |size| CreateProperties { size: Some(size), ..CreateProperties::default() };
        assert_eq!(size(CreateProperties::default(), (1 << 20) + 700), Ok((1 << 20) + 512));
        assert_eq!(size(CreateProperties::default(), 1000), Err(PropertyError::FileSize));
        assert_eq!(size(given(1 << 40), 1000), Ok(1 << 40));
        assert_eq!(size(given((1 << 20) + 1), 1 << 30), Err(PropertyError::Size));
        assert_eq!(size(given(4096), 1 << 30), Err(PropertyError::Size));
    }
}
