//! The storage of a key directory (the `akd` crate) in PostgreSQL, as an operator of one would write it: set-based,
//! one round trip for each call. It knows nothing of tombstones; `MANAGE` is all that puts its value states under management.

use std::collections::{BTreeMap, HashMap};
use std::slice;

use akd::errors::StorageError;
use akd::storage::types::{DbRecord, KeyData, StorageType, ValueState, ValueStateKey, ValueStateRetrievalFlag};
use akd::storage::{Database, DbSetState, Storable};
use akd::tree_node::{NodeKey, TreeNodeWithPreviousValue};
use akd::{AkdLabel, AkdValue, Azks, NodeLabel};
use async_trait::async_trait;
use tokio_postgres::types::{Json, ToSql};
use tokio_postgres::{Client, Error, Row, Statement};

/// Value states have the columns akd's own MySQL storage gives them. The tree's nodes are opaque here:
/// only akd has questions to ask of them.
pub const SCHEMA: &str = "
    CREATE TABLE value_state (
        username       bytea  NOT NULL,
        epoch          bigint NOT NULL,
        version        bigint NOT NULL,
        node_label_val bytea  NOT NULL,
        node_label_len int    NOT NULL,
        data           bytea  NOT NULL,
        PRIMARY KEY (username, epoch)
    );
    CREATE TABLE tree_node (
        label_len int   NOT NULL,
        label_val bytea NOT NULL,
        node      jsonb NOT NULL,
        PRIMARY KEY (label_val, label_len)
    );
    CREATE TABLE azks (
        only_one     bool   PRIMARY KEY DEFAULT true CHECK (only_one),
        latest_epoch bigint NOT NULL,
        num_nodes    bigint NOT NULL
    );";

/// A directory needs its tombstones for ever, so there is no retention.
pub const MANAGE: &str = r#"
    SELECT tombstone.manage('value_state', layout => 'in_place', id => '{username}', version => 'epoch',
                            redact => '{"data": ""}', retention => NULL)"#;

/// One statement for all three tables: a publish is atomic, and no reader sees an epoch before its nodes.
const WRITE: &str = "
    WITH states AS (
        INSERT INTO value_state (username, epoch, version, node_label_val, node_label_len, data)
        SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bytea[], $5::int[], $6::bytea[])
        ON CONFLICT (username, epoch) DO UPDATE
           SET version = excluded.version, node_label_val = excluded.node_label_val,
               node_label_len = excluded.node_label_len, data = excluded.data
    ), nodes AS (
        INSERT INTO tree_node (label_len, label_val, node)
        SELECT * FROM unnest($7::int[], $8::bytea[], $9::jsonb[])
        ON CONFLICT (label_val, label_len) DO UPDATE SET node = excluded.node
    )
    INSERT INTO azks (latest_epoch, num_nodes)
    SELECT * FROM unnest($10::bigint[], $11::bigint[])
    ON CONFLICT (only_one) DO UPDATE
       SET latest_epoch = excluded.latest_epoch, num_nodes = excluded.num_nodes";

const STATES_BY_KEY: &str = "
    SELECT v.username, v.epoch, v.version, v.node_label_val, v.node_label_len, v.data
      FROM unnest($1::bytea[], $2::bigint[]) AS wanted(username, epoch)
      JOIN value_state v USING (username, epoch)";

const STATES_OF_USER: &str = "
    SELECT username, epoch, version, node_label_val, node_label_len, data
      FROM value_state WHERE username = $1 ORDER BY epoch";

const NODES: &str = "
    SELECT n.node
      FROM unnest($1::int[], $2::bytea[]) AS wanted(label_len, label_val)
      JOIN tree_node n USING (label_len, label_val)";

const AZKS: &str = "SELECT latest_epoch, num_nodes FROM azks";

pub struct PostgresStorage {
    client: Client,
    statements: Statements,
}

impl PostgresStorage {
    pub async fn open(client: Client) -> Result<Self, Error> {
        let statements = Statements::prepare(&client).await?;
        Ok(Self { client, statements })
    }

