//! The server itself as the database of a search.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::kit::spi;
use crate::kit::spi::Row;
use crate::kit::waiting::checkpoint;
use crate::kit::{catalog, rights};
use crate::types::text_vector;
use crate::types::vector::Vector;
use vector_tools_core::error::Result;
use vector_tools_core::search::candidate::{Candidate, Location};
use vector_tools_core::search::diversity::Embeddings;
use vector_tools_core::search::hybrid::{Database, Estimate, FetchedRow, IndexScan, MeasuredRow};
use vector_tools_core::search::lexemes;
use vector_tools_core::search::query_text::QueryText;
use vector_tools_core::sql::Statement;

/// pgvector accepts no more for hnsw.ef_search.
const LARGEST_EF_SEARCH: usize = 1000;

/// Memory for the bitmap of a leg, enough for some ten million rows.
const WORK_MEM_KILOBYTES: i32 = 64 * 1024;

/// Rows that an index scan may look at for each row that it is expected to need.
const SCANNED_ROWS: f64 = 4.0;

/// pgvector's default for hnsw.max_scan_tuples, below which this does not go, and a bound on what
/// is worth it.
const MAX_SCAN_TUPLES: (f64, f64) = (20_000.0, 1_000_000.0);

/// What the session, its role or its database asks for; zero before pgvector is loaded.
fn session_number(setting: &CStr) -> usize {
    // SAFETY: the name is a C string; the value is read before anything can change it.
    let value = unsafe {
        let value = pg_sys::GetConfigOption(setting.as_ptr(), true, false);
        if value.is_null() { None } else { CStr::from_ptr(value).to_str().ok() }
    };
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// Runs the statements of one search in this session.
#[derive(Debug, Default)]
pub struct SessionDatabase {
    /// Whether parallel workers must not take part, since they count scored rows for themselves.
    pub is_counting: bool,
    /// The least width of an HNSW scan.
    pub ef_search: usize,
    /// The least number of lists that an IVFFlat scan begins with.
    pub probes: usize,
    /// With whose rights the legs run; `None` for the caller's. What is shown of a row is read by the caller in any
    /// case, since it calls whatever functions the types of its columns have.
    pub owner: Option<pg_sys::Oid>,
}

impl SessionDatabase {
    fn with_rights<T>(&self, work: impl FnOnce() -> T) -> T {
        match self.owner {
            Some(owner) => rights::acting_as(owner, work),
            None => work(),
        }
    }

    fn settings(&self, scan: IndexScan) -> Vec<(&'static CStr, String)> {
        // Compiling a statement that runs for milliseconds takes longer than it.
        let mut settings = vec![(c"jit", "off".to_owned())];
        // A bitmap of rows that does not fit becomes one of pages, all of whose rows are read.
        if spi::work_mem_kilobytes() < WORK_MEM_KILOBYTES {
            settings.push((c"work_mem", WORK_MEM_KILOBYTES.to_string()));
        }
        if self.is_counting {
            settings.push((c"max_parallel_workers_per_gather", "0".to_owned()));
        }
        if let IndexScan::Nearest { wanted, selectivity } = scan {
            // An HNSW scan gives at most ef_search rows before filters and visibility; the
            // iterative scan goes on until the leg has its rows. An IVFFlat scan the same by lists.
            let (least, most) = MAX_SCAN_TUPLES;
            let tuples = (SCANNED_ROWS * wanted as f64 / selectivity).clamp(least, most);
            let width =
                wanted.max(session_number(c"hnsw.ef_search")).max(self.ef_search).min(LARGEST_EF_SEARCH);
            settings.extend([
                (c"hnsw.ef_search", width.to_string()),
                (c"hnsw.iterative_scan", "relaxed_order".to_owned()),
                (c"hnsw.max_scan_tuples", format!("{tuples:.0}")),
                (c"hnsw.scan_mem_multiplier", "2".to_owned()),
                (c"ivfflat.iterative_scan", "relaxed_order".to_owned()),
                // The search has weighed this scan against reading all rows, and knows, as the
                // planner does not, that vectors lie outside of their rows.
                (c"enable_seqscan", "off".to_owned()),
            ]);
            if self.probes > 0 {
                let probes = self.probes.max(session_number(c"ivfflat.probes"));
                settings.push((c"ivfflat.probes", probes.to_string()));
            }
        }
        settings
    }
}

impl Database for SessionDatabase {
    fn candidates(&mut self, statement: &Statement, scan: IndexScan) -> Result<Vec<Candidate>> {
        let read =
            |row: &Row| Some(Candidate { location: location(row)?, key: row.get(3)?, score: row.get(4)? });
        let rows =
            spi::with_settings(&self.settings(scan), || self.with_rights(|| spi::query(statement, read)));
        Ok(rows.into_iter().flatten().collect())
    }

    fn measures(&mut self, statement: &Statement) -> Result<Vec<MeasuredRow>> {
        Ok(self.with_rights(|| spi::query(statement, measured)).into_iter().flatten().collect())
    }

    fn embeddings(&mut self, statement: &Statement) -> Result<Embeddings> {
        let mut embeddings = Embeddings::default();
        self.with_rights(|| {
            spi::query(statement, |row| {
                if let (Some(place), Some(vector)) = (location(row), row.get::<Vector>(3)) {
                    embeddings.add(place, &vector.0);
                }
            })
        });
        Ok(embeddings)
    }

    fn rows(&mut self, statement: &Statement) -> Result<Vec<FetchedRow>> {
        let rows = spi::query(statement, |row| {
            Some(FetchedRow {
                measured: measured(row)?,
                content: row.get(5),
                document: row.get(6)?,
                highlight: row.get(7),
            })
        });
        Ok(rows.into_iter().flatten().collect())
    }

    fn estimate(&mut self, statement: &Statement) -> Result<Estimate> {
        let (rows, cost, partitions) = self.with_rights(|| spi::estimate(statement));
        Ok(Estimate { rows, cost, partition_rows: catalog::rows_of_partitions(&partitions) })
    }

    fn take_scored(&mut self) -> u64 {
        text_vector::take_scored()
    }

    fn checkpoint(&mut self) -> Result<()> {
        checkpoint()
    }
}

fn measured(row: &Row) -> Option<MeasuredRow> {
    Some(MeasuredRow { location: location(row)?, distance: row.get(3), text_score: row.get(4) })
}

fn location(row: &Row) -> Option<Location> {
    let table: pg_sys::Oid = row.get(1)?;
    let place: pg_sys::ItemPointerData = row.get(2)?;
    let (block, offset) = pgrx::itemptr::item_pointer_get_both(place);
    Some(Location { table: table.to_u32(), block, offset })
}

/// The words of a query under a text search configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueryLexemes {
    /// Its lexemes, each with how often it occurs.
    pub lexemes: Vec<(String, i64)>,
    /// Its conditions, as one `tsquery` in text form; `None` without any.
    pub condition: Option<String>,
}

/// Reads the words of a query under a text search configuration, the session's own when none is
/// given.
///
/// # Errors
/// Those of [`lexemes::check_configuration`] and [`lexemes::join_conditions`].
pub fn query_lexemes(query: &QueryText, configuration: Option<&str>) -> Result<QueryLexemes> {
    lexemes::check_configuration(configuration)?;
    let read = |row: &Row| Some((row.get(1)?, row.get(2)?));
    let found =
        spi::query(&lexemes::read_lexemes(query, configuration), read).into_iter().flatten().collect();
    if query.required.is_empty() && query.excluded.is_empty() {
        return Ok(QueryLexemes { lexemes: found, condition: None });
    }
    let phrases =
        spi::query(&lexemes::read_phrases(query, configuration), |row| row.get(1).unwrap_or_default());
    Ok(QueryLexemes { lexemes: found, condition: lexemes::join_conditions(query, phrases)? })
}
