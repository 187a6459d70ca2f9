// TypeORM on managed tables: with layout archive, where it deletes, and in place, where it sets its DeleteDateColumn.
//
// Run by node --test. TOMBSTONE_CONNINFO is an empty database with the extension; its user owns the database.

const assert = require("node:assert/strict");
const { after, before, beforeEach, describe, test } = require("node:test");
const { Client } = require("pg");
const { DataSource, EntitySchema, In, Not } = require("typeorm");

const conninfo = Object.fromEntries(process.env.TOMBSTONE_CONNINFO.split(" ").map((word) => word.split("=")));
const server = { host: conninfo.host, database: conninfo.dbname };

// --- Layout archive: a shop --------------------------------------------------

const Customer = new EntitySchema({
    name: "Customer",
    columns: {
        id: { type: "int", primary: true, generated: "identity", generatedIdentity: "ALWAYS" },
        email: { type: "text", unique: true },
        tags: { type: "text", array: true },
        extra: { type: "jsonb", nullable: true },
        credit: { type: "numeric", precision: 12, scale: 4 },
        photo: { type: "bytea", nullable: true },
        since: { type: "timestamptz", createDate: true },
        version: { type: "int", version: true },
    },
    relations: { orders: { type: "one-to-many", target: "Order", inverseSide: "customer", cascade: ["insert"] } },
});

const Order = new EntitySchema({
    name: "Order",
    columns: { id: { type: "uuid", primary: true, generated: "uuid" } },
    relations: {
        customer: { type: "many-to-one", target: "Customer", nullable: false, onDelete: "CASCADE", inverseSide: "orders" },
        lines: { type: "one-to-many", target: "Line", inverseSide: "order", cascade: ["insert"] },
        products: { type: "many-to-many", target: "Product", joinTable: { name: "order_product" } },
    },
});

// Its foreign key has no ON DELETE: the application deletes the lines before their order.
const Line = new EntitySchema({
    name: "Line",
    columns: { id: { type: "int", primary: true, generated: true }, price: { type: "numeric", precision: 12, scale: 4 } },
    relations: { order: { type: "many-to-one", target: "Order", nullable: false, inverseSide: "lines" } },
});

const Product = new EntitySchema({
    name: "Product",
    columns: { id: { type: "int", primary: true, generated: true }, name: { type: "text" } },
});

const Visit = new EntitySchema({
    name: "Visit",
    columns: { id: { type: "int", primary: true, generated: true } },
    relations: { customer: { type: "many-to-one", target: "Customer", nullable: true, onDelete: "SET NULL" } },
});

const shop = new DataSource({
    type: "postgres",
    ...server,
    username: conninfo.user,
    schema: "shop",
    uuidExtension: "pgcrypto", // Which means gen_random_uuid(); the extension itself is not needed.
    installExtensions: false,
    entities: [Customer, Order, Line, Product, Visit],
});

// --- In place: people and their notes ---------------------------------------

const Person = new EntitySchema({
    name: "Person",
    columns: {
        id: { type: "int", primary: true, generated: true },
        email: { type: "text", nullable: true },
        name: { type: "text" },
        deletedAt: { type: "timestamp", deleteDate: true }, // Which is what TypeORM makes by default.
    },
    indices: [{ name: "person_email_live", columns: ["email"], unique: true, where: '"deletedAt" IS NULL' }],
    relations: { notes: { type: "one-to-many", target: "Note", inverseSide: "person", cascade: ["insert"] } },
});

const Note = new EntitySchema({
    name: "Note",
    columns: {
        id: { type: "int", primary: true, generated: true },
        text: { type: "text" },
        deletedAt: { type: "timestamp", deleteDate: true },
    },
    relations: { person: { type: "many-to-one", target: "Person", nullable: false, onDelete: "CASCADE", inverseSide: "notes" } },
});

const people = new DataSource({
    type: "postgres",
    ...server,
    username: conninfo.user,
    schema: "people",
    entities: [Person, Note],
});

before(async () => {
    for (const source of [shop, people]) {
        await source.initialize();
        await source.query(`CREATE SCHEMA ${source.options.schema}`);
        await source.synchronize();
    }
    for (const table of ["customer", "product", "line"]) {
        await shop.query("SELECT tombstone.manage($1::text::regclass, tree => true)", [`shop.${table}`]);
    }
    await people.query(
        `SELECT tombstone.manage('people.person', deleted_at => 'deletedAt', redact => '{"email": null}', kind => '''person''');
         SELECT tombstone.manage('people.note', deleted_at => 'deletedAt')`,
    );
});

after(() => Promise.all([shop.destroy(), people.destroy()]));

