// Drizzle: keys by a default in the schema, as BigInt.
import assert from "node:assert/strict";
import { eq, relations, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import { bigint, pgTable, text } from "drizzle-orm/pg-core";
import pg from "pg";

const id = () => bigint("id", { mode: "bigint" }).primaryKey().default(sql`idgen_next()`);
const authors = pgTable("drizzle_authors", { id: id(), name: text("name").notNull() });
const books = pgTable("drizzle_books", {
    id: id(),
    title: text("title").notNull(),
    authorId: bigint("author_id", { mode: "bigint" }).notNull().references(() => authors.id),
});

// Relational queries fetch related rows as JSON, where JavaScript reads a bigint as a number: their keys are js_safe.
const pageId = () => bigint("id", { mode: "number" }).primaryKey().default(sql`idgen_next('drizzle_page_id')`);
const pages = pgTable("drizzle_pages", { id: pageId(), title: text("title").notNull() });
const notes = pgTable("drizzle_notes", {
    id: pageId(),
    text: text("text").notNull(),
    pageId: bigint("page_id", { mode: "number" }).notNull().references(() => pages.id),
});
const pageRelations = relations(pages, ({ many }) => ({ notes: many(notes) }));
const noteRelations = relations(notes, ({ one }) => ({
    page: one(pages, { fields: [notes.pageId], references: [pages.id] }),
}));

const pool = new pg.Pool();   // PGHOST and the like say where
const db = drizzle(pool, { schema: { pages, notes, pageRelations, noteRelations } });
await pool.query("CREATE TABLE drizzle_authors (id bigint PRIMARY KEY DEFAULT idgen_next(), name text NOT NULL)");
await pool.query(`CREATE TABLE drizzle_books (id bigint PRIMARY KEY DEFAULT idgen_next(), title text NOT NULL,
                  author_id bigint NOT NULL REFERENCES drizzle_authors)`);
await pool.query("SELECT idgen_create_generator('drizzle_page_id', 'js_safe')");
await pool.query(`CREATE TABLE drizzle_pages (id bigint PRIMARY KEY DEFAULT idgen_next('drizzle_page_id'),
                  title text NOT NULL)`);
await pool.query(`CREATE TABLE drizzle_notes (id bigint PRIMARY KEY DEFAULT idgen_next('drizzle_page_id'),
                  text text NOT NULL, page_id bigint NOT NULL REFERENCES drizzle_pages)`);

async function madeByIdgen(ids) {
    const { rows } = await pool.query("SELECT made_by_idgen($1)", [ids]);
    return rows[0].made_by_idgen;
}

const [author] = await db.insert(authors).values({ name: "Le Guin" }).returning();
assert.equal(typeof author.id, "bigint");
const both = await db.insert(books).values([
    { title: "The Dispossessed", authorId: author.id },
    { title: "The Telling", authorId: author.id },
]).returning();
assert(await madeByIdgen([author.id, ...both.map(book => book.id)]));

assert.deepEqual(await db.select().from(authors).where(eq(authors.id, author.id)), [author]);
const joined = await db.select({ title: books.title }).from(books)
    .innerJoin(authors, eq(books.authorId, authors.id)).where(eq(authors.id, author.id)).orderBy(books.id);
assert.deepEqual(joined, [{ title: "The Dispossessed" }, { title: "The Telling" }]);

const names = Array.from({ length: 2000 }, (_, i) => ({ name: `author ${i}` }));
const many = await db.insert(authors).values(names).returning();
assert(await madeByIdgen(many.map(row => row.id)));
assert.deepEqual(many.map(row => row.name), names.map(row => row.name));

const [page] = await db.insert(pages).values({ title: "home" }).returning();
assert(Number.isSafeInteger(page.id));
const written = await db.insert(notes).values([
    { text: "first", pageId: page.id },
    { text: "second", pageId: page.id },
]).returning();
const nested = await db.query.pages.findFirst({ where: eq(pages.id, page.id), with: { notes: { orderBy: notes.id } } });
assert.deepEqual(nested, { ...page, notes: written });
await pool.end();
