//! Which documents can still reach a score: a threshold on a sum, as a boolean formula over words.
//!
//! A document's BM25 score is at most the sum of the upper bounds of the query's words that it
//! contains. "The bounds of the words present add up to θ or more" is a monotone boolean formula
//! over the presence of words, and a GIN index on a tsvector answers just such formulas. It skips
//! through the postings of frequent words where rare ones are required, as MaxScore does (Turtle
//! and Flood, "Query evaluation: strategies and optimizations", 1995).

/// Nodes a formula may have. GIN evaluates it for each posting it looks at, so a larger one costs
/// more than the documents that it rules out.
const NODE_BUDGET: usize = 120;

/// Sums of bounds and scores are rounded on different ways; a document must not be lost by that.
const ROUNDING: f64 = 1.0 - 1e-9;

/// A monotone boolean formula over words, which are named by their index.
#[derive(Debug, Clone, PartialEq)]
pub enum Formula {
    /// True of every document.
    Always,
    /// True of none.
    Never,
    /// The document has the word.
    Word(usize),
    /// All parts hold.
    All(Vec<Formula>),
    /// At least one part holds.
    Any(Vec<Formula>),
}

impl Formula {
    /// True of the documents that have one of `count` words.
    pub fn any_of(count: usize) -> Formula {
        Formula::Any((0..count).map(Formula::Word).collect())
    }

    /// True of at least all documents whose words' `bounds` (largest first) add up to `theta`, and
    /// of no document without any of the words. Where the exact formula is too large, the least
    /// words are taken to be present, which keeps it true of those documents.
    pub fn reaching(bounds: &[f64], theta: f64) -> Formula {
        Formula::build(bounds, theta, None)
    }

    /// The same, but true of more documents where they cost less than the words that would rule
    /// them out: `shares` of all documents have each word, and `documents` pass the filter.
    pub fn worth_reaching(bounds: &[f64], shares: &[f64], documents: (f64, f64), theta: f64) -> Formula {
        Formula::build(bounds, theta, Some(Costs::new(bounds, shares, documents, theta)))
    }

    fn build(bounds: &[f64], theta: f64, costs: Option<Costs<'_>>) -> Formula {
        let mut theta = theta * ROUNDING;
        let mut kept = bounds.len();
        while kept > 0 && theta > 0.0 {
            let mut builder = Builder::new(&bounds[..kept], costs);
            if let Some(formula) = builder.build(0, theta, costs.map_or(0.0, |costs| costs.documents)) {
                return formula;
            }
            kept -= 1;
            theta -= bounds[kept];
        }
        Formula::any_of(bounds.len())
    }

    /// A formula that holds for every document for which this one holds and `known` does not, and
    /// for none beyond this one: smaller, and so cheaper to evaluate, than both of them.
    pub fn beyond(&self, known: &Formula) -> Formula {
        let known_parts = known.alternatives();
        if known_parts.contains(self) || known_parts.contains(&Formula::Always) {
            return Formula::Never;
        }
        match self {
            Formula::Any(parts) => join_any(parts.iter().map(|part| part.beyond(known)).collect()),
            Formula::All(parts) => {
                let [lead, rest @ ..] = parts.as_slice() else { return self.clone() };
                if known_parts.contains(lead) {
                    return Formula::Never;
                }
                let same_lead = known_parts.iter().find_map(|part| match part {
                    Formula::All(others) if others.first() == Some(lead) => Some(&others[1..]),
                    _ => None,
                });
                match same_lead.map(|others| join_all(rest.to_vec()).beyond(&join_all(others.to_vec()))) {
                    None => self.clone(),
                    Some(Formula::Never) => Formula::Never,
                    Some(Formula::All(more)) => join_all([vec![lead.clone()], more].concat()),
                    Some(other) => join_all(vec![lead.clone(), other]),
                }
            }
            other => other.clone(),
        }
    }

    /// The parts of which one must hold.
    fn alternatives(&self) -> &[Formula] {
        match self {
            Formula::Any(parts) => parts,
            other => std::slice::from_ref(other),
        }
    }

