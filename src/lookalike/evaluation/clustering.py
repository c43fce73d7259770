"""Clustering metrics: do the clusters of k-means agree with the classes?"""

import numpy as np
from numpy.typing import NDArray

from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.faiss_flat import import_faiss


def clustering(embeddings: Embeddings, seed: int = 0) -> dict[str, float]:
    """NMI and AMI of k-means with as many clusters as classes, against the classes.

    NMI: normalised mutual information, in [0, 1]. AMI: the same adjusted for chance, at most 1.
    """
    from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

    assigned = _k_means(embeddings.vectors, len(np.unique(embeddings.labels)), seed)
    return {
        "nmi": float(normalized_mutual_info_score(embeddings.labels, assigned)),
        "ami": float(adjusted_mutual_info_score(embeddings.labels, assigned)),
    }


def _k_means(vectors: NDArray[np.float32], clusters: int, seed: int) -> NDArray[np.int64]:
    """The number of each vector's cluster, (N,); the best of three random starts."""
    faiss = import_faiss()

    kmeans = faiss.Kmeans(
        vectors.shape[1], clusters, niter=25, nredo=3, seed=seed, min_points_per_centroid=1
    )
    kmeans.train(vectors)
    return kmeans.index.search(vectors, 1)[1][:, 0]
