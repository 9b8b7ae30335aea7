"""All SQL of the product."""

from bikecast.store.database import FileSeen, Store, ensure_database
from bikecast.store.schema import SchemaStatus

__all__ = ["FileSeen", "SchemaStatus", "Store", "ensure_database"]
