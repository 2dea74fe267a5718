//! What a search did, for `explain_search`.

use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::search::keyword_leg::Pass;

/// The steps of one search, in their order. Only a trace that was asked for keeps SQL.
#[derive(Debug, Default)]
pub struct Trace {
    is_wanted: bool,
    steps: Vec<(&'static str, Value)>,
    milliseconds: Map<String, Value>,
}

impl Trace {
    /// A trace that keeps everything.
    pub fn wanted() -> Trace {
        Trace { is_wanted: true, ..Trace::default() }
    }

    /// Whether anybody will read it.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// Does some work and notes how long it took.
    pub fn time<T>(&mut self, step: &'static str, work: impl FnOnce(&mut Trace) -> T) -> T {
        let began = Instant::now();
        let result = work(self);
        if self.is_wanted {
            let milliseconds = began.elapsed().as_secs_f64() * 1e3;
            self.milliseconds.insert(step.to_owned(), json!((milliseconds * 1e3).round() / 1e3));
        }
        result
    }

    /// Notes a fact.
    pub fn note(&mut self, name: &'static str, fact: impl FnOnce() -> Value) {
        if self.is_wanted {
            self.steps.push((name, fact()));
        }
    }

    /// Everything as one JSON object.
    pub fn into_json(self) -> Value {
        let mut object: Map<String, Value> =
            self.steps.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        object.insert("milliseconds".to_owned(), Value::Object(self.milliseconds));
        Value::Object(object)
    }
}

/// The passes of the keyword leg as JSON, with the rows that each scored.
pub fn passes_json(passes: &[Pass]) -> Value {
    let pass = |pass: &Pass| {
        json!({
            "theta": pass.theta,
            "formula": pass.formula,
            "scored": pass.scored,
            "rows": pass.rows,
        })
    };
    passes.iter().map(pass).collect()
}
