//! What survives a restart: the configuration in one redb file under the state directory.
//!
//! One command is one transaction, durable before it is acknowledged; a crash at any moment leaves the old or the new
//! configuration. Rows are JSON under text keys (`target/iqn...`, `view/600144F0.../0000000000`), so a later version
//! can add fields without a conversion, and a version too new for this program is refused instead of misread.
//!
//! The state directory belongs to one process at a time. It holds secrets and is made for its owner alone.

mod error;
mod image;
mod repair;
mod rows;
#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

pub use error::StoreError;
pub use repair::Repair;

use crate::model::{Configuration, Transaction};
use image::Image;
use rows::Row;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");

/// The file in the state directory that holds the configuration.
pub const FILE_NAME: &str = "config.redb";
/// The file in the state directory that its user locks; it holds the process id.
const LOCK_NAME: &str = "lock";
/// The layout of the rows that this program reads and writes.
const VERSION: u32 = 1;
const VERSION_KEY: &str = "version";
/// What every redb file begins with.
const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
/// How long to wait for the lock: commands without a server hold it for moments, and come in flocks from scripts.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_POLL: Duration = Duration::from_millis(5);
/// Pages kept in memory; the configuration itself is in memory already.
const CACHE_BYTES: usize = 1 << 20;

/// The configuration on disk, held by this process alone.
#[derive(Debug)]
pub struct ConfigStore {
    database: Database,
    path: PathBuf,
    /// Held until the store is dropped.
    _lock: Option<File>,
}

/// A stored row that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadProblem {
    /// Which row: `target iqn...`, `view/600144F0.../0000000000`.
    pub object: String,
    /// What is wrong with it.
    pub reason: String,
}

impl ConfigStore {
    /// Opens the configuration in a state directory, makes both if missing, and reads it. What is valid is taken, the
    /// rest is told; it stays in the file.
    ///
    /// # Errors
    /// [`StoreError`]: another process uses the directory, the file is foreign, corrupt or of a later version, or the
    /// system refuses. Nothing is changed then.
    pub fn open(state: &Path) -> Result<(Self, Configuration, Vec<LoadProblem>), StoreError> {
        let lock = lock(state)?;
        let path = state.join(FILE_NAME);
        match examine(&path)? {
            Examined::Valid { .. } => {}
            Examined::Missing => create(state, &path, &[])?,
        }
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(StoreError::io("open", &path))?;
        let database = Database::builder().set_cache_size(CACHE_BYTES).create_file(file);
        let database = database.map_err(|error| StoreError::corrupt(&path, &error))?;
        Self::load(database, path, Some(lock))
    }

    /// A configuration that lives in memory and is gone with the process.
    ///
    /// # Errors
    /// [`StoreError`], if the database refuses.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::on(Image::default()).map(|(store, _, _)| store)
    }

    fn on(backend: impl StorageBackend) -> Result<(Self, Configuration, Vec<LoadProblem>), StoreError> {
        let path = PathBuf::from("memory");
        let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend);
        let database = database.map_err(|error| StoreError::corrupt(&path, &error))?;
        initialize(&database, &path)?;
        Self::load(database, path, None)
    }

    fn load(
        database: Database,
        path: PathBuf,
        lock: Option<File>,
    ) -> Result<(Self, Configuration, Vec<LoadProblem>), StoreError> {
        let (rows, mut problems) = read_rows(&database, &path)?;
        let (configuration, more) = rows::assemble(rows);
        problems.extend(more);
        Ok((Self { database, path, _lock: lock }, configuration, problems))
    }

    /// Makes a transaction durable, all of it or nothing.
    ///
    /// # Errors
    /// [`StoreError::Io`]: nothing of it will be there after a restart.
    pub fn commit(&self, transaction: &Transaction) -> Result<(), StoreError> {
        let failed = |error: redb::Error| StoreError::write(&self.path, &error);
        let write = self.database.begin_write().map_err(|error| failed(error.into()))?;
        {
            let mut table = write.open_table(ROWS).map_err(|error| failed(error.into()))?;
            for (key, row) in rows::edits(transaction) {
                let done = match row {
                    Some(row) => table.insert(key.as_str(), row.encode().as_slice()).map(drop),
                    None => table.remove(key.as_str()).map(drop),
                };
                done.map_err(|error| failed(error.into()))?;
            }
        }
        write.commit().map_err(|error| failed(error.into()))
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What root makes in a directory of the service's user must be that user's: a command of root's, given while the server
/// was down, would keep it from starting otherwise.
pub(crate) fn give_to_owner(file: &File, state: &Path) {
    use std::os::unix::fs::MetadataExt;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    if let Ok(owner) = std::fs::metadata(state).map(|metadata| (metadata.uid(), metadata.gid()))
        && owner.0 != 0
        && let Err(error) = std::os::unix::fs::fchown(file, Some(owner.0), Some(owner.1))
    {
        tracing::warn!("cannot give a file in {} to the directory's owner: {error}", state.display());
    }
}

/// Makes the state directory and takes its lock.
fn lock(state: &Path) -> Result<File, StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(StoreError::io("create", state))?;
    let path = state.join(LOCK_NAME);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&path).map_err(StoreError::io("open", &path))?;
    give_to_owner(&file, state);
    let deadline = Instant::now() + LOCK_WAIT;
    let taken = loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_POLL),
            taken => break taken,
        }
    };
    match taken {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The number is only for the message; without it the message is still right.
            let _ = file.read_to_string(&mut holder);
            return Err(StoreError::Locked { state: state.into(), holder: holder.trim().parse().ok() });
        }
        Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path)(error)),
    }
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(StoreError::io("write", &path))?;
    Ok(file)
}

