//! Filling the templates of sql/templates.

/// Replaces every placeholder in one pass, so that a value that looks like a placeholder stays.
pub fn fill_template(template: &str, replacements: &[(&str, String)]) -> String {
    let mut filled = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        filled.push_str(&rest[..start]);
        rest = &rest[start..];
        match replacements.iter().find(|(placeholder, _)| rest.starts_with(placeholder)) {
            Some((placeholder, value)) => {
                filled.push_str(value);
                rest = &rest[placeholder.len()..];
            }
            None => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_look_like_placeholders_stay() {
        let replacements = [("{a}", "{b}".to_owned()), ("{b}", "two".to_owned())];
        assert_eq!(fill_template("{a} {b} {c} '{}' {", &replacements), "{b} two {c} '{}' {");
    }
}
