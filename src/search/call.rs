//! One call of a search function: its arguments, and the question that they make.

use pgrx::{PgRelation, pg_sys};
use serde_json::json;

use crate::embed::functions::embed_one;
use crate::kit::catalog::{has_hidden_rows, is_partitioned, open_table, read_table};
use crate::kit::column_types::{ServerTypes, is_trusted};
use crate::kit::report::warn;
use crate::kit::rights::{acting_as, partition_of_other};
use crate::pipeline::searchable_tables;
use crate::search::companion;
use crate::search::companion::OpenCompanion;
use crate::search::database::{SessionDatabase, query_lexemes};
use crate::search::functions::{Bm25Score, HybridSearch};
use crate::search::statistics::{KeywordColumn, word_statistics};
use crate::settings::{default_model, use_bm25_index};
use crate::types::text_vector::Scorer;
use vector_tools_core::embed::Purpose;
use vector_tools_core::error::{Error, Result};
use vector_tools_core::pipeline::Configuration;
use vector_tools_core::search::bm25::{Bm25, QueryWord, inverse_document_frequency};
use vector_tools_core::search::bm25_index::Bm25Index;
use vector_tools_core::search::fusion::Weights;
use vector_tools_core::search::hybrid::{Question, Search, SearchHit};
use vector_tools_core::search::ivfflat::ivfflat_probes;
use vector_tools_core::search::keyword_leg::KeywordQuestion;
use vector_tools_core::search::lexemes::{MOST_WORDS, any_word_query};
use vector_tools_core::search::measure::Highlight;
use vector_tools_core::search::query_text::QueryText;
use vector_tools_core::search::request::{ChunkChoice, WordMatch};
use vector_tools_core::search::source::{ColumnChoice, Legs};
use vector_tools_core::search::trace::Trace;
use vector_tools_core::search::vector_space::VectorSpace;
use vector_tools_core::search::{Filter, SearchRequest, SearchSource};
use vector_tools_core::sql::identifier::Identifier;

/// The arguments of `hybrid_search` and `explain_search`, checked.
pub struct SearchCall {
    relation: PgRelation,
    query: String,
    request: SearchRequest,
    filters: Vec<String>,
    model: Option<String>,
    text_configuration: Option<String>,
    choice: ColumnChoice,
    word_match: WordMatch,
    query_embedding: Option<Vec<f32>>,
    require_vector: bool,
    highlight: bool,
    bm25: Bm25,
    ef_search: usize,
    probes: usize,
    chunks: ChunkChoice,
}

/// With whose rights the rows of a table are found; `None` for the caller's.
#[derive(Clone, Copy)]
struct LegRights {
    /// Whose count its words.
    counting: Option<pg_sys::Oid>,
    /// Whose look for its rows.
    searching: Option<pg_sys::Oid>,
    /// Whether rows may be hidden from whoever looks.
    has_hidden_rows: bool,
}

impl SearchCall {
    /// A call of an open table by its own columns, model and text search configuration.
    pub fn of(relation: PgRelation, query: String, request: SearchRequest) -> SearchCall {
        SearchCall {
            relation,
            query,
            request,
            filters: vec![],
            model: None,
            text_configuration: None,
            choice: ColumnChoice::default(),
            word_match: WordMatch::Any,
            query_embedding: None,
            require_vector: false,
            highlight: false,
            bm25: Bm25::default(),
            ef_search: 0,
            probes: 0,
            chunks: ChunkChoice::Best,
        }
    }

    /// The same for the rows that pass all filters, which are JSON texts.
    pub fn filtered(self, filters: Vec<String>) -> SearchCall {
        SearchCall { filters, ..self }
    }

    /// The same with the embedding of the query, where that is known.
    pub fn with_embedding(self, query_embedding: Option<Vec<f32>>) -> SearchCall {
        SearchCall { query_embedding, ..self }
    }

    /// The same with the least effort of an index scan: the width of HNSW, the lists of IVFFlat.
    pub fn with_effort(self, ef_search: usize, probes: usize) -> SearchCall {
        SearchCall { ef_search, probes, ..self }
    }

