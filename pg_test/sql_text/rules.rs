//! What a statement must not hold, since PostgreSQL would look it up through the caller's search_path.

use crate::tokens::{self, Token};

/// Keywords that PostgreSQL looks an operator up for, by its name alone, and what to write instead.
const IN_LIST: &str = "IN looks = up: write OPERATOR(pg_catalog.=) ANY (ARRAY(…)) or EXISTS";
const DISTINCT_FROM: &str =
    "IS DISTINCT FROM looks = up: compare with OPERATOR(pg_catalog.=) and ask for NULL";
const NULLIF: &str = "NULLIF looks = up: write CASE WHEN … OPERATOR(pg_catalog.=) …";
const SIMPLE_CASE: &str = "CASE x WHEN looks = up: write CASE WHEN x OPERATOR(pg_catalog.=) …";
const JOIN_USING: &str = "JOIN USING and NATURAL JOIN look = up: write ON … OPERATOR(pg_catalog.=) …";
const BETWEEN: &str = "BETWEEN looks <= and >= up: write both with OPERATOR(pg_catalog.…)";
const LIKE: &str = "LIKE, ILIKE and SIMILAR TO look ~~ and ~ up: write OPERATOR(pg_catalog.~~)";

/// Words before a bracket that are syntax or built into the grammar, so that no search_path finds them.
const SYNTAX: &[&str] = &[
    "all",
    "and",
    "any",
    "array",
    "as",
    "by",
    "cast",
    "check",
    "coalesce",
    "conflict",
    "default",
    "do",
    "else",
    "exclude",
    "except",
    "exists",
    "extract",
    "filter",
    "for",
    "from",
    "group",
    "greatest",
    "grouping",
    "having",
    "if",
    "include",
    "intersect",
    "into",
    "is",
    "join",
    "key",
    "lateral",
    "least",
    "limit",
    "materialized",
    "not",
    "of",
    "offset",
    "on",
    "only",
    "operator",
    "options",
    "or",
    "order",
    "over",
    "overlay",
    "partition",
    "perform",
    "position",
    "queue",
    "range",
    "return",
    "returning",
    "returns",
    "row",
    "rows",
    "select",
    "set",
    "sets",
    "some",
    "substring",
    "table",
    "then",
    "tablesample",
    "trim",
    "union",
    "unique",
    "until",
    "update",
    "using",
    "values",
    "view",
    "when",
    "where",
    "while",
    "with",
    "within",
    "xmlelement",
    "elsif",
    "list",
    "hash",
    "columns",
    "system",
];
/// Words after which comes a name with a list of columns or arguments, which is no call.
const BEFORE_NAMES: &[&str] = &[
    "as",
    "into",
    "references",
    "on",
    "table",
    "function",
    "procedure",
    "index",
    "view",
    "only",
    "constraint",
    "trigger",
    "policy",
    "using",
    "key",
    "conflict",
    "aggregate",
    "recursive",
    "copy",
    "analyze",
    "vacuum",
    "type",
];
/// Types that the grammar itself knows, wherever search_path leads.
const GRAMMAR_TYPES: &[&str] = &[
    "int",
    "integer",
    "bigint",
    "smallint",
    "real",
    "float",
    "double",
    "decimal",
    "dec",
    "numeric",
    "boolean",
    "bit",
    "char",
    "character",
    "varchar",
    "nchar",
    "national",
    "time",
    "timestamp",
    "interval",
    "setof",
];
/// In capitals, these tell a statement, or a part of one, from a message.
const KEYWORDS: &[&str] = &[
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "WITH",
    "WHERE",
    "FROM",
    "JOIN",
    "AND",
    "OR",
    "NOT",
    "IN",
    "ANY",
    "ALL",
    "ARRAY",
    "VALUES",
    "RETURNING",
    "EXISTS",
    "USING",
    "BETWEEN",
    "LIKE",
    "ILIKE",
    "SIMILAR",
    "NULLIF",
    "DISTINCT",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "COALESCE",
    "OPERATOR",
    "LIMIT",
    "ORDER",
    "GROUP",
    "HAVING",
    "UNION",
    "SET",
    "CREATE",
    "ALTER",
    "DROP",
    "GRANT",
    "REVOKE",
    "LOCK",
    "MERGE",
    "COPY",
    "EXECUTE",
    "CALL",
    "NATURAL",
    "CAST",
    "COLLATE",
    "LATERAL",
];

