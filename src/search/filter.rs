//! Filters in the jsonb syntax of vector databases, as SQL conditions that both legs share.
//!
//! `{"tenant_id": 7, "lang": {"$in": ["en", "de"]}, "$or": [{"year": {"$gte": 2020}}, …]}`: a key
//! is a column, or else a path (parts joined by dots) in the jsonb metadata column; columns become
//! quoted identifiers and values parameters.

use serde_json::{Map, Value};

use super::source::{Column, ColumnKind};
use super::{Parameter, SearchSource, Statement};
use crate::error::{Error, Result};
use crate::identifier::Identifier;

/// A parsed filter; the empty one lets every row pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq)]
enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Test(Target, Test),
}

#[derive(Debug, Clone, PartialEq)]
enum Target {
    Column(Column),
    Path(Identifier, Vec<String>),
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Equal(Value),
    Compare(&'static str, Value),
    In(Vec<Value>),
    Like(String),
    Exists,
    Null,
}

impl Filter {
    /// Reads a filter for the rows of `source`.
    ///
    /// # Errors
    /// [`Error::InvalidFilter`] (22023), which names the part that is wrong.
    pub fn parse(json: &str, source: &SearchSource) -> Result<Filter> {
        let value: Value = serde_json::from_str(json).map_err(|error| invalid("the filter", error))?;
        let conditions = parse_object(&value, "the filter", source)?;
        Ok(Filter { conditions })
    }

