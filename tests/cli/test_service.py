"""What `bikecast predict` prints."""

from datetime import datetime

from bikecast.cli.service import _print_reasons


def row(target, mean, level, **factors):
    """A forecast of one hour with its explanation."""
    found = [{"group": word.replace("_", " "), "factor": f} for word, f in factors.items()]
    hour = datetime(2018, 7, 16, 8)
    why = {"level": level, "factors": found}
    return {"hour": hour, "target": target, "mean": mean, "explanation": why}


def test_factors_stand_under_their_words(capsys):
    """In the order of the words; those that change nothing anywhere are left out."""
    rows = [
        row("pickups", 3.3, 2.0, weather=1.5, last_hours=1.1, station=1.001),
        row("returns", 3.0, 3.0, balance=1.0001),
    ]
    _print_reasons("A.10", True, rows)
    told = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert told[0] == "simulated data"
    assert told[2].split() == ["hour", "level", "last", "hours", "weather", "mean"]
    assert told[-2].split()[-5:] == ["pickups", "2.00", "×1.10", "×1.50", "3.30"]
    assert told[-1].split()[-5:] == ["returns", "3.00", "×1.00", "×1.00", "3.00"]
