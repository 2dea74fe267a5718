//! ALTER EXTENSION UPDATE from every release gives what CREATE EXTENSION gives (17).

use std::fs;
use std::path::{Path, PathBuf};

use crate::database::Database;
use crate::models::Folder;
use crate::report::skipped;
use crate::schema::{differences, lines};
use crate::server::root;
use crate::session::Session;

/// The version of a release that never was.
const FAKE: &str = "0.0.1";

/// A folder from which a session takes the extension's scripts.
struct Scripts {
    folder: Folder,
    /// The version that CREATE EXTENSION gives.
    version: String,
    /// Its install script.
    current: String,
}

impl Scripts {
    fn new(session: &mut Session) -> Scripts {
        let share = session.text("SELECT setting FROM pg_config WHERE name = 'SHAREDIR'");
        let installed = Path::new(&share).join("extension");
        let control = read(&installed.join("vector_tools.control"));
        let version = control.split("default_version = '").nth(1).and_then(|rest| rest.split('\'').next());
        let version = version.expect("the control file names a version").to_owned();
        let current = read(&installed.join(format!("vector_tools--{version}.sql")));
        let scripts = Scripts { folder: Folder::new(), version, current };
        fs::create_dir(scripts.path()).expect("a new folder");
        scripts.write("vector_tools.control", &control);
        scripts.write(&format!("vector_tools--{}.sql", scripts.version), &scripts.current);
        session.run(&format!("SET extension_control_path = '{}:$system'", scripts.folder.path().display()));
        scripts
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("extension")
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path().join(name), content).expect("a file in a new folder");
    }

    /// The schema after CREATE EXTENSION.
    fn fresh(&self, session: &mut Session) -> Vec<String> {
        session.run("BEGIN; CREATE EXTENSION vector_tools");
        let fresh = lines(session);
        session.run("ROLLBACK");
        assert!(fresh.len() > 200, "expected the whole schema in these lines: {fresh:#?}");
        fresh
    }

    /// The schema after an upgrade from `version`.
    fn upgraded(&self, session: &mut Session, version: &str) -> Vec<String> {
        session.run(&format!(
            "BEGIN; CREATE EXTENSION vector_tools VERSION '{version}'; ALTER EXTENSION vector_tools UPDATE"
        ));
        let reached = session.text("SELECT extversion FROM pg_extension WHERE extname = 'vector_tools'");
        assert_eq!(reached, self.version, "expected a path of upgrade scripts from {version}");
        let upgraded = lines(session);
        session.run("ROLLBACK");
        upgraded
    }

    /// A statement of the current install script, from its first words to its end.
    fn statement(&self, start: &str, end: &str) -> String {
        let from =
            self.current.find(start).unwrap_or_else(|| panic!("expected {start:?} in the install script"));
        let length = self.current[from..].find(end).expect("statements end") + end.len();
        self.current[from..from + length].to_owned()
    }
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("expected to read {}: {error}", file.display()))
}

/// The SQL scripts in a folder of the repository.
fn sql_files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).expect("the folder is there").flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    files
}

// trust 17
#[test]
fn every_release_is_upgraded_to_the_fresh_schema() {
    let database = Database::empty("upgrade_releases");
    let mut session = database.connect();
    session.run("CREATE EXTENSION vector");
    let scripts = Scripts::new(&mut session);
    let fresh = scripts.fresh(&mut session);
    let name = |file: &Path| file.file_name().expect("a file has a name").to_string_lossy().into_owned();
    for step in sql_files("sql").into_iter().filter(|file| name(file).starts_with("vector_tools--")) {
        scripts.write(&name(&step), &read(&step));
    }
    let releases = sql_files("sql/releases");
    if releases.is_empty() {
        skipped("every_release_is_upgraded_to_the_fresh_schema", "nothing has been released yet");
    }
    for release in releases {
        let file = name(&release);
        let version = file.strip_prefix("vector_tools--").and_then(|rest| rest.strip_suffix(".sql"));
        let version =
            version.unwrap_or_else(|| panic!("expected a name like vector_tools--0.1.0.sql, not {file}"));
        if version == scripts.version {
            continue;
        }
        scripts.write(&file, &read(&release));
        let upgraded = scripts.upgraded(&mut session, version);
        let differences = differences(&fresh, &upgraded);
        assert!(
            differences.is_empty(),
            "expected {version}, upgraded, to be like a new one: {differences:#?}"
        );
    }
}

/// What a made-up release does not have yet, the statement that brings it, and the object that tells.
struct Change {
    object: &'static str,
    before: (String, String),
    upgrade: String,
}

