import { sql } from "drizzle-orm";
import { bigint, pgSchema, text } from "drizzle-orm/pg-core";

export const drizzle = pgSchema("drizzle");
const id = next => bigint("id", { mode: "bigint" }).primaryKey().default(next);
export const authors = drizzle.table("authors", { id: id(sql`idgen_next()`), name: text("name") });
export const pages = drizzle.table("pages", { id: id(sql`idgen_next('drizzle.page_id'::regclass)`), name: text("name") });