    /// True of the documents that have at least `minimum` of `count` words, or, where that formula
    /// is too large, of more.
    pub fn at_least(minimum: usize, count: usize) -> Formula {
        Formula::reaching(&vec![1.0; count], minimum as f64)
    }

    /// Whether it holds for a document, given which words it has.
    pub fn holds(&self, present: &[bool]) -> bool {
        match self {
            Formula::Always => true,
            Formula::Never => false,
            Formula::Word(word) => present[*word],
            Formula::All(parts) => parts.iter().all(|part| part.holds(present)),
            Formula::Any(parts) => parts.iter().any(|part| part.holds(present)),
        }
    }

    /// The bytes of all words in it, as often as it has them, as a `tsquery` stores them.
    pub fn bytes(&self, lexemes: &[&str]) -> usize {
        match self {
            Formula::Always | Formula::Never => 0,
            Formula::Word(word) => lexemes[*word].len() + 1,
            Formula::All(parts) | Formula::Any(parts) => parts.iter().map(|part| part.bytes(lexemes)).sum(),
        }
    }

    /// The formula as a `tsquery` in text form; `None` where it is constant.
    pub fn to_tsquery(&self, lexemes: &[&str]) -> Option<String> {
        let joined = |parts: &[Formula], sign: &str| {
            let parts: Vec<String> = parts.iter().filter_map(|part| part.to_tsquery(lexemes)).collect();
            format!("({})", parts.join(sign))
        };
        match self {
            Formula::Always | Formula::Never => None,
            Formula::Word(word) => Some(quote_lexeme(lexemes[*word])),
            Formula::All(parts) => Some(joined(parts, " & ")),
            Formula::Any(parts) => Some(joined(parts, " | ")),
        }
    }
}

fn join_any(parts: Vec<Formula>) -> Formula {
    let mut joined = Vec::new();
    for part in parts {
        match part {
            Formula::Never => {}
            Formula::Any(parts) => joined.extend(parts),
            other => joined.push(other),
        }
    }
    match joined.len() {
        0 => Formula::Never,
        1 => joined.remove(0),
        _ => Formula::Any(joined),
    }
}

fn join_all(mut parts: Vec<Formula>) -> Formula {
    match parts.len() {
        0 => Formula::Always,
        1 => parts.remove(0),
        _ => Formula::All(parts),
    }
}

/// A lexeme as `tsquery` and `tsvector` read it.
pub fn quote_lexeme(lexeme: &str) -> String {
    format!("'{}'", lexeme.replace('\\', "\\\\").replace('\'', "''"))
}

/// Nanoseconds that an index spends on a word of the formula for each document that it looks at.
const WORD_NANOSECONDS: f64 = 10.0;

/// Nanoseconds for a document that is fetched and scored.
const DOCUMENT_NANOSECONDS: f64 = 2000.0;

/// What decides whether a part of a formula is worth its words.
#[derive(Clone, Copy)]
struct Costs<'a> {
    shares: &'a [f64],
    /// The documents that pass the filter.
    documents: f64,
    /// What each word of the formula costs, as a number of documents.
    word: f64,
}