enum Examined {
    Valid { rows: Vec<Row>, problems: Vec<LoadProblem> },
    Missing,
}

/// Looks at a copy of the file in memory, checksums and all: opening the file itself would already write to it.
fn examine(path: &Path) -> Result<Examined, StoreError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Examined::Missing),
        Err(error) => return Err(StoreError::io("read", path)(error)),
    };
    if !bytes.starts_with(MAGIC) {
        return Err(StoreError::Foreign { path: path.into() });
    }
    // redb's own consistency checks may panic on a file that was tampered with; that must not end the program.
    let checked = std::panic::catch_unwind(|| -> Result<_, StoreError> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(Image::new(bytes));
        let mut database = database.map_err(|error| StoreError::corrupt(path, &error))?;
        match database.check_integrity() {
            Ok(_) => {}
            Err(error) => return Err(StoreError::corrupt(path, &error)),
        }
        check_version(&database, path)?;
        read_rows(&database, path)
    });
    match checked {
        Ok(Ok((rows, problems))) => Ok(Examined::Valid { rows, problems }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(StoreError::Corrupt { path: path.into(), reason: "its pages contradict each other".into() }),
    }
}

/// Makes a configuration of these rows beside its place and moves it there, so that the file is whole from the first
/// moment.
fn create(state: &Path, path: &Path, rows: &[Row]) -> Result<(), StoreError> {
    let draft = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(&draft).map_err(StoreError::io("create", &draft))?;
    give_to_owner(&file, state);
    let database = Database::builder().set_cache_size(CACHE_BYTES).create_file(file);
    let database = database.map_err(|error| StoreError::corrupt(&draft, &error))?;
    initialize(&database, &draft)?;
    if !rows.is_empty() {
        fill(&database, &draft, rows)?;
    }
    drop(database);
    std::fs::rename(&draft, path).map_err(StoreError::io("create", path))?;
    File::open(state).and_then(|directory| directory.sync_all()).map_err(StoreError::io("sync", state))
}

/// Writes the version into an empty database; leaves one that has it alone.
fn initialize(database: &Database, path: &Path) -> Result<(), StoreError> {
    let failed = |error: redb::Error| StoreError::write(path, &error);
    let write = database.begin_write().map_err(|error| failed(error.into()))?;
    {
        let mut meta = write.open_table(META).map_err(|error| failed(error.into()))?;
        let present = meta.get(VERSION_KEY).map_err(|error| failed(error.into()))?.is_some();
        if !present {
            let version = VERSION.to_be_bytes();
            meta.insert(VERSION_KEY, version.as_slice()).map_err(|error| failed(error.into()))?;
        }
        write.open_table(ROWS).map_err(|error| failed(error.into()))?;
    }
    write.commit().map_err(|error| failed(error.into()))?;
    check_version(database, path)
}

fn fill(database: &Database, path: &Path, rows: &[Row]) -> Result<(), StoreError> {
    let failed = |error: redb::Error| StoreError::write(path, &error);
    let write = database.begin_write().map_err(|error| failed(error.into()))?;
    {
        let mut table = write.open_table(ROWS).map_err(|error| failed(error.into()))?;
        for row in rows {
            table.insert(row.key().as_str(), row.encode().as_slice()).map_err(|error| failed(error.into()))?;
        }
    }
    write.commit().map_err(|error| failed(error.into()))
}

fn check_version(database: &Database, path: &Path) -> Result<(), StoreError> {
    let corrupt = |error: redb::Error| StoreError::corrupt(path, &error);
    let read = database.begin_read().map_err(|error| corrupt(error.into()))?;
    let meta = match read.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_) | redb::TableError::TableTypeMismatch { .. }) => {
            return Err(StoreError::Foreign { path: path.into() });
        }
        Err(error) => return Err(corrupt(error.into())),
    };
    let version = meta.get(VERSION_KEY).map_err(|error| corrupt(error.into()))?;
    let version = version.and_then(|bytes| bytes.value().try_into().ok()).map(u32::from_be_bytes);
    match version {
        Some(VERSION) => Ok(()),
        Some(version) => Err(StoreError::Version { path: path.into(), version, known: VERSION }),
        None => Err(StoreError::Foreign { path: path.into() }),
    }
}

fn read_rows(database: &Database, path: &Path) -> Result<(Vec<Row>, Vec<LoadProblem>), StoreError> {
    let corrupt = |error: redb::Error| StoreError::corrupt(path, &error);
    let read = database.begin_read().map_err(|error| corrupt(error.into()))?;
    let table = read.open_table(ROWS).map_err(|error| corrupt(error.into()))?;
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for entry in table.iter().map_err(|error| corrupt(error.into()))? {
        let (key, value) = entry.map_err(|error| corrupt(error.into()))?;
        take_row(key.value(), value.value(), &mut rows, &mut problems);
    }
    Ok((rows, problems))
}

fn take_row(key: &str, value: &[u8], rows: &mut Vec<Row>, problems: &mut Vec<LoadProblem>) {
    let reason = match Row::decode(value) {
        Ok(row) if row.key() == key => return rows.push(row),
        Ok(_) => "the row stands under another object's name: left out".into(),
        Err(error) => format!("{error}: left out"),
    };
    problems.push(LoadProblem { object: key.to_owned(), reason });
}
