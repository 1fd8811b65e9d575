//! A configuration that cannot be read, or not all of it: what can be kept is kept, and the old file stays beside it.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable};

use super::image::Image;
use super::rows::{self, Row};
use super::{CACHE_BYTES, ConfigStore, Examined, FILE_NAME, LoadProblem, ROWS, StoreError};

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Why the file could not be read; `None`: it could, and rows that could not are gone from it.
    pub damage: Option<String>,
    /// How many rows the new file has.
    pub kept: usize,
    /// Rows that are known to be lost.
    pub left_out: Vec<LoadProblem>,
    /// Where the old file is now.
    pub aside: PathBuf,
}

impl ConfigStore {
    /// Reads the configuration of a state directory and changes nothing. The rows that would be left out; none where
    /// there is no configuration yet.
    ///
    /// # Errors
    /// [`StoreError`], as [`open`](Self::open).
    pub fn check(state: &Path) -> Result<Vec<LoadProblem>, StoreError> {
        let path = state.join(FILE_NAME);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let _lock = super::lock(state)?;
        match super::examine(&path)? {
            Examined::Missing => Ok(Vec::new()),
            Examined::Valid { rows, mut problems } => {
                problems.extend(rows::assemble(rows).1);
                Ok(problems)
            }
        }
    }

    /// Makes a damaged configuration readable again: the rows that can be read go into a new file, which takes the place
    /// of the old one in one step; that is kept beside it. `None`: there is nothing to repair, and nothing was changed.
    ///
    /// What the damage hit may read as something else: what is kept should be looked through.
    ///
    /// # Errors
    /// [`StoreError`]: another process uses the directory, the file is foreign or of a later version, or the system
    /// refuses. Nothing is changed then.
    pub fn repair(state: &Path) -> Result<Option<Repair>, StoreError> {
        let path = state.join(FILE_NAME);
        if !path.exists() {
            return Ok(None);
        }
        let _lock = super::lock(state)?;
        let (rows, left_out, damage) = match super::examine(&path) {
            Ok(Examined::Missing) => return Ok(None),
            Ok(Examined::Valid { problems, .. }) if problems.is_empty() => return Ok(None),
            Ok(Examined::Valid { rows, problems }) => (rows, problems, None),
            Err(StoreError::Corrupt { reason, .. }) => {
                let (rows, problems) = salvage(&path)?;
                (rows, problems, Some(reason))
            }
            Err(error) => return Err(error),
        };
        let aside = put_aside(&path)?;
        super::create(state, &path, &rows)?;
        Ok(Some(Repair { damage, kept: rows.len(), left_out, aside }))
    }
}

/// The rows of a damaged file, as many as come before the first place that cannot be read.
fn salvage(path: &Path) -> Result<(Vec<Row>, Vec<LoadProblem>), StoreError> {
    let bytes = std::fs::read(path).map_err(StoreError::io("read", path))?;
    let found = RefCell::new((Vec::new(), Vec::new()));
    // A panic of redb's ends the reading as an error does.
    let _ = catch_unwind(AssertUnwindSafe(|| -> Result<(), redb::Error> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(Image::new(bytes))?;
        let read = database.begin_read()?;
        let table = read.open_table(ROWS)?;
        for entry in table.iter()? {
            let (key, value) = entry?;
            let (rows, problems) = &mut *found.borrow_mut();
            super::take_row(key.value(), value.value(), rows, problems);
        }
        Ok(())
    }));
    Ok(found.into_inner())
}

/// A second name for the file, which stays when the first is given to another.
fn put_aside(path: &Path) -> Result<PathBuf, StoreError> {
    for number in 1.. {
        let aside = path.with_extension(format!("redb.damaged-{number}"));
        match std::fs::hard_link(path, &aside) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(StoreError::io("create", &aside)(error)),
        }
    }
    Err(StoreError::io("create", path)(ErrorKind::AlreadyExists.into()))
}
