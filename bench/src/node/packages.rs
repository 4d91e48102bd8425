//! The Node programs of the bench and the packages that they need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context, ensure};

/// Where the Node programs are, and what they need is listed.
const APPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node");

/// Installs the packages, unless they are there as the lock file wants them; the folder of the
/// programs. Errors when npm is not there or fails.
pub fn install() -> anyhow::Result<PathBuf> {
    let apps = PathBuf::from(APPS);
    if changed(&apps.join("node_modules/.package-lock.json"))
        < changed(&apps.join("package-lock.json"))
    {
        let status = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"])
            .current_dir(&apps)
            .stdout(Stdio::null())
            .status()
            .context("cannot run npm, install it to measure the Node primaries")?;
        ensure!(status.success(), "npm ci failed in {}, is its registry there?", apps.display());
    }
    Ok(apps)
}

/// The version of Node, such as `v20.20.2`. Errors when it is not there.
pub fn node_version() -> anyhow::Result<String> {
    let output = Command::new("node")
        .arg("--version")
        .output()
        .context("cannot run node, install it to measure the Node primaries")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
