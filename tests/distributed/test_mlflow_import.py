"""Two threads that need MLflow at once, in a Python that has not imported it yet."""

import subprocess
import sys
from pathlib import Path

import pytest

from distributed.cluster.checkout import ROOT

# As at the end of a very short sweep: the thread that logs to MLflow is still importing it.
SCRIPT = """
import sys
import threading
from pathlib import Path
from distributed.tracking.model_files import save_model
from distributed.tracking.server import make_database
from mixunlearn.problem import Architecture
folder = Path(sys.argv[1])
architecture = Architecture(name="cnn", width=4, image_shape=(1, 8, 8), classes=2)
assert "mlflow" not in sys.modules
thread = threading.Thread(target=make_database, args=(folder / "mlflow.db", None))
thread.start()
while "mlflow" not in sys.modules:
    assert thread.is_alive()
reason = save_model(
    architecture.build(1), folder / "model", architecture=architecture, classes=["0", "1"],
    card="", metadata={},
)
thread.join()
print(reason, (folder / "mlflow.db").exists())
"""


@pytest.mark.slow
def test_a_model_is_saved_while_another_thread_imports_mlflow(tmp_path: Path) -> None:
    words = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "None True\n"), done.stderr
