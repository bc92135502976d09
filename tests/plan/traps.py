"""One statement for each way in which pruning can go wrong; every rule of the planner has one that needs it.

All are asked of `worlds.street`. Values are ints and NULLs, tables share column names on purpose.
"""

from __future__ import annotations

OUTER_JOINS = {
    "anti-join-idiom": "SELECT f.frame_id FROM frames f LEFT JOIN box b ON b.frame_id = f.frame_id WHERE b.x IS NULL",
    "where-on-null-side": (
        "SELECT f.frame_id FROM frames f LEFT JOIN mood m ON m.frame_id = f.frame_id WHERE coalesce(m.frame_id, 99) > 3"
    ),
    "where-or-on-null-side": (
        "SELECT f.frame_id FROM frames f LEFT JOIN mood m ON m.frame_id = f.frame_id"
        " WHERE m.frame_id > 3 OR f.cam IS NULL"
    ),
    "known-right-side": "SELECT b.x, f.cam FROM box b LEFT JOIN frames f ON f.ts = b.x WHERE f.ts IS NULL OR f.cam = 1",
    "match-only-possible": (
        "SELECT b.x FROM box b LEFT JOIN mood m ON m.frame_id = b.frame_id AND m.mood = b.x WHERE m.frame_id IS NULL"
    ),
    "virtual-both-sides": "SELECT m.mood FROM mood m LEFT JOIN box b ON b.frame_id = m.frame_id WHERE b.frame_id IS NULL",
    "reject-through-or": (
        "SELECT b.x FROM frames f LEFT JOIN mood m ON m.frame_id = f.frame_id AND m.mood = 1"
        " JOIN box b ON b.frame_id = f.frame_id WHERE m.frame_id > 3 OR f.ts < 9"
    ),
    "reject-by-all": (
        "SELECT b.x FROM frames f LEFT JOIN mood m ON m.frame_id = f.frame_id AND m.mood = 1"
        " JOIN box b ON b.frame_id = f.frame_id WHERE m.frame_id < ALL (SELECT doc_id FROM Docs WHERE doc_id > 90)"
    ),
    "reject-by-all-in-brackets": (
        "SELECT b.x FROM box b LEFT JOIN range(2) v(k) ON v.k = b.frame_id WHERE v.k < ALL ((SELECT 1 WHERE 1 = 0))"
    ),
    "full-one-side-filtered": (
        "SELECT f.ts, b.x FROM frames f FULL JOIN box b ON b.frame_id = f.frame_id AND f.cam = 1"
        " WHERE coalesce(b.frame_id, 0) = 0"
    ),
    "full-known-right": (
        "SELECT d.n, b.x FROM box b FULL JOIN Docs d ON d.doc_id = b.frame_id"
        " WHERE b.frame_id IS NULL OR b.frame_id = 1"
    ),
    "full-elsewhere": (
        "SELECT m.frame_id FROM mood m, frames f FULL JOIN box b ON b.frame_id = f.frame_id AND b.x > 1"
        " WHERE f.frame_id IS NULL OR f.frame_id = m.frame_id"
    ),
    "nested-join": (
        "SELECT f.frame_id, b.x, c.color FROM frames f LEFT JOIN (box b LEFT JOIN color c"
        " ON c.frame_id = b.frame_id AND c.box_id = b.box_id) ON b.frame_id = f.frame_id AND c.color IS NULL"
        " WHERE f.cam > 0"
    ),
    "subquery-in-nested-on": (
        "SELECT f.frame_id, b.x FROM frames f LEFT JOIN (box b JOIN Docs d ON d.doc_id = b.frame_id"
        " AND b.x IN (SELECT mood FROM mood)) ON b.frame_id = f.frame_id WHERE f.cam > 0"
    ),
    "semi-then-where": (
        "SELECT f.frame_id FROM frames f SEMI JOIN box b ON b.frame_id = f.frame_id AND b.x > 1 WHERE f.cam < 4"
    ),
    "right-preserved": "SELECT b.x, m.mood FROM mood m RIGHT JOIN box b ON m.frame_id = b.frame_id AND m.mood = 1",
    "right-null-side": (
        "SELECT b.frame_id, f.cam FROM box b RIGHT JOIN frames f ON b.frame_id = f.frame_id WHERE coalesce(b.frame_id, 9) > 2"
    ),
    "right-elsewhere": (
        "SELECT m.mood FROM mood m JOIN (Tag t RIGHT JOIN frames f ON t.doc_id = f.frame_id AND t.n > 1)"
        " ON m.frame_id = f.frame_id"
    ),
    "anti": "SELECT b.frame_id FROM box b ANTI JOIN frames f ON f.frame_id = b.frame_id AND f.cam = b.x",
    "anti-virtual-right": "SELECT f.frame_id FROM frames f ANTI JOIN box b ON b.frame_id = f.frame_id AND b.x > 1",
    "anti-known": "SELECT b.frame_id FROM box b ANTI JOIN Docs d ON d.doc_id = b.frame_id",
    "anti-right-of-where": (
        "SELECT m.frame_id FROM mood m ANTI JOIN box b ON b.frame_id = m.frame_id WHERE m.frame_id > 1"
    ),
    "asof": "SELECT f.frame_id, m.mood FROM frames f ASOF JOIN mood m ON f.ts >= m.frame_id WHERE m.frame_id % 2 = 0",
    "asof-derived": (
        "SELECT t.mf FROM (SELECT f.frame_id, m.frame_id AS mf FROM frames f ASOF JOIN mood m ON f.ts >= m.frame_id) t"
        " WHERE t.mf % 2 = 0"
    ),
    "asof-left": (
        "SELECT f.frame_id, m.mood FROM frames f ASOF LEFT JOIN mood m ON f.ts >= m.frame_id"
        " WHERE m.frame_id IS NULL OR m.frame_id % 2 = 1"
    ),
    "right-after-comma": (
        "SELECT m.mood, d.n FROM mood m, Tag t RIGHT JOIN Docs d ON t.doc_id = d.doc_id AND t.n > 1 WHERE m.frame_id < 3"
    ),
    "natural-after-comma": "SELECT b2.frame_id, a3.x FROM vagg T1, frames b2 NATURAL JOIN vu a3",
    "on-subquery-beside-outer-join": (
        "SELECT f.frame_id, m.mood FROM frames f LEFT JOIN mood m ON f.frame_id = m.frame_id"
        " AND m.frame_id IN (SELECT frame_id FROM box) WHERE m.mood > 1"
    ),
    "on-subquery-of-null-extended-rows": (
        "SELECT d.doc_id, f.frame_id FROM Docs d LEFT JOIN frames f ON f.frame_id = d.doc_id"
        " AND EXISTS (SELECT 1 FROM box b WHERE b.frame_id = f.frame_id AND b.x > 1)"
        " WHERE f.frame_id IS NULL OR d.cam > 2"
    ),
    "on-subquery-of-asof": (
        "SELECT f.frame_id, d.doc_id FROM frames f ASOF JOIN Docs d ON f.ts >= d.doc_id"
        " AND EXISTS (SELECT 1 FROM box b WHERE b.frame_id = d.doc_id AND b.x > 1) WHERE d.doc_id % 2 = 0"
    ),
    "on-subquery-of-excluded-rows": (
        "SELECT m.mood FROM mood m ANTI JOIN frames f ON f.frame_id = m.frame_id"
        " AND (SELECT count(*) FROM box b WHERE b.frame_id = f.frame_id) = 0"
    ),
}

