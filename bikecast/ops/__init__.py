"""Releasing: what `inv` runs. It asks the release, and never reaches into the product."""
