//! SQL text in tokens, with the places where Rust fills something in.

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A keyword or a name, as it is written.
    Word(String),
    /// A name in double quotes.
    Quoted,
    /// A text in single quotes.
    Text,
    /// A number.
    Number,
    /// `$1`
    Parameter,
    /// What `format!` fills in.
    Hole,
    /// A run of letters of operators.
    Operator(String),
    /// A bracket, a comma, a point, a semicolon, or `::`.
    Sign(&'static str),
    /// The body of a function between dollars.
    Body(String),
}

const SIGNS: [&str; 9] = ["::", "(", ")", "[", "]", ",", ".", ";", ":"];
const EXTENSION_SCHEMA: &str = "@extschema@";
const OPERATORS: &str = "+-*/<>=~!@#%^&|`?";

impl Token {
    /// Whether it is that keyword.
    pub fn is(&self, keyword: &str) -> bool {
        matches!(self, Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// Whether it is that sign.
    pub fn is_sign(&self, sign: &str) -> bool {
        matches!(self, Token::Sign(found) if *found == sign)
    }
}

/// Reads SQL text; `has_holes` says whether braces are places that `format!` or a template fills in.
pub fn read(text: &str, has_holes: bool) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            _ if first.is_whitespace() => first.len_utf8(),
            _ if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '\'' => {
                tokens.push(Token::Text);
                length_of_quoted(rest, '\'')
            }
            '"' => {
                tokens.push(Token::Quoted);
                length_of_quoted(rest, '"')
            }
            '{' if has_holes && !rest.starts_with("{{") => {
                let is_end_of_name = text[..text.len() - rest.len()].ends_with(is_of_word);
                match tokens.last_mut() {
                    Some(Token::Word(name)) if is_end_of_name => name.push_str("{}"),
                    _ => tokens.push(Token::Hole),
                }
                rest.find('}').map_or(rest.len(), |end| end + 1)
            }
            // What CREATE EXTENSION fills in.
            '@' if rest.starts_with(EXTENSION_SCHEMA) => {
                tokens.push(Token::Hole);
                EXTENSION_SCHEMA.len()
            }
            '{' | '}' => 1,
            '$' => read_dollar(rest, &mut tokens),
            _ if first.is_ascii_digit() => {
                tokens.push(Token::Number);
                length_while(rest, |letter| letter.is_ascii_alphanumeric() || letter == '.')
            }
            _ if is_of_word(first) => {
                let length = length_while(rest, is_of_word);
                // A text with escapes, bits and the like.
                if rest[length..].starts_with('\'') && length == 1 && "eEbBxXnN".contains(first) {
                    tokens.push(Token::Text);
                    length + length_of_quoted(&rest[length..], '\'')
                } else {
                    tokens.push(Token::Word(rest[..length].to_owned()));
                    length
                }
            }
            _ if OPERATORS.contains(first) => {
                let length = length_while(rest, |letter| OPERATORS.contains(letter));
                tokens.push(Token::Operator(rest[..length].to_owned()));
                length
            }
            _ => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => {
                    // Assignments of plpgsql.
                    if *sign == ":" && rest.starts_with(":=") {
                        tokens.push(Token::Operator(":=".to_owned()));
                        2
                    } else {
                        tokens.push(Token::Sign(sign));
                        sign.len()
                    }
                }
                None => first.len_utf8(),
            },
        };
        rest = &rest[length..];
    }
    tokens
}

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn length_while(text: &str, is_part: impl Fn(char) -> bool) -> usize {
    text.find(|letter| !is_part(letter)).unwrap_or(text.len())
}

fn length_of_quoted(text: &str, quote: char) -> usize {
    let mut from = 1;
    while let Some(end) = text[from..].find(quote) {
        from += end + 1;
        if !text[from..].starts_with(quote) {
            return from;
        }
        from += 1;
    }
    text.len()
}

fn read_dollar(text: &str, tokens: &mut Vec<Token>) -> usize {
    let digits = length_while(&text[1..], |letter| letter.is_ascii_digit());
    if digits > 0 {
        tokens.push(Token::Parameter);
        return 1 + digits;
    }
    let tag_length = 1 + length_while(&text[1..], is_of_word) + 1;
    let Some(tag) = text.get(..tag_length).filter(|tag| tag.ends_with('$')) else { return 1 };
    let body = &text[tag_length..];
    let end = body.find(tag).unwrap_or(body.len());
    tokens.push(Token::Body(body[..end].to_owned()));
    (tag_length + end + tag_length).min(text.len())
}