NAMES = {
    "using-full": "SELECT frame_id FROM frames FULL JOIN vagg USING (frame_id) JOIN mood m ON true"
    " WHERE frame_id = m.frame_id",
    "using-right": "SELECT doc_id, m.mood FROM Tag RIGHT JOIN Docs USING (doc_id), mood m WHERE doc_id = m.frame_id",
    "using-of-unlisted-columns": (
        "SELECT f.frame_id FROM frames f LEFT JOIN box b ON b.frame_id = f.frame_id AND b.x > 1 WHERE NOT EXISTS"
        " (SELECT 1 FROM (SELECT 3 AS range) v JOIN range(2) r USING (range)) AND f.cam < 4"
    ),
    "natural-of-unlisted-columns": (
        "SELECT m.frame_id FROM mood m WHERE NOT EXISTS (SELECT 1 FROM box b NATURAL JOIN (SELECT * FROM frames"
        " WHERE frame_id > 90) v) AND m.frame_id < 3"
    ),
    "left-using-of-unlisted-columns": (
        "SELECT m.mood FROM mood m, (SELECT frame_id AS range FROM frames) v LEFT JOIN range(2) r USING (range)"
        " WHERE m.frame_id = v.range AND r.range IS NULL"
    ),
    "semi-hides-outer-name": (
        "SELECT f.frame_id FROM Docs d, frames f WHERE EXISTS"
        " (SELECT 1 FROM mood m SEMI JOIN Tag t ON t.doc_id = m.frame_id WHERE doc_id = m.frame_id)"
    ),
    "semi-hides-qualified-outer-name": (
        "SELECT t.doc_id FROM Docs t WHERE EXISTS"
        " (SELECT 1 FROM box f SEMI JOIN Tag t ON t.n = f.x WHERE t.doc_id = f.frame_id)"
    ),
    "semi-hides-name-of-outer-row": (
        "SELECT n FROM Docs WHERE EXISTS (SELECT 1 FROM box f SEMI JOIN Tag t ON t.cls = f.x WHERE n = f.frame_id)"
    ),
    "on-sees-its-own-sides": (
        "SELECT d.doc_id FROM Docs d WHERE EXISTS (SELECT 1 FROM mood m JOIN box b ON b.frame_id = m.frame_id"
        " AND n < 3 JOIN Tag t ON t.doc_id = b.frame_id)"
    ),
    "on-binds-outside-a-later-item": (
        "SELECT f.frame_id FROM frames f WHERE EXISTS (SELECT 1 FROM box b JOIN range(5) r(i) ON i = ts"
        " AND b.frame_id = f.frame_id JOIN (SELECT 77 AS ts) l ON true)"
    ),
    "alias-or-column": "SELECT x + 3 AS frame_id, x AS q FROM box WHERE q > 1 AND frame_id < 3",
    "inner-alias-shadows-outer": (
        "SELECT b.x FROM box b WHERE EXISTS (SELECT 1 FROM mood b WHERE x > 1 AND b.frame_id < 4)"
    ),
    "case-and-quotes": 'SELECT "BOX"."X" FROM BoX WHERE "Frame_ID" < 3 AND BOX."cls" > 0',
    "inner-alias-shadows-outer-known": (
        "SELECT b.frame_id FROM frames b WHERE EXISTS (SELECT 1 FROM mood b WHERE cam > 1 AND b.mood > 1)"
    ),
    "column-list": "SELECT p, q FROM box AS b(p, q) WHERE p > 1 AND q < 2 AND b.x > 0",
    "shadowing-cte": (
        "WITH box AS (SELECT frame_id, 1 AS x FROM frames WHERE cam = 1), c2 AS (SELECT * FROM box)"
        " SELECT c2.x, m.mood FROM c2 JOIN mood m USING (frame_id)"
    ),
    "shadowing-known-cte": (
        "WITH frames AS (SELECT * FROM frames WHERE cam = 1) SELECT b.x FROM (SELECT * FROM frames) f"
        " JOIN box b USING (frame_id)"
    ),
    "duplicate-outputs": (
        "SELECT t.frame_id_1 FROM (SELECT b.frame_id, m.frame_id FROM box b, mood m) t"
        " WHERE frame_id = 1 AND frame_id_1 = 2"
    ),
    "alias-before-outer-column": (
        "SELECT f.frame_id FROM frames f WHERE EXISTS"
        " (SELECT b.x + 1 AS ts FROM box b WHERE b.frame_id = f.frame_id AND ts > 3)"
    ),
    "made-up-name-of-outer-column": (
        "SELECT f.cam FROM frames f WHERE EXISTS (SELECT 1 FROM (SELECT m.frame_id::INT, m.mood, m.frame_id AS k"
        " FROM mood m) t WHERE frame_id > 2 AND t.k < 3 AND t.mood >= 0)"
    ),
    "made-up-output-name": (
        "SELECT d.doc_id FROM Docs d, (SELECT b.x::INT FROM box b) t, (SELECT frame_id AS x FROM mood) u WHERE x > 2"
    ),
    "struct-of-row": "SELECT r FROM reviews r WHERE stars > 1",
    "whole-row-condition": "SELECT rid FROM reviews r WHERE r IS NOT NULL AND stars > 1 AND (r).tone > 1",
}

