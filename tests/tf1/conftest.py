"""The TensorFlow 1.15 that these tests meet; without one they are skipped, and the reason is said."""

import pytest
from support import tf1_runner


@pytest.fixture(scope="session")
def tf1() -> tf1_runner.TensorFlow1:
    """A Python 3.7 with TensorFlow 1.15 that runs the programs of this folder."""
    try:
        return tf1_runner.find()
    except tf1_runner.NoTensorFlow1 as reason:
        pytest.skip(f"needs TensorFlow 1.15: {reason}")
