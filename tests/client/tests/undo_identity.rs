//! undo(delete(x)) = x: over schemas at random, with random rows and random deletions, on a real server, against a copy.
//!
//! Short in the suite; TOMBSTONE_SCHEMAS=500 is the long form. The seed is printed: TOMBSTONE_SEED=that tries the same schemas again,
//! and what a failure prints, that schema alone.

use std::collections::BTreeMap;
use std::env;

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use tokio_postgres::{Client, SimpleQueryMessage};
use tombstone_client_tests::random_schema::{Abilities, Schema, Step, Table, settings};
use tombstone_client_tests::server::Server;
use tombstone_client_tests::workload::seed;

/// How many schemas the suite tries.
const SHORT: u64 = 60;
/// After so many failures there is enough to think about.
const MOST_FAILURES: usize = 5;
/// What a bin says of its rows besides.
const OWN_COLUMNS: [&str; 6] = ["deletion", "deleted_at", "actor", "cause", "reason", "app_actor"];
/// How values are to look, whatever the application has set.
const PLAIN: &str = "RESET ALL; SET extra_float_digits = 3; SET client_min_messages = warning; ";

#[tokio::test]
async fn undo_brings_back_whatever_was_deleted() -> Result<()> {
    let seed = seed();
    let schemas = env::var("TOMBSTONE_SCHEMAS").ok().and_then(|schemas| schemas.parse().ok()).unwrap_or(SHORT);
    let server = Server::shared()?;
    let client = server.database("identity").await?;
    client.batch_execute("CREATE ROLE app; GRANT CREATE ON DATABASE identity TO app").await?;
    let abilities = abilities(&client).await?;

    let (mut failures, mut tally) = (0, Tally::default());
    for number in 0..schemas {
        let of_schema = seed.wrapping_add(number);
        let random = Rng::with_seed(of_schema);
        let mut trial = Trial::new(&client, format!("s{number}"), abilities, random);
        if let Err(error) = trial.run(&mut tally).await {
            println!("-- TOMBSTONE_SEED={of_schema} TOMBSTONE_SCHEMAS=1 fails: {error:#}\n{}\n", trial.script.join(";\n"));
            failures += 1;
            if failures == MOST_FAILURES || client.is_closed() {
                bail!("{failures} of {} schemas failed, from seed {seed} on", number + 1);
            }
        }
        trial.clear_up().await?;
    }
    println!("{schemas} schemas: {tally:?}");
    ensure!(failures == 0, "{failures} of {schemas} schemas failed, from seed {seed} on");
    ensure!(schemas < SHORT || tally.undone > schemas / 4, "too little was deleted to tell: {tally:?}");
    Ok(())
}

async fn abilities(client: &Client) -> Result<Abilities> {
    let version = client.query_one("SELECT current_setting('server_version_num')::int", &[]).await?.get(0);
    let xml = client.simple_query("SELECT '<a/>'::xml").await.is_ok();
    Ok(Abilities { version, xml })
}

/// What was tried, and how often.
#[derive(Debug, Default)]
struct Tally {
    deletions: u64,
    refused: u64,
    of_nothing: u64,
    undone: u64,
    records: usize,
}

/// One schema, and what is done to it.
struct Trial<'a> {
    client: &'a Client,
    schema: Schema,
    random: Rng,
    /// All SQL so far that changes anything.
    script: Vec<String>,
    /// For each table its bin.
    bins: Vec<String>,
}

/// A deletion that can be undone: what was before is in the copies of its round.
struct Deletion {
    number: i64,
    round: usize,
    records: Records,
    sequences: String,
}

/// Relations and ids, each with how often.
type Records = BTreeMap<(String, String), usize>;

impl<'a> Trial<'a> {
    fn new(client: &'a Client, name: String, abilities: Abilities, mut random: Rng) -> Self {
        let schema = Schema::new(name, abilities, &mut random);
        Self { client, schema, random, script: vec![], bins: vec![] }
    }

    /// Deletes several times, then undoes that in the opposite order.
    async fn run(&mut self, tally: &mut Tally) -> Result<()> {
        self.set_up().await?;
        let mut deletions = Vec::new();
        for round in 0..self.random.usize(1..4) {
            deletions.extend(self.delete(round, tally).await.with_context(|| format!("deletion in round {round}"))?);
        }
        while let Some(deletion) = deletions.pop() {
            let number = deletion.number;
            tally.undone += 1;
            tally.records += deletion.records.len();
            self.undo(deletion).await.with_context(|| format!("undo of deletion {number}"))?;
        }
        Ok(())
    }

