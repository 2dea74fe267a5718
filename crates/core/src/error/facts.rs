//! SQLSTATE, detail and hint of every error, in one table.

use crate::error::{Error, shortened};
use crate::literal::Literal;

/// The most bytes of a detail and of a hint. Lists of tables and of columns are there.
const MOST_BYTES: usize = 1200;

/// The parts of an error report beside its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Five-character SQLSTATE (PostgreSQL, appendix A).
    pub sqlstate: &'static str,
    /// A full sentence that says more, or nothing.
    pub detail: Option<String>,
    /// A full sentence that says what to do.
    pub hint: Option<String>,
}

impl Error {
    /// SQLSTATE, detail and hint of this error.
    pub fn facts(&self) -> Facts {
        use Error::*;
        let (sqlstate, detail, hint): (&'static str, Option<String>, Option<String>) = match self {
            UnknownModel { nearest, .. } => (
                "42704",
                nearest.as_ref().map(|n| format!("The nearest registered name is \"{n}\".")),
                Some("See SELECT * FROM vector_tools.models, or register it with register_model(name, source).".into()),
            ),
            ModelExists { name } => (
                "42710",
                Some("A registered model never changes under its name, so that stored embeddings stay comparable.".into()),
                Some(format!("Choose another name, or remove it first with drop_model('{name}').")),
            ),
            ModelInUse { name, .. } => (
                "2BP01",
                Some("These tables embed their rows with it.".into()),
                Some(format!("Drop those tables or their triggers first, then call drop_model('{name}').")),
            ),
            InvalidModelName { .. } => (
                "42602",
                Some("A model name has 1 to 63 of the characters a-z, A-Z, 0-9, '.', '_', '-', '/' and ':', and starts with a letter or digit.".into()),
                Some("Choose another name, such as 'all-MiniLM-L6-v2'.".into()),
            ),
            UnknownProvider { .. } => (
                "0A000",
                Some("The known provider is \"onnx\".".into()),
                Some("Call register_model(name, source, provider => 'onnx').".into()),
            ),
            InvalidModelOptions { reason } => (
                "22023",
                Some(sentence(reason)),
                Some("Known options are file, output, pooling (\"mean\" or \"cls\"), normalize, max_tokens, query_prefix and passage_prefix.".into()),
            ),
            LibraryMissing { tried } => (
                "55000",
                Some(format!("Tried: {}.", tried.join(", "))),
                Some("Install ONNX Runtime 1.17 or newer and set vector_tools.onnxruntime_library to the full path of libonnxruntime.so.".into()),
            ),
            LibraryUnusable { reason, .. } => (
                "58000",
                Some(sentence(reason)),
                Some("Set vector_tools.onnxruntime_library to the full path of libonnxruntime.so, version 1.17 or newer.".into()),
            ),
            FileMissing { role, .. } => (
                "58P01",
                Some(format!("It is needed as the {role}.")),
                Some("Check the source given to register_model, and that the folder is on this server; relative sources are looked up in vector_tools.model_directory.".into()),
            ),
            FileUnreadable { reason, denied, .. } => (
                if *denied { "42501" } else { "58030" },
                Some(sentence(reason)),
                Some("Make the folder and its files readable for the operating-system user of the server.".into()),
            ),
            ModelFileCorrupt { reason, .. } => (
                "22P03",
                Some(sentence(reason)),
                Some("Copy or convert the model again; its ONNX file is damaged or made for a newer ONNX Runtime.".into()),
            ),
            TokenizerCorrupt { reason, .. } => (
                "22P02",
                Some(sentence(reason)),
                Some("Copy tokenizer.json again from the model's source; it must be in the format of Hugging Face tokenizers.".into()),
            ),
            FileChanged { model, registered, found, .. } => (
                "XX001",
                Some(format!("Its sha256 was {registered} at registration and is {found} now.")),
                Some(format!("Put the registered file back, or call drop_model('{model}'), register the new file under a new name and embed again.")),
            ),
            InvalidConfiguration { reason, .. } => (
                "22032",
                Some(sentence(reason)),
                Some("Copy the file again from the model's source, or give the setting in the options of register_model.".into()),
            ),
            UnknownInputs { found } => (
                "0A000",
                Some(format!("Found: {found}. Known are input_ids, attention_mask and token_type_ids, all int64.")),
                Some("Export the model as a text encoder (feature extraction).".into()),
            ),
            UnknownOutputs { found } => (
                "0A000",
                Some(format!("Found: {found}. Known are one vector for each text (batch, dimensions) and one for each token (batch, tokens, dimensions), both float32.")),
                Some("Name the right output in the options, such as {\"output\": \"last_hidden_state\"}, or export the model for feature extraction.".into()),
            ),
            UnsupportedModule { .. } => (
                "0A000",
                Some("Of the modules in modules.json, Transformer, Pooling and Normalize are computed here.".into()),
                Some("Export the whole pipeline to ONNX with an output named sentence_embedding.".into()),
            ),
            InferenceFailed { reason } => (
                "38000",
                Some(sentence(reason)),
                Some("Check that tokenizer.json and the ONNX file belong to the same model.".into()),
            ),
            WrongDimensions { subject, .. } => (
                "22000",
                Some(sentence(subject)),
                Some("Name the model that the column was embedded with, as in model => 'all-MiniLM-L6-v2'.".into()),
            ),
            WrongArrayShape { .. } => (
                "2202E",
                None,
                Some("Flatten the array first, for instance with array(SELECT unnest(inputs)).".into()),
            ),
            InvalidName { reason, .. } => ("42602", Some(sentence(reason)), Some("Choose another name.".into())),
            InvalidArgument { .. } => {
                ("22023", None, Some("See \\df in psql for the arguments and their defaults.".into()))
            }
            NotSearchable { kind, .. } => (
                "42809",
                Some(format!("It is {kind}.")),
                Some("Name an ordinary, partitioned or materialized table that has a vector and a tsvector column.".into()),
            ),
            MissingColumn { role, .. } => (
                "42703",
                None,
                Some(match *role {
                    "vector" => "Add one, as in ALTER TABLE … ADD embedding vector(384) GENERATED ALWAYS AS (embed(body, 'all-MiniLM-L6-v2')) STORED.",
                    _ => "Add one, as in ALTER TABLE … ADD body_text tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED.",
                }.into()),
            ),
            AmbiguousColumn { columns, argument, .. } => (
                "42702",
                Some(format!("They are {columns}.")),
                Some(format!("Name the one to search in the argument {argument}.")),
            ),
            UnknownColumn { .. } => ("42703", None, Some("See \\d in psql for the columns of the table.".into())),
            WrongColumnType { .. } => ("42804", None, Some("Name a column of the right type.".into())),
            UnexpectedColumnType { column, expected, found } => (
                "42804",
                Some(format!("Column \"{column}\" is read as {expected}, and its type is {found} now.")),
                Some(format!("Have the table's owner give the column back its type with ALTER TABLE … ALTER COLUMN … TYPE {expected}.")),
            ),
            QueryTooLarge { .. } => (
                "54000",
                None,
                Some("Ask with a shorter text, and put what rows must have into a filter.".into()),
            ),
            UnknownConfiguration { .. } => {
                ("42704", None, Some("See \\dF in psql for the configurations.".into()))
            }
            InvalidFilter { reason, .. } => (
                "22023",
                Some(sentence(reason)),
                Some("Write filters as {\"column\": value} or {\"column\": {\"$gte\": value}}.".into()),
            ),
            InvalidFilterValue { sqlstate, reason, .. } => (
                sqlstate,
                Some(sentence(reason)),
                Some("Give a value as the column's type writes it; \\d in psql shows the types.".into()),
            ),
            InvalidFilterOperator { .. } => (
                "42883",
                None,
                Some("Test it with $exists or $like, or filter by another column.".into()),
            ),
            AnsweredByWords { reason } => (
                "01000",
                Some(sentence(reason)),
                Some("Call it with require_vector => true to get an error instead.".into()),
            ),
            OtherVersion => (
                "55000",
                None,
                Some("Run ALTER EXTENSION vector_tools UPDATE, then reconnect.".into()),
            ),
            TableGone { .. } => (
                "42P01",
                Some("It was dropped after its name had been looked up.".into()),
                Some("Run the statement again.".into()),
            ),
            RoleNotFound { .. } => {
                ("42704", None, Some("Create it with CREATE ROLE, or call create_vector_roles().".into()))
            }
            NotGrantable { .. } => (
                "42501",
                Some("Rights are granted and revoked by the owner, and by who got them WITH GRANT OPTION.".into()),
                Some("Have the owner call the function, or grant yourself the owner's role.".into()),
            ),
            WriterGone { .. } => (
                "42704",
                Some("It queued the document, which is written with its rights.".into()),
                Some("Have another role queue the document.".into()),
            ),
            IsolatedByRole { table } => (
                "55000",
                Some("With both, a session could choose namespaces that its role may not see.".into()),
                Some(format!("Call share_namespaces('{table}') first.")),
            ),
            NotOwner { .. } => (
                "42501",
                Some("The statistics count all rows of the table, whoever may see them.".into()),
                Some("Have its owner call refresh_search_stats, or grant yourself the owner's role.".into()),
            ),
            PartitionOfOther { partition, .. } => (
                "42501",
                Some("Its owner's functions would run with the rights of the table's owner.".into()),
                Some(format!("ALTER TABLE {partition} OWNER TO the owner of the table.")),
            ),
            RelationExists { .. } => (
                "42P07",
                None,
                Some("Choose another domain, or another schema with SET search_path.".into()),
            ),
            UnknownDomain { domain, nearest } => (
                "42704",
                Some(match nearest.as_slice() {
                    [] => "There is no domain in the schemas of search_path that you may use.".into(),
                    [only] => format!("The nearest domain is \"{only}\"."),
                    several => format!("The nearest domains are \"{}\".", several.join("\", \"")),
                }),
                Some(format!("Create it with SELECT create_domain_memories_table({}).", Literal(domain))),
            ),
            NotMemories { missing, .. } => (
                "42809",
                Some(format!("It lacks these columns, or has them with other types: {missing}.")),
                Some("Choose another domain, or create it in another schema that comes first in search_path.".into()),
            ),
            NotEmbedding { domain, .. } => (
                "55000",
                Some("It has no trigger vector_tools.embed_row('content', 'embedding', model), as after DROP EXTENSION … CASCADE, or when it was made without the extension.".into()),
                Some(format!("Have its owner call create_domain_memories_table({}), which mends it.", Literal(domain))),
            ),
            WithoutWords { domain, .. } => (
                "42703",
                Some("It was made without the extension.".into()),
                Some(format!("Have its owner call create_domain_memories_table({}), which adds the column lexemes and the triggers.", Literal(domain))),
            ),
            MemoryExists { .. } => (
                "23505",
                None,
                Some("Leave the id out to have a new one made, or change that memory with update_memory(id, content).".into()),
            ),
            MissingArgument { argument } => ("22004", None, Some(format!("Give a value for {argument}."))),
            NoSchema => ("3F000", None, Some("Name a schema with SET search_path.".into())),
            UnusableTriggerColumn { reason, .. } => (
                "42804",
                Some(sentence(reason)),
                Some("Name a text column and a vector column in the arguments of the trigger.".into()),
            ),
            UnknownStore { schema, nearest } => (
                "42P01",
                nearest.as_ref().map(|n| format!("The nearest schema that has one is \"{n}\".")),
                Some(format!(
                    "Make it with create_vector_store({}), or see SELECT * FROM vector_tools.vector_stores.",
                    Literal(schema)
                )),
            ),
            NotAStore { reason, .. } => (
                "42809",
                Some(sentence(reason)),
                Some("Make the store in another schema with create_vector_store(schema).".into()),
            ),
            StoreDiffers { found, .. } => (
                "42P07",
                Some(sentence(found)),
                Some("Choose another schema; vectors of two models or types do not fit into one store.".into()),
            ),
            UnknownNamespace { namespace, schema, .. } => (
                "42704",
                Some("Rows of such namespaces are in the default partition.".into()),
                Some(format!(
                    "Remove them with clear_namespace({0}, {1}), or make a partition with create_namespace({0}, {1}).",
                    Literal(schema),
                    Literal(namespace)
                )),
            ),
            UnknownCollection { name, schema, nearest } => (
                "42704",
                nearest.as_ref().map(|n| format!("The nearest collection is \"{n}\".")),
                Some(format!("Make it with create_collection({}, {}).", Literal(schema), Literal(name))),
            ),
            CollectionExists { .. } | CollectionHidden { .. } => (
                "42710",
                Some("A collection is inside one namespace, and its name is unique in the store.".into()),
                Some("Choose another name, or that namespace.".into()),
            ),
            CollectionInUse { name, schema, .. } => (
                "2BP01",
                None,
                Some(format!(
                    "Call drop_collection({}, {}, delete_embeddings => true) to delete them with it.",
                    Literal(schema),
                    Literal(name)
                )),
            ),
            NullElement { .. } => {
                ("22004", None, Some("Leave such elements out, as array_remove(…, NULL) does.".into()))
            }
            TooLong { .. } => (
                "54000",
                Some("Models read far less of a text, and PostgreSQL keeps no more of its words.".into()),
                Some("Have the text cut, as in upsert_document(…, strategy => 'semantic'), or give the pieces as an array: upsert_document(…, chunks => ARRAY[…]).".into()),
            ),
            TooMany { unit, .. } => ("54000", None, Some(format!("Give fewer {unit} at once."))),
            InvalidVector { .. } => {
                ("22003", None, Some("Give finite numbers; check what computed the vector.".into()))
            }
            DuplicateRow { key } => (
                "21000",
                Some(format!("It is {key}.")),
                Some("Give each chunk once, or in calls of their own.".into()),
            ),
            NotATrigger { .. } => ("39P01", None, Some("Use it in CREATE TRIGGER … EXECUTE FUNCTION.".into())),
            NotOwnerToAudit { .. } => (
                "42501",
                None,
                Some("Have its owner call enable_audit or disable_audit, or grant yourself the owner's role.".into()),
            ),
            NotAuditable { kind, .. } => (
                "42809",
                Some(format!("It is {kind}.")),
                Some("Name an ordinary or partitioned table.".into()),
            ),
            AuditedWithParent { parent, .. } => (
                "55000",
                None,
                Some(format!("Call enable_audit or disable_audit for {parent}.")),
            ),
            NotAudited { .. } => (
                "55000",
                None,
                Some("Call enable_audit(table) first; a log that an earlier audit left can be read with SELECT.".into()),
            ),
            NotAnAuditLog { .. } => {
                ("42P07", None, Some("Choose another name in the argument log of enable_audit.".into()))
            }
            UnusableAuditLog { sqlstate, reason, .. } => (
                sqlstate,
                Some(sentence(reason)),
                Some("Have the table's owner call enable_audit with a log of its own, or disable_audit.".into()),
            ),
            ProtectedAuditLog { .. } => (
                "42501",
                Some("A log is append-only for everyone but its owner.".into()),
                Some("Have the owner of the log do it, with SET ROLE.".into()),
            ),
            NotOwnerToSearch { .. } => (
                "42501",
                None,
                Some("Have its owner call the function, or grant yourself the owner's role.".into()),
            ),
            NotEnableable { kind, .. } => (
                "42809",
                Some(format!("It is {kind}.")),
                Some("Name an ordinary or partitioned table that is not temporary.".into()),
            ),
            NoPrimaryKey { table } => (
                "42P16",
                Some("Chunks belong to a row by its primary key.".into()),
                Some(format!("Add one, as in ALTER TABLE {table} ADD id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY.")),
            ),
            SearchedWithParent { .. } => {
                ("55000", None, Some("Name the partitioned table that was made searchable.".into()))
            }
            NotSearched { table } => (
                "55000",
                None,
                Some(format!("Call enable_search({}, content => ARRAY[…]) first.", Literal(table))),
            ),
            CompanionGone { table } => (
                "55000",
                Some("Its triggers are still there.".into()),
                Some(format!("Call enable_search({0}, …) to make it again, or disable_search({0}).", Literal(table))),
            ),
            CompanionNotOwned { companion, .. } => (
                "42501",
                Some("A companion is read and written with the rights of its table's owner.".into()),
                Some(format!("Give it to the owner of the table with ALTER TABLE {companion} OWNER TO ….")),
            ),
            CompanionExists { .. } => (
                "42P07",
                None,
                Some("Rename that relation, or move it to another schema.".into()),
            ),
            SearchedColumnGone { table } => (
                "55000",
                Some("It was dropped together with the trigger that watched it.".into()),
                Some(format!(
                    "Call enable_search({0}, content => ARRAY[…]) with columns that are there, or disable_search({0}).",
                    Literal(table)
                )),
            ),
            ModelChangeUnderWay { table, next } => (
                "55000",
                Some(format!("Its rows are being embedded with \"{next}\".")),
                Some(format!(
                    "Call finish_search_model({0}) or rollback_search_model({0}) first.",
                    Literal(table)
                )),
            ),
            NoModelChange { table } => (
                "55000",
                None,
                Some(format!("Begin one with set_search_model({}, 'model').", Literal(table))),
            ),
            ModelChangeIncomplete { table, model, behind, rows } => (
                "55000",
                Some(format!("Of {rows} rows that searches find, {behind} are not embedded with \"{model}\" yet.")),
                Some(format!(
                    "CALL run_embedding_jobs(), see vector_tools.embedding_errors, and call set_search_model({}, {}) again if neither helps.",
                    Literal(table), Literal(model)
                )),
            ),
            NoPreviousModel { table } => (
                "55000",
                Some("No change of its model is under way, and no vectors of another model are kept.".into()),
                Some(format!("Change the model with set_search_model({}, 'model').", Literal(table))),
            ),
            RowNotEmbedded { sqlstate, reason, .. } => (
                known_sqlstate(sqlstate),
                Some(sentence(reason)),
                Some("Correct the row, or call enable_search with mode => 'async' to have such rows recorded in vector_tools.embedding_errors instead.".into()),
            ),
            Reported { sqlstate, detail, hint, .. } => (sqlstate, detail.clone(), hint.clone()),
            EmbedderLost { reason } => (
                "57P03",
                Some(sentence(reason)),
                Some("Run the statement again. If it fails each time, the server log says why the process ended.".into()),
            ),
            EmbedderKilled { reason } => (
                "57P03",
                Some(sentence(reason)),
                Some("Run the statement again. If it fails each time, the text is to blame; the server log says how the process ended.".into()),
            ),
            EmbedderUnavailable { reason } => (
                "57P03",
                Some(sentence(reason)),
                Some("Set vector_tools.embedder to auto or backend to load the model in the session itself.".into()),
            ),
            EmbedderSilent { seconds } => (
                "57P03",
                Some(format!("It runs, but {seconds} seconds were not enough for it to answer.")),
                Some("Run the statement again. If it fails each time, the server log says what the process does.".into()),
            ),
            CacheFailed { reason } => (
                "01000",
                Some(sentence(reason)),
                Some("The texts were embedded without it. TRUNCATE vector_tools.embedding_cache empties it; vector_tools.embedding_cache_size = 0 turns it off.".into()),
            ),
            EmbeddingInSession { reason } => (
                "00000",
                Some(sentence(reason)),
                Some("SET vector_tools.embedder = 'backend' to have it so without this message, or 'shared' to get an error instead.".into()),
            ),
            EmbedderMemory { needed, limit, .. } => (
                "53200",
                Some(format!("It needs about {} MB, and {} MB are the limit.", megabytes(*needed), limit >> 20)),
                Some("Raise vector_tools.embedder_memory_limit, or use a smaller model.".into()),
            ),
            ProtocolViolation { reason } => (
                "08P01",
                Some(sentence(reason)),
                Some("Reconnect; if it persists, install the extension again, so that its library and its executable are of one build.".into()),
            ),
        };
        let short = |text: Option<String>| text.map(|text| shortened(text, MOST_BYTES));
        Facts { sqlstate, detail: short(detail), hint: short(hint) }
    }
}

/// A SQLSTATE that is the reason of another error, of those that can be; the rest is a data exception.
fn known_sqlstate(found: &str) -> &'static str {
    const KNOWN: [&str; 12] = [
        "22000", "22P02", "22023", "22021", "38000", "42501", "42704", "54000", "55000", "58P01", "53200",
        "XX001",
    ];
    KNOWN.into_iter().find(|known| *known == found).unwrap_or("22000")
}

/// Rounded up.
fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// Makes a reason from another library a sentence fit for DETAIL: one paragraph, a capital, a stop.
fn sentence(reason: &str) -> String {
    let text = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut characters = text.chars();
    let Some(first) = characters.next() else {
        return text;
    };
    let mut sentence: String = first.to_uppercase().chain(characters).collect();
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_become_sentences() {
        assert_eq!(sentence("no such\n  file"), "No such file.");
        assert_eq!(sentence(""), "");
    }
}
