//! `tsvector` values, and how functions that score them keep the query from row to row.

use std::cell::Cell;

use pgrx::{PgMemoryContexts, pg_sys};

use vector_tools_core::error::Result;
use vector_tools_core::search::bm25::{Bm25, QueryWord};
use vector_tools_core::search::text_vector::TextVector;

thread_local! {
    static SCORED: Cell<u64> = const { Cell::new(0) };
}

/// Rows that this session has scored since the last call. Parallel workers count for themselves.
pub fn take_scored() -> u64 {
    SCORED.replace(0)
}

/// The words of a query with everything that their scores depend on.
pub struct Scorer {
    /// The words.
    pub words: Vec<QueryWord>,
    /// The average length of the documents.
    pub average_length: f64,
    /// The parameters.
    pub bm25: Bm25,
    /// How many of the words a document must have.
    pub minimum: usize,
}

/// A `tsvector` where it lies. [`ScoreCall`] reads it.
pub type TsVector = pg_sys::Datum;

/// A call of a function whose first argument is a `tsvector`.
#[derive(Clone, Copy)]
pub struct ScoreCall(pub pg_sys::FunctionCallInfo);

impl ScoreCall {
    /// The score of the `tsvector`; `None` when it is NULL or has too few of the words. The scorer
    /// is made by `build` for the first row of a query and kept for the others where all arguments
    /// but the first stay the same.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn score(self, build: impl FnOnce() -> Result<Option<Scorer>>) -> Result<Option<f64>> {
        // SAFETY: the first argument is a tsvector; flinfo belongs to the call, and fn_extra is
        // ours and lives as long as fn_mcxt.
        unsafe {
            let flinfo = (*self.0).flinfo;
            let mut kept: *mut Option<Scorer> = (*flinfo).fn_extra.cast();
            if kept.is_null() {
                let built = build()?;
                if !self.has_fixed_arguments() {
                    return Ok(built.and_then(|scorer| self.score_with(&scorer)));
                }
                kept = PgMemoryContexts::For((*flinfo).fn_mcxt).leak_and_drop_on_delete(built);
                (*flinfo).fn_extra = kept.cast();
            }
            Ok((*kept).as_ref().and_then(|scorer| self.score_with(scorer)))
        }
    }

    /// Whether all arguments but the first stay the same as long as the call's place in its expression is kept:
    /// constants, and parameters in a statement. PL/pgSQL keeps an expression that reads no table for a
    /// whole transaction, and its variables, which change, are parameters too.
    fn has_fixed_arguments(self) -> bool {
        // SAFETY: flinfo belongs to the call, whose expression, if it has one, lives as long; a call of a
        // function has a list of arguments.
        unsafe {
            let flinfo = (*self.0).flinfo;
            let call = (*flinfo).fn_expr;
            if call.is_null() || (*call).type_ != pg_sys::NodeTag::T_FuncExpr {
                return false;
            }
            let arguments = pgrx::PgList::<pg_sys::Node>::from_pg((*call.cast::<pg_sys::FuncExpr>()).args);
            let reads_rows = pg_sys::contain_var_clause(call);
            (1..i32::from((*self.0).nargs)).all(|place| match reads_rows {
                true => pg_sys::get_fn_expr_arg_stable(flinfo, place),
                false => {
                    let argument = arguments.get_ptr(place as usize);
                    argument.is_some_and(|argument| (*argument).type_ == pg_sys::NodeTag::T_Const)
                }
            })
        }
    }

    fn score_with(self, scorer: &Scorer) -> Option<f64> {
        SCORED.set(SCORED.get() + 1);
        // SAFETY: the first argument is a tsvector, which has variable length.
        let (score, matched) = unsafe {
            let document = pgrx::fcinfo::pg_getarg_datum(self.0, 0)?;
            with_detoasted(document, |bytes| {
                let vector = TextVector::new(bytes)?;
                Some(scorer.bm25.score(&vector, &scorer.words, scorer.average_length))
            })?
        };
        (matched >= scorer.minimum).then_some(score)
    }
}

/// Calls `read` with the bytes of a variable-length value, after their header.
///
/// # Safety
/// `datum` must be a value of a type of variable length, and not NULL.
pub unsafe fn with_detoasted<T>(datum: pg_sys::Datum, read: impl FnOnce(&[u8]) -> T) -> T {
    let given: *mut pg_sys::varlena = datum.cast_mut_ptr();
    // SAFETY: the caller's promise; a copy is freed here, since a statement may look at many.
    unsafe {
        let plain = pg_sys::pg_detoast_datum_packed(given);
        let bytes = std::slice::from_raw_parts(
            pgrx::varlena::vardata_any(plain).cast::<u8>(),
            pgrx::varlena::varsize_any_exhdr(plain),
        );
        let result = read(bytes);
        if plain != given {
            pg_sys::pfree(plain.cast());
        }
        result
    }
}
