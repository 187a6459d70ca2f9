//! Schemas at random, with their rows: tables with keys and columns of many types, foreign keys in every shape, partitions, triggers
//! as applications have them, and a history of ALTER TABLE. And what an application may ask of them: statements that delete.
//!
//! Pure: the same seed gives the same SQL.

use fastrand::Rng;

/// What happens to the children when their parent is deleted.
const ACTIONS: [&str; 3] = ["CASCADE", "NO ACTION", "RESTRICT"];
const SETTING_ACTIONS: [&str; 2] = ["SET NULL", "SET DEFAULT"];

/// What a server can do.
#[derive(Debug, Clone, Copy)]
pub struct Abilities {
    /// server_version_num
    pub version: i32,
    pub xml: bool,
}

/// A type, and literals of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Int,
    BigInt,
    Text,
    Varchar,
    Padded,
    Numeric,
    ScaledNumeric,
    Float,
    Real,
    Json,
    Jsonb,
    Ints,
    Texts,
    Pairs,
    Positive,
    Words,
    Mood,
    Pair,
    Range,
    Multirange,
    Xml,
    Bytes,
    Interval,
    Inet,
    TimestampTz,
    Timestamp,
    TimeTz,
    Date,
    Uuid,
    Bool,
    Bits,
    Search,
    Point,
    Money,
}

/// The types that columns may have which belong to no key.
const DATA: [Kind; 34] = [
    Kind::Int,
    Kind::BigInt,
    Kind::Text,
    Kind::Varchar,
    Kind::Padded,
    Kind::Numeric,
    Kind::ScaledNumeric,
    Kind::Float,
    Kind::Real,
    Kind::Json,
    Kind::Jsonb,
    Kind::Ints,
    Kind::Texts,
    Kind::Pairs,
    Kind::Positive,
    Kind::Words,
    Kind::Mood,
    Kind::Pair,
    Kind::Range,
    Kind::Multirange,
    Kind::Xml,
    Kind::Bytes,
    Kind::Interval,
    Kind::Inet,
    Kind::TimestampTz,
    Kind::Timestamp,
    Kind::TimeTz,
    Kind::Date,
    Kind::Uuid,
    Kind::Bool,
    Kind::Bits,
    Kind::Search,
    Kind::Point,
    Kind::Money,
];

/// Primary keys of one table that has no parents in its key.
const KEYS: [&[Kind]; 14] = [
    &[Kind::Int],
    &[Kind::Int],
    &[Kind::BigInt],
    &[Kind::BigInt],
    &[Kind::Text],
    &[Kind::Uuid],
    &[Kind::Date],
    &[Kind::Numeric],
    &[Kind::Bytes],
    &[Kind::TimestampTz],
    &[Kind::Int, Kind::Text],
    &[Kind::Text, Kind::Date],
    &[Kind::BigInt, Kind::Uuid],
    &[Kind::Bool, Kind::Varchar],
];

/// Types of the schema itself.
const TYPES: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s \"fine\"');
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN positive AS numeric CHECK (VALUE > 0);
    CREATE DOMAIN words AS text[] CHECK (cardinality(VALUE) < 9);";

/// Column names, some of them the bins' own, some that have to be quoted.
const NAMES: [&str; 17] = [
    "body",
    "title",
    "deletion",
    "reason",
    "actor",
    "cause",
    "app_actor",
    "\"Order\"",
    "\"select\"",
    "\"a b\"",
    "ümlaut",
    "payload",
    "tags",
    "weight",
    "mark",
    "\"t\"",
    "n",
];

