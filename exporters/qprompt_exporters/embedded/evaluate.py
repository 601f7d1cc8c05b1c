"""Measures a backbone.

    python -m qprompt_exporters.embedded.evaluate --data DIR [--model small] [--bundle FOLDER]

Zero-shot top-1 with the one template "a photo of a {}." on Tiny ImageNet's validation split; on the others
also the top-1 of a linear probe on 16 images a class (mean of ten draws). A table goes to stderr, one JSON
object to stdout (`results.json` beside a model's weights holds theirs). With `--bundle` the exported graphs
are measured instead of the weights: what float16 or int8 costs. The downstream sets are for the final word,
not for choosing between models.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from qprompt_exporters.embedded.backbones import EMBEDDED
from qprompt_exporters.embedded.captions import encode_captions
from qprompt_exporters.embedded.data import few_shots, read_class_names, read_zip
from qprompt_runtime.backbone import Backbone

TEMPLATE = "a photo of a {}."
SHOTS = 16
SEEDS = range(1, 11)
"""Seeds by which a probe's training images are drawn.

A change in the last bit of the features moves the mean of three draws by half a point, so there are ten.
"""
PROBE_STEPS = 200
PROBE_CS = (0.01, 0.03, 0.1)

Features = tuple[torch.Tensor, list[str]]
Result = tuple[str, float | None, float | None]
_BATCH = 64


@dataclass(frozen=True)
class Encoder:
    """A backbone, in torch or exported.

    Attributes:
        transform: makes an image what the backbone sees, [3, H, W].
        images: [N, 3, H, W] to unit vectors [N, E].
        names: N class names to unit vectors [N, E].
    """

    transform: Callable[[Image.Image], torch.Tensor]
    images: Callable[[torch.Tensor], torch.Tensor]
    names: Callable[[list[str]], torch.Tensor]


def _transform(model: CLIP) -> Callable[[Image.Image], torch.Tensor]:
    transform: Callable[[Image.Image], torch.Tensor] = image_transform_v2(
        PreprocessCfg(**model.visual.preprocess_cfg), is_train=False
    )
    return transform


def torch_encoder(model: CLIP) -> Encoder:
    """Encodes by the trained model itself."""

    @torch.inference_mode()
    def images(pixels: torch.Tensor) -> torch.Tensor:
        return model.encode_image(pixels.contiguous(memory_format=torch.channels_last), normalize=True)

    @torch.inference_mode()
    def names(words: list[str]) -> torch.Tensor:
        return encode_captions(model, SimpleTokenizer(), [TEMPLATE.format(name) for name in words])

    return Encoder(_transform(model), images, names)


def bundle_encoder(backbone: Backbone) -> Encoder:
    """Encodes by a bundle's graphs."""

    def images(pixels: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(backbone.encode_images(pixels.numpy()))

    def names(words: list[str]) -> torch.Tensor:
        before, after = TEMPLATE.split("{}")
        context = backbone.embed_text(before.strip())[None]
        tokens = backbone.tokenize(words, ("", after), context.shape[1])
        return torch.from_numpy(backbone.encode_classes(context, tokens))

    return Encoder(_transform(EMBEDDED[backbone.manifest.name].build()), images, names)


def encode_zip(encoder: Encoder, path: Path, prefix: str, depth: int) -> Features:
    """Encodes the images of a zip file, a batch at a time; see `data.read_zip`."""
    parts, labels, batch = [], [], []
    for image, label in read_zip(path, encoder.transform, prefix, depth):
        batch.append(image)
        labels.append(label)
        if len(batch) == _BATCH:
            parts.append(encoder.images(torch.stack(batch)))
            batch = []
    if batch:
        parts.append(encoder.images(torch.stack(batch)))
    return torch.cat(parts), labels


def zero_shot(
    encoder: Encoder, features: torch.Tensor, labels: list[str], names: dict[str, str], top: int = 1
) -> float:
    """Gives the share of images whose class is among the `top` nearest names.

    Args:
        encoder: the backbone.
        features: [N, E] unit vectors of images.
        labels: N class folders.
        names: what each class folder is called in words.
        top: how many guesses count.

    Returns:
        A fraction from 0 to 1.
    """
    classes = sorted(names)
    texts = encoder.names([names[c] for c in classes])
    guesses = (features @ texts.T).topk(top, dim=1).indices
    truth = torch.tensor([classes.index(label) for label in labels])
    return (guesses == truth[:, None]).any(dim=1).float().mean().item()


def probe(train: Features, test: Features, seed: int) -> float:
    """Top-1 on `test` of a linear classifier fitted to frozen features.

    Logistic regression by L-BFGS as CLIP's authors do it; they choose its L2 penalty on validation images,
    here it is chosen by four-fold cross-validation among the training images (the folds by `seed`).
    """
    model = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=PROBE_STEPS)),
        {"logisticregression__C": PROBE_CS},
        cv=StratifiedKFold(4, shuffle=True, random_state=seed),
    )
    model.fit(train[0].numpy(), train[1])
    return float(model.score(test[0].numpy(), test[1]))


