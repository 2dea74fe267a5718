//! The parts of a query as a person types it: words, and conditions in the syntax of web search
//! engines.
//!
//! The words of a natural question are alternatives: each that a row has lifts it. What is written
//! on purpose is a condition that every row must meet: a `"quoted phrase"`, the absence of a
//! `-word` or `-"phrase"`, and one of `these OR those`. `OR` is an operator only in capitals, since
//! "or" is an ordinary word of questions.

use crate::error::{Error, Result};

/// The most bytes of a query of which words are searched. PostgreSQL keeps no more words of a text.
pub const MOST_QUERY_BYTES: usize = 1_000_000;

/// The most phrases, alternatives and excluded words of a query, together.
pub const MOST_CONDITIONS: usize = 1000;

/// The most bytes of them, together.
pub const MOST_CONDITION_BYTES: usize = 100_000;

/// A query, taken apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueryText {
    /// Everything asked for, without operators: what is embedded and what scores.
    pub wanted: String,
    /// Conditions, each a list of phrases or words of which a row must have at least one.
    pub required: Vec<Vec<String>>,
    /// Phrases and words that a row must not have.
    pub excluded: Vec<String>,
}

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Phrase(String),
    Excluded(String),
    Or,
}

impl QueryText {
    /// Takes a query apart. No sign is an error: one that stands for no operator is text.
    ///
    /// # Errors
    /// [`Error::QueryTooLarge`] (54000) beyond [`MOST_QUERY_BYTES`], [`MOST_CONDITIONS`] or
    /// [`MOST_CONDITION_BYTES`].
    pub fn parse(query: &str) -> Result<QueryText> {
        check(query.len(), MOST_QUERY_BYTES, "bytes")?;
        let parsed = QueryText::take_apart(query);
        let conditions = || parsed.required.iter().flatten().chain(&parsed.excluded);
        check(conditions().count(), MOST_CONDITIONS, "phrases, alternatives and excluded words")?;
        let bytes = conditions().map(String::len).sum();
        check(bytes, MOST_CONDITION_BYTES, "bytes in phrases, alternatives and excluded words")?;
        Ok(parsed)
    }

    fn take_apart(query: &str) -> QueryText {
        let mut parsed = QueryText::default();
        let mut tokens = tokens(query).into_iter().peekable();
        // The operand before an OR, and whether it began a list of alternatives already.
        let mut alternatives: Vec<String> = Vec::new();
        let mut joined = false;
        while let Some(token) = tokens.next() {
            match token {
                Token::Excluded(text) => parsed.excluded.push(text),
                Token::Or => continue,
                Token::Word(ref text) | Token::Phrase(ref text) => {
                    if !parsed.wanted.is_empty() {
                        parsed.wanted.push(' ');
                    }
                    parsed.wanted.push_str(text);
                    let is_phrase = matches!(token, Token::Phrase(_));
                    let (Token::Word(text) | Token::Phrase(text)) = token else { continue };
                    alternatives.push(text);
                    let continues = tokens.peek() == Some(&Token::Or);
                    if continues {
                        joined = true;
                        continue;
                    }
                    if joined || is_phrase {
                        parsed.required.push(std::mem::take(&mut alternatives));
                    }
                    alternatives.clear();
                    joined = false;
                }
            }
        }
        // An OR with nothing after it.
        if joined && alternatives.len() > 1 {
            parsed.required.push(alternatives);
        }
        parsed
    }
}

fn check(found: usize, most: usize, unit: &'static str) -> Result<()> {
    if found <= most { Ok(()) } else { Err(Error::QueryTooLarge { found, most, unit }) }
}