    async fn value_states(&self, keys: &[ValueStateKey]) -> Result<Vec<DbRecord>, StorageError> {
        let users: Vec<&[u8]> = keys.iter().map(|key| key.0.as_slice()).collect();
        let epochs = keys.iter().map(|key| bigint(key.1)).collect::<Result<Vec<_>, _>>()?;
        let rows = self.query(&self.statements.states_by_key, &[&users, &epochs]).await?;
        rows.iter().map(|row| Ok(DbRecord::ValueState(value_state(row)?))).collect()
    }

    async fn tree_nodes(&self, keys: &[NodeKey]) -> Result<Vec<DbRecord>, StorageError> {
        let lengths = keys.iter().map(|key| int(key.0.label_len)).collect::<Result<Vec<_>, _>>()?;
        let labels: Vec<&[u8]> = keys.iter().map(|key| key.0.label_val.as_slice()).collect();
        let rows = self.query(&self.statements.nodes, &[&lengths, &labels]).await?;
        rows.iter().map(tree_node).collect()
    }

    async fn azks(&self) -> Result<Vec<DbRecord>, StorageError> {
        let rows = self.query(&self.statements.azks, &[]).await?;
        rows.iter().map(azks).collect()
    }

    /// At most one state of each user: the one the flag asks for.
    async fn state_of_each(&self, users: &[AkdLabel], flag: ValueStateRetrievalFlag) -> Result<Vec<ValueState>, StorageError> {
        use ValueStateRetrievalFlag::*;
        let (statement, bound) = match flag {
            SpecificVersion(version) => (&self.statements.state_of_version, bigint(version)?),
            SpecificEpoch(epoch) => (&self.statements.state_of_epoch, bigint(epoch)?),
            LeqEpoch(epoch) => (&self.statements.last_state_until, bigint(epoch)?),
            MaxEpoch => (&self.statements.last_state_until, i64::MAX),
            MinEpoch => (&self.statements.first_state_from, 0),
        };
        let users: Vec<&[u8]> = users.iter().map(|user| user.0.as_slice()).collect();
        self.query(statement, &[&users, &bound]).await?.iter().map(value_state).collect()
    }

    async fn query(&self, statement: &Statement, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, StorageError> {
        self.client.query(statement, params).await.map_err(storage_error)
    }
}

#[async_trait]
impl Database for PostgresStorage {
    async fn set(&self, record: DbRecord) -> Result<(), StorageError> {
        self.batch_set(vec![record], DbSetState::General).await
    }

    async fn batch_set(&self, records: Vec<DbRecord>, _: DbSetState) -> Result<(), StorageError> {
        let batch = Batch::of(&records)?;
        let written = self.client.execute(&self.statements.write, &batch.params()).await;
        written.map(|_| ()).map_err(storage_error)
    }

    async fn get<St: Storable>(&self, id: &St::StorageKey) -> Result<DbRecord, StorageError> {
        let mut found = self.batch_get::<St>(slice::from_ref(id)).await?;
        found.pop().ok_or_else(|| not_found(St::data_type(), id))
    }

    async fn batch_get<St: Storable>(&self, ids: &[St::StorageKey]) -> Result<Vec<DbRecord>, StorageError> {
        match St::data_type() {
            StorageType::Azks => self.azks().await,
            StorageType::TreeNode => {
                let keys = keys_as::<St, TreeNodeWithPreviousValue>(ids)?;
                self.tree_nodes(&keys).await
            }
            StorageType::ValueState => {
                let keys = keys_as::<St, ValueState>(ids)?;
                self.value_states(&keys).await
            }
        }
    }

    async fn get_user_data(&self, username: &AkdLabel) -> Result<KeyData, StorageError> {
        let rows = self.query(&self.statements.states_of_user, &[&username.0]).await?;
        if rows.is_empty() {
            return Err(not_found(StorageType::ValueState, username));
        }
        let states = rows.iter().map(value_state).collect::<Result<_, _>>()?;
        Ok(KeyData { states })
    }

