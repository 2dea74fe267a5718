//! Filters in the jsonb syntax of vector databases, as SQL conditions that both legs share.
//!
//! `{"tenant_id": 7, "lang": {"$in": ["en", "de"]}, "$or": [{"year": {"$gte": 2020}}, …]}`: a key
//! is a column, or else a path (parts joined by dots) in the jsonb metadata column; columns become
//! quoted identifiers and values parameters.

use std::cell::Cell;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::search::SearchSource;
use crate::search::json_depth::json_depth;
use crate::search::source::{Column, ColumnKind};
use crate::sql::identifier::Identifier;
use crate::sql::{Parameter, Statement};

/// The most objects and arrays inside of each other in a filter, its values included.
pub const MOST_DEPTH: usize = 64;

/// The most parts of a path.
pub const MOST_PATH_PARTS: usize = 64;

/// The most conditions of a filter. A list of values is one, however long.
pub const MOST_CONDITIONS: usize = 1000;

/// The most values in all lists of a filter. Each is read by the type of its column, and looked at for every row.
pub const MOST_VALUES: usize = 100_000;

/// The most bytes of a filter, as PostgreSQL keeps it.
pub const MOST_BYTES: usize = 8 << 20;

/// From so many values of a path on they are bound as one: of those that are bound one by one the planner makes a value
/// each, which takes kilobytes, and nothing interrupts it.
const VALUES_BOUND_AS_ONE: usize = 100;

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

/// What the database says of the types of columns, so that a value that does not fit is an error of
/// the filter, with the name of its part, before any statement runs.
pub trait ColumnTypes {
    /// Checks that a text is a value of the column's type.
    ///
    /// # Errors
    /// The SQLSTATE and message of the type.
    fn check_value(&self, column: &Column, text: &str) -> Result<(), (&'static str, String)>;

    /// Whether values of the column's type can be compared for equality, and ordered.
    fn comparisons(&self, column: &Column) -> Comparisons;
}

/// The comparisons that a type has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparisons {
    /// `=`
    pub equality: bool,
    /// `<` and its like
    pub order: bool,
}

impl Filter {
    /// Reads a filter for the rows of `source`.
    ///
    /// # Errors
    /// [`Error::InvalidFilter`] (22023) for its shape, and beyond [`MOST_DEPTH`], [`MOST_PATH_PARTS`],
    /// [`MOST_CONDITIONS`] or [`MOST_VALUES`], [`Error::InvalidFilterValue`] (22P02, 22003,
    /// 22007, 22008) for a value that is none of its column's type,
    /// [`Error::InvalidFilterOperator`] (42883) for a comparison that the type does not have, and
    /// [`Error::UnknownColumn`] (42703). Each names the part of the filter.
    pub fn parse(json: &str, source: &SearchSource, types: &dyn ColumnTypes) -> Result<Filter> {
        let depth = json_depth(json);
        if depth > MOST_DEPTH {
            let reason = format!("it nests {depth} objects and arrays, and at most {MOST_DEPTH} are allowed");
            return Err(invalid("the filter", reason));
        }
        let value: Value = serde_json::from_str(json).map_err(|error| invalid("the filter", error))?;
        let reader = Reader { source, types, conditions: Cell::new(0), values: Cell::new(0) };
        let conditions = reader.read_object(&value, "the filter")?;
        Ok(Filter { conditions })
    }

    /// What both filters let pass.
    pub fn and(mut self, other: Filter) -> Filter {
        self.conditions.extend(other.conditions);
        self
    }

    /// The conditions that rest on some columns alone: what passes the filter passes them.
    pub fn on_columns(&self, columns: &[Identifier]) -> Filter {
        let mut kept = Vec::new();
        let mut open: Vec<&Condition> = self.conditions.iter().collect();
        while let Some(condition) = open.pop() {
            match condition {
                Condition::All(parts) => open.extend(parts),
                Condition::Test(Target::Column(column), _) if columns.contains(&column.name) => {
                    kept.push(condition.clone());
                }
                _ => {}
            }
        }
        Filter { conditions: kept }
    }

    /// Whether every row passes.
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// The columns that it looks at.
    pub fn columns(&self) -> Vec<&Identifier> {
        let mut columns = Vec::new();
        let mut open: Vec<&Condition> = self.conditions.iter().collect();
        while let Some(condition) = open.pop() {
            match condition {
                Condition::All(parts) | Condition::Any(parts) => open.extend(parts),
                Condition::Not(part) => open.push(part),
                Condition::Test(Target::Column(column), _) => columns.push(&column.name),
                Condition::Test(Target::Path(column, _), _) => columns.push(column),
            }
        }
        columns
    }