    /// The call with those arguments; without a table or a query there is none.
    ///
    /// # Errors
    /// Those of an argument that makes no sense.
    pub(crate) fn new(arguments: HybridSearch) -> Result<Option<SearchCall>> {
        let (Some(table), Some(query)) = (arguments.source, arguments.query) else {
            return Ok(None);
        };
        let relation = open_table(table)?;
        let weights = Weights { vector: arguments.vector_weight, text: arguments.text_weight };
        let request = SearchRequest::new(arguments.k, arguments.skip, arguments.depth)?
            .fused(&arguments.fusion, arguments.rrf_k, weights)?
            .limited(arguments.min_similarity, arguments.diversity)?;
        Ok(Some(SearchCall {
            relation,
            query,
            request,
            filters: arguments.filter.map(|filter| filter.0).into_iter().collect(),
            model: arguments.model,
            text_configuration: arguments.text_configuration,
            choice: ColumnChoice {
                embedding: arguments.vector_column,
                lexemes: arguments.text_column,
                content: arguments.content_column,
            },
            word_match: WordMatch::parse(&arguments.r#match)?,
            query_embedding: arguments.query_embedding.map(|vector| vector.0),
            require_vector: arguments.require_vector,
            highlight: arguments.highlight,
            bm25: Bm25::new(arguments.k1, arguments.b)?,
            ef_search: 0,
            probes: 0,
            chunks: ChunkChoice::parse(&arguments.chunks)?,
        }))
    }

    /// Answers the call: from the table's own columns, or from its companion where it was made
    /// searchable and no column is named.
    ///
    /// # Errors
    /// Those of the table, the filter, the model, and whatever the server reports.
    pub fn run(&self, trace: &mut Trace) -> Result<Vec<SearchHit>> {
        let weights = self.request.weights;
        let legs = Legs { vector: weights.vector > 0.0, keyword: weights.text > 0.0 };
        let names_columns = self.choice != ColumnChoice::default();
        let companion = if names_columns { None } else { companion::open(&self.relation)? };
        match companion {
            Some(companion) => self.run_on_companion(&companion, legs, trace),
            None => {
                let facts = read_table(&self.relation)?;
                let source = SearchSource::resolve((*facts).clone(), &self.choice, legs)?;
                let filter = self.read_filter(&source)?;
                let has_hidden_rows = has_hidden_rows(&self.relation);
                let rights = LegRights { counting: None, searching: None, has_hidden_rows };
                self.run_on(&self.relation, source, &filter, legs, rights, trace)
            }
        }
    }

    /// Answers from the chunks of a table. Policies would keep PostgreSQL from using the index of
    /// words, so that the legs of one who may read all rows look at the companion with the rights of its owner,
    /// where that calls no code but the server's. All else runs with the caller's own rights, and each chunk
    /// counts only where he may read its row.
    fn run_on_companion(
        &self,
        opened: &OpenCompanion,
        legs: Legs,
        trace: &mut Trace,
    ) -> Result<Vec<SearchHit>> {
        let companion = &opened.relation;
        let source_facts = read_table(&self.relation)?;
        let no_legs = Legs { vector: false, keyword: false };
        let origin = SearchSource::resolve((*source_facts).clone(), &ColumnChoice::default(), no_legs)?;
        let filter = self.read_filter(&origin)?;
        let table = opened.table();
        let is_readable = |column: &Identifier| searchable_tables::may_read(&self.relation, column);
        let may_read_all = searchable_tables::may_read_all(&self.relation, table);
        let compared: Vec<&Identifier> =
            filter.columns().into_iter().chain(table.keys.iter().map(|key| &key.name)).collect();
        let has_trusted_type = |column: &Identifier| {
            let found = source_facts.find(column.as_str());
            found.is_some_and(|column| is_trusted(pg_sys::Oid::from(column.type_oid)))
        };
        let owner = opened.searched.owner;
        let is_safe = compared.into_iter().all(|column| is_readable(column) && has_trusted_type(column))
            && partition_of_other(&self.relation, owner).is_none();
        let rights = LegRights {
            counting: may_read_all.then_some(owner),
            searching: (may_read_all && is_safe).then_some(owner),
            has_hidden_rows: !(may_read_all && is_safe),
        };
        let facts = read_table(companion)?;
        let mut source = SearchSource::resolve((*facts).clone(), &ColumnChoice::default(), legs)?;
        source.model = Some(table.options.model.clone());
        if let (Some(lexemes), Configuration::Constant(name)) = (&mut source.lexemes, &table.configuration) {
            lexemes.configuration = Some(name.to_string());
        }
        let shown = source_facts.shown_columns().filter(|column| is_readable(column)).cloned().collect();
        source.origin = Some(table.origin(shown, rights.has_hidden_rows, self.chunks));
        self.run_on(companion, source, &filter, legs, rights, trace)
    }

    fn read_filter(&self, source: &SearchSource) -> Result<Filter> {
        self.filters.iter().try_fold(Filter::default(), |filter, part| {
            Ok(filter.and(Filter::parse(part, source, &ServerTypes)?))
        })
    }

    fn run_on(
        &self,
        relation: &PgRelation,
        source: SearchSource,
        filter: &Filter,
        legs: Legs,
        rights: LegRights,
        trace: &mut Trace,
    ) -> Result<Vec<SearchHit>> {
        let has_hidden_rows = rights.has_hidden_rows;
        let text = match legs.keyword {
            true => QueryText::parse(&self.query)?,
            // The syntax of conditions belongs to words.
            false => QueryText { wanted: self.query.clone(), ..QueryText::default() },
        };
        let embedding = trace.time("embedding", |_| self.embedding(&source, &text, legs))?;
        let (keywords, condition) =
            trace.time("statistics", |trace| self.keywords(relation, &source, &text, legs, rights, trace))?;
        let documents = match &keywords {
            Some(keywords) => keywords.collection.documents,
            None => f64::from(relation.reltuples().unwrap_or(0.0)),
        };
        let words = keywords.iter().flat_map(|keywords| &keywords.words).map(|word| word.lexeme.as_str());
        let words = if self.highlight { any_word_query(words) } else { None };
        let configuration = self.configuration(&source);
        let highlight = words.as_deref().map(|words| Highlight { configuration, words });
        let question = Question { embedding, keywords, condition };
        let partitions = filter.on_columns(&source.facts.partition_key);
        let search = Search {
            source: &source,
            request: &self.request,
            filter,
            question: &question,
            bm25_index: self.bm25_index(relation, &source, has_hidden_rows),
            has_hidden_rows,
            documents,
            highlight,
            partitions: Some(&partitions).filter(|partitions| !partitions.is_empty()),
        };
        trace.note("request", || {
            json!({
                "table": source.facts.display,
                "k": self.request.k,
                "skip": self.request.skip,
                "depth": self.request.depth,
                "fusion": self.request.fusion.name(),
            })
        });
        let is_counting = trace.is_wanted();
        let lists =
            source.origin.as_ref().and(source.vectors.as_ref()).and_then(|space| space.index.as_ref());
        let lists = lists.filter(|index| !index.is_hnsw).map_or(0, |index| ivfflat_probes(&index.options));
        let (ef_search, probes) = (self.ef_search, self.probes.max(lists));
        let owner = rights.searching;
        search.run(&mut SessionDatabase { is_counting, ef_search, probes, owner }, trace)
    }

    fn configuration<'a>(&'a self, source: &'a SearchSource) -> Option<&'a str> {
        let own = source.lexemes.as_ref().and_then(|column| column.configuration.as_deref());
        self.text_configuration.as_deref().or(own)
    }

    /// The embedding that was given, else that of the text. Where none can be had, the keyword leg
    /// answers alone, unless a vector is required.
    fn embedding(&self, source: &SearchSource, text: &QueryText, legs: Legs) -> Result<Option<Vec<f32>>> {
        let Some(space) =
            source.vectors.as_ref().filter(|_| legs.vector || self.request.min_similarity.is_some())
        else {
            return Ok(None);
        };
        if let Some(embedding) = &self.query_embedding {
            check_dimensions(space, source, embedding.len(), "query_embedding")?;
            return Ok(Some(embedding.clone()));
        }
        // What is excluded is not what is meant.
        let meant = if text.wanted.is_empty() { &self.query } else { &text.wanted };
        let model = match (&self.model, &source.model) {
            (Some(model), _) | (None, Some(model)) => model.clone(),
            (None, None) => default_model(),
        };
        match embed_one(meant, &model, Purpose::Query) {
            Ok(embedding) => {
                check_dimensions(space, source, embedding.0.len(), &format!("model \"{model}\""))?;
                Ok(Some(embedding.0))
            }
            Err(error) if self.require_vector || !legs.keyword => Err(error),
            Err(error) => {
                warn(&Error::AnsweredByWords { reason: error.to_string() });
                Ok(None)
            }
        }
    }

    fn keywords(
        &self,
        relation: &PgRelation,
        source: &SearchSource,
        text: &QueryText,
        legs: Legs,
        rights: LegRights,
        trace: &mut Trace,
    ) -> Result<(Option<KeywordQuestion>, Option<String>)> {
        let Some(column) = source.lexemes.as_ref().filter(|_| legs.keyword) else {
            return Ok((None, None));
        };
        let found = query_lexemes(text, self.configuration(source))?;
        trace.note("condition", || json!(found.condition));
        if found.lexemes.is_empty() {
            return Ok((None, found.condition));
        }
        let column = KeywordColumn { relation, facts: &source.facts, column };
        let (lexemes, occurrences): (Vec<String>, Vec<i64>) = found.lexemes.into_iter().unzip();
        let statistics = match rights.counting {
            Some(owner) => acting_as(owner, || word_statistics(&column, &lexemes))?,
            None => word_statistics(&column, &lexemes)?,
        };
        let collection = statistics.collection;
        let mut words: Vec<(QueryWord, f64)> = lexemes
            .into_iter()
            .zip(occurrences)
            .zip(&statistics.frequencies)
            .map(|((lexeme, occurrences), frequency)| {
                let weight =
                    occurrences as f64 * inverse_document_frequency(collection.documents, *frequency);
                (QueryWord { lexeme, weight }, (frequency / collection.documents.max(1.0)).min(1.0))
            })
            .collect();
        keep_best_words(&mut words);
        trace.note("statistics", || {
            json!({
                "origin": statistics.origin.name(),
                "documents": collection.documents.round() as i64,
                "average_length": collection.average_length,
                "words": words
                    .iter()
                    .map(|(word, share)| json!({ "lexeme": word.lexeme, "weight": word.weight, "share": share }))
                    .collect::<Vec<_>>(),
            })
        });
        let (words, shares): (Vec<QueryWord>, Vec<f64>) = words.into_iter().unzip();
        let question = KeywordQuestion {
            minimum: self.word_match.minimum(words.len()),
            words,
            shares,
            collection,
            bm25: self.bm25,
            condition: found.condition.clone(),
            text: text.wanted.clone(),
        };
        Ok((Some(question), found.condition))
    }

    /// The index of pg_textsearch that can serve this call. It counts all rows, whoever may see
    /// them, and those of each partition for themselves, and any word is enough for it.
    fn bm25_index<'a>(
        &self,
        relation: &PgRelation,
        source: &'a SearchSource,
        has_hidden_rows: bool,
    ) -> Option<&'a Bm25Index> {
        let is_fit = use_bm25_index()
            && !has_hidden_rows
            && self.word_match == WordMatch::Any
            && !is_partitioned(relation);
        let content = source.content.as_ref().filter(|_| is_fit)?;
        source.facts.bm25_indexes.iter().find(|index| index.column == *content && index.bm25 == self.bm25)
    }
}

