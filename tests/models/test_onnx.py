"""Trees as ONNX say what XGBoost says."""

import numpy as np
import onnxruntime
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_up import small_history, with_weather

from bikecast.features import NAMES
from bikecast.models import boosted
from bikecast.models.base import Grid
from bikecast.models.boosted import Trees
from bikecast.models.onnx import margins, session, trees_model
from bikecast.models.rows import learning_rows

FEATURES = 4


@pytest.fixture(scope="module", params=[24, 2], ids=["day", "hours"])
def trees(request):
    """Trees that learned with weather, for the day ahead or the next two hours."""
    made, history = Trees(Grid(request.param), True), with_weather(small_history())
    rows = learning_rows(history, Grid(request.param), 10**9, 1, time_of_year=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "_rounds", 150)
        made.learn(rows, history.known)
    return made, rows


def restored(trees):
    """As the service has them."""
    found = Trees(Grid(24), True)
    found.restore(trees.portable())
    return found


def test_restored_trees_say_what_xgboost_says(trees):
    """Within 1e-4, on rows that were learned and on others, with much that is unknown."""
    made, rows = trees
    rng = np.random.default_rng(1)
    values = rows.values[rng.integers(len(rows.values), size=10_000)]
    mixed = rng.permuted(values, axis=0)
    mixed[rng.random(mixed.shape) < 0.3] = np.nan
    level = rng.gamma(1, 4, 10_000).astype(np.float32) + np.float32(0.05)
    there = restored(made)
    for asked in (values, mixed, np.full_like(values, np.nan)):
        found = there.means(asked, level)
        assert found == pytest.approx(made.means(asked, level), rel=1e-4)
        assert found.dtype == np.float32 and len(np.unique(found / level)) > 0


def test_restored_trees_explain_and_are_kept_as_they_were(trees):
    """XGBoost is loaded for it, and answers no other question after."""
    made, rows = trees
    there, asked = restored(made), (rows.values[:50], rows.level[:50])
    before = there.means(*asked)
    assert np.array_equal(there.explain(*asked), made.explain(*asked))
    assert np.array_equal(there.means(*asked), before)
    assert np.array_equal(there.portable()["trees"], made.portable()["trees"])


def branches(depth):
    """A node as (feature, threshold, unknown goes left, left, right), a leaf as its value."""
    leaf = st.floats(-2, 2, width=32)
    threshold = st.sampled_from([np.float32(x) for x in (-1.5, -0.1, 0, 0.1, 1e-30, 3)])
    below = leaf if depth == 0 else st.one_of(leaf, st.deferred(lambda: branches(depth - 1)))
    return st.tuples(st.integers(0, FEATURES - 1), threshold, st.booleans(), below, below)


TREE = st.one_of(st.floats(-2, 2, width=32), branches(3))
VALUE = st.one_of(
    st.sampled_from(
        [-1.5, np.float32(-0.1), 0.0, -0.0, np.float32(0.1), 3.0, np.nan, np.inf, -np.inf]
    ),
    st.floats(width=32),
)


def fields(tree):
    """As XGBoost has a tree, its nodes in the order in which they are met."""
    found = {name: [] for name in ("left", "right", "feature", "value", "unknown_left")}

    def add(node):
        at = len(found["left"])
        for name in found:
            found[name].append(0)
        if isinstance(node, tuple):
            found["feature"][at], found["value"][at], found["unknown_left"][at] = node[:3]
            found["left"][at], found["right"][at] = add(node[3]), add(node[4])
        else:
            found["left"][at] = found["right"][at] = -1
            found["value"][at] = node
        return at

    add(tree)
    return {
        "left_children": np.array(found["left"], np.int32),
        "right_children": np.array(found["right"], np.int32),
        "split_indices": np.array(found["feature"], np.int32),
        "split_conditions": np.array(found["value"], np.float32),
        "default_left": np.array(found["unknown_left"], np.uint8),
        "split_type": np.zeros(len(found["left"]), np.uint8),
    }


def document(*trees):
    """What is used of a booster."""
    model = {"gradient_booster": {"model": {"trees": list(trees)}}}
    return {"learner": model | {"learner_model_param": {"num_feature": str(FEATURES)}}}


def walked(node, row):
    """The leaf that a row comes to."""
    while isinstance(node, tuple):
        feature, threshold, unknown_left, left, right = node
        value = row[feature]
        node = left if (unknown_left if np.isnan(value) else value < threshold) else right
    return node


@settings(deadline=None)
@given(st.lists(TREE, min_size=1, max_size=4), arrays(np.float32, (5, FEATURES), elements=VALUE))
def test_each_row_comes_to_its_leaf_in_any_trees(trees, rows):
    """Values that are just the threshold go right, unknown ones where the node says."""
    asked = onnxruntime.InferenceSession(
        trees_model(document(*map(fields, trees))), providers=["CPUExecutionProvider"]
    )
    expected = [sum(float(walked(tree, row)) for tree in trees) for row in rows]
    assert margins(asked, rows) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_trees_of_categories_are_refused():
    """They would be taken for thresholds."""
    tree = fields((0, np.float32(1), True, 0.0, 1.0))
    tree["split_type"][0] = 1
    with pytest.raises(ValueError, match="categories"):
        trees_model(document(tree))


def test_one_thread_answers():
    """A worker has four, each for a request of its own."""
    rng = np.random.default_rng(1)
    matrix = xgboost.DMatrix(rng.random((100, 3)), rng.poisson(2, 100), nthread=1)
    model = xgboost.train({"objective": "count:poisson", "nthread": 1}, matrix, 2)
    options = session(bytes(model.save_raw("ubj"))).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_features_that_are_left_out_do_not_matter(trees):
    """The system's last day would tell each day apart."""
    made, rows = trees
    there, values = restored(made), rows.values[:20].copy()
    before = there.means(values, rows.level[:20])
    values[:, [NAMES.index(name) for name in boosted._LEFT_OUT]] += 1
    assert np.array_equal(there.means(values, rows.level[:20]), before)
