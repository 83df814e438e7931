"""Write km.bin of the scikit-learn that runs it, into the folder of this file.

Units that its `predict` gives of frames of `frames.npy` go beside it.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import sklearn
from sklearn.cluster import KMeans, MiniBatchKMeans

FOLDER = Path(__file__).parent


def main(name: str) -> None:
    warnings.simplefilter("ignore")
    x = np.random.RandomState(0).randn(60, 6).astype(np.float32)
    np.save(FOLDER / "frames.npy", x)
    mini = MiniBatchKMeans(  # as examples/hubert/simple_kmeans/learn_kmeans.py of fairseq calls it
        n_clusters=5,
        init="k-means++",
        max_iter=10,
        batch_size=60,
        compute_labels=False,
        tol=0.0,
        max_no_improvement=100,
        n_init=2,
        reassignment_ratio=0.0,
    ).fit(x)
    plain = KMeans(5, n_init=1, random_state=0).fit(x)
    for kind, model in {"mini": mini, "kmeans": plain}.items():
        path = FOLDER / f"{name}-{kind}"
        joblib.dump(model, f"{path}.bin", compress=("zlib", 3) if kind == "mini" else 0)
        np.save(f"{path}.npy", model.predict(x).astype(np.int32))
    print(name, sklearn.__version__, joblib.__version__, np.__version__)


if __name__ == "__main__":
    main(sys.argv[1])
