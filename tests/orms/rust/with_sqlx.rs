//! sqlx: keys by a default in the schema, adopted keys, and `js_safe`.

use sqlx::postgres::{PgConnectOptions, PgPool};
use std::error::Error;

/// Its id and its name.
type Author = (i64, String);

const SCHEMA: &str = "
    CREATE TABLE sqlx_authors (id bigint DEFAULT idgen_next() PRIMARY KEY, name text NOT NULL);
    CREATE TABLE sqlx_books (
        id bigserial PRIMARY KEY, title text NOT NULL, author_id bigint NOT NULL REFERENCES sqlx_authors);
    SELECT idgen_adopt('sqlx_books', 'id');
    SELECT idgen_create_generator('sqlx_page_id', 'js_safe');
    CREATE TABLE sqlx_pages (id bigint DEFAULT idgen_next('sqlx_page_id') PRIMARY KEY, title text);";

async fn made_by_idgen(pool: &PgPool, ids: &[i64]) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT made_by_idgen($1)").bind(ids).fetch_one(pool).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = PgPool::connect_with(PgConnectOptions::new()).await?; // PGHOST and the like say where
    sqlx::raw_sql(SCHEMA).execute(&pool).await?;

    let author: Author = sqlx::query_as("INSERT INTO sqlx_authors (name) VALUES ($1) RETURNING *")
        .bind("Le Guin")
        .fetch_one(&pool)
        .await?;
    let books: Vec<i64> = sqlx::query_scalar(
        "INSERT INTO sqlx_books (title, author_id) SELECT title, $2 FROM unnest($1) AS title RETURNING id",
    )
    .bind(["The Dispossessed", "The Telling"])
    .bind(author.0)
    .fetch_all(&pool)
    .await?;
    assert!(made_by_idgen(&pool, &[author.0, books[0], books[1]]).await?);

    let found: Author =
        sqlx::query_as("SELECT * FROM sqlx_authors WHERE id = $1").bind(author.0).fetch_one(&pool).await?;
    assert_eq!(found, author);
    let joined: Vec<(i64, String, String)> = sqlx::query_as(
        "SELECT b.id, b.title, a.name FROM sqlx_books b JOIN sqlx_authors a ON a.id = b.author_id WHERE a.id = $1 ORDER BY b.id",
    )
    .bind(author.0)
    .fetch_all(&pool)
    .await?;
    let expected = [(books[0], "The Dispossessed"), (books[1], "The Telling")];
    assert_eq!(joined, expected.map(|(id, title)| (id, title.into(), "Le Guin".into())));

    let names: Vec<String> = (0..2000).map(|i| format!("author {i}")).collect();
    let many: Vec<Author> = sqlx::query_as("INSERT INTO sqlx_authors (name) SELECT unnest($1) RETURNING *")
        .bind(&names)
        .fetch_all(&pool)
        .await?;
    let ids: Vec<i64> = many.iter().map(|author| author.0).collect();
    assert!(made_by_idgen(&pool, &ids).await?);
    assert!(ids.is_sorted(), "ids do not follow the order of the rows");
    assert!(many.iter().map(|author| &author.1).eq(&names));

    let mut transaction = pool.begin().await?;
    let taken: i64 = sqlx::query_scalar("SELECT idgen_next()").fetch_one(&mut *transaction).await?;
    let mut copy = transaction.copy_in_raw("COPY sqlx_authors (name) FROM STDIN").await?;
    copy.send("copied\n".repeat(1000).as_bytes()).await?;
    copy.finish().await?;
    transaction.commit().await?;
    let copied: Vec<i64> = sqlx::query_scalar("SELECT id FROM sqlx_authors WHERE name = 'copied' AND id > $1")
        .bind(taken)
        .fetch_all(&pool)
        .await?;
    assert!(copied.len() == 1000 && made_by_idgen(&pool, &copied).await?);

    let page: i64 = sqlx::query_scalar("INSERT INTO sqlx_pages DEFAULT VALUES RETURNING id").fetch_one(&pool).await?;
    assert!(page > 0 && page < 1 << 53);
    Ok(())
}
