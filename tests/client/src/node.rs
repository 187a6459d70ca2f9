//! Programs in JavaScript, of the directory `node` beside this crate. `TOMBSTONE_NODE_PATH` says where the packages are that they
//! need.

use std::env;
use std::process::Command;

use anyhow::{Context, Result};

const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node");

/// Runs `suite`, one of these programs, whose tests Node.js runs.
pub fn node(suite: &str) -> Result<Command> {
    let packages = env::var("TOMBSTONE_NODE_PATH")
        .context("set TOMBSTONE_NODE_PATH: where the packages are, as scripts/setup has put them")?;
    let mut command = Command::new("node");
    command.args(["--test", &format!("{PROGRAMS}/{suite}.js")]).env("NODE_PATH", packages);
    Ok(command)
}
