//! Which names a model may have, and which registered name a misspelt one is nearest to.

use crate::error::{Error, Result};
use crate::sql::identifier::MAX_IDENTIFIER_BYTES;

/// Checks that `name` can name a model: 1 to 63 letters, digits, `.`, `_`, `-`, `/` or `:`,
/// beginning with a letter or digit.
///
/// # Errors
/// [`Error::InvalidModelName`] (42602).
pub fn check_model_name(name: &str) -> Result<()> {
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let known = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    if begins_well && name.len() <= MAX_IDENTIFIER_BYTES && name.chars().all(known) {
        Ok(())
    } else {
        Err(Error::InvalidModelName { name: name.to_owned() })
    }
}

/// The registered name that looks most like `name` (Jaro-Winkler similarity of at least 0.7).
pub fn nearest_name<'a>(name: &str, registered: impl IntoIterator<Item = &'a str>) -> Option<String> {
    registered
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_published_models_are_valid() {
        for name in ["all-MiniLM-L6-v2", "BAAI/bge-small-en-v1.5", "nomic-embed-text:v1.5"] {
            assert_eq!(check_model_name(name), Ok(()));
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        for name in ["", "-x", "a b", "a';--", "../x", "ü", &"x".repeat(64)] {
            assert!(check_model_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        let registered = ["all-MiniLM-L6-v2", "bge-small"];
        assert_eq!(nearest_name("all-minilm-l6", registered), Some("all-MiniLM-L6-v2".to_owned()));
        assert_eq!(nearest_name("zzz", registered), None);
    }
}