    /// Appends ` AND …` for each condition to a statement whose row is called `t`.
    pub fn push_conditions(&self, statement: &mut Statement) {
        self.push_conditions_on("t", statement);
    }

    /// The same for a row of that name.
    pub fn push_conditions_on(&self, row: &str, statement: &mut Statement) {
        for condition in &self.conditions {
            let text = condition.to_sql(row, statement);
            statement.push(" AND ").push(text);
        }
    }
}

/// Checks that a filter is not too large to be read.
///
/// # Errors
/// [`Error::InvalidFilter`] (22023).
pub fn check_bytes(bytes: usize) -> Result<()> {
    if bytes <= MOST_BYTES {
        return Ok(());
    }
    Err(invalid("the filter", format!("it has {bytes} bytes, and at most {MOST_BYTES} are allowed")))
}

fn invalid(part: &str, reason: impl ToString) -> Error {
    Error::InvalidFilter { part: part.to_owned(), reason: reason.to_string() }
}

struct Reader<'a> {
    source: &'a SearchSource,
    types: &'a dyn ColumnTypes,
    /// How many were read so far.
    conditions: Cell<usize>,
    /// How many values of lists were.
    values: Cell<usize>,
}

impl Reader<'_> {
    fn read_object(&self, value: &Value, part: &str) -> Result<Vec<Condition>> {
        let object = value.as_object().ok_or_else(|| invalid(part, "an object is expected"))?;
        if object.is_empty() {
            self.count_condition()?;
        }
        object.iter().map(|(key, value)| self.read_entry(key, value)).collect()
    }

    /// Counts what becomes a condition by itself: a test, and a list or an object with nothing in it.
    fn count_condition(&self) -> Result<()> {
        self.conditions.set(self.conditions.get() + 1);
        if self.conditions.get() <= MOST_CONDITIONS {
            return Ok(());
        }
        let reason = format!(
            "it has more than {MOST_CONDITIONS} conditions; one with $in takes up to {MOST_VALUES} values"
        );
        Err(invalid("the filter", reason))
    }

    /// Counts the values of a list.
    fn count_values(&self, count: usize) -> Result<()> {
        self.values.set(self.values.get() + count);
        if self.values.get() <= MOST_VALUES {
            return Ok(());
        }
        Err(invalid("the filter", format!("it has more than {MOST_VALUES} values in its lists")))
    }

    fn read_entry(&self, key: &str, value: &Value) -> Result<Condition> {
        let several = || -> Result<Vec<Condition>> {
            let filters = value.as_array().ok_or_else(|| invalid(key, "an array of filters is expected"))?;
            if filters.is_empty() {
                self.count_condition()?;
            }
            filters.iter().map(|filter| Ok(Condition::All(self.read_object(filter, key)?))).collect()
        };
        match key {
            "$and" => Ok(Condition::All(several()?)),
            "$or" => Ok(Condition::Any(several()?)),
            "$not" => Ok(Condition::Not(Box::new(Condition::All(self.read_object(value, key)?)))),
            _ if key.starts_with('$') => Err(invalid(key, "the operator is not known")),
            _ => {
                let target = self.find_target(key)?;
                match value.as_object().filter(|object| has_operators(object)) {
                    None => self.equality(key, &target, value),
                    Some(operators) => operators
                        .iter()
                        .map(|(operator, operand)| self.read_test(key, &target, operator, operand))
                        .collect::<Result<Vec<Condition>>>()
                        .map(Condition::All),
                }
            }
        }
    }

    /// A column of that name, a path in a jsonb column of that name, or a path in the metadata
    /// column.
    fn find_target(&self, key: &str) -> Result<Target> {
        let facts = &self.source.facts;
        if let Some(column) = facts.find(key) {
            return Ok(Target::Column(column.clone()));
        }
        let parts: Vec<String> = key.split('.').take(MOST_PATH_PARTS + 1).map(str::to_owned).collect();
        if parts.len() > MOST_PATH_PARTS {
            return Err(invalid(key, format!("a path has at most {MOST_PATH_PARTS} parts")));
        }
        let head = facts.find(&parts[0]).filter(|column| column.kind == ColumnKind::Json);
        match (head, &self.source.metadata) {
            (Some(column), _) => Ok(Target::Path(column.name.clone(), parts[1..].to_vec())),
            (None, Some(metadata)) => Ok(Target::Path(metadata.clone(), parts)),
            (None, None) => {
                Err(Error::UnknownColumn { table: facts.display.clone(), column: key.to_owned() })
            }
        }
    }

    fn equality(&self, part: &str, target: &Target, value: &Value) -> Result<Condition> {
        self.count_condition()?;
        if value.is_null() {
            return Ok(Condition::Test(target.clone(), Test::Null));
        }
        self.check(part, target, std::slice::from_ref(value), |has| has.equality)?;
        Ok(Condition::Test(target.clone(), Test::Equal(value.clone())))
    }

    /// Checks that values fit a column, whose type must have a comparison.
    fn check(
        &self,
        part: &str,
        target: &Target,
        values: &[Value],
        is_there: impl Fn(Comparisons) -> bool,
    ) -> Result<()> {
        let Target::Column(column) = target else { return Ok(()) };
        let type_name = || column.type_name.clone();
        if !is_there(self.types.comparisons(column)) {
            return Err(Error::InvalidFilterOperator { part: part.to_owned(), type_name: type_name() });
        }
        for value in values {
            self.types.check_value(column, &text_of(column, value)).map_err(|(sqlstate, reason)| {
                Error::InvalidFilterValue { part: part.to_owned(), type_name: type_name(), sqlstate, reason }
            })?;
        }
        Ok(())
    }

    fn read_test(&self, key: &str, target: &Target, operator: &str, operand: &Value) -> Result<Condition> {
        let part = format!("{key}.{operator}");
        // Equality counts itself, and a negation what it negates.
        if !matches!(operator, "$eq" | "$ne" | "$not") {
            self.count_condition()?;
        }
        let is = |test| Condition::Test(target.clone(), test);
        let not = |condition| Condition::Not(Box::new(condition));
        let compare = |sign: &'static str| match operand {
            Value::Object(_) | Value::Array(_) | Value::Null => {
                Err(invalid(&part, "a number, text or truth value is expected"))
            }
            scalar => {
                self.check(&part, target, std::slice::from_ref(scalar), |has| has.order)?;
                Ok(is(Test::Compare(sign, scalar.clone())))
            }
        };
        let list = || -> Result<Condition> {
            let values = operand.as_array().ok_or_else(|| invalid(&part, "an array is expected"))?;
            self.count_values(values.len())?;
            self.check(&part, target, values, |has| has.equality)?;
            Ok(is(Test::In(values.clone())))
        };
        Ok(match operator {
            "$eq" => self.equality(&part, target, operand)?,
            "$ne" => not(self.equality(&part, target, operand)?),
            "$gt" => compare(">")?,
            "$gte" => compare(">=")?,
            "$lt" => compare("<")?,
            "$lte" => compare("<=")?,
            "$in" => list()?,
            "$nin" => not(list()?),
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
                if operators.is_empty() {
                    self.count_condition()?;
                }
                let inner: Result<Vec<Condition>> = operators
                    .iter()
                    .map(|(operator, operand)| self.read_test(key, target, operator, operand))
                    .collect();
                not(Condition::All(inner?))
            }
            _ => return Err(invalid(&part, "the operator is not known")),
        })
    }
}