impl Kind {
    fn sql(self) -> &'static str {
        match self {
            Kind::Int => "int",
            Kind::BigInt => "bigint",
            Kind::Text => "text",
            Kind::Varchar => "varchar(40)",
            Kind::Padded => "char(9)",
            Kind::Numeric => "numeric",
            Kind::ScaledNumeric => "numeric(12,3)",
            Kind::Float => "float8",
            Kind::Real => "float4",
            Kind::Json => "json",
            Kind::Jsonb => "jsonb",
            Kind::Ints => "int[]",
            Kind::Texts => "text[]",
            Kind::Pairs => "pair[]",
            Kind::Positive => "positive",
            Kind::Words => "words",
            Kind::Mood => "mood",
            Kind::Pair => "pair",
            Kind::Range => "int4range",
            Kind::Multirange => "nummultirange",
            Kind::Xml => "xml",
            Kind::Bytes => "bytea",
            Kind::Interval => "interval",
            Kind::Inet => "inet",
            Kind::TimestampTz => "timestamptz",
            Kind::Timestamp => "timestamp",
            Kind::TimeTz => "timetz",
            Kind::Date => "date",
            Kind::Uuid => "uuid",
            Kind::Bool => "boolean",
            Kind::Bits => "bit varying",
            Kind::Search => "tsvector",
            Kind::Point => "point",
            Kind::Money => "money",
        }
    }

    /// Some value.
    fn literal(self, random: &mut Rng) -> String {
        let number = random.i32(-1000..1000);
        match self {
            Kind::Int => pick(random, &[number.to_string(), i32::MIN.to_string(), "0".into()]),
            Kind::BigInt => pick(random, &[number.to_string(), i64::MAX.to_string()]),
            Kind::Text => text(random),
            Kind::Varchar => pick(random, &["''", "' kept '", "'żółć'", "'as many as forty characters fit in there'"]).into(),
            Kind::Padded => pick(random, &["'a'", "''", "'nine char'"]).into(),
            Kind::Numeric => {
                let long = format!("{number}.{}", "1234567890".repeat(20));
                pick(
                    random,
                    &[number.to_string(), format!("{number}.500"), "'NaN'".into(), "'Infinity'".into(), "0.000".into(), long],
                )
            }
            Kind::ScaledNumeric => format!("{number}.5"),
            Kind::Float => {
                let any = f64::from_bits(random.u64(..));
                let any = if any.is_nan() { 0.1 } else { any };
                pick(random, &[format!("'{any:e}'"), "'NaN'".into(), "'-Infinity'".into(), "'-0'".into(), "0.1".into()])
            }
            Kind::Real => pick(random, &["'NaN'", "'Infinity'", "'-0'", "0.1", "'1e-40'", "16777216"]).into(),
            Kind::Json => pick(
                random,
                &["'{\"b\" : 1,   \"a\":2, \"b\":3}'", "'null'", "' [1.00, 1e2] '", "'\"\\u00e9\"'", "'{\"a\":{}}\n'"],
            )
            .into(),
            Kind::Jsonb => {
                pick(random, &["'{\"b\" : 1.500, \"a\":[null, {}]}'", "'null'", "'[]'", "'1e3'", "'\"\\u00e9\\n\"'"]).into()
            }
            Kind::Ints => {
                pick(random, &["'[2:3]={1,2}'", "'{}'", "'{NULL}'", "'[0:1][-1:0]={{1,2},{3,NULL}}'", "'{7}'"]).into()
            }
            Kind::Texts => {
                pick(random, &["'{a,NULL,\"NULL\",\"\"}'", "'[3:4]={\"x,y\",\"\\\\\"}'", "'{}'", "'{{a},{b}}'"]).into()
            }
            Kind::Pairs => pick(random, &["'{\"(1,a)\",NULL,\"(,)\"}'", "'[5:5]={\"(2,\\\"x y\\\")\"}'", "'{}'"]).into(),
            Kind::Positive => pick(random, &["1", "0.50", "'NaN'"]).into(),
            Kind::Words => pick(random, &["'{}'", "'[2:2]={w}'", "'{NULL,x}'"]).into(),
            Kind::Mood => pick(random, &["'sad'", "'ok'", "'it''s \"fine\"'"]).into(),
            Kind::Pair => pick(random, &["'(1,x)'", "'(,)'", "'(2,\"a \"\"b\"\" ,c\")'", "ROW(NULL, '')::pair"]).into(),
            Kind::Range => pick(random, &["'[1,5)'", "'empty'", "'(,)'", "'(,7]'"]).into(),
            Kind::Multirange => pick(random, &["'{[1,2.50),(3,4]}'", "'{}'", "'{(,)}'"]).into(),
            Kind::Xml => pick(random, &["'<a  b=\"1\"><!-- c --></a>'", "'just <b>content</b> &lt;'", "''"]).into(),
            Kind::Bytes => pick(random, &["'\\x'", "'\\x00ff'", "'\\x5c7800'", "decode(repeat('00ff17', 4000), 'hex')"]).into(),
            Kind::Interval => {
                pick(random, &["'1 mon -3 days 00:00:00.000001'", "'-1 year'", "'24:00'", "'1 day'", "'0'"]).into()
            }
            Kind::Inet => pick(random, &["'10.1.2.3/8'", "'::1'", "'10.1.2.3'", "'fe80::1/64'"]).into(),
            Kind::TimestampTz => {
                pick(random, &["'2024-02-29 12:34:56.789012+05:45'", "'infinity'", "'-infinity'", "'0044-03-15 BC'"]).into()
            }
            Kind::Timestamp => pick(random, &["'2024-10-27 02:30:00.5'", "'infinity'", "'4713-01-01 BC'"]).into(),
            Kind::TimeTz => pick(random, &["'24:00:00-07'", "'01:02:03.000004+05:45'"]).into(),
            Kind::Date => pick(random, &["'2024-03-04'", "'infinity'", "'0001-01-01 BC'", "'5874897-12-31'"]).into(),
            Kind::Uuid => format!("'{:032x}'", random.u128(..)),
            Kind::Bool => random.bool().to_string(),
            Kind::Bits => pick(random, &["B''", "B'10101'", "B'000000000'"]).into(),
            Kind::Search => pick(random, &["'fat:2A cat:3 ''o''''clock'''", "''"]).into(),
            Kind::Point => pick(random, &["'(0.1,-0)'", "'(NaN,Infinity)'"]).into(),
            Kind::Money => pick(random, &["'12.34'", "'-0.01'"]).into(),
        }
    }

    /// The value for the `n`th row of a table: no two are equal.
    fn distinct(self, n: usize, random: &mut Rng) -> String {
        match self {
            Kind::Int => (n as i64 * 7 - 20).to_string(),
            Kind::BigInt => (n as i64 * 1_000_000_007).to_string(),
            Kind::Text => {
                let before =
                    pick(random, &["", " ", "o'clock ", "{\"a\": 1} ", "\\x", "naïve ", "a\"b ", "NULL", "\t\n", "[]"]);
                format!("'{}{n}'", before.replace('\'', "''"))
            }
            Kind::Varchar => format!("' v{n}'"),
            Kind::Uuid => format!("'{:024x}{n:08x}'", random.u128(..) >> 32),
            Kind::Date if n == 0 => "'infinity'".into(),
            Kind::Date if n == 1 => "'0044-03-15 BC'".into(),
            Kind::Date => format!("date '2000-01-01' + {n} * 11"),
            Kind::Numeric if n == 0 => "'NaN'".into(),
            Kind::Numeric => format!("{n}.5{}", "0".repeat(random.usize(0..3))),
            Kind::Bytes => format!("'\\x{:04x}{n:08x}'", random.u16(..)),
            Kind::TimestampTz if n == 0 => "'-infinity'".into(),
            Kind::TimestampTz => {
                format!("timestamptz '2001-02-03 04:05:06.{:06}+00' + {n} * interval '1 day'", random.u32(0..1_000_000))
            }
            Kind::Bool => (n & 1 == 0).to_string(),
            _ => self.literal(random),
        }
    }
}

