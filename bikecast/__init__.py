"""bikecast forecasts bike-share demand at every station and releases what it learns."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("bikecast")
except PackageNotFoundError:  # as where its code has come with a model, and nobody installed it
    __version__ = "unknown"