fn has_operators(object: &Map<String, Value>) -> bool {
    object.keys().any(|key| key.starts_with('$'))
}

/// A value as the text that the column's type reads.
fn text_of(column: &Column, value: &Value) -> String {
    match value {
        Value::String(text) if column.kind != ColumnKind::Json => text.clone(),
        other => other.to_string(),
    }
}

impl Condition {
    fn to_sql(&self, row: &str, statement: &mut Statement) -> String {
        match self {
            Condition::All(conditions) => joined(conditions, (" AND ", "true"), row, statement),
            Condition::Any(conditions) => joined(conditions, (" OR ", "false"), row, statement),
            // A row without the value passes the negation, as in the peers of this language.
            Condition::Not(condition) => format!("(({}) IS NOT TRUE)", condition.to_sql(row, statement)),
            Condition::Test(Target::Column(column), test) => column_test(column, test, row, statement),
            Condition::Test(Target::Path(column, path), test) => {
                path_test(column, path, test, row, statement)
            }
        }
    }
}

fn joined(
    conditions: &[Condition],
    (operator, empty): (&str, &str),
    row: &str,
    statement: &mut Statement,
) -> String {
    if conditions.is_empty() {
        return empty.to_owned();
    }
    let parts: Vec<String> = conditions.iter().map(|condition| condition.to_sql(row, statement)).collect();
    format!("({})", parts.join(operator))
}

