"""The tables that AIDB keeps in a database file, and how a file of an older version becomes one of this version."""

from __future__ import annotations

VERSION = 2
"""Version of the layout below; goes up with every change to it."""

INTERNAL = "aidb_internal"

_PROXIES = f"""
CREATE VIEW aidb.proxies AS
    SELECT name, definition->>'$.table' AS "table", definition->>'$.target' AS target,
        (definition->>'$.using') || coalesce('(' || list_aggregate((definition->>'$.args[*]'), 'string_agg', ', ') || ')', '')
            AS "using",
        (definition->>'$.train_labels')::BIGINT AS labels, (definition->>'$.quality.auc')::DOUBLE AS auc,
        (definition->>'$.quality.correlation')::DOUBLE AS correlation,
        (definition->>'$.quality.log_loss')::DOUBLE AS log_loss,
        (definition->>'$.quality.labels')::BIGINT AS held_out, (definition->>'$.useless')::BOOLEAN AS useless,
        definition->'$.learned' AS coefficients, created
    FROM {INTERNAL}.definitions WHERE kind = 'proxy';
CREATE VIEW aidb.indexes AS
    SELECT name, definition->>'$.table' AS "table",
        (definition->>'$.using') || coalesce('(' || list_aggregate((definition->>'$.args[*]'), 'string_agg', ', ') || ')', '')
            AS "using",
        (definition->>'$.items')::BIGINT AS items, (definition->>'$.dimensions')::BIGINT AS dimensions,
        (definition->>'$.representatives')::BIGINT AS representatives, definition->'$.options' AS options,
        '{INTERNAL}.index_' || (definition->>'$.id') AS keys, created
    FROM {INTERNAL}.definitions WHERE kind = 'semantic index';
"""

_SAMPLED = f"""
CREATE TABLE {INTERNAL}.sampled (key VARCHAR, answer BIGINT, text VARCHAR, report VARCHAR, created TIMESTAMP);
CREATE VIEW aidb.guarantees AS
    SELECT answer AS id, text, report->>'$.mode' AS mode, report->'$.target' AS target,
        (report->>'$.probability')::DOUBLE AS probability, (report->>'$.labels')::BIGINT AS labels, created
    FROM {INTERNAL}.sampled;
"""

CREATE = f"""
CREATE SCHEMA {INTERNAL};
CREATE SCHEMA IF NOT EXISTS aidb;
CREATE TABLE {INTERNAL}.meta (version INTEGER, created TIMESTAMP);
CREATE SEQUENCE {INTERNAL}.ids START 1;
CREATE SEQUENCE {INTERNAL}.call_ids START 1;
CREATE TABLE {INTERNAL}.definitions (kind VARCHAR, name VARCHAR, definition VARCHAR, created TIMESTAMP DEFAULT now()::TIMESTAMP);
CREATE TABLE {INTERNAL}.fills (id INTEGER, model VARCHAR, fingerprint VARCHAR, lineage VARCHAR, definition VARCHAR,
    created TIMESTAMP DEFAULT now()::TIMESTAMP);
CREATE TABLE {INTERNAL}.calls (call_id BIGINT, fill INTEGER, started TIMESTAMP, seconds DOUBLE, items BIGINT, rows BIGINT,
    failed BIGINT, device VARCHAR);
CREATE TABLE {INTERNAL}.errors (fill INTEGER, item VARCHAR, attempts INTEGER, message VARCHAR, call_id BIGINT, noticed TIMESTAMP);
CREATE TABLE {INTERNAL}.queries (query_id BIGINT DEFAULT nextval('{INTERNAL}.ids'), started TIMESTAMP, text VARCHAR,
    report VARCHAR);
CREATE TABLE {INTERNAL}.current_fills (name VARCHAR, fill INTEGER);
INSERT INTO {INTERNAL}.meta VALUES ({VERSION}, now()::TIMESTAMP);

CREATE VIEW aidb.models AS
    SELECT name, definition->>'$.provider' AS provider, definition->>'$.fingerprint' AS fingerprint,
        definition->>'$.rows' AS rows, definition->'$.inputs' AS inputs, definition->'$.outputs' AS outputs,
        (definition->>'$.price_per_call')::DOUBLE AS price_per_call, definition->>'$.device' AS device,
        definition->'$.options' AS options, created
    FROM {INTERNAL}.definitions WHERE kind = 'model';
CREATE VIEW aidb.blob_tables AS
    SELECT name, definition->>'$.key' AS key, definition->>'$.connector' AS connector,
        coalesce(definition->>'$.source', definition->>'$.query') AS source, definition->'$.options' AS options, created
    FROM {INTERNAL}.definitions WHERE kind = 'blob table' AND NOT coalesce((definition->>'$.dropped')::BOOLEAN, false);
CREATE VIEW aidb.virtual_tables AS
    SELECT d.name, CASE kind WHEN 'virtual table' THEN 'table' ELSE 'columns' END AS kind,
        definition->>'$.model' AS model, definition->'$.args' AS inputs, definition->'$.columns' AS columns,
        '{INTERNAL}.rows_' || fill AS answers, '{INTERNAL}.ledger_' || fill AS ledger, created
    FROM {INTERNAL}.definitions d LEFT JOIN {INTERNAL}.current_fills f ON f.name = d.name
    WHERE kind IN ('virtual table', 'virtual columns');
CREATE VIEW aidb.calls AS
    SELECT c.call_id, f.model, f.fingerprint, c.fill, c.started, c.seconds, c.items, c.rows, c.failed, c.device
    FROM {INTERNAL}.calls c JOIN {INTERNAL}.fills f ON c.fill = f.id;
CREATE VIEW aidb.errors AS
    SELECT e.item, f.model, e.attempts, e.message, e.call_id, e.noticed
    FROM {INTERNAL}.errors e JOIN {INTERNAL}.fills f ON e.fill = f.id;
CREATE VIEW aidb.queries AS SELECT query_id, started, text, report FROM {INTERNAL}.queries;
{_PROXIES}{_SAMPLED}"""

MIGRATIONS: dict[int, str] = {1: _PROXIES + _SAMPLED}
"""Version n -> the SQL that makes a file of version n one of version n + 1."""
