//! Questions of 13 tokens with all-MiniLM-L6-v2, the special ones included.

const VERBS: [&str; 16] = [
    "remove", "find", "open", "read", "build", "move", "store", "copy", "install", "update", "merge",
    "split", "test", "sort", "load", "print",
];
const PLACES: [&str; 16] = [
    "package", "program", "project", "system", "server", "library", "document", "folder", "database",
    "table", "module", "device", "driver", "kernel", "service", "account",
];
const KINDS: [&str; 16] = [
    "configuration",
    "data",
    "log",
    "image",
    "music",
    "source",
    "library",
    "mail",
    "video",
    "text",
    "font",
    "cache",
    "build",
    "help",
    "web",
    "temporary",
];

/// The question of a session that comes after so many others. No two of 16 sessions ever ask the
/// same, and one repeats itself after 256, because what several ask at once is computed once.
pub fn question(session: usize, number: usize) -> String {
    let word = |words: &[&'static str; 16], place: usize| words[place % words.len()];
    let (verb, place, kind) = (word(&VERBS, session), word(&PLACES, number), word(&KINDS, number / 16));
    format!("how do I {verb} a {place} together with its {kind} files")
}
