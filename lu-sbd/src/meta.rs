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
use std::path::PathBuf;

use crate::properties::{check_block_size, check_size};
pub use crate::store::record::{LoadError, NoRecord, RecordFile, RecordStore};

/// The format number of the records this release writes and reads.
const FORMAT: u32 = 1;

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
    /// Saved values of mode pages.
    pub mode_pages: Vec<SavedModePage>,
    /// Persistent reservations that survive a loss of power (APTPL), as the reservation model encodes them; empty for
    /// none.
    pub reservations: Vec<u8>,
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
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reservations: String,
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
            reservations: to_hex(&self.reservations),
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
            mode_pages: record
                .mode_page
                .into_iter()
                .map(|page| {
                    let data = hex("mode-page", &page.data)?;
                    Ok(SavedModePage { page: page.page, subpage: page.subpage, data })
                })
                .collect::<Result<_, RecordError>>()?,
            reservations: hex("reservations", &record.reservations)?,
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn identity() -> Identity {
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
            mode_pages: vec![SavedModePage { page: 8, subpage: 0, data: vec![4, 0, 255] }],
            reservations: vec![1, 2, 3],
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
}