/// Text, now and then too long to stay in its row: of one letter, which compresses well, or of many, which does not.
fn text(random: &mut Rng) -> String {
    let seed = random.u32(..);
    match random.u8(0..12) {
        0 => format!("repeat('{}', 30000)", pick(random, &["x", "ab", "ż"])),
        1 | 2 => format!("(SELECT string_agg(md5('{seed}-' || i), '') FROM generate_series(1, {}) i)", random.usize(60..400)),
        3 => "''".into(),
        4 => "E' a\\tb\\n\\\\ \"c\" ''d'' '".into(),
        _ => format!("'text {seed}'"),
    }
}

fn pick<T: Clone>(random: &mut Rng, from: &[T]) -> T {
    from[random.usize(0..from.len())].clone()
}

fn one_in(random: &mut Rng, many: u32) -> bool {
    random.u32(0..many) == 0
}

/// Where the values of a column come from.
#[derive(Debug, Clone, PartialEq)]
enum Source {
    /// The part of that number of the row's key.
    Key(usize),
    /// A unique value that others may refer to.
    Code,
    /// The part of that number of the foreign key of that number.
    Reference(usize, usize),
    Data(Kind),
    /// What the triggers write to.
    Note,
    /// Its default.
    Default,
    /// How many children refer to it, kept by their trigger.
    Counter,
    Generated,
    /// Dropped before long.
    Dropped,
}

#[derive(Debug, Clone)]
struct Column {
    name: String,
    kind: &'static str,
    /// What follows the type where the column is defined.
    more: String,
    source: Source,
    /// There only after half of the rows.
    later: bool,
}

#[derive(Debug, Clone)]
struct Reference {
    to: usize,
    /// Whether to the parent's unique code instead of its key.
    to_code: bool,
    columns: Vec<String>,
    action: &'static str,
    /// NOT DEFERRABLE and so on.
    timing: &'static str,
}

#[derive(Debug, Clone)]
pub struct Table {
    /// As SQL writes it.
    pub name: String,
    pub partitions: Vec<String>,
    /// The sequence of its identity column, if it has one.
    pub has_identity: bool,
    key: Vec<Column>,
    key_kinds: Vec<Kind>,
    columns: Vec<Column>,
    references: Vec<Reference>,
    /// For each row the literals of its key, and of its code.
    rows: Vec<(Vec<String>, String)>,
    /// The columns after ALTER TABLE has had its way.
    pub lasting: Vec<String>,
    /// Those of them that a deletion elsewhere may overwrite.
    pub overwritten: Vec<String>,
    partitioned: Option<&'static str>,
    /// Whether a trigger keeps some rows from being deleted.
    forbids: bool,
    /// Whether a trigger counts its rows in their parent.
    is_counted: bool,
}

/// A statement of an application.
#[derive(Debug, Clone)]
pub struct Step {
    pub sql: String,
    /// The same where nothing is managed.
    pub plain: String,
    /// Whether it is taken back at once, by a savepoint.
    pub taken_back: bool,
}

/// A schema, and the SQL that makes it.
#[derive(Debug, Clone)]
pub struct Schema {
    pub name: String,
    pub tables: Vec<Table>,
    pub setup: Vec<String>,
    abilities: Abilities,
}

impl Schema {
    pub fn new(name: String, abilities: Abilities, random: &mut Rng) -> Schema {
        let mut schema = Schema { name, tables: vec![], setup: vec![], abilities };
        for i in 0..random.usize(1..=5) {
            let table = schema.table(i, random);
            schema.tables.push(table);
        }
        for i in 0..schema.tables.len() {
            schema.add_references(i, random);
        }
        for i in 0..schema.tables.len() {
            schema.add_columns(i, random);
        }
        schema.write(random);
        schema
    }