/// Whether a literal of a Rust file is SQL text, or a part of one.
pub fn is_sql(text: &str) -> bool {
    let tokens = &tokens::read(text, true)[..];
    if is_sentence(text) {
        return false;
    }
    let is_keyword = |token: &Token| matches!(token, Token::Word(word) if KEYWORDS.contains(&word.as_str()));
    // A piece that joins two others.
    let is_glue = tokens.iter().any(|token| matches!(token, Token::Hole | Token::Parameter))
        && tokens.iter().any(|token| matches!(token, Token::Operator(name) if name != "=>" && name != "->"))
        && !tokens.iter().any(|token| matches!(token, Token::Word(_) | Token::Sign(":" | "." | "[")))
        && !matches!(tokens.first(), Some(Token::Operator(_)))
        && !matches!(tokens.last(), Some(Token::Operator(_)));
    is_glue || tokens.iter().any(|token| is_keyword(token) || token.is("pg_catalog"))
}

/// A hint such as "Call embed(x) first." Keywords of statements are written in capitals.
fn is_sentence(text: &str) -> bool {
    let mut letters = text.chars();
    let begins = letters.next().is_some_and(char::is_uppercase)
        && letters.next().is_some_and(|letter| !letter.is_uppercase());
    begins && text.ends_with('.')
}

/// What is wrong with a statement or a part of one.
pub fn problems(text: &str, has_holes: bool) -> Vec<String> {
    let tokens = tokens::read(text, has_holes);
    let mut found = Rules { tokens: &tokens, found: vec![] }.check();
    for (place, body) in bodies(&tokens) {
        if !sets_path(&tokens, place) {
            found.extend(problems(body, has_holes));
        }
    }
    found
}

/// What is wrong with the functions that a script of CREATE EXTENSION makes. The rest of the script is read and bound
/// under that command's own path.
pub fn problems_of_functions(text: &str) -> Vec<String> {
    let tokens = tokens::read(text, false);
    let mut found = Vec::new();
    for (place, body) in bodies(&tokens) {
        let is_function = tokens[statement_at(&tokens, place)].iter().any(|token| token.is("create"));
        if is_function && !sets_path(&tokens, place) {
            found.extend(problems(body, false));
        }
    }
    found
}

/// The tables that a statement names without a schema, but for those of its own WITH.
pub fn bare_tables(text: &str) -> Vec<String> {
    let tokens = tokens::read(text, true);
    let named = |place: usize| {
        let before = |ahead: usize, keyword: &str| {
            place.checked_sub(ahead).is_some_and(|place| tokens[place].is(keyword))
        };
        let is_read = (before(1, "from") && !before(2, "distinct")) || before(1, "join") || before(1, "only");
        let is_written = before(1, "into") && before(2, "insert")
            || before(1, "update")
                && place
                    .checked_sub(2)
                    .is_none_or(|place| tokens[place].is_sign("(") || tokens[place].is_sign(";"));
        let is_before = |sign: &str| tokens.get(place + 1).is_some_and(|next| next.is_sign(sign));
        match &tokens[place] {
            Token::Word(word) if word == "PUBLIC" || is_before(".") => None,
            Token::Word(word) if is_written || is_read && !is_before("(") => Some(word.clone()),
            _ => None,
        }
    };
    let names = (0..tokens.len()).filter_map(named);
    names.filter(|name| !SYNTAX.contains(&name.to_lowercase().as_str())).collect()
}

