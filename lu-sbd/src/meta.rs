//! What is kept beside the data of a logical unit: its identity, saved mode pages and reservations.
//!
//! The record is a small TOML text, by default in `NAME.lu` beside the data file `NAME`, so that it travels with the
//! data: whoever imports the file elsewhere gets the same unit. It carries a format number and a checksum, is replaced
//! as a whole (new file, fsync, rename, fsync of the directory) and is read back strictly.
//!
//! ```
//! use lu_sbd::meta::Identity;
//! use lu_sbd::properties::CreateProperties;
//! use scsi_core::GuidHost;
//! use std::path::Path;
//!
//! let properties = CreateProperties::parse(["vid=ACME", "blk=4096"], Some("16G"))?;
//! let guid = properties.guid(GuidHost::HostId(0x1eb3862c), 0x494b55cd, 1);
//! let identity = properties.identity(guid, Path::new("/srv/vol1"), 0)?;
//! let text = identity.to_record();
//! assert!(text.contains("guid = \"600144f01eb3862c0000494b55cd0001\""));
//! assert_eq!(Identity::from_record(&text), Ok(identity));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use scsi_core::Guid;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::properties::{check_block_size, check_limits, check_size};
use crate::rates::IoLimits;
use crate::store::{Error, Operation};

/// The format number of the records this release writes and reads.
const FORMAT: u32 = 1;
/// Records are small; anything longer is no record.
const MAX_RECORD_BYTES: u64 = 4 << 20;

/// Who a logical unit is and what it remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub guid: Guid,
    /// INQUIRY vendor, up to 8 characters.
    pub vendor: String,
    /// INQUIRY product, up to 16 characters.
    pub product: String,
    /// INQUIRY revision, up to 4 characters.
    pub revision: String,
    /// Unit serial number, up to 252 characters.
    pub serial: Option<String>,
    /// Text for people.
    pub alias: String,
    /// Logical block size in bytes.
    pub block_size: u32,
    /// Size in bytes, a multiple of the block size.
    pub size: u64,
    /// Writes are refused.
    pub write_protect: bool,
    /// Every write is durable before GOOD.
    pub write_cache_disabled: bool,
    /// Where the unit is managed.
    pub management_urls: Vec<String>,
    /// The data's path, when the record is not kept beside the data.
    pub data: Option<PathBuf>,
    /// The medium can be ejected and loaded.
    pub removable: bool,
    /// Fully provisioned: what the store could give back is kept.
    pub thick: bool,
    /// What it does in a second at most.
    pub io_limits: IoLimits,
    /// Peripheral device identifying information that an initiator has set, up to 512 bytes.
    pub device_information: Vec<u8>,
    /// Text identifying information that an initiator has set, up to 255 bytes.
    pub text_information: String,
    /// Saved values of mode pages.
    pub mode_pages: Vec<SavedModePage>,
    /// Persistent reservations that survive a loss of power (APTPL), as the reservation model encodes them; empty for
    /// none.
    pub reservations: Vec<u8>,
    /// What was begun on the medium and has not ended: after a restart it counts as failed.
    pub unfinished: Option<Unfinished>,
}

/// A command that writes the whole medium anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// FORMAT UNIT.
    Format,
    /// SANITIZE.
    Sanitize {
        /// AUSE: the failure may be left by EXIT FAILURE MODE.
        unrestricted_exit: bool,
    },
}

impl Unfinished {
    const NAMES: [(&'static str, Self); 3] = [
        ("format", Self::Format),
        ("sanitize", Self::Sanitize { unrestricted_exit: false }),
        ("sanitize-unrestricted", Self::Sanitize { unrestricted_exit: true }),
    ];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, what)| *what == self).map_or("", |(name, _)| name)
    }

    fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, what)| *what)
    }
}

/// The saved values of one mode page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedModePage {
    /// Page code.
    pub page: u8,
    /// Subpage code, 0 for none.
    pub subpage: u8,
    /// The page's bytes behind its header.
    pub data: Vec<u8>,
}

/// Why a text is no record. The text of the error names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Not TOML, a field missing, unknown or of the wrong kind.
    #[error("{0}")]
    Syntax(String),
    /// The text was changed or cut.
    #[error("the checksum does not match: the record was changed or is incomplete")]
    Checksum,
    /// Written by a newer release.
    #[error("it has format {found}, this release reads format {FORMAT}")]
    Format {
        /// What the record says.
        found: u32,
    },
    /// A field's value cannot be.
    #[error("the value of {field} is not valid: {reason}")]
    Value {
        /// Which.
        field: &'static str,
        /// Why.
        reason: String,
    },
}

