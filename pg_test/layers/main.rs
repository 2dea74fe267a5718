//! Each folder imports what its table in CONTRIBUTING.md lets it import, and nothing else; unsafe code is where that page
//! says.

#[path = "../sql_text/rust_source.rs"]
mod rust_source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const CORE: &str = "crates/core/src";
const SERVER: &str = "src";
/// Outside of the server's side.
const UNSAFE: [&str; 2] = ["crates/core/src/model/concurrent_run.rs", "crates/embedder/src/process.rs"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Every file below a folder with its code, without comments and literals.
fn sources(folder: &str) -> Vec<(String, String)> {
    let (mut found, mut open) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = open.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push((shown(&path), rust_source::read(&text_of(&path)).code));
            }
        }
    }
    assert!(!found.is_empty(), "expected files in {folder}");
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).expect("it is below").display().to_string()
}

fn text_of(path: &PathBuf) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What each folder below `root` may import, by the tables: only what stands above it, so that there is no circle.
fn allowed(root: &str) -> BTreeMap<String, BTreeSet<String>> {
    let page = text_of(&self::root().join("CONTRIBUTING.md"));
    let heading = format!("### In `{root}`\n");
    let table = page.split(&heading).nth(1).unwrap_or_else(|| panic!("expected the section {heading}"));
    let mut allowed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in table.lines().take_while(|line| !line.starts_with('#')) {
        let cells: Vec<&str> = line.split('|').collect();
        let [_, folders, _, imports, _] = cells[..] else { continue };
        let imports: BTreeSet<String> = quoted(imports).into_iter().collect();
        let below: Vec<&String> = imports.iter().filter(|name| !allowed.contains_key(*name)).collect();
        assert!(below.is_empty(), "{folders}: {below:?} do not stand above it");
        for folder in quoted(folders) {
            let own = BTreeSet::from([folder.clone()]);
            allowed.insert(folder, &imports | &own);
        }
    }
    assert!(allowed.len() > 5, "expected a table of the folders of {root}");
    allowed
}

/// The first names of the paths that begin with `crate::`, those of groups included.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let name = |text: &str| -> String {
            text.trim_start()
                .chars()
                .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
                .collect()
        };
        match rest.strip_prefix('{') {
            None => found.extend([name(rest)]),
            Some(group) => found.extend(group.split('}').next().unwrap_or_default().split(',').map(name)),
        }
    }
    found.remove("");
    found
}

/// What a file below `root` imports that its folder may not.
fn problems(root: &str, file: &str, code: &str, allowed: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let place = file.strip_prefix(root).unwrap_or(file).trim_start_matches('/');
    let folder = place.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    if folder == "lib" {
        return vec![];
    }
    let Some(may) = allowed.get(folder) else {
        return vec![format!("{file}: {folder} is not in the table of CONTRIBUTING.md")];
    };
    let bad = imports(code).into_iter().filter(|name| !may.contains(name));
    bad.map(|name| format!("{file}: {folder} may not import {name}")).collect()
}

#[test]
fn folders_import_what_the_tables_let_them() {
    for root in [CORE, SERVER] {
        let allowed = allowed(root);
        let bad: Vec<String> =
            sources(root).iter().flat_map(|(file, code)| problems(root, file, code, &allowed)).collect();
        assert!(bad.is_empty(), "expected the layers of CONTRIBUTING.md:\n{}", bad.join("\n"));
    }
}

#[test]
fn an_import_from_above_is_found() {
    let allowed = allowed(CORE);
    let of = |code| problems(CORE, "crates/core/src/model/a.rs", code, &allowed);
    assert_eq!(of("use crate::error::Error; use crate::sql::Identifier;"), Vec::<String>::new());
    assert_eq!(
        of("use crate::{error::Error, search::Filter};"),
        ["crates/core/src/model/a.rs: model may not import search"]
    );
    assert_eq!(
        of("fn f() { crate::pipeline::f() }"),
        ["crates/core/src/model/a.rs: model may not import pipeline"]
    );
}

/// A feature has one name, in the pure part, on the server's side and in the install script.
#[test]
fn features_have_one_name() {
    let of = |root| allowed(root).into_keys().collect::<BTreeSet<String>>();
    let features: Vec<String> = of(CORE).intersection(&of(SERVER)).cloned().collect();
    let expected =
        ["access", "audit", "chunking", "embed", "memories", "model", "pipeline", "search", "store"];
    assert_eq!(features, expected);
    let listed = text_of(&root().join("sql/install.list"));
    let mut scripts: Vec<&str> = listed.lines().filter_map(|name| name.strip_suffix(".sql")).collect();
    scripts.retain(|name| !["schema", "bundled_models"].contains(name));
    scripts.sort_unstable();
    assert_eq!(scripts, expected);
}

#[test]
fn unsafe_code_is_on_the_servers_side() {
    let has_unsafe =
        |code: &str| code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl");
    let files = [CORE, "crates/embedder/src"].into_iter().flat_map(sources);
    let bad: Vec<String> = files
        .filter(|(file, code)| has_unsafe(code) && !UNSAFE.contains(&file.as_str()))
        .map(|(file, _)| file)
        .collect();
    assert_eq!(bad, Vec::<String>::new(), "expected no unsafe code there");
}