BLOCKS = {
    "agg-derived": "SELECT v FROM (SELECT max(frame_id) AS v FROM box WHERE x > 0) t WHERE v > 2",
    "agg-count-derived": "SELECT k FROM (SELECT count(*) AS k FROM box) t WHERE k > 2",
    "constant-beside-aggregate": "SELECT c FROM (SELECT 1 AS c, count(*) AS k FROM box WHERE frame_id > 90) t WHERE c = 1",
    "one-row-beside-others": (
        "SELECT m.mood FROM mood m, (SELECT 1 AS c, count(*) AS k FROM box WHERE frame_id > 90) t WHERE t.c = 1"
    ),
    "window-derived": "SELECT * FROM (SELECT frame_id, count(*) OVER () AS k FROM box) t WHERE frame_id = 1",
    "window-row-number": (
        "SELECT * FROM (SELECT frame_id, row_number() OVER (ORDER BY frame_id, box_id) AS k FROM box) t"
        " WHERE frame_id > 1"
    ),
    "limit-derived": "SELECT * FROM (SELECT frame_id, box_id FROM box ORDER BY ALL LIMIT 2) t WHERE frame_id > 1",
    "offset-derived": "SELECT * FROM (SELECT frame_id, box_id FROM box ORDER BY ALL OFFSET 2) t WHERE frame_id > 1",
    "limit-not-met-beside-what-does-not-matter": (
        "SELECT a.i FROM range(1) a(i) WHERE EXISTS (SELECT r.echo FROM reviews r WHERE r.stars IS NOT NULL) ORDER BY i LIMIT 2"
    ),
    "limit-of-parentheses": (
        "SELECT * FROM ((SELECT frame_id, box_id FROM box ORDER BY ALL) LIMIT 2) t WHERE frame_id > 1"
    ),
    "limit-in-parentheses": (
        "SELECT frame_id FROM frames f WHERE frame_id IN ((SELECT frame_id FROM box ORDER BY ALL) LIMIT 2)"
    ),
    "distinct-on": (
        "SELECT * FROM (SELECT DISTINCT ON (cls) cls, frame_id FROM box ORDER BY cls, frame_id) t WHERE frame_id > 2"
    ),
    "qualify": "SELECT frame_id FROM box WHERE frame_id > 1 QUALIFY count(*) OVER (PARTITION BY x) = 1",
    "qualify-derived": (
        "SELECT * FROM (SELECT frame_id, cls FROM box QUALIFY count(*) OVER (PARTITION BY cls) = 1) t WHERE frame_id > 1"
    ),
    "group-grouping-sets": (
        "SELECT * FROM (SELECT frame_id, count(*) AS k FROM box GROUP BY GROUPING SETS ((frame_id), ())) t"
        " WHERE frame_id IS NULL"
    ),
    "grouping-sets-constant": (
        "SELECT * FROM (SELECT 1 AS c, frame_id, count(*) AS k FROM box WHERE frame_id > 90"
        " GROUP BY GROUPING SETS ((frame_id), ())) t WHERE c = 1"
    ),
    "grouping-sets-total": (
        "SELECT * FROM (SELECT frame_id, count(*) AS k FROM box GROUP BY ROLLUP (frame_id)) t"
        " WHERE frame_id IS NULL OR frame_id = 2"
    ),
    "group-window": (
        "SELECT * FROM (SELECT frame_id, sum(count(*)) OVER () AS k FROM box GROUP BY frame_id) t WHERE frame_id = 1"
    ),
    "group-pushed": (
        "SELECT * FROM (SELECT frame_id, count(*) AS k FROM box GROUP BY frame_id) t WHERE frame_id = 1 AND k > 1"
    ),
    "group-having": "SELECT * FROM (SELECT frame_id FROM box GROUP BY frame_id HAVING sum(x) > 2) t WHERE frame_id < 4",
    "group-by-all": "SELECT * FROM (SELECT frame_id, count(*) AS k FROM box GROUP BY ALL) t WHERE frame_id = 2",
    "setop-limit": (
        "SELECT * FROM (SELECT frame_id FROM box UNION SELECT frame_id FROM mood ORDER BY 1 LIMIT 2) t WHERE frame_id > 0"
    ),
    "setop-except": (
        "SELECT * FROM (SELECT frame_id FROM frames EXCEPT SELECT frame_id FROM box WHERE x > 1) t WHERE frame_id > 2"
    ),
    "setop-except-all": (
        "SELECT * FROM (SELECT frame_id FROM box EXCEPT ALL SELECT frame_id FROM mood WHERE mood > 1) t WHERE frame_id > 1"
    ),
    "setop-intersect": (
        "SELECT * FROM (SELECT frame_id, x FROM box INTERSECT SELECT frame_id, mood FROM mood) t WHERE frame_id < 3"
    ),
    "setop-by-name": "SELECT * FROM (SELECT frame_id, x FROM box UNION BY NAME SELECT mood AS x, n FROM mood) t WHERE x > 1",
    "setop-by-name-beside-others": (
        "SELECT g.n FROM Tag g, (SELECT frame_id AS a, 9 AS b FROM box UNION BY NAME"
        " SELECT 1 AS b, frame_id AS a FROM mood) t WHERE t.b = 1 AND t.a = g.doc_id"
    ),
    "setop-in-in": (
        "SELECT doc_id FROM Docs WHERE doc_id IN (SELECT frame_id FROM box WHERE x > 1 UNION SELECT frame_id FROM mood)"
    ),
    "derived-dead": (
        "SELECT t.i FROM (SELECT r.i, a.shade FROM color b FULL JOIN range(1) r(i) ON b.box_id = i"
        " RIGHT JOIN shade a ON b.box_id = a.box_id) t WHERE t.i <> 2"
    ),
    "chain-ordinal": "SELECT color FROM color WHERE box_id < 2",
    "linked-by-values": "SELECT b.x FROM box b, Tag g, mood m WHERE b.cls = g.cls AND m.mood = g.n",
    "chain-only": "SELECT color FROM color WHERE frame_id < 4",
    "cte-twice": "WITH b AS (SELECT * FROM box) SELECT p.x, q.x FROM b p, b q WHERE p.frame_id = 1 AND q.frame_id = 2",
    "recursive": (
        "WITH RECURSIVE r(k) AS (SELECT min(frame_id) FROM box UNION SELECT r.k + 1 FROM r JOIN box b"
        " ON b.frame_id = r.k AND b.x > 0) SELECT * FROM r"
    ),
    "recursive-filtered": (
        "WITH RECURSIVE r(k) AS (SELECT frame_id FROM mood WHERE mood > 1 UNION SELECT r.k + 1 FROM r JOIN frames f"
        " ON f.frame_id = r.k) SELECT * FROM r WHERE k > 2"
    ),
    "from-first": "FROM box SELECT frame_id, x WHERE frame_id > 2",
    "sample-repeatable": "SELECT count(*) FROM (SELECT * FROM box USING SAMPLE 100%) t WHERE frame_id > 2",
    "positional": "SELECT count(f.cam), count(b.x) FROM frames f POSITIONAL JOIN box b",
    "volatile": "SELECT frame_id FROM box WHERE random() >= 0 AND frame_id > 2",
    "volatile-derived": "SELECT b.frame_id FROM box b, (SELECT random() + 1 AS r) t WHERE t.r > 1 AND b.frame_id > 2",
    "columns": "SELECT min(COLUMNS(*)) FROM box",
    "columns-derived": "SELECT * FROM (SELECT COLUMNS('fra.*|x') FROM box) t WHERE frame_id > 2",
    "exclude-derived": "SELECT * FROM (SELECT * EXCLUDE (x) FROM box) t WHERE frame_id > 2 AND cls > 1",
    "replace-derived": "SELECT * FROM (SELECT * REPLACE (x + frame_id AS frame_id) FROM box) t WHERE frame_id > 2",
    "lambda": "SELECT frame_id FROM box WHERE len(list_filter([1, 2, 3], lambda x: x > 2)) > 0 AND frame_id > 2",
    "comprehension-over-a-column-name": (
        "SELECT b.x FROM box b, frames f WHERE len([ts + 1 for ts in [1, 2, 3] if ts > 2]) > 0 AND f.ts <= 2"
    ),
    "comprehension": "SELECT frame_id FROM box WHERE len([x + 1 for x in [1, 2, 3] if x > frame_id]) > 1",
    "unnest-output": "SELECT k FROM (SELECT frame_id, unnest([x, cls]) AS k FROM box) t WHERE frame_id > 1 AND k > 2",
    "unnest-join": "SELECT b.frame_id, k FROM box b, unnest([b.x, b.cls]) u(k) WHERE b.frame_id > 2 AND k > 1",
    "case": "SELECT CASE WHEN cls = 1 THEN x ELSE frame_id END AS c FROM box WHERE CASE WHEN frame_id > 2 THEN x > 1 END",
}