/// Sorts words by weight and keeps so many as can score; those that no document has go first.
fn keep_best_words(words: &mut Vec<(QueryWord, f64)>) {
    let by_weight = |a: &(QueryWord, f64), b: &(QueryWord, f64)| {
        b.0.weight.total_cmp(&a.0.weight).then_with(|| a.0.lexeme.cmp(&b.0.lexeme))
    };
    if words.len() > MOST_WORDS {
        words.sort_by(|a, b| (a.1 == 0.0).cmp(&(b.1 == 0.0)).then_with(|| by_weight(a, b)));
        words.truncate(MOST_WORDS);
    }
    words.sort_by(by_weight);
}

fn check_dimensions(space: &VectorSpace, source: &SearchSource, found: usize, what: &str) -> Result<()> {
    match space.column.dimensions {
        Some(expected) if expected != found => Err(Error::WrongDimensions {
            expected,
            found,
            subject: format!(
                "column {} of {} holds other vectors than {what} gives",
                space.column.name, source.facts.display
            ),
        }),
        _ => Ok(()),
    }
}

/// Calls `work` with a table's tsvector column: the one named, else the only one.
///
/// # Errors
/// Those of choosing it, and of `work`.
pub fn with_searched_column<T>(
    table: pg_sys::Oid,
    column: Option<&str>,
    work: impl FnOnce(KeywordColumn) -> Result<T>,
) -> Result<T> {
    let relation = &open_table(table)?;
    let facts = read_table(relation)?;
    let choice = ColumnChoice { lexemes: column.map(str::to_owned), ..ColumnChoice::default() };
    let legs = Legs { vector: false, keyword: true };
    let source = SearchSource::resolve((*facts).clone(), &choice, legs)?;
    match &source.lexemes {
        Some(column) => work(KeywordColumn { relation, facts: &facts, column }),
        None => unreachable!("resolve gives the column of a leg that needs it"),
    }
}

