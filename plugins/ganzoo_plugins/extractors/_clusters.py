"""Clusters of similar images, which stand for the classes where images have no labels.

A classifier that learns to tell the clusters of k-means apart has features that are useful for other tasks: Caron et
al. 2018, "Deep clustering for unsupervised learning of visual features" (arXiv:1807.05520). Here the clusters are found
once, among the principal components of the pixels, and not again among the features.
"""

from __future__ import annotations

import torch
from torch import Tensor

import ganzoo

#: part of the digest: change it when `cluster` changes
RECIPE = "clusters-1: k-means of 50 principal components at 16x16, 32 clusters or one for 16 images"
_SIDE, _COMPONENTS, _MOST, _IMAGES_EACH, _ROUNDS = 16, 50, 32, 16, 30
#: the clusters are found among so many images, evenly spaced over all
_LOOKED_AT = 20_000


def clusters_for(images: int) -> int:
    """The number of clusters for so many images."""
    return max(2, min(_MOST, images // _IMAGES_EACH))


def cluster(images: Tensor) -> Tensor:
    """The number of the cluster of each of uint8 images (N, C, H, W): int64 (N,) from 0 to `clusters_for(N)` - 1.

    The result is the same every time, and the global random state is left as it was.
    """
    height, width = (min(side, _SIDE) for side in images.shape[2:])
    rows = torch.cat([ganzoo.resize(some, (height, width)).flatten(1).float() for some in torch.split(images, 1000)])
    places = torch.arange(len(rows))
    if len(rows) > _LOOKED_AT:
        places = torch.arange(_LOOKED_AT) * len(rows) // _LOOKED_AT
    centre = rows[places].mean(dim=0)
    some = (rows[places] - centre).double()
    components = torch.linalg.eigh(some.T @ some).eigenvectors[:, -_COMPONENTS:]
    centres = _k_means(some @ components, clusters_for(len(images)))
    found = [_nearest((part - centre).double() @ components, centres)[0] for part in torch.split(rows, 10_000)]
    return torch.cat(found)


def _k_means(points: Tensor, count: int) -> Tensor:
    """(count, D) centres of points (N, D), by Lloyd's algorithm. An empty cluster moves to the farthest point."""
    generator = torch.Generator().manual_seed(0)
    centres = points[torch.randperm(len(points), generator=generator)[:count]]
    for _ in range(_ROUNDS):
        labels, distances = _nearest(points, centres)
        sums = torch.zeros_like(centres).index_add_(0, labels, points)
        sizes = labels.bincount(minlength=len(centres))
        centres = sums / sizes.clamp(min=1)[:, None]
        if int((sizes == 0).sum()):
            centres[(sizes == 0).nonzero()[0]] = points[distances.argmax()]
    return centres


def _nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) the nearest centre of each point, and (N,) its squared distance."""
    squares = points.square().sum(1, keepdim=True) - 2 * points @ centres.T + centres.square().sum(1)
    distances, labels = squares.min(dim=1)
    return labels, distances
