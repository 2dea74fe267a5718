//! docs/trust.md lists the tests behind each promise. They say so themselves, by a comment such as `// trust 15` above the
//! test, or `# trust 15` on top of an isolation spec; here the two are compared. `UPDATE_EXPECTED=1` writes the list anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const DOCUMENT: &str = "docs/trust.md";
/// Where the list begins in the document.
const START: &str = "## Tests by number\n";

/// What must hold, by its number; each has a test.
const PROMISES: [(u32, &str); 32] = [
    (1, "rights: every object has the expected ones, and PUBLIC creates nothing"),
    (2, "no function runs with the rights of its owner"),
    (3, "hostile names stay names, or are refused"),
    (4, "strangers, readers of some columns and roles without USAGE learn nothing"),
    (5, "row-level security hides rows and their scores, and as many rows as asked for come back"),
    (6, "a hostile search_path and objects in pg_temp change nothing"),
    (7, "objects that were there before CREATE EXTENSION are not adopted"),
    (8, "a cancel or a timeout ends what runs, and the session goes on"),
    (9, "a terminated session takes no other with it, and a shutdown loses no work"),
    (10, "an embedding process or a worker that is killed takes nothing with it"),
    (11, "a server that crashes at any point has every row embedded or queued afterwards"),
    (12, "many short sessions do no harm"),
    (13, "no threads in the postmaster, nor in a session before it embeds"),
    (14, "memory does not grow with the texts"),
    (15, "writers, deletes, changes of tables and VACUUM at once: no deadlock, no row lost or doubled"),
    (16, "dump and restore, by a superuser and by an ordinary owner: all is equal, nothing doubled"),
    (17, "ALTER EXTENSION UPDATE gives what CREATE EXTENSION gives"),
    (18, "a standby and read-only transactions search, and refuse changes; workers wake after promotion"),
    (19, "applied rows are neither embedded nor audited again, and are when asked"),
    (
        20,
        "quoted schemas, and pgvector in another one; the stage `elsewhere` runs the tests of `cluster` there",
    ),
    (21, "DROP EXTENSION, CREATE EXTENSION again, and tables made without it"),
    (22, "one line of audit for each committed change, which its writer cannot alter"),
    (23, "bad input has its own SQLSTATE and says what to do"),
    (24, "parallel plans change no result"),
    (25, "recall and reference vectors"),
    (26, "no input makes it crash"),
    (27, "no code of others runs with rights that are not its own"),
    (28, "what could grow has a limit that the error names, and everything that runs can be stopped"),
    (29, "nobody crowds others out: workers, statistics and locks are for all"),
    (30, "views are security barriers: no function sees a row that its caller may not"),
    (31, "isolation covers the whole store, and roles are kept by number"),
    (32, "random load of several roles, with changes of tables, cancels and kills, harms nothing"),
];
/// Those that are still to be shown by a test that is marked.
const UNMARKED: [u32; 0] = [];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The files below a folder with one of these endings.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("expected to read {}: {error}", folder.display()));
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(files(&path, endings));
        } else if path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The numbers of a comment such as `// trust 4, 5`.
fn numbers(line: &str, comment: &str) -> Option<Vec<u32>> {
    let list = line.trim().strip_prefix(comment)?.strip_prefix(" trust ")?;
    let numbers = list.split(',').map(|number| number.trim().parse());
    Some(numbers.collect::<Result<_, _>>().unwrap_or_else(|_| panic!("expected numbers in {line:?}")))
}

/// The tests of each number, as file and name.
fn marked() -> BTreeMap<u32, BTreeSet<String>> {
    let mut marked: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for file in files(&root().join("pg_test"), &["rs", "spec"]) {
        let text = fs::read_to_string(&file).expect("a source file is text");
        let shown = file.strip_prefix(root().join("pg_test")).expect("it is below").display().to_string();
        if file.ends_with("trust/main.rs") {
            continue;
        }
        let comment = if shown.ends_with(".spec") { "#" } else { "//" };
        let mut pending = None;
        // A mark stands above a test, or is the first line in it.
        let mut before = "";
        for line in text.lines() {
            let is_first = before.trim().starts_with("fn ");
            let name_line = if is_first && numbers(line, comment).is_some() { before } else { line };
            before = line;
            if let Some(found) = numbers(line, comment) {
                pending = Some(found);
            }
            let name = name_line.trim().strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            let test = match name {
                Some(name) => format!("`{shown}` `{name}`"),
                None if shown.ends_with(".spec") => format!("`{shown}`"),
                None => continue,
            };
            for number in pending.take().unwrap_or_default() {
                marked.entry(number).or_default().insert(test.clone());
            }
        }
        assert!(pending.is_none(), "expected a test below the last mark of {shown}");
    }
    marked
}

/// The list as the document has it.
fn list(marked: &BTreeMap<u32, BTreeSet<String>>) -> String {
    let mut text = START.to_owned();
    for (number, promise) in PROMISES {
        text += &format!("\n### {number}: {promise}\n\n");
        for test in marked.get(&number).into_iter().flatten() {
            text += &format!("- {test}\n");
        }
        if UNMARKED.contains(&number) {
            text += "- the property tests of `make check`\n";
        }
    }
    text
}

#[test]
fn every_promise_lists_its_tests() {
    let marked = marked();
    for (number, promise) in PROMISES {
        let is_shown = marked.contains_key(&number) || UNMARKED.contains(&number);
        assert!(is_shown, "expected a test marked `trust {number}` ({promise})");
    }
    let unknown: Vec<&u32> =
        marked.keys().filter(|number| !PROMISES.iter().any(|(known, _)| known == *number)).collect();
    assert!(unknown.is_empty(), "expected no number without a promise, not {unknown:?}");
    let path = root().join(DOCUMENT);
    let found = fs::read_to_string(&path).expect("the document is there");
    let (before, listed) = found.split_at(found.find(START).expect("the document has the list"));
    let expected = list(&marked);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, format!("{before}{expected}")).expect("the document can be written");
    } else {
        assert!(
            listed == expected,
            "expected {DOCUMENT} to list the marked tests; run again with UPDATE_EXPECTED=1"
        );
    }
}
