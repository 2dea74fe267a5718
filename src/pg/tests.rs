//! Tests inside the server: what the SQL functions promise.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    #[pg_test]
    fn the_default_model_embeds() {
        let dimensions = Spi::get_one::<i32>("SELECT vector_dims(embed('hello'))");
        assert_eq!(dimensions, Ok(Some(384)));
    }
}