    /// Whether every row passes.
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Appends ` AND …` for each condition to a statement whose row is called `t`.
    pub fn push_conditions(&self, statement: &mut Statement) {
        for condition in &self.conditions {
            let text = condition.to_sql(statement);
            statement.push(" AND ").push(text);
        }
    }
}

fn invalid(part: &str, reason: impl ToString) -> Error {
    Error::InvalidFilter { part: part.to_owned(), reason: reason.to_string() }
}

fn parse_object(value: &Value, part: &str, source: &SearchSource) -> Result<Vec<Condition>> {
    let object = value.as_object().ok_or_else(|| invalid(part, "an object is expected"))?;
    object.iter().map(|(key, value)| parse_entry(key, value, source)).collect()
}

fn parse_entry(key: &str, value: &Value, source: &SearchSource) -> Result<Condition> {
    let several = || -> Result<Vec<Condition>> {
        let filters = value.as_array().ok_or_else(|| invalid(key, "an array of filters is expected"))?;
        filters.iter().map(|filter| Ok(Condition::All(parse_object(filter, key, source)?))).collect()
    };
    match key {
        "$and" => Ok(Condition::All(several()?)),
        "$or" => Ok(Condition::Any(several()?)),
        "$not" => Ok(Condition::Not(Box::new(Condition::All(parse_object(value, key, source)?)))),
        _ if key.starts_with('$') => Err(invalid(key, "the operator is not known")),
        _ => {
            let target = find_target(key, source)?;
            match value.as_object().filter(|object| has_operators(object)) {
                None => Ok(equality(target, value)),
                Some(operators) => operators
                    .iter()
                    .map(|(operator, operand)| parse_test(key, &target, operator, operand))
                    .collect::<Result<Vec<Condition>>>()
                    .map(Condition::All),
            }
        }
    }
}

fn has_operators(object: &Map<String, Value>) -> bool {
    object.keys().any(|key| key.starts_with('$'))
}

/// A column of that name, a path in a jsonb column of that name, or a path in the metadata column.
fn find_target(key: &str, source: &SearchSource) -> Result<Target> {
    if let Some(column) = source.facts.find(key) {
        return Ok(Target::Column(column.clone()));
    }
    let parts: Vec<String> = key.split('.').map(str::to_owned).collect();
    let head = source.facts.find(&parts[0]).filter(|column| column.kind == ColumnKind::Json);
    match (head, &source.metadata) {
        (Some(column), _) => Ok(Target::Path(column.name.clone(), parts[1..].to_vec())),
        (None, Some(metadata)) => Ok(Target::Path(metadata.clone(), parts)),
        (None, None) => {
            Err(Error::UnknownColumn { table: source.facts.display.clone(), column: key.to_owned() })
        }
    }
}

fn equality(target: Target, value: &Value) -> Condition {
    let test = if value.is_null() { Test::Null } else { Test::Equal(value.clone()) };
    Condition::Test(target, test)
}

fn parse_test(key: &str, target: &Target, operator: &str, operand: &Value) -> Result<Condition> {
    let part = format!("{key}.{operator}");
    let is = |test| Condition::Test(target.clone(), test);
    let not = |condition| Condition::Not(Box::new(condition));
    let scalar = || match operand {
        Value::Object(_) | Value::Array(_) | Value::Null => {
            Err(invalid(&part, "a number, text or truth value is expected"))
        }
        scalar => Ok(scalar.clone()),
    };
    let list = || operand.as_array().cloned().ok_or_else(|| invalid(&part, "an array is expected"));
    Ok(match operator {
        "$eq" => equality(target.clone(), operand),
        "$ne" => not(equality(target.clone(), operand)),
        "$gt" => is(Test::Compare(">", scalar()?)),
        "$gte" => is(Test::Compare(">=", scalar()?)),
        "$lt" => is(Test::Compare("<", scalar()?)),
        "$lte" => is(Test::Compare("<=", scalar()?)),
        "$in" => is(Test::In(list()?)),
        "$nin" => not(is(Test::In(list()?))),
        "$like" => {
            let pattern = operand.as_str().ok_or_else(|| invalid(&part, "a pattern is expected"))?;
            is(Test::Like(pattern.to_owned()))
        }
        "$exists" => match operand.as_bool() {
            Some(true) => is(Test::Exists),
            Some(false) => not(is(Test::Exists)),
            None => return Err(invalid(&part, "true or false is expected")),
        },
        "$not" => {
            let operators = operand.as_object().ok_or_else(|| invalid(&part, "an object is expected"))?;
            let inner: Result<Vec<Condition>> = operators
                .iter()
                .map(|(operator, operand)| parse_test(key, target, operator, operand))
                .collect();
            not(Condition::All(inner?))
        }
        _ => return Err(invalid(&part, "the operator is not known")),
    })
}

impl Condition {
    fn to_sql(&self, statement: &mut Statement) -> String {
        match self {
            Condition::All(conditions) => joined(conditions, " AND ", "true", statement),
            Condition::Any(conditions) => joined(conditions, " OR ", "false", statement),
            // A row without the value passes the negation, as in the peers of this language.
            Condition::Not(condition) => format!("(({}) IS NOT TRUE)", condition.to_sql(statement)),
            Condition::Test(Target::Column(column), test) => column_test(column, test, statement),
            Condition::Test(Target::Path(column, path), test) => path_test(column, path, test, statement),
        }
    }
}

fn joined(conditions: &[Condition], operator: &str, empty: &str, statement: &mut Statement) -> String {
    if conditions.is_empty() {
        return empty.to_owned();
    }
    let parts: Vec<String> = conditions.iter().map(|condition| condition.to_sql(statement)).collect();
    format!("({})", parts.join(operator))
}

fn column_test(column: &Column, test: &Test, statement: &mut Statement) -> String {
    let (name, type_name) = (&column.name, &column.type_name);
    let text_of = |value: &Value| match value {
        Value::String(text) if column.kind != ColumnKind::Json => text.clone(),
        other => other.to_string(),
    };
    match test {
        Test::Equal(value) if column.kind == ColumnKind::Json && value.is_object() => {
            let value = statement.bind(Parameter::Text(value.to_string()));
            format!("t.{name} OPERATOR(pg_catalog.@>) {value}::pg_catalog.jsonb")
        }
        Test::Equal(value) => {
            let value = statement.bind(Parameter::Text(text_of(value)));
            format!("t.{name} OPERATOR(pg_catalog.=) {value}::{type_name}")
        }
        Test::Compare(operator, value) => {
            let value = statement.bind(Parameter::Text(text_of(value)));
            format!("t.{name} OPERATOR(pg_catalog.{operator}) {value}::{type_name}")
        }
        Test::In(values) => {
            let values = statement.bind(Parameter::Texts(values.iter().map(text_of).collect()));
            format!("t.{name} OPERATOR(pg_catalog.=) ANY ({values}::{type_name}[])")
        }
        Test::Like(pattern) => {
            let pattern = statement.bind(Parameter::Text(pattern.clone()));
            format!("t.{name}::pg_catalog.text OPERATOR(pg_catalog.~~) {pattern}")
        }
        Test::Exists => format!("t.{name} IS NOT NULL"),
        Test::Null => format!("t.{name} IS NULL"),
    }
}

fn path_test(column: &Identifier, path: &[String], test: &Test, statement: &mut Statement) -> String {
    let at_path = |operator: &str, statement: &mut Statement| {
        let path = statement.bind(Parameter::Texts(path.to_vec()));
        format!("(t.{column} OPERATOR(pg_catalog.{operator}) {path})")
    };
    match test {
        // Containment, because a GIN index serves it; for a scalar it is the same as equality.
        Test::Equal(value) if !value.is_array() => {
            let nested = path
                .iter()
                .rev()
                .fold(value.clone(), |inner, key| Value::Object(Map::from_iter([(key.clone(), inner)])));
            let nested = statement.bind(Parameter::Text(nested.to_string()));
            format!("t.{column} OPERATOR(pg_catalog.@>) {nested}::pg_catalog.jsonb")
        }
        Test::Equal(value) => {
            let found = at_path("#>", statement);
            let value = statement.bind(Parameter::Text(value.to_string()));
            format!("{found} OPERATOR(pg_catalog.=) {value}::pg_catalog.jsonb")
        }
        Test::Compare(operator, value) => {
            let found = at_path("#>", statement);
            let value = statement.bind(Parameter::Text(value.to_string()));
            // jsonb orders values of different types too, which nobody means by "greater".
            format!(
                "(pg_catalog.jsonb_typeof({found}) OPERATOR(pg_catalog.=) pg_catalog.jsonb_typeof({value}::pg_catalog.jsonb) \
                 AND {found} OPERATOR(pg_catalog.{operator}) {value}::pg_catalog.jsonb)"
            )
        }
        Test::In(values) => {
            let found = at_path("#>", statement);
            let values = values.iter().map(Value::to_string).collect();
            let values = statement.bind(Parameter::Texts(values));
            format!("{found} OPERATOR(pg_catalog.=) ANY ({values}::pg_catalog.jsonb[])")
        }
        Test::Like(pattern) => {
            let found = at_path("#>>", statement);
            let pattern = statement.bind(Parameter::Text(pattern.clone()));
            format!("{found} OPERATOR(pg_catalog.~~) {pattern}")
        }
        Test::Exists => format!("{} IS NOT NULL", at_path("#>", statement)),
        Test::Null => format!(
            "coalesce({}, 'null'::pg_catalog.jsonb) OPERATOR(pg_catalog.=) 'null'::pg_catalog.jsonb",
            at_path("#>", statement)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::tests::facts_with;
    use super::super::source::{ColumnChoice, ColumnKind, Legs};
    use super::*;

    fn source() -> SearchSource {
        use ColumnKind::{Json, Lexemes, Other, Vector};
        let columns = [("id", Other), ("year", Other), ("v", Vector), ("l", Lexemes), ("metadata", Json)];
        SearchSource::resolve(facts_with(&columns), &ColumnChoice::default(), Legs::BOTH).expect("searchable")
    }

    fn sql(json: &str) -> (String, Vec<Parameter>) {
        let mut statement = Statement::default();
        let filter = Filter::parse(json, &source()).expect("valid");
        filter.push_conditions(&mut statement);
        (statement.text, statement.parameters)
    }

    #[test]
    fn a_column_is_quoted_and_its_value_bound() {
        let (text, parameters) = sql(r#"{"year": 2020}"#);
        assert_eq!(text, r#" AND t."year" OPERATOR(pg_catalog.=) $1::integer"#);
        assert_eq!(parameters, [Parameter::Text("2020".into())]);
    }

    #[test]
    fn what_is_no_column_is_looked_up_in_the_metadata() {
        let (text, parameters) = sql(r#"{"a.b": "x'; DROP TABLE docs;--"}"#);
        assert_eq!(text, r#" AND t."metadata" OPERATOR(pg_catalog.@>) $1::pg_catalog.jsonb"#);
        let nested = r#"{"a":{"b":"x'; DROP TABLE docs;--"}}"#;
        assert_eq!(parameters, [Parameter::Text(nested.into())]);
    }

    #[test]
    fn operators_nest() {
        let (text, _) = sql(r#"{"$or": [{"year": {"$gte": 1, "$lt": 9}}, {"$not": {"year": null}}]}"#);
        assert!(text.contains(" OR "), "{text}");
        assert!(text.contains("OPERATOR(pg_catalog.>=) $1::integer AND"), "{text}");
        assert!(text.contains("IS NULL)) IS NOT TRUE"), "{text}");
    }

    #[test]
    fn wrong_filters_name_their_part() {
        for (json, part) in [
            ("[]", "the filter"),
            (r#"{"year": {"$near": 1}}"#, "year.$near"),
            (r#"{"$xor": []}"#, "$xor"),
            (r#"{"year": {"$in": 3}}"#, "year.$in"),
            (r#"{"$or": {}}"#, "$or"),
        ] {
            let error = Filter::parse(json, &source()).expect_err(json);
            assert!(error.to_string().ends_with(part), "{error}");
        }
    }

    #[test]
    fn without_metadata_an_unknown_key_is_an_error() {
        use ColumnKind::{Lexemes, Vector};
        let facts = facts_with(&[("v", Vector), ("l", Lexemes)]);
        let source = SearchSource::resolve(facts, &ColumnChoice::default(), Legs::BOTH).expect("searchable");
        let error = Filter::parse(r#"{"nope": 1}"#, &source).expect_err("unknown");
        assert_eq!(error.facts().sqlstate, "42703");
    }
}
