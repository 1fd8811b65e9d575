//! Block logical units: SCSI commands turned into store operations; memory, file and block device stores
