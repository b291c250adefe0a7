-- What docs/runbook.md takes for granted.
CREATE TABLE orders (id bigint DEFAULT idgen_next() PRIMARY KEY, item text NOT NULL);
INSERT INTO orders (item) VALUES ('lamp');
SELECT idgen_create_generator('invoice_no', 'counter');
SELECT idgen_create_generator('page_id', 'js_safe');
CREATE TABLE pages (id bigint DEFAULT idgen_next('page_id') PRIMARY KEY, title text);
