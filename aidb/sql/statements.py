"""What a text of SQL says, as small frozen values. `aidb.sql.parse.parse` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Budget:
    """A hard ceiling on new oracle calls, money or time; exactly one field is set."""

    calls: int | None = None
    cost: float | None = None
    currency: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Call:
    """A name with arguments, as text: ``small_net(image)``, ``cells``, ``logistic(embedding)``.

    An expression in brackets, ``(score + 1)``, has no name and is the one argument.
    """

    name: str
    args: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return self.name + ("" if self.args is None else f"({', '.join(self.args)})")


@dataclass(frozen=True)
class Guarantee:
    """What the clauses after a query ask for, in canonical form (grammar: aliases are resolved, percentages divided).

    error: allowed deviation; relative to the truth or, if ``absolute``, in units of the result.
    recall, precision: targets in (0, 1); expected: hold on average only, no probability.
    probability: of the guarantee to hold; ``probability_given`` is False where the default 0.95 stands in.
    fnr, fpr: FNR/FPR WITHIN. oracle_limit/budget: ceilings. time_limit: WITHIN n SECONDS. proxy, oracle, method: by name.
    gap: minimal distance of LIMIT results; gap_unit: "rows" | "frames" | "seconds". verified: rule V, None = by default.
    seed: of the sampling. position: where the first clause stood in the text.
    """

    error: float | None = None
    absolute: bool = False
    recall: float | None = None
    precision: float | None = None
    expected: bool = False
    fnr: float | None = None
    fpr: float | None = None
    probability: float = 0.95
    probability_given: bool = False
    budget: Budget | None = None
    time_limit: float | None = None
    proxy: Call | None = None
    oracle: str | None = None
    gap: float | None = None
    gap_unit: str | None = None
    method: Call | None = None
    seed: int | None = None
    verified: bool | None = None
    position: int = 0

    @property
    def needs_statistics(self) -> bool:
        """Do the clauses ask for an approximate answer (a seed or a budget alone does not)?"""
        return any(x is not None for x in (self.error, self.recall, self.precision, self.fnr, self.fpr, self.gap))


@dataclass(frozen=True)
class Query:
    """A query that may touch virtual tables.

    core: DuckDB SQL with our clauses, EXPLAIN and the closing semicolon blanked out, positions unchanged. It may end in
    a comment: whoever puts brackets around it must close them on a new line.
    """

    sql: str
    core: str
    guarantee: Guarantee | None = None
    explain: Literal["no", "explain", "analyze", "cost"] = "no"


@dataclass(frozen=True)
class Native:
    """A statement that is DuckDB's alone (DDL, DML, PRAGMA, transactions, COPY...), to be passed on untouched."""

    sql: str


@dataclass(frozen=True)
class CreateBlobTable:
    """CREATE BLOB TABLE: from a source string, or from a query."""

    name: str
    source: str | None = None
    query: str | None = None
    connector: str | None = None
    key: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    replace: bool = False
    if_not_exists: bool = False


@dataclass(frozen=True)
class CreateModel:
    """CREATE MODEL name USING provider WITH (...)."""

    name: str
    provider: str
    options: Mapping[str, object] = field(default_factory=dict)
    replace: bool = False
    if_not_exists: bool = False


@dataclass(frozen=True)
class ModelCall:
    """``yolo(frames.image)``: a model's name and its arguments, each (table or None, column), with their positions."""

    model: str
    args: tuple[tuple[str | None, str], ...]
    position: int = 0


@dataclass(frozen=True)
class CreateVirtualTable:
    """CREATE VIRTUAL TABLE name [(column type, ...)] AS model(args)."""

    name: str
    call: ModelCall
    columns: tuple[tuple[str, str | None], ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    replace: bool = False
    if_not_exists: bool = False


@dataclass(frozen=True)
class AddVirtualColumns:
    """ALTER TABLE table ADD VIRTUAL COLUMN(S) ... AS model(args); one name for each output, in order."""

    table: str
    columns: tuple[str, ...]
    call: ModelCall


@dataclass(frozen=True)
class CreateProxy:
    """CREATE PROXY: what orders the items of a table for questions about the target, given or trained."""

    name: str
    table: str
    target: str
    using: Call
    train_labels: int | None = None
    train_where: str | None = None
    calibrate: str | None = None
    holdout: float | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    replace: bool = False


@dataclass(frozen=True)
class CreateSemanticIndex:
    """CREATE SEMANTIC INDEX: embeddings of a table's items, as a proxy for any question about them."""

    name: str
    table: str
    using: Call
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Refresh:
    """REFRESH BLOB TABLE | SEMANTIC INDEX | PROXY name."""

    kind: Literal["blob table", "semantic index", "proxy"]
    name: str


@dataclass(frozen=True)
class RetryFailed:
    """RETRY FAILED [FOR model or virtual table]."""

    name: str | None = None


@dataclass(frozen=True)
class Drop:
    """DROP of one of our objects; kind "stale" has no name."""

    kind: Literal["blob table", "model", "virtual table", "proxy", "semantic index", "stale"]
    name: str | None = None
    if_exists: bool = False
    cascade: bool = False


@dataclass(frozen=True)
class Show:
    """SHOW MODELS | VIRTUAL TABLES | BLOB TABLES | PROXIES | GUARANTEES; what: these words in lower case.

    where, order ("name [ASC | DESC]"): SQL text. SHOW COST OF query is a `Query` with explain="cost".
    """

    what: str
    where: str | None = None
    order: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class CheckCatalog:
    """CHECK CATALOG: is the database what AIDB left it as?"""


@dataclass(frozen=True)
class ExportVirtualTable:
    """EXPORT VIRTUAL TABLE name TO 'folder': its answers and their ledger as Parquet."""

    name: str
    target: str


@dataclass(frozen=True)
class AttachMaterialized:
    """ATTACH MATERIALIZED name FROM 'folder': answers that were exported from another database."""

    name: str
    source: str


@dataclass(frozen=True)
class SetOption:
    """SET aidb.name = value, or RESET aidb.name (value None). name: in lower case, without ``aidb.``."""

    name: str
    value: object | None


Statement = (
    Query
    | Native
    | CreateBlobTable
    | CreateModel
    | CreateVirtualTable
    | AddVirtualColumns
    | CreateProxy
    | CreateSemanticIndex
    | Refresh
    | RetryFailed
    | Drop
    | Show
    | CheckCatalog
    | ExportVirtualTable
    | AttachMaterialized
    | SetOption
)
