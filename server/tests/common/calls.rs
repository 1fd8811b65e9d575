//! What a process did to files, as strace wrote it down.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The calls to ask strace for.
pub(crate) const TRACED: &str = "openat,close,write,pwrite64,writev,pwritev,pwritev2,ftruncate,fallocate,fsync,fdatasync,rename,\
                                 renameat,renameat2,unlink,unlinkat,link,linkat";

/// One change of a file or a directory, or the promise that changes are on the medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A file that was not there.
    Create(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    Truncate(PathBuf, u64),
    /// Of a file or a directory.
    Sync(PathBuf),
    /// Of these bytes of a file: offset and length.
    SyncRange(PathBuf, u64, u64),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// An open file: where it is, and where the next write goes.
struct Open {
    path: PathBuf,
    position: u64,
    appends: bool,
}

/// What a process has open, by descriptor.
pub(crate) fn open_files(process: u32) -> HashMap<u64, PathBuf> {
    let entries = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, std::fs::read_link(entry.path()).ok()?))
        })
        .collect()
}

/// The calls below `root`, by a trace made with `-f -xx -s` and enough; paths are relative to `root`. `length` says how
/// long a file was before, none if there was none; `open` what was open.
pub(crate) fn read(
    trace: &str,
    root: &Path,
    length: impl Fn(&Path) -> Option<u64>,
    open: HashMap<u64, PathBuf>,
) -> Vec<Call> {
    let below = |path: PathBuf| path.strip_prefix(root).map(Path::to_owned).ok();
    let opened = open.into_iter().filter_map(|(fd, path)| Some((fd, below(path)?)));
    let mut open: HashMap<u64, Open> =
        opened.map(|(fd, path)| (fd, Open { path, position: 0, appends: false })).collect();
    let (mut calls, mut pending) = (Vec::new(), HashMap::new());
    let mut lengths: HashMap<PathBuf, Option<u64>> = HashMap::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let mut text = rest.trim_start().to_owned();
        // A call that others got between stands in two lines.
        if let Some(begun) = text.strip_suffix(" <unfinished ...>") {
            pending.insert(thread.to_owned(), begun.to_owned());
            continue;
        }
        if text.starts_with("<... ")
            && let Some((_, end)) = text.split_once(" resumed>")
        {
            text = pending.remove(thread).unwrap_or_default() + end;
        }
        let (Some((name, rest)), Some((_, result))) = (text.split_once('('), text.rsplit_once(" = ")) else { continue };
        let Ok(result) = result.split(' ').next().unwrap_or_default().parse::<u64>() else { continue };
        let arguments = rest.rsplit_once(')').map_or(rest, |(arguments, _)| arguments);
        let strings = strings(arguments);
        // Commands are run in the root; the rest of their paths is absolute.
        let path = |text: &Vec<u8>| below(root.join(String::from_utf8_lossy(text).into_owned()));
        let paths: Vec<PathBuf> = strings.iter().filter_map(path).collect();
        let descriptor = arguments.split(|c: char| !c.is_ascii_digit()).next().and_then(|word| word.parse().ok());
        let number = || arguments.rsplit(", ").next().and_then(|word| word.trim().parse::<u64>().ok()).unwrap_or(0);
        match name {
            "openat" => {
                let Some(path) = paths.first() else { continue };
                let known = lengths.entry(path.clone()).or_insert_with(|| length(path));
                if known.is_none() && arguments.contains("O_CREAT") {
                    calls.push(Call::Create(path.clone()));
                    *known = Some(0);
                } else if arguments.contains("O_TRUNC") && known.is_some_and(|length| length > 0) {
                    calls.push(Call::Truncate(path.clone(), 0));
                    *known = Some(0);
                }
                let appends = arguments.contains("O_APPEND");
                open.insert(result, Open { path: path.clone(), position: 0, appends });
            }
            "close" => drop(descriptor.and_then(|fd| open.remove(&fd))),
            "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" => {
                let Some(file) = descriptor.and_then(|fd| open.get_mut(&fd)) else { continue };
                let mut data = strings.concat();
                data.truncate(result as usize);
                assert_eq!(data.len() as u64, result, "strace cut {line}");
                let known = lengths.entry(file.path.clone()).or_insert(Some(0));
                let offset = match name {
                    "pwrite64" | "pwritev" => number(),
                    "pwritev2" => arguments.rsplit(", ").nth(1).and_then(|word| word.trim().parse().ok()).unwrap(),
                    _ if file.appends => known.unwrap_or(0),
                    _ => file.position,
                };
                file.position = offset + result;
                *known = Some(known.unwrap_or(0).max(offset + result));
                calls.push(Call::Write(file.path.clone(), offset, data));
                if arguments.contains("RWF_DSYNC") {
                    calls.push(Call::SyncRange(file.path.clone(), offset, result));
                }
            }
            "ftruncate" | "fallocate" => {
                let Some(file) = descriptor.and_then(|fd| open.get(&fd)) else { continue };
                lengths.insert(file.path.clone(), Some(number()));
                calls.push(Call::Truncate(file.path.clone(), number()));
            }
            "fsync" | "fdatasync" => {
                calls.extend(descriptor.and_then(|fd| open.get(&fd)).map(|file| Call::Sync(file.path.clone())));
            }
            "rename" | "renameat" | "renameat2" | "link" | "linkat" => {
                let [from, to] = &paths[..] else { continue };
                let length = lengths.get(from).copied().unwrap_or_else(|| length(from));
                lengths.insert(to.clone(), length);
                if name.starts_with("rename") {
                    lengths.insert(from.clone(), None);
                    // Descriptors follow the file.
                    open.values_mut().filter(|file| file.path == *from).for_each(|file| file.path.clone_from(to));
                    calls.push(Call::Rename(from.clone(), to.clone()));
                } else {
                    calls.push(Call::Link(from.clone(), to.clone()));
                }
            }
            "unlink" | "unlinkat" => {
                let Some(path) = paths.first() else { continue };
                lengths.insert(path.clone(), None);
                calls.push(Call::Remove(path.clone()));
            }
            _ => {}
        }
    }
    calls
}

/// The strings of a call, which stand there as `"\x2f\x74..."`.
fn strings(arguments: &str) -> Vec<Vec<u8>> {
    let quoted = arguments.split('"').skip(1).step_by(2);
    quoted
        .map(|text| text.split("\\x").skip(1).filter_map(|digits| u8::from_str_radix(digits, 16).ok()).collect())
        .collect()
}
