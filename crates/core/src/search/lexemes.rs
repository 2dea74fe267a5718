//! Statements that turn the text of a query into lexemes, and its conditions into a `tsquery`.

use crate::error::{Error, Result};
use crate::search::query_text::QueryText;
use crate::search::threshold::Formula;
use crate::sql::{Parameter, Statement};

/// Of a longer query, the words of greatest weight score.
pub const MOST_WORDS: usize = 256;

/// The most bytes of a `tsquery`; PostgreSQL refuses a longer one with all of its text in the message.
pub const MOST_TSQUERY_BYTES: usize = (1 << 20) - 1;

/// The most bytes of the name of a text search configuration: schema and name, quoted and with all
/// quotes in them doubled.
const MOST_NAME_BYTES: usize = 2 * (2 * 63 + 2) + 1;

/// Checks that a text can be the name of a text search configuration.
///
/// # Errors
/// [`Error::UnknownConfiguration`] (42704) for one that is longer than any name.
pub fn check_configuration(name: Option<&str>) -> Result<()> {
    match name.filter(|name| name.len() > MOST_NAME_BYTES) {
        Some(name) => Err(Error::UnknownConfiguration { name: name.to_owned() }),
        None => Ok(()),
    }
}

/// The statement that reads the lexemes of what a query asks for, with columns (lexeme,
/// occurrences), under a text search configuration, the session's own when none is given.
pub fn read_lexemes(query: &QueryText, configuration: Option<&str>) -> Statement {
    let mut statement = Statement::default();
    let configuration = configuration_expression(&mut statement, configuration);
    let wanted = statement.bind(Parameter::Text(query.wanted.clone()));
    statement.push(format_args!(
        "SELECT l.lexeme, coalesce(pg_catalog.cardinality(l.positions), 1)::pg_catalog.int8 \
         FROM pg_catalog.unnest(pg_catalog.to_tsvector({configuration}, {wanted})) AS l"
    ));
    statement
}

/// The statement that turns each phrase of a query's conditions, the required ones first, into a
/// `tsquery`, as text; empty for stop words.
pub fn read_phrases(query: &QueryText, configuration: Option<&str>) -> Statement {
    let mut statement = Statement::default();
    let configuration = configuration_expression(&mut statement, configuration);
    let phrases = query.required.iter().flatten().chain(&query.excluded).cloned().collect();
    let phrases = statement.bind(Parameter::Texts(phrases));
    statement.push(format_args!(
        "SELECT pg_catalog.phraseto_tsquery({configuration}, p.phrase)::pg_catalog.text \
         FROM pg_catalog.unnest({phrases}) WITH ORDINALITY AS p(phrase, place) ORDER BY p.place"
    ));
    statement
}

/// The conditions of a query as one `tsquery` in text form, made of what [`read_phrases`] gives.
/// Stop words fall away, and conditions without any other word with them.
///
/// # Errors
/// [`Error::QueryTooLarge`] (54000) beyond [`MOST_TSQUERY_BYTES`], since a dictionary may make many
/// words of one.
pub fn join_conditions(query: &QueryText, phrases: Vec<String>) -> Result<Option<String>> {
    let mut phrases = phrases.into_iter();
    let mut conditions: Vec<String> = Vec::new();
    for alternatives in &query.required {
        let alternatives: Vec<String> =
            phrases.by_ref().take(alternatives.len()).filter(|phrase| !phrase.is_empty()).collect();
        if !alternatives.is_empty() {
            conditions.push(format!("({})", alternatives.join(" | ")));
        }
    }
    conditions.extend(phrases.filter(|phrase| !phrase.is_empty()).map(|phrase| format!("!({phrase})")));
    let joined = conditions.join(" & ");
    if joined.len() > MOST_TSQUERY_BYTES {
        let unit = "bytes in the lexemes of its conditions";
        return Err(Error::QueryTooLarge { found: joined.len(), most: MOST_TSQUERY_BYTES, unit });
    }
    Ok((!conditions.is_empty()).then_some(joined))
}

/// The `tsquery` of the rows that have any of the words, in text form.
pub fn any_word_query<'a>(lexemes: impl Iterator<Item = &'a str>) -> Option<String> {
    let lexemes: Vec<&str> = lexemes.collect();
    if lexemes.is_empty() { None } else { Formula::any_of(lexemes.len()).to_tsquery(&lexemes) }
}

/// SQL for a text search configuration.
pub fn configuration_expression(statement: &mut Statement, configuration: Option<&str>) -> String {
    match configuration {
        Some(name) => {
            let name = statement.bind(Parameter::Text(name.to_owned()));
            format!("{name}::pg_catalog.text::pg_catalog.regconfig")
        }
        None => "pg_catalog.get_current_ts_config()".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_joined() {
        let query = QueryText::parse(r#"x "a b" c OR d -e the OR of"#).expect("small");
        let phrases = ["'a' <-> 'b'", "'c'", "'d'", "", "", "'e'"].map(str::to_owned).to_vec();
        assert_eq!(query.required.len(), 3);
        let joined = join_conditions(&query, phrases);
        assert_eq!(joined, Ok(Some("('a' <-> 'b') & ('c' | 'd') & !('e')".to_owned())));
    }

    #[test]
    fn no_conditions_are_none() {
        let parsed = |query| QueryText::parse(query).expect("small");
        assert_eq!(join_conditions(&parsed("a b"), vec![]), Ok(None));
        assert_eq!(join_conditions(&parsed("\"the\""), vec![String::new()]), Ok(None));
        assert_eq!(any_word_query(["a", "b"].into_iter()).as_deref(), Some("('a' | 'b')"));
        assert_eq!(any_word_query(std::iter::empty()), None);
    }

    #[test]
    fn what_a_dictionary_makes_of_a_phrase_is_bounded() {
        let query = QueryText::parse("\"a\"").expect("small");
        let phrase = |bytes: usize| vec![format!("'{}'", "x".repeat(bytes - 4))];
        assert!(join_conditions(&query, phrase(MOST_TSQUERY_BYTES)).is_ok());
        for more in [1, 1_000_000] {
            let error = join_conditions(&query, phrase(MOST_TSQUERY_BYTES + more)).expect_err("too large");
            assert_eq!(error.facts().sqlstate, "54000");
        }
    }

    #[test]
    fn a_name_is_no_longer_than_a_name_can_be() {
        let state = |bytes: usize| {
            check_configuration(Some(&"x".repeat(bytes))).map_err(|error| error.facts().sqlstate)
        };
        assert_eq!(state(MOST_NAME_BYTES), Ok(()));
        for more in [1, 1_000_000] {
            assert_eq!(state(MOST_NAME_BYTES + more), Err("42704"));
        }
        assert_eq!(check_configuration(None), Ok(()));
    }
}
