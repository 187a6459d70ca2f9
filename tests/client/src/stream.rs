//! The log as a consumer gets it, page by page, and the log as it is: what the one must come to in the end.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::Value;
use tokio_postgres::{Error, GenericClient, Row};

/// What happened to one record, told alike by replay and by the log's own table.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub relation: String,
    pub id: String,
    pub kind: Option<String>,
    pub op: String,
    pub deletion_type: Option<String>,
    pub version: Option<i64>,
    pub restored: bool,
    pub deletion: Option<i64>,
    /// When its transaction began: tells apart what one record went through more than once.
    pub at: SystemTime,
}

impl Event {
    pub fn is_hard(&self) -> bool {
        self.deletion_type.as_deref() == Some("hard")
    }

    fn read(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            relation: row.try_get("relation")?,
            id: row.try_get("id")?,
            kind: row.try_get("kind")?,
            op: row.try_get("op")?,
            deletion_type: row.try_get("deletion_type")?,
            version: row.try_get("version")?,
            restored: row.try_get("restored")?,
            deletion: row.try_get("deletion")?,
            at: row.try_get("at")?,
        })
    }
}

/// A consumer: all it remembers to go on is a cursor. What it got is for the test to judge.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    pub cursor: Option<String>,
    pub got: Vec<Event>,
}

impl Reader {
    /// One that has got all there is so far.
    pub async fn from_now(client: &impl GenericClient) -> Result<Self, Error> {
        let cursor = client.query_one("SELECT tombstone.cursor()", &[]).await?.try_get(0)?;
        Ok(Self { cursor: Some(cursor), got: Vec::new() })
    }

    /// Takes one page; false where there was nothing.
    pub async fn page(&mut self, client: &impl GenericClient, lim: i32) -> Result<bool, Error> {
        const PAGE: &str = "
            SELECT cursor, relation::text, id, kind, op, deletion_type, version, restored, deletion, at
              FROM tombstone.replay($1, lim => $2)";
        let page = client.query(PAGE, &[&self.cursor, &lim]).await?;
        assert!(page.len() <= lim as usize, "{} events in a page of {lim}", page.len());
        for row in &page {
            self.cursor = row.try_get("cursor")?;
            self.got.push(Event::read(row)?);
        }
        Ok(!page.is_empty())
    }

    /// Takes pages until there are no more.
    pub async fn to_end(&mut self, client: &impl GenericClient, lim: i32) -> Result<(), Error> {
        while self.page(client, lim).await? {}
        Ok(())
    }
}

/// All committed events, from the log's own table, in the order of writing.
pub async fn truth(client: &impl GenericClient) -> Result<Vec<Event>, Error> {
    const LOG: &str = "
        SELECT m.relation::text, e.at, e.op, e.deletion_type, e.restored, e.deletion,
               e.ids[least(n, cardinality(e.ids))] AS id,
               e.versions[n] AS version,
               e.kinds[least(n, cardinality(e.kinds))] AS kind
          FROM tombstone.event e
          JOIN tombstone.managed m USING (managed)
         CROSS JOIN LATERAL generate_series(1, greatest(cardinality(e.ids), cardinality(e.versions))) AS n
         WHERE pg_xact_status(e.xid) = 'committed'
         ORDER BY e.seq, n";
    client.query(LOG, &[]).await?.iter().map(Event::read).collect()
}

type Histories<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a Event>>;

fn histories(events: &[Event]) -> Histories<'_> {
    let mut histories = Histories::new();
    for event in events {
        histories.entry((&event.relation, &event.id)).or_default().push(event);
    }
    histories
}

/// Each event once, and of each record in its order. A purge takes what came before it out of the stream, so of purged
/// records (whose ids must not be used again) the hard delete is wanted, last, and before it whatever the reader was quick
/// enough to get.
pub fn assert_complete(got: &[Event], truth: &[Event]) {
    let (got, truth) = (histories(got), histories(truth));
    for (record, wanted) in &truth {
        let empty = Vec::new();
        let had = got.get(record).unwrap_or(&empty);
        match wanted.last() {
            Some(last) if last.is_hard() => {
                assert_eq!(had.last(), Some(last), "of {record:?}, which is purged");
                assert!(is_within(had, wanted), "of {record:?}, which is purged: got {had:#?}, not of {wanted:#?}");
            }
            _ => assert_eq!(had, wanted, "of {record:?}"),
        }
    }
    for record in got.keys() {
        assert!(truth.contains_key(record), "nothing happened to {record:?}: {:#?}", got[record]);
    }
}

/// Whether `part` is `whole`, or what is left of it without some events.
fn is_within(part: &[&Event], whole: &[&Event]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|event| whole.any(|other| other == event))
}

/// What announcements in full have to say of the events of a table after a cursor, without cursors of their own.
pub async fn in_full(client: &impl GenericClient, after: &str, table: &str) -> Result<Vec<Value>, Error> {
    let said = "
        SELECT jsonb_strip_nulls(jsonb_build_object(
                   'id', id, 'op', op, 'deletionType', deletion_type, 'restored', nullif(restored, false), 'cause', cause,
                   'deletion', deletion, 'actor', app_actor, 'at', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')))
               || jsonb_build_object('kind', kind)
        FROM tombstone.replay($1) WHERE relation::text = $2";
    client.query(said, &[&after, &table]).await?.iter().map(|row| row.try_get(0)).collect()
}
