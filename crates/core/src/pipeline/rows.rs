//! The statements that read the rows of a source and write their chunks. They run with the rights of
//! the source's owner.

use crate::pipeline::{Configuration, SearchableTable};
use crate::sql::identifier::Literal;
use crate::sql::{Parameter, Statement};

/// Bytes of content that are read at once; the first row is read however large it is.
const MOST_BYTES: i64 = 4 << 20;

/// A chunk on its way into the companion.
#[derive(Debug, Clone, PartialEq)]
pub struct NewChunk {
    /// Its text.
    pub content: String,
    /// Characters of the row's text before it, and up to its end.
    pub offsets: (i32, i32),
    /// Its tokens.
    pub token_count: i32,
    /// The chunk that it is a part of.
    pub parent: Option<i32>,
    /// Its embedding; `None` where there is nothing to embed.
    pub embedding: Option<Vec<f32>>,
}

/// A row whose chunks are to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRow<'a> {
    /// The primary key, each column as text.
    pub key: &'a [String],
    /// The hash of the content that the chunks are of, in hexadecimal digits.
    pub hash: &'a str,
    /// The chunks.
    pub chunks: &'a [NewChunk],
}

impl SearchableTable {
    /// Reads rows by their keys, in the order of the keys, with columns (is there, is read, content,
    /// hash, whether the companion has that hash). A row is not read where those before it are large.
    pub fn read_rows(&self, keys: &[&[String]]) -> Statement {
        let mut statement = Statement::default();
        let given = self.given_keys(&mut statement, keys.iter().copied());
        let signature = statement.bind(Parameter::Text(self.options.signature()));
        let most = statement.bind(Parameter::Integer(MOST_BYTES));
        let columns: Vec<String> = self.content.iter().map(|column| format!("s.{column}")).collect();
        let renamed: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(place, column)| format!("{column} AS content_{place}"))
            .collect();
        // What a row holds is looked up outside of the table's own compressed storage only once it is
        // known to be read.
        let bytes: Vec<String> = columns
            .iter()
            .map(|column| format!("coalesce(pg_catalog.octet_length({column}::pg_catalog.text), 0)"))
            .collect();
        let outer: Vec<String> = (0..columns.len()).map(|place| format!("r.content_{place}")).collect();
        let configuration = match &self.configuration {
            Configuration::Constant(name) => Literal(&name.to_string()).to_string(),
            Configuration::Column(column) => format!("s.{column}::pg_catalog.text"),
        };
        let companion_keys = self.keys.iter().enumerate().map(|(place, key)| {
            format!("c.{} {} k.key_{place}::{}", key.companion, key.equality, key.type_name)
        });
        statement.push(format_args!(
            "SELECT n.is_there, n.is_read, n.content, n.hash, n.known IS NOT NULL \
                 AND pg_catalog.encode(n.known, 'hex') OPERATOR(pg_catalog.=) n.hash \
             FROM (SELECT p.*, CASE WHEN p.is_read THEN {hash} END AS hash \
               FROM (SELECT r.*, r.is_there AND (r.place OPERATOR(pg_catalog.=) 1 \
                            OR r.bytes OPERATOR(pg_catalog.<=) {most}) AS is_read, \
                     CASE WHEN r.is_there AND (r.place OPERATOR(pg_catalog.=) 1 \
                            OR r.bytes OPERATOR(pg_catalog.<=) {most}) \
                     THEN {content} END AS content \
                   FROM (SELECT k.place, s.tableoid IS NOT NULL AS is_there, {renamed}, \
                                {configuration} AS configuration, c.content_hash AS known, \
                                pg_catalog.sum({bytes}) OVER (ORDER BY k.place) AS bytes \
                         FROM {given} \
                         LEFT JOIN {source} AS s ON {same} \
                         LEFT JOIN {companion} AS c ON {companion_keys} \
                               AND c.chunk_index OPERATOR(pg_catalog.=) 0 \
                        ) AS r) AS p) AS n ORDER BY n.place",
            hash = hash_of(&signature, "p.configuration", "p.content"),
            content = joined(&outer),
            renamed = renamed.join(", "),
            bytes = bytes.join(" OPERATOR(pg_catalog.+) "),
            source = self.from_source(),
            same = self.same_as_given("s", "k"),
            companion = self.companion,
            companion_keys = companion_keys.collect::<Vec<_>>().join(" AND "),
        ));
        statement.depends_on_values = true;
        statement
    }

    /// Writes rows whose content is still the one that was hashed, all chunks of each, and gives the
    /// places (from 1) of those that were written.
    ///
    /// The rows are locked, so that of two writers the second sees what the first has written, and
    /// nobody waits: a row that somebody holds is left out.
    pub fn write_rows(&self, rows: &[NewRow]) -> Statement {
        let mut statement = Statement::default();
        let given = self.given_keys(&mut statement, rows.iter().map(|row| row.key));
        let hashes = rows.iter().map(|row| row.hash.to_owned()).collect();
        let hashes = statement.bind(Parameter::Texts(hashes));
        let counts = rows.iter().map(|row| row.chunks.len() as i64).collect();
        let counts = statement.bind(Parameter::Integers(counts));
        let signature = statement.bind(Parameter::Text(self.options.signature()));
        let model = statement.bind(Parameter::Text(self.options.model.clone()));
        let (chunks, vectors) = bind_chunks(&mut statement, rows);
        let content: Vec<String> = self.content.iter().map(|column| format!("s.{column}")).collect();
        let (configuration, configuration_text) = match &self.configuration {
            Configuration::Constant(name) => {
                let name = Literal(&name.to_string()).to_string();
                (format!("{name}::pg_catalog.regconfig"), name)
            }
            Configuration::Column(column) => {
                ("r.configuration::pg_catalog.regconfig".to_owned(), format!("s.{column}::pg_catalog.text"))
            }
        };
        let part = |text: &dyn Fn(usize, &crate::pipeline::KeyColumn) -> String, joint: &str| {
            let parts: Vec<String> =
                self.keys.iter().enumerate().map(|(place, key)| text(place, key)).collect();
            parts.join(joint)
        };
        let keys = part(&|_, key| key.companion.to_string(), ", ");
        statement.push(format_args!(
            "WITH given AS MATERIALIZED (SELECT k.*, h.hash, h.count FROM {given} \
                 JOIN ROWS FROM (pg_catalog.unnest({hashes}), pg_catalog.unnest({counts})) \
                      WITH ORDINALITY AS h(hash, count, place) ON h.place OPERATOR(pg_catalog.=) k.place), \
             current AS MATERIALIZED (SELECT k.place, k.hash, k.count, {source_keys}, \
                     {configuration_text} AS configuration \
                 FROM given AS k JOIN {source} AS s ON {same} \
                 WHERE {hash} OPERATOR(pg_catalog.=) k.hash FOR NO KEY UPDATE OF s SKIP LOCKED), \
             vectors AS MATERIALIZED (SELECT v.embedding, v.place \
                 FROM pg_catalog.unnest({vectors}) WITH ORDINALITY AS v(embedding, place)), \
             shrunk AS (DELETE FROM {companion} AS c USING current AS r \
                 WHERE {companion_same} AND c.chunk_index OPERATOR(pg_catalog.>=) r.count), \
             written AS (INSERT INTO {companion} ({keys}, chunk_index, parent_index, content, start_offset, \
                     end_offset, token_count, content_hash, model, embedding, lexemes) \
                 SELECT {current_keys}, c.chunk_index, \
                        CASE WHEN c.parent_index OPERATOR(pg_catalog.>=) 0 THEN c.parent_index END, \
                        c.content, c.start_offset, c.end_offset, c.token_count, \
                        pg_catalog.decode(r.hash, 'hex'), {model}, v.embedding::{vector}, \
                        CASE WHEN c.vector_place OPERATOR(pg_catalog.>) 0 \
                             THEN pg_catalog.to_tsvector({configuration}, c.content) END \
                 FROM {chunks} JOIN current AS r ON r.place OPERATOR(pg_catalog.=) c.row_place \
                 LEFT JOIN vectors AS v ON v.place OPERATOR(pg_catalog.=) c.vector_place \
                 ON CONFLICT ({keys}, chunk_index) DO UPDATE SET parent_index = excluded.parent_index, \
                     content = excluded.content, start_offset = excluded.start_offset, \
                     end_offset = excluded.end_offset, token_count = excluded.token_count, \
                     content_hash = excluded.content_hash, model = excluded.model, \
                     embedding = excluded.embedding, lexemes = excluded.lexemes) \
             SELECT r.place FROM current AS r",
            source_keys = part(&|place, key| format!("s.{} AS key_{place}", key.name), ", "),
            current_keys = part(&|place, _| format!("r.key_{place}"), ", "),
            source = self.from_source(),
            same = self.same_as_given("s", "k"),
            companion = self.companion,
            companion_same =
                part(&|place, key| format!("c.{} {} r.key_{place}", key.companion, key.equality), " AND "),
            hash = hash_of(&signature, &configuration_text, &joined(&content)),
            vector = self.vector_type(),
        ));
        statement.depends_on_values = true;
        statement
    }

    /// Reads the keys of all rows as texts, one column each: those that have no chunk of this
    /// signature's making, unless `all` are wanted.
    pub fn list_keys(&self, all: bool) -> Statement {
        let keys: Vec<String> =
            self.keys.iter().map(|key| format!("s.{}::pg_catalog.text", key.name)).collect();
        let mut statement = Statement::default();
        statement.push(format_args!("SELECT {} FROM {} AS s", keys.join(", "), self.from_source()));
        if !all {
            statement.push(format_args!(
                " WHERE NOT EXISTS (SELECT FROM {} AS c WHERE {} AND c.chunk_index OPERATOR(pg_catalog.=) 0)",
                self.companion,
                self.same_row("s", "c"),
            ));
        }
        statement
    }

    /// Counts the rows of the source and those that have chunks, with columns (rows, embedded).
    pub fn count_rows(&self) -> Statement {
        let text = format!(
            "SELECT (SELECT pg_catalog.count(*) FROM {} AS s), \
             (SELECT pg_catalog.count(*) FROM {} AS c WHERE c.chunk_index OPERATOR(pg_catalog.=) 0)",
            self.from_source(),
            self.companion
        );
        Statement { text, ..Statement::default() }
    }

    /// The keys as rows `k` with the columns key_0, key_1, … and their place from 1.
    fn given_keys<'a>(
        &self,
        statement: &mut Statement,
        keys: impl Iterator<Item = &'a [String]> + Clone,
    ) -> String {
        let arrays: Vec<String> = (0..self.keys.len())
            .map(|place| {
                let values = keys.clone().map(|key| key.get(place).cloned().unwrap_or_default()).collect();
                format!("pg_catalog.unnest({})", statement.bind(Parameter::Texts(values)))
            })
            .collect();
        let names: Vec<String> = (0..self.keys.len()).map(|place| format!("key_{place}")).collect();
        format!("ROWS FROM ({}) WITH ORDINALITY AS k({}, place)", arrays.join(", "), names.join(", "))
    }

    fn same_as_given(&self, source: &str, given: &str) -> String {
        let equal = self.keys.iter().enumerate().map(|(place, key)| {
            format!("{source}.{} {} {given}.key_{place}::{}", key.name, key.equality, key.type_name)
        });
        equal.collect::<Vec<_>>().join(" AND ")
    }
}