/** Undoes the latest deletion. Returns how many records of each table came back. */
async function undo(source) {
    const lines = await source.query(
        "SELECT relation::text, outcome FROM tombstone.undo((SELECT max(deletion) FROM tombstone.deletions))",
    );
    const counted = {};
    for (const { relation, outcome } of lines) {
        assert.match(outcome, /^restored(_redacted)?$/);
        const table = relation.split(".").at(-1).replaceAll('"', "");
        counted[table] = (counted[table] ?? 0) + 1;
    }
    return counted;
}

/** The rows of every table, those between objects included. */
async function everything(source) {
    const rows = {};
    for (const { tablePath } of source.entityMetadatas) {
        rows[tablePath] = await source.query(`SELECT to_jsonb(t) AS row FROM ${tablePath} t ORDER BY to_jsonb(t)`);
    }
    return rows;
}

/** What `synchronize` would run: nothing, where the models and the tables agree. */
async function drift(source) {
    const { upQueries } = await source.driver.createSchemaBuilder().log();
    return upQueries.map(({ query }) => query);
}

describe("a table with layout archive", () => {
    let ann;

    /** A customer with two orders, three lines, two products; and a visit. */
    beforeEach(async () => {
        for (const table of ["line", "customer", "product", "visit"]) await shop.query(`DELETE FROM shop.${table}`);
        const [pen, ink] = await shop.getRepository(Product).save([{ name: "pen" }, { name: "ink" }]);
        ann = await shop.getRepository(Customer).save({
            email: "ann@example.org",
            tags: ["a", "ü"],
            extra: { nested: [1, 2.5, null] },
            credit: "12.5000",
            photo: Buffer.from([0, 255, 128]),
            orders: [
                { lines: [{ price: "1" }, { price: "2" }], products: [pen, ink] },
                { lines: [{ price: "3" }], products: [ink] },
            ],
        });
        await shop.getRepository(Visit).save({ customer: ann });
    });

    test("delete() counts the rows, and all that fell with them comes back", async () => {
        await shop.query("DELETE FROM shop.line"); // No ON DELETE: the database would refuse.
        const before = await everything(shop);
        assert.equal((await shop.getRepository(Customer).delete(ann.id)).affected, 1);

        assert.equal(await shop.getRepository(Order).count(), 0);
        assert.equal((await shop.getRepository(Visit).findOne({ where: {}, relations: ["customer"] })).customer, null);
        assert.deepEqual(await undo(shop), { customer: 1, order: 2, order_product: 3 });
        assert.deepEqual(await everything(shop), before);
    });

    test("remove() of objects in one transaction is one deletion", async () => {
        const before = await everything(shop);
        await shop.transaction(async (manager) => {
            for (const model of [Line, Order, Customer]) await manager.remove(model, await manager.find(model));
        });

        assert.equal(await shop.getRepository(Line).count(), 0);
        assert.deepEqual(await undo(shop), { customer: 1, order: 2, order_product: 3, line: 3 });
        assert.deepEqual(await everything(shop), before);
    });

    test("many rows by one statement", async () => {
        const products = await shop.getRepository(Product).insert(Array.from({ length: 500 }, (_, i) => ({ name: `product ${i}` })));
        const before = await everything(shop);
        const ids = products.identifiers.map(({ id }) => id);
        assert.equal((await shop.getRepository(Product).delete({ id: In(ids) })).affected, 500);

        assert.deepEqual(await undo(shop), { product: 500 });
        assert.deepEqual(await everything(shop), before);
    });

    test("clear() can be undone", async () => {
        const before = await everything(shop);
        await shop.getRepository(Line).clear();
        assert.equal(await shop.getRepository(Line).count(), 0);

        assert.deepEqual(await undo(shop), { line: 3 });
        assert.deepEqual(await everything(shop), before);
    });

    test("a key that was taken meanwhile is a QueryFailedError", async () => {
        await shop.query("DELETE FROM shop.line");
        await shop.getRepository(Customer).delete(ann.id);
        const other = await shop.getRepository(Customer).save({ email: ann.email, tags: [], credit: "0" });
        await assert.rejects(undo(shop), { name: "QueryFailedError", code: "23505" });
        await shop.getRepository(Customer).save({ ...other, email: "bob@example.org" });
        assert.equal((await undo(shop)).customer, 1);
    });

    test("a new object has a new id, and an old one is saved again", async () => {
        await shop.query("DELETE FROM shop.line");
        await shop.getRepository(Customer).delete(ann.id);
        await undo(shop);
        const bob = await shop.getRepository(Customer).save({ email: "bob@example.org", tags: [], credit: "0" });
        assert.ok(bob.id > ann.id);
        await shop.getRepository(Customer).save({ id: ann.id, tags: ["back"] });
        assert.deepEqual((await shop.getRepository(Customer).findOneByOrFail({ id: ann.id })).tags, ["back"]);
    });

    test("the schema has not changed", async () => assert.deepEqual(await drift(shop), []));
});