/// What scores the documents of a column for a query.
///
/// # Errors
/// Whatever reading the table raises for the caller.
pub fn scorer(
    column: &KeywordColumn,
    query: &str,
    configuration: Option<&str>,
    bm25: Bm25,
) -> Result<Scorer> {
    let own = column.column.configuration.as_deref();
    let found = query_lexemes(&QueryText::parse(query)?, configuration.or(own))?;
    let (lexemes, occurrences): (Vec<String>, Vec<i64>) = found.lexemes.into_iter().unzip();
    let statistics = word_statistics(column, &lexemes)?;
    let words = lexemes.into_iter().zip(occurrences).zip(&statistics.frequencies);
    let documents = statistics.collection.documents;
    let words = words.map(|((lexeme, occurrences), frequency)| {
        let weight = occurrences as f64 * inverse_document_frequency(documents, *frequency);
        QueryWord { lexeme, weight }
    });
    let average_length = statistics.collection.average_length;
    Ok(Scorer { words: words.collect(), average_length, bm25, minimum: 0 })
}

/// What scores documents for words that the caller weighs; `None` when an argument is NULL.
///
/// # Errors
/// [`Error::NullElement`] (22004).
pub(crate) fn given_scorer(arguments: Bm25Score) -> Result<Option<Scorer>> {
    let words = (elements(arguments.lexemes, "lexemes")?, elements(arguments.weights, "weights")?);
    let numbers = (arguments.average_length, arguments.k1, arguments.b, arguments.minimum);
    let ((Some(lexemes), Some(weights)), (Some(average_length), Some(k1), Some(b), Some(minimum))) =
        (words, numbers)
    else {
        return Ok(None);
    };
    let words = lexemes.into_iter().zip(weights).map(|(lexeme, weight)| QueryWord { lexeme, weight });
    Ok(Some(Scorer {
        words: words.collect(),
        average_length,
        bm25: Bm25 { k1, b },
        minimum: usize::try_from(minimum).unwrap_or(0),
    }))
}

/// The elements of an array, none of which may be NULL; `None` for no array.
fn elements<T>(array: Option<Vec<Option<T>>>, argument: &'static str) -> Result<Option<Vec<T>>> {
    let element = |(index, element): (usize, Option<T>)| {
        element.ok_or(Error::NullElement { argument, place: index + 1 })
    };
    array.map(|elements| elements.into_iter().enumerate().map(element).collect()).transpose()
}
