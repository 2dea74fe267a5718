//! What `CREATE FUNCTION` says in the install script.

use crate::lists::{balanced, split};

/// An argument as SQL declares it.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// Its name, without quotes.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Its default, as it is written.
    pub default: Option<String>,
}

/// A function as SQL declares it.
pub struct Function {
    /// The file.
    pub file: String,
    /// Its name, without a schema.
    pub name: String,
    /// What it is called with.
    pub arguments: Vec<Argument>,
    /// `c`, `sql`, …
    pub language: String,
    /// Its symbol in the library, or its body.
    pub body: String,
    /// Whether it is not called where an argument is NULL.
    pub is_strict: bool,
    /// Whether triggers call it.
    pub is_trigger: bool,
}

/// Begins a body that is bound when the function is made.
const BOUND: &str = "BEGIN ATOMIC";

/// The functions that a script makes.
pub fn functions(file: &str, script: &str) -> Vec<Function> {
    let script = without_comments(script);
    let mut found = Vec::new();
    let mut rest = script.as_str();
    while let Some(start) = rest.find("CREATE FUNCTION ") {
        rest = &rest[start + "CREATE FUNCTION ".len()..];
        let open = rest.find('(').expect("a list of arguments");
        let name = rest[..open].trim().rsplit('.').next().unwrap_or_default().to_owned();
        let list = balanced(&rest[open..]);
        let statement = &rest[..end_of_statement(rest)];
        let options = &statement[open + list.len() + 2..];
        let words: Vec<&str> = options.split_whitespace().collect();
        let after =
            |word: &str| words.iter().position(|found| *found == word).and_then(|at| words.get(at + 1));
        found.push(Function {
            file: file.to_owned(),
            name,
            arguments: split(list).into_iter().map(argument).collect(),
            language: after("LANGUAGE").map(|language| language.to_lowercase()).unwrap_or_default(),
            body: body(options),
            is_strict: words.contains(&"STRICT"),
            is_trigger: after("RETURNS") == Some(&"trigger"),
        });
        rest = &rest[statement.len()..];
    }
    found
}

fn argument(text: &str) -> Argument {
    let (declared, default) = match text.split_once(" DEFAULT ") {
        Some((declared, default)) => (declared, Some(default.trim().to_owned())),
        None => (text, None),
    };
    let (name, kind) = declared.split_once(' ').unwrap_or(("", declared));
    Argument { name: name.trim_matches('"').to_owned(), kind: kind.trim().to_owned(), default }
}

/// The last text after AS: a symbol, or what stands between dollars; or a body that is bound for good.
fn body(options: &str) -> String {
    if let Some((_, body)) = options.split_once(BOUND) {
        return body.trim_end().trim_end_matches("END").to_owned();
    }
    match options.split_once("$$") {
        Some((_, body)) => body.split("$$").next().unwrap_or_default().to_owned(),
        None => options.rsplit('\'').nth(1).unwrap_or_default().to_owned(),
    }
}

fn without_comments(script: &str) -> String {
    let line = |line: &str| line.split_once("--").map_or(line, |(code, _)| code).to_owned() + "\n";
    script.lines().map(line).collect()
}

fn end_of_statement(text: &str) -> usize {
    let mut is_in_body = false;
    for (place, letter) in text.char_indices() {
        match letter {
            '$' if text[place..].starts_with("$$") => is_in_body = !is_in_body,
            'B' if text[place..].starts_with(BOUND) => is_in_body = true,
            'E' if text[place..].starts_with("END;") => is_in_body = false,
            ';' if !is_in_body => return place,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read() {
        let script = "-- CREATE FUNCTION not(this)\nCREATE FUNCTION a.f(\n  x text, -- first\n  \"limit\" double precision DEFAULT '1,2'\n)\n\
                      RETURNS trigger LANGUAGE C STRICT\nAS 'MODULE_PATHNAME', 'f_wrapper';\n\
                      CREATE FUNCTION g() RETURNS text LANGUAGE sql AS $$ SELECT 1; $$;\n\
                      CREATE FUNCTION h() RETURNS text LANGUAGE sql\nBEGIN ATOMIC\n SELECT 2;\nEND;";
        let found = functions("a.sql", script);
        let [f, g, h] = &found[..] else { panic!("expected three functions, not {}", found.len()) };
        assert_eq!((h.language.as_str(), h.body.as_str()), ("sql", "\n SELECT 2;\n"));
        assert_eq!((f.name.as_str(), f.language.as_str(), f.body.as_str()), ("f", "c", "f_wrapper"));
        assert!(f.is_strict && f.is_trigger && !g.is_strict && !g.is_trigger);
        let argument = |name: &str, kind: &str, default: Option<&str>| Argument {
            name: name.to_owned(),
            kind: kind.to_owned(),
            default: default.map(str::to_owned),
        };
        let expected = [argument("x", "text", None), argument("limit", "double precision", Some("'1,2'"))];
        assert_eq!(f.arguments, expected);
        assert_eq!((g.arguments.len(), g.body.as_str()), (0, " SELECT 1; "));
    }
}