/// The names that WITH gives to tables.
pub fn common_tables(text: &str) -> Vec<String> {
    let tokens = tokens::read(text, true);
    let rules = Rules { tokens: &tokens, found: vec![] };
    let is_common = |place: usize| {
        let opens = rules.is_one_of(place, 1, &["as"])
            && (rules.is_sign(place, 2, "(") || rules.is_one_of(place, 2, &["materialized", "not"]));
        opens || rules.is_sign(place, 1, "(") && rules.is_common_table(place)
    };
    let names = tokens.iter().enumerate().filter_map(|(place, token)| match token {
        Token::Word(word) if is_common(place) => Some(word.clone()),
        _ => None,
    });
    names.collect()
}

fn bodies(tokens: &[Token]) -> impl Iterator<Item = (usize, &String)> {
    tokens.iter().enumerate().filter_map(|(place, token)| match token {
        Token::Body(body) => Some((place, body)),
        _ => None,
    })
}

/// The statement that a token is in.
fn statement_at(tokens: &[Token], place: usize) -> std::ops::Range<usize> {
    let start = tokens[..place].iter().rposition(|token| token.is_sign(";")).map_or(0, |end| end + 1);
    let length = tokens[place..].iter().position(|token| token.is_sign(";")).unwrap_or(tokens.len() - place);
    start..place + length
}

/// Whether the function around a body has a path of its own.
fn sets_path(tokens: &[Token], place: usize) -> bool {
    tokens[statement_at(tokens, place)].windows(2).any(|pair| pair[0].is("set") && pair[1].is("search_path"))
}

struct Rules<'a> {
    tokens: &'a [Token],
    found: Vec<String>,
}

