//! Two ORMs on tables with layout archive: SQLAlchemy with Alembic, and Django. They delete as they do anywhere, count the rows that
//! the server says it has deleted, and find everything again after an undo. What they do stands in tests/client/python, a suite of
//! Python's own for each; here they get a database and its owner, who is no superuser.

use anyhow::{Context, Result, ensure};
use tombstone_client_tests::python::python;
use tombstone_client_tests::server::Server;

#[tokio::test]
async fn sqlalchemy_gets_back_what_it_deleted() -> Result<()> {
    run("with_sqlalchemy", "alchemist").await
}

#[tokio::test]
async fn django_gets_back_what_it_deleted() -> Result<()> {
    run("with_django", "django").await
}

/// Runs a suite in a database of its own, of a role of the same name.
async fn run(suite: &str, owner: &str) -> Result<()> {
    let server = Server::shared()?;
    let client = server.database(owner).await?;
    client.batch_execute(&format!("CREATE ROLE {owner} LOGIN; ALTER DATABASE {owner} OWNER TO {owner}")).await?;
    // Of a word said twice libpq takes the later one.
    let conninfo = format!("{} user={owner}", server.conninfo(owner));
    let output = python("unittest")?
        .args(["--verbose", suite])
        .env("TOMBSTONE_CONNINFO", conninfo)
        .output()
        .context("starting python3")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && !said.contains("Ran 0 tests"), "{suite} ended with {}:\n{said}", output.status);
    Ok(())
}
