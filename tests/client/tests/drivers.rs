//! The table of docs/drivers.md is what drivers make of our SQLSTATEs, and it has all of them that README.md has.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tokio_postgres::error::SqlState;
use tombstone_client_tests::python::python;
use tombstone_client_tests::server::Server;

/// The constants of these names, with their names.
macro_rules! named {
    ($($name:ident),* $(,)?) => { [$((SqlState::$name, stringify!($name))),*] };
}

#[tokio::test]
async fn the_table_says_what_drivers_do() -> Result<()> {
    let server = Server::shared()?;
    let _client = server.database("drivers").await?;
    let table = rows(&read("docs/drivers.md")?);
    ensure!(!table.is_empty(), "docs/drivers.md has no table");
    let output = python("error_classes")?
        .arg(server.conninfo("drivers"))
        .args(table.iter().map(|row| &row[0]))
        .output()
        .context("starting python3")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let raised = String::from_utf8(output.stdout)?;
    let wanted = table.iter().map(|row| format!("{0} {1} {2} {2} {2}", row[0], row[1], row[2]));
    assert_eq!(raised.lines().map(str::to_string).collect::<Vec<_>>(), wanted.collect::<Vec<_>>());

    let constants = named![
        INVALID_PARAMETER_VALUE,
        INSUFFICIENT_PRIVILEGE,
        NO_DATA_FOUND,
        UNDEFINED_OBJECT,
        OBJECT_IN_USE,
        FOREIGN_KEY_VIOLATION,
        UNIQUE_VIOLATION,
        DUPLICATE_OBJECT,
        DEPENDENT_OBJECTS_STILL_EXIST,
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        ACTIVE_SQL_TRANSACTION,
        FEATURE_NOT_SUPPORTED,
    ];
    let constants = constants.map(|(state, name)| (state.code().to_string(), name.to_string()));
    assert_eq!(table.iter().map(|row| (row[0].clone(), row[3].clone())).collect::<Vec<_>>(), constants);
    Ok(())
}

#[test]
fn it_has_the_sqlstates_of_the_readme() -> Result<()> {
    let readme = read("README.md")?;
    let section = readme.split("\n## SQLSTATEs\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let codes = section.context("README.md has no such section")?.lines().filter_map(|line| line.strip_prefix("| "));
    let codes = codes.filter_map(|line| line.split(" | ").next()).flat_map(|cell| cell.split(", ").map(code)).flatten();
    let table = rows(&read("docs/drivers.md")?);
    assert_eq!(codes.collect::<Vec<_>>(), table.iter().map(|row| row[0].clone()).collect::<Vec<_>>());
    Ok(())
}

/// The SQLSTATE that a cell begins with.
fn code(cell: &str) -> Option<String> {
    let word = cell.split(' ').next()?;
    (word.len() == 5 && word.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase())).then(|| word.to_string())
}

/// The cells of the rows that begin with a SQLSTATE, without what marks code.
fn rows(markdown: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect::<Vec<_>>();
    let lines = markdown.lines().filter(|line| line.starts_with("| "));
    lines.map(cells).filter(|cells| code(&cells[0]).is_some()).collect()
}

fn read(file: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}