impl RecordError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Syntax(_) | Self::Checksum => {
                "restore the record from a copy; if it was edited on purpose, remove its checksum line"
            }
            Self::Format { .. } => "use the release that wrote it, or a newer one",
            Self::Value { .. } => "restore the record from a copy, or correct the value and remove the checksum line",
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Record {
    guid: String,
    vendor: String,
    product: String,
    revision: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    alias: String,
    block_size: u32,
    size: u64,
    #[serde(default)]
    write_protect: bool,
    #[serde(default)]
    write_cache_disabled: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    management_urls: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    removable: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    thick: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    device_information: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text_information: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reservations: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unfinished: Option<String>,
    #[serde(default, skip_serializing_if = "IoLimits::is_none")]
    limits: IoLimits,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mode_page: Vec<PageRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PageRecord {
    page: u8,
    #[serde(default)]
    subpage: u8,
    data: String,
}

impl Identity {
    /// The record as it is kept.
    pub fn to_record(&self) -> String {
        let record = Record {
            guid: self.guid.to_string(),
            vendor: self.vendor.clone(),
            product: self.product.clone(),
            revision: self.revision.clone(),
            serial: self.serial.clone(),
            alias: self.alias.clone(),
            block_size: self.block_size,
            size: self.size,
            write_protect: self.write_protect,
            write_cache_disabled: self.write_cache_disabled,
            management_urls: self.management_urls.clone(),
            data: self.data.clone(),
            removable: self.removable,
            thick: self.thick,
            device_information: to_hex(&self.device_information),
            text_information: self.text_information.clone(),
            reservations: to_hex(&self.reservations),
            unfinished: self.unfinished.map(|what| what.name().to_owned()),
            limits: self.io_limits,
            mode_page: self
                .mode_pages
                .iter()
                .map(|page| PageRecord { page: page.page, subpage: page.subpage, data: to_hex(&page.data) })
                .collect(),
        };
        // Only a map key that is no string could fail, and a path that is not Unicode: that one is left out.
        let body =
            toml::to_string(&record).or_else(|_| toml::to_string(&Record { data: None, ..record })).unwrap_or_default();
        format!(
            "# Identity of the logical unit whose data is kept beside this file. Keep both together.\n\
             format = {FORMAT}\nchecksum = \"{}\"\n{body}",
            checksum(&body)
        )
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Any [`RecordError`]. A record without a checksum line is taken as it is.
    pub fn from_record(text: &str) -> Result<Self, RecordError> {
        let (mut format, mut expected) = (None, None);
        let mut body = text;
        while let Some((line, rest)) = body.split_once('\n') {
            let line = line.trim();
            if let Some(value) = line.strip_prefix("format =") {
                format = Some(value.trim().parse::<u32>().map_err(|e| RecordError::Syntax(format!("format: {e}")))?);
            } else if let Some(value) = line.strip_prefix("checksum =") {
                expected = Some(value.trim().trim_matches('"'));
                body = rest;
                break;
            } else if !line.is_empty() && !line.starts_with('#') {
                break;
            }
            body = rest;
        }
        match format {
            Some(FORMAT) => {}
            Some(found) => return Err(RecordError::Format { found }),
            None => return Err(RecordError::Syntax("the line `format = 1` is missing".into())),
        }
        if expected.is_some_and(|expected| expected != checksum(body)) {
            return Err(RecordError::Checksum);
        }
        let record: Record = toml::from_str(body).map_err(|e| RecordError::Syntax(e.message().to_owned()))?;
        record.try_into()
    }
}

impl TryFrom<Record> for Identity {
    type Error = RecordError;

    fn try_from(record: Record) -> Result<Self, RecordError> {
        let value = |field, reason: &dyn fmt::Display| RecordError::Value { field, reason: reason.to_string() };
        let guid = record.guid.parse().map_err(|e| value("guid", &e))?;
        check_block_size(record.block_size).map_err(|e| value("block-size", &e.hint()))?;
        check_size(record.size, record.block_size).map_err(|e| value("size", &e.hint()))?;
        for (field, text, limit) in
            [("vendor", &record.vendor, 8), ("product", &record.product, 16), ("revision", &record.revision, 4)]
        {
            if text.len() > limit || !text.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) {
                return Err(value(field, &format_args!("at most {limit} printable characters are wanted")));
            }
        }
        let hex =
            |field, text: &str| from_hex(text).ok_or_else(|| value(field, &"pairs of hexadecimal digits are wanted"));
        Ok(Self {
            guid,
            vendor: record.vendor,
            product: record.product,
            revision: record.revision,
            serial: record.serial,
            alias: record.alias,
            block_size: record.block_size,
            size: record.size,
            write_protect: record.write_protect,
            write_cache_disabled: record.write_cache_disabled,
            management_urls: record.management_urls,
            data: record.data,
            removable: record.removable,
            thick: record.thick,
            io_limits: check_limits(record.limits).map_err(|error| value("limits", &error.hint()))?,
            device_information: hex("device-information", &record.device_information)?,
            text_information: record.text_information,
            mode_pages: record
                .mode_page
                .into_iter()
                .map(|page| {
                    let data = hex("mode-page", &page.data)?;
                    Ok(SavedModePage { page: page.page, subpage: page.subpage, data })
                })
                .collect::<Result<_, RecordError>>()?,
            reservations: hex("reservations", &record.reservations)?,
            unfinished: match record.unfinished {
                None => None,
                Some(name) => Some(
                    Unfinished::parse(&name)
                        .ok_or_else(|| value("unfinished", &"format, sanitize or sanitize-unrestricted is wanted"))?,
                ),
            },
        })
    }
}

fn checksum(body: &str) -> String {
    format!("crc32c:{:08x}", crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, body.as_bytes()))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// Keeps the record of one logical unit.
pub trait RecordStore: Send + Sync + fmt::Debug {
    /// Replaces the record, atomically and durably: after an error, or a loss of power at any moment, the old record
    /// or the new one is there.
    ///
    /// # Errors
    /// The system's reason.
    fn save(&self, record: &[u8]) -> Result<(), Error>;
}

/// A record in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFile {
    path: PathBuf,
}

