"""AIDB: query video, images and text in plain SQL, as if every model had already run on every item.

>>> import aidb
>>> con = aidb.connect()
>>> con.execute("SELECT 42 AS answer").fetchall()
[(42,)]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

apilevel = "2.0"
threadsafety = 2
paramstyle = "qmark"

_HOMES = {
    "aidb.connection": ("Connection", "connect"),
    "aidb.cursor": ("Cursor",),
    "aidb.functions": ("model",),
    "aidb.report": ("Report",),
    "aidb.dbtypes": ("BINARY", "DATETIME", "NUMBER", "ROWID", "STRING", "Binary", "Date", "DateFromTicks", "Time",
                     "TimeFromTicks", "Timestamp", "TimestampFromTicks"),
    "aidb.errors": (
        "BudgetExceeded", "DataError", "DatabaseError", "Error", "IntegrityError", "InterfaceError", "InternalError",
        "Interrupted", "ModelError", "NotSupportedError", "OperationalError", "ProgrammingError", "SourceError",
        "SqlSyntaxError", "TooManyFailures", "UnknownName", "Warning",
    ),
    "aidb.surfaces.jupyter": ("load_ipython_extension", "unload_ipython_extension"),  # %load_ext aidb
}  # fmt: skip
_WHERE = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "Binary",
    "BudgetExceeded",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "Interrupted",
    "ModelError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Report",
    "SourceError",
    "SqlSyntaxError",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "TooManyFailures",
    "UnknownName",
    "Warning",
    "__version__",
    "apilevel",
    "connect",
    "model",
    "paramstyle",
    "threadsafety",
]

if TYPE_CHECKING:
    from aidb.connection import Connection, connect
    from aidb.cursor import Cursor
    from aidb.dbtypes import (
        BINARY,
        DATETIME,
        NUMBER,
        ROWID,
        STRING,
        Binary,
        Date,
        DateFromTicks,
        Time,
        TimeFromTicks,
        Timestamp,
        TimestampFromTicks,
    )
    from aidb.errors import (
        BudgetExceeded,
        DatabaseError,
        DataError,
        Error,
        IntegrityError,
        InterfaceError,
        InternalError,
        Interrupted,
        ModelError,
        NotSupportedError,
        OperationalError,
        ProgrammingError,
        SourceError,
        SqlSyntaxError,
        TooManyFailures,
        UnknownName,
        Warning,  # noqa: A004  PEP 249 fixes the name
    )
    from aidb.functions import model
    from aidb.report import Report


def __getattr__(name: str) -> Any:
    """Load what was asked for, and only then what it needs."""
    if name not in _WHERE:
        raise AttributeError(f"module 'aidb' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