fn column_test(column: &Column, test: &Test, row: &str, statement: &mut Statement) -> String {
    let (name, type_name) = (&column.name, &column.compared_as);
    let text_of = |value: &Value| text_of(column, value);
    match test {
        Test::Equal(value) if column.kind == ColumnKind::Json && value.is_object() => {
            let value = statement.bind(Parameter::Text(value.to_string()));
            format!("{row}.{name} OPERATOR(pg_catalog.@>) {value}::pg_catalog.jsonb")
        }
        Test::Equal(value) => {
            let value = statement.bind(Parameter::Text(text_of(value)));
            format!("{row}.{name} OPERATOR(pg_catalog.=) {value}::{type_name}")
        }
        Test::Compare(operator, value) => {
            let value = statement.bind(Parameter::Text(text_of(value)));
            format!("{row}.{name} OPERATOR(pg_catalog.{operator}) {value}::{type_name}")
        }
        Test::In(values) => {
            let values = statement.bind(Parameter::Texts(values.iter().map(text_of).collect()));
            format!("{row}.{name} OPERATOR(pg_catalog.=) ANY ({values}::{type_name}[])")
        }
        Test::Like(pattern) => {
            let pattern = statement.bind(Parameter::Text(pattern.clone()));
            format!("{row}.{name}::pg_catalog.text OPERATOR(pg_catalog.~~) {pattern}")
        }
        Test::Exists => format!("{row}.{name} IS NOT NULL"),
        Test::Null => format!("{row}.{name} IS NULL"),
    }
}