impl Rules<'_> {
    fn at(&self, place: usize, ahead: isize) -> Option<&Token> {
        self.tokens.get(place.checked_add_signed(ahead)?)
    }

    fn is(&self, place: usize, ahead: isize, keyword: &str) -> bool {
        self.at(place, ahead).is_some_and(|token| token.is(keyword))
    }

    fn is_one_of(&self, place: usize, ahead: isize, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is(place, ahead, keyword))
    }

    fn is_sign(&self, place: usize, ahead: isize, sign: &str) -> bool {
        self.at(place, ahead).is_some_and(|token| token.is_sign(sign))
    }

    fn check(mut self) -> Vec<String> {
        for place in 0..self.tokens.len() {
            match &self.tokens[place] {
                Token::Operator(name) => self.check_operator(place, name),
                Token::Word(word) => self.check_word(place, word),
                Token::Sign("::") => self.check_type(place + 1),
                Token::Hole if self.is_sign(place, 1, "(") && self.is_call_of_hole(place) => {
                    self.found.push("a call of what is filled in, without a schema".to_owned());
                }
                _ => {}
            }
        }
        self.found
    }

    fn check_operator(&mut self, place: usize, name: &str) {
        let is_qualified =
            self.is_sign(place, -1, ".") || self.is_sign(place, 1, ")") && self.is(place, -2, "operator");
        if is_qualified
            || matches!(name, "=>" | ":=")
            || self.is_star(place, name)
            || self.is_sign_of_number(place, name)
        {
            return;
        }
        if name == "=" && self.is_assignment(place) {
            return;
        }
        self.found.push(format!("operator {name} without a schema: write OPERATOR(pg_catalog.{name})"));
    }

    /// `*` as all columns, or all rows of count.
    fn is_star(&self, place: usize, name: &str) -> bool {
        name == "*"
            && (self.is_sign(place, -1, "(") && self.is_sign(place, 1, ")")
                || self.is_one_of(place, -1, &["select", "distinct", "returning"]))
    }

    fn is_sign_of_number(&self, place: usize, name: &str) -> bool {
        let before = self.at(place, -1);
        let begins = match before {
            None | Some(Token::Operator(_)) => true,
            Some(Token::Sign(sign)) => matches!(*sign, "(" | "," | "["),
            Some(Token::Word(word)) => SYNTAX.contains(&word.to_lowercase().as_str()),
            _ => false,
        };
        matches!(name, "-" | "+") && begins && matches!(self.at(place, 1), Some(Token::Number))
    }

    /// `SET a = …, b = …`, `WITH (m = 8)` and the like.
    fn is_assignment(&self, place: usize) -> bool {
        let Some(mut target) = place.checked_sub(1) else { return false };
        if self.is_sign(target, 0, ")") {
            let Some(open) = self.opening(target) else { return false };
            target = open;
        }
        while self.is_sign(target, -1, ".") && target >= 2 {
            target -= 2;
        }
        match target.checked_sub(1).map(|before| &self.tokens[before]) {
            Some(Token::Sign("(")) => self.is_list_of_options(target - 1),
            Some(Token::Sign(",")) => self.is_in_assignments(target - 1),
            Some(token) => token.is("set") || token.is("local") && self.is(target, -2, "set"),
            None => false,
        }
    }

    /// The bracket that a closing one belongs to.
    fn opening(&self, closing: usize) -> Option<usize> {
        let mut depth = 0usize;
        (0..=closing).rev().find(|place| {
            match &self.tokens[*place] {
                Token::Sign(")" | "]") => depth += 1,
                Token::Sign("(" | "[") => depth -= 1,
                _ => {}
            }
            depth == 0
        })
    }

    /// Whether the list that a comma is in has begun with SET, or is one of options.
    fn is_in_assignments(&self, comma: usize) -> bool {
        let mut depth = 0usize;
        for before in (0..comma).rev() {
            match &self.tokens[before] {
                Token::Sign(")" | "]") => depth += 1,
                Token::Sign("(" | "[") if depth > 0 => depth -= 1,
                Token::Sign("(") => return self.is_list_of_options(before),
                _ if depth > 0 => {}
                token if token.is("set") => return true,
                token if is_keyword_of_clause(token) => return false,
                _ => {}
            }
        }
        false
    }

    /// Whether a bracket opens the options of an index, a table or a definition.
    fn is_list_of_options(&self, bracket: usize) -> bool {
        self.is_one_of(bracket, -1, &["with", "set", "options"]) || self.is_definition(bracket)
    }

    /// Whether a bracket opens the definition of a type, an operator or the like.
    fn is_definition(&self, bracket: usize) -> bool {
        let statement = statement_at(self.tokens, bracket);
        let words: Vec<&Token> = self.tokens[statement].iter().take(3).collect();
        matches!(words.as_slice(), [create, kind, ..] if create.is("create")
            && ["type", "operator", "aggregate", "collation"].iter().any(|known| kind.is(known)))
    }

    fn check_word(&mut self, place: usize, word: &str) {
        let word = word.to_lowercase();
        let is_part_of_name = self.is_sign(place, -1, ".");
        if is_part_of_name {
            return;
        }
        let opens = self.is_sign(place, 1, "(");
        match word.as_str() {
            "in" if opens => {
                let is_partition = self.is(place, -1, "values") || self.is(place, -1, "tag");
                if !is_partition {
                    self.found.push(IN_LIST.to_owned());
                }
            }
            "nullif" if opens => self.found.push(NULLIF.to_owned()),
            "from" if self.is(place, -1, "distinct") && self.is_one_of(place, -2, &["is", "not"]) => {
                self.found.push(DISTINCT_FROM.to_owned());
            }
            "case" if !self.is(place, 1, "when") && self.at(place, 1).is_some() => {
                self.found.push(SIMPLE_CASE.to_owned());
            }
            "natural" if self.is_one_of(place, 1, &["join", "left", "right", "inner", "full"]) => {
                self.found.push(JOIN_USING.to_owned());
            }
            "using" if opens && self.is_list_of_columns(place + 2) => self.found.push(JOIN_USING.to_owned()),
            "between" => self.found.push(BETWEEN.to_owned()),
            "like" | "ilike" => {
                let copies_a_table = self.is_sign(place, -1, "(") || self.is_sign(place, -1, ",");
                if !copies_a_table {
                    self.found.push(LIKE.to_owned());
                }
            }
            "similar" if self.is(place, 1, "to") => self.found.push(LIKE.to_owned()),
            "collate" if !self.is_sign(place, 2, ".") => {
                self.found.push("COLLATE without a schema: write COLLATE pg_catalog.…".to_owned());
            }
            "as" if self.is_in_cast(place) => self.check_type(place + 1),
            _ if opens => self.check_call(place, &word),
            _ => {}
        }
    }

    /// `USING (a, b)` of a join, where a policy has a condition.
    fn is_list_of_columns(&self, start: usize) -> bool {
        let inside: Vec<&Token> = self.tokens[start.min(self.tokens.len())..]
            .iter()
            .take_while(|token| !token.is_sign(")"))
            .collect();
        let is_of_policy = self.tokens.iter().any(|token| token.is("policy"));
        !is_of_policy
            && !inside.is_empty()
            && inside
                .iter()
                .all(|token| matches!(token, Token::Word(_) | Token::Quoted | Token::Hole | Token::Sign(",")))
    }

    fn is_in_cast(&self, place: usize) -> bool {
        let mut depth = 0usize;
        for before in (0..place).rev() {
            match &self.tokens[before] {
                Token::Sign(")") => depth += 1,
                Token::Sign("(") if depth > 0 => depth -= 1,
                Token::Sign("(") => return self.is(before, -1, "cast") && !self.is(before, -2, "create"),
                _ => {}
            }
        }
        false
    }

    fn check_type(&mut self, place: usize) {
        let Some(Token::Word(word)) = self.tokens.get(place) else { return };
        let is_known = GRAMMAR_TYPES.contains(&word.to_lowercase().as_str());
        if !is_known && !self.is_sign(place, 1, ".") {
            self.found.push(format!("type {word} without a schema"));
        }
    }

    fn check_call(&mut self, place: usize, word: &str) {
        if SYNTAX.contains(&word) || GRAMMAR_TYPES.contains(&word) {
            return;
        }
        // An alias or a table with its columns.
        let is_name = self.is_one_of(place, -1, BEFORE_NAMES)
            || self.is_sign(place, -1, ")")
            || self.is(place, -1, "ordinality")
            || self.is(place, -1, "exists") && self.is(place, -2, "not") && self.is(place, -3, "if")
            || self.is_common_table(place);
        if !is_name {
            self.found.push(format!("function {word} without a schema"));
        }
    }

    /// `name(a, b) AS (…)` of WITH.
    fn is_common_table(&self, place: usize) -> bool {
        let closing = (place + 1..self.tokens.len())
            .find(|closing| self.is_sign(*closing, 0, ")") && self.opening(*closing) == Some(place + 1));
        closing.is_some_and(|closing| {
            self.is(closing, 1, "as")
                && (self.is_sign(closing, 2, "(")
                    || self.is(closing, 3, "materialized")
                    || self.is(closing, 2, "materialized"))
        }) && (self.is_one_of(place, -1, &["with", "recursive"]) || self.is_sign(place, -1, ","))
    }

    fn is_call_of_hole(&self, place: usize) -> bool {
        let before = self.at(place, -1);
        !self.is_sign(place, -1, ".")
            && !self.is_one_of(place, -1, BEFORE_NAMES)
            && !matches!(before, None | Some(Token::Hole | Token::Sign(")")))
    }
}

/// Keywords that end a list of assignments when it is read backwards.
fn is_keyword_of_clause(token: &Token) -> bool {
    [
        "where",
        "and",
        "or",
        "on",
        "select",
        "when",
        "then",
        "else",
        "having",
        "returning",
        "not",
        "from",
        "by",
        "if",
    ]
    .iter()
    .any(|keyword| token.is(keyword))
}
