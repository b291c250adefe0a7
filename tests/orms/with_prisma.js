// Prisma: keys by a default in the schema, and one of a table that was adopted. The client asks over the driver pg, and has
// keys as BigInt. To be run in the folder of the modules.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { PrismaPg } from "@prisma/adapter-pg";
import pg from "pg";

// To generate needs no engine, but the program would load one.
execFileSync("node_modules/.bin/prisma", ["generate", "--schema=prisma/schema.prisma"],
    { env: { ...process.env, PRISMA_SCHEMA_ENGINE_BINARY: "/bin/true" }, stdio: "pipe" });
const { default: { PrismaClient } } = await import("./prisma/client/index.js");

const pool = new pg.Pool({ max: 1 });   // PGHOST and the like say where
// As `prisma migrate` writes it, but for the last line.
await pool.query(`
    CREATE SCHEMA prisma;
    SET search_path = prisma, public;
    CREATE TABLE "Author" ("id" BIGINT NOT NULL DEFAULT idgen_next(), "name" TEXT NOT NULL, CONSTRAINT "Author_pkey" PRIMARY KEY ("id"));
    CREATE TABLE "Book" ("id" BIGINT NOT NULL DEFAULT idgen_next(), "title" TEXT NOT NULL, "authorId" BIGINT NOT NULL,
                         CONSTRAINT "Book_pkey" PRIMARY KEY ("id"));
    CREATE TABLE "Page" ("id" BIGSERIAL NOT NULL, "title" TEXT NOT NULL, CONSTRAINT "Page_pkey" PRIMARY KEY ("id"));
    ALTER TABLE "Book" ADD CONSTRAINT "Book_authorId_fkey" FOREIGN KEY ("authorId") REFERENCES "Author"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
    SELECT idgen_adopt('"Page"', 'id')`);
async function madeByIdgen(ids) {
    return (await pool.query("SELECT made_by_idgen($1)", [ids])).rows[0].made_by_idgen;
}

const prisma = new PrismaClient({ adapter: new PrismaPg({}, { schema: "prisma" }) });
const author = await prisma.author.create({
    data: { name: "Le Guin", books: { create: [{ title: "The Dispossessed" }, { title: "The Telling" }] } },
    include: { books: true },
});
assert.equal(typeof author.id, "bigint");
assert(await madeByIdgen([author.id, ...author.books.map(book => book.id)]));
const found = await prisma.book.findMany({ where: { author: { id: author.id } }, orderBy: { id: "asc" } });
assert.deepEqual(found.map(book => book.title), ["The Dispossessed", "The Telling"]);

const names = Array.from({ length: 2000 }, (_, i) => ({ name: `author ${i}` }));
const many = await prisma.author.createManyAndReturn({ data: names });
assert(await madeByIdgen(many.map(row => row.id)));
assert.deepEqual(many.map(row => row.name), names.map(row => row.name));
assert(many.every((row, i) => i === 0 || row.id > many[i - 1].id), "not in the order of the rows");

const page = await prisma.page.create({ data: { title: "home" } });
assert(await madeByIdgen([page.id]));
assert.throws(() => JSON.stringify(page), TypeError);
const [{ id }] = await prisma.$queryRaw`SELECT idgen_next() AS id`;
assert(await madeByIdgen([id]));
await prisma.$disconnect();
await pool.end();
