"""The gate's page."""

from html import escape

import pytest
from evidence import made_evidence

from bikecast.evaluation.gate import Rule, judge, overall, report_html


@pytest.mark.parametrize("evidence", [made_evidence(champion="1"), None])
def test_the_page_tells_every_check_and_needs_nothing_beside_it(evidence):
    """Also where there is no evidence to draw."""
    checks = judge(evidence, "1", Rule())
    document = {"version": "2", "model": "<glm>", "against": "1", "rule": "strict"}
    page = report_html(document | {"outcome": overall(checks)}, checks, evidence)
    assert all(escape(c.name) in page for c in checks) and "&lt;glm&gt;" in page
    assert "src=" not in page.replace('src="data:', "") and "<script" not in page
    assert ("data:image/svg+xml" in page) == (evidence is not None)