fn changes(scripts: &Scripts) -> Vec<Change> {
    let added = |object, statement: String| Change {
        object,
        before: (statement.clone(), String::new()),
        upgrade: statement,
    };
    let changed = |object, old: &str, new: &str, upgrade: String| {
        let before = (new.to_owned(), old.to_owned());
        Change { object, before, upgrade }
    };
    let fuse = scripts.statement("CREATE FUNCTION rrf_fuse(", "\n$$;");
    let search = scripts.statement("CREATE FUNCTION search_memories(", "_wrapper';");
    let replace = |statement: &str| statement.replacen("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1);
    let delete = scripts.statement("CREATE FUNCTION delete_memory(", "_wrapper';");
    let delete_comment = scripts.statement("COMMENT ON FUNCTION delete_memory IS", "';");
    let last = scripts.statement("SELECT vector_tools.register_bundled_models()", ";");
    vec![
        changed("rrf_fuse", &fuse.replace("least(b.rank_a, b.rank_b)", "b.rank_b"), &fuse, replace(&fuse)),
        changed("search_memories", &search.replace("DEFAULT 5", "DEFAULT 6"), &search, replace(&search)),
        added("delete_memory(pg_catalog.text,pg_catalog.text) comment", delete_comment),
        added("delete_memory(pg_catalog.text,pg_catalog.text) definition", delete),
        added(
            "drop_model(pg_catalog.text) right",
            scripts.statement("REVOKE ALL ON FUNCTION drop_model(text)", ";"),
        ),
        added("register_model", scripts.statement("COMMENT ON FUNCTION register_model(", "';")),
        added(
            "vector_tools.models column",
            scripts.statement("COMMENT ON COLUMN vector_tools.models.name IS", "';"),
        ),
        added("vector_tools.models right", scripts.statement("GRANT SELECT ON vector_tools.models TO", ";")),
        added(
            "dumped WHERE NOT bundled",
            scripts
                .statement("SELECT pg_catalog.pg_extension_config_dump('vector_tools.model_registry'", ";"),
        ),
        added(
            "model_registry trigger A",
            scripts.statement("ALTER TABLE vector_tools.model_registry ENABLE ALWAYS", ";"),
        ),
        changed(
            "model_registry column",
            "bundled boolean NOT NULL,",
            "bundled boolean NOT NULL DEFAULT false,",
            "ALTER TABLE vector_tools.model_registry ALTER bundled SET DEFAULT false;".to_owned(),
        ),
        changed(
            "event trigger vector_tools_audit_partitions",
            "WHEN TAG IN ('CREATE TABLE')\n",
            "WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE')\n",
            format!(
                "DROP EVENT TRIGGER vector_tools_audit_partitions;\n{}\n{}",
                scripts.statement("CREATE EVENT TRIGGER vector_tools_audit_partitions", ";"),
                scripts.statement("COMMENT ON EVENT TRIGGER vector_tools_audit_partitions", "';"),
            ),
        ),
        // Something that has gone since.
        changed(
            "function vector_tools.gone()",
            "CREATE FUNCTION vector_tools.gone() RETURNS int LANGUAGE sql AS 'SELECT 1';",
            &last,
            "DROP FUNCTION vector_tools.gone();".to_owned(),
        ),
    ]
}

// trust 17
#[test]
fn the_comparison_sees_what_an_upgrade_forgets() {
    let database = Database::empty("upgrade_fake");
    let mut session = database.connect();
    session.run("CREATE EXTENSION vector");
    let scripts = Scripts::new(&mut session);
    let fresh = scripts.fresh(&mut session);
    let changes = changes(&scripts);
    let mut old = scripts.current.clone();
    for Change { object, before: (new, replaced), .. } in &changes {
        assert!(old.contains(new.as_str()), "expected {new:?} in the install script, to make {object} older");
        old = old.replacen(new.as_str(), replaced, 1);
    }
    scripts.write(&format!("vector_tools--{FAKE}.sql"), &old);
    let mut upgrade_without = |left_out: Option<usize>| {
        let is_kept =
            |(number, change): (usize, &Change)| (Some(number) != left_out).then(|| change.upgrade.clone());
        // A function is there before its comment.
        let steps: Vec<String> = changes.iter().enumerate().rev().filter_map(is_kept).collect();
        scripts.write(&format!("vector_tools--{FAKE}--{}.sql", scripts.version), &steps.join("\n"));
        differences(&fresh, &scripts.upgraded(&mut session, FAKE))
    };
    let whole = upgrade_without(None);
    assert!(whole.is_empty(), "expected no difference after the whole upgrade, not {whole:#?}");
    for (number, change) in changes.iter().enumerate() {
        // Without the function its comment fails the upgrade by itself.
        if change.object.starts_with("delete_memory") && change.object.ends_with("definition") {
            continue;
        }
        let found = upgrade_without(Some(number));
        assert!(
            found.iter().any(|line| line.contains(change.object)),
            "expected a difference in {}, not {found:#?}",
            change.object
        );
    }
}
