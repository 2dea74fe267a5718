//! The plans that a session keeps.

#[pgrx::pg_schema]
mod tests {
    use crate::kit::spi::{has_plan, query};
    use pgrx::prelude::*;
    use vector_tools_core::sql::Statement;

    fn select(number: usize) -> Statement {
        Statement { text: format!("SELECT {number}::pg_catalog.int8"), ..Statement::default() }
    }

    fn run(number: usize) -> Option<i64> {
        query(&select(number), |row| row.get(1)).into_iter().next().flatten()
    }

    #[pg_test]
    fn a_plan_stays_while_it_runs_and_others_make_room() {
        let outer = select(0);
        let found = query(&outer, |row| {
            // As a function of a user's does, in a policy or a trigger.
            let inner: Vec<Option<i64>> = (1..=1000).map(run).collect();
            assert_eq!(inner, (1..=1000).map(Some).collect::<Vec<_>>());
            assert!(has_plan(&outer.text), "expected the plan that runs to be kept");
            let kept = (1..=1000).filter(|number| has_plan(&select(*number).text)).count();
            assert!(kept <= 128, "expected old plans to be dropped, not {kept} to be kept");
            row.get::<i64>(1)
        });
        assert_eq!(found, [Some(0)]);
    }
}
