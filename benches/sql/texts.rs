//! Real texts to embed: package descriptions, or what the server says of its own objects.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::server::{Server, root};
use crate::sql;

const COLLECTION: &str = "../shared/eval/debian.jsonl.gz";

#[derive(Deserialize)]
struct Package {
    title: String,
    text: String,
}

/// `count` texts, and a sentence about where they come from.
pub fn read(server: &Server, count: usize) -> (String, Vec<String>) {
    let collection = root().join(COLLECTION);
    if collection.exists() {
        (
            format!("{count} descriptions of Debian packages, evenly spread over 65,804"),
            packages(&collection, count),
        )
    } else {
        (format!("{count} joined from the server's pg_description"), descriptions(server, count))
    }
}

fn packages(collection: &Path, count: usize) -> Vec<String> {
    let output = Command::new("gzip").arg("-dc").arg(collection).output().expect("gzip is installed");
    let text = String::from_utf8(output.stdout).expect("the collection is UTF-8");
    let lines: Vec<&str> = text.lines().collect();
    let spread = lines.iter().step_by((lines.len() / count).max(1)).take(count);
    spread
        .map(|line| {
            let package: Package = serde_json::from_str(line).expect("each line is a package");
            format!("{}. {}", package.title, package.text)
        })
        .collect()
}

/// One to forty descriptions joined into each text, so that lengths differ as those of real
/// passages do.
fn descriptions(server: &Server, count: usize) -> Vec<String> {
    let query = "SELECT description FROM pg_description ORDER BY classoid, objoid, objsubid";
    let rows = sql::connect(server).query(query, &[]).expect("the catalogue can be read");
    let sentences: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let text = |index: usize| {
        let from = sentences.iter().cycle().skip(index * 37 % sentences.len());
        from.take(1 + index * 7 % 40).map(String::as_str).collect::<Vec<_>>().join(". ")
    };
    (0..count).map(text).collect()
}