describe("a table in place", () => {
    let ann;

    beforeEach(async () => {
        await people.query("DELETE FROM people.person");
        ann = await people.getRepository(Person).save({ email: "ann@example.org", name: "Ann", notes: [{ text: "one" }, { text: "two" }] });
    });

    test("softDelete() takes the children along, and restore() brings them back", async () => {
        assert.equal((await people.getRepository(Person).softDelete(ann.id)).affected, 1);
        assert.equal(await people.getRepository(Person).count(), 0);
        assert.equal(await people.getRepository(Note).count(), 0);
        assert.equal(await people.getRepository(Note).count({ withDeleted: true }), 2);

        assert.equal((await people.getRepository(Person).restore(ann.id)).affected, 1);
        assert.equal(await people.getRepository(Note).count(), 2);
    });

    test("softRemove() and recover() of objects", async () => {
        const loaded = await people.getRepository(Person).findOneByOrFail({ id: ann.id });
        await people.getRepository(Person).softRemove(loaded);
        assert.equal(await people.getRepository(Note).count(), 0);
        await people.getRepository(Person).recover(loaded);
        assert.equal(await people.getRepository(Note).count(), 2);
    });

    test("many rows by one statement, undone", async () => {
        const many = Array.from({ length: 300 }, (_, i) => ({ name: `person ${i}` }));
        await people.getRepository(Person).insert(many);
        assert.equal((await people.getRepository(Person).softDelete({ id: Not(0) })).affected, 301);
        assert.deepEqual(await undo(people), { person: 301, note: 2 });
        assert.equal(await people.getRepository(Person).count(), 301);
    });

    test("a stale save leaves blank what was redacted", async () => {
        await people.getRepository(Person).softDelete(ann.id);
        await people.getRepository(Person).save(ann); // Its deletedAt is null, and TypeORM sees that the row's is not.

        const [back] = await people.getRepository(Person).find();
        assert.deepEqual([back.email, back.name], [null, "Ann"]);
    });

    test("where only functions restore, a stale save is an error", async () => {
        await people.query("SELECT tombstone.configure('people.person', 'restore', 'function')");
        try {
            await people.getRepository(Person).softDelete(ann.id);
            await assert.rejects(people.getRepository(Person).save(ann), { name: "QueryFailedError", code: "55000" });
            await assert.rejects(people.getRepository(Person).restore(ann.id), { code: "55000" });
            assert.equal(await people.getRepository(Person).count(), 0);
            await people.query("SELECT tombstone.restore($1, 'people.person')", [String(ann.id)]);
            assert.equal(await people.getRepository(Note).count(), 2);
        } finally {
            await people.query("SELECT tombstone.configure('people.person', 'restore', NULL)");
        }
    });

    test("a unique key is free again, and an upsert updates live rows alone", async () => {
        await people.query("SELECT tombstone.configure('people.person', 'redact', '{}')");
        try {
            await people.getRepository(Person).softDelete(ann.id);
            const upsert = (name) =>
                people.getRepository(Person).upsert(
                    { email: ann.email, name },
                    { conflictPaths: ["email"], indexPredicate: '"deletedAt" IS NULL' },
                );
            await upsert("Upserted");
            await upsert("Upserted again");
            const live = await people.getRepository(Person).find();
            assert.deepEqual(live.map(({ name }) => name), ["Upserted again"]);
            await assert.rejects(people.getRepository(Person).restore(ann.id), { code: "23505" });
        } finally {
            await people.query("SELECT tombstone.configure('people.person', 'redact', '{\"email\": null}')");
        }
    });

    test("a listener hears the words of seed 004", async () => {
        const client = new Client({ ...server, user: conninfo.user });
        await client.connect();
        const heard = [];
        const ended = new Promise((resolve) => {
            client.on("notification", ({ payload }) => (payload === "the end" ? resolve() : heard.push(payload)));
        });
        await client.query("LISTEN tombstone");
        await people.query("DELETE FROM people.note");
        await people.query("SELECT pg_notify('tombstone', 'begin')");
        await people.getRepository(Person).softDelete(ann.id);
        await people.getRepository(Person).restore(ann.id);
        await people.getRepository(Person).delete(ann.id);
        await people.query("SELECT pg_notify('tombstone', 'the end')");
        await ended;
        await client.end();
        assert.deepEqual(heard.slice(heard.indexOf("begin") + 1), [
            `{"id":"${ann.id}","kind":"person","op":"delete","deletionType":"soft"}`,
            `{"id":"${ann.id}","kind":"person","op":"update","restored":true}`,
            `{"id":"${ann.id}","kind":"person","op":"delete","deletionType":"hard"}`,
        ]);
    });

    test("the schema has not changed", async () => assert.deepEqual(await drift(people), []));
});
