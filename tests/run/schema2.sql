-- A store as schema 2 had it, with one sample of a model "net" that is not among those of the test.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE groups (id INTEGER PRIMARY KEY, model TEXT NOT NULL, dataset TEXT NOT NULL, samples INTEGER NOT NULL,
    fingerprint TEXT NOT NULL, threshold REAL, opened INTEGER NOT NULL DEFAULT 0, facts TEXT NOT NULL DEFAULT '{}');
CREATE TABLE cells (id INTEGER PRIMARY KEY, grp INTEGER NOT NULL REFERENCES groups(id), explainer TEXT NOT NULL,
    fingerprint TEXT NOT NULL, status TEXT NOT NULL, code TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '{}');
CREATE TABLE metrics (cell INTEGER NOT NULL REFERENCES cells(id), metric TEXT NOT NULL, ordinal INTEGER NOT NULL,
    status TEXT NOT NULL, code TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '', PRIMARY KEY (cell, metric));
CREATE TABLE samples (grp INTEGER NOT NULL REFERENCES groups(id), position INTEGER NOT NULL, sample TEXT NOT NULL,
    facts TEXT NOT NULL, PRIMARY KEY (grp, sample));
CREATE TABLE shards (cell INTEGER NOT NULL REFERENCES cells(id), number INTEGER NOT NULL, samples INTEGER NOT NULL,
    seconds REAL NOT NULL, forward INTEGER NOT NULL, backward INTEGER NOT NULL, PRIMARY KEY (cell, number));
CREATE TABLE invalid (cell INTEGER NOT NULL, sample TEXT NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL,
    PRIMARY KEY (cell, sample)) WITHOUT ROWID;
CREATE TABLE scores (cell INTEGER NOT NULL, metric TEXT NOT NULL, name TEXT NOT NULL, sample TEXT NOT NULL, value REAL,
    code TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '',
    flag_code TEXT NOT NULL DEFAULT '', flag TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (cell, metric, name, sample)) WITHOUT ROWID;
CREATE TABLE curves (cell INTEGER NOT NULL, metric TEXT NOT NULL, name TEXT NOT NULL, sample TEXT NOT NULL,
    points BLOB NOT NULL, PRIMARY KEY (cell, metric, name, sample)) WITHOUT ROWID;
INSERT INTO meta VALUES ('schema', '2'), ('complete', 'true'), ('identity', '{"seed": 0, "device": "cpu"}');
INSERT INTO groups VALUES (0, 'net', 'DATASET', 1, '{}', NULL, 1, '{}');
INSERT INTO cells VALUES (0, 0, 'score-times-pixels', '{}', 'ok', '', '', '{}');
INSERT INTO metrics VALUES (0, 'mean-relevance@1', 0, 'ok', '', '');
INSERT INTO samples VALUES (0, 0, 'attack--im01', '{"units": ["x"]}');
INSERT INTO shards VALUES (0, 0, 1, 0.5, 1, 0);
INSERT INTO scores VALUES (0, 'mean-relevance@1', '', 'attack--im01', 12345.0, '', '', '', '');
INSERT INTO curves VALUES (0, 'mean-relevance@1', 'twice', 'attack--im01', x'00');
