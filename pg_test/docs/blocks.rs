//! The fenced blocks of a Markdown file.

/// What is done with a block of SQL.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// `sql`: must succeed.
    Plain,
    /// `sql demo`: must succeed where the demo has loaded its data.
    Demo,
    /// `sql error`: must fail.
    Error,
}

/// A block of SQL, and the output that the file shows for it.
#[derive(Debug, PartialEq)]
pub struct Block {
    /// What is done with it.
    pub kind: Kind,
    /// The line of its first fence, from 1.
    pub line: usize,
    /// The SQL.
    pub sql: String,
    /// The output, when a `text` block directly follows.
    pub output: Option<Output>,
}

/// A block of output.
#[derive(Debug, PartialEq)]
pub struct Output {
    /// The index of its first line, and of its closing fence.
    pub lines: std::ops::Range<usize>,
    /// What stands before each line, in a list for instance.
    pub indent: String,
    /// The text.
    pub text: String,
}

struct Fence {
    info: String,
    indent: String,
    /// The index of the opening fence, and of the closing one.
    open: usize,
    close: usize,
}

/// The blocks of SQL of a file.
///
/// # Errors
/// A sentence with the line of a fence that is not closed, or an info string that is not known.
pub fn sql_blocks(markdown: &str) -> Result<Vec<Block>, String> {
    let lines: Vec<&str> = markdown.lines().collect();
    let fences = fences(&lines)?;
    let mut blocks = Vec::new();
    for (index, fence) in fences.iter().enumerate() {
        let kind = match fence.info.as_str() {
            "sql" => Kind::Plain,
            "sql demo" => Kind::Demo,
            "sql error" => Kind::Error,
            info if info.starts_with("sql") => {
                return Err(format!(
                    "line {}: expected sql, sql demo or sql error, not {info}",
                    fence.open + 1
                ));
            }
            _ => continue,
        };
        let follows = |next: &&Fence| {
            next.info == "text" && lines[fence.close + 1..next.open].iter().all(|line| line.trim().is_empty())
        };
        let output = fences.get(index + 1).filter(follows).map(|next| Output {
            lines: next.open + 1..next.close,
            indent: next.indent.clone(),
            text: content(&lines, next),
        });
        blocks.push(Block { kind, line: fence.open + 1, sql: content(&lines, fence), output });
    }
    Ok(blocks)
}

/// The file with other outputs: pairs of what is in the file now and the new text.
pub fn with_outputs(markdown: &str, outputs: &[(&Output, String)]) -> String {
    let mut lines: Vec<String> = markdown.lines().map(str::to_owned).collect();
    for (output, text) in outputs.iter().rev() {
        let new = text.lines().map(|line| format!("{}{line}", output.indent).trim_end().to_owned());
        lines.splice(output.lines.clone(), new.collect::<Vec<_>>());
    }
    lines.join("\n") + "\n"
}

fn fences(lines: &[&str]) -> Result<Vec<Fence>, String> {
    let mut fences = Vec::new();
    let mut open: Option<Fence> = None;
    let mut ticks = 0;
    for (index, line) in lines.iter().enumerate() {
        let text = line.trim_start();
        let count = text.bytes().take_while(|byte| *byte == b'`').count();
        match open.as_mut() {
            None if count >= 3 => {
                ticks = count;
                open = Some(Fence {
                    info: text[count..].trim().to_owned(),
                    indent: line[..line.len() - text.len()].to_owned(),
                    open: index,
                    close: index,
                });
            }
            Some(fence) if count >= ticks && text[count..].trim().is_empty() => {
                fence.close = index;
                fences.extend(open.take());
            }
            _ => {}
        }
    }
    match open {
        Some(fence) => Err(format!("line {}: expected an end to this block", fence.open + 1)),
        None => Ok(fences),
    }
}

fn content(lines: &[&str], fence: &Fence) -> String {
    let inside = &lines[fence.open + 1..fence.close];
    let text: Vec<&str> = inside
        .iter()
        .map(|line| line.strip_prefix(fence.indent.as_str()).unwrap_or(line.trim_start()))
        .collect();
    text.join("\n")
}