/// The content of a row: its columns, joined by an empty line.
pub(super) fn joined(columns: &[String]) -> String {
    let texts: Vec<String> = columns.iter().map(|column| format!("{column}::pg_catalog.text")).collect();
    format!("pg_catalog.concat_ws(E'\\n\\n', {})", texts.join(", "))
}

/// The hash of a row's content with what decides its chunks, in hexadecimal digits.
pub(super) fn hash_of(signature: &str, configuration: &str, content: &str) -> String {
    format!(
        "pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(\
         pg_catalog.concat({signature}, {configuration}, E'\\n', {content}), 'UTF8')), 'hex')"
    )
}

/// The chunks of all rows as rows `c`, and the parameter of their embeddings.
fn bind_chunks(statement: &mut Statement, rows: &[NewRow]) -> (String, String) {
    let (mut texts, mut vectors): (Vec<String>, Vec<Vec<f32>>) = (vec![], vec![]);
    let mut numbers: [Vec<i64>; 7] = Default::default();
    for (row_place, row) in rows.iter().enumerate() {
        for (chunk_index, chunk) in row.chunks.iter().enumerate() {
            texts.push(chunk.content.clone());
            if let Some(embedding) = &chunk.embedding {
                vectors.push(embedding.clone());
            }
            let values = [
                row_place as i64 + 1,
                chunk_index as i64,
                i64::from(chunk.parent.unwrap_or(-1)),
                i64::from(chunk.offsets.0),
                i64::from(chunk.offsets.1),
                i64::from(chunk.token_count),
                if chunk.embedding.is_some() { vectors.len() as i64 } else { 0 },
            ];
            numbers.iter_mut().zip(values).for_each(|(numbers, value)| numbers.push(value));
        }
    }
    let texts = statement.bind(Parameter::Texts(texts));
    let numbers = numbers.map(|values| {
        let bound = statement.bind(Parameter::Integers(values));
        format!("pg_catalog.unnest({bound})")
    });
    let vectors = statement.bind(Parameter::Vectors(vectors));
    let chunks = format!(
        "(SELECT u.content, u.row_place, u.chunk_index::pg_catalog.int4, u.parent_index::pg_catalog.int4, \
                 u.start_offset::pg_catalog.int4, u.end_offset::pg_catalog.int4, u.token_count::pg_catalog.int4, \
                 u.vector_place \
          FROM ROWS FROM (pg_catalog.unnest({texts}), {numbers}) AS u(content, row_place, chunk_index, \
               parent_index, start_offset, end_offset, token_count, vector_place)) AS c",
        numbers = numbers.join(", "),
    );
    (chunks, vectors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::definition::tests::{identifier, table};

    fn chunk(embedding: Option<Vec<f32>>) -> NewChunk {
        NewChunk { content: "x".into(), offsets: (0, 1), token_count: 3, parent: None, embedding }
    }

    #[test]
    fn values_are_bound_and_names_quoted() {
        let hostile = "x\"; DROP TABLE y; --";
        let mut table = table(hostile);
        table.content = vec![identifier(hostile)];
        let key = [hostile.to_owned(), "7".to_owned()];
        let chunks = [chunk(Some(vec![0.0])), chunk(None)];
        let row = NewRow { key: &key, hash: hostile, chunks: &chunks };
        for statement in
            [table.read_rows(&[&key]), table.write_rows(&[row]), table.list_keys(false), table.count_rows()]
        {
            assert!(!statement.text.contains("x\"; DROP"), "{}", statement.text);
            assert!(statement.text.contains(r#""x""; DROP TABLE y; --""#), "{}", statement.text);
        }
    }

    #[test]
    fn chunks_without_embedding_have_no_vector() {
        let mut statement = Statement::default();
        let chunks = [chunk(None), chunk(Some(vec![1.0])), chunk(Some(vec![2.0]))];
        bind_chunks(&mut statement, &[NewRow { key: &[], hash: "", chunks: &chunks }]);
        assert_eq!(statement.parameters[7], Parameter::Integers(vec![0, 1, 2]));
        assert_eq!(statement.parameters[8], Parameter::Vectors(vec![vec![1.0], vec![2.0]]));
    }
}
