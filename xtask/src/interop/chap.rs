//! CHAP with right and wrong secrets, one way and both, by libiscsi.

use super::Check;
use super::clients::client;
use super::target::{Chap, Kind, Target};
use crate::packages::Need;
use crate::scratch::Scratch;
use anyhow::{Result, ensure};

const MIB: u64 = 1 << 20;
pub(super) const INITIATOR: &str = "iqn.2026-11.org.lunette.test:chap-client";

// Secrets that occur nowhere else, so that finding one in a log means that it leaked.
const SECRET: &str = "kestrel-4711-tidal";
const TARGET_SECRET: &str = "osprey-0815-marsh";
const WRONG_SECRET: &str = "magpie-2718-ridge";

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "chap/one-way",
        claim: "the right secret logs in; a wrong one, a wrong name and no CHAP at all end in status 0201",
        needs: &[Need::Libiscsi],
        peers: true,
        run: one_way,
    },
    Check {
        name: "chap/mutual",
        claim: "the target proves itself with its own secret, and libiscsi refuses a target that cannot",
        needs: &[Need::Libiscsi],
        peers: true,
        run: mutual,
    },
    Check {
        name: "chap/log",
        claim: "a wrong secret leaves a line that names the initiator, and no secret appears in the log",
        needs: &[Need::Libiscsi],
        peers: false,
        run: log,
    },
    Check {
        name: "chap/minimum",
        claim: "an algorithm below the one that 'itadm modify-defaults --chap-minimum' asks for is refused",
        needs: &[Need::Libiscsi],
        peers: false,
        run: minimum,
    },
    Check {
        name: "login/redirection",
        claim: "libiscsi follows a target that has moved, and logs in here again when it is back",
        needs: &[Need::Libiscsi],
        peers: false,
        run: redirection,
    },
];

fn account(mutual: bool) -> Chap {
    Chap {
        initiator: INITIATOR.to_owned(),
        user: "reader".to_owned(),
        secret: SECRET.to_owned(),
        mutual: mutual.then(|| ("array".to_owned(), TARGET_SECRET.to_owned())),
    }
}

/// Logs in by `url` and says whether it worked, with the client's words.
fn login(url: &str) -> Result<(bool, String)> {
    let scratch = Scratch::new("client")?;
    let finished = client(&scratch, "iscsi-inq", &["-i", INITIATOR, url])?;
    ensure!(finished.status.is_some(), "iscsi-inq hangs: {}", finished.output);
    // iscsi-inq also ends with an error code for reasons that are none of CHAP's.
    let inside = finished.success() && finished.output.contains("DIRECT_ACCESS");
    Ok((inside, finished.output))
}

pub(super) fn admitted(url: &str) -> Result<()> {
    let (inside, words) = login(url)?;
    ensure!(inside, "not admitted: {}", words.trim());
    Ok(())
}

/// Refused by the target with "authentication failure", which libiscsi prints as the decimal of 0x0201.
pub(super) fn refused(what: &str, url: &str) -> Result<()> {
    let (inside, words) = login(url)?;
    ensure!(!inside, "{what} was admitted");
    ensure!(words.contains("(513)"), "{what} was not refused with status 0201: {}", words.trim());
    Ok(())
}

fn one_way(kind: Kind) -> Result<()> {
    Target::start_configured(kind, 64 * MIB, Some(&account(false)))?.examine(|target| {
        admitted(&target.url_with("reader", SECRET, None))?;
        refused("a wrong secret", &target.url_with("reader", WRONG_SECRET, None))?;
        refused("a wrong name", &target.url_with("writer", SECRET, None))?;
        refused("no CHAP at all", &target.url())?;
        admitted(&target.url_with("reader", SECRET, None))
    })
}

fn mutual(kind: Kind) -> Result<()> {
    Target::start_configured(kind, 64 * MIB, Some(&account(true)))?.examine(|target| {
        admitted(&target.url_with("reader", SECRET, Some(("array", TARGET_SECRET))))?;
        let (inside, words) = login(&target.url_with("reader", SECRET, Some(("array", WRONG_SECRET))))?;
        ensure!(!inside, "libiscsi accepted a target that answered with another secret: {words}");
        refused("a wrong secret", &target.url_with("reader", WRONG_SECRET, Some(("array", TARGET_SECRET))))?;
        // An initiator need not ask for the target's proof.
        admitted(&target.url_with("reader", SECRET, None))
    })
}

fn minimum(kind: Kind) -> Result<()> {
    Target::start_configured(kind, 64 * MIB, Some(&account(false)))?.examine(|target| {
        let url = target.url_with("reader", SECRET, None);
        admitted(&url)?;
        // Debian 12's libiscsi offers nothing above MD5.
        target.administer(&["itadm", "modify-defaults", "--chap-minimum", "sha256"])?;
        refused("MD5 below the minimum of SHA-256", &url)?;
        target.administer(&["itadm", "modify-defaults", "--chap-minimum", "md5"])?;
        admitted(&url)
    })
}

fn redirection(kind: Kind) -> Result<()> {
    let new = Target::start_configured(kind, 32 * MIB, None)?;
    let new_portal = new.portal().to_string();
    Target::start_configured(kind, 64 * MIB, None)?.examine(|old| {
        let capacity = |expected: u64| {
            let scratch = Scratch::new("client")?;
            let finished = client(&scratch, "iscsi-readcapacity16", &["-i", INITIATOR, "-s", &old.url()])?;
            ensure!(finished.success(), "iscsi-readcapacity16: {}", finished.output.trim());
            let found: u64 = finished.output.trim().parse()?;
            ensure!(found == expected, "a disk of {found} bytes and not of {expected} answered");
            Ok(())
        };
        capacity(64 * MIB)?;
        old.administer(&["itadm", "modify-target", "--redirect", &new_portal, old.iqn()])?;
        capacity(32 * MIB)?;
        // libiscsi follows a target that has moved for a while, and gives up on one that has for good: status 0102.
        old.administer(&["itadm", "modify-target", "--moved", &new_portal, old.iqn()])?;
        let (inside, words) = login(&old.url())?;
        ensure!(!inside && words.contains("(258)"), "not told that the target has moved: {}", words.trim());
        let said = old.log();
        ensure!(said.contains("redirected login") && said.contains(&new_portal), "no line about it:\n{said}");
        old.administer(&["itadm", "modify-target", "--redirect", "none", old.iqn()])?;
        capacity(64 * MIB)
    })?;
    new.stop()
}

fn log(kind: Kind) -> Result<()> {
    Target::start_configured(kind, 64 * MIB, Some(&account(true)))?.examine(|target| {
        admitted(&target.url_with("reader", SECRET, Some(("array", TARGET_SECRET))))?;
        let before = target.log().lines().count();
        refused("a wrong secret", &target.url_with("reader", WRONG_SECRET, None))?;
        let said = target.log();
        let named = said.lines().skip(before).any(|line| line.contains(INITIATOR));
        ensure!(named, "no line about the refusal names {INITIATOR}:\n{said}");
        for secret in [SECRET, TARGET_SECRET, WRONG_SECRET] {
            ensure!(!said.contains(secret), "the log shows a secret");
        }
        Ok(())
    })
}