NESTED = {
    "not-or": "SELECT frame_id FROM box WHERE NOT (x > 1 OR frame_id > 3)",
    "not-and-unknown": "SELECT frame_id FROM box WHERE NOT (x > 1 AND frame_id > 3)",
    "rollup-scalar": (
        "SELECT cam, (SELECT count(*) FROM box b WHERE b.frame_id > coalesce(f.cam, 0)) AS k FROM frames f"
        " WHERE f.ts > 90 GROUP BY ROLLUP (cam)"
    ),
    "rollup-correlated": (
        "SELECT cam, (SELECT count(*) FROM box b WHERE f.cam IS NULL AND b.x > 1) AS k FROM frames f"
        " WHERE f.cam IS NOT NULL GROUP BY ROLLUP (cam)"
    ),
    "agg-scalar": "SELECT count(*), (SELECT max(x) FROM box) AS k FROM frames WHERE cam = 77",
    "agg-having-scalar": "SELECT count(*) FROM frames WHERE cam = 77 HAVING count(*) < (SELECT count(*) FROM box)",
    "having-makes-one-row": "SELECT (SELECT max(x) FROM box) AS k FROM frames WHERE cam = 77 HAVING true",
    "having-derived": "SELECT c FROM (SELECT 1 AS c FROM box WHERE frame_id > 90 HAVING true) t WHERE c = 1",
    "aggregate-of-outer-columns": (
        "SELECT (SELECT max(m.mood) + count(f.cam) FROM mood m) AS k FROM frames f WHERE f.cam > 77"
    ),
    "aggregate-of-outer-columns-derived": (
        "SELECT c FROM (SELECT 1 AS c, (SELECT max(b.x)) AS k FROM box b WHERE b.frame_id > 90) t WHERE c = 1"
    ),
    "known-query-reads-outside": "SELECT b.x FROM box b WHERE (SELECT count(*) FROM range(3) v(k) WHERE k < x) > 1",
    "known-query-reads-outside-renamed": (
        "SELECT m.n FROM mood m WHERE (SELECT count(*) FROM Docs d(p, q, r) WHERE n > 1) > 0 AND m.frame_id < 4"
    ),
    "from-first-known-function": "FROM range(1) v(k), color c SELECT c.color + v.k WHERE v.k < 3",
    "from-first-derived": "FROM (SELECT 1 AS k) v JOIN color c ON c.color = v.k SELECT c.frame_id",
    "known-lateral-reads-outside": "SELECT b.x, t.k FROM box b, (SELECT k FROM range(3) v(k) WHERE k < x) t",
    "not-in-null": "SELECT frame_id FROM frames f WHERE frame_id NOT IN (SELECT x FROM box b WHERE b.frame_id >= 0)",
    "in-is-null": (
        "SELECT frame_id FROM frames f WHERE (cam IN (SELECT d.cam FROM Docs d JOIN Tag t USING (doc_id))) IS NULL"
    ),
    "in-is-null-2": (
        "SELECT doc_id FROM Docs d WHERE (n IN (SELECT f.cam FROM frames f JOIN mood m USING (frame_id))) IS NULL"
    ),
    "in-negated": (
        "SELECT frame_id FROM frames f WHERE NOT (cam IN (SELECT d.cam FROM Docs d JOIN Tag t USING (doc_id)))"
    ),
    "in-select-list": "SELECT frame_id, cam IN (SELECT d.cam FROM Docs d JOIN Tag t USING (doc_id)) AS k FROM frames",
    "in-of-aggregate": "SELECT frame_id FROM frames WHERE frame_id IN (SELECT max(frame_id) FROM box WHERE x > 1)",
    "in-of-derived": (
        "SELECT frame_id FROM frames WHERE frame_id IN (SELECT q FROM (SELECT x AS p, frame_id AS q FROM box LIMIT 100) t)"
    ),
    "in-of-derived-plain": (
        "SELECT frame_id FROM frames WHERE frame_id IN"
        " (SELECT q FROM (SELECT x AS p, frame_id AS q, COLUMNS('cls') FROM box) t WHERE q < 3)"
    ),
    "in-tuple": "SELECT frame_id FROM frames WHERE (frame_id, cam) IN (SELECT frame_id, x FROM box)",
    "in-unknown-left": "SELECT x FROM box WHERE x IN (SELECT mood FROM mood WHERE frame_id = 2)",
    "in-unknown-left-negated": "SELECT x FROM box WHERE frame_id < 3 AND x NOT IN (SELECT mood FROM mood WHERE frame_id = 2)",
    "not-exists-as-filter": (
        "SELECT m.frame_id FROM mood m WHERE NOT EXISTS (SELECT 1 FROM box b WHERE b.frame_id = m.frame_id AND b.x > 1)"
    ),
    "not-in-as-filter": "SELECT m.frame_id FROM mood m WHERE m.frame_id NOT IN (SELECT b.frame_id FROM box b WHERE b.x > 1)",
    "exists-of-aggregate": (
        "SELECT frame_id FROM mood m WHERE EXISTS"
        " (SELECT max(x) FROM box b WHERE b.frame_id = m.frame_id AND b.frame_id > 99)"
    ),
    "exists-of-limit-zero": "SELECT frame_id FROM mood m WHERE NOT EXISTS (SELECT 1 FROM box LIMIT 0) AND frame_id > 1",
    "exists-of-offset": "SELECT frame_id FROM mood m WHERE NOT EXISTS (SELECT 1 FROM box OFFSET 4)",
    "exists-in-case": (
        "SELECT frame_id FROM frames f WHERE CASE WHEN EXISTS (SELECT 1 FROM box b WHERE b.frame_id = f.frame_id"
        " AND b.x > 1) THEN cam > 1 ELSE cam < 2 END"
    ),
    "where-certain": (
        "SELECT frame_id FROM mood m WHERE m.mood = 1 OR frame_id IN (SELECT frame_id FROM box WHERE x > 0)"
    ),
    "where-certain-null": (
        "SELECT frame_id FROM frames f WHERE cam = 1 OR EXISTS (SELECT 1 FROM box b WHERE b.frame_id = f.frame_id)"
    ),
    "where-certain-mixed": (
        "SELECT frame_id FROM frames f WHERE (cam > 2) IS TRUE OR NOT EXISTS"
        " (SELECT 1 FROM box b WHERE b.frame_id = f.frame_id AND b.cls = f.cam)"
    ),
    "scalar-in-where": (
        "SELECT frame_id FROM frames f WHERE (SELECT count(*) FROM box b WHERE b.frame_id = f.frame_id) = 0 AND cam > 0"
    ),
    "scalar-known": "SELECT frame_id FROM box WHERE frame_id > (SELECT avg(ts) FROM frames) AND x > 1",
    "scalar-volatile": "SELECT frame_id FROM box WHERE frame_id > (SELECT random() - 1) AND frame_id < 3",
    "having-scalar": (
        "SELECT cam FROM frames f GROUP BY cam HAVING count(*) > (SELECT count(*) FROM mood m WHERE m.frame_id = f.cam)"
    ),
    "order-by-scalar": (
        "SELECT frame_id FROM frames f ORDER BY (SELECT count(*) FROM box b WHERE b.frame_id = f.frame_id) * 100 + frame_id"
        " LIMIT 2"
    ),
    "limit-scalar": "SELECT frame_id FROM frames ORDER BY frame_id LIMIT (SELECT count(*) FROM mood WHERE mood > 1)",
    "limit-of-one-row": ("SELECT count(*) FROM frames WHERE cam = 77 LIMIT (SELECT count(*) FROM mood WHERE mood > 3)"),
    "not-exists-on-keys": (
        "SELECT m.mood FROM mood m WHERE NOT EXISTS (SELECT 1 FROM box b WHERE b.frame_id = m.frame_id) AND m.mood > 0"
    ),
    "any": "SELECT frame_id FROM frames f WHERE cam = ANY (SELECT x FROM box b WHERE b.frame_id = f.frame_id)",
    "all": "SELECT frame_id FROM frames f WHERE cam < ALL (SELECT x FROM box b WHERE b.frame_id = f.frame_id)",
    "implicit-lateral": (
        "SELECT f.frame_id, t.k FROM frames f, (SELECT count(*) AS k FROM box b WHERE b.frame_id = f.frame_id) t"
        " WHERE f.cam < 3"
    ),
    "implicit-lateral-plain": (
        "SELECT f.frame_id, t.x FROM frames f, (SELECT b.x FROM box b WHERE b.frame_id = f.frame_id) t WHERE t.x > 1"
    ),
    "left-lateral": (
        "SELECT f.frame_id, t.x FROM frames f LEFT JOIN LATERAL (SELECT b.x FROM box b WHERE b.frame_id = f.frame_id"
        " AND b.x > f.cam) t ON true WHERE t.x IS NULL OR f.cam = 1"
    ),
    "lateral-limit": (
        "SELECT f.frame_id, t.x FROM frames f, LATERAL (SELECT b.x FROM box b WHERE b.frame_id <= f.frame_id"
        " ORDER BY ALL LIMIT 1) t WHERE f.cam > 1"
    ),
    "two-levels": (
        "SELECT f.frame_id FROM frames f WHERE EXISTS (SELECT 1 FROM box b WHERE b.frame_id = f.frame_id AND NOT EXISTS"
        " (SELECT 1 FROM mood m WHERE m.frame_id = f.frame_id AND m.mood > b.x))"
    ),
}