    async fn set_up(&mut self) -> Result<()> {
        let role = if self.random.u8(0..3) == 0 { "SET ROLE app" } else { "SET ROLE postgres" };
        self.execute(&format!("{PLAIN}{role}")).await?;
        for statement in self.schema.setup.clone() {
            self.execute(&statement).await?;
        }
        for table in self.schema.tables.clone() {
            let bin = format!("SELECT archive::text FROM tombstone.tables WHERE relation = '{}'::regclass", table.name);
            self.bins.push(self.value(&bin).await?.with_context(|| format!("table {} has no bin", table.name))?);
        }
        Ok(())
    }

    async fn clear_up(&self) -> Result<()> {
        let drop = format!(
            "ROLLBACK; RESET ROLE; SET client_min_messages = error; DROP SCHEMA IF EXISTS {} CASCADE",
            self.schema.name
        );
        Ok(self.client.batch_execute(&drop).await?)
    }

    /// Some statements in one transaction, or what Postgres says to them without us.
    async fn delete(&mut self, round: usize, tally: &mut Tally) -> Result<Option<Deletion>> {
        self.plain().await?;
        for table in self.schema.tables.clone() {
            self.execute(&format!("CREATE TABLE {} AS SELECT * FROM {}", copy(&table.name, round), table.name)).await?;
        }
        self.execute(&format!("CREATE TABLE {} AS SELECT * FROM counter", copy("counter", round))).await?;
        let (sequences, cursor) = (self.sequences().await?, self.cursor().await?);
        let steps = self.schema.deletes(&mut self.random);
        let settings = settings(&mut self.random);
        let isolation = ["READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];
        let begin = format!("{settings}BEGIN ISOLATION LEVEL {}", isolation[self.random.usize(0..isolation.len())]);

        tally.deletions += 1;
        let bare = self.without_us(&begin, &steps).await?;
        self.plain().await?;
        let done = self.transaction(&begin, &steps).await?;
        self.plain().await?;

        let (result, live) = (done, self.live().await?);
        ensure!(result == bare.0, "it went otherwise than without us: {result:?} instead of {:?}", bare.0);
        if result.is_err() {
            tally.refused += 1;
            self.compare_with_copy(round).await.context("it was refused, and changed something")?;
            return Ok(None);
        }
        ensure!(live == bare.1, "it left other rows than without us");
        let Some(number) = self.number(round).await? else {
            tally.of_nothing += 1;
            self.compare_with_copy(round).await.context("nothing is in the bins")?;
            return Ok(None);
        };
        self.compare_with_bins(round, number).await?;

        let in_bins = self.count_in_bins(number).await?;
        let events = self.events(&cursor, "op = 'delete'").await?;
        ensure!(events.values().all(|times| *times == 1), "deleted twice: {events:?}");
        ensure!(events.len() == in_bins, "{in_bins} rows in the bins, but events of {events:?}");
        let strange = format!("op = 'delete' AND (deletion_type <> 'soft' OR restored OR deletion IS DISTINCT FROM {number})");
        let strange = self.events(&cursor, &strange).await?;
        ensure!(strange.is_empty(), "strange events: {strange:?}");
        Ok(Some(Deletion { number, round, records: events, sequences }))
    }

    /// The same with no table managed, rolled back: how it went, and what it left.
    async fn without_us(&mut self, begin: &str, steps: &[Step]) -> Result<(Outcome, String)> {
        let said = self.script.len();
        self.execute("BEGIN").await?;
        for table in self.schema.tables.clone() {
            self.execute(&format!("SELECT tombstone.unmanage('{}')", table.name)).await?;
        }
        // A transaction's isolation is settled by now; alone as we are, it makes no difference.
        let begin = begin.rsplit_once("BEGIN").map_or("", |(settings, _)| settings);
        let plain: Vec<Step> = steps.iter().map(|step| Step { sql: step.plain.clone(), ..step.clone() }).collect();
        self.execute(begin).await?;
        let mut outcome = self.statements(&plain).await?;
        if outcome.is_ok()
            && let Err(error) = self.client.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await
        {
            outcome = Err(code(&error)?);
        }
        let live = match &outcome {
            Ok(_) => {
                self.client.batch_execute("SET LOCAL extra_float_digits = 3").await?;
                self.live().await?
            }
            Err(_) => String::new(),
        };
        self.execute("ROLLBACK").await?;
        self.script.truncate(said);
        Ok((outcome, live))
    }

    async fn transaction(&mut self, begin: &str, steps: &[Step]) -> Result<Outcome> {
        self.execute(begin).await?;
        let mut outcome = self.statements(steps).await?;
        let end = if outcome.is_ok() { "COMMIT" } else { "ROLLBACK" };
        self.script.push(end.into());
        if let Err(error) = self.client.batch_execute(end).await {
            outcome = Err(code(&error)?);
        }
        Ok(outcome)
    }

    /// How many rows each statement says it has deleted, or the code of the first refusal.
    async fn statements(&mut self, steps: &[Step]) -> Result<Outcome> {
        let mut counts = Vec::new();
        for Step { sql: statement, taken_back, .. } in steps {
            if *taken_back {
                self.execute("SAVEPOINT s").await?;
            }
            self.script.push(statement.clone());
            match self.client.simple_query(statement).await {
                Ok(messages) => counts.push(tag(&messages)),
                Err(error) if *taken_back => {
                    code(&error)?;
                }
                Err(error) => return Ok(Err(code(&error)?)),
            }
            if *taken_back {
                self.execute("ROLLBACK TO s").await?;
            }
        }
        Ok(Ok(counts))
    }

    async fn undo(&mut self, deletion: Deletion) -> Result<()> {
        self.plain().await?;
        let (before, cursor) = (self.everything().await?, self.cursor().await?);

        let rehearsed = self.undone(&deletion, true).await?;
        ensure!(rehearsed == deletion.records, "the rehearsal lists {rehearsed:?}, deleted were {:?}", deletion.records);
        self.plain().await?;
        ensure!(self.everything().await? == before, "the rehearsal has changed something");

        if self.random.u8(0..4) == 0 {
            self.execute("BEGIN").await?;
            self.undone(&deletion, false).await?;
            self.execute("ROLLBACK").await?;
            self.plain().await?;
            ensure!(self.everything().await? == before, "an undo rolled back has left something");
        }
        let ways = [
            "",
            "",
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
            "BEGIN; SET CONSTRAINTS ALL DEFERRED",
            "BEGIN; SET CONSTRAINTS ALL IMMEDIATE",
        ];
        let way = ways[self.random.usize(0..ways.len())];
        self.execute(way).await?;
        let undone = self.undone(&deletion, false).await?;
        self.execute(if way.is_empty() { "" } else { "COMMIT" }).await?;
        self.plain().await?;

        ensure!(undone == deletion.records, "undo lists {undone:?}, deleted were {:?}", deletion.records);
        self.compare_with_copy(deletion.round).await?;
        let left = self.count_in_bins(deletion.number).await?;
        ensure!(left == 0, "{left} rows are left in the bins");
        let sequences = self.sequences().await?;
        ensure!(sequences == deletion.sequences, "the sequences have moved from {} to {sequences}", deletion.sequences);
        let events = self.events(&cursor, "restored").await?;
        ensure!(events == deletion.records, "restored according to the log: {events:?}, deleted were {:?}", deletion.records);
        let deleted = self.events(&cursor, "op = 'delete'").await?;
        ensure!(deleted.is_empty(), "undo deletes, according to the log: {deleted:?}");
        Ok(())
    }

    /// What undo says it brings back, all of it.
    async fn undone(&mut self, deletion: &Deletion, dry_run: bool) -> Result<Records> {
        let mut settings = settings(&mut self.random);
        if self.random.u8(0..8) == 0 {
            settings += "SET standard_conforming_strings = off; ";
        }
        let number = deletion.number;
        self.execute(&settings).await?;
        let undo = format!("SELECT relation::oid, id, outcome, detail FROM tombstone.undo({number}, dry_run => {dry_run})");
        self.script.push(undo.clone());
        let mut records = Records::new();
        for row in self.rows(&undo).await? {
            let [relation, id, outcome, detail] = &row[..] else { bail!("undo returns {row:?}") };
            ensure!(outcome == "restored", "{id} of {relation}: {outcome}, {detail}");
            *records.entry((relation.clone(), id.clone())).or_default() += 1;
        }
        Ok(records)
    }

    /// The number of the one deletion of this round, if it took anything.
    async fn number(&self, round: usize) -> Result<Option<i64>> {
        let all = self.tables().map(|(table, bin)| format!("SELECT {} AS number FROM {bin}", own("deletion", table)));
        let sql =
            format!("SELECT DISTINCT number FROM ({}) AS all_bins ORDER BY 1", all.collect::<Vec<_>>().join(" UNION ALL "));
        let mut numbers: Vec<i64> = self.rows(&sql).await?.iter().map(|row| Ok(row[0].parse()?)).collect::<Result<_>>()?;
        ensure!(numbers.len() <= round + 1, "one transaction, but deletions {numbers:?}");
        // Those before have all been seen, so what is new is greater.
        let latest = numbers.pop();
        Ok(latest.filter(|latest| self.is_new(*latest)))
    }

    fn is_new(&self, number: i64) -> bool {
        !self.script.iter().any(|said| said == &remark(number))
    }

    /// Every table has what was in it, to the bit.
    async fn compare_with_copy(&self, round: usize) -> Result<()> {
        let mut differences = Vec::new();
        for table in &self.schema.tables {
            let wanted = rows_of(&copy(&table.name, round), &table.lasting, "");
            differences.push(difference(&table.name, &wanted, &rows_of(&table.name, &table.lasting, "")));
        }
        let columns = ["of".to_string(), "n".to_string()];
        let wanted = rows_of(&copy("counter", round), &columns, "");
        differences.push(difference("counter", &wanted, &rows_of("counter", &columns, "")));
        self.none_of(&differences).await
    }

    /// What has left the tables is in the bins, as it was, and nothing else.
    async fn compare_with_bins(&mut self, round: usize, number: i64) -> Result<()> {
        let mut differences = Vec::new();
        for (table, bin) in self.tables() {
            let columns: Vec<String> =
                table.lasting.iter().filter(|column| !table.overwritten.contains(column)).cloned().collect();
            let of_deletion = format!("WHERE {} = {number}", own("deletion", table));
            let is_now = format!("{} UNION ALL {}", rows_of(&table.name, &columns, ""), rows_of(bin, &columns, &of_deletion));
            differences.push(difference(&table.name, &rows_of(&copy(&table.name, round), &columns, ""), &is_now));
        }
        self.none_of(&differences).await?;
        self.script.push(remark(number));
        Ok(())
    }

    async fn none_of(&self, differences: &[String]) -> Result<()> {
        let found = self.rows(&differences.join(" UNION ALL ")).await?;
        let shown: Vec<String> = found.iter().take(6).map(|row| row.join(" ").chars().take(600).collect()).collect();
        ensure!(found.is_empty(), "{} rows differ:\n  {}", found.len(), shown.join("\n  "));
        Ok(())
    }

    async fn count_in_bins(&self, number: i64) -> Result<usize> {
        let counts = self
            .tables()
            .map(|(table, bin)| format!("(SELECT count(*) FROM {bin} WHERE {} = {number})", own("deletion", table)));
        let sql = format!("SELECT {}", counts.collect::<Vec<_>>().join(" + "));
        Ok(self.value(&sql).await?.context("no count")?.parse()?)
    }

    /// What happened to records since the cursor.
    async fn events(&self, cursor: &str, condition: &str) -> Result<Records> {
        let sql = format!("SELECT relation::oid, id FROM tombstone.replay('{cursor}', lim => 100000) WHERE {condition}");
        let mut records = Records::new();
        for row in self.rows(&sql).await? {
            *records.entry((row[0].clone(), row[1].clone())).or_default() += 1;
        }
        Ok(records)
    }

    async fn cursor(&self) -> Result<String> {
        self.value("SELECT tombstone.cursor()").await?.context("no cursor")
    }

    async fn sequences(&self) -> Result<String> {
        let identities = self.schema.tables.iter().filter(|table| table.has_identity);
        let state = identities.map(|table| {
            let name = literal(&table.name);
            format!("SELECT concat({name}, ' ', pg_sequence_last_value(pg_get_serial_sequence({name}, 'id')::regclass))")
        });
        let mut all = state.collect::<Vec<_>>();
        all.push("SELECT ''".into());
        Ok(self.rows(&all.join(" UNION ALL ")).await?.concat().concat())
    }

    /// The rows of the tables, as one value.
    async fn live(&self) -> Result<String> {
        let tables = self.schema.tables.iter().map(|table| (table.name.as_str(), table.lasting.clone()));
        self.digest(tables).await
    }

    /// The rows of tables and bins.
    async fn everything(&self) -> Result<String> {
        let own_columns = |table: &Table| OWN_COLUMNS.map(|name| own(name, table));
        let bins = self.tables().map(|(table, bin)| (bin, [table.lasting.clone(), own_columns(table).to_vec()].concat()));
        let tables = self.schema.tables.iter().map(|table| (table.name.as_str(), table.lasting.clone()));
        let counter = ("counter", vec!["of".to_string(), "n".to_string()]);
        self.digest(tables.chain(bins).chain([counter])).await
    }

    async fn digest(&self, relations: impl Iterator<Item = (&str, Vec<String>)>) -> Result<String> {
        let rows = relations.map(|(name, columns)| {
            format!("SELECT {} AS of, md5(bits) AS row FROM ({}) AS rows", literal(name), rows_of(name, &columns, ""))
        });
        let all = rows.collect::<Vec<_>>().join(" UNION ALL ");
        let sql = format!("SELECT coalesce(md5(string_agg(of || row, ',' ORDER BY of, row)), '') FROM ({all}) AS all_rows");
        self.value(&sql).await?.context("no digest")
    }

    fn tables(&self) -> impl Iterator<Item = (&Table, &str)> {
        self.schema.tables.iter().zip(self.bins.iter().map(String::as_str))
    }

    /// Values look as they do everywhere in this test.
    async fn plain(&self) -> Result<()> {
        Ok(self.client.batch_execute(&format!("{PLAIN}SET search_path = {}", self.schema.name)).await?)
    }

    async fn execute(&mut self, statement: &str) -> Result<()> {
        if !statement.is_empty() {
            self.script.push(statement.into());
        }
        self.client.batch_execute(statement).await.with_context(|| statement.chars().take(300).collect::<String>())
    }

    /// The rows of a query, each value as text.
    async fn rows(&self, query: &str) -> Result<Vec<Vec<String>>> {
        let messages = self.client.simple_query(query).await.with_context(|| query.chars().take(300).collect::<String>())?;
        let text = |value: Option<&str>| value.unwrap_or("NULL").to_string();
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| text(row.get(i))).collect()),
            _ => None,
        });
        Ok(rows.collect())
    }

    async fn value(&self, query: &str) -> Result<Option<String>> {
        Ok(self.rows(query).await?.into_iter().next().and_then(|row| row.into_iter().next()))
    }
}

