// TypeORM: synchronize() finds nothing to change where the model has the key as PrimaryColumn with idgen's default.
import "reflect-metadata";
import assert from "node:assert/strict";
import pg from "pg";
import { DataSource, EntitySchema } from "typeorm";

const entity = (name, column) => new EntitySchema({
    name,
    tableName: `typeorm_${name}`,
    columns: { id: { type: "bigint", primary: true, ...column }, name: { type: "text" } },
});
const authors = entity("authors", { default: () => "idgen_next()" });
const pages = entity("pages", { default: () => "idgen_next('typeorm_page_id')" });
const adopted = entity("adopted", { generated: "increment" });

const pool = new pg.Pool();   // PGHOST and the like say where
await pool.query("SELECT idgen_create_generator('typeorm_page_id', 'js_safe')");
const source = await new DataSource({
    type: "postgres", host: process.env.PGHOST, port: Number(process.env.PGPORT), username: process.env.PGUSER,
    database: process.env.PGDATABASE, entities: [authors, pages],
}).initialize();
const plan = async () => (await source.driver.createSchemaBuilder().log()).upQueries.map(({ query }) => query);
await source.synchronize();
assert.deepEqual(await plan(), []);
await source.synchronize();

const saved = await source.getRepository("authors").save({ name: "Le Guin" });
const { rows } = await pool.query("SELECT made_by_idgen($1)", [[saved.id]]);
assert(rows[0].made_by_idgen);
const page = await source.getRepository("pages").save({ name: "home" });
assert(Number.isSafeInteger(Number(page.id)));
await source.destroy();

// A generated column is taken back: that is why docs/orms.md says to declare adopted keys as PrimaryColumn too.
const other = await new DataSource({ ...source.options, entities: [adopted] }).initialize();
await other.synchronize();
await pool.query("SELECT idgen_adopt('typeorm_adopted', 'id')");
const back = (await other.driver.createSchemaBuilder().log()).upQueries.map(({ query }) => query);
assert(back.some(query => query.includes("DROP DEFAULT")), "adopted keys are left alone now");
const declared = new EntitySchema({ ...adopted.options, columns: { ...adopted.options.columns,
    id: { type: "bigint", primary: true, default: () => "idgen_next()" } } });
const third = await new DataSource({ ...source.options, entities: [declared] }).initialize();
assert.deepEqual((await third.driver.createSchemaBuilder().log()).upQueries, []);
await third.destroy();
await other.destroy();
await pool.end();
