//! The indexes of a table that serve the legs of a search.

use pgrx::{PgRelation, pg_sys};

use crate::kit::spi;
use vector_tools_core::error::Result;
use vector_tools_core::search::bm25::Bm25;
use vector_tools_core::search::bm25_index::Bm25Index;
use vector_tools_core::search::vector_space::{IndexedForm, Metric, VectorIndex};
use vector_tools_core::sql::identifier::{Identifier, QualifiedName};
use vector_tools_core::sql::{Parameter, Statement};

/// Each partition of a table has as many lists as it had rows for; of these, the options with the most.
const MOST_LISTS: &str = "SELECT p.reloptions FROM pg_catalog.pg_inherits AS h \
    JOIN pg_catalog.pg_class AS p ON p.oid OPERATOR(pg_catalog.=) h.inhrelid \
    CROSS JOIN LATERAL pg_catalog.substring(pg_catalog.array_to_string(p.reloptions, ' '), 'lists=([0-9]+)') AS o(lists) \
    WHERE h.inhparent OPERATOR(pg_catalog.=) i.indexrelid AND o.lists IS NOT NULL \
    ORDER BY o.lists::pg_catalog.int4 DESC LIMIT 1";

/// pgvector's indexes over one vector column, or over its half-precision or binary form. Partial
/// indexes are left to the planner.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn vector_indexes(table: &PgRelation) -> Result<Vec<VectorIndex>> {
    let mut statement = Statement::default();
    let table = statement.bind(Parameter::Oid(table.oid().to_u32()));
    statement.push(format_args!(
        "SELECT m.amname::pg_catalog.text, o.opcname::pg_catalog.text, c.attname::pg_catalog.text, \
                i.indkey[0] OPERATOR(pg_catalog.<>) 0, ic.atttypmod::pg_catalog.int8, \
                pg_catalog.pg_get_indexdef(i.indexrelid, 1, false), coalesce(l.reloptions, x.reloptions) \
         FROM pg_catalog.pg_index AS i \
         JOIN pg_catalog.pg_class AS x ON x.oid OPERATOR(pg_catalog.=) i.indexrelid \
         LEFT JOIN LATERAL ({MOST_LISTS}) AS l ON true \
         JOIN pg_catalog.pg_am AS m ON m.oid OPERATOR(pg_catalog.=) x.relam \
         JOIN pg_catalog.pg_opclass AS o ON o.oid OPERATOR(pg_catalog.=) i.indclass[0] \
         JOIN pg_catalog.pg_attribute AS ic \
           ON ic.attrelid OPERATOR(pg_catalog.=) i.indexrelid AND ic.attnum OPERATOR(pg_catalog.=) 1 \
         JOIN LATERAL (SELECT pg_catalog.min(d.refobjsubid) AS attnum FROM pg_catalog.pg_depend AS d \
               WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
               AND d.objid OPERATOR(pg_catalog.=) i.indexrelid \
               AND d.refobjid OPERATOR(pg_catalog.=) i.indrelid AND d.refobjsubid OPERATOR(pg_catalog.>) 0 \
               HAVING pg_catalog.count(DISTINCT d.refobjsubid) OPERATOR(pg_catalog.=) 1) AS used ON true \
         JOIN pg_catalog.pg_attribute AS c \
           ON c.attrelid OPERATOR(pg_catalog.=) i.indrelid AND c.attnum OPERATOR(pg_catalog.=) used.attnum \
         WHERE i.indrelid OPERATOR(pg_catalog.=) {table} AND i.indisvalid AND i.indpred IS NULL \
         AND m.amname OPERATOR(pg_catalog.=) ANY ('{{hnsw,ivfflat}}'::pg_catalog.name[])"
    ));
    let indexes = spi::query(&statement, |row| {
        let (method, class, column): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let (is_plain, modifier, definition): (bool, i64, String) = (row.get(4)?, row.get(5)?, row.get(6)?);
        let dimensions = usize::try_from(modifier).ok();
        let (form, metric) = match class.as_str() {
            _ if is_plain => (IndexedForm::Whole, Metric::of_operator_class(&class)?),
            "bit_hamming_ops" if definition.contains("binary_quantize(") => {
                (IndexedForm::Binary(dimensions?), Metric::Cosine)
            }
            _ if class.starts_with("halfvec_") => {
                (IndexedForm::HalfPrecision(dimensions?), Metric::of_operator_class(&class)?)
            }
            _ => return None,
        };
        let column = Identifier::new(column);
        let options = row.get(7).unwrap_or_default();
        Some(column.map(|column| VectorIndex { column, form, metric, is_hnsw: method == "hnsw", options }))
    });
    indexes.into_iter().flatten().collect()
}

/// The indexes of pg_textsearch over one text column.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn bm25_indexes(table: &PgRelation) -> Result<Vec<Bm25Index>> {
    let mut statement = Statement::default();
    let table = statement.bind(Parameter::Oid(table.oid().to_u32()));
    // Other extensions have an access method of that name, but not the function.
    statement.push(format_args!(
        "SELECT n.nspname::pg_catalog.text, x.relname::pg_catalog.text, c.attname::pg_catalog.text, \
                f.nspname::pg_catalog.text, x.reloptions, x.oid \
         FROM pg_catalog.pg_index AS i \
         JOIN pg_catalog.pg_class AS x ON x.oid OPERATOR(pg_catalog.=) i.indexrelid \
         JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) x.relnamespace \
         JOIN pg_catalog.pg_am AS m ON m.oid OPERATOR(pg_catalog.=) x.relam \
         JOIN pg_catalog.pg_attribute AS c \
           ON c.attrelid OPERATOR(pg_catalog.=) i.indrelid AND c.attnum OPERATOR(pg_catalog.=) i.indkey[0] \
         JOIN pg_catalog.pg_proc AS p ON p.proname OPERATOR(pg_catalog.=) 'to_bm25query' \
           AND p.proargtypes[0] OPERATOR(pg_catalog.=) 'pg_catalog.text'::pg_catalog.regtype \
           AND p.proargtypes[1] OPERATOR(pg_catalog.=) 'pg_catalog.text'::pg_catalog.regtype \
         JOIN pg_catalog.pg_namespace AS f ON f.oid OPERATOR(pg_catalog.=) p.pronamespace \
         WHERE i.indrelid OPERATOR(pg_catalog.=) {table} AND i.indisvalid AND i.indpred IS NULL \
         AND m.amname OPERATOR(pg_catalog.=) 'bm25'"
    ));
    let indexes = spi::query(&statement, |row| {
        let names = [1, 2, 3, 4].map(|column| row.get::<String>(column).map(Identifier::new));
        let [schema, name, column, functions] = names;
        let options: Vec<String> = row.get(5).unwrap_or_default();
        let option = |name: &str, default: f64| {
            let value = options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
            value.and_then(|value| value.parse().ok()).unwrap_or(default)
        };
        let default = Bm25::default();
        let bm25 = Bm25 { k1: option("k1", default.k1), b: option("b", default.b) };
        let (schema, name, column, functions) = (schema?, name?, column?, functions?);
        let number: pg_sys::Oid = row.get(6)?;
        let index = || -> Result<Bm25Index> {
            Ok(Bm25Index {
                number: number.to_u32(),
                name: QualifiedName { schema: schema?, name: name? },
                column: column?,
                bm25,
                schema: functions?,
            })
        };
        Some(index())
    });
    indexes.into_iter().flatten().collect()
}
