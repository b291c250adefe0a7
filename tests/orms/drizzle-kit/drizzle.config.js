import { defineConfig } from "drizzle-kit";

const { PGUSER, PGHOST, PGPORT, PGDATABASE } = process.env;
export default defineConfig({
    dialect: "postgresql",
    schema: "./drizzle-kit/schema.js",
    schemaFilter: ["drizzle"],
    dbCredentials: { url: `postgresql://${PGUSER}@localhost:${PGPORT}/${PGDATABASE}?host=${encodeURIComponent(PGHOST)}` },
});
