"""All SQL of the product."""

from bikecast.store.database import FileSeen, Store, ensure_database
from bikecast.store.schema import SCHEMA, SchemaStatus

__all__ = ["SCHEMA", "FileSeen", "SchemaStatus", "Store", "ensure_database"]
