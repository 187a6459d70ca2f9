//! Three ORMs on managed tables: SQLAlchemy with Alembic, Django, and TypeORM. They delete as they do anywhere, count the rows that
//! the server says it has deleted, and find everything again after an undo. What they do stands in tests/client/python and
//! tests/client/node, a suite of the language's own for each; here they get a database and its owner, who is no superuser.

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
async fn typeorm_gets_back_what_it_deleted() -> Result<()> {
    succeeds(&mut node("with_typeorm")?, "# tests 0", "carpenter").await
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
