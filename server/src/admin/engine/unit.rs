//! One logical unit of the block provider: where it is, who it is, and its open store while a server runs.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lu_sbd::meta::{Identity, RecordFile, RecordStore};
use lu_sbd::store::{BackingStore, BlockDeviceOptions, FileOptions, Operation};
use lu_sbd::{Limits, SbdLu};

use crate::admin::api::{ApiError, DiskInfo, ErrorKind};
use crate::model::LuRecord;

/// A configured logical unit.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) record: LuRecord,
    /// Open and registered, in a running server.
    pub(super) lu: Option<Arc<SbdLu>>,
    /// Why it could not be opened.
    pub(super) problem: Option<String>,
}

impl Unit {
    pub(super) fn new(record: LuRecord) -> Self {
        Self { record, lu: None, problem: None }
    }

    /// Where its identity is kept.
    pub(super) fn record_file(&self) -> RecordFile {
        record_file(&self.record)
    }

    /// Who it is: from the live unit, else from the file. The reason if neither can tell.
    pub(super) fn identity(&self) -> Result<Identity, String> {
        if let Some(open) = &self.lu {
            return Ok(open.identity());
        }
        let identity = self.record_file().load().map_err(|error| error.to_string())?;
        if identity.guid != self.record.guid {
            return Err(format!(
                "{} now holds logical unit {:X}: put the right file back, or delete-lu this one and import-lu that",
                self.record.file.display(),
                identity.guid
            ));
        }
        fs::metadata(&self.record.file).map_err(|error| format!("{}: {error}", self.record.file.display()))?;
        Ok(identity)
    }

    /// Opens its store and joins both into a live unit, which opens the store anew whenever it is brought online.
    pub(super) fn open(&self) -> Result<Arc<SbdLu>, String> {
        let identity = self.identity()?;
        let store = open_store(&self.record.file, &identity).map_err(|error| error.to_string())?;
        let place = self.record_file();
        let record = self.record.clone();
        let reopen = move || {
            // The size may have been changed since.
            let identity = record_file(&record).load().map_err(|error| {
                lu_sbd::store::Error::io(Operation::Open, io::Error::other(error.to_string())).of(record.file.display())
            })?;
            open_store(&record.file, &identity)
        };
        let lu = SbdLu::new(identity, store, Arc::new(place), Limits::default());
        Ok(Arc::new(lu.with_reopen(Box::new(reopen)).with_clock(crate::clock::unix_clock())))
    }

    /// What it is, for lists.
    pub(super) fn disk(&self, identity: Identity) -> DiskInfo {
        let text = |text: String| (!text.is_empty()).then_some(text);
        DiskInfo {
            alias: identity.alias,
            data_file: self.record.file.display().to_string(),
            meta_file: self.record.meta.as_ref().map(|path| path.display().to_string()),
            size: identity.size,
            block_size: identity.block_size,
            management_url: text(identity.management_urls.join(" ")),
            vendor: identity.vendor,
            product: identity.product,
            serial: identity.serial.and_then(text),
            write_protect: identity.write_protect,
            writeback_cache: !identity.write_cache_disabled,
            iops_limit: identity.io_limits.iops,
            iops_burst: identity.io_limits.iops_burst,
            bandwidth_limit: identity.io_limits.bandwidth,
            bandwidth_burst: identity.io_limits.bandwidth_burst,
        }
    }
}

pub(super) fn record_file(record: &LuRecord) -> RecordFile {
    match &record.meta {
        Some(path) => RecordFile::new(path.clone()),
        None => RecordFile::beside(&record.file),
    }
}

/// Keeps an identity where its file is.
pub(super) fn save(file: &RecordFile, identity: &Identity) -> Result<(), ApiError> {
    file.save(identity.to_record().as_bytes()).map_err(|error| {
        ApiError::new(ErrorKind::Internal, "could not create meta file")
            .hint(format!("{error}; its directory must take a new file, or give -p meta=PATH"))
    })?;
    give_to_owner(file.path());
    Ok(())
}

