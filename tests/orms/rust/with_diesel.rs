//! Diesel: keys by a default in the schema, which the model reads and does not insert, and adopted keys.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt};
use std::error::Error;

table! {
    diesel_authors (id) {
        id -> BigInt,
        name -> Text,
    }
}
table! {
    diesel_books (id) {
        id -> BigInt,
        title -> Text,
        author_id -> BigInt,
    }
}
joinable!(diesel_books -> diesel_authors (author_id));
allow_tables_to_appear_in_same_query!(diesel_authors, diesel_books);

#[derive(Queryable, Selectable, Identifiable, Debug, PartialEq)]
#[diesel(table_name = diesel_authors)]
struct Author {
    id: i64,
    name: String,
}

#[derive(Insertable)]
#[diesel(table_name = diesel_authors)]
struct NewAuthor<'a> {
    name: &'a str,
}

#[derive(Queryable, Selectable, Identifiable, Associations, Debug, PartialEq)]
#[diesel(table_name = diesel_books, belongs_to(Author))]
struct Book {
    id: i64,
    title: String,
    author_id: i64,
}

#[derive(Insertable)]
#[diesel(table_name = diesel_books)]
struct NewBook<'a> {
    title: &'a str,
    author_id: i64,
}

const SCHEMA: &str = "
    CREATE TABLE diesel_authors (id bigint DEFAULT idgen_next() PRIMARY KEY, name text NOT NULL);
    CREATE TABLE diesel_books (
        id bigserial PRIMARY KEY, title text NOT NULL, author_id bigint NOT NULL REFERENCES diesel_authors);
    SELECT idgen_adopt('diesel_books', 'id');";

define_sql_function! { fn made_by_idgen(ids: Array<BigInt>) -> Bool; }

fn main() -> Result<(), Box<dyn Error>> {
    let mut connection = PgConnection::establish("")?; // PGHOST and the like say where
    connection.batch_execute(SCHEMA)?;

    let author: Author = diesel::insert_into(diesel_authors::table)
        .values(NewAuthor { name: "Le Guin" })
        .returning(Author::as_returning())
        .get_result(&mut connection)?;
    let titles = ["The Dispossessed", "The Telling"];
    let books: Vec<Book> = diesel::insert_into(diesel_books::table)
        .values(Vec::from(titles.map(|title| NewBook { title, author_id: author.id })))
        .returning(Book::as_returning())
        .get_results(&mut connection)?;
    let ids = vec![author.id, books[0].id, books[1].id];
    assert!(diesel::select(made_by_idgen(ids)).get_result::<bool>(&mut connection)?);

    let found: Author = diesel_authors::table.find(author.id).select(Author::as_select()).first(&mut connection)?;
    assert_eq!(found, author);
    let related: Vec<Book> =
        Book::belonging_to(&found).select(Book::as_select()).order(diesel_books::id).load(&mut connection)?;
    assert_eq!(related, books);
    let joined: Vec<(String, String)> = diesel_books::table
        .inner_join(diesel_authors::table)
        .filter(diesel_authors::id.eq(author.id))
        .order(diesel_books::id)
        .select((diesel_books::title, diesel_authors::name))
        .load(&mut connection)?;
    assert_eq!(joined, titles.map(|title| (title.to_string(), "Le Guin".to_string())));

    let names: Vec<String> = (0..2000).map(|i| format!("author {i}")).collect();
    let many: Vec<Author> = diesel::insert_into(diesel_authors::table)
        .values(names.iter().map(|name| NewAuthor { name }).collect::<Vec<_>>())
        .returning(Author::as_returning())
        .get_results(&mut connection)?;
    let ids: Vec<i64> = many.iter().map(|author| author.id).collect();
    assert!(ids.is_sorted(), "ids do not follow the order of the rows");
    assert!(diesel::select(made_by_idgen(ids)).get_result::<bool>(&mut connection)?);
    assert!(many.iter().map(|author| &author.name).eq(&names));
    Ok(())
}
