//! Lists in brackets, in SQL as in Rust.

/// What stands between the bracket that a text begins with and the one that closes it.
pub fn balanced(text: &str) -> &str {
    let mut depth = 0;
    for (place, letter) in outside_of_quotes(text) {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth -= 1;
                if depth == 0 {
                    return &text[1..place];
                }
            }
            _ => {}
        }
    }
    panic!("expected a closing bracket in {text}")
}

/// The parts of a list between its commas, without white space around them.
pub fn split(list: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (place, letter) in outside_of_quotes(list) {
        match letter {
            '(' | '[' | '{' | '<' => depth += 1,
            // Neither `->` nor `=>` closes anything.
            '>' if list[..place].ends_with(['-', '=']) => {}
            ')' | ']' | '}' | '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&list[start..place]);
                start = place + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[start..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// The letters that are not in single quotes. What opens a lifetime is none: nothing closes it in its part.
fn outside_of_quotes(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut end = 0;
    text.char_indices().filter(move |(place, letter)| {
        if *letter == '\'' && *place >= end {
            let closes = text[place + 1..].find(['\'', '\n', '>']).map(|length| place + 1 + length);
            if let Some(closing) = closes.filter(|closing| text[*closing..].starts_with('\'')) {
                end = closing + 1;
            }
        }
        *place >= end
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_taken_apart() {
        assert_eq!(balanced("(a, (b), ')') c)"), "a, (b), ')'");
        assert_eq!(split("a, f(b, c), 'd, e',"), ["a", "f(b, c)", "'d, e'"]);
        let fields = "a: Option<Array<'call, &'call str>>, b: Fn(i32) -> T, c => d";
        assert_eq!(split(fields), ["a: Option<Array<'call, &'call str>>", "b: Fn(i32) -> T", "c => d"]);
    }
}
