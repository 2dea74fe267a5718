//! What the library says of the arguments of its functions.

use crate::lists::{balanced, split};
use crate::rust_source;

/// A type and what it may hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its type, without `Option` and lifetimes.
    pub kind: String,
    /// Whether it may be NULL.
    pub is_nullable: bool,
    /// Its default as SQL would write it.
    pub default: Option<String>,
}

/// One `arguments! { … }`.
pub struct Declaration {
    /// The file.
    pub file: String,
    /// The struct.
    pub name: String,
    /// The functions with these arguments.
    pub functions: Vec<String>,
    /// The fields.
    pub arguments: Vec<Argument>,
}

/// A function that SQL calls.
pub struct Function {
    /// The file.
    pub file: String,
    /// Its name; its symbol ends with `_wrapper`.
    pub name: String,
    /// Its own arguments; none where it reads them from the call.
    pub arguments: Option<Vec<Argument>>,
    /// Its code.
    pub body: String,
    /// Whether pgrx leaves it to the install script to declare it.
    pub is_declared_by_hand: bool,
}

/// What a file has: declarations and functions.
pub fn read(file: &str, text: &str) -> (Vec<Declaration>, Vec<Function>) {
    let source = rust_source::read(text);
    let code = source.code.as_str();
    let starts = |mark: &'static str| code.match_indices(mark).map(move |(place, _)| place + mark.len());
    // Literals are empty in the code, and follow each other as there.
    let literal = |part: &str| {
        let place = part.as_ptr() as usize - code.as_ptr() as usize;
        let place = code[..place].matches("\"\"").count();
        source.literals.get(place).map_or("", |literal| literal.text.as_str())
    };
    let declarations =
        starts("arguments! {").map(|end| declaration(file, balanced(&code[end - 1..]), &literal));
    let functions = starts("#[pg_extern").map(|end| function(file, &code[end..]));
    (declarations.collect(), functions.collect())
}

fn declaration<'a>(file: &str, text: &str, literal: &impl Fn(&str) -> &'a str) -> Declaration {
    let text = without_attributes(text);
    let (head, _) = text.split_once('{').expect("fields");
    let (name, functions) = head.split_once(" for ").expect("functions");
    let name = name.rsplit("struct ").next().unwrap_or_default();
    let field = |field| {
        let field = without_attributes(field);
        let (declared, default) = match field.split_once(" = ") {
            Some((declared, default)) => (declared, Some(default)),
            None => (field, None),
        };
        let default = default.map(|default| {
            let default = default.strip_prefix("Some(").map_or(default, |some| some.trim_end_matches(')'));
            match default {
                "None" => "NULL".to_owned(),
                _ if default.starts_with("\"\"") => format!("'{}'", literal(default)),
                other => other.to_owned(),
            }
        });
        Argument { default, ..argument(declared) }
    };
    Declaration {
        file: file.to_owned(),
        name: name.split('<').next().unwrap_or_default().trim().to_owned(),
        functions: split(functions).into_iter().map(str::to_owned).collect(),
        arguments: split(balanced(&text[head.len()..])).into_iter().map(field).collect(),
    }
}

/// A function, from the brackets of its `pg_extern` on.
fn function(file: &str, text: &str) -> Function {
    let options = if text.starts_with('(') { balanced(text) } else { "" };
    let start = text.find("fn ").expect("a function") + "fn ".len();
    let open = start + text[start..].find('(').expect("arguments");
    let list = balanced(&text[open..]);
    let rest = &text[open + list.len() + 2..];
    let is_call = list.contains("FunctionCallInfo");
    Function {
        file: file.to_owned(),
        name: text[start..open].trim().to_owned(),
        arguments: (!is_call).then(|| split(list).into_iter().map(argument).collect()),
        body: balanced(&rest[rest.find('{').expect("a body")..]).to_owned(),
        is_declared_by_hand: options.contains("sql = false"),
    }
}

fn argument(declared: &str) -> Argument {
    let (name, kind) = declared.split_once(':').expect("a type");
    let kind: String = kind.split_whitespace().collect();
    let kind = kind.split_inclusive([',', '<', '&']).map(without_lifetime).collect::<String>();
    let bare = kind.strip_prefix("Option<").and_then(|kind| kind.strip_suffix('>'));
    Argument {
        name: name.trim().trim_start_matches("r#").to_owned(),
        kind: bare.unwrap_or(&kind).to_owned(),
        is_nullable: bare.is_some(),
        default: None,
    }
}

/// `'call,` is nothing, and `'callstr` a `str`.
fn without_lifetime(part: &str) -> &str {
    match part.strip_prefix('\'') {
        Some(rest) if rest.ends_with(',') => "",
        Some(rest) => rest.trim_start_matches("call").trim_start_matches('_'),
        None => part,
    }
}

fn without_attributes(text: &str) -> &str {
    let mut text = text.trim();
    while let Some(rest) = text.strip_prefix('#') {
        text = rest[balanced(rest).len() + 2..].trim_start();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read() {
        let text = r#"
            fn unrelated() { "one" }
            arguments! {
                /// Two arguments.
                pub(crate) struct Greet<'call> for greet, shout {
                    #[expect(dead_code, reason = "two, three")]
                    names: Option<Array<'call, &'call str>>,
                    r#match: String = "any",
                    size: Option<i32> = Some(512),
                    model: Option<String> = None,
                }
            }
        "#;
        let (declarations, _) = read("a.rs", text);
        let [found] = &declarations[..] else { panic!("expected one declaration") };
        assert_eq!(
            (found.name.as_str(), &found.functions[..]),
            ("Greet", &["greet".to_owned(), "shout".to_owned()][..])
        );
        let shown: Vec<(&str, &str, bool, Option<&str>)> = found
            .arguments
            .iter()
            .map(|field| {
                (field.name.as_str(), field.kind.as_str(), field.is_nullable, field.default.as_deref())
            })
            .collect();
        let expected = [
            ("names", "Array<&str>", true, None),
            ("match", "String", false, Some("'any'")),
            ("size", "i32", true, Some("512")),
            ("model", "String", true, Some("NULL")),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn functions_are_read() {
        let text = "#[pg_extern(sql = false)]\n#[allow(x)]\nfn f(a: &str, b: Option<Array<'_, &str>>,) -> Option<i64> { g(a) }\n\
                    #[pg_extern]\nfn h(fcinfo: pg_sys::FunctionCallInfo) -> bool { H::read(fcinfo) }";
        let (_, functions) = read("a.rs", text);
        let [f, h] = &functions[..] else { panic!("expected two functions") };
        let arguments = f.arguments.as_deref().unwrap_or_default();
        let kinds: Vec<&str> = arguments.iter().map(|argument| argument.kind.as_str()).collect();
        assert_eq!(
            (f.name.as_str(), &kinds[..], f.is_declared_by_hand),
            ("f", &["&str", "Array<&str>"][..], true)
        );
        assert_eq!((h.name.as_str(), h.arguments.is_none(), h.is_declared_by_hand), ("h", true, false));
        assert!(h.body.contains("H::read(fcinfo)"));
    }
}