    /// A table with its key, and the keys of its rows.
    fn table(&self, number: usize, random: &mut Rng) -> Table {
        let name = match random.u8(0..10) {
            0 => format!("\"T {number}\""),
            1 => format!("t{number}_{}", "long_name_".repeat(6)),
            _ => format!("t{number}"),
        };
        let partitioned = match random.u8(0..6) {
            0 => Some("RANGE"),
            1 => Some("HASH"),
            _ => None,
        };
        // An order's line has the order's key in its own.
        let parent = (number > 0 && partitioned.is_none() && one_in(random, 5)).then(|| random.usize(0..number));
        let parent = parent.filter(|parent| self.tables[*parent].key_kinds.len() < 3 && !self.tables[*parent].rows.is_empty());
        let own: Vec<Kind> = match (parent, partitioned) {
            (Some(_), _) => vec![Kind::Int],
            (None, Some("RANGE")) => pick(random, &[vec![Kind::Int], vec![Kind::Int, Kind::Text], vec![Kind::Int, Kind::Date]]),
            _ => pick(random, &KEYS).to_vec(),
        };
        let mut key_kinds = parent.map_or(vec![], |parent| self.tables[parent].key_kinds.clone());
        let of_parent = key_kinds.len();
        key_kinds.extend(&own);
        let has_identity = key_kinds == [Kind::BigInt] && partitioned.is_none() && random.bool();
        let key: Vec<Column> = key_kinds
            .iter()
            .enumerate()
            .map(|(i, kind)| Column {
                name: if i == 0 { "id".into() } else { format!("k{i}") },
                kind: kind.sql(),
                more: if has_identity { " GENERATED ALWAYS AS IDENTITY".into() } else { String::new() },
                source: Source::Key(i),
                later: false,
            })
            .collect();
        let count = if one_in(random, 60) { 1100 } else { random.usize(0..14) };
        let rows = (0..count).map(|n| {
            let mut values = parent.map_or(vec![], |parent| pick(random, &self.tables[parent].rows).0);
            values.extend(own.iter().map(|kind| kind.distinct(n, random)));
            (values, format!("'c{n}'"))
        });
        let rows = rows.collect();
        let mut references = Vec::new();
        if let Some(to) = parent {
            let columns = key[..of_parent].iter().map(|column| column.name.clone()).collect();
            references.push(Reference { to, to_code: false, columns, action: action(random), timing: "" });
        }
        Table {
            name,
            partitions: vec![],
            has_identity,
            key,
            key_kinds,
            columns: vec![],
            references,
            rows,
            lasting: vec![],
            overwritten: vec![],
            partitioned,
            forbids: false,
            is_counted: false,
        }
    }