impl<'a> Costs<'a> {
    fn new(bounds: &[f64], shares: &'a [f64], (all, passing): (f64, f64), theta: f64) -> Costs<'a> {
        let looked_at = all * share_looked_at(bounds, shares, theta);
        let word = looked_at * WORD_NANOSECONDS / DOCUMENT_NANOSECONDS;
        Costs { shares, documents: passing, word }
    }
}

/// The postings that GIN looks at, as a share of the documents: those of the first words, without
/// which no others are enough to reach `theta`.
pub fn share_looked_at(bounds: &[f64], shares: &[f64], theta: f64) -> f64 {
    let mut remaining: f64 = bounds.iter().sum();
    let mut looked_at = 0.0;
    for (bound, share) in bounds.iter().zip(shares) {
        if remaining < theta {
            break;
        }
        remaining -= bound;
        looked_at += share;
    }
    looked_at
}

struct Builder<'a> {
    bounds: &'a [f64],
    costs: Option<Costs<'a>>,
    /// The sum of the bounds from each word on.
    remaining: Vec<f64>,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn new(bounds: &'a [f64], costs: Option<Costs<'a>>) -> Builder<'a> {
        let mut remaining = vec![0.0; bounds.len() + 1];
        for (word, bound) in bounds.iter().enumerate().rev() {
            remaining[word] = remaining[word + 1] + bound;
        }
        Builder { bounds, costs, remaining, nodes: 0 }
    }

    /// The formula for the words from `first` on, or nothing beyond the budget. So far `documents`
    /// are expected to have all the words that were required.
    fn build(&mut self, first: usize, theta: f64, documents: f64) -> Option<Formula> {
        if theta <= 0.0 {
            return Some(Formula::Always);
        }
        if self.remaining[first] < theta {
            return Some(Formula::Never);
        }
        let words = first..self.bounds.len();
        let is_worth_it =
            |costs: Costs<'_>| documents >= costs.documents || documents > words.len() as f64 * costs.word;
        if !self.costs.is_none_or(is_worth_it) {
            return Some(Formula::Always);
        }
        let least = self.bounds[words.end - 1];
        if least >= theta {
            return self.spend(words.len(), || Formula::Any(words.map(Formula::Word).collect()));
        }
        if self.remaining[first] - least < theta {
            return self.spend(words.len(), || Formula::All(words.map(Formula::Word).collect()));
        }
        self.nodes += 1;
        let share = self.costs.map_or(1.0, |costs| costs.shares[first]);
        let with = self.build(first + 1, theta - self.bounds[first], documents * share)?;
        let without = self.build(first + 1, theta, documents)?;
        if with == without {
            self.nodes -= 1;
            return Some(without);
        }
        let mut alternatives = match with {
            Formula::Always => vec![Formula::Word(first)],
            Formula::All(mut parts) => {
                parts.insert(0, Formula::Word(first));
                vec![Formula::All(parts)]
            }
            other => vec![Formula::All(vec![Formula::Word(first), other])],
        };
        match without {
            Formula::Never => {}
            Formula::Any(parts) => alternatives.extend(parts),
            other => alternatives.push(other),
        }
        self.spend(0, || match alternatives.len() {
            1 => alternatives.remove(0),
            _ => Formula::Any(alternatives),
        })
    }

    fn spend(&mut self, nodes: usize, formula: impl FnOnce() -> Formula) -> Option<Formula> {
        self.nodes += nodes;
        (self.nodes <= NODE_BUDGET).then(formula)
    }
}

/// How many documents reach a threshold, when words occur independently of each other.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// The sum of all bounds.
    total: f64,
    /// For each step from 0 to the total, the documents whose words' bounds add up to it or more.
    reaching: Vec<f64>,
}

/// Steps of the sum of bounds that are told apart.
const STEPS: usize = 256;

impl Expectation {
    /// Tabulates the sums of `bounds`, each present in its share of `documents`.
    pub fn new(bounds: &[f64], shares: &[f64], documents: f64) -> Expectation {
        let total: f64 = bounds.iter().sum();
        let mut reaching = vec![0.0; STEPS + 1];
        reaching[0] = documents;
        for (bound, share) in bounds.iter().zip(shares) {
            // A word that makes no step counts as the smallest.
            let shift = ((bound / total * STEPS as f64).round() as usize).clamp(1, STEPS);
            for step in (0..=STEPS).rev() {
                let here = reaching[step];
                if here > 0.0 {
                    reaching[step] = here * (1.0 - share);
                    reaching[(step + shift).min(STEPS)] += here * share;
                }
            }
        }
        for step in (0..STEPS).rev() {
            reaching[step] += reaching[step + 1];
        }
        Expectation { total, reaching }
    }

    /// The documents expected to have any of the words.
    pub fn matching(&self) -> f64 {
        self.reaching[1]
    }

    /// The documents expected to reach a threshold.
    pub fn at(&self, theta: f64) -> f64 {
        let step = (theta / self.total * STEPS as f64).round();
        self.reaching[(step as usize).clamp(1, STEPS)]
    }