/// Why a record file could not be read. The text names the file, the reason and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// There is none.
    #[error("{path} does not exist (create-lu makes it; after a move, bring it along with the data)")]
    Missing {
        /// The file.
        path: String,
    },
    /// The system refuses.
    #[error("cannot read {path} (check owner and mode of the file and its directory)")]
    Io {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its content is no record.
    #[error("{path} is not a valid LU record: {reason} ({})", reason.remedy())]
    Invalid {
        /// The file.
        path: String,
        /// Why.
        reason: RecordError,
    },
}

impl RecordFile {
    /// The record at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The record of the data file `data`: its path with `.lu` appended.
    pub fn beside(data: &Path) -> Self {
        let mut path = data.as_os_str().to_owned();
        path.push(".lu");
        Self::new(path)
    }

    /// Where the record is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a file. What is in it is not looked at; a file that cannot be seen counts as there.
    pub fn exists(&self) -> bool {
        !matches!(fs::symlink_metadata(&self.path), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Reads the record.
    ///
    /// # Errors
    /// Any [`LoadError`].
    pub fn load(&self) -> Result<Identity, LoadError> {
        let path = || self.path.display().to_string();
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => LoadError::Missing { path: path() },
            _ => LoadError::Io { path: path(), source },
        };
        let invalid = |reason| LoadError::Invalid { path: path(), reason };
        let length = fs::metadata(&self.path).map_err(failed)?.len();
        if length > MAX_RECORD_BYTES {
            return Err(invalid(RecordError::Syntax(format!("{length} bytes are too many for a record"))));
        }
        let bytes = fs::read(&self.path).map_err(failed)?;
        let text = String::from_utf8(bytes).map_err(|_| invalid(RecordError::Syntax("it is not text".into())))?;
        Identity::from_record(&text).map_err(invalid)
    }

    /// Removes the record; none there is no error.
    ///
    /// # Errors
    /// The system's reason.
    pub fn remove(&self) -> Result<(), Error> {
        let failed = |error| Error::io(Operation::Persist, error).of(self.path.display());
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => self.sync_directory().map_err(failed),
        }
    }

    fn temporary(&self) -> PathBuf {
        let mut path = self.path.as_os_str().to_owned();
        path.push(".tmp");
        path.into()
    }

    fn sync_directory(&self) -> io::Result<()> {
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(directory)?.sync_all()
    }

    fn replace(&self, record: &[u8]) -> io::Result<()> {
        let temporary = self.temporary();
        // One name for the new file: what a crash left of it is simply written over.
        let result = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)
            .and_then(|mut file| {
                file.write_all(record)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&temporary, &self.path));
        if result.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        result?;
        self.sync_directory()
    }
}

