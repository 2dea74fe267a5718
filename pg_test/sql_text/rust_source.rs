//! The string literals of a Rust source file, without those of its tests and comments.

/// A literal as the compiler reads it.
#[derive(Debug, PartialEq, Eq)]
pub struct Literal {
    /// The line it begins in, from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
}

/// What a file has beside its tests: its literals, and its code without comments and literals.
pub struct Source {
    /// The literals, in their order.
    pub literals: Vec<Literal>,
    /// The code, with the lines where they were.
    pub code: String,
}

/// Reads a file.
pub fn read(text: &str) -> Source {
    let mut reader =
        Reader { rest: text.char_indices().collect(), at: 0, line: 1, literals: vec![], code: String::new() };
    reader.read();
    without_tests(reader.literals, &reader.code)
}

struct Reader {
    rest: Vec<(usize, char)>,
    at: usize,
    line: usize,
    literals: Vec<Literal>,
    code: String,
}

impl Reader {
    fn peek(&self, ahead: usize) -> char {
        self.rest.get(self.at + ahead).map_or('\0', |(_, letter)| *letter)
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.rest.get(self.at)?.1;
        self.at += 1;
        if letter == '\n' {
            self.line += 1;
            self.code.push('\n');
        }
        Some(letter)
    }

    fn read(&mut self) {
        while self.at < self.rest.len() {
            let is_in_word = self.code.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
            match (self.peek(0), self.peek(1)) {
                ('/', '/') => {
                    while self.at < self.rest.len() && self.peek(0) != '\n' {
                        self.next();
                    }
                }
                ('/', '*') => self.skip_comment(),
                ('"', _) => self.read_text(),
                ('r', '"' | '#') if !is_in_word => self.read_raw_or_word(1),
                ('b' | 'c', 'r') if !is_in_word && matches!(self.peek(2), '"' | '#') => {
                    self.read_raw_or_word(2)
                }
                ('\'', '\\') => {
                    self.at += 2;
                    self.next();
                    while self.next().is_some_and(|letter| letter != '\'') {}
                }
                // A letter in quotes; anything else is a lifetime.
                ('\'', _) if self.peek(2) == '\'' => {
                    self.at += 1;
                    self.next();
                    self.at += 1;
                }
                (letter, _) => {
                    self.next();
                    if letter != '\n' {
                        self.code.push(letter);
                    }
                }
            }
        }
    }

    fn skip_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => {
                    depth += 1;
                    self.at += 2;
                }
                ('*', '/') => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                _ => {
                    if self.next().is_none() {
                        return;
                    }
                }
            }
        }
    }

    fn read_text(&mut self) {
        let line = self.line;
        let mut text = String::new();
        self.at += 1;
        while let Some(letter) = self.next() {
            match letter {
                '"' => break,
                '\\' => match self.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('\n') => {
                        while self.peek(0).is_whitespace() {
                            self.next();
                        }
                    }
                    Some(escaped) => text.push(escaped),
                    None => break,
                },
                letter => text.push(letter),
            }
        }
        self.add(line, text);
    }

    /// A raw literal after a prefix of some letters; a raw identifier stays code.
    fn read_raw_or_word(&mut self, prefix: usize) {
        let hashes = self.rest[self.at + prefix..].iter().take_while(|(_, letter)| *letter == '#').count();
        if self.peek(prefix + hashes) != '"' {
            self.next();
            self.code.push('r');
            return;
        }
        let line = self.line;
        self.at += prefix + hashes + 1;
        let mut text = String::new();
        while self.at < self.rest.len() {
            let closes = self.peek(0) == '"' && (1..=hashes).all(|place| self.peek(place) == '#');
            if closes {
                self.at += 1 + hashes;
                break;
            }
            text.extend(self.next());
        }
        self.add(line, text);
    }

    fn add(&mut self, line: usize, text: String) {
        self.code.push_str("\"\"");
        self.literals.push(Literal { line, text });
    }
}

/// Leaves out what is compiled for tests only.
fn without_tests(mut literals: Vec<Literal>, code: &str) -> Source {
    let mut kept = String::new();
    let mut rest = code;
    let mark = "#[cfg(test)]";
    let other = "#[cfg(any(test, feature = \"\"))]";
    while let Some(start) = [mark, other].iter().filter_map(|mark| rest.find(mark)).min() {
        let (before, marked) = rest.split_at(start);
        kept.push_str(before);
        let end = end_of_item(marked);
        let from = kept.matches('\n').count() + 1;
        let to = from + marked[..end].matches('\n').count();
        literals.retain(|literal| literal.line < from || literal.line > to);
        kept.extend(std::iter::repeat_n('\n', to - from));
        rest = &marked[end..];
    }
    kept.push_str(rest);
    Source { literals, code: kept }
}

/// Where an item ends: at its semicolon, or at the brace that closes it.
fn end_of_item(code: &str) -> usize {
    let mut depth = 0;
    for (place, letter) in code.char_indices() {
        match letter {
            ';' if depth == 0 => return place + 1,
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return place + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        read(source).literals.into_iter().map(|literal| literal.text).collect()
    }

    #[test]
    fn literals_are_read_as_the_compiler_reads_them() {
        let source = r##"let a = "one \"two\" \
            three"; // "comment"
            /* "another /* inner */" */ let b = r#"raw "x" y"#; let c = 'a'; let d = '"'; let e = '\''; let f: &'static str = c"four";"##;
        assert_eq!(texts(source), ["one \"two\" three", "raw \"x\" y", "four"]);
    }

    #[test]
    fn lines_are_counted_and_tests_left_out() {
        let source = "\"a\"\n#[cfg(test)]\nmod tests {\n \"b\" }\nfn f() { \"c \\\n d\"; \"e\" }";
        let found: Vec<(usize, String)> =
            read(source).literals.into_iter().map(|literal| (literal.line, literal.text)).collect();
        assert_eq!(found, [(1, "a".to_owned()), (5, "c d".to_owned()), (6, "e".to_owned())]);
    }

    #[test]
    fn code_has_neither_comments_nor_literals() {
        let code = read("call(\"SetUserId\"); // SetUserId\nother()").code;
        assert_eq!(code, "call(\"\"); \nother()");
    }
}
