"""The array type that is used everywhere here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
"""Single precision, of any shape; a docstring says which."""
