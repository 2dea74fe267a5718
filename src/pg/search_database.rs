//! The server itself as the database of a search.

use super::spi::{self, Row};
use crate::error::Result;
use crate::search::candidate::{Candidate, Location};
use crate::search::hybrid::{Database, FetchedRow};
use crate::search::{Parameter, Statement};

/// pgvector accepts no more for hnsw.ef_search.
const LARGEST_EF_SEARCH: usize = 1000;

/// Runs the statements of one search in this session.
pub struct SessionDatabase {
    /// Candidates each leg is asked for.
    pub depth: usize,
}

impl Database for SessionDatabase {
    fn candidates(&mut self, statement: &Statement) -> Result<Vec<Candidate>> {
        // An HNSW scan gives at most ef_search rows before filters and visibility; the iterative
        // scan goes on until the leg has its rows. An IVFFlat scan the same by lists.
        let settings = [
            (c"hnsw.ef_search", self.depth.min(LARGEST_EF_SEARCH).to_string()),
            (c"hnsw.iterative_scan", "relaxed_order".to_owned()),
            (c"ivfflat.iterative_scan", "relaxed_order".to_owned()),
        ];
        let rows = spi::with_settings(&settings, || {
            spi::query(statement, |row| Some(Candidate { location: location(row)?, key: row.get(3)? }))
        });
        Ok(rows.into_iter().flatten().collect())
    }

    fn rows(&mut self, statement: &Statement) -> Result<Vec<FetchedRow>> {
        let rows = spi::query(statement, |row| {
            Some(FetchedRow {
                location: location(row)?,
                similarity: row.get(3),
                text_score: row.get(4),
                content: row.get(5),
                document: row.get(6)?,
            })
        });
        Ok(rows.into_iter().flatten().collect())
    }
}

fn location(row: &Row) -> Option<Location> {
    Some(Location { table: row.get(1)?, row: row.get(2)? })
}

/// The lexemes of a query under a text search configuration, the session's own when none is
/// given.
pub fn lexemes_of(query: &str, configuration: Option<&str>) -> Vec<String> {
    let mut statement = Statement::default();
    let query = statement.bind(Parameter::Text(query.to_owned()));
    let configuration = match configuration {
        Some(name) => format!("{}::pg_catalog.regconfig", statement.bind(Parameter::Text(name.to_owned()))),
        None => "pg_catalog.get_current_ts_config()".to_owned(),
    };
    statement.push(format_args!(
        "SELECT l.lexeme FROM pg_catalog.unnest(pg_catalog.to_tsvector({configuration}, {query})) AS l"
    ));
    spi::query(&statement, |row| row.get::<String>(1)).into_iter().flatten().collect()
}
