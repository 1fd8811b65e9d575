//! The record of a unit in a file: read strictly, replaced as a whole.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Error, Operation};
use crate::meta::{Identity, RecordError};

/// Records are small; anything longer is no record.
const MAX_RECORD_BYTES: u64 = 4 << 20;

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
            _ => sync_directory_of(&self.path).map_err(failed),
        }
    }

    fn temporary(&self) -> PathBuf {
        let mut path = self.path.as_os_str().to_owned();
        path.push(".tmp");
        path.into()
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
        sync_directory_of(&self.path)
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

/// Makes durable that there is, or is no more, a file of this name.
pub(super) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::tests::identity;

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