VIRTUAL_COLUMNS = {
    "known-columns-only": "SELECT rid FROM reviews WHERE stars > 1",
    "select-only": "SELECT tone FROM reviews WHERE stars > 1",
    "where": "SELECT rid FROM reviews WHERE tone > 1 AND stars > 1",
    "where-null": "SELECT rid FROM reviews WHERE tone IS NULL",
    "left-null-side": "SELECT d.doc_id, r.tone FROM Docs d LEFT JOIN reviews r ON r.tone = d.cam WHERE r.rid IS NULL",
    "anti-right": "SELECT d.doc_id FROM Docs d ANTI JOIN reviews r ON r.tone = d.cam AND r.stars > 1",
    "exists": "SELECT d.doc_id FROM Docs d WHERE NOT EXISTS (SELECT 1 FROM reviews r WHERE r.tone = d.cam)",
    "not-in": "SELECT d.doc_id FROM Docs d WHERE d.cam NOT IN (SELECT tone FROM reviews WHERE stars > 1)",
    "not-in-as-filter": "SELECT m.frame_id FROM mood m WHERE m.frame_id NOT IN (SELECT tone FROM reviews)",
    "star-derived": "SELECT rid FROM (SELECT * FROM reviews) t WHERE stars > 1",
    "star-derived-distinct": "SELECT count(*) FROM (SELECT DISTINCT * EXCLUDE (rid) FROM reviews) t",
    "star-distinct-virtual": ("SELECT count(*) FROM (SELECT DISTINCT * EXCLUDE (frame_id, box_id, x, cls) FROM box) t"),
    "star-renamed": "SELECT e FROM (SELECT * FROM reviews) t(a, b, c, d, e) WHERE a > 1",
    "table-renamed": "SELECT d FROM reviews t(a, b, c, d) WHERE a > 1",
    "star-union": "SELECT count(*) FROM (SELECT * FROM reviews UNION SELECT * FROM reviews WHERE stars > 2) t",
    "star-in": "SELECT doc_id FROM Docs WHERE (doc_id, cam, n, 1, 2, 3) IN (SELECT * FROM reviews)",
    "count-star": "SELECT count(*) FROM reviews",
    "exclude": "SELECT * EXCLUDE (tone, lang) FROM reviews WHERE stars > 1",
    "group-by": "SELECT tone, count(*) FROM reviews WHERE stars > 0 GROUP BY tone",
    "order-by": "SELECT rid FROM reviews WHERE stars > 0 ORDER BY tone, rid LIMIT 2",
    "window": "SELECT rid, rank() OVER (ORDER BY tone) FROM reviews WHERE stars > 0",
    "on-virtual-table": "SELECT b.x FROM box b WHERE b.hue > 1 AND b.frame_id < 4",
    "on-virtual-table-joined": "SELECT b.hue FROM box b JOIN mood m USING (frame_id) WHERE m.mood > 1 AND b.x > 0",
    "natural": "SELECT count(*) FROM reviews NATURAL JOIN (SELECT 1 AS tone)",
    "using": "SELECT count(*) FROM reviews JOIN (SELECT 1 AS tone) t USING (tone)",
    "in-view": "SELECT rid FROM vrev WHERE tone > 1",
    "keyed-by-virtual-column": "SELECT rid FROM reviews WHERE echo > 1 AND stars > 1",
    "keyed-by-virtual-column-pruned": "SELECT rid FROM reviews WHERE echo > 1 AND tone > 2",
    "keyed-by-virtual-column-pivot": "SELECT * FROM (UNPIVOT reviews ON echo, stars INTO NAME k VALUE v) WHERE v > 1",
    "beside-its-keys": "SELECT body, tone FROM reviews WHERE body > 1",
}

