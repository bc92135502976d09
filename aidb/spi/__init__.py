"""What the author of a connector or a model needs, and all of it: content references, two protocols, two exceptions.

A plugin is an object found by entry point (``aidb.connectors`` or ``aidb.models``) and imported when SQL first names it.
``aidb.testing`` has a contract test for each protocol.
"""

from aidb.spi.connector import BlobSchema, Connector, Decoded, ItemFailure, Scan
from aidb.spi.content import CONTENT_FIELDS, CONTENT_TYPE, MEDIA, Ref, is_content_type
from aidb.spi.model import (
    Columns,
    Input,
    ItemError,
    Model,
    ModelSpec,
    OutOfMemory,
    Output,
    Provider,
    ServiceError,
    Values,
    fingerprint,
)
from aidb.spi.options import Options
from aidb.spi.types import arrow_type, duckdb_type

__all__ = [
    "CONTENT_FIELDS",
    "CONTENT_TYPE",
    "MEDIA",
    "BlobSchema",
    "Columns",
    "Connector",
    "Decoded",
    "Input",
    "ItemError",
    "ItemFailure",
    "Model",
    "ModelSpec",
    "Options",
    "OutOfMemory",
    "Output",
    "Provider",
    "Ref",
    "Scan",
    "ServiceError",
    "Values",
    "arrow_type",
    "duckdb_type",
    "fingerprint",
    "is_content_type",
]