    /// Foreign keys to tables before this one, to itself, and now and then to one after it, which makes circles.
    fn add_references(&mut self, i: usize, random: &mut Rng) {
        let count = self.tables.len();
        for _ in 0..pick(random, &[0, 1, 1, 1, 2]) {
            let to = match random.u8(0..8) {
                0 => i,
                1 | 2 => random.usize(0..count),
                _ if i == 0 => continue,
                _ => random.usize(0..i),
            };
            let to_code = self.tables[to].partitioned.is_none() && one_in(random, 5);
            let number = self.tables[i].references.len();
            let kinds: Vec<&'static str> = if to_code {
                vec!["text"]
            } else {
                let of_parent = self.tables[to].key_kinds.iter().map(|kind| kind.sql());
                // A reference need not be of its parent's type, only comparable to it.
                of_parent.map(|kind| if kind == "int" && one_in(random, 4) { "bigint" } else { kind }).collect()
            };
            let action = action(random);
            let is_optional = self.tables[to].rows.is_empty() || random.bool() || action == "SET NULL" && one_in(random, 20);
            let default = self.tables[to].rows.get(random.usize(0..1 + self.tables[to].rows.len())).cloned();
            let mut columns = Vec::new();
            for (part, kind) in kinds.iter().enumerate() {
                let name = format!("r{number}_{part}");
                columns.push(name.clone());
                let default = match &default {
                    Some((key, code)) if action == "SET DEFAULT" => {
                        format!(" DEFAULT {}", if to_code { code } else { &key[part] })
                    }
                    _ => String::new(),
                };
                let more = format!("{default}{}", if is_optional { "" } else { " NOT NULL" });
                let source = Source::Reference(number, part);
                self.tables[i].columns.push(Column { name, kind, more, source, later: false });
            }
            let timing = match random.u8(0..6) {
                0 | 1 => " DEFERRABLE INITIALLY DEFERRED",
                2 => " DEFERRABLE",
                _ => "",
            };
            self.tables[i].references.push(Reference { to, to_code, columns, action, timing });
        }
        let table = &mut self.tables[i];
        let setting = table.references.iter().filter(|reference| SETTING_ACTIONS.contains(&reference.action));
        table.overwritten = setting.flat_map(|reference| reference.columns.clone()).collect();
    }

    fn add_columns(&mut self, i: usize, random: &mut Rng) {
        let version = self.abilities.version;
        let table = &mut self.tables[i];
        let column =
            |name: &str, kind, more: &str, source| Column { name: name.into(), kind, more: more.into(), source, later: false };
        table.columns.push(column("note", "text", "", Source::Note));
        if random.bool() {
            table.columns.push(column("shout", "text", " GENERATED ALWAYS AS (upper(note)) STORED", Source::Generated));
        }
        if version >= 180000 && one_in(random, 4) {
            table.columns.push(column("whisper", "text", " GENERATED ALWAYS AS (lower(note)) VIRTUAL", Source::Generated));
        }
        if table.partitioned.is_none() {
            table.columns.push(column("code", "text", " UNIQUE NOT NULL", Source::Code));
        }
        table.columns.push(column("touched", "timestamptz", "", Source::Default));
        if random.bool() {
            table.columns.push(column("with_default", "numeric", " NOT NULL DEFAULT 7.00", Source::Default));
        }
        if one_in(random, 3) {
            table.columns.push(column("children", "bigint", " NOT NULL DEFAULT 0", Source::Counter));
            table.overwritten.push("children".into());
        }
        for i in 0..random.usize(0..3) {
            table.columns.push(column(&format!("gone{i}"), "int", "", Source::Dropped));
        }
        let mut names = NAMES.to_vec();
        random.shuffle(&mut names);
        for name in names.into_iter().take(random.usize(0..8)) {
            let kind = pick(random, &DATA);
            if kind == Kind::Xml && !self.abilities.xml {
                continue;
            }
            let later = one_in(random, 4);
            let more = match random.u8(0..5) {
                0 => format!(" DEFAULT {}", without_subquery(kind, random)),
                1 => format!(" NOT NULL DEFAULT {}", without_subquery(kind, random)),
                _ => String::new(),
            };
            table.columns.push(Column { later, ..column(name, kind.sql(), &more, Source::Data(kind)) });
        }
        let mut all = table.columns.clone();
        random.shuffle(&mut all);
        table.columns = all;
        let lasting = table.key.iter().chain(&table.columns).filter(|column| column.source != Source::Dropped);
        table.lasting = lasting.map(|column| column.name.clone()).collect();
    }

    fn write(&mut self, random: &mut Rng) {
        self.setup.push(format!("CREATE SCHEMA {0}; SET search_path = {0}", self.name));
        self.setup.push(TYPES.into());
        self.setup.push("CREATE TABLE counter (of text PRIMARY KEY, n bigint NOT NULL)".into());
        for i in 0..self.tables.len() {
            self.create(i, random);
        }
        let manages = random.u8(0..3);
        let tables = self.tables.iter().map(|table| table.name.clone()).collect::<Vec<_>>();
        if manages == 0 {
            self.manage(&tables, random);
        }
        for i in 0..self.tables.len() {
            self.triggers(i, random);
        }
        for half in [0, 1] {
            for i in 0..self.tables.len() {
                self.insert(i, half, random);
            }
            if half == 0 {
                for i in 0..self.tables.len() {
                    self.alter(i);
                }
            }
        }
        if manages == 1 {
            self.manage(&tables, random);
        }
        for i in 0..self.tables.len() {
            self.constraints(i);
        }
        if manages == 2 {
            if random.bool() {
                let root = pick(random, &tables);
                self.setup.push(format!("SELECT tombstone.manage('{root}', tree => true)"));
                self.setup.push(format!(
                    "SELECT tombstone.manage(t) FROM unnest('{{{}}}'::text[]) AS name, CAST(name AS regclass) AS t
                     WHERE t NOT IN (SELECT relation FROM tombstone.tables)",
                    tables.iter().map(|name| format!("\"{}\"", name.replace('"', "\\\""))).collect::<Vec<_>>().join(",")
                ));
            } else {
                self.manage(&tables, random);
            }
        }
    }

    fn manage(&mut self, tables: &[String], random: &mut Rng) {
        let mut tables = tables.to_vec();
        random.shuffle(&mut tables);
        for table in tables {
            let more = pick(random, &["", "", ", events => 'all'", ", notify => 'batch'", ", retention => NULL"]);
            self.setup.push(format!("SELECT tombstone.manage('{table}'{more})"));
        }
    }

    fn create(&mut self, i: usize, random: &mut Rng) {
        let table = &self.tables[i];
        let define = |column: &Column| format!("{} {}{}", column.name, column.kind, column.more);
        let mut columns: Vec<&Column> = table.columns.iter().filter(|column| !column.later).collect();
        // The key need not come first.
        let at = random.usize(0..=columns.len());
        for (n, column) in table.key.iter().enumerate() {
            columns.insert(at + n, column);
        }
        let key = table.key.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        let definitions = columns.iter().map(|column| define(column)).collect::<Vec<_>>().join(", ");
        let name = table.name.clone();
        let Some(strategy) = table.partitioned else {
            self.setup.push(format!("CREATE TABLE {name} ({definitions}, PRIMARY KEY ({key}))"));
            return;
        };
        let mut sql = vec![format!("CREATE TABLE {name} ({definitions}, PRIMARY KEY ({key})) PARTITION BY {strategy} (id)")];
        // One is attached, with its columns in another order, and a column more that is gone.
        let mut columns: Vec<String> = columns.iter().map(|column| define(column)).collect();
        columns.push("stray int".into());
        random.shuffle(&mut columns);
        let bounds: [&str; 3] = match strategy {
            "RANGE" => ["FROM (MINVALUE) TO (0)", "FROM (0) TO (20)", "FROM (20) TO (MAXVALUE)"],
            _ => ["WITH (MODULUS 3, REMAINDER 0)", "WITH (MODULUS 3, REMAINDER 1)", "WITH (MODULUS 3, REMAINDER 2)"],
        };
        let parts: Vec<String> = (0..3).map(|part| format!("part{i}_{part}")).collect();
        for (part, bound) in parts.iter().zip(bounds).take(2) {
            sql.push(format!("CREATE TABLE {part} PARTITION OF {name} FOR VALUES {bound}"));
        }
        sql.push(format!("CREATE TABLE {} ({})", parts[2], columns.join(", ")));
        let not_null = table.key.iter().map(|column| format!("ALTER COLUMN {} SET NOT NULL", column.name));
        sql.push(format!("ALTER TABLE {} DROP COLUMN stray, {}", parts[2], not_null.collect::<Vec<_>>().join(", ")));
        sql.push(format!("ALTER TABLE {name} ATTACH PARTITION {} FOR VALUES {}", parts[2], bounds[2]));
        self.tables[i].partitions = parts;
        self.setup.extend(sql);
    }

    /// Half of the rows: those before ALTER TABLE, or those after it.
    fn insert(&mut self, i: usize, half: usize, random: &mut Rng) {
        let table = &self.tables[i];
        let rows = table.rows.len();
        let these = if half == 0 { 0..rows / 2 } else { rows / 2..rows };
        if these.is_empty() {
            return;
        }
        let is_here = |column: &&Column| match column.source {
            Source::Generated => false,
            Source::Dropped => half == 0,
            _ => half == 1 || !column.later,
        };
        let columns: Vec<&Column> = table.key.iter().chain(&table.columns).filter(is_here).collect();
        let names = columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        let mut values = Vec::new();
        for row in these {
            let references: Vec<Vec<String>> =
                table.references.iter().map(|reference| self.referred(reference, table, random)).collect();
            let value = |column: &Column, random: &mut Rng| match &column.source {
                Source::Key(part) => table.rows[row].0[*part].clone(),
                Source::Code => table.rows[row].1.clone(),
                Source::Reference(number, part) => references[*number][*part].clone(),
                Source::Data(kind) if column.more.contains("NOT NULL") => kind.literal(random),
                Source::Data(kind) if one_in(random, 4) => pick(random, &["NULL", of_nulls(*kind)]).into(),
                Source::Data(kind) => kind.literal(random),
                Source::Note if one_in(random, 3) => "NULL".into(),
                Source::Note => text(random),
                Source::Dropped => "17".into(),
                Source::Default | Source::Counter | Source::Generated => "DEFAULT".into(),
            };
            let row = columns.iter().map(|column| value(column, random)).collect::<Vec<_>>().join(", ");
            values.push(format!("({row})"));
        }
        let overriding = if table.has_identity { " OVERRIDING SYSTEM VALUE" } else { "" };
        let sql = format!("INSERT INTO {} ({names}){overriding} VALUES {}", table.name, values.join(",\n    "));
        self.setup.push(sql);
    }

    /// The literals of a reference: to some row, or to none.
    fn referred(&self, reference: &Reference, of: &Table, random: &mut Rng) -> Vec<String> {
        let parts = reference.columns.len();
        let column = of.columns.iter().find(|column| reference.columns.contains(&column.name));
        let is_optional = column.is_some_and(|column| !column.more.contains("NOT NULL"));
        let parents = &self.tables[reference.to].rows;
        if parents.is_empty() || is_optional && one_in(random, 5) {
            return vec!["NULL".into(); parts];
        }
        let (key, code) = pick(random, parents);
        if reference.to_code {
            return vec![code];
        }
        let mut values = key;
        // An equal number need not look the same.
        for (value, kind) in values.iter_mut().zip(&self.tables[reference.to].key_kinds) {
            if *kind == Kind::Numeric && value.contains('.') && one_in(random, 2) {
                value.push_str("000");
            }
        }
        if parts > 1 && is_optional && one_in(random, 8) {
            values[0] = "NULL".into();
        }
        values
    }

    /// Columns come and go once there are rows.
    fn alter(&mut self, i: usize) {
        let table = &self.tables[i];
        let changes: Vec<String> = table
            .columns
            .iter()
            .filter_map(|column| match column.source {
                Source::Dropped => Some(format!("DROP COLUMN {}", column.name)),
                _ if column.later => Some(format!("ADD COLUMN {} {}{}", column.name, column.kind, column.more)),
                _ => None,
            })
            .collect();
        if !changes.is_empty() {
            self.setup.push(format!("ALTER TABLE {} {}", table.name, changes.join(", ")));
        }
    }

    fn constraints(&mut self, i: usize) {
        let table = &self.tables[i];
        for (number, reference) in table.references.iter().enumerate() {
            let to = &self.tables[reference.to];
            let target = if reference.to_code {
                "code".to_string()
            } else {
                to.key.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
            };
            let columns = reference.columns.join(", ");
            self.setup.push(format!(
                "ALTER TABLE {} ADD CONSTRAINT fk{number} FOREIGN KEY ({columns}) REFERENCES {} ({target}) ON DELETE {}{}",
                table.name, to.name, reference.action, reference.timing
            ));
        }
    }

    /// Whether the parent may count these children. Not where they fall with others, too, or with each other: what was counted before
    /// the parent went is not to be told then.
    fn may_count(&self, i: usize, reference: &Reference) -> bool {
        let counts = self.tables[reference.to].columns.iter().any(|column| column.source == Source::Counter);
        let only = self.tables[i].references.len() == 1;
        counts && only && !reference.to_code && reference.action == "CASCADE" && !self.reaches(reference.to, i)
    }

    /// Whether `from` refers to `to`, by however many others.
    fn reaches(&self, from: usize, to: usize) -> bool {
        let (mut seen, mut next) = (vec![from], 0);
        while let Some(table) = seen.get(next).copied() {
            next += 1;
            for reference in &self.tables[table].references {
                if reference.to == to {
                    return true;
                }
                if !seen.contains(&reference.to) {
                    seen.push(reference.to);
                }
            }
        }
        false
    }

    /// Triggers as applications have them: they stamp and embellish rows, count them, delete what hangs on them, and forbid.
    fn triggers(&mut self, i: usize, random: &mut Rng) {
        let table = &self.tables[i];
        let (name, quoted) = (table.name.clone(), table.name.replace('"', "").replace(' ', "_"));
        let mut sql = Vec::new();
        let within = if random.bool() { String::new() } else { format!(" SET search_path = {}", self.name) };
        let mut trigger = |name: &str, when: &str, body: &str, on: &str| {
            let function = format!("{name}_{quoted}");
            sql.push(format!("CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql{within} AS $$BEGIN {body} END$$"));
            let each = if when.contains("REFERENCING") { "STATEMENT" } else { "ROW" };
            sql.push(
                format!("CREATE TRIGGER {name} {when} FOR EACH {each} EXECUTE FUNCTION {function}()")
                    .replace("ON %", &format!("ON {on}")),
            );
        };
        if one_in(random, 3) {
            trigger(
                if random.bool() { "zzz_touch" } else { "touch" },
                "BEFORE INSERT ON %",
                "NEW.touched := clock_timestamp(); NEW.note := concat(NEW.note, '!'); RETURN NEW;",
                &name,
            );
        }
        if one_in(random, 4) {
            let counted = format!(
                "UPDATE counter SET n = n + CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END WHERE of = '{quoted}'; RETURN NULL;"
            );
            trigger("count_rows", "AFTER INSERT OR DELETE ON %", &counted, &name);
        } else if table.partitioned.is_none() && one_in(random, 4) {
            for (event, which, sign) in [("INSERT", "NEW", "+"), ("DELETE", "OLD", "-")] {
                let counted =
                    format!("UPDATE counter SET n = n {sign} (SELECT count(*) FROM those) WHERE of = '{quoted}'; RETURN NULL;");
                trigger(
                    &format!("count_{}", event.to_lowercase()),
                    &format!("AFTER {event} ON % REFERENCING {which} TABLE AS those"),
                    &counted,
                    &name,
                );
            }
        }
        let counted = table.references.iter().find(|reference| self.may_count(i, reference));
        let is_counted = counted.is_some();
        if let Some(reference) = counted {
            let parent = &self.tables[reference.to];
            let count = |row: &str, sign: &str| {
                let same =
                    parent.key.iter().zip(&reference.columns).map(|(key, column)| format!("{} = {row}.{column}", key.name));
                let same = same.collect::<Vec<_>>().join(" AND ");
                format!("UPDATE {} SET children = children {sign} 1 WHERE {same};", parent.name)
            };
            let counted = format!(
                "IF TG_OP <> 'INSERT' THEN {} END IF; IF TG_OP <> 'DELETE' THEN {} END IF; RETURN NULL;",
                count("OLD", "-"),
                count("NEW", "+")
            );
            trigger("count_children", "AFTER INSERT OR UPDATE OR DELETE ON %", &counted, &name);
        }
        let forbids = table.references.is_empty() && one_in(random, 6);
        if forbids {
            trigger(
                "forbid",
                "BEFORE DELETE ON %",
                "IF hashtext(OLD::text) % 4 = 0 THEN RETURN NULL; END IF; RETURN OLD;",
                &name,
            );
        }
        let key = table.key.iter().map(|column| column.name.as_str()).collect::<Vec<_>>();
        // Never in a circle: such triggers would call each other for ever.
        let mut hanging =
            self.tables[i + 1..].iter().flat_map(|child| child.references.iter().map(move |reference| (child, reference)));
        let hanging = hanging.find(|(_, one)| one.to == i && !one.to_code && ["NO ACTION", "RESTRICT"].contains(&one.action));
        if let Some((child, reference)) = hanging
            && random.bool()
        {
            let same = reference.columns.iter().zip(key).map(|(column, key)| format!("{column} = OLD.{key}"));
            let body = format!("DELETE FROM {} WHERE {}; RETURN OLD;", child.name, same.collect::<Vec<_>>().join(" AND "));
            trigger("children_first", "BEFORE DELETE ON %", &body, &name);
        }
        self.tables[i].forbids = forbids;
        self.tables[i].is_counted = is_counted;
        self.setup.push(format!("INSERT INTO counter VALUES ('{quoted}', 0)"));
        self.setup.extend(sql);
    }

    /// What an application may do in one transaction: statements that delete.
    pub fn deletes(&self, random: &mut Rng) -> Vec<Step> {
        let count = pick(random, &[1, 1, 1, 2, 3]);
        let step = |_| {
            let taken_back = count > 1 && one_in(random, 4);
            let table = pick(random, &self.tables);
            if one_in(random, 8)
                && !table.forbids
                && [[Kind::Int], [Kind::BigInt], [Kind::Text], [Kind::Uuid]].iter().any(|kinds| table.key_kinds == kinds)
            {
                let some = format!("(SELECT id FROM {} ORDER BY hashtext(id::text) LIMIT 1)", table.name);
                let sql = format!("SELECT tombstone.soft_delete(id::text, '{}') FROM {some} AS one", table.name);
                return Step { sql, plain: format!("DELETE FROM {} WHERE id = {some}", table.name), taken_back };
            }
            let sql = self.delete(&table, random);
            Step { plain: sql.clone(), sql, taken_back }
        };
        (0..count).map(step).collect()
    }

    fn delete(&self, table: &Table, random: &mut Rng) -> String {
        let name = &table.name;
        match random.u8(0..10) {
            0 => format!("DELETE FROM {name}"),
            1 => {
                let some = format!("hashtext(t::text) % {} = 0", random.u8(2..5));
                format!("DELETE FROM {name} t WHERE {some} RETURNING *")
            }
            2 if !table.partitions.is_empty() => {
                let part = pick(random, &table.partitions);
                format!("DELETE FROM {part} WHERE hashtext(id::text) % 2 = 0")
            }
            3 | 4 if !table.references.is_empty() => {
                let reference = pick(random, &table.references);
                let to = &self.tables[reference.to];
                let target: Vec<String> = match reference.to_code {
                    true => vec!["code".into()],
                    false => to.key.iter().map(|column| column.name.clone()).collect(),
                };
                let same = reference.columns.iter().zip(target).map(|(column, key)| format!("t.{column} = p.{key}"));
                format!("DELETE FROM {name} t USING {} p WHERE {}", to.name, same.collect::<Vec<_>>().join(" AND "))
            }
            // Parent and child in one statement: what has been counted when is not to be told afterwards.
            5 if !self.tables.iter().any(|table| table.is_counted) => {
                let other = pick(random, &self.tables);
                let first = self.some_of(&other, random);
                let second = self.some_of(table, random);
                format!(
                    "WITH first AS (DELETE FROM {} t WHERE {first} RETURNING 1) DELETE FROM {name} t WHERE {second}",
                    other.name
                )
            }
            6 if self.abilities.version >= 150000 => {
                let some = self.some_of(table, random);
                format!("MERGE INTO {name} t USING (VALUES (1)) v (n) ON {some} WHEN MATCHED THEN DELETE")
            }
            _ => format!("DELETE FROM {name} t WHERE {}", self.some_of(table, random)),
        }
    }

    /// A condition: one row by its key, several, or every so many.
    fn some_of(&self, table: &Table, random: &mut Rng) -> String {
        if table.rows.is_empty() || one_in(random, 4) {
            return format!("hashtext(t.id::text) % {} = 0", random.u8(1..4));
        }
        let key = table.key.iter().map(|column| format!("t.{}", column.name)).collect::<Vec<_>>().join(", ");
        let rows: Vec<String> = (0..pick(random, &[1, 1, 2, 5]))
            .map(|_| {
                let values = pick(random, &table.rows).0;
                let typed = values.iter().zip(&table.key_kinds).map(|(value, kind)| format!("({value})::{}", kind.sql()));
                format!("({})", typed.collect::<Vec<_>>().join(", "))
            })
            .collect();
        format!("({key}) IN ({})", rows.join(", "))
    }
}