    /// The greatest threshold that `wanted` documents are expected to reach; 0 where fewer have any
    /// of the words.
    pub fn threshold_for(&self, wanted: f64) -> f64 {
        let step = (1..=STEPS).rev().find(|step| self.reaching[*step] >= wanted);
        // The middle of a step, since sums are rounded either way.
        step.map_or(0.0, |step| (step as f64 - 0.5) / STEPS as f64 * self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(parts: &[usize]) -> Vec<Formula> {
        parts.iter().copied().map(Formula::Word).collect()
    }

    #[test]
    fn small_formulas_read_well() {
        let text = |bounds: &[f64], theta| Formula::reaching(bounds, theta).to_tsquery(&["a", "b", "c"]);
        assert_eq!(text(&[3.0, 2.0, 1.0], 1.0).as_deref(), Some("('a' | 'b' | 'c')"));
        assert_eq!(text(&[3.0, 2.0, 1.0], 3.0).as_deref(), Some("('a' | ('b' & 'c'))"));
        assert_eq!(text(&[3.0, 2.0, 1.0], 6.0).as_deref(), Some("('a' & 'b' & 'c')"));
        assert_eq!(text(&[3.0, 2.0, 1.0], 4.5).as_deref(), Some("('a' & 'b')"));
        assert_eq!(text(&[3.0, 2.0, 1.0], 0.0).as_deref(), Some("('a' | 'b' | 'c')"));
    }

    #[test]
    fn what_was_scored_is_left_out() {
        let bounds = [4.0, 3.0, 2.0, 1.0];
        let (known, wider) = (Formula::reaching(&bounds, 7.0), Formula::reaching(&bounds, 5.0));
        let text = |formula: &Formula| formula.to_tsquery(&["a", "b", "c", "d"]);
        assert_eq!(text(&known).as_deref(), Some("('a' & ('b' | ('c' & 'd')))"));
        assert_eq!(text(&wider).as_deref(), Some("(('a' & ('b' | 'c' | 'd')) | ('b' & 'c'))"));
        assert_eq!(text(&wider.beyond(&known)).as_deref(), Some("(('a' & ('c' | 'd')) | ('b' & 'c'))"));
        assert_eq!(wider.beyond(&wider), Formula::Never);
        assert_eq!(wider.beyond(&Formula::Never), wider);
    }

    #[test]
    fn words_that_rule_out_little_are_left_away() {
        let bounds = [4.0, 3.0, 2.0, 1.0];
        let text = |share: f64| {
            let shares = [share, 0.2, 0.1, 0.1];
            Formula::worth_reaching(&bounds, &shares, (1e6, 1e6), 5.0).to_tsquery(&["a", "b", "c", "d"])
        };
        assert_eq!(text(0.2).as_deref(), Some("(('a' & ('b' | 'c' | 'd')) | ('b' & 'c'))"));
        // So few documents are fetched faster than the index evaluates more for each of them.
        assert_eq!(text(1e-5).as_deref(), Some("('a' | ('b' & 'c'))"));
    }

    #[test]
    fn at_least_counts_words() {
        assert_eq!(Formula::at_least(3, 3), Formula::All(words(&[0, 1, 2])));
        assert_eq!(Formula::at_least(1, 3), Formula::Any(words(&[0, 1, 2])));
        let two_of_three = Formula::at_least(2, 3);
        assert!(two_of_three.holds(&[true, false, true]) && !two_of_three.holds(&[false, true, false]));
    }

    #[test]
    fn lexemes_are_quoted() {
        assert_eq!(quote_lexeme("o'br\\ien"), "'o''br\\\\ien'");
    }

    #[test]
    fn more_documents_reach_a_lower_threshold() {
        let bounds = [9.0, 6.0, 3.0, 1.0];
        let expected = Expectation::new(&bounds, &[0.001, 0.01, 0.1, 0.5], 100_000.0);
        assert!(expected.threshold_for(10.0) > expected.threshold_for(500.0));
        assert!(expected.threshold_for(500.0) > expected.threshold_for(20_000.0));
        assert_eq!(expected.threshold_for(90_000.0), 0.0);
        assert!(expected.at(10.0) < expected.at(3.0));
        // 1 − 0.999 · 0.99 · 0.9 · 0.5
        assert!((expected.matching() - 55_495.5).abs() < 1.0, "{}", expected.matching());
    }

    fn nodes(formula: &Formula) -> usize {
        match formula {
            Formula::All(parts) | Formula::Any(parts) => 1 + parts.iter().map(nodes).sum::<usize>(),
            _ => 1,
        }
    }

    proptest! {
        #[test]
        fn no_document_that_reaches_the_threshold_is_lost(
            mut bounds in prop::collection::vec(0.01f64..10.0, 1..14),
            share in 0.0f64..1.1,
            documents in prop::collection::vec(prop::collection::vec(any::<bool>(), 14), 20),
        ) {
            bounds.sort_by(|a, b| b.total_cmp(a));
            let theta = share * bounds.iter().sum::<f64>();
            let formula = Formula::reaching(&bounds, theta);
            let small = bounds.len() <= 8;
            for present in &documents {
                let sum: f64 = bounds.iter().zip(present).filter(|(_, has)| **has).map(|(bound, _)| bound).sum();
                if sum >= theta && sum > 0.0 {
                    prop_assert!(formula.holds(present), "{:?} lost {:?}", formula, present);
                }
                // Small formulas are exact.
                if small && sum < theta * (1.0 - 1e-6) {
                    prop_assert!(!formula.holds(present), "{:?} kept {:?}", formula, present);
                }
                prop_assert!(sum > 0.0 || !formula.holds(present));
            }
            prop_assert!(nodes(&formula) <= 3 * NODE_BUDGET);
        }

        #[test]
        fn what_lies_beyond_a_higher_threshold_is_neither_lost_nor_widened(
            mut bounds in prop::collection::vec(0.01f64..10.0, 1..10),
            shares in prop::collection::vec(0.0f64..1.0, 14),
            thetas in (0.0f64..1.1, 0.0f64..1.1),
            minimum in 1usize..4,
            documents in prop::collection::vec(prop::collection::vec(any::<bool>(), 14), 40),
        ) {
            bounds.sort_by(|a, b| b.total_cmp(a));
            let total = bounds.iter().sum::<f64>();
            let (high, low) = (thetas.0.max(thetas.1) * total, thetas.0.min(thetas.1) * total);
            let formula = |theta: f64| {
                let reaching = Formula::worth_reaching(&bounds, &shares, (1e6, 1e6), theta);
                let enough = Formula::at_least(minimum.min(bounds.len()), bounds.len());
                if minimum == 1 { reaching } else { Formula::All(vec![enough, reaching]) }
            };
            let (known, wider) = (formula(high), formula(low));
            let beyond = wider.beyond(&known);
            for present in &documents {
                if wider.holds(present) && !known.holds(present) {
                    prop_assert!(beyond.holds(present), "{:?} lost {:?}", beyond, present);
                }
                prop_assert!(wider.holds(present) || !beyond.holds(present), "{:?} widened {:?}", beyond, wider);
            }
            prop_assert!(nodes(&beyond) <= nodes(&wider));
        }

        #[test]
        fn what_is_not_worth_its_words_loses_nothing_either(
            mut bounds in prop::collection::vec(0.01f64..10.0, 1..14),
            shares in prop::collection::vec(0.0f64..1.0, 14),
            theta in 0.0f64..1.1,
            (all, passing) in (0.0f64..1e7, 0.0f64..1.0),
            documents in prop::collection::vec(prop::collection::vec(any::<bool>(), 14), 20),
        ) {
            bounds.sort_by(|a, b| b.total_cmp(a));
            let theta = theta * bounds.iter().sum::<f64>();
            let exact = Formula::reaching(&bounds, theta);
            let formula = Formula::worth_reaching(&bounds, &shares, (all, all * passing), theta);
            for present in &documents {
                let sum: f64 = bounds.iter().zip(present).filter(|(_, has)| **has).map(|(bound, _)| bound).sum();
                if sum >= theta && sum > 0.0 {
                    prop_assert!(formula.holds(present), "{:?} lost {:?}", formula, present);
                }
                prop_assert!(sum > 0.0 || !formula.holds(present));
            }
            prop_assert!(nodes(&formula) <= 3 * NODE_BUDGET);
            prop_assert!(bounds.len() > 8 || nodes(&formula) <= nodes(&exact));
        }
    }
}