    async fn get_user_state(&self, username: &AkdLabel, flag: ValueStateRetrievalFlag) -> Result<ValueState, StorageError> {
        let mut found = self.state_of_each(slice::from_ref(username), flag).await?;
        found.pop().ok_or_else(|| not_found(StorageType::ValueState, username))
    }

    async fn get_user_state_versions(
        &self,
        usernames: &[AkdLabel],
        flag: ValueStateRetrievalFlag,
    ) -> Result<HashMap<AkdLabel, (u64, AkdValue)>, StorageError> {
        let states = self.state_of_each(usernames, flag).await?;
        Ok(states.into_iter().map(|state| (state.username, (state.version, state.value))).collect())
    }
}

struct Statements {
    write: Statement,
    states_by_key: Statement,
    states_of_user: Statement,
    state_of_version: Statement,
    state_of_epoch: Statement,
    last_state_until: Statement,
    first_state_from: Statement,
    nodes: Statement,
    azks: Statement,
}

impl Statements {
    async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            write: client.prepare(WRITE).await?,
            states_by_key: client.prepare(STATES_BY_KEY).await?,
            states_of_user: client.prepare(STATES_OF_USER).await?,
            state_of_version: client.prepare(&state_of_each("version = $2")).await?,
            state_of_epoch: client.prepare(&state_of_each("epoch = $2")).await?,
            last_state_until: client.prepare(&state_of_each("epoch <= $2 ORDER BY epoch DESC")).await?,
            first_state_from: client.prepare(&state_of_each("epoch >= $2 ORDER BY epoch")).await?,
            nodes: client.prepare(NODES).await?,
            azks: client.prepare(AZKS).await?,
        })
    }
}

/// Lateral, so that a question by epoch costs each user one descent of the primary key, however long the history is.
fn state_of_each(condition: &str) -> String {
    format!(
        "SELECT v.username, v.epoch, v.version, v.node_label_val, v.node_label_len, v.data
           FROM unnest($1::bytea[]) AS wanted(username)
          CROSS JOIN LATERAL (SELECT * FROM value_state s
                               WHERE s.username = wanted.username AND {condition} LIMIT 1) v"
    )
}

/// The records of one write, by column.
#[derive(Default)]
struct Batch<'a> {
    usernames: Vec<&'a [u8]>,
    epochs: Vec<i64>,
    versions: Vec<i64>,
    state_label_vals: Vec<&'a [u8]>,
    state_label_lens: Vec<i32>,
    data: Vec<&'a [u8]>,
    node_label_lens: Vec<i32>,
    node_label_vals: Vec<&'a [u8]>,
    nodes: Vec<Json<&'a TreeNodeWithPreviousValue>>,
    latest_epochs: Vec<i64>,
    node_counts: Vec<i64>,
}

impl<'a> Batch<'a> {
    /// By key: the last of equals wins, since one upsert cannot touch a row twice, and two writers take
    /// their row locks in the same order, so that they cannot deadlock.
    fn of(records: &'a [DbRecord]) -> Result<Self, StorageError> {
        let by_key: BTreeMap<_, _> = records.iter().map(|record| (record.get_full_binary_id(), record)).collect();
        let mut batch = Self::default();
        for record in by_key.into_values() {
            match record {
                DbRecord::ValueState(state) => batch.add_state(state)?,
                DbRecord::TreeNode(node) => batch.add_node(node)?,
                DbRecord::Azks(azks) => batch.add_azks(azks)?,
            }
        }
        Ok(batch)
    }

    fn add_state(&mut self, state: &'a ValueState) -> Result<(), StorageError> {
        self.usernames.push(&state.username.0);
        self.epochs.push(bigint(state.epoch)?);
        self.versions.push(bigint(state.version)?);
        self.state_label_vals.push(&state.label.label_val);
        self.state_label_lens.push(int(state.label.label_len)?);
        self.data.push(&state.value.0);
        Ok(())
    }