/// How many rows each statement concerned, or with which code one was refused.
type Outcome = Result<Vec<u64>, String>;

/// The code of a refusal that an application has to expect, whoever refuses; anything else is an error.
fn code(error: &tokio_postgres::Error) -> Result<String> {
    let Some(refusal) = error.as_db_error() else { bail!("the server broke: {error:?}") };
    let code = refusal.code().code();
    // Constraints, and rows that triggers have changed under a statement.
    ensure!(code.starts_with("23") || code == "27000", "refused: {refusal:?}");
    Ok(code.to_string())
}

fn tag(messages: &[SimpleQueryMessage]) -> u64 {
    let counts = messages.iter().map(|message| match message {
        SimpleQueryMessage::CommandComplete(count) => *count,
        _ => 0,
    });
    counts.sum()
}

fn remark(number: i64) -> String {
    format!("-- that was deletion {number}\nSELECT")
}

fn copy(table: &str, round: usize) -> String {
    quoted(&format!("copy {round} of {}", table.replace('"', "").chars().take(50).collect::<String>()))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// What the bin of this table calls a column of its own.
fn own(name: &str, table: &Table) -> String {
    if table.lasting.iter().any(|column| column == name) { format!("tombstone_{name}") } else { name.to_string() }
}

/// Rows as text, and to the bit.
fn rows_of(relation: &str, columns: &[String], condition: &str) -> String {
    let columns = columns.join(", ");
    format!("SELECT ROW({columns})::text AS row, record_send(ROW({columns})) AS bits FROM {relation} {condition}")
}

/// Rows that are wanted and missing, and those that are there and should not.
fn difference(of: &str, wanted: &str, found: &str) -> String {
    let of = of.replace('\'', "''");
    format!(
        "SELECT '{of}', 'missing', row FROM (({wanted}) EXCEPT ALL ({found})) AS missing
         UNION ALL SELECT '{of}', 'extra', row FROM (({found}) EXCEPT ALL ({wanted})) AS extra"
    )
}