/// What root makes while the server is down must be readable for the server's user: a record goes to the owner of the data
/// beside it, both go to the owner of their directory when that is not root.
fn give_to_owner(path: &Path) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let data = path.to_str().and_then(|path| path.strip_suffix(".lu")).map(PathBuf::from);
    let directory = path.parent().map(Path::to_owned);
    let owners = [data, directory].into_iter().flatten().filter_map(|place| fs::metadata(place).ok());
    if let Some(owner) = owners.map(|metadata| (metadata.uid(), metadata.gid())).find(|(user, _)| *user != 0)
        && let Err(error) = std::os::unix::fs::lchown(path, Some(owner.0), Some(owner.1))
    {
        tracing::warn!("{} stays root's: {error}", path.display());
    }
}

/// Opens the data of a unit, read-only when it is write protected and the system gives no more.
pub(super) fn open_store(file: &Path, identity: &Identity) -> Result<Arc<dyn BackingStore>, lu_sbd::store::Error> {
    let open = |read_only: bool| -> Result<Arc<dyn BackingStore>, lu_sbd::store::Error> {
        Ok(if is_block_device(file) {
            Arc::new(BlockDeviceOptions::new().read_only(read_only).size(identity.size).open(file)?)
        } else {
            Arc::new(FileOptions::new().read_only(read_only).size(identity.size).open(file)?)
        })
    };
    open(false).or_else(|error| if identity.write_protect { open(true) } else { Err(error) })
}

/// Makes an empty file, its owner's alone, if nothing is there; tells whether it did.
pub(super) fn make_file(file: &Path) -> Result<bool, ApiError> {
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        // The name must survive a loss of power before the first write is promised to, wherever the record is kept.
        Ok(_) => {
            give_to_owner(file);
            sync_directory_of(file).map(|()| true).map_err(|error| {
                ApiError::new(ErrorKind::Invalid, "data file error").hint(format!("{}: {error}", file.display()))
            })
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => {
            Err(ApiError::new(ErrorKind::Invalid, "data file error").hint(format!("{}: {error}", file.display())))
        }
    }
}

fn sync_directory_of(file: &Path) -> io::Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(parent)?.sync_all()
}

/// The bytes behind a path that is to become a unit.
///
/// # Errors
/// `data file error`, with what is wrong as the hint.
pub(super) fn backing_size(file: &Path) -> Result<u64, ApiError> {
    let refuse = |hint: String| ApiError::new(ErrorKind::Invalid, "data file error").hint(hint);
    let path = file.display();
    let metadata = fs::metadata(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            refuse(format!("{path} does not exist; with a size (-s) it is made, as a sparse file"))
        }
        _ => refuse(format!("{path}: {error}")),
    })?;
    if metadata.is_file() {
        fs::OpenOptions::new().read(true).open(file).map_err(|error| refuse(format!("{path}: {error}")))?;
        Ok(metadata.len())
    } else if metadata.file_type().is_block_device() {
        let store = BlockDeviceOptions::new().read_only(true).open(file);
        Ok(store.map_err(|error| refuse(error.to_string()))?.capacity())
    } else {
        Err(refuse(format!("{path} is neither a regular file nor a block device")))
    }
}

fn is_block_device(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.file_type().is_block_device())
}

/// The one path by which a file is known, so that two spellings are not two units.
pub(super) fn canonical(file: &str) -> Result<PathBuf, ApiError> {
    let path = Path::new(file);
    if !path.is_absolute() {
        return Err(ApiError::new(ErrorKind::Invalid, "could not set filename").hint("give an absolute path"));
    }
    // A link to a device (/dev/disk/by-id/...) is kept: what it points to may be called otherwise after a boot.
    match (path.parent().map(fs::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => Ok(parent.join(name)),
        _ => Ok(path.to_owned()),
    }
}
