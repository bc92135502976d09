"""The SQLAlchemy dialect: ``create_engine("aidb:///street.aidb")``, also for pandas, JupySQL and BI tools.

`aidb.surfaces.sqlalchemy.dialect` says what a URL may hold, and how transactions and models go together.
"""

from aidb.surfaces.sqlalchemy.dialect import AidbDialect

__all__ = ["AidbDialect"]
