"""API keys: made, told apart, and not shown."""

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from bikecast.keys import fingerprint, key_id, new_key


def test_a_key_is_found_by_its_id_and_known_by_its_hash() -> None:
    """Of the key itself nothing else is kept, and nothing of it is printed."""
    text, key = new_key("planner")
    assert key.name == "planner" and key_id(text) == key.key_id
    assert key.sha256 == fingerprint(text) == sha256(text.encode()).digest()
    secret = text.rpartition(key.key_id + "_")[2]
    assert len(secret) == 43 and secret not in repr(key) and repr(key.sha256) not in repr(key)


def test_no_two_keys_are_alike() -> None:
    """Neither their ids nor their secrets."""
    made = [new_key("a") for _ in range(100)]
    assert len({text for text, _ in made}) == len({key.key_id for _, key in made}) == 100


@given(st.text(max_size=80))
def test_whatever_is_sent_as_a_key_is_one_or_not(text: str) -> None:
    """Nothing that only looks like one has an id, and each text has a hash."""
    assert key_id(text) is None and len(fingerprint(text)) == 32
    key, _ = new_key("a")
    assert key_id(key + text) is None or text == ""
