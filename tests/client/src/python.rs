//! Programs in Python, of the directory `python` beside this crate. `TOMBSTONE_PYTHONPATH` says where the packages are that they
//! import.

use std::env;
use std::process::Command;

use anyhow::{Context, Result};

const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python");

/// Runs `module`, one of these programs.
pub fn python(module: &str) -> Result<Command> {
    let packages = env::var("TOMBSTONE_PYTHONPATH")
        .context("set TOMBSTONE_PYTHONPATH: where the packages are, as scripts/setup has put them")?;
    let mut command = Command::new("python3");
    command
        .args(["-m", module])
        .env("PYTHONPATH", env::join_paths([PROGRAMS, &packages])?)
        .env("PYTHONIOENCODING", "utf-8")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}
