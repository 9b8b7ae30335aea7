"""Settings come from the environment, and from nowhere else."""

from pathlib import Path

import pytest

from bikecast.config import Settings, read_settings
from bikecast.errors import InputError


def test_silence_means_the_defaults():
    """An empty environment gives every default."""
    assert read_settings({}) == Settings()


def test_each_kind_of_value_is_converted():
    """Text stays, numbers and paths become what they are."""
    found = read_settings(
        {"BIKECAST_WORKERS": "3", "BIKECAST_DATA_DIR": "~/x", "BIKECAST_SYSTEM": "a"}
    )
    assert (found.workers, found.data_dir, found.system) == (3, Path("~/x").expanduser(), "a")


def test_switches_and_lists_are_words():
    """True or false, and words with commas between."""
    found = read_settings(
        {"BIKECAST_REQUIRE_KEY": "true", "BIKECAST_TRUSTED_PROXIES": "10.0.0.0/8, unix,"}
    )
    assert found.require_key and found.trusted_proxies == ("10.0.0.0/8", "unix")
    found = read_settings({"BIKECAST_REQUIRE_KEY": "0", "BIKECAST_TRUSTED_PROXIES": ""})
    assert not found.require_key and found.trusted_proxies == ()


def test_the_admin_token_is_not_shown():
    """Whatever prints the settings."""
    assert "hush" not in repr(read_settings({"BIKECAST_ADMIN_TOKEN": "hush"}))


def test_a_secret_may_come_from_a_file(tmp_path):
    """``…_FILE`` names the file that holds the value; its line end does not count."""
    secret = tmp_path / "url"
    secret.write_text("postgresql://u:p@h/d\n")
    found = read_settings({"BIKECAST_DATABASE_URL_FILE": str(secret)})
    assert found.database_url == "postgresql://u:p@h/d"


@pytest.mark.parametrize(
    "environ",
    [
        {"BIKECAST_REQUIRE_KEY": "yes, please"},
        {"BIKECAST_STRICT_GATE": "very"},
        {"BIKECAST_WORKERS": "many"},
        {"BIKECAST_SYSTEM_FILE": "/no/such/file"},
        {"BIKECAST_LOG_FORMAT": "xml"},
    ],
)
def test_a_wrong_value_names_its_variable(environ):
    """The error names the variable that has to be changed."""
    with pytest.raises(InputError, match=next(iter(environ))):
        read_settings(environ)