fn tokens(query: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = query.trim_start();
    while !rest.is_empty() {
        let (excluded, body) = match rest.strip_prefix('-') {
            Some(body) if body.starts_with(|next: char| next == '"' || next.is_alphanumeric()) => {
                (true, body)
            }
            _ => (false, rest),
        };
        let quoted = body.strip_prefix('"').and_then(|inner| inner.split_once('"'));
        let (text, after, is_phrase) = match quoted {
            Some((phrase, after)) => (phrase, after, true),
            None => {
                // A lone quote or hyphen belongs to the word.
                let start = body.chars().next().map_or(0, char::len_utf8);
                let end = body[start..]
                    .find(|next: char| next.is_whitespace() || next == '"')
                    .map_or(body.len(), |end| start + end);
                (&body[..end], &body[end..], false)
            }
        };
        match (excluded, is_phrase) {
            _ if text.trim().is_empty() => {}
            (true, _) => tokens.push(Token::Excluded(text.to_owned())),
            (false, true) => tokens.push(Token::Phrase(text.to_owned())),
            (false, false) if text == "OR" => tokens.push(Token::Or),
            (false, false) => tokens.push(Token::Word(text.to_owned())),
        }
        rest = after.trim_start();
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(query: &str) -> (String, Vec<Vec<String>>, Vec<String>) {
        let QueryText { wanted, required, excluded } = QueryText::parse(query).expect("small");
        (wanted, required, excluded)
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn words_of_a_question_are_no_conditions() {
        assert_eq!(
            parsed("is it hot or cold in state-of-the-art labs - really?"),
            ("is it hot or cold in state-of-the-art labs - really?".to_owned(), vec![], vec![])
        );
    }

    #[test]
    fn phrases_and_excluded_words_are_conditions() {
        let (wanted, required, excluded) = parsed(r#"learn "machine learning" -python -"deep nets""#);
        assert_eq!(wanted, "learn machine learning");
        assert_eq!(required, [texts(&["machine learning"])]);
        assert_eq!(excluded, ["python", "deep nets"]);
    }

    #[test]
    fn or_joins_its_neighbours() {
        let (wanted, required, _) = parsed(r#"food for cats OR dogs OR "guinea pigs" cheap"#);
        assert_eq!(wanted, "food for cats dogs guinea pigs cheap");
        assert_eq!(required, [texts(&["cats", "dogs", "guinea pigs"])]);
        assert_eq!(parsed("OR cats OR").1, Vec::<Vec<String>>::new());
        assert_eq!(parsed("cats OR dogs OR").1, [texts(&["cats", "dogs"])]);
    }

    #[test]
    fn lone_signs_are_text() {
        assert_eq!(parsed("\"never closed").1, Vec::<Vec<String>>::new());
        assert_eq!(parsed("-").2, Vec::<String>::new());
        assert_eq!(parsed("\"\" \"  \" - -- \"").2, Vec::<String>::new());
    }

    /// The SQLSTATE and the limit of a query that is refused.
    fn refused(query: &str) -> (&'static str, usize) {
        match QueryText::parse(query).expect_err("too large") {
            error @ Error::QueryTooLarge { most, .. } => (error.facts().sqlstate, most),
            other => panic!("expected another error than {other}"),
        }
    }

    #[test]
    fn the_parts_of_a_query_are_counted() {
        for part in ["\"a b\" ", "-a ", "-\"a b\" ", "a OR "] {
            let allowed = QueryText::parse(&part.repeat(MOST_CONDITIONS)).expect("at the limit");
            assert_eq!(allowed.required.iter().flatten().chain(&allowed.excluded).count(), MOST_CONDITIONS);
            assert_eq!(refused(&part.repeat(MOST_CONDITIONS + 1)), ("54000", MOST_CONDITIONS));
            assert_eq!(refused(&part.repeat(MOST_CONDITIONS + 1_000_000)), ("54000", MOST_QUERY_BYTES));
        }
        assert!(QueryText::parse(&"a ".repeat(MOST_QUERY_BYTES / 2)).is_ok(), "expected words to be free");
    }

    #[test]
    fn the_bytes_of_a_query_are_counted() {
        let phrase = |bytes: usize| format!("\"{}\"", "é ".repeat(bytes / 3 + 1).split_at(bytes).0);
        assert!(QueryText::parse(&phrase(MOST_CONDITION_BYTES - 1)).is_ok());
        assert_eq!(refused(&phrase(MOST_CONDITION_BYTES + 2)), ("54000", MOST_CONDITION_BYTES));
        assert!(QueryText::parse(&"x".repeat(MOST_QUERY_BYTES)).is_ok());
        for more in [1, 1_000_000] {
            assert_eq!(refused(&"x".repeat(MOST_QUERY_BYTES + more)), ("54000", MOST_QUERY_BYTES));
        }
    }

    proptest! {
        #[test]
        fn anything_can_be_taken_apart(query in "[-\" OROa-zé🙂\\s]{0,40}") {
            let parsed = QueryText::parse(&query).expect("small");
            prop_assert!(parsed.wanted.len() <= query.len() + 1);
            prop_assert!(parsed.required.iter().all(|phrases| !phrases.is_empty()));
        }
    }
}
