//! The files of a store: who may read and write them, how large they are, and where they lie.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use persist_core::inspect::code;
use persist_core::{Error, Finding, Result, Severity};

use crate::error;

/// What a store's file and those beside it are to be: nobody's but their owner's.
const OWNERS_ONLY: u32 = 0o600;
/// Rights of the group and of all others.
const OTHERS: u32 = 0o077;
/// Rights of those who are not even of the group.
const STRANGERS: u32 = 0o007;
/// The right of a group to write: somebody shares the file on purpose, as no program of ours does by itself.
const GROUP_WRITES: u32 = 0o020;
/// The right of the group and of all others to write.
const OTHERS_WRITE: u32 = 0o022;
/// Who makes a file in such a folder is the only one who can replace it.
const STICKY: u32 = 0o1000;
/// Twice what is kept of the log.
const LARGE_LOG: u64 = 128 << 20;
/// What file systems of a network are called where the kernel lists them.
const OF_NETWORKS: [&str; 9] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "fuse.sshfs",
];

/// The file, its log, the log's index.
fn of_store(path: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|end| {
        let mut name = OsString::from(path);
        name.push(end);
        name.into()
    })
}

/// Looks at the files. One that can't be looked at is left out: whether the store can be used shows elsewhere.
pub(super) fn look(path: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_shared = is_shared(path);
    for file in of_store(path) {
        let Ok(found) = fs::symlink_metadata(&file) else {
            continue;
        };
        if found.is_file() && found.mode() & OTHERS != 0 {
            findings.push(file_mode(&file, found.mode(), is_shared));
        }
    }
    if let Some(folder) = path.parent()
        && let Ok(found) = fs::metadata(folder)
        && found.mode() & OTHERS_WRITE != 0
        && found.mode() & STICKY == 0
    {
        let what = format!(
            "the folder has mode {:o}: others may write to it",
            found.mode() & 0o7777
        );
        let why = "whoever may write to the folder can replace the file";
        let finding = Finding::new(code::FOLDER_MODE, shown(folder), Severity::Warning, what, why);
        findings.push(finding.mended_by([format!("chmod go-w {}", quoted(folder))]));
    }
    let [_, log, _] = of_store(path);
    if let Ok(found) = fs::symlink_metadata(&log)
        && found.len() > LARGE_LOG
    {
        let what = format!("the log has {} MiB", found.len() >> 20);
        let why = "somebody reads for long, or a program was killed; every read looks into the log first";
        let finding = Finding::new(code::LOG_LARGE, shown(&log), Severity::Warning, what, why);
        findings.push(finding.mended_by(["PRAGMA wal_checkpoint(TRUNCATE)"]));
    }
    if let Some(kind) = network_of(path) {
        let what = format!("the file is on a file system of a network ({kind})");
        let why =
            "locks and memory that programs share do not work reliably there: use one machine, or Postgres";
        findings.push(Finding::new(
            code::NETWORK_FILE,
            shown(path),
            Severity::Warning,
            what,
            why,
        ));
    }
    findings
}

/// Whether a group may write to any of the files: they are of use to it together only.
fn is_shared(path: &Path) -> bool {
    let mut found = of_store(path)
        .into_iter()
        .filter_map(|file| fs::symlink_metadata(file).ok());
    found.any(|found| found.is_file() && found.mode() & GROUP_WRITES != 0)
}

fn file_mode(file: &Path, mode: u32, is_shared: bool) -> Finding {
    let can = if mode & OTHERS_WRITE == 0 { "read" } else { "write" };
    let what = format!("the file has mode {:o}: others may {can} it", mode & 0o7777);
    let why = "all that is stored is in it, and each program of ours makes it for its owner alone";
    let finding = Finding::new(code::FILE_MODE, shown(file), Severity::Warning, what, why);
    if !is_shared {
        finding.mended_by([format!("chmod 600 {}", quoted(file))]).safe()
    } else if mode & STRANGERS != 0 {
        finding
            .mended_by([format!("chmod o-rwx {}", quoted(file))])
            .safe()
    } else {
        let mut finding = finding.mended_by([format!("chmod 600 {}", quoted(file))]);
        finding.why =
            "all that is stored is in it; a group may write, which somebody wants: it is locked out by this"
                .into();
        finding
    }
}

/// Takes the rights of others from the file that a finding names; those of a group that shares it stay.
///
/// # Errors
/// `InvalidUrl` where the file is another's.
pub(super) fn close_to_others(path: &Path, place: &str) -> Result<()> {
    let is_shared = is_shared(path);
    for file in of_store(path) {
        // By its path: closing a file that was opened for it would let go of all locks that SQLite holds on it.
        let Ok(found) = fs::symlink_metadata(&file) else {
            continue;
        };
        if found.is_file() && shown(&file) == place {
            let mode = if is_shared {
                found.mode() & 0o7777 & !STRANGERS
            } else {
                OWNERS_ONLY
            };
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).map_err(|error| of_io(&error))?;
        }
    }
    Ok(())
}

fn of_io(cause: &std::io::Error) -> Error {
    error::of_io(cause)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A path in a command of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", shown(path).replace('\'', "'\\''"))
}

/// The sort of file system, where it is one of a network and the kernel tells.
fn network_of(path: &Path) -> Option<String> {
    let device = fs::metadata(path).ok()?.dev();
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    network_in(&mounts, device)
}

fn network_in(mounts: &str, device: u64) -> Option<String> {
    // As the C library takes a device number apart.
    let major = ((device >> 8) & 0xfff) | ((device >> 32) & !0xfff);
    let minor = (device & 0xff) | ((device >> 12) & !0xff);
    let device = format!("{major}:{minor}");
    let kind = mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let is_it = mount.split(' ').nth(2) == Some(device.as_str());
        is_it.then(|| kind.split(' ').next().unwrap_or_default())
    })?;
    OF_NETWORKS.contains(&kind).then(|| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_of_a_network_is_told_by_its_device() {
        let mounts =
            "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n40 22 0:51 / /home rw shared:1 - nfs4 server:/home rw\n";
        assert_eq!(network_in(mounts, 51).as_deref(), Some("nfs4"));
        assert_eq!(network_in(mounts, 0x801), None);
        assert_eq!(network_in(mounts, 77), None);
    }

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        assert_eq!(quoted(Path::new("/a b/c'd")), "'/a b/c'\\''d'");
    }
}