def probe_mean(train: Features, test: Features | None) -> float:
    """Averages `probe` over seeds, 16 images a class; without `test`, on all the images not drawn."""

    def take(features: Features, rows: list[int]) -> Features:
        return features[0][rows], [features[1][row] for row in rows]

    scores = []
    for seed in SEEDS:
        chosen, rest = few_shots(train[1], SHOTS, seed)
        scores.append(probe(take(train, chosen), test or take(train, rest), seed))
    return sum(scores) / len(scores)


def plain_names(labels: list[str]) -> dict[str, str]:
    """Turns class folders into words: `_` and `-` become spaces."""
    return {label: label.replace("_", " ").replace("-", " ").lower() for label in set(labels)}


def measure(encoder: Encoder, data: Path, probes: bool) -> Iterator[Result]:
    """Gives (set, zero-shot top-1 or None, probe top-1 or None) for each set."""

    def features(file: str, prefix: str, depth: int) -> Features:
        return encode_zip(encoder, data / file, prefix, depth)

    def probed(train: Features, test: Features | None) -> float | None:
        return probe_mean(train, test) if probes else None

    words = {wnid: names[0] for wnid, names in read_class_names(data).items()}
    test = features("tiny-imagenet-val.zip", "val/", 1)
    yield "tiny-imagenet-val", zero_shot(encoder, *test, words), None
    test = features("cifar10-subset.zip", "test/", 1)
    train = features("cifar10-subset.zip", "train/", 1)
    yield "cifar10", zero_shot(encoder, *test, plain_names(test[1])), probed(train, test)
    domains = ("photo", "art_painting", "cartoon", "sketch")
    for name, file, prefix, depth in (
        ("caltech101", "caltech101.zip", "", 0),
        *((f"pacs-{domain}", "pacs.zip", f"{domain}/", 1) for domain in domains),
    ):
        test = features(file, prefix, depth)
        yield name, zero_shot(encoder, *test, plain_names(test[1])), probed(test, None)
    images, files = features("photos-full-size.zip", "", -1)
    names = {file: file.rsplit(".", 1)[0].split("_", 1)[1].replace("_", " ") for file in files}
    yield "photos-full-size", zero_shot(encoder, images, files, names), None
    yield "photos-full-size top-5", zero_shot(encoder, images, files, names, top=5), None
    for task in ("waste", "clothes"):
        train, test = (features("field.zip", f"{task}/{split}/", 2) for split in ("train", "test"))
        yield f"field-{task}", zero_shot(encoder, *test, plain_names(test[1])), probed(train, test)


def main() -> None:
    """Parses the command line and prints the figures."""
    parser = argparse.ArgumentParser(description="Evaluate an embedded backbone.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the zip files")
    parser.add_argument("--model", choices=sorted(EMBEDDED), default="small")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--weights", type=Path, help="instead of the model's own")
    which.add_argument("--bundle", type=Path, help="measure this exported bundle instead")
    parser.add_argument("--no-probes", action="store_true", help="zero-shot only")
    args = parser.parse_args()
    if args.bundle:
        backbone = Backbone(args.bundle)
        if backbone.manifest.name not in EMBEDDED:
            parser.error(
                f"{args.bundle} holds {backbone.manifest.name}, expected one of {', '.join(sorted(EMBEDDED))}"
            )
        encoder = bundle_encoder(backbone)
    else:
        encoder = torch_encoder(EMBEDDED[args.model].load(args.weights))
    figures = {}
    print(f"{'set':24} zero-shot  probe", file=sys.stderr)
    for name, score, probed in measure(encoder, args.data, not args.no_probes):
        figures[name] = {"zero_shot": _rounded(score), "probe": _rounded(probed)}
        shown = (" " * 8 if value is None else f"{value:8.1%}" for value in (score, probed))
        print(f"{name:24} {' '.join(shown)}", file=sys.stderr, flush=True)
    print(json.dumps(figures, indent=2))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


if __name__ == "__main__":
    main()
