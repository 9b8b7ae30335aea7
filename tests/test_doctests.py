"""The examples in docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest

import bikecast


def with_examples():
    """Names of the modules that have examples."""
    for found in pkgutil.walk_packages(bikecast.__path__, "bikecast."):
        if not found.name.endswith("__main__") and ">>> " in source(found):
            yield found.name


def source(found):
    """A module's text, without running it."""
    spec = found.module_finder.find_spec(found.name)
    return spec.loader.get_source(found.name)


@pytest.mark.parametrize("name", list(with_examples()))
def test_the_examples_of_a_module_are_true(name):
    """As Python itself checks them."""
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried and not failed
