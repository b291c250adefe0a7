// Sequelize: a default in the model, or an adopted key; sync({ alter: true }) leaves both as they are, but no other column's default.
import assert from "node:assert/strict";
import { DataTypes, Sequelize } from "sequelize";

const { PGDATABASE, PGUSER, PGHOST, PGPORT } = process.env;
const log = [];
const db = new Sequelize(PGDATABASE, PGUSER, "", {
    dialect: "postgres", host: PGHOST, port: Number(PGPORT), logging: statement => log.push(statement),
    define: { timestamps: false, freezeTableName: true },
});
const query = async (sql, bind) => (await db.query(sql, { bind }))[0];
const madeByIdgen = async ids => (await query("SELECT made_by_idgen($1)", [ids]))[0].made_by_idgen;
const defaultOf = async (table, column = "id") => (await query(
    "SELECT pg_get_expr(adbin, adrelid) AS is FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
    + " WHERE attrelid = $1::regclass AND attname = $2", [table, column]))[0].is;

const id = { type: DataTypes.BIGINT, primaryKey: true, defaultValue: Sequelize.literal("idgen_next()") };
const Author = db.define("sequelize_authors", { id, name: { type: DataTypes.TEXT, unique: true } });
const Book = db.define("sequelize_books", { id, title: DataTypes.TEXT });
Author.hasMany(Book, { as: "books", foreignKey: "author_id" });
Book.belongsTo(Author, { as: "author", foreignKey: "author_id" });
await db.sync();

const author = await Author.create({ name: "Le Guin" });
assert.equal(typeof author.id, "string");
const book = await author.createBook({ title: "The Telling" });
assert.equal(book.author_id, author.id);
const nested = await Author.create({ name: "Lem", books: [{ title: "Solaris" }, { title: "Eden" }] },
    { include: [{ association: "books" }] });
const rows = Array.from({ length: 2000 }, (_, i) => ({ name: `author ${i}` }));
log.length = 0;
const many = await Author.bulkCreate(rows);
assert.equal(log.length, 1);
assert.deepEqual(many.map(row => row.name), rows.map(row => row.name));
const stored = new Map((await Author.findAll()).map(row => [row.id, row.name]));
assert(many.every(row => stored.get(row.id) === row.name));
assert(await madeByIdgen([author, book, nested, ...nested.books, ...many].map(row => row.id)));

// Found by a string or a BigInt; not by a number, which is another one.
assert.equal((await Author.findByPk(author.id, { include: "books" })).books[0].id, book.id);
assert.equal((await Author.findByPk(BigInt(author.id))).name, "Le Guin");
const { id: large } = (await query("INSERT INTO sequelize_authors (id, name) VALUES (idgen_next() | 1, 'odd') RETURNING id"))[0];
assert.equal(await Author.findByPk(Number(large)), null);

// Where rows are left out, objects get the ids of others.
const mixed = await Author.bulkCreate([{ name: "Le Guin" }, { name: "Verne" }], { ignoreDuplicates: true });
assert.equal((await Author.findByPk(mixed[0].id)).name, "Verne", "ids go to the right objects now");

// In a migration; rows that it writes get their keys from the database.
const migration = db.getQueryInterface();
await migration.createTable("sequelize_pages", { id, title: DataTypes.TEXT });
await migration.bulkInsert("sequelize_pages", [{ title: "home" }, { title: "news" }]);
await migration.addColumn("sequelize_pages", "token", { type: DataTypes.BIGINT, defaultValue: Sequelize.literal("idgen_next()") });
assert(await madeByIdgen((await query("SELECT id, token FROM sequelize_pages")).flatMap(row => [row.id, row.token])));

// An adopted key stays declared as one that counts up.
const counted = { type: DataTypes.BIGINT, primaryKey: true, autoIncrement: true };
const Adopted = db.define("sequelize_adopted", { id: counted, name: DataTypes.TEXT });
await Adopted.sync();
await migration.sequelize.query("SELECT idgen_adopt('sequelize_adopted', 'id')");
const adopted = [await Adopted.create({ name: "one" }), ...await Adopted.bulkCreate([{ name: "two" }, { name: "three" }])];
assert(await madeByIdgen(adopted.map(row => row.id)));

// A key with neither is sent as null.
const Bare = db.define("bare", { id: { type: DataTypes.BIGINT, primaryKey: true } }, { tableName: "sequelize_adopted" });
await assert.rejects(Bare.create({}), /null value in column "id"/);

// Without a key in the model there is an integer.
await db.define("sequelize_keyless", {}).sync();
const [{ type }] = await query("SELECT pg_typeof(id) AS type FROM sequelize_keyless RIGHT JOIN (SELECT) AS one ON true");
assert.equal(type, "integer");

// A generator's default comes back from the catalog with a cast.
await query("SELECT idgen_create_generator('sequelize_page_id', 'js_safe')");
const Page = db.define("sequelize_safe", { id: { ...id, defaultValue: Sequelize.literal("idgen_next('sequelize_page_id')") } });
await Page.sync();
assert(Number.isSafeInteger(Number((await Page.create({})).id)));

// sync({ alter: true }) does not look at primary keys; of other columns it takes defaults away that the model has not.
const Token = db.define("sequelize_pages", { id, title: DataTypes.TEXT, token: DataTypes.BIGINT });
log.length = 0;
for (const model of [Author, Book, Adopted, Page, Token]) {
    await model.sync({ alter: true });
}
assert(!log.some(statement => /ALTER COLUMN "id"|SEQUENCE/.test(statement)));
for (const table of ["sequelize_authors", "sequelize_books", "sequelize_adopted", "sequelize_pages"]) {
    assert.equal(await defaultOf(table), "idgen_next()");
}
assert.equal(await defaultOf("sequelize_safe"), "idgen_next('sequelize_page_id'::regclass)");
assert.equal(await defaultOf("sequelize_pages", "token"), null, "other columns keep their default now");
const Declared = db.define("sequelize_pages", { id, title: DataTypes.TEXT,
    token: { type: DataTypes.BIGINT, defaultValue: Sequelize.literal("idgen_next()") } });
await Declared.sync({ alter: true });
await Declared.sync({ alter: true });
assert.equal(await defaultOf("sequelize_pages", "token"), "idgen_next()");
await db.close();
