//! Three ORMs on managed tables of either layout: SQLAlchemy with Alembic, Django, and TypeORM. They delete as they do anywhere, count the rows that
//! the server says it has deleted, and find everything again after an undo. What they do stands in tests/client/python and
//! tests/client/node, a suite of the language's own for each; here they get a database and its owner, who is no superuser.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tombstone_client_tests::node::node;
use tombstone_client_tests::python::python;
use tombstone_client_tests::server::Server;

#[tokio::test]
async fn sqlalchemy_gets_back_what_it_deleted() -> Result<()> {
    succeeds(python("unittest")?.args(["--verbose", "with_sqlalchemy"]), "Ran 0 tests", "alchemist").await
}

#[tokio::test]
async fn django_gets_back_what_it_deleted() -> Result<()> {
    succeeds(python("unittest")?.args(["--verbose", "with_django"]), "Ran 0 tests", "django").await
}

#[tokio::test]
async fn sqlalchemy_soft_deletes_in_place() -> Result<()> {
    succeeds(python("unittest")?.args(["--verbose", "sqlalchemy_in_place"]), "Ran 0 tests", "alchemist_in_place").await
}

#[tokio::test]
async fn django_soft_deletes_in_place() -> Result<()> {
    succeeds(python("unittest")?.args(["--verbose", "django_in_place"]), "Ran 0 tests", "django_in_place").await
}

#[tokio::test]
async fn typeorm_gets_back_what_it_deleted() -> Result<()> {
    succeeds(&mut node("with_typeorm")?, "# tests 0", "carpenter").await
}

/// What the pages in docs/ show stands in the suites, line for line but for its indentation.
#[test]
fn pages_show_code_that_runs() -> Result<()> {
    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let read = |path: &str| fs::read_to_string(format!("{ROOT}/{path}")).with_context(|| path.to_string());
    for (page, suites) in [
        ("django", ["python/with_django.py", "python/django_in_place.py"].as_slice()),
        ("sqlalchemy", &["python/with_sqlalchemy.py", "python/sqlalchemy_in_place.py"]),
        ("typeorm", &["node/with_typeorm.js"]),
    ] {
        let suites = suites.iter().map(|suite| read(&format!("tests/client/{suite}"))).collect::<Result<Vec<_>>>()?;
        let suites: Vec<Vec<&str>> = suites.iter().map(|suite| lines(suite)).collect();
        let text = read(&format!("docs/{page}.md"))?;
        let shown: Vec<Vec<&str>> = text.split("```").skip(1).step_by(2).map(|block| lines(block).split_off(1)).collect();
        ensure!(!shown.is_empty(), "docs/{page}.md shows no code");
        for block in shown {
            let is_in = |suite: &Vec<&str>| suite.windows(block.len()).any(|part| part == block);
            ensure!(suites.iter().any(is_in), "docs/{page}.md shows what no suite runs:\n{}", block.join("\n"));
        }
    }
    Ok(())
}

/// The lines that are not blank, without their indentation.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// Runs a suite in a database of its own, of a role of the same name. `nothing` is what it says where it has found no test.
async fn succeeds(suite: &mut Command, nothing: &str, owner: &str) -> Result<()> {
    let server = Server::shared()?;
    let client = server.database(owner).await?;
    client.batch_execute(&format!("CREATE ROLE {owner} LOGIN; ALTER DATABASE {owner} OWNER TO {owner}")).await?;
    // Of a word said twice libpq takes the later one.
    let conninfo = format!("{} user={owner}", server.conninfo(owner));
    let output = suite.env("TOMBSTONE_CONNINFO", conninfo).output().context("starting the suite")?;
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    ensure!(output.status.success() && !said.contains(nothing), "{suite:?} ended with {}:\n{said}", output.status);
    Ok(())
}
