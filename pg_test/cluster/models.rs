//! Model folders that tests may damage.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::server::root;

/// A folder that the server can read too, removed with this value.
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// An empty one.
    pub fn new() -> Folder {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let everyone = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), everyone).expect("its owner may open it");
        Folder(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Copies a bundled model into it under a new name.
    pub fn copy_model(&self, model: &str, name: &str) -> PathBuf {
        let copy = self.path().join(name);
        copy_folder(&root().join(".local/models").join(model), &copy);
        copy
    }

    /// Has one of the scripts of this folder make another model of a bundled one, and says where it is.
    pub fn changed_model(&self, change: &str, model: &str, arguments: &[&str]) -> String {
        let target = self.path().join(change);
        let output = Command::new("python3")
            .current_dir(root())
            .env("PYTHONPATH", root().join(".local/python"))
            .arg(format!("pg_test/cluster/{change}_model.py"))
            .arg(root().join(".local/models").join(model))
            .arg(&target)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("python3 is needed");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "expected a {change} model:\n{errors}");
        target.display().to_string()
    }

    /// Copies one of the tiny models in models/fixtures into it.
    pub fn copy_fixture(&self, fixture: &str) -> PathBuf {
        let copy = self.path().join(fixture);
        copy_folder(&root().join("models/fixtures").join(fixture), &copy);
        copy
    }

    /// Like [`copy_model`](Self::copy_model), and then writes one of its files anew.
    pub fn copy_with_file(&self, model: &str, name: &str, file: &str, content: &str) -> PathBuf {
        let copy = self.copy_model(model, name);
        fs::write(copy.join(file), content).expect("a copy may be written");
        copy
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a new folder");
    for entry in fs::read_dir(from).expect("the models are prepared by tools/setup.py").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a model can be copied");
        }
    }
}
