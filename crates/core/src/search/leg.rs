//! What the statements of both legs have in common.

use crate::search::SearchSource;
use crate::sql::Statement;

/// The names and order of the columns by which a leg says which row it found.
pub struct RowColumns {
    keys: Vec<String>,
}

impl RowColumns {
    /// Those of a table.
    pub fn of(source: &SearchSource) -> RowColumns {
        RowColumns { keys: source.key_columns() }
    }

    /// The columns of the inner statement, whose row is `t`.
    pub fn selected(&self) -> String {
        let keys = self.keys.iter().enumerate().map(|(index, key)| format!(", {key} AS key_{index}"));
        format!("t.tableoid AS place, t.ctid AS row{}", keys.collect::<String>())
    }

    /// The order of rows that are otherwise equal, in the inner statement.
    pub fn order(&self) -> String {
        self.keys.join(", ")
    }

    /// The same in the outer statement, whose row is `leg`.
    pub fn outer_order(&self) -> String {
        (0..self.keys.len()).map(|index| format!("leg.key_{index}")).collect::<Vec<_>>().join(", ")
    }

    /// The key as one text, in the outer statement: a JSON array where it has several columns.
    pub fn outer_key(&self, source: &SearchSource) -> String {
        match source.shown_key_columns() {
            0 => "pg_catalog.concat(leg.place, leg.row)".to_owned(),
            1 => "leg.key_0::pg_catalog.text".to_owned(),
            count => {
                let columns: Vec<String> = (0..count).map(|index| format!("leg.key_{index}")).collect();
                format!("pg_catalog.jsonb_build_array({})::pg_catalog.text", columns.join(", "))
            }
        }
    }
}

/// A condition on the words of a row, as a `tsquery` in text form, beside the filter.
pub fn push_word_condition(statement: &mut Statement, source: &SearchSource, condition: Option<&str>) {
    if let (Some(condition), Some(lexemes)) = (condition, &source.lexemes) {
        let condition = statement.bind(crate::sql::Parameter::Text(condition.to_owned()));
        let name = &lexemes.name;
        statement.push(format_args!(" AND t.{name} OPERATOR(pg_catalog.@@) {condition}::pg_catalog.tsquery"));
    }
}