    fn add_node(&mut self, node: &'a TreeNodeWithPreviousValue) -> Result<(), StorageError> {
        self.node_label_lens.push(int(node.label.label_len)?);
        self.node_label_vals.push(&node.label.label_val);
        self.nodes.push(Json(node));
        Ok(())
    }

    fn add_azks(&mut self, azks: &Azks) -> Result<(), StorageError> {
        self.latest_epochs.push(bigint(azks.latest_epoch)?);
        self.node_counts.push(bigint(azks.num_nodes)?);
        Ok(())
    }

    /// In the order of `WRITE`.
    fn params(&self) -> [&(dyn ToSql + Sync); 11] {
        [
            &self.usernames,
            &self.epochs,
            &self.versions,
            &self.state_label_vals,
            &self.state_label_lens,
            &self.data,
            &self.node_label_lens,
            &self.node_label_vals,
            &self.nodes,
            &self.latest_epochs,
            &self.node_counts,
        ]
    }
}

/// akd's trait is generic over the record's type; the binary form is its way from a generic key to the real one.
fn keys_as<St: Storable, Real: Storable>(ids: &[St::StorageKey]) -> Result<Vec<Real::StorageKey>, StorageError> {
    ids.iter().map(|id| Real::key_from_full_binary(&St::get_full_binary_key_id(id)).map_err(StorageError::Other)).collect()
}

fn value_state(row: &Row) -> Result<ValueState, StorageError> {
    Ok(ValueState {
        username: AkdLabel(column(row, "username")?),
        epoch: unsigned(column::<i64>(row, "epoch")?)?,
        version: unsigned(column::<i64>(row, "version")?)?,
        label: NodeLabel {
            label_val: label_bytes(column(row, "node_label_val")?)?,
            label_len: unsigned(column::<i32>(row, "node_label_len")?)?,
        },
        value: AkdValue(column(row, "data")?),
    })
}

fn tree_node(row: &Row) -> Result<DbRecord, StorageError> {
    let Json(node) = column(row, "node")?;
    Ok(DbRecord::TreeNode(node))
}

fn azks(row: &Row) -> Result<DbRecord, StorageError> {
    Ok(DbRecord::Azks(Azks {
        latest_epoch: unsigned(column::<i64>(row, "latest_epoch")?)?,
        num_nodes: unsigned(column::<i64>(row, "num_nodes")?)?,
    }))
}

fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, name: &str) -> Result<T, StorageError> {
    row.try_get(name).map_err(storage_error)
}

fn label_bytes(bytes: &[u8]) -> Result<[u8; 32], StorageError> {
    bytes.try_into().map_err(|_| StorageError::Other(format!("a label of {} bytes, not 32", bytes.len())))
}

fn bigint(number: u64) -> Result<i64, StorageError> {
    i64::try_from(number).map_err(|_| StorageError::Other(format!("{number} does not fit a bigint")))
}

fn int(number: u32) -> Result<i32, StorageError> {
    i32::try_from(number).map_err(|_| StorageError::Other(format!("{number} does not fit an int")))
}

fn unsigned<From, To>(number: From) -> Result<To, StorageError>
where
    From: Copy + std::fmt::Display,
    To: TryFrom<From>,
{
    To::try_from(number).map_err(|_| StorageError::Other(format!("{number} is negative")))
}

fn not_found(kind: StorageType, key: &impl std::fmt::Debug) -> StorageError {
    StorageError::NotFound(format!("{kind:?} {key:?}"))
}

/// Class 40 is the transaction's bad luck, worth another try; without a word from the server, the connection is gone.
fn storage_error(error: Error) -> StorageError {
    match error.as_db_error() {
        Some(said) if said.code().code().starts_with("40") => StorageError::Transaction(said.to_string()),
        Some(said) => StorageError::Other(format!("{} ({})", said, said.code().code())),
        None if error.is_closed() => StorageError::Connection(error.to_string()),
        None => StorageError::Other(error.to_string()),
    }
}