fn action(random: &mut Rng) -> &'static str {
    if one_in(random, 3) {
        return pick(random, &SETTING_ACTIONS);
    }
    // CASCADE is what leads somewhere.
    if random.bool() { "CASCADE" } else { pick(random, &ACTIONS) }
}

/// A literal that may stand in a DEFAULT.
fn without_subquery(kind: Kind, random: &mut Rng) -> String {
    match kind {
        Kind::Text => "'by default'".into(),
        _ => kind.literal(random),
    }
}

/// Composite values of NULLs alone, which are not NULL themselves.
fn of_nulls(kind: Kind) -> &'static str {
    match kind {
        Kind::Pair => "ROW(NULL, NULL)",
        _ => "NULL",
    }
}

/// Settings by which values look different: an application may have any, and other ones whenever it comes back.
pub fn settings(random: &mut Rng) -> String {
    let settings = [
        "DateStyle = 'SQL, DMY'",
        "DateStyle = 'German'",
        "DateStyle = 'ISO, MDY'",
        "IntervalStyle = 'sql_standard'",
        "TimeZone = 'Asia/Kathmandu'",
        "TimeZone = 'America/St_Johns'",
        "extra_float_digits = -10",
        "bytea_output = 'escape'",
        "work_mem = '64kB'",
        "xmloption = 'document'",
        "plan_cache_mode = 'force_generic_plan'",
        "quote_all_identifiers = on",
        "default_toast_compression = 'pglz'",
    ];
    let some = (0..random.usize(0..4)).map(|_| format!("SET {}; ", pick(random, &settings)));
    some.collect()
}
