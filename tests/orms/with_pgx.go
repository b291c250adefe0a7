// pgx: one row, batches, arrays and COPY.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	_ "github.com/jackc/pgx/v4/stdlib"
)

const many = 2000

var (
	ctx = context.Background()
	db  *pgx.Conn
)

func main() {
	var err error
	db, err = pgx.Connect(ctx, "") // PGHOST and the like say where
	must(err)
	defer db.Close(ctx)
	for _, statement := range []string{
		"CREATE TABLE pgx_authors (id bigint DEFAULT idgen_next() PRIMARY KEY, name text NOT NULL)",
		"CREATE TABLE pgx_books (id bigserial PRIMARY KEY, title text, author_id bigint REFERENCES pgx_authors)",
		"SELECT idgen_adopt('pgx_books', 'id')",
	} {
		_, err = db.Exec(ctx, statement)
		must(err)
	}

	author := oneRow("INSERT INTO pgx_authors (name) VALUES ($1) RETURNING id", "Le Guin")
	book := oneRow("INSERT INTO pgx_books (title, author_id) VALUES ($1, $2) RETURNING id", "The Telling", author)
	madeByIdgen(author, book)
	names := make([]string, many)
	for i := range names {
		names[i] = fmt.Sprint("author ", i)
	}
	inBatch(names)
	ids := column("INSERT INTO pgx_authors (name) SELECT unnest($1::text[]) RETURNING id", names)
	belongTo(ids, names)
	byCopy(names)
	throughDatabaseSQL()
	asJSON()
}

func inBatch(names []string) {
	batch := &pgx.Batch{}
	for _, name := range names {
		batch.Queue("INSERT INTO pgx_authors (name) VALUES ($1) RETURNING id", name)
	}
	results := db.SendBatch(ctx, batch)
	ids := make([]int64, len(names))
	for i := range ids {
		must(results.QueryRow().Scan(&ids[i]))
	}
	must(results.Close())
	belongTo(ids, names)
}

// COPY gives keys to rows without them, and tells none; a zero is a key to it.
func byCopy(names []string) {
	copyInto := func(columns []string, row func(int) []interface{}) error {
		from := pgx.CopyFromSlice(len(names), func(i int) ([]interface{}, error) { return row(i), nil })
		copied, err := db.CopyFrom(ctx, pgx.Identifier{"pgx_authors"}, columns, from)
		check(err != nil || copied == int64(len(names)))
		return err
	}
	must(copyInto([]string{"name"}, func(i int) []interface{} { return []interface{}{"copied " + names[i]} }))
	ids := column("SELECT id FROM pgx_authors WHERE name LIKE 'copied %'")
	check(len(ids) == len(names))
	madeByIdgen(ids...)

	ids = column("SELECT idgen_next_many($1)", len(names))
	must(copyInto([]string{"id", "name"}, func(i int) []interface{} { return []interface{}{ids[i], names[i]} }))
	belongTo(ids, names)

	var unset int64
	err := copyInto([]string{"id", "name"}, func(i int) []interface{} { return []interface{}{unset, names[i]} })
	var refusal *pgconn.PgError
	check(errors.As(err, &refusal) && refusal.Detail == "Key (id)=(0) already exists.")
}

func throughDatabaseSQL() {
	pool, err := sql.Open("pgx", "")
	must(err)
	defer pool.Close()
	var id int64
	must(pool.QueryRow("INSERT INTO pgx_authors (name) VALUES ($1) RETURNING id", "Lem").Scan(&id))
	madeByIdgen(id)
	result, err := pool.Exec("INSERT INTO pgx_authors (name) VALUES ($1)", "Verne")
	must(err)
	_, err = result.LastInsertId()
	check(err != nil)
}

// A number in JSON is exact in an int64, not where the field has no type.
func asJSON() {
	type author struct {
		ID int64 `json:"id,string"`
	}
	id := oneRow("SELECT idgen_next() | 1")
	text, err := json.Marshal(author{id})
	must(err)
	check(string(text) == fmt.Sprintf(`{"id":"%d"}`, id))
	var back author
	must(json.Unmarshal(text, &back))
	check(back.ID == id)
	var untyped map[string]interface{}
	must(json.Unmarshal([]byte(fmt.Sprintf(`{"id":%d}`, id)), &untyped))
	check(int64(untyped["id"].(float64)) != id)
}

func oneRow(query string, arguments ...interface{}) (id int64) {
	must(db.QueryRow(ctx, query, arguments...).Scan(&id))
	return id
}

func column(query string, arguments ...interface{}) (ids []int64) {
	rows, err := db.Query(ctx, query, arguments...)
	must(err)
	defer rows.Close()
	for rows.Next() {
		var id int64
		must(rows.Scan(&id))
		ids = append(ids, id)
	}
	must(rows.Err())
	return ids
}

func belongTo(ids []int64, names []string) {
	check(len(ids) == len(names))
	madeByIdgen(ids...)
	check(oneRow("SELECT count(*) FROM unnest($1::bigint[], $2::text[]) AS of (id, name) JOIN pgx_authors USING (id, name)",
		ids, names) == int64(len(ids)))
}

func madeByIdgen(ids ...int64) {
	var made bool
	must(db.QueryRow(ctx, "SELECT made_by_idgen($1)", ids).Scan(&made))
	check(made)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func check(held bool) {
	if !held {
		panic("not so")
	}
}