PAIRS = {
    "pair": "SELECT * FROM match WHERE score > 1",
    "pair-known-sides": (
        "SELECT m.score FROM match m JOIN frames f USING (frame_id) JOIN Docs d USING (doc_id) WHERE f.cam > 1 AND d.n > 1"
    ),
    "pair-left": "SELECT f.frame_id, m.score FROM frames f LEFT JOIN match m ON m.frame_id = f.frame_id AND m.doc_id = 1",
    "pair-child": "SELECT who FROM seen WHERE frame_id > 2 AND doc_id < 2",
    "pair-shared-key": "SELECT n FROM near WHERE frame_id > 2",
    "pair-ordinal": "SELECT n FROM near WHERE box_id = 1",
    "pair-shared-ordinal": "SELECT z FROM fit WHERE z > 1",
    "pair-shared-ordinal-filtered": "SELECT z FROM fit WHERE box_id = 1 AND frame_id > 1",
    "pair-sides-prune": (
        "SELECT p.n FROM near p JOIN box b USING (frame_id, box_id) JOIN mood m USING (frame_id)"
        " WHERE b.x > 1 AND m.mood > 1"
    ),
    "pair-not-exists": "SELECT frame_id FROM frames f WHERE NOT EXISTS (SELECT 1 FROM near p WHERE p.frame_id = f.frame_id)",
}

