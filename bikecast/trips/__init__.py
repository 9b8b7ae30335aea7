"""Trip files of Lyft-run systems: read, and fetched from where they are published."""

from bikecast.trips.client import TripClient
from bikecast.trips.files import read_trips, trip_paths
from bikecast.trips.rows import TripCounts, parse_trips

__all__ = ["TripClient", "TripCounts", "parse_trips", "read_trips", "trip_paths"]