fn path_test(
    column: &Identifier,
    path: &[String],
    test: &Test,
    row: &str,
    statement: &mut Statement,
) -> String {
    let at_path = |operator: &str, statement: &mut Statement| {
        let path = statement.bind(Parameter::Texts(path.to_vec()));
        format!("({row}.{column} OPERATOR(pg_catalog.{operator}) {path})")
    };
    match test {
        // Containment, because a GIN index serves it; for a scalar it is the same as equality.
        Test::Equal(value) if !value.is_array() => {
            let nested = path
                .iter()
                .rev()
                .fold(value.clone(), |inner, key| Value::Object(Map::from_iter([(key.clone(), inner)])));
            let nested = statement.bind(Parameter::Text(nested.to_string()));
            format!("{row}.{column} OPERATOR(pg_catalog.@>) {nested}::pg_catalog.jsonb")
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
        Test::In(values) if values.len() >= VALUES_BOUND_AS_ONE => {
            let found = at_path("#>", statement);
            let values = statement.bind(Parameter::Text(Value::Array(values.clone()).to_string()));
            // As the operand of IS it is not joined with the table, but looked up in a hash table that the executor makes.
            format!(
                "({found} OPERATOR(pg_catalog.=) ANY (SELECT listed.value \
                 FROM pg_catalog.jsonb_array_elements({values}::pg_catalog.jsonb) AS listed(value))) IS TRUE"
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
    use super::*;
    use crate::search::source::tests::facts_with;
    use crate::search::source::{ColumnChoice, ColumnKind, Legs};
    use proptest::prelude::*;

    fn source() -> SearchSource {
        use ColumnKind::{Json, Lexemes, Other, Vector};
        let columns = [("id", Other), ("year", Other), ("v", Vector), ("l", Lexemes), ("metadata", Json)];
        SearchSource::resolve(facts_with(&columns), &ColumnChoice::default(), Legs::BOTH).expect("searchable")
    }

    /// The types of the columns above: integers, which compare, and jsonb, which compares too.
    struct Integers;

    impl ColumnTypes for Integers {
        fn check_value(&self, column: &Column, text: &str) -> Result<(), (&'static str, String)> {
            let fits = column.kind != ColumnKind::Other || text.parse::<i32>().is_ok();
            if fits { Ok(()) } else { Err(("22P02", "no integer".to_owned())) }
        }

        fn comparisons(&self, column: &Column) -> Comparisons {
            let is_known = matches!(column.kind, ColumnKind::Other | ColumnKind::Json);
            Comparisons { equality: is_known, order: is_known }
        }
    }

    fn sql(json: &str) -> (String, Vec<Parameter>) {
        let mut statement = Statement::default();
        let filter = Filter::parse(json, &source(), &Integers).expect("valid");
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
            let error = Filter::parse(json, &source(), &Integers).expect_err(json);
            assert!(error.to_string().ends_with(part), "{error}");
        }
    }

    #[test]
    fn without_metadata_an_unknown_key_is_an_error() {
        use ColumnKind::{Lexemes, Vector};
        let facts = facts_with(&[("v", Vector), ("l", Lexemes)]);
        let source = SearchSource::resolve(facts, &ColumnChoice::default(), Legs::BOTH).expect("searchable");
        let error = Filter::parse(r#"{"nope": 1}"#, &source, &Integers).expect_err("unknown");
        assert_eq!(error.facts().sqlstate, "42703");
    }

    #[test]
    fn a_value_of_another_type_is_named() {
        let error = |json: &str| Filter::parse(json, &source(), &Integers).expect_err(json);
        let wrong = error(r#"{"$or": [{"year": {"$gte": "soon"}}]}"#);
        assert_eq!(wrong.to_string(), "filter has a value at year.$gte that is not of type integer");
        assert_eq!(wrong.facts().sqlstate, "22P02");
        assert_eq!(error(r#"{"year": 1.5}"#).facts().sqlstate, "22P02");
        assert_eq!(error(r#"{"year": {"$in": [1, "x"]}}"#).facts().sqlstate, "22P02");
        let operator = error(r#"{"v": {"$gt": 1}}"#);
        assert_eq!(
            operator.to_string(),
            "filter has an operator at v.$gt that type public.vector does not have"
        );
        assert_eq!(operator.facts().sqlstate, "42883");
    }

    /// What is refused must be so by this limit, at once, and with a short text.
    fn check_refused(json: &str, limit: &str) {
        let error = Filter::parse(json, &source(), &Integers).expect_err("beyond a limit");
        let facts = error.facts();
        assert_eq!(facts.sqlstate, "22023", "{}", error.message());
        let detail = facts.detail.unwrap_or_default();
        assert!(detail.contains(limit), "expected the limit {limit} in {detail}");
        assert!(error.message().len() < 500 && detail.len() < 500, "expected a short text, not {detail}");
    }

    #[test]
    fn the_parts_of_a_path_are_counted() {
        let filter = |parts: usize| format!(r#"{{"{}a": 1}}"#, "a.".repeat(parts - 1));
        let (_, parameters) = sql(&filter(MOST_PATH_PARTS));
        assert_eq!(parameters.len(), 1);
        for more in [1, 60_000, 1_000_000] {
            check_refused(&filter(MOST_PATH_PARTS + more), "at most 64 parts");
        }
        // Of a jsonb column, too, and by any operator.
        check_refused(
            &format!(r#"{{"metadata.{}": {{"$exists": true}}}}"#, "a.".repeat(1_000_000)),
            "64 parts",
        );
    }

    #[test]
    fn the_depth_of_a_filter_is_bounded() {
        type Wrap = fn(usize) -> String;
        // Each has one more object inside: the filter itself.
        let shapes: [(Wrap, usize); 5] = [
            (|depth| format!(r#"{}{{"year": 1}}{}"#, r#"{"$not":"#.repeat(depth), "}".repeat(depth)), 1),
            (|depth| format!(r#"{}{{"year": 1}}{}"#, r#"{"$and":["#.repeat(depth), "]}".repeat(depth)), 2),
            (|depth| format!(r#"{}{{"year": 1}}{}"#, r#"{"$or":["#.repeat(depth), "]}".repeat(depth)), 2),
            (|depth| format!(r#"{{"a": {}1{}}}"#, "[".repeat(depth), "]".repeat(depth)), 1),
            (|depth| format!(r#"{{"a": {}1{}}}"#, r#"{"b":"#.repeat(depth), "}".repeat(depth)), 1),
        ];
        for (shape, nests) in shapes {
            let most = (MOST_DEPTH - 1) / nests;
            assert!(sql(&shape(most)).0.starts_with(" AND "));
            for more in [1, 1_000_000] {
                check_refused(&shape(most + more), "at most 64 are allowed");
            }
        }
        // As deep as a path and a value can make it together.
        let path = "a.".repeat(MOST_PATH_PARTS - 1);
        let value = format!("{}1{}", r#"{"b":"#.repeat(MOST_DEPTH - 1), "}".repeat(MOST_DEPTH - 1));
        assert_eq!(sql(&format!(r#"{{"{path}a": {value}}}"#)).1.len(), 1);
    }

    #[test]
    fn the_conditions_of_a_filter_are_counted() {
        let list = |count: usize, part: &str| {
            format!(r#"{{"$or": [{part}{}]}}"#, format!(",{part}").repeat(count - 1))
        };
        let parts = [
            r#"{"year": 1}"#,
            r#"{"a.b": null}"#,
            r#"{"year": {"$ne": 1}}"#,
            r#"{"year": {"$not": {"$gt": 1}}}"#,
            r#"{"year": {"$not": {}}}"#,
            r#"{"$and": []}"#,
            "{}",
        ];
        for part in parts {
            assert!(!sql(&list(MOST_CONDITIONS, part)).0.is_empty());
            for more in [1, 1_000_000] {
                check_refused(&list(MOST_CONDITIONS + more, part), "more than 1000 conditions");
            }
        }
    }

    #[test]
    fn the_values_of_lists_are_counted() {
        let list =
            |count: usize, operator: &str| format!(r#"{{"{operator}": [1{}]}}"#, ",2".repeat(count - 1));
        for operator in ["$in", "$nin"] {
            for key in ["year", "a.b"] {
                let filter = |count: usize| format!(r#"{{"{key}": {}}}"#, list(count, operator));
                assert!(
                    sql(&filter(MOST_VALUES)).1.len() < 3,
                    "expected a list of values to be one condition"
                );
                for more in [1, 1_000_000] {
                    check_refused(&filter(MOST_VALUES + more), "more than 100000 values");
                }
            }
        }
        // Together, too.
        let half = list(MOST_VALUES / 2, "$in");
        assert!(!sql(&format!(r#"{{"year": {half}, "a.b": {half}}}"#)).0.is_empty());
        check_refused(&format!(r#"{{"year": {half}, "a.b": {half}, "b": {{"$in": [1]}}}}"#), "100000 values");
    }

    #[test]
    fn the_values_of_a_path_are_bound_as_one_where_they_are_many() {
        let filter = |count: usize| format!(r#"{{"a.b": {{"$in": [1{}]}}}}"#, ", 2".repeat(count - 1));
        let (few, parameters) = sql(&filter(VALUES_BOUND_AS_ONE - 1));
        assert!(few.contains("::pg_catalog.jsonb[])"), "{few}");
        assert_eq!(parameters[1], Parameter::Texts([vec!["1".to_owned()], vec!["2".into(); 98]].concat()));
        let (many, parameters) = sql(&filter(VALUES_BOUND_AS_ONE));
        assert!(many.contains("jsonb_array_elements($2::pg_catalog.jsonb)"), "{many}");
        assert_eq!(parameters[1], Parameter::Text(format!("[1{}]", ",2".repeat(99))));
    }

    #[test]
    fn the_bytes_of_a_filter_are_bounded() {
        assert_eq!(check_bytes(MOST_BYTES), Ok(()));
        let refused = check_bytes(MOST_BYTES + 1).expect_err("too large");
        assert_eq!(
            refused.facts().detail.as_deref(),
            Some("It has 8388609 bytes, and at most 8388608 are allowed.")
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let keys = prop::sample::select(vec![
            "year",
            "v",
            "metadata",
            "metadata.a",
            "a.b",
            "$and",
            "$or",
            "$not",
            "$eq",
            "$ne",
            "$gt",
            "$lte",
            "$in",
            "$nin",
            "$like",
            "$exists",
            "$near",
            "",
            "x\"; --",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            Just(Value::from("MARK'; --")),
        ];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((keys.clone(), inner), 0..4).prop_map(|pairs| pairs
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_is_a_filter_or_an_error(json in any_json()) {
            if let Ok(filter) = Filter::parse(&json.to_string(), &source(), &Integers) {
                let mut statement = Statement::default();
                filter.push_conditions(&mut statement);
                let text = &statement.text;
                prop_assert!(!text.contains("MARK"), "{}", text);
                let depth = text.chars().try_fold(0, |depth: i32, character| match character {
                    '(' => Some(depth + 1),
                    ')' => (depth > 0).then_some(depth - 1),
                    _ => Some(depth),
                });
                prop_assert_eq!(depth, Some(0), "{}", text);
                let last = format!("${}", statement.parameters.len() + 1);
                prop_assert!(!text.contains(&last), "{}", text);
            }
        }
    }
}
