//! The stretches in which a long text is worked through, so that memory and the time until a cancel
//! request is heard stay bounded.
//!
//! Plain text is cut anywhere: chunks near the end of a stretch are thrown away and made again in
//! the next one, which begins where the first of them did, so that the chunks are those of the
//! whole text. Markdown means something only from the beginning of a block, so it is cut for good,
//! before a heading where there is one.

/// The least bytes of a stretch.
const LEAST_STRETCH: usize = 16 << 10;
/// The most bytes of a stretch, and so of a chunk: what hostile text keeps a processor busy with for a
/// quarter of a second.
const LARGEST_STRETCH: usize = 256 << 10;
/// How far a cut goes back for white space.
const LONGEST_WORD: usize = 4 << 10;

/// The bytes of a stretch for chunks of `room` tokens, a dozen chunks of ordinary text. Longer ones
/// save little of the chunks that are made twice, and cost much where text-splitter looks for the
/// words of a script without spaces, to the end of the stretch for each chunk.
pub fn stretch_bytes(room: usize) -> usize {
    (room * 64).clamp(LEAST_STRETCH, LARGEST_STRETCH)
}

/// The same for Markdown.
pub fn markdown_stretch_bytes(room: usize) -> usize {
    (4 * stretch_bytes(room)).min(LARGEST_STRETCH)
}

/// The end of the stretch of plain text that begins at `start` and has at most `bytes`.
pub fn plain_end(text: &str, start: usize, bytes: usize) -> usize {
    let end = text.floor_char_boundary(start.saturating_add(bytes));
    if end == text.len() {
        return end;
    }
    let back = text.ceil_char_boundary(end.saturating_sub(LONGEST_WORD).max(start + 1));
    text[back..end].rfind(char::is_whitespace).map_or(end, |place| back + place)
}

/// Where a stretch of Markdown may end, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cut {
    /// Before a heading, by its level.
    Heading(usize),
    /// Before a block that follows an empty line.
    Block,
    /// Before a line.
    Line,
    /// Before a line of a code block.
    Code,
}

/// A code block between lines of `` ` `` or `~`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    mark: char,
    length: usize,
}

/// The end of the stretch of Markdown that begins at `start` and has at most `bytes`, and the code
/// block that is open there. `fence` is the one open at `start`.
pub fn markdown_end(text: &str, start: usize, bytes: usize, fence: Option<Fence>) -> (usize, Option<Fence>) {
    let limit = start.saturating_add(bytes);
    if limit >= text.len() {
        return (text.len(), None);
    }
    let mut best: Option<(Cut, usize, Option<Fence>)> = None;
    let (mut place, mut open, mut follows_empty_line) = (start, fence, false);
    for line in text[start..].split_inclusive('\n') {
        // Stretches of half the size at least.
        if place > start + bytes / 2 {
            let cut = match (open, heading_level(line)) {
                (None, Some(level)) => Cut::Heading(level),
                (None, None) if follows_empty_line && !line.starts_with([' ', '\t', '\n', '\r']) => {
                    Cut::Block
                }
                (None, None) => Cut::Line,
                (Some(_), _) => Cut::Code,
            };
            if best.is_none_or(|(found, ..)| cut <= found) {
                best = Some((cut, place, open));
            }
        }
        if place + line.len() > limit {
            break;
        }
        open = fence_after(line, open);
        follows_empty_line = line.trim().is_empty();
        place += line.len();
    }
    match best {
        Some((_, place, open)) => (place, open),
        None => (plain_end(text, start, bytes), open),
    }
}

/// The code block that is open after a line, if `open` was before it.
fn fence_after(line: &str, open: Option<Fence>) -> Option<Fence> {
    let content = line.trim_start_matches(' ');
    if line.len() - content.len() > 3 {
        return open;
    }
    let Some(mark) = content.chars().next().filter(|mark| ['`', '~'].contains(mark)) else {
        return open;
    };
    let rest = content.trim_start_matches(mark);
    let length = content.len() - rest.len();
    match open {
        Some(fence) if mark == fence.mark && length >= fence.length && rest.trim().is_empty() => None,
        Some(fence) => Some(fence),
        // Behind back quotes on the same line they are code inside of a paragraph.
        None if length >= 3 && !(mark == '`' && rest.contains('`')) => Some(Fence { mark, length }),
        None => None,
    }
}

/// The level of a heading that begins with `#`.
fn heading_level(line: &str) -> Option<usize> {
    let rest = line.trim_start_matches('#');
    let level = line.len() - rest.len();
    ((1..=6).contains(&level) && rest.starts_with([' ', '\t', '\n', '\r'])).then_some(level)
}

/// Where the text goes on at or after `start`: behind white space, but for Markdown not behind the
/// indentation of a line.
pub fn next_content(text: &str, start: usize, keeps_indentation: bool) -> usize {
    let rest = &text[start..];
    let blank = rest.len() - rest.trim_start().len();
    if !keeps_indentation || blank == rest.len() {
        return start + blank;
    }
    let line = rest[..blank].rfind(['\n', '\r']).map_or(0, |place| place + 1);
    start + line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_cut_at_white_space() {
        assert_eq!(plain_end("one two three", 0, 9), 7);
        assert_eq!(plain_end("one two", 0, 9), 7);
        assert_eq!(plain_end("東京都", 0, 4), 3);
    }

    #[test]
    fn markdown_is_cut_before_the_highest_heading() {
        let filler = "text\n".repeat(20);
        let text = format!("{filler}## Two\n{filler}# One\n\ntext\n## Two again\n{filler}{filler}");
        let (end, open) = markdown_end(&text, 0, 260, None);
        assert_eq!((text[end..].lines().next(), open), (Some("# One"), None));
    }

    #[test]
    fn a_heading_in_a_code_block_is_none() {
        let text = format!("{}```sh\n# comment\n```\n\nplain\n{}", "text\n".repeat(20), "text\n".repeat(40));
        let (end, open) = markdown_end(&text, 0, 160, None);
        assert_eq!((text[end..].lines().next(), open), (Some("plain"), None));
        let (end, open) = markdown_end(&text, 0, 118, None);
        assert_eq!((text[end..].lines().next(), open), (Some("```sh"), None));
        let code = format!("```sh\n{}", "# comment\n".repeat(20));
        let (end, open) = markdown_end(&code, 0, 100, None);
        assert_eq!((end, open), (96, Some(Fence { mark: '`', length: 3 })));
        assert_eq!(markdown_end(&code, 96, 1000, open), (code.len(), None));
    }

    #[test]
    fn code_blocks_open_and_close() {
        let open = fence_after("  ~~~~ rust\n", None);
        assert_eq!(open, Some(Fence { mark: '~', length: 4 }));
        assert_eq!(fence_after("~~~\n", open), open);
        assert_eq!(fence_after("~~~~ no\n", open), open);
        assert_eq!(fence_after("~~~~~  \n", open), None);
        assert_eq!(fence_after("```a``` b\n", None), None);
        assert_eq!(fence_after("    ```\n", None), None);
    }

    #[test]
    fn indentation_stays_with_its_line() {
        assert_eq!(next_content("a \n\n  b", 1, true), 4);
        assert_eq!(next_content("a \n\n  b", 1, false), 6);
        assert_eq!(next_content("a \n ", 1, true), 4);
    }
}
