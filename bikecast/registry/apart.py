"""A real load of a version, where nothing is known but the registry."""

import json
import os
import subprocess
import sys
from tempfile import TemporaryDirectory
from typing import Final

from bikecast.errors import OtherRelease
from bikecast.evaluation.gate import Loaded

WITHIN: Final = 600  # seconds, whatever else the machine does
KEPT: Final = (
    *("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
KEPT_OF: Final = ("MLFLOW_", "AWS_", "AZURE_", "GOOGLE_")
"""How to reach MLflow and its files; nothing of bikecast's own."""

# It runs with the code that travels with the model: of bikecast itself it imports nothing.
SCRIPT: Final = """
import json, os, sys, time, warnings
warnings.simplefilter("ignore")
name, version, folder = sys.argv[1:]
began = time.process_time()
import mlflow, numpy as np, pandas as pd
mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
model = mlflow.pyfunc.load_model(f"models:/{name}/{version}", dst_path=folder)
loaded = time.process_time()
hours = pd.date_range("2024-01-01", periods=35 * 24, freq="h")
busy = 3 + 2 * np.sin(hours.hour / 24 * 2 * np.pi) + np.arange(len(hours)) % 3
panel = pd.concat(
    [pd.DataFrame({"station_id": s, "hour": hours, "pickups": busy, "returns": busy[::-1]})
     for s in ("a", "b")], ignore_index=True)
frame = model.predict(panel, params={"horizon": 24})
asked = time.process_time()
numbers = frame.drop(columns=["station_id", "hour", "target"]).to_numpy()
good = (np.isfinite(numbers) & (numbers >= 0)).all(axis=1)
signature = model.metadata.signature
nbytes = sum(os.path.getsize(os.path.join(at, f)) for at, _, fs in os.walk(folder) for f in fs)
print(json.dumps({
    "inputs": signature.inputs.input_names() if signature else [],
    "outputs": [str(c) for c in frame.columns],
    "nbytes": nbytes, "load_seconds": loaded - began, "forecast_seconds": asked - loaded,
    "asked": 2 * 2 * 24, "rows": len(frame), "good": int(good.sum())}))
"""


def load_apart(uri: str, name: str, version: str) -> Loaded:
    """Load it with MLflow alone and forecast a day of two made-up stations.

    The registry's address may hold a password: it goes by the environment, which other users
    cannot read.

    :raises OtherRelease: where that ends with an error, or not in time.
    """
    kept = {k: v for k, v in os.environ.items() if k in KEPT or k.startswith(KEPT_OF)}
    environment = kept | {"MLFLOW_TRACKING_URI": uri, "MLFLOW_REGISTRY_URI": uri}
    with TemporaryDirectory() as folder:
        words = [sys.executable, "-I", "-c", SCRIPT, name, version, folder]
        try:
            # Our own interpreter and a fixed script; the words are a name and a number.
            done = subprocess.run(  # nosec B603
                words, env=environment, cwd=folder, capture_output=True, text=True, timeout=WITHIN
            )
        except subprocess.TimeoutExpired as error:
            raise _failed(name, version, f"not done after {WITHIN} s") from error
    if done.returncode:
        raise _failed(name, version, (done.stderr.strip() or "no word").splitlines()[-1])
    found = json.loads(done.stdout.splitlines()[-1])
    return Loaded(**found | {k: tuple(found[k]) for k in ("inputs", "outputs")})


def _failed(name: str, version: str, why: str) -> OtherRelease:
    return OtherRelease(
        f"version {version} of {name} cannot be loaded alone: {why}", hint="train another"
    )
