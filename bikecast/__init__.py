"""bikecast forecasts bike-share demand at every station and releases what it learns."""

from importlib.metadata import version

__version__ = version("bikecast")