impl RecordStore for RecordFile {
    fn save(&self, record: &[u8]) -> Result<(), Error> {
        self.replace(record).map_err(|error| {
            Error::io(Operation::Persist, error)
                .of(self.path.display())
                .remedy("check space, owner and mode of its directory")
        })
    }
}

/// Keeps no record: for units that live as long as the process, in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NoRecord;

impl RecordStore for NoRecord {
    fn save(&self, _record: &[u8]) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            guid: "600144f07ed404000000496813070001".parse().unwrap(),
            vendor: "ACME".into(),
            product: "DISK".into(),
            revision: "1.0".into(),
            serial: Some("0815".into()),
            alias: "a \"name\"\nwith = everything".into(),
            block_size: 4096,
            size: 1 << 30,
            write_protect: true,
            write_cache_disabled: false,
            management_urls: vec!["http://a/".into()],
            data: Some("/srv/vol1".into()),
            removable: true,
            thick: true,
            io_limits: IoLimits { iops: Some(500), bandwidth: Some(1 << 20), ..IoLimits::default() },
            device_information: vec![9, 0, 255],
            text_information: "the disk in the corner".into(),
            mode_pages: vec![SavedModePage { page: 8, subpage: 0, data: vec![4, 0, 255] }],
            reservations: vec![1, 2, 3],
            unfinished: Some(Unfinished::Sanitize { unrestricted_exit: true }),
        }
    }

    #[test]
    fn a_record_read_back_is_the_same() {
        let text = identity().to_record();
        assert_eq!(Identity::from_record(&text).unwrap(), identity());
    }

    #[test]
    fn every_changed_or_cut_record_is_noticed() {
        let text = identity().to_record();
        let start = text.find("guid").unwrap();
        for at in start..text.len() {
            assert!(Identity::from_record(&text[..at]).is_err(), "cut at {at}");
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            if let Ok(changed) = String::from_utf8(bytes) {
                assert_eq!(Identity::from_record(&changed), Err(RecordError::Checksum), "changed at {at}");
            }
        }
    }

    #[test]
    fn an_edited_record_is_taken_without_its_checksum() {
        let text = identity().to_record().replace("ACME", "EMCA");
        let text: String =
            text.lines().filter(|line| !line.starts_with("checksum")).map(|l| format!("{l}\n")).collect();
        assert_eq!(Identity::from_record(&text).unwrap().vendor, "EMCA");
    }

    #[test]
    fn newer_formats_unknown_fields_and_impossible_values_are_refused_by_name() {
        let edited = |from: &str, to: &str| {
            let text = identity().to_record().replace(from, to);
            let text: String =
                text.lines().filter(|line| !line.starts_with("checksum")).map(|l| format!("{l}\n")).collect();
            Identity::from_record(&text).unwrap_err()
        };
        assert_eq!(edited("format = 1", "format = 2"), RecordError::Format { found: 2 });
        assert!(edited("serial", "cereal").to_string().contains("cereal"));
        assert!(edited("block-size = 4096", "block-size = 1000").to_string().contains("block-size"));
        assert!(edited("size = 1073741824", "size = 1073741825").to_string().contains("size"));
        assert!(edited("\"010203\"", "\"01020\"").to_string().contains("reservations"));
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_a_torn_temporary_never_matters() {
        let directory = tempfile::tempdir().unwrap();
        let file = RecordFile::beside(&directory.path().join("vol1"));
        assert!(file.path().ends_with("vol1.lu") && !file.exists());
        assert!(matches!(file.load(), Err(LoadError::Missing { .. })));
        file.save(identity().to_record().as_bytes()).unwrap();
        fs::write(directory.path().join("vol1.lu.tmp"), "format = 1\nche").unwrap();
        assert_eq!(file.load().unwrap(), identity());
        let other = Identity { alias: "other".into(), ..identity() };
        file.save(other.to_record().as_bytes()).unwrap();
        assert_eq!(file.load().unwrap(), other);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        file.remove().unwrap();
        file.remove().unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn a_bad_file_is_named_with_reason_and_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let file = RecordFile::beside(&directory.path().join("vol1"));
        fs::write(file.path(), "hello").unwrap();
        let message = file.load().unwrap_err().to_string();
        assert!(message.contains("vol1.lu is not a valid LU record: the line `format = 1` is missing"), "{message}");
        assert!(message.contains("restore the record from a copy"), "{message}");
        let error = RecordFile::new(directory.path().join("no/such/dir.lu")).save(b"x").unwrap_err();
        assert!(error.to_string().contains("dir.lu"), "{error}");
    }
}
