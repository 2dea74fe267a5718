//! Texts of users in errors, shortened: a message and a line of the log do not grow with what was typed.

/// What stands for the part that is left out.
const GAP: &str = " … ";

/// A text of at most `most` bytes, the gap aside: of a longer one the first two thirds of them and the last third,
/// since what is wrong is said before and after the text that is repeated.
pub fn shortened(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let head = text.floor_char_boundary(most / 3 * 2);
    let tail = text.ceil_char_boundary(text.len() - most / 3);
    format!("{}{GAP}{}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_middle_goes() {
        assert_eq!(shortened("filter is not valid at a".to_owned(), 400), "filter is not valid at a");
        let long = format!("column \"{}\" does not exist", "x".repeat(1_000_000));
        let short = shortened(long, 60);
        assert_eq!(short, format!("column \"{} … xxxx\" does not exist", "x".repeat(32)));
    }

    proptest! {
        #[test]
        fn any_text_is_shortened(text in "[aé🙂]{0,200}", most in 0usize..150) {
            let short = shortened(text.clone(), most);
            prop_assert!(short.len() <= most + GAP.len());
            prop_assert!(text.len() > most || short == text);
        }
    }
}
