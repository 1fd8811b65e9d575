//! What is asked of a target, by name.

use anyhow::{Context, Result, bail, ensure};

/// Reads, writes, or seven reads for three writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Read,
    Write,
    Mix,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) operation: Operation,
    /// Bytes of a command.
    pub(crate) bytes: u32,
    pub(crate) sessions: usize,
    /// Commands outstanding on each session.
    pub(crate) depth: usize,
    pub(crate) digests: bool,
    pub(crate) fua: bool,
}

impl Workload {
    pub(crate) fn parse(name: &str) -> Result<Self> {
        Self::understand(name).with_context(|| format!("workload '{name}'"))
    }

    fn understand(name: &str) -> Result<Self> {
        let mut parts = name.split('-');
        let operation = match parts.next() {
            Some("read") => Operation::Read,
            Some("write") => Operation::Write,
            Some("mix") => Operation::Mix,
            _ => bail!("begins with read, write or mix"),
        };
        let size = parts.next().context("no size")?;
        let bytes = match (size.strip_suffix('k'), size.strip_suffix('m')) {
            (Some(kib), _) => kib.parse::<u32>()? << 10,
            (_, Some(mib)) => mib.parse::<u32>()? << 20,
            _ => bail!("the size ends in k or m"),
        };
        let (sessions, depth) = parts.next().and_then(|load| load.split_once('x')).context("no SESSIONSxDEPTH")?;
        let (sessions, depth) = (sessions.parse()?, depth.parse()?);
        ensure!((1..=4096).contains(&sessions) && (1..=1024).contains(&depth), "1 to 4096 sessions, 1 to 1024 deep");
        ensure!((512..=1 << 20).contains(&bytes) && bytes.is_multiple_of(512), "512 bytes to 1 MiB");
        let (mut digests, mut fua) = (false, false);
        for part in parts {
            match part {
                "digest" => digests = true,
                "fua" => fua = true,
                other => bail!("no '{other}'"),
            }
        }
        Ok(Self { name: name.to_owned(), operation, bytes, sessions, depth, digests, fua })
    }

    /// Whether it goes to random places.
    pub(crate) fn is_random(&self) -> bool {
        self.bytes <= 4096
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_everything() {
        let workload = Workload::parse("mix-64k-8x32-digest").unwrap();
        assert_eq!((workload.operation, workload.bytes), (Operation::Mix, 65536));
        assert_eq!((workload.sessions, workload.depth), (8, 32));
        assert!(workload.digests && !workload.fua && !workload.is_random());
        assert!(Workload::parse("read-4-1x1").is_err() && Workload::parse("read-4k-1x1-fast").is_err());
    }
}
