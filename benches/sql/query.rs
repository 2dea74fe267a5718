//! One warm query: what SQL adds to tokenizing and running the model.

use vector_tools_core::embed::Purpose;

use crate::paired::{median, time};
use crate::server::Server;
use crate::table::Table;
use crate::{MODELS, QUESTION, Scale, WORDS, plain, sql};

/// The ways to ask, in the order of the figures in a round.
const WAYS: [&str; 2] = ["prepared statement", "statement as text"];

/// Adds the rows about warm queries, after one about what any statement takes.
pub fn measure(server: &Server, scale: &Scale, table: &mut Table) {
    let questions: Vec<String> = WORDS.iter().map(|word| QUESTION.replace("configuration", word)).collect();
    let statements: Vec<String> =
        questions.iter().map(|question| format!("SELECT embed_query('{question}')")).collect();
    let mut client = sql::connect(server);
    let nothing = sql::prepare(&mut client, "SELECT length($1)");
    let trips = (0..scale.rounds)
        .map(|_| median_of(&questions, |text| client.query_one(&nothing, &[&text]).expect("it is answered")));
    table.add(
        "round trip of any prepared statement".to_owned(),
        format!("{:.2} ms", median(trips.collect())),
        String::new(),
        String::new(),
        "",
    );
    for (kind, model) in MODELS {
        let mut embedder = plain::load(model, 1);
        let mut client = sql::connect_for(server, model, 1);
        let prepared = sql::prepare(&mut client, "SELECT embed_query($1)");
        let tokens = sql::number(&mut client, &format!("SELECT count_tokens('{}')", questions[0]));
        let mut rounds: Vec<[f64; 3]> = Vec::new();
        // The first round warms up.
        for _ in 0..=scale.rounds {
            rounds.push([
                median_of(&questions, |text| plain::embed(&mut embedder, &[text], Purpose::Query)),
                median_of(&questions, |text| client.query_one(&prepared, &[&text]).expect("it embeds")),
                median_of(&statements, |text| client.simple_query(text).expect("it embeds")),
            ]);
        }
        rounds.remove(0);
        let beside = median(rounds.iter().map(|round| round[0]).collect());
        for (place, way) in WAYS.iter().enumerate() {
            let ours = median(rounds.iter().map(|round| round[place + 1]).collect());
            let added = median(rounds.iter().map(|round| round[place + 1] - round[0]).collect());
            table.add(
                format!("warm embed_query, {tokens} tokens, {kind}, {way}"),
                format!("{ours:.2} ms"),
                format!("plain loop {beside:.2} ms"),
                format!("{added:+.2} ms"),
                "at most +0.3 ms",
            );
        }
    }
}

/// The median time of a call for each of the texts, in milliseconds.
fn median_of<T>(texts: &[String], mut call: impl FnMut(&str) -> T) -> f64 {
    median(texts.iter().map(|text| time(|| call(text)).as_secs_f64() * 1e3).collect())
}
