//! What an administrator gets wrong: each a message that names the thing, and nothing lost.

use super::Check;
use super::target::{Kind, Target, free_portal, lunette};
use super::wire::{Initiator, Settings, cdb16};
use crate::process::{Finished, run_limited, tethered};
use crate::scratch::Scratch;
use anyhow::{Result, ensure};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// How long a start that cannot succeed may take to say so.
const REFUSAL_LIMIT: Duration = Duration::from_secs(15);

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "startup/used-port",
        claim: "a portal that another program uses is named in the error, and the exit code is 1",
        needs: &[],
        peers: false,
        run: used_port,
    },
    Check {
        name: "startup/backing-file",
        claim: "create-lu over what cannot be a backing file is refused by path and leaves no LU behind",
        needs: &[],
        peers: false,
        run: backing_file,
    },
    Check {
        name: "startup/missing-backing-file",
        claim: "a server whose backing file went away starts, serves the rest, and names the LU and the path",
        needs: &[],
        peers: false,
        run: missing_backing_file,
    },
    Check {
        name: "startup/corrupt-state",
        claim: "a damaged configuration store is refused by path and not touched",
        needs: &[],
        peers: false,
        run: corrupt_state,
    },
    Check {
        name: "startup/sigterm-with-a-session",
        claim: "SIGTERM ends the server in order while a session is open, and its writes are there afterwards",
        needs: &[],
        peers: false,
        run: sigterm,
    },
];

fn serve(scratch: &Scratch, state: &Path, portal: &str) -> Result<Finished> {
    let mut command = tethered(lunette()?);
    command.arg("serve").arg("--state").arg(state).arg("--socket").arg(scratch.join("other.socket"));
    command.args(["--portal", portal]);
    run_limited("lunette serve", command, REFUSAL_LIMIT, &scratch.join("other.log"))
}

fn used_port(_: Kind) -> Result<()> {
    let scratch = Scratch::new("startup")?;
    let taken = TcpListener::bind(free_portal()?)?;
    let portal = taken.local_addr()?.to_string();
    let mut command = tethered(lunette()?);
    command.arg("demo").arg("--dir").arg(scratch.join("demo")).args(["--size", "16M", "--portal", &portal]);
    for finished in [
        run_limited("lunette demo", command, REFUSAL_LIMIT, &scratch.join("log"))?,
        serve(&scratch, &scratch.join("state"), &portal)?,
    ] {
        ensure!(finished.status.is_some_and(|status| status.code() == Some(1)), "ended with {}", finished.verdict());
        ensure!(finished.output.contains(&portal), "the error does not name {portal}: {}", finished.output.trim());
    }
    Ok(())
}

fn backing_file(kind: Kind) -> Result<()> {
    Target::start_configured(kind, 16 * MIB, None)?.examine(|target| {
        let before = target.administer(&["stmfadm", "list-lu"])?;
        let missing = target.scratch().join("no-such-directory").join("lu");
        let directory = target.scratch().join("a-directory");
        std::fs::create_dir(&directory)?;
        for path in [&missing, &directory] {
            let name = path.display().to_string();
            let refused = target.administer(&["stmfadm", "create-lu", "--size", "16M", &name]);
            let words = refused.err().map(|error| error.to_string()).unwrap_or_default();
            ensure!(!words.is_empty(), "create-lu accepted '{name}'");
            // The command line that the error quotes has the path as well, so look behind it.
            let said = words.split_once("): ").map(|(_, said)| said.to_owned()).unwrap_or_default();
            ensure!(said.contains(&name), "the error does not name the file: {said}");
        }
        ensure!(target.administer(&["stmfadm", "list-lu"])? == before, "a refused create-lu left something behind");
        Ok(())
    })
}

fn missing_backing_file(kind: Kind) -> Result<()> {
    Target::start_configured(kind, 16 * MIB, None)?.examine(|target| {
        let second = target.scratch().join("second").display().to_string();
        let said = target.administer(&["stmfadm", "create-lu", "--size", "16M", &second])?;
        let guid = said.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        target.administer(&["stmfadm", "add-view", "--lun", "1", &guid])?;
        target.kill();
        let away = target.scratch().join("second.away");
        std::fs::rename(&second, &away)?;
        target.restart()?;
        let settings = Settings::new(target.portal(), target.iqn(), "missing");
        let mut session = Initiator::login(&settings)?;
        session.make_ready(0)?;
        session.read(0, 0, 8)?;
        let gone = session.command(1, &[0; 6], &[], 0)?;
        ensure!(gone.status != 0, "an LU without its file is ready");
        let listed = target.administer(&["stmfadm", "list-lu", "--verbose", &guid])?;
        ensure!(listed.contains("unregistered") || listed.contains("Offline"), "list-lu says:\n{listed}");
        let log = target.log();
        ensure!(log.contains(&second), "the log does not name '{second}':\n{log}");
        // The file comes back: nothing about the LU was lost meanwhile.
        target.kill();
        std::fs::rename(&away, &second)?;
        target.restart()?;
        let mut session = Initiator::login(&settings)?;
        session.make_ready(1)?;
        session.read(1, 0, 8)?;
        Ok(())
    })
}

/// Every regular file below `directory` with its content.
fn contents(directory: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(contents(&path)?);
        } else if path.is_file() {
            found.push((path.clone(), std::fs::read(&path)?));
        }
    }
    found.sort();
    Ok(found)
}

fn corrupt_state(kind: Kind) -> Result<()> {
    let mut target = Target::start_configured(kind, 16 * MIB, None)?;
    target.kill();
    let state = target.scratch().join("state");
    let (store, mut bytes) = contents(&state)?
        .into_iter()
        .max_by_key(|(_, bytes)| bytes.len())
        .ok_or_else(|| anyhow::anyhow!("the state directory is empty"))?;
    let half = bytes.len().min(8192);
    bytes[..half].fill(0xa5);
    std::fs::write(&store, &bytes)?;
    let finished = serve(target.scratch(), &state, &free_portal()?.to_string())?;
    ensure!(finished.status.is_some_and(|status| status.code() == Some(1)), "ended with {}", finished.verdict());
    let name = store.display().to_string();
    ensure!(finished.output.contains(&name), "the error does not name '{name}': {}", finished.output.trim());
    ensure!(!finished.output.contains("panicked"), "a panic: {}", finished.output.trim());
    ensure!(std::fs::read(&store)? == bytes, "the damaged store was changed");
    Ok(())
}

fn sigterm(kind: Kind) -> Result<()> {
    let mut target = Target::start_configured(kind, 16 * MIB, None)?;
    let settings = Settings::new(target.portal(), target.iqn(), "sigterm");
    let mut session = Initiator::login(&settings)?;
    session.make_ready(0)?;
    let data = vec![0x42; 64 * 512];
    session.command(0, &cdb16(0x8a, 0, 100, 64), &data, 0)?.good()?;
    // Nobody answers the logout request here: the server has to drop the session when its patience ends.
    target.terminate()?;
    drop(session);
    target.restart()?;
    target.examine(|_| {
        let mut session = Initiator::login(&settings)?;
        session.make_ready(0)?;
        ensure!(session.read(0, 100, 64)? == data, "an acknowledged write is gone after an orderly end");
        Ok(())
    })
}
