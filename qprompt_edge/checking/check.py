"""`check`: a look at labelled photos before they are trained on.

The steps: find the photos and encode them, as `adapt` would, and measure them on the way; then ask what is
wrong with single photos, with pairs of them, with labels, with classes, and with their number.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from qprompt_edge.cache import Unkept, cache_folder
from qprompt_edge.checking.cross_validation import held_out_scores
from qprompt_edge.checking.duplicates import duplicate_groups, duplicates
from qprompt_edge.checking.findings import Unreadable
from qprompt_edge.checking.learning_curve import learning_curve
from qprompt_edge.checking.mislabelled import mislabelled
from qprompt_edge.checking.mixed_up import mixed_up
from qprompt_edge.checking.poor_photos import poor_photos
from qprompt_edge.checking.result import CheckResult
from qprompt_edge.checking.short_classes import short_classes
from qprompt_edge.data.feature_cache import FeatureCache, feature_file
from qprompt_edge.data.features import EncodedPhotos, encode_photos, feature_identity
from qprompt_edge.data.photo_quality import Quality, QualityCache
from qprompt_edge.data.photos import LabelledPhotos, SkippedPhoto, find_labelled
from qprompt_edge.memory import check_limit, peak_rss_mb
from qprompt_edge.reporter import Reporter
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import DEFAULT_BACKBONE


def check(
    photos: str | Path,
    *,
    labels: str | Path | None = None,
    backbone: str | Path = DEFAULT_BACKBONE,
    provider: str = "auto",
    threads: int = 0,
    max_memory: float | None = None,
    reporter: Reporter | None = None,
) -> CheckResult:
    """Look for what is wrong with labelled photos, before a prompt is tuned on them.

        for photo in check("photos").mislabelled:
            print(photo.path, "looks like", photo.looks_like)

    The same photos give the same findings. Only the cache is written.

    Args:
        photos: A folder with one sub-folder of photos per class; with `labels`, where its paths start. A
            single class, or a class whose folder is empty, is no error here.
        labels: A CSV file with the columns `path,label`, instead of sub-folders.
        backbone: Name or folder of the frozen model that the photos are for.
        provider: `auto`, or an execution provider's short name.
        threads: Threads; 0 takes one for each core that the process may use.
        max_memory: Limit on the resident memory of the process, in MB of 10^6 bytes; None: no limit.
        reporter: Receives progress and messages.

    Raises:
        QPromptError: There are no photos, or no such backbone; the message says why and what to do.
    """
    begin = time.monotonic()
    reporter = reporter or Reporter()
    listed = None if labels is None else Path(labels)
    found = find_labelled(Path(photos), listed, min_classes=1, keep_empty=True)
    model = Backbone.load(backbone, provider, threads)
    encoded, quality = _encode(found, model, max_memory, reporter)
    model.close_image_tower()
    check_limit(max_memory, "encoding the photos")
    result = _look(found, encoded, quality, model, time.monotonic() - begin, reporter)
    check_limit(max_memory, "looking at the photos")
    return replace(result, seconds={**result.seconds, "total": time.monotonic() - begin})


def _look(
    found: LabelledPhotos,
    encoded: EncodedPhotos,
    quality: list[Quality],
    backbone: Backbone,
    seconds: float,
    reporter: Reporter,
) -> CheckResult:
    """All findings, from encoded and measured photos; `seconds` is what encoding took."""
    readable = np.array([i for i in range(len(found.paths)) if i not in encoded.failures], np.int64)
    known = found.select(readable)
    features, keys = encoded.features[readable, 0], encoded.keys[readable]
    reporter.stage("looking at the photos", 0, 3)
    groups = duplicate_groups(features, encoded.hashes[readable])
    reporter.stage("looking at the photos", 1, 3)
    held_out = held_out_scores(features, known.labels, groups, len(known.classes))
    reporter.stage("looking at the photos", 2, 3)
    curve = learning_curve(features, known.labels, groups, len(known.classes))
    reporter.stage("looking at the photos", 3, 3)
    blurred, dark, blown_out = poor_photos(quality, known.paths, known.labels, known.classes)
    pairs = mixed_up(held_out.scores, held_out.judged, known.paths, known.labels, groups, known.classes)
    counts = np.bincount(known.labels, minlength=len(known.classes)).tolist()
    return CheckResult(
        classes=dict(zip(known.classes, counts, strict=True)),
        unreadable=_unreadable(found, encoded),
        duplicates=duplicates(groups, keys, known.paths, known.labels, known.classes),
        blurred=blurred,
        dark=dark,
        blown_out=blown_out,
        short_classes=short_classes(known.labels, groups, known.classes),
        mislabelled=mislabelled(
            held_out, known.paths, known.labels, known.classes, [pair.labels for pair in pairs]
        ),
        mixed_up=pairs,
        curve=curve,
        backbone=backbone.manifest.name,
        provider=backbone.provider,
        seconds={"encode": seconds},
        peak_rss_mb=peak_rss_mb(),
    )


def _encode(
    photos: LabelledPhotos, backbone: Backbone, max_memory: float | None, reporter: Reporter
) -> tuple[EncodedPhotos, list[Quality]]:
    """Features of all photos, and the quality of those that could be read."""
    unkept = Unkept(reporter.note)
    identity = feature_identity(backbone, 0, 1)
    folder = cache_folder("features")
    measured = QualityCache.of_user(backbone.manifest.image_transform, unkept)
    encoded = encode_photos(
        backbone,
        photos.paths,
        cache=FeatureCache(folder and feature_file(folder, identity), identity, unkept),
        quality=measured,
        max_memory=max_memory,
        progress=lambda done, total: reporter.stage("encoding photos", done, total),
    )
    keys = (key.tobytes() for index, key in enumerate(encoded.keys) if index not in encoded.failures)
    return encoded, [quality for quality in map(measured.get, keys) if quality is not None]


def _unreadable(photos: LabelledPhotos, encoded: EncodedPhotos) -> tuple[Unreadable, ...]:
    failed = (SkippedPhoto(photos.paths[index], why) for index, why in sorted(encoded.failures.items()))
    return tuple(map(Unreadable.of, (*photos.skipped, *failed)))
