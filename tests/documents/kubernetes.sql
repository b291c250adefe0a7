-- What docs/kubernetes.md takes for granted.
CREATE TABLE orders (id bigint DEFAULT idgen_next() PRIMARY KEY, item text NOT NULL);
INSERT INTO orders (item) VALUES ('lamp');
SELECT idgen_create_generator('page_id', 'js_safe');
CREATE TABLE pages (id bigint DEFAULT idgen_next('page_id') PRIMARY KEY, title text);
SELECT idgen_create_generator('invoice_no', 'counter');
