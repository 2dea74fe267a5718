//! How deep JSON nests, found without recursion and before anything that recurses reads it.

/// The most objects and arrays inside of each other, in a text that is JSON. Of any other text, a number.
pub fn json_depth(json: &str) -> usize {
    let (mut depth, mut most) = (0usize, 0);
    let mut is_in_string = false;
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => is_in_string = !is_in_string,
            // What follows is no end of the string, whatever it is.
            b'\\' if is_in_string => {
                bytes.next();
            }
            b'{' | b'[' if !is_in_string => {
                depth += 1;
                most = most.max(depth);
            }
            b'}' | b']' if !is_in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_brackets_outside_of_strings_count() {
        for (json, depth) in [
            ("7", 0),
            ("{}", 1),
            (r#"[[1], {"a": [2]}]"#, 3),
            (r#"{"[[[[": "{{{{"}"#, 1),
            (r#"["\"[[[", "\\", []]"#, 2),
        ] {
            assert_eq!(json_depth(json), depth, "{json}");
        }
        assert_eq!(json_depth(&"[".repeat(1_000_000)), 1_000_000);
    }
}
