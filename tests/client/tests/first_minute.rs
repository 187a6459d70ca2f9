//! The first minute of README.md is what happens: psql, told what stands there after `=#`, answers what stands there.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tombstone_client_tests::server::Server;

const PROMPT: &str = "=# ";
const DATABASE: &str = "first_minute";

#[tokio::test]
async fn the_first_minute_is_what_happens() -> Result<()> {
    let server = Server::shared()?;
    let _client = server.database(DATABASE).await?;
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md"))?;
    let steps = steps(&readme);
    ensure!(steps.len() > 10, "the first minute has {} steps", steps.len());
    for Step { statement, answer } in steps {
        let said = answer_of(&server, &statement)?;
        // What answers nothing of interest says nothing there; it must succeed all the same.
        let expected = if answer.is_empty() && !is_error(&said) { said.clone() } else { answer };
        assert_eq!(said, expected, "{statement}: left, what psql said; right, README.md");
    }
    Ok(())
}

/// A statement, and the lines after it.
struct Step {
    statement: String,
    answer: Vec<Vec<String>>,
}

fn steps(readme: &str) -> Vec<Step> {
    let section = readme.lines().skip_while(|line| *line != "## The first minute").skip(1);
    let section = section.take_while(|line| !line.starts_with("## "));
    let mut steps: Vec<Step> = Vec::new();
    let (mut in_block, mut in_statement) = (false, false);
    for line in section {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if let (true, Some(statement)) = (in_block, line.strip_prefix(PROMPT)) {
            steps.push(Step { statement: statement.to_string(), answer: Vec::new() });
            in_statement = !ends(statement);
        } else if let (true, Some(step)) = (in_block, steps.last_mut()) {
            if in_statement {
                step.statement += &format!("\n{line}");
                in_statement = !ends(line);
            } else {
                step.answer.extend(cells(line));
            }
        }
    }
    steps
}

/// Whether a statement ends here, before a comment if there is one.
fn ends(line: &str) -> bool {
    line.split("--").next().is_some_and(|code| code.trim_end().ends_with(';'))
}

fn answer_of(server: &Server, statement: &str) -> Result<Vec<Vec<String>>> {
    let arguments = ["--no-psqlrc", "--pset=footer=off", "--pset=pager=off", "--dbname", DATABASE, "--command", statement];
    let output = server.command("psql").env("PGTZ", "UTC").args(arguments).output().context("starting psql")?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8(said)?.lines().flat_map(cells).collect())
}

fn is_error(answer: &[Vec<String>]) -> bool {
    answer.iter().flatten().any(|cell| cell.starts_with("ERROR:"))
}

/// The cells of a line, however wide; moments are any moment. None of an empty line, or a rule.
fn cells(line: &str) -> Option<Vec<String>> {
    let is_rule = line.chars().all(|c| "-+ ".contains(c));
    let is_moment = |cell: &str| cell.starts_with("20") && cell.contains(':') && cell.ends_with("+00");
    let cell = |cell: &str| if is_moment(cell) { "a moment".to_string() } else { cell.to_string() };
    (!is_rule).then(|| line.split('|').map(str::trim).map(cell).collect())
}
