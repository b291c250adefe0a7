// Knex: keys by a default in the schema. The driver, pg, hands a bigint over as a string.
import assert from "node:assert/strict";
import knex from "knex";

const db = knex({ client: "pg", connection: {} });   // PGHOST and the like say where

async function madeByIdgen(ids) {
    const { rows } = await db.raw("SELECT made_by_idgen(?)", [ids]);
    return rows[0].made_by_idgen;
}

await db.schema.createTable("knex_authors", table => {
    table.bigInteger("id").primary().defaultTo(db.raw("idgen_next()"));
    table.text("name").notNullable();
});
await db.schema.createTable("knex_books", table => {
    table.bigInteger("id").primary().defaultTo(db.raw("idgen_next()"));
    table.text("title").notNullable();
    table.bigInteger("author_id").notNullable().references("knex_authors.id");
});

const [author] = await db("knex_authors").insert({ name: "Le Guin" }).returning("*");
assert.equal(typeof author.id, "string");
const books = await db("knex_books").returning("*").insert([
    { title: "The Dispossessed", author_id: author.id },
    { title: "The Telling", author_id: author.id },
]);
assert(await madeByIdgen([author.id, ...books.map(book => book.id)]));

assert.deepEqual(await db("knex_authors").where({ id: author.id }).first(), author);
const joined = await db("knex_books").join("knex_authors", "knex_authors.id", "author_id")
    .where("knex_authors.id", author.id).orderBy("knex_books.id").select("title", "name");
assert.deepEqual(joined, [{ title: "The Dispossessed", name: "Le Guin" }, { title: "The Telling", name: "Le Guin" }]);

const names = Array.from({ length: 2000 }, (_, i) => ({ name: `author ${i}` }));
const many = await db.batchInsert("knex_authors", names, 500).returning(["id", "name"]);
assert(await madeByIdgen(many.map(row => row.id)));
assert.deepEqual(many.map(row => row.name), names.map(row => row.name));

// js_safe: below 2^53, so a number loses nothing.
await db.raw("SELECT idgen_create_generator('knex_page_id', 'js_safe')");
await db.schema.createTable("knex_pages", table => {
    table.bigInteger("id").primary().defaultTo(db.raw("idgen_next('knex_page_id')"));
    table.text("title");
});
const [page] = await db("knex_pages").insert({ title: "home" }).returning("id");
assert.ok(Number.isSafeInteger(Number(page.id)), "not safe as a number");
assert.equal(String(Number(page.id)), page.id);
assert.equal((await db("knex_pages").where({ id: Number(page.id) }).first()).title, "home");
await db.destroy();