PIVOTS = {
    "pivot-derived": "FROM (PIVOT (SELECT frame_id, cls, x FROM box WHERE frame_id > 1) ON cls IN (1, 2) USING sum(x))",
    "pivot-table": "SELECT * FROM (PIVOT box ON cls IN (1, 2) USING sum(x) GROUP BY frame_id) WHERE frame_id > 2",
    "pivot-clause": "SELECT * FROM (SELECT frame_id, cls, x FROM box) PIVOT (sum(x) FOR cls IN (1, 2)) WHERE frame_id > 1",
    "pivot-cte": "WITH c AS (SELECT frame_id, cls, x FROM box) SELECT * FROM (PIVOT c ON cls IN (1, 2) USING sum(x))",
    "pivot-statement": "PIVOT box ON cls IN (1, 2) USING count(*) GROUP BY frame_id",
    "unpivot": "SELECT * FROM (UNPIVOT (SELECT frame_id, x, cls FROM box WHERE frame_id < 3) ON x, cls INTO NAME k VALUE v)",
    "unpivot-virtual-column": "SELECT * FROM (UNPIVOT reviews ON tone, lang INTO NAME k VALUE v) WHERE v > 1",
}

PARAMETERS: dict[str, tuple[str, object]] = {
    "qmark": ("SELECT frame_id FROM box WHERE frame_id > ? AND x < ?", [2, 3]),
    "qmark-order": (
        "SELECT x + ? FROM box WHERE x > ? AND frame_id IN (SELECT frame_id FROM frames WHERE cam < ?)",
        [1, 0, 3],
    ),
    "numbered": ("SELECT frame_id FROM box WHERE frame_id > $2 AND x < $1", [3, 1]),
    "named": ("SELECT frame_id FROM box WHERE frame_id > $low AND x < $high AND '$low' <> '?'", {"low": 1, "high": 3}),
    "null": ("SELECT frame_id FROM box WHERE frame_id IS DISTINCT FROM ?", [None]),
    "limit": ("SELECT frame_id, box_id FROM box ORDER BY ALL LIMIT ?", [3]),
    "in-nested": (
        "SELECT frame_id FROM frames f WHERE EXISTS (SELECT 1 FROM box b WHERE b.frame_id = f.frame_id AND b.x = ?)",
        [1],
    ),
}

TRAPS: dict[str, str] = {
    f"{group}/{name}": sql
    for group, traps in {
        "joins": OUTER_JOINS,
        "names": NAMES,
        "blocks": BLOCKS,
        "nested": NESTED,
        "columns": VIRTUAL_COLUMNS,
        "pairs": PAIRS,
        "pivots": PIVOTS,
    }.items()
    for name, sql in traps.items()
}

FALLBACKS = {
    "blocks/positional",
    "nested/aggregate-of-outer-columns",
    "nested/aggregate-of-outer-columns-derived",
}
"""Traps that are to be materialised whole."""
